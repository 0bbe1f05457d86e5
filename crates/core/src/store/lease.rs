//! A lease on the store: the right to read and to add, during which nothing is taken away.
//!
//! Everything that a build does with the store goes through one lease (or several; they are shared), from
//! its first look-up to its last link. Blobs come before the node that refers to them, under one lease, so
//! garbage collection never meets a blob whose node is still to come. Methods that insert and place are in
//! `blob`, those for nodes in `records`.

use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use camino::{Utf8Path, Utf8PathBuf};

use super::error::StoreError;
use super::layout::Layout;
use super::local::{LocalStore, Locked};
use super::{platform, usage};

/// Blobs' file names by inode.
pub(super) type BlobsByInode = HashMap<u64, Vec<Utf8PathBuf>>;

/// A shared hold on a [`LocalStore`]. `Sync`: one lease serves all threads of a build.
#[derive(Debug)]
pub struct Lease {
    pub(super) store: LocalStore,
    #[expect(dead_code, reason = "held, not read")]
    locked: Locked,
    writable: bool,
    /// The blobs' files by inode, once somebody asked.
    inodes: Mutex<Option<BlobsByInode>>,
    /// Allocated bytes added since the last time they were written down.
    added: AtomicU64,
}

impl Lease {
    pub(super) fn new(store: LocalStore, locked: Locked, writable: bool) -> Self {
        Self { store, locked, writable, inodes: Mutex::new(None), added: AtomicU64::new(0) }
    }

    /// Whether insertions can succeed.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The store.
    pub fn store(&self) -> &LocalStore {
        &self.store
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.store.inner.layout
    }

    /// Fails unless insertions can succeed.
    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        if self.writable { Ok(()) } else { Err(StoreError::ReadOnly { path: self.store.root().to_owned() }) }
    }

    /// The names (below `blobs/`) of the blobs that are the file with this inode: as they were when this was
    /// first called, and what this lease linked since. What another process links meanwhile is not seen.
    pub(super) fn blobs_of_inode(&self, inode: u64) -> Result<Vec<Utf8PathBuf>, StoreError> {
        let mut inodes = self.inodes.lock().expect("no thread panics while it holds the table");
        if inodes.is_none() {
            let directory = self.layout().blobs();
            let names = platform::names_by_inode(&directory);
            *inodes = Some(names.map_err(|error| StoreError::io("list", &directory, error))?);
        }
        Ok(inodes.as_ref().and_then(|inodes| inodes.get(&inode)).cloned().unwrap_or_default())
    }

    /// Notes that the caller's file became the blob at `path`.
    pub(super) fn linked(&self, inode: u64, path: &Utf8Path) {
        let mut inodes = self.inodes.lock().expect("no thread panics while it holds the table");
        if let (Some(inodes), Ok(name)) = (inodes.as_mut(), path.strip_prefix(self.layout().blobs())) {
            inodes.entry(inode).or_default().push(name.to_owned());
        }
    }

    /// Notes that the store grew.
    pub(super) fn grew_by(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Runs `write` on a fresh temporary path and puts the result at `to`, if nothing is there yet. Returns
    /// whether it did. Nothing is left behind on failure.
    pub(super) fn write_new<E: From<StoreError>>(
        &self,
        to: &Utf8Path,
        write: impl FnOnce(&Utf8Path) -> Result<(), E>,
    ) -> Result<bool, E> {
        let temporary = self.layout().temporary();
        let result = write(&temporary).and_then(|()| {
            with_parent(to, || platform::publish_new(&temporary, to))
                .map_err(|error| StoreError::io("write", to, error).into())
        });
        if result.is_err() {
            // The error that led here is the one to report.
            let _ = fs::remove_file(&temporary);
        }
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let added = *self.added.get_mut();
        if added > 0 {
            // The figure is approximate by nature: an interrupted build does not write it down either.
            let _ = usage::add(self.layout(), added);
        }
    }
}

/// Runs `write`, and once more after making the parent directory of `path` if that is what was missing.
pub(super) fn with_parent<T>(path: &Utf8Path, mut write: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    match write() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let Some(parent) = path.parent().filter(|parent| !parent.exists()) else {
                // Another thread may have made it in between; if not, the second failure is the true one.
                return write();
            };
            fs::create_dir_all(parent)?;
            write()
        }
        result => result,
    }
}
