//! Content digests of files, in bounded memory, with one read for hashing and scanning.
//!
//! Files are read, not mapped: a mapped file that is truncated meanwhile kills the process, and mapped pages
//! count towards its memory. The callers hash many files at once, so one file stays on one core.

use std::fs::File;
use std::io::{self, Read};

use camino::Utf8Path;

use super::error::StoreError;
use super::facts::FileFacts;
use crate::digest::ContentDigest;

/// How much is read at once.
const BUFFER: usize = 1 << 20;

/// A file's content at the moment it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedFile {
    /// The digest.
    pub digest: ContentDigest,
    /// The number of bytes that were hashed.
    pub size: u64,
    /// The file's facts from before the first byte was read: equal facts later mean the same content.
    pub facts: FileFacts,
}

/// A piece of a file, together with the end of the piece before it.
#[derive(Clone, Copy, Debug)]
pub struct ScanChunk<'a> {
    /// Where in the file `bytes` begins.
    pub offset: u64,
    /// The bytes: up to `overlap` of them were at the end of the last chunk too.
    pub bytes: &'a [u8],
}

/// Hashes the file at `path`. Fails with [`StoreError::Changed`] if its length changes meanwhile.
pub fn hash_file(path: &Utf8Path) -> Result<HashedFile, StoreError> {
    hash_and_scan(path, 0, |_| {})
}

/// Hashes the file at `path` and shows every byte of it to `scan`, in order, in chunks that repeat the last
/// `overlap` bytes of their predecessor: a pattern of up to `overlap + 1` bytes lies whole in some chunk.
/// An empty file has no chunk.
pub fn hash_and_scan(
    path: &Utf8Path,
    overlap: usize,
    mut scan: impl FnMut(ScanChunk<'_>),
) -> Result<HashedFile, StoreError> {
    let failed = |source| StoreError::io("read", path, source);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile { path: path.to_owned() });
    }
    let facts = FileFacts::of_metadata(&metadata);
    let mut hasher = blake3::Hasher::new();
    // One byte more than the file has, so that a small file's end is seen in the first read.
    let room = usize::try_from(facts.size).unwrap_or(BUFFER).min(BUFFER) + 1;
    let mut buffer = vec![0; overlap + room];
    let (mut kept, mut size) = (0, 0_u64);
    loop {
        let read = fill(&mut file, &mut buffer[kept..kept + room]).map_err(failed)?;
        if read == 0 {
            break;
        }
        let filled = kept + read;
        hasher.update(&buffer[kept..filled]);
        scan(ScanChunk { offset: size - kept as u64, bytes: &buffer[..filled] });
        size += read as u64;
        if read < room {
            break;
        }
        let next = filled.min(overlap);
        buffer.copy_within(filled - next..filled, 0);
        kept = next;
    }
    if size != facts.size {
        return Err(StoreError::Changed { path: path.to_owned() });
    }
    Ok(HashedFile { digest: ContentDigest::from_bytes(*hasher.finalize().as_bytes()), size, facts })
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
