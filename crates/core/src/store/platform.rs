//! What differs between operating systems: links, clones, stamps, modes. Nothing else of the store has `cfg`.
//!
//! Linux is tested. On macOS clones go through `clonefile`; on Windows nothing is hard-linked, since an open
//! or read-only file could then not be replaced.

use std::fs::{self, File, Metadata};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use camino::Utf8Path;

use super::facts::FileFacts;

/// The modification time of every blob, and of every file that is put into a target directory: 2001-09-09
/// 01:46:40 UTC, in seconds since 1970. One time for all, so that no dependency is newer than its dependent;
/// old, so that whatever is compiled now is newer; even, since some file systems count in steps of 2 s.
pub const FIXED_MTIME_SECONDS: i64 = 1_000_000_000;

const FIXED_MTIME_NS: i64 = FIXED_MTIME_SECONDS * 1_000_000_000;

/// Whether files are shared with target directories by hard link at all.
pub(super) const HARD_LINKS: bool = cfg!(unix);

/// How [`copy_new`] made the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopiedHow {
    /// The file system shares the blocks until one of the files is written.
    Cloned,
    /// Byte by byte.
    Copied,
}

/// Whether the file bears the fixed stamp.
pub(super) fn has_fixed_mtime(facts: &FileFacts) -> bool {
    facts.mtime_ns == FIXED_MTIME_NS
}

/// Gives the file the fixed stamp.
pub(super) fn stamp(path: &Utf8Path) -> io::Result<()> {
    set_modified(path, fixed_mtime())
}

fn fixed_mtime() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(FIXED_MTIME_SECONDS.unsigned_abs())
}

/// Whether a hard link can't be made here for a reason that copying does not share.
pub(super) fn link_is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported
    )
}

/// Whether the error says that this user may not write there, rather than that something is broken.
pub(super) fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// Nanoseconds since 1970; times before it count as negative.
pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds),
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};
    use rustix::io::Errno;

    use super::*;

    pub(in super::super) fn facts(metadata: &Metadata) -> FileFacts {
        FileFacts {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            mtime_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
            ctime_ns: metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()),
        }
    }

    pub(in super::super) fn set_modified(path: &Utf8Path, time: SystemTime) -> io::Result<()> {
        let nanoseconds = nanoseconds(time);
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: nanoseconds.div_euclid(1_000_000_000),
                tv_nsec: nanoseconds.rem_euclid(1_000_000_000) as _,
            },
        };
        Ok(rustix::fs::utimensat(CWD, path.as_std_path(), &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(in super::super) fn allocated_size(metadata: &Metadata) -> u64 {
        metadata.blocks().saturating_mul(512)
    }

    /// Whether the file's mode is what a target directory needs of it: executable or not as asked, and
    /// writable by its owner, since rustc refuses to replace an output without a write bit.
    pub(in super::super) fn mode_fits(metadata: &Metadata, executable: bool) -> bool {
        let mode = metadata.permissions().mode();
        (mode & 0o100 != 0) == executable && mode & 0o600 == 0o600
    }

    pub(in super::super) fn may_have_links(metadata: &Metadata) -> bool {
        metadata.nlink() > 1
    }

    /// The files two levels below `directory` by inode: told by the directories alone, so it takes a few
    /// milliseconds for tens of thousands.
    pub(in super::super) fn names_by_inode(
        directory: &Utf8Path,
    ) -> io::Result<std::collections::HashMap<u64, Vec<camino::Utf8PathBuf>>> {
        use std::os::unix::fs::DirEntryExt;
        let mut names: std::collections::HashMap<u64, Vec<camino::Utf8PathBuf>> = Default::default();
        for part in directory.read_dir_utf8()? {
            let part = part?;
            if !part.file_type()?.is_dir() {
                continue;
            }
            for file in part.path().read_dir_utf8()? {
                let file = file?;
                let name = Utf8Path::new(part.file_name()).join(file.file_name());
                names.entry(file.into_inner().ino()).or_default().push(name);
            }
        }
        Ok(names)
    }

    pub(in super::super) fn is_descriptor_exhaustion(error: &io::Error) -> bool {
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    }

    /// Gives a new, closed file a mode that lets everybody whom the umask allows read it, and nobody write it.
    pub(in super::super) fn write_protect(path: &Utf8Path) -> io::Result<()> {
        let mode = fs::symlink_metadata(path)?.permissions().mode();
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7555))
    }

    /// Whether this user may make files in the directory: asks the system, writes nothing.
    pub(in super::super) fn may_write(directory: &Utf8Path) -> bool {
        rustix::fs::access(directory.as_std_path(), rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
    }

    pub(in super::super) fn create_new(path: &Utf8Path, executable: bool) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let mode = if executable { 0o777 } else { 0o666 };
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
    }
}

#[cfg(unix)]
pub(super) use unix::*;

#[cfg(not(unix))]
mod other {
    use super::*;

    pub(in super::super) fn facts(metadata: &Metadata) -> FileFacts {
        FileFacts {
            device: 0,
            inode: 0,
            size: metadata.len(),
            mtime_ns: metadata.modified().map_or(0, nanoseconds),
            ctime_ns: metadata.created().map_or(0, nanoseconds),
        }
    }

    pub(in super::super) fn set_modified(path: &Utf8Path, time: SystemTime) -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        file.set_times(fs::FileTimes::new().set_modified(time))
    }

    pub(in super::super) fn allocated_size(metadata: &Metadata) -> u64 {
        metadata.len()
    }

    pub(in super::super) fn mode_fits(metadata: &Metadata, _executable: bool) -> bool {
        !metadata.permissions().readonly()
    }

    // Nothing is linked here, so no file of the store can be rewritten through another name.
    pub(in super::super) fn may_have_links(_metadata: &Metadata) -> bool {
        false
    }

    pub(in super::super) fn names_by_inode(
        _directory: &Utf8Path,
    ) -> io::Result<std::collections::HashMap<u64, Vec<camino::Utf8PathBuf>>> {
        Ok(Default::default())
    }

    pub(in super::super) fn is_descriptor_exhaustion(_error: &io::Error) -> bool {
        false
    }

    // A read-only file can't be replaced or restamped on Windows.
    pub(in super::super) fn write_protect(_path: &Utf8Path) -> io::Result<()> {
        Ok(())
    }

    pub(in super::super) fn may_write(directory: &Utf8Path) -> bool {
        fs::metadata(directory).is_ok_and(|metadata| metadata.is_dir())
    }

    pub(in super::super) fn create_new(path: &Utf8Path, _executable: bool) -> io::Result<File> {
        fs::OpenOptions::new().write(true).create_new(true).open(path)
    }
}

#[cfg(not(unix))]
pub(super) use other::*;

/// Files up to this size are read and written in one piece. To let the system copy them takes more calls, and build
/// scripts leave hundreds of them.
#[cfg(target_os = "linux")]
const SMALL: u64 = 1 << 17;

/// Makes `to`, which must not exist, a copy of `from`, of `size` bytes, that shares no inode with it. It gets the fixed
/// stamp last, so an unfinished copy can be told. If it fails, `to` does not exist. `try_clone` says whether a clone
/// is worth a try, and learns when this file system has none.
pub(super) fn copy_new(
    from: &Utf8Path,
    to: &Utf8Path,
    executable: bool,
    size: u64,
    try_clone: &AtomicBool,
) -> io::Result<CopiedHow> {
    let source = File::open(from)?;
    let copy = create_new(to, executable)?;
    fill_copy(source, copy, from, to, size, try_clone)
        .and_then(|how| make_mode_fit(to, executable).map(|()| how))
        .inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(to);
        })
}

// The copy was made with the right mode.
#[cfg(target_os = "linux")]
fn make_mode_fit(_path: &Utf8Path, _executable: bool) -> io::Result<()> {
    Ok(())
}

// A clone has the mode of its source, which somebody may have changed through a link.
#[cfg(all(unix, not(target_os = "linux")))]
fn make_mode_fit(path: &Utf8Path, executable: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::symlink_metadata(path)?;
    if mode_fits(&metadata, executable) {
        return Ok(());
    }
    let readable = metadata.permissions().mode() & 0o666 | 0o600;
    let mode = if executable { readable | (readable & 0o444) >> 2 } else { readable };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn make_mode_fit(path: &Utf8Path, _executable: bool) -> io::Result<()> {
    let mut permissions = fs::symlink_metadata(path)?.permissions();
    if !permissions.readonly() {
        return Ok(());
    }
    #[expect(clippy::permissions_set_readonly_false, reason = "this is the platform where it means just that")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions)
}

#[cfg(target_os = "linux")]
fn fill_copy(
    mut source: File,
    mut copy: File,
    _from: &Utf8Path,
    _to: &Utf8Path,
    size: u64,
    try_clone: &AtomicBool,
) -> io::Result<CopiedHow> {
    use std::io::{Read as _, Write as _};

    let mut how = CopiedHow::Copied;
    if try_clone.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(&copy, &source) {
            Ok(()) => how = CopiedHow::Cloned,
            // Another device says nothing of this one; the rest means that the file system has no clones.
            Err(rustix::io::Errno::XDEV) => {}
            Err(_) => try_clone.store(false, Ordering::Relaxed),
        }
    }
    if how == CopiedHow::Copied {
        if size <= SMALL {
            // One more, so that a file that has grown meanwhile is told by the length of its copy.
            let mut bytes = Vec::with_capacity(size as usize + 1);
            source.take(size + 1).read_to_end(&mut bytes)?;
            copy.write_all(&bytes)?;
        } else {
            io::copy(&mut source, &mut copy)?;
        }
    }
    copy.set_times(fs::FileTimes::new().set_modified(fixed_mtime()))?;
    Ok(how)
}

#[cfg(not(target_os = "linux"))]
fn fill_copy(
    mut source: File,
    mut copy: File,
    from: &Utf8Path,
    to: &Utf8Path,
    _size: u64,
    try_clone: &AtomicBool,
) -> io::Result<CopiedHow> {
    if try_clone.load(Ordering::Relaxed) {
        // A clone makes its own file, with the mode of the source.
        drop(copy);
        fs::remove_file(to)?;
        let copied = reflink_copy::reflink_or_copy(from, to)?;
        if copied.is_some() {
            try_clone.store(false, Ordering::Relaxed);
        }
        stamp(to)?;
        return Ok(if copied.is_none() { CopiedHow::Cloned } else { CopiedHow::Copied });
    }
    io::copy(&mut source, &mut copy)?;
    copy.set_times(fs::FileTimes::new().set_modified(fixed_mtime()))?;
    Ok(CopiedHow::Copied)
}

/// Gives the file at `from` the name `to`, if nothing has it yet. `false` if something has; `from` is gone
/// in both cases.
pub(super) fn publish_new(from: &Utf8Path, to: &Utf8Path) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            fs::remove_file(from)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(from)?;
            Ok(false)
        }
        // Without links the look and the rename are two steps; a second writer that comes in between wins,
        // which readers do not notice: both renames put a whole file there.
        Err(error) if link_is_refused(&error) => {
            if fs::symlink_metadata(to).is_ok() {
                fs::remove_file(from)?;
                return Ok(false);
            }
            fs::rename(from, to)?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}
