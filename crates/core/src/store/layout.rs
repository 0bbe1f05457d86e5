//! Where things lie in the store's directory, and its version.
//!
//! ```text
//! <store>/v1/
//!   CACHEDIR.TAG           backup programs pass over the directory
//!   format                 the version, as one line; written last when a store is made
//!   blobs/ab/cdef…[.x]     file content; the name is its blake3 digest, `.x` where it is executable
//!   nodes/ab/cdef…         records, by key
//!   pins/<name>            keys that garbage collection keeps, one a line
//!   tmp/                   files being written; whatever lies here while nobody has a lease is rubbish
//!   lock                   shared by leases, exclusive for garbage collection
//!   usage                  allocated bytes: the sum of its lines; exact after each garbage collection
//! ```

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};

use super::blob::BlobRef;
use super::error::StoreError;
use crate::digest::Key;

/// The content of the version file.
pub(super) const FORMAT: &str = "cargo-nixcache store 1";

/// How the names of temporary files in target directories begin, where one can't be avoided (the store lies
/// on another file system). A leftover after a kill may be removed by anyone who holds cargo's lock.
pub const TEMPORARY_PREFIX: &str = ".nixcache-tmp-";

const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory is a cache made by cargo-nixcache; see https://bford.info/cachedir/\n";

/// The paths of one store.
#[derive(Debug)]
pub(super) struct Layout {
    root: Utf8PathBuf,
    sequence: AtomicU64,
}

/// What lies at the store's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nothing yet, or a store whose making was interrupted.
    Absent,
    /// A store of the known format.
    Present,
}

impl Layout {
    pub(super) fn new(store: &Utf8Path) -> Self {
        Self { root: store.join("v1"), sequence: AtomicU64::new(0) }
    }

    pub(super) fn root(&self) -> &Utf8Path {
        &self.root
    }

    pub(super) fn blobs(&self) -> Utf8PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn nodes(&self) -> Utf8PathBuf {
        self.root.join("nodes")
    }

    pub(super) fn pins(&self) -> Utf8PathBuf {
        self.root.join("pins")
    }

    pub(super) fn temporary_directory(&self) -> Utf8PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn lock(&self) -> Utf8PathBuf {
        self.root.join("lock")
    }

    pub(super) fn usage(&self) -> Utf8PathBuf {
        self.root.join("usage")
    }

    pub(super) fn blob(&self, blob: &BlobRef) -> Utf8PathBuf {
        let name = blob.digest.to_string();
        let suffix = if blob.executable { ".x" } else { "" };
        Utf8PathBuf::from(format!("{}/blobs/{}/{}{suffix}", self.root, &name[..2], &name[2..]))
    }

    pub(super) fn node(&self, key: &Key) -> Utf8PathBuf {
        let name = key.to_string();
        Utf8PathBuf::from(format!("{}/nodes/{}/{}", self.root, &name[..2], &name[2..]))
    }

    /// A name for a temporary file that no other thread or process uses.
    pub(super) fn temporary(&self) -> Utf8PathBuf {
        self.root.join("tmp").join(self.unique_name())
    }

    /// The same, beside `destination`.
    pub(super) fn temporary_beside(&self, destination: &Utf8Path) -> Utf8PathBuf {
        destination.with_file_name(format!("{TEMPORARY_PREFIX}{}", self.unique_name()))
    }

    fn unique_name(&self) -> String {
        // The address tells several stores of one process apart, the process id several processes. Process
        // ids of containers that share a store can be equal, hence the random keys of the standard library.
        use std::hash::{BuildHasher, Hasher};
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        format!("{}-{number}-{random:016x}", std::process::id())
    }

    /// Looks whether the store exists and is of the known format.
    pub(super) fn presence(&self) -> Result<Presence, StoreError> {
        let path = self.root.join("format");
        match fs::read(&path) {
            Ok(bytes) if bytes == format!("{FORMAT}\n").as_bytes() => Ok(Presence::Present),
            Ok(bytes) => Err(StoreError::UnknownVersion {
                path: self.root.clone(),
                found: String::from_utf8_lossy(&bytes).trim().chars().take(80).collect(),
                known: FORMAT,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Presence::Absent),
            Err(error) => Err(StoreError::io("read", &path, error)),
        }
    }

    /// Makes the store. Several processes may do so at once, and it may be interrupted anywhere.
    pub(super) fn create(&self) -> Result<(), StoreError> {
        for directory in [self.blobs(), self.nodes(), self.pins(), self.temporary_directory()] {
            fs::create_dir_all(&directory).map_err(|error| StoreError::io("create", &directory, error))?;
        }
        self.create_file("CACHEDIR.TAG", CACHEDIR_TAG)?;
        self.create_file("lock", "")?;
        self.create_file("format", &format!("{FORMAT}\n"))
    }

    fn create_file(&self, name: &str, content: &str) -> Result<(), StoreError> {
        let (path, temporary) = (self.root.join(name), self.temporary());
        let written = fs::write(&temporary, content).and_then(|()| super::platform::publish_new(&temporary, &path));
        written.map(|_| ()).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            StoreError::io("write", &path, error)
        })
    }
}
