//! From a record of the store to a NAR.

use std::io::{self, Read, Write};

use camino::Utf8Path;

use crate::digest::{ContentDigest, Key};
use crate::nix::nar::{NarWriteError, NarWriter};
use crate::session::trie::Node;
use crate::store::{BlobRef, Lease, StoreError};

use super::document::{self, TooLarge};
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
    /// Nobody would read it.
    #[error("pack {key}: {reason}")]
    TooLarge {
        /// The record's key.
        key: Key,
        /// In which way it is too large.
        reason: TooLarge,
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

/// Why a tree of files from the store could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file is not what it was when it was kept.
    #[error("read the blob {blob}: it is damaged")]
    Damaged {
        /// The blob.
        blob: BlobRef,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The NAR could not be written, or a blob not be read.
    #[error("write its files")]
    Write(#[from] NarWriteError),
}

/// Writes the record `key` to `out` as a NAR. Every file is hashed on the way: what was damaged on the disk is not
/// passed on. After an error what was written is of no use.
pub fn pack(lease: &Lease, key: &Key, out: &mut dyn Write) -> Result<(), PackError> {
    let missing = || PackError::NoRecord { key: *key };
    let record = lease.get_node(key)?.ok_or_else(missing)?;
    let node: Node = serde_json::from_slice(&record.payload).map_err(|_| missing())?;
    let manifest = Manifest { schema: SCHEMA, key: *key, label: record.label, node };
    let text = document::write(&manifest).map_err(|reason| PackError::TooLarge { key: *key, reason })?;
    let failed = |source| PackError::Write { key: *key, source };

    let mut nar = NarWriter::new(out);
    nar.begin_directory().map_err(failed)?;
    nar.entry(NAME.as_bytes()).map_err(failed)?;
    nar.regular_bytes(false, &text).map_err(failed)?;
    if let Node::Artifact(artifact) = &manifest.node {
        nar.entry(FILES.as_bytes()).map_err(failed)?;
        nar.begin_directory().map_err(failed)?;
        let files = artifact.files.iter().map(|file| (file.path.as_path(), file.blob));
        write_tree(&mut nar, lease, files, &mut |_| ()).map_err(|error| match error {
            TreeError::Damaged { blob } => PackError::Damaged { key: *key, blob },
            TreeError::Store(error) => PackError::Store(error),
            TreeError::Write(source) => failed(source),
        })?;
        nar.end_directory().map_err(failed)?;
    }
    nar.end_directory().map_err(failed)?;
    nar.finish().map_err(failed)?;
    Ok(())
}

/// Writes files into the open directory of a NAR, with the directories on the way to them. Every one is hashed, and
/// `watch` sees what is in it. Their order is that of their paths' parts, which is a NAR's order, level by level.
pub(super) fn write_tree<'a, W: Write>(
    nar: &mut NarWriter<W>,
    lease: &Lease,
    files: impl Iterator<Item = (&'a Utf8Path, BlobRef)>,
    watch: &mut dyn FnMut(&[u8]),
) -> Result<(), TreeError> {
    let mut sorted: Vec<(Vec<&str>, BlobRef)> =
        files.map(|(path, blob)| (path.components().map(|part| part.as_str()).collect(), blob)).collect();
    sorted.sort();
    let mut open: Vec<&str> = Vec::new();
    for (parts, blob) in sorted {
        let Some((name, directories)) = parts.split_last() else { continue };
        let shared = open.iter().zip(directories).take_while(|(open, directory)| open == directory).count();
        for _ in shared..open.len() {
            nar.end_directory()?;
        }
        open.truncate(shared);
        for directory in &directories[shared..] {
            nar.entry(directory.as_bytes())?;
            nar.begin_directory()?;
            open.push(directory);
        }
        nar.entry(name.as_bytes())?;
        let mut content = HashedReader { inner: lease.open_blob(&blob)?, hasher: blake3::Hasher::new(), watch };
        nar.regular(blob.executable, blob.size, &mut content)?;
        if ContentDigest::from_bytes(*content.hasher.finalize().as_bytes()) != blob.digest {
            return Err(TreeError::Damaged { blob });
        }
    }
    for _ in open {
        nar.end_directory()?;
    }
    Ok(())
}

struct HashedReader<'a, R> {
    inner: R,
    hasher: blake3::Hasher,
    watch: &'a mut dyn FnMut(&[u8]),
}

impl<R: Read> Read for HashedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        (self.watch)(&buffer[..read]);
        Ok(read)
    }
}
