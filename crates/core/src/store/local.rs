//! A store by its path: opened without touching anything, made on the first lease.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use camino::Utf8Path;

use super::error::StoreError;
use super::layout::{Layout, Presence};
use super::lease::Lease;
use super::platform;

/// How a store is used.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// How many allocated bytes [`LocalStore::auto_gc`] lets the store have. `None`: as many as there are.
    pub size_limit: Option<u64>,
    /// Refuse every write, whatever the file system would allow.
    pub read_only: bool,
    /// Never share an inode with a target directory: [`super::Placement::Link`] then copies.
    pub no_links: bool,
    /// Do not wait until a linker's output is on the disk before keeping it: `docs/formats.md` says when that
    /// matters.
    pub no_sync: bool,
}

/// The local store. Cheap to clone; all clones, threads and processes may use it at once.
#[derive(Clone, Debug)]
pub struct LocalStore {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) layout: Layout,
    pub(super) options: StoreOptions,
    /// Whether the file system may know clones: learned by trying.
    pub(super) try_clone: AtomicBool,
}

/// The lock file, locked.
#[derive(Debug)]
pub(super) enum Locked {
    /// The lock is held until the file is closed.
    Held(#[expect(dead_code, reason = "the lock is released when the file is dropped")] File),
    /// There is nothing to lock: no lock file, or no locks on this file system.
    Unlocked,
}

impl LocalStore {
    /// The store in the directory `path` (which need not exist). Nothing is written yet. Fails if a store
    /// of an unknown version is there.
    pub fn open(path: &Utf8Path, options: StoreOptions) -> Result<Self, StoreError> {
        let layout = Layout::new(path);
        layout.presence()?;
        Ok(Self { inner: Arc::new(Inner { layout, options, try_clone: AtomicBool::new(true) }) })
    }

    /// The directory of this version of the store.
    pub fn root(&self) -> &Utf8Path {
        self.inner.layout.root()
    }

    /// The options that it was opened with.
    pub fn options(&self) -> &StoreOptions {
        &self.inner.options
    }

    /// Takes a lease: while it lives, garbage collection leaves the store alone. Makes the store if there is
    /// none. Waits for a garbage collection that is under way. Where the store can't be written, the lease
    /// still reads.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let layout = &self.inner.layout;
        let mut writable = !self.inner.options.read_only;
        let mut present = layout.presence()? == Presence::Present;
        if writable && !present {
            match layout.create() {
                Ok(()) => present = true,
                Err(StoreError::ReadOnly { .. }) => writable = false,
                Err(StoreError::Io { source, .. }) if platform::is_read_only(&source) => writable = false,
                Err(error) => return Err(error),
            }
        }
        // A look at the directory costs one system call, and spares every insertion a failure halfway.
        writable = writable && platform::may_write(&layout.temporary_directory());
        let locked = if present { self.lock_shared()? } else { Locked::Unlocked };
        Ok(Lease::new(self.clone(), locked, writable))
    }

    fn lock_shared(&self) -> Result<Locked, StoreError> {
        let path = self.inner.layout.lock();
        let file = match File::open(&path) {
            Ok(file) => file,
            // A store that was copied without its lock, or that belongs to somebody else: nobody who lacks
            // the lock file can collect garbage in it either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                return Ok(Locked::Unlocked);
            }
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        loop {
            match file.lock_shared() {
                Ok(()) => return Ok(Locked::Held(file)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Locked::Unlocked),
                Err(error) => return Err(StoreError::io("lock", &path, error)),
            }
        }
    }

    /// Takes the store for this caller alone, waiting for at most about `wait`.
    pub(super) fn lock_exclusively(&self, wait: Duration) -> Result<Locked, StoreError> {
        const STEP: Duration = Duration::from_millis(10);
        let path = self.inner.layout.lock();
        let store = || self.root().to_owned();
        if self.inner.options.read_only || !platform::may_write(&self.inner.layout.temporary_directory()) {
            return Err(StoreError::ReadOnly { path: store() });
        }
        let file = File::open(&path).map_err(|error| StoreError::io("open", &path, error))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked::Held(file)),
                Err(TryLockError::WouldBlock) if waited < wait => {
                    std::thread::sleep(STEP.min(wait - waited));
                    waited += STEP;
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { path: store() }),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Err(StoreError::NoLocks { path: store() });
                }
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, error)),
            }
        }
    }

    /// Whether there is anything in the store at all.
    pub(super) fn exists(&self) -> Result<bool, StoreError> {
        Ok(self.inner.layout.presence()? == Presence::Present)
    }
}
