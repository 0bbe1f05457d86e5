//! The identity of a file as the file system tells it: enough to see that a file was not touched since.
//!
//! Facts never prove that two files are equal; they only save hashing one file twice. Linking a file
//! elsewhere, or removing one of its other links, changes `ctime_ns`: for files that are hard-linked with the
//! store use [`FileFacts::same_but_links`].

use std::fs::{File, Metadata};
use std::io;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::platform;

/// What the file system says about one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// The device, or 0 where the platform does not tell.
    pub device: u64,
    /// The inode, or 0 where the platform does not tell.
    pub inode: u64,
    /// The length in bytes.
    pub size: u64,
    /// The modification time in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The time of the last change of content, mode, owner or number of links; where the platform has none,
    /// the time of creation.
    pub ctime_ns: i64,
}

impl FileFacts {
    /// The facts of the file at `path` itself: a symbolic link is not followed.
    pub fn of_path(path: &Utf8Path) -> io::Result<Self> {
        Ok(Self::of_metadata(&std::fs::symlink_metadata(path)?))
    }

    /// The facts of an open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of_metadata(&file.metadata()?))
    }

    /// The facts in `metadata`.
    pub fn of_metadata(metadata: &Metadata) -> Self {
        platform::facts(metadata)
    }

    /// Whether both name one and the same file. Never true where the platform has no inodes.
    pub fn same_file(&self, other: &Self) -> bool {
        self.inode != 0 && self.device == other.device && self.inode == other.inode
    }

    /// Whether nothing but the number of links (or the mode) can have changed: all but `ctime_ns` is equal.
    /// It does not see a writer that put the modification time back.
    pub fn same_but_links(&self, other: &Self) -> bool {
        Self { ctime_ns: 0, ..*self } == Self { ctime_ns: 0, ..*other }
    }
}
