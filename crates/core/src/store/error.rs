//! What can go wrong in the local store. A miss is no error; damage, a full disk and a store that may not be
//! written are.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::blob::BlobRef;
use crate::digest::Key;

/// Why an operation on the local store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory holds a store that this version does not know. It is left alone.
    #[error("use the store {path}: its format is {found:?}, and this version only knows {known:?}")]
    UnknownVersion {
        /// The store's directory.
        path: Utf8PathBuf,
        /// What its version file says.
        found: String,
        /// What it should say.
        known: &'static str,
    },
    /// The store can be read, but not written by this user.
    #[error("write to the store {path}: it is read-only")]
    ReadOnly {
        /// The store's directory.
        path: Utf8PathBuf,
    },
    /// The file system, or the user's quota, is full. Nothing half-written is visible.
    #[error("write {path}: no space left")]
    Full {
        /// What was being written.
        path: Utf8PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The process, or the system, has too many files open.
    #[error("open {path}: too many open files")]
    TooManyOpenFiles {
        /// What was to be opened.
        path: Utf8PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Garbage collection found the store in use for longer than it may wait.
    #[error("lock the store {path}: builds are using it")]
    Busy {
        /// The store's directory.
        path: Utf8PathBuf,
    },
    /// The file system has no file locks, so nothing may be removed safely.
    #[error("lock the store {path}: its file system has no file locks")]
    NoLocks {
        /// The store's directory.
        path: Utf8PathBuf,
    },
    /// A node is not what was written. It has been dropped; take it as a miss.
    #[error("read the node {key}: it is damaged ({why})")]
    DamagedNode {
        /// Its key.
        key: Key,
        /// What does not fit.
        why: String,
    },
    /// A blob is not what was written. It has been dropped; take it as a miss.
    #[error("use the blob {blob}: it is damaged ({why})")]
    DamagedBlob {
        /// The blob.
        blob: BlobRef,
        /// What does not fit.
        why: String,
    },
    /// A blob that a node refers to is not there. Take it as a miss.
    #[error("use the blob {blob}: the store does not hold it")]
    MissingBlob {
        /// The blob.
        blob: BlobRef,
    },
    /// The file changed between being hashed and being kept.
    #[error("keep {path}: it was changed meanwhile")]
    Changed {
        /// The file.
        path: Utf8PathBuf,
    },
    /// Something other than a regular file was to be kept.
    #[error("keep {path}: it is not a regular file")]
    NotAFile {
        /// The path.
        path: Utf8PathBuf,
    },
    /// The text is no name for a pin.
    #[error("use {name:?} as the name of a pin: letters, digits, `.`, `_`, `-` and at most 100 of them")]
    PinName {
        /// The text.
        name: String,
    },
    /// A file that lists pinned keys can't be read. Nothing is removed while that is so.
    #[error("read the pin {path}: line {line} is not a key")]
    DamagedPin {
        /// The file.
        path: Utf8PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// Any other failure of the system.
    #[error("{action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether the store turned out to be damaged or incomplete: the caller goes on as after a miss.
    pub fn is_miss(&self) -> bool {
        matches!(self, Self::DamagedNode { .. } | Self::DamagedBlob { .. } | Self::MissingBlob { .. })
    }

    /// Sorts an error of the system into the variants that callers tell apart.
    pub(super) fn io(action: &'static str, path: &Utf8Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ if super::platform::is_descriptor_exhaustion(&source) => Self::TooManyOpenFiles { path, source },
            _ => Self::Io { action, path, source },
        }
    }
}
