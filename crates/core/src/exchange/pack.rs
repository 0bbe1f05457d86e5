//! From a record of the store to a NAR.

use std::io::{self, Read, Write};

use crate::artifact::ArtifactFile;
use crate::digest::{ContentDigest, Key};
use crate::nix::nar::{NarWriteError, NarWriter};
use crate::session::trie::Node;
use crate::store::{BlobRef, Lease, StoreError};

use super::manifest::{FILES, Manifest, NAME, SCHEMA};

/// Why a record could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The store does not hold it (any more), or holds something that is no record of a unit.
    #[error("pack {key}: the store holds no such record")]
    NoRecord {
        /// Its key.
        key: Key,
    },
    /// A file of it is not what it was when it was kept.
    #[error("pack {key}: the blob {blob} is damaged")]
    Damaged {
        /// The record's key.
        key: Key,
        /// The blob.
        blob: BlobRef,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The NAR could not be written, or a blob not be read.
    #[error("write the NAR of {key}")]
    Write {
        /// The record's key.
        key: Key,
        /// What happened.
        #[source]
        source: NarWriteError,
    },
}

/// Writes the record `key` to `out` as a NAR. Every file is hashed on the way: what was damaged on the disk is not
/// passed on. After an error what was written is of no use.
pub fn pack(lease: &Lease, key: &Key, out: &mut dyn Write) -> Result<(), PackError> {
    let missing = || PackError::NoRecord { key: *key };
    let record = lease.get_node(key)?.ok_or_else(missing)?;
    let node: Node = serde_json::from_slice(&record.payload).map_err(|_| missing())?;
    let manifest = Manifest { schema: SCHEMA, key: *key, label: record.label, node };
    let text = serde_json::to_vec(&manifest).expect("a manifest holds only texts, numbers and lists");
    let failed = |source| PackError::Write { key: *key, source };

    let mut nar = NarWriter::new(out);
    nar.begin_directory().map_err(failed)?;
    nar.entry(NAME.as_bytes()).map_err(failed)?;
    nar.regular_bytes(false, &text).map_err(failed)?;
    if let Node::Artifact(artifact) = &manifest.node {
        nar.entry(FILES.as_bytes()).map_err(failed)?;
        nar.begin_directory().map_err(failed)?;
        write_files(&mut nar, lease, key, &artifact.files)?;
        nar.end_directory().map_err(failed)?;
    }
    nar.end_directory().map_err(failed)?;
    nar.finish().map_err(failed)?;
    Ok(())
}

/// Writes the files as a tree. Their order is that of their paths' parts, which is a NAR's order, level by level.
fn write_files<W: Write>(
    nar: &mut NarWriter<W>,
    lease: &Lease,
    key: &Key,
    files: &[ArtifactFile],
) -> Result<(), PackError> {
    let failed = |source| PackError::Write { key: *key, source };
    let mut sorted: Vec<(Vec<&str>, &ArtifactFile)> =
        files.iter().map(|file| (file.path.components().map(|part| part.as_str()).collect(), file)).collect();
    sorted.sort();
    let mut open: Vec<&str> = Vec::new();
    for (parts, file) in sorted {
        let Some((name, directories)) = parts.split_last() else { continue };
        let shared = open.iter().zip(directories).take_while(|(open, directory)| open == directory).count();
        for _ in shared..open.len() {
            nar.end_directory().map_err(failed)?;
        }
        open.truncate(shared);
        for directory in &directories[shared..] {
            nar.entry(directory.as_bytes()).map_err(failed)?;
            nar.begin_directory().map_err(failed)?;
            open.push(directory);
        }
        nar.entry(name.as_bytes()).map_err(failed)?;
        let blob = file.blob;
        let mut content = HashedReader { inner: lease.open_blob(&blob)?, hasher: blake3::Hasher::new() };
        nar.regular(blob.executable, blob.size, &mut content).map_err(failed)?;
        if ContentDigest::from_bytes(*content.hasher.finalize().as_bytes()) != blob.digest {
            return Err(PackError::Damaged { key: *key, blob });
        }
    }
    for _ in open {
        nar.end_directory().map_err(failed)?;
    }
    Ok(())
}

struct HashedReader<R> {
    inner: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for HashedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
