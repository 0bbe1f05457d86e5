//! Changes that modification times do not show: what was touched while a unit was built, and what plain cargo
//! cannot see.
//!
//! The change time of a file cannot be set back, unlike its modification time. Called by gather, collect and
//! restore.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::dynamic::{DynamicInput, MacroFiles, RepositoryState, files_below, matching_files, package_files};

use super::collect::CollectContext;

use super::matching::absolute;

/// Whether something that was read may have changed at or after `since`: then nobody knows which content was read.
pub(super) fn changed_since(
    input: &DynamicInput,
    context: &CollectContext<'_>,
    package_root: &Utf8Path,
    since: SystemTime,
) -> bool {
    let roots = context.roots;
    match input {
        DynamicInput::File { path } => roots.reveal(path).is_some_and(|path| {
            // A directory on the way may have been another one: its own change time tells.
            // `package/../texts` is no way through the package, but to what is above it.
            let clean = absolute(package_root, &path);
            let way =
                clean.ancestors().skip(1).take_while(|above| *above != package_root && above.starts_with(package_root));
            is_newer(&path, since) || way.into_iter().any(|above| is_newer(above, since))
        }),
        DynamicInput::Glob { path, pattern } => {
            roots.reveal(path).is_some_and(|path| listed_is_newer(&path, matching_files(roots, &path, pattern), since))
        }
        DynamicInput::Directory { path } => {
            let below = |path: &Utf8Path| path.is_dir() && listed_is_newer(path, files_below(path), since);
            roots.reveal(path).is_some_and(|path| is_newer(&path, since) || below(&path))
        }
        DynamicInput::PackageTree { path } => roots
            .reveal(path)
            .is_some_and(|path| listed_is_newer(&path, package_files(roots, &path, context.own_packages), since)),
        DynamicInput::MacroPackage { path, tests } => roots.reveal(path).is_some_and(|root| {
            any_is_newer(MacroFiles::of_package(&root, *tests, roots, context.own_packages), since)
        }),
        DynamicInput::MacroDirectory { path } => {
            roots.reveal(path).is_some_and(|root| any_is_newer(MacroFiles::of_directory(&root), since))
        }
        DynamicInput::Repository { path } => roots.reveal(path).is_some_and(|path| {
            let state = RepositoryState::read(&path, context.environment);
            state.is_some_and(|state| state.watched.iter().any(|path| is_newer(path, since)))
        }),
        _ => false,
    }
}

/// Whether something that macros could have read is newer; what can't be looked at may be.
fn any_is_newer(found: io::Result<MacroFiles>, since: SystemTime) -> bool {
    found.map_or(true, |found| found.files.iter().chain(&found.directories).any(|path| is_newer(path, since)))
}

/// Whether a file, or the link that leads to it, changed at or after `since`.
pub(super) fn is_newer(path: &Utf8Path, since: SystemTime) -> bool {
    [fs::symlink_metadata(path), fs::metadata(path)]
        .into_iter()
        .any(|metadata| metadata.is_ok_and(|metadata| change_time(&metadata) >= since))
}

/// Whether one of the files that were found below `root`, or a directory that leads to one, is newer: its change time
/// tells what was removed from it. What can't be looked at may be.
fn listed_is_newer(root: &Utf8Path, files: io::Result<Vec<Utf8PathBuf>>, since: SystemTime) -> bool {
    files.map_or(true, |files| {
        let above = |file| Utf8Path::ancestors(file).skip(1).take_while(|above| above.starts_with(root));
        let directories: BTreeSet<&Utf8Path> = files.iter().flat_map(|file| above(file)).collect();
        files.iter().map(Utf8PathBuf::as_path).chain(directories).any(|path| is_newer(path, since))
    })
}

/// When the file, its name or its mode changed last.
#[cfg(unix)]
pub(super) fn change_time(metadata: &fs::Metadata) -> SystemTime {
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

/// When the file changed last.
#[cfg(not(unix))]
pub(super) fn change_time(metadata: &fs::Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}
