//! RustlerPrecompiled's archive: a gzipped tar with one file, the library under its whole name.
//!
//! ```text
//! libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz
//!   gzip, without name and time
//!   └─ ustar: one regular file, 0755, owner 0, 1980-01-01; two blocks of zeros
//! ```
//!
//! The same library gives the same bytes. What was published is kept as it is and never made again, since another
//! release of the compressor may give others. The reader takes one regular file of the very name that was expected, and
//! nothing else: no paths, no links, no second file, nothing after the end.

use std::io::{Read, Write as _};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

use super::name::NifName;

/// The size of a tar block.
const BLOCK: usize = 512;

/// The longest name that fits into a tar header.
const NAME: usize = 100;

/// 1980-01-01: the earliest time that no tool complains of.
const TIME: u64 = 315_532_800;

/// gzip's number for an unknown system: the same from everywhere.
const UNKNOWN_SYSTEM: u8 = 255;

/// The name under which GNU's tar puts a name that does not fit.
const LONG_NAME: &[u8] = b"././@LongLink";

/// How much is unpacked at once: a multiple of a block.
const PIECE: usize = 64 << 10;

/// The longest name that is read.
const LONGEST_NAME: u64 = 4096;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no gzip file, or it is damaged, or it ends too early.
    #[error("decompress the archive")]
    Compression {
        /// What is wrong.
        #[source]
        source: std::io::Error,
    },
    /// It has more than the limit when decompressed.
    #[error("decompress the archive: it has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It is no tar archive, or it is damaged, or it ends too early.
    #[error("read the archive: {what}")]
    Tar {
        /// What is wrong.
        what: &'static str,
    },
    /// It holds another file than the one that its name promises.
    #[error("read the archive: it holds {found:?} in place of {expected:?}")]
    OtherFile {
        /// The name that it holds.
        found: String,
        /// The name that it should hold.
        expected: String,
    },
    /// It holds something that is no regular file.
    #[error("read the archive: {name:?} is no regular file")]
    Special {
        /// Its name.
        name: String,
    },
    /// There is more than one file in it, or something after it.
    #[error("read the archive: there is something after the library")]
    More,
}

/// Makes the archive of a library.
pub fn write_archive(name: &NifName, library: &[u8]) -> Vec<u8> {
    let file = name.library_file();
    let mut tar = Vec::with_capacity(library.len() + 8 * BLOCK);
    if file.len() > NAME {
        let mut text = file.clone().into_bytes();
        text.push(0);
        append(&mut tar, LONG_NAME, b'L', 0, &text);
    }
    append(&mut tar, &file.as_bytes()[..file.len().min(NAME)], b'0', TIME, library);
    tar.resize(tar.len() + 2 * BLOCK, 0);
    let mut gzip = GzBuilder::new().operating_system(UNKNOWN_SYSTEM).write(Vec::new(), Compression::best());
    gzip.write_all(&tar).and_then(|()| gzip.finish()).expect("writing to memory does not fail")
}

/// Appends a header and its content.
fn append(tar: &mut Vec<u8>, name: &[u8], kind: u8, time: u64, content: &[u8]) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name);
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, format!("{time:011o}\0").as_bytes());
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    // The sum counts its own field as spaces.
    put(148, b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

/// Reads the library out of an archive that must be the one of `name`, and have at most `limit` bytes when it is
/// decompressed.
pub fn read_archive(name: &NifName, archive: &[u8], limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut library = Vec::new();
    read_pieces(name, archive, limit, &mut |piece| library.extend_from_slice(piece))?;
    Ok(library)
}

/// Looks whether an archive is one of `name`, as [`read_archive`] does. What is in it is never held in memory, however
/// well it is packed.
pub fn check_archive(name: &NifName, archive: &[u8], limit: u64) -> Result<(), ArchiveError> {
    read_pieces(name, archive, limit, &mut |_| ())
}

/// Reads an archive to its end, and gives the library away piece by piece.
fn read_pieces(name: &NifName, archive: &[u8], limit: u64, library: &mut dyn FnMut(&[u8])) -> Result<(), ArchiveError> {
    let mut tar = Tar { gzip: GzDecoder::new(archive), left: limit, limit, piece: vec![0; PIECE] };
    let mut header = tar.header()?.ok_or(ArchiveError::Tar { what: "it is empty" })?;
    let mut found = header.name.clone();
    if header.kind == b'L' {
        let mut text = Vec::new();
        tar.content(header.size, &mut |piece| text.extend_from_slice(piece))?;
        found = text.strip_suffix(b"\0").unwrap_or(&text).to_vec();
        header = tar.header()?.ok_or(ArchiveError::Tar { what: "it ends after a name" })?;
    }
    let shown = || String::from_utf8_lossy(&found).chars().take(200).collect::<String>();
    if !matches!(header.kind, b'0' | 0) {
        return Err(ArchiveError::Special { name: shown() });
    }
    let expected = name.library_file();
    if found.strip_prefix(b"./").unwrap_or(&found) != expected.as_bytes() {
        return Err(ArchiveError::OtherFile { found: shown(), expected });
    }
    tar.content(header.size, library)?;
    match tar.header()? {
        None => tar.end(),
        Some(_) => Err(ArchiveError::More),
    }
}

/// A file in a tar archive.
struct Header {
    name: Vec<u8>,
    kind: u8,
    size: u64,
}

/// A packed tar archive, read once from its beginning to its end.
struct Tar<'a> {
    gzip: GzDecoder<&'a [u8]>,
    /// What may still come out of it.
    left: u64,
    limit: u64,
    piece: Vec<u8>,
}

impl Tar<'_> {
    /// Fills `buffer` as far as there is something. Says how far.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = self.gzip.read(&mut buffer[filled..]);
            match read.map_err(|source| ArchiveError::Compression { source })? {
                0 => break,
                read => filled += read,
            }
        }
        let left = self.left.checked_sub(filled as u64);
        self.left = left.ok_or(ArchiveError::TooLarge { limit: self.limit })?;
        Ok(filled)
    }

    /// Reads the next header; `None` at the end, which is a block of zeros.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let bad = |what| ArchiveError::Tar { what };
        let mut header = [0; BLOCK];
        if self.fill(&mut header)? < BLOCK {
            return Err(bad("it ends too early"));
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if octal(&header[148..156]) != Some(sum) {
            return Err(bad("the sum of a header is wrong"));
        }
        if &header[257..262] != b"ustar" {
            return Err(bad("it is of another kind than ustar"));
        }
        let kind = header[156];
        let size = octal(&header[124..136]).ok_or(bad("a size is no number"))?;
        if kind == b'L' && size > LONGEST_NAME {
            return Err(bad("a name is too long"));
        }
        // The part before the last slash of a long name. No library has one.
        let prefix = text(&header[345..500]);
        let mut name = prefix.to_vec();
        if !prefix.is_empty() && header[257..265] == *b"ustar\x0000" {
            name.push(b'/');
        } else {
            name.clear();
        }
        name.extend_from_slice(text(&header[..NAME]));
        Ok(Some(Header { name, kind, size }))
    }

    /// Reads the content after a header, with what fills its last block.
    fn content(&mut self, size: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), ArchiveError> {
        let mut rest =
            size.checked_next_multiple_of(BLOCK as u64).ok_or(ArchiveError::Tar { what: "a size is too large" })?;
        let mut content = size;
        let mut piece = std::mem::take(&mut self.piece);
        while rest > 0 {
            let wanted = usize::try_from(rest).unwrap_or(PIECE).min(PIECE);
            if self.fill(&mut piece[..wanted])? < wanted {
                return Err(ArchiveError::Tar { what: "it ends too early" });
            }
            let of_content = usize::try_from(content).unwrap_or(wanted).min(wanted);
            take(&piece[..of_content]);
            content -= of_content as u64;
            rest -= wanted as u64;
        }
        self.piece = piece;
        Ok(())
    }

    /// After the first block of zeros: another one at least, nothing but zeros, and nothing after the packed archive.
    fn end(mut self) -> Result<(), ArchiveError> {
        let mut zeros = 0;
        let mut piece = std::mem::take(&mut self.piece);
        loop {
            let filled = self.fill(&mut piece)?;
            if piece[..filled].iter().any(|byte| *byte != 0) {
                return Err(ArchiveError::More);
            }
            zeros += filled;
            if filled < piece.len() {
                break;
            }
        }
        if zeros < BLOCK || !self.gzip.into_inner().is_empty() { Err(ArchiveError::More) } else { Ok(()) }
    }
}

/// The bytes before the first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn name(variant: &str) -> NifName {
        let file = format!("libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu{variant}.so.tar.gz");
        NifName::parse_archive_file(&file).unwrap()
    }

    fn gzip(tar: &[u8]) -> Vec<u8> {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
        gzip.write_all(tar).unwrap();
        gzip.finish().unwrap()
    }

    fn entry(file: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut tar = Vec::new();
        append(&mut tar, file.as_bytes(), kind, 0, content);
        tar
    }

    const LIMIT: u64 = 1 << 20;

    #[test]
    fn an_archive_gives_its_library_back_and_is_always_the_same() {
        let pieces: Vec<u8> = (0..2 * PIECE + 5).map(|number| (number % 251) as u8).collect();
        for (name, library) in [
            (name(""), &b"library"[..]),
            (name(""), &[7; 5000]),
            (name(""), &pieces),
            (name(""), &pieces[..PIECE]),
            (name(&format!("--{}", "v".repeat(40))), &[8; 512]),
        ] {
            let archive = write_archive(&name, library);
            assert_eq!(archive, write_archive(&name, library));
            assert_eq!(read_archive(&name, &archive, LIMIT).unwrap(), library);
            check_archive(&name, &archive, LIMIT).unwrap();
        }
        // Without time and name; the system is unknown.
        assert_eq!(write_archive(&name(""), b"x")[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
    }

    #[test]
    fn tar_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        for name in [name(""), name(&format!("--{}", "v".repeat(40)))] {
            let file = directory.path().join("archive.tar.gz");
            std::fs::write(&file, write_archive(&name, b"library")).unwrap();
            let Ok(output) = Command::new("tar").arg("-tvzf").arg(&file).env("TZ", "UTC").env("LC_ALL", "C").output()
            else {
                return;
            };
            let listing = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(listing.contains(&name.library_file()) && listing.starts_with("-rwxr-xr-x"), "{listing}");
            assert!(listing.contains(" 7 ") && listing.contains("1980-01-01"), "{listing}");
            assert_eq!(listing.lines().count(), 1);
        }
    }

    #[test]
    fn what_is_not_one_library_of_the_right_name_is_refused() {
        let (name, end) = (name(""), vec![0; 2 * BLOCK]);
        let own = name.library_file();
        let refused = |tar: Vec<u8>| read_archive(&name, &gzip(&tar), LIMIT).unwrap_err();
        for other in ["../../evil.so", "/etc/passwd", "other.so", &format!("../{own}"), &format!("a/{own}")] {
            let error = refused([entry(other, b'0', b"x"), end.clone()].concat());
            assert!(matches!(error, ArchiveError::OtherFile { .. }), "{other}: {error}");
        }
        for kind in [b'1', b'2', b'3', b'5', b'x'] {
            let error = refused([entry(&own, kind, b""), end.clone()].concat());
            assert!(matches!(error, ArchiveError::Special { .. }), "{kind}: {error}");
        }
        let two = [entry(&own, b'0', b"x"), entry("../evil.so", b'0', b"y"), end.clone()].concat();
        assert!(matches!(refused(two), ArchiveError::More));
        assert!(matches!(refused(end.clone()), ArchiveError::Tar { .. }));
        assert!(matches!(refused(entry(&own, b'0', b"x")), ArchiveError::Tar { .. }));
        let mut prefixed = entry(&own, b'0', b"x");
        prefixed[345..350].copy_from_slice(b"../..");
        assert!(matches!(refused([prefixed, end].concat()), ArchiveError::Tar { .. }));
        assert!(matches!(read_archive(&name, b"no gzip", LIMIT), Err(ArchiveError::Compression { .. })));
        let large = write_archive(&name, &[0; 4096]);
        assert!(matches!(read_archive(&name, &large, 4096), Err(ArchiveError::TooLarge { .. })));
        let announced = entry(&own, b'0', &vec![0; 3 * PIECE]);
        assert!(matches!(check_archive(&name, &gzip(&announced[..2 * PIECE]), LIMIT), Err(ArchiveError::Tar { .. })));
    }

    #[test]
    fn an_archive_that_was_cut_or_changed_is_refused() {
        let name = name("");
        let library: Vec<u8> = (0..3000_u32).map(|number| (number * 7 % 251) as u8).collect();
        let archive = write_archive(&name, &library);
        for length in 0..archive.len() {
            assert!(read_archive(&name, &archive[..length], LIMIT).is_err(), "{length}");
        }
        for at in 10..archive.len() {
            let mut changed = archive.clone();
            changed[at] ^= 1;
            assert!(read_archive(&name, &changed, LIMIT).is_err(), "{at}");
        }
        let longer = [archive, b"more".to_vec()].concat();
        assert!(matches!(read_archive(&name, &longer, LIMIT), Err(ArchiveError::More)));
    }
}
