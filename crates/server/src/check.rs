//! Looks inside NARs: what a file decompresses to, whether that is a NAR, and how large it is. Everything is read as
//! a stream and bounded. What was found is kept beside the file, so that a narinfo can be compared with it at once.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use nixcache_core::nix::nar::NarError;
use nixcache_core::nix::{HashingReader, NarLimits, NarReader, Sha256};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::layout::Packing;

/// The largest window of zstd: 128 MiB, which is what all readers take.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The memory that xz may take. Its highest level needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// The version of what is kept beside a file.
const VERSION: u32 = 1;

/// Why a file is not a NAR that we take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("set up the decompression")]
    Setup { source: io::Error },
    #[error("decompress it and read it")]
    Nar { source: NarError },
    #[error("read it to its end")]
    End { source: io::Error },
    #[error("there is something after its end")]
    Trailing,
    #[error("its name says another SHA-256 than its content has")]
    Name,
}

/// What a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) file_hash: Sha256,
    pub(crate) file_size: u64,
    pub(crate) nar_hash: Sha256,
    pub(crate) nar_size: u64,
}

/// Reads the file to its end. Blocks.
pub(crate) fn check(source: impl Read + Send + 'static, packing: Packing, nar_bytes: u64) -> Result<Found, CheckError> {
    let source = SharedHash::new(HashingReader::new(source));
    let decoder = decoder(source.clone(), packing).map_err(|source| CheckError::Setup { source })?;
    let limits = NarLimits { total_bytes: nar_bytes, file_bytes: nar_bytes, ..NarLimits::default() };
    let mut reader = NarReader::new(HashingReader::new(decoder), limits);
    while reader.next_event().map_err(|source| CheckError::Nar { source })?.is_some() {}
    let (decoder, nar) = reader.into_inner().into_parts();
    drop(decoder);
    let mut source = source;
    // A decoder may stop at its own end; the file must end there too.
    if source.read(&mut [0]).map_err(|source| CheckError::End { source })? != 0 {
        return Err(CheckError::Trailing);
    }
    let (_, file) = source.into_inner().into_parts();
    let (file_size, nar_size) = (file.length(), nar.length());
    Ok(Found { file_hash: file.finish(), file_size, nar_hash: nar.finish(), nar_size })
}

/// The plain bytes of a packed file.
pub(crate) fn decoder(source: impl Read + Send + 'static, packing: Packing) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing {
        Packing::Plain => Box::new(source),
        Packing::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(source, stream))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// A source that can still be asked when a decoder has taken it.
struct SharedHash<R>(std::sync::Arc<std::sync::Mutex<HashingReader<R>>>);

impl<R> SharedHash<R> {
    fn new(source: HashingReader<R>) -> Self {
        Self(std::sync::Arc::new(std::sync::Mutex::new(source)))
    }

    fn into_inner(self) -> HashingReader<R> {
        let mutex = std::sync::Arc::into_inner(self.0).expect("the decoder, which had the other one, is dropped");
        mutex.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<R> Clone for SharedHash<R> {
    fn clone(&self) -> Self {
        Self(std::sync::Arc::clone(&self.0))
    }
}

impl<R: Read> Read for SharedHash<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).read(buffer)
    }
}

/// Reads what is sent from elsewhere, piece by piece. Blocks while nothing is there.
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    /// Takes at most `waiting` pieces before the sender must wait.
    pub(crate) fn channel(waiting: usize) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(waiting);
        (sender, Self { receiver, current: Bytes::new() })
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// What is kept beside a NAR file of what its check has found.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    file_size: u64,
    nar_hash: String,
    nar_size: u64,
}

impl Found {
    /// The text that is kept beside the file, which says its own hash by its name.
    pub(crate) fn to_record(self) -> Bytes {
        let (file_size, nar_hash, nar_size) = (self.file_size, self.nar_hash.to_string(), self.nar_size);
        let record = Record { version: VERSION, file_size, nar_hash, nar_size };
        serde_json::to_vec(&record).expect("numbers and texts").into()
    }

    /// Reads it again. What is of another version, or damaged, counts as not there: the file is checked again.
    pub(crate) fn from_record(text: &[u8], file_hash: Sha256) -> Option<Self> {
        let record: Record = serde_json::from_slice(text).ok().filter(|record: &Record| record.version == VERSION)?;
        let nar_hash = record.nar_hash.parse().ok()?;
        Some(Self { file_hash, file_size: record.file_size, nar_hash, nar_size: record.nar_size })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use nixcache_core::nix::NarWriter;

    use super::*;

    fn nar(contents: &[u8]) -> Vec<u8> {
        let mut writer = NarWriter::new(Vec::new());
        writer.regular_bytes(false, contents).unwrap();
        writer.finish().unwrap()
    }

    fn pack(nar: &[u8], packing: Packing) -> Vec<u8> {
        match packing {
            Packing::Plain => nar.to_vec(),
            Packing::Xz => liblzma::encode_all(nar, 1).unwrap(),
            Packing::Zstd => zstd::encode_all(nar, 1).unwrap(),
        }
    }

    const ALL: [Packing; 3] = [Packing::Plain, Packing::Xz, Packing::Zstd];

    #[test]
    fn every_packing_is_looked_into() {
        let nar = nar(b"hello\n");
        for packing in ALL {
            let file = pack(&nar, packing);
            let found = check(io::Cursor::new(file.clone()), packing, 1 << 20).unwrap();
            assert_eq!(found.file_hash, Sha256::of(&file), "{packing:?}");
            assert_eq!(found.file_size, file.len() as u64);
            assert_eq!(found.nar_hash.to_nix32(), "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw");
            assert_eq!(found.nar_size, 120);
            assert_eq!(Found::from_record(&found.to_record(), found.file_hash), Some(found));
        }
    }

    #[test]
    fn what_is_cut_off_prolonged_or_changed_is_refused() {
        let nar = nar(&[7; 5000]);
        for packing in ALL {
            let file = pack(&nar, packing);
            for length in [0, 1, file.len() / 2, file.len() - 1] {
                assert!(check(io::Cursor::new(file[..length].to_vec()), packing, 1 << 20).is_err(), "{packing:?}");
            }
            let longer = [&file[..], b"garbage!"].concat();
            assert!(check(io::Cursor::new(longer), packing, 1 << 20).is_err(), "{packing:?}");
            assert!(check(io::Cursor::new(vec![0; 4096]), packing, 1 << 20).is_err(), "{packing:?}");
        }
    }

    #[test]
    fn a_small_file_that_becomes_a_large_nar_is_refused_at_the_limit() {
        let nar = nar(&vec![0; 8 << 20]);
        for packing in ALL {
            let file = pack(&nar, packing);
            assert!(check(io::Cursor::new(file.clone()), packing, 1 << 20).is_err(), "{packing:?}");
            assert!(check(io::Cursor::new(file), packing, nar.len() as u64).is_ok(), "{packing:?}");
        }
    }

    #[test]
    fn windows_that_clients_refuse_are_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&nar(b"hello\n")).unwrap();
        let file = encoder.finish().unwrap();
        assert!(check(io::Cursor::new(file), Packing::Zstd, 1 << 20).is_err());
    }
}
