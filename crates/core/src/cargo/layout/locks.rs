//! Cargo's build locks: the same files and modes as cargo's, so that restoring and cargo exclude one another.
//!
//! Read in `compiler/layout.rs` and measured with strace (cargo 1.95; nightly 1.97):
//!
//! | | `<build-dir>/…/<profile>` | `<target-dir>/…/<profile>` |
//! |---|---|---|
//! | 1.95 | `.cargo-lock` exclusive | `.cargo-lock` exclusive, if final files are written |
//! | 1.96 and later | `.cargo-build-lock` exclusive | `.cargo-lock` shared; `.cargo-artifact-lock` exclusive, if final files are written |
//!
//! Where the two directories are one, 1.95 takes its lock once. Every command but `check` (and clippy, which
//! is a `check`) writes final files. The host's directories are locked first, then those of each `--target`.
//! Cargo takes no lock on NFS, and goes on where a file system has none; so do we.

use std::fs::{self, File, TryLockError};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{BuildLayout, CargoRelease};

/// Which files cargo locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockProtocol {
    /// Cargo up to 1.95.
    OneFile,
    /// Cargo from 1.96 on.
    ThreeFiles,
}

impl LockProtocol {
    /// The protocol of a cargo.
    pub fn of(release: CargoRelease) -> Self {
        if (release.major, release.minor) < (1, 96) { Self::OneFile } else { Self::ThreeFiles }
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("lock {path}, which another process holds")]
    Busy {
        /// The lock file.
        path: Utf8PathBuf,
    },
    /// The file or its directory could not be made or locked.
    #[error("lock {path}")]
    Io {
        /// The lock file or directory.
        path: Utf8PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// The locks of one build, held until this is dropped. Cargo, started while they are held, waits.
#[derive(Debug)]
#[must_use = "the locks are released when this is dropped"]
pub struct BuildLocks {
    files: Vec<File>,
}

impl BuildLocks {
    /// Takes the locks of all `layouts` (host first), or says which one is [`LockError::Busy`] and holds none.
    pub fn try_acquire<'a>(
        layouts: impl IntoIterator<Item = &'a BuildLayout>,
        protocol: LockProtocol,
        writes_final_files: bool,
    ) -> Result<Self, LockError> {
        Self::take(layouts, protocol, writes_final_files, false)
    }

    /// The same, but waits.
    pub fn acquire<'a>(
        layouts: impl IntoIterator<Item = &'a BuildLayout>,
        protocol: LockProtocol,
        writes_final_files: bool,
    ) -> Result<Self, LockError> {
        Self::take(layouts, protocol, writes_final_files, true)
    }

    /// How many files are locked: none where the file system has no locks.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    fn take<'a>(
        layouts: impl IntoIterator<Item = &'a BuildLayout>,
        protocol: LockProtocol,
        writes_final_files: bool,
        wait: bool,
    ) -> Result<Self, LockError> {
        let mut files = Vec::new();
        for layout in layouts {
            layout.create_directories()?;
            for (path, mode) in lock_files(layout, protocol, writes_final_files) {
                files.extend(lock(&path, mode, wait)?);
            }
        }
        Ok(Self { files })
    }
}

impl BuildLayout {
    /// Makes the build and target directories with their tags, as cargo does, where they do not exist.
    pub fn create_directories(&self) -> Result<(), LockError> {
        create_with_tag(self.target_directory(), self.platform())?;
        create_with_tag(self.build_directory(), self.platform())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

/// The files in cargo's order.
fn lock_files(layout: &BuildLayout, protocol: LockProtocol, writes_final_files: bool) -> Vec<(Utf8PathBuf, Mode)> {
    let build = layout.profile_root();
    let target = layout.final_directory();
    let mut files = Vec::new();
    match protocol {
        LockProtocol::OneFile => {
            files.push((build.join(".cargo-lock"), Mode::Exclusive));
            if writes_final_files && build != target {
                files.push((target.join(".cargo-lock"), Mode::Exclusive));
            }
        }
        LockProtocol::ThreeFiles => {
            files.push((build.join(".cargo-build-lock"), Mode::Exclusive));
            files.push((target.join(".cargo-lock"), Mode::Shared));
            if writes_final_files {
                files.push((target.join(".cargo-artifact-lock"), Mode::Exclusive));
            }
        }
    }
    files
}

fn lock(path: &Utf8Path, mode: Mode, wait: bool) -> Result<Option<File>, LockError> {
    let failed = |source| LockError::Io { path: path.to_owned(), source };
    let directory = path.parent().expect("a lock file lies in a directory");
    fs::create_dir_all(directory).map_err(failed)?;
    if is_nfs(directory) {
        return Ok(None);
    }
    // Opened for writing, as cargo does it: some file systems give exclusive locks on such files alone.
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    let tried = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match tried {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) if wait => {
            match mode {
                Mode::Shared => file.lock_shared(),
                Mode::Exclusive => file.lock(),
            }
            .map_err(failed)?;
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Err(LockError::Busy { path: path.to_owned() }),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes the directory, and marks a new one as a cache for backup programs: cargo does so only for directories
/// that it makes itself, so whoever comes first has to.
fn create_with_tag(root: &Utf8Path, platform: Option<&str>) -> Result<(), LockError> {
    let mut directory = root.to_owned();
    directory.extend(platform);
    if directory.is_dir() {
        return Ok(());
    }
    let tag = directory.join("CACHEDIR.TAG");
    let text = "Signature: 8a477f597d28d172789f06886806bc55\n\
                # A cache directory of cargo, made by cargo nixcache. See https://bford.info/cachedir/\n";
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&tag, text))
        .map_err(|source| LockError::Io { path: directory, source })
}

#[cfg(all(target_os = "linux", not(target_env = "musl")))]
fn is_nfs(directory: &Utf8Path) -> bool {
    rustix::fs::statfs(directory.as_std_path()).is_ok_and(|status| status.f_type == rustix::fs::NFS_SUPER_MAGIC)
}

#[cfg(not(all(target_os = "linux", not(target_env = "musl"))))]
fn is_nfs(_directory: &Utf8Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::layout::LayoutKind;
    use crate::unit::CompilePlatform;

    fn layout(root: &Utf8Path, target: &str) -> BuildLayout {
        BuildLayout::new(LayoutKind::Legacy, root.join("build"), root.join(target), &CompilePlatform::Host, "dev")
    }

    #[test]
    fn locks_exclude_and_are_released() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let one = layout(root, "build");
        for protocol in [LockProtocol::OneFile, LockProtocol::ThreeFiles] {
            let held = BuildLocks::try_acquire([&one], protocol, true).unwrap();
            assert_eq!(held.count(), if protocol == LockProtocol::OneFile { 1 } else { 3 });
            let busy = BuildLocks::try_acquire([&one], protocol, false).unwrap_err();
            assert!(matches!(busy, LockError::Busy { .. }), "{busy}");
            drop(held);
            let _again = BuildLocks::acquire([&one], protocol, false).unwrap();
        }
        assert!(root.join("build/CACHEDIR.TAG").is_file());
    }

    #[test]
    fn old_and_new_cargo_exclude_one_another() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let one = layout(root, "build");
        let _old = BuildLocks::try_acquire([&one], LockProtocol::OneFile, false).unwrap();
        assert!(BuildLocks::try_acquire([&one], LockProtocol::ThreeFiles, false).is_err());
    }

    #[test]
    fn separate_directories_are_both_locked() {
        let root = Utf8Path::new("/r");
        let names = |protocol, final_files| -> Vec<String> {
            lock_files(&layout(root, "target"), protocol, final_files)
                .into_iter()
                .map(|(path, mode)| format!("{path} {mode:?}"))
                .collect()
        };
        assert_eq!(names(LockProtocol::OneFile, false), ["/r/build/debug/.cargo-lock Exclusive"]);
        assert_eq!(
            names(LockProtocol::OneFile, true),
            ["/r/build/debug/.cargo-lock Exclusive", "/r/target/debug/.cargo-lock Exclusive"]
        );
        assert_eq!(
            names(LockProtocol::ThreeFiles, true),
            [
                "/r/build/debug/.cargo-build-lock Exclusive",
                "/r/target/debug/.cargo-lock Shared",
                "/r/target/debug/.cargo-artifact-lock Exclusive"
            ]
        );
    }
}
