//! SHA-256 as Nix writes it: three notations for reading, one for each purpose of writing, and hashing of streams.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::Digest as _;

use super::nix32::{self, Nix32Error};

/// Why a text is not a SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Sha256Error {
    /// It begins neither with `sha256:` nor with `sha256-`.
    #[error("read the hash {text:?}: only sha256 is known")]
    Algorithm {
        /// The text, shortened.
        text: String,
    },
    /// What follows is not 32 bytes in hexadecimal digits, nix32 or base64.
    #[error("read the hash {text:?}: it is not 32 bytes in hexadecimal digits, nix32 or base64")]
    Notation {
        /// The text, shortened.
        text: String,
    },
}

/// A SHA-256, as it names NAR archives and files in Nix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Takes the 32 bytes of a hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 52 digits of nix32, as in narinfo files and in the names of files of a cache.
    pub fn to_nix32(&self) -> String {
        nix32::encode(&self.0)
    }

    /// 64 lower-case hexadecimal digits, as in what store paths are made of.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `sha256-` and base64, as in Nix expressions and on web pages ("subresource integrity").
    pub fn to_sri(&self) -> String {
        format!("sha256-{}", BASE64.encode(self.0))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_nix32())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({})", self.to_nix32())
    }
}

impl FromStr for Sha256 {
    type Err = Sha256Error;

    /// Reads `sha256:<nix32>`, `sha256:<hexadecimal digits>` and `sha256-<base64>`.
    fn from_str(text: &str) -> Result<Self, Sha256Error> {
        let shortened = || text.chars().take(80).collect();
        let bytes = if let Some(digits) = text.strip_prefix("sha256:") {
            match digits.len() {
                64 => from_hex(digits),
                _ => from_nix32(digits).ok(),
            }
        } else if let Some(base64) = text.strip_prefix("sha256-") {
            BASE64.decode(base64).ok().and_then(|bytes| bytes.try_into().ok())
        } else {
            return Err(Sha256Error::Algorithm { text: shortened() });
        };
        bytes.map(Self).ok_or_else(|| Sha256Error::Notation { text: shortened() })
    }
}

fn from_nix32(digits: &str) -> Result<[u8; 32], Nix32Error> {
    let bytes = nix32::decode(digits, 32)?;
    Ok(bytes.try_into().expect("decode gives the number of bytes that it was asked for"))
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let value = |digit: u8| char::from(digit).to_digit(16);
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// Hashes a stream, and counts its bytes.
#[derive(Clone, Default)]
pub struct Sha256Hasher {
    state: sha2::Sha256,
    length: u64,
}

impl Sha256Hasher {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The number of bytes up to now.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hash of all that was added.
    pub fn finish(self) -> Sha256 {
        Sha256(self.state.finalize().into())
    }
}

impl fmt::Debug for Sha256Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sha256Hasher").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Write for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what is read through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    source: R,
    hasher: Sha256Hasher,
}

impl<R> HashingReader<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self { source, hasher: Sha256Hasher::new() }
    }

    /// The source, and the hasher of all that was read.
    pub fn into_parts(self) -> (R, Sha256Hasher) {
        (self.source, self.hasher)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Hashes what is written through it.
#[derive(Debug)]
pub struct HashingWriter<W> {
    destination: W,
    hasher: Sha256Hasher,
}

impl<W> HashingWriter<W> {
    /// Writes to `destination`.
    pub fn new(destination: W) -> Self {
        Self { destination, hasher: Sha256Hasher::new() }
    }

    /// The destination, and the hasher of all that was written.
    pub fn into_parts(self) -> (W, Sha256Hasher) {
        (self.destination, self.hasher)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.destination.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.destination.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY_HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_NIX32: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    const EMPTY_SRI: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn three_notations_are_one_hash() {
        let hash = Sha256::of(b"");
        assert_eq!(
            (hash.to_hex(), hash.to_nix32(), hash.to_sri()),
            (EMPTY_HEX.into(), EMPTY_NIX32.into(), EMPTY_SRI.into())
        );
        for text in [format!("sha256:{EMPTY_HEX}"), format!("sha256:{EMPTY_NIX32}"), EMPTY_SRI.to_owned()] {
            assert_eq!(text.parse(), Ok(hash));
        }
    }

    #[test]
    fn other_algorithms_and_notations_are_refused() {
        for text in [
            "",
            "sha256",
            "sha512:00",
            EMPTY_HEX,
            EMPTY_NIX32,
            &format!("SHA256:{EMPTY_HEX}"),
            &format!("sha256:{}", &EMPTY_HEX[1..]),
            &format!("sha256:{}g", &EMPTY_HEX[1..]),
            &format!("sha256:+{}", &EMPTY_HEX[1..]),
            &format!("sha256: {EMPTY_NIX32}"),
            &format!("sha256-{EMPTY_HEX}"),
            &EMPTY_SRI.replace('=', ""),
            // The last digit holds bits that are not part of the hash.
            &EMPTY_SRI.replace("FU=", "FV="),
            &format!("{EMPTY_SRI}\n"),
        ] {
            assert!(text.parse::<Sha256>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn streams_are_hashed_and_counted() {
        let mut reader = HashingReader::new(&b"hello\n"[..]);
        let mut writer = HashingWriter::new(Vec::new());
        io::copy(&mut reader, &mut writer).unwrap();
        let (read, (bytes, written)) = (reader.into_parts().1, writer.into_parts());
        assert_eq!(bytes, b"hello\n");
        assert_eq!((read.length(), written.length()), (6, 6));
        assert_eq!((read.finish(), written.finish()), (Sha256::of(b"hello\n"), Sha256::of(b"hello\n")));
    }

    proptest! {
        #[test]
        fn every_notation_survives(bytes: [u8; 32]) {
            let hash = Sha256::from_bytes(bytes);
            for text in [hash.to_string(), format!("sha256:{}", hash.to_hex()), hash.to_sri()] {
                prop_assert_eq!(text.parse(), Ok(hash));
            }
        }
    }
}
