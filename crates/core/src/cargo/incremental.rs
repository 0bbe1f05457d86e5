//! Whether an incremental session of a crate is ours to continue with remapped paths.
//!
//! rustc keeps the sessions of a crate in `<incremental>/<crate name>-<crate id>/s-…`
//! (`rustc_incremental::persist::fs`), where the crate id is a hash that only rustc computes. It throws a session
//! away when `--remap-path-prefix` is not what it was. So a session that plain cargo began is continued without
//! remapping, lest the first `cargo nixcache build` of an edit loop compile the member in full; and a session
//! that begins with us is remapped, then and ever after. A marker beside the session's directory tells the two
//! apart:
//!
//! ```text
//! incremental/
//!   foo-1a2b3c/                          rustc's
//!   .nixcache-foo-0123456789abcdef       ours: the unit foo-0123456789abcdef began with remapped paths
//! ```
//!
//! Several units can share a crate name (a library, its tests, a check of it), and which directory belongs to
//! which is not told by its name. They are therefore counted: where a crate has more directories than markers,
//! plain cargo made one of them, and a unit without a marker is taken for its owner. That errs towards not
//! remapping, thus towards not keeping the unit.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// What a unit does with its incremental directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncrementalState {
    /// The unit is not compiled incrementally.
    None,
    /// There was no session of the crate before: the output is what a full compilation gives.
    Cold,
    /// An earlier session is, or may be, continued.
    Continued,
}

/// What [`claim`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncrementalClaim {
    /// Whether a session is continued.
    pub state: IncrementalState,
    /// Whether paths may be remapped without the loss of a session.
    pub remap: bool,
}

/// Looks at the sessions in `directory` of the unit with the given crate name and file stem (crate name and extra
/// file name), and marks a session that begins now as ours.
pub fn claim(directory: &Utf8Path, crate_name: &str, file_stem: &str) -> io::Result<IncrementalClaim> {
    let (mut sessions, mut markers) = (0_usize, 0_usize);
    let entries = match directory.read_dir_utf8() {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    for entry in entries.into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name();
        let (counter, rest) = match name.strip_prefix(MARKER_PREFIX) {
            Some(rest) => (&mut markers, rest),
            None => (&mut sessions, name),
        };
        // `-` ends a crate name: it cannot be part of one.
        let belongs = rest.strip_prefix(crate_name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        *counter += usize::from(belongs);
    }
    let marker = marker_path(directory, file_stem);
    if marker.exists() {
        let state = if sessions == 0 { IncrementalState::Cold } else { IncrementalState::Continued };
        return Ok(IncrementalClaim { state, remap: true });
    }
    if sessions > markers {
        return Ok(IncrementalClaim { state: IncrementalState::Continued, remap: false });
    }
    std::fs::create_dir_all(directory)?;
    std::fs::write(marker, [])?;
    Ok(IncrementalClaim { state: IncrementalState::Cold, remap: true })
}

const MARKER_PREFIX: &str = ".nixcache-";

fn marker_path(directory: &Utf8Path, file_stem: &str) -> Utf8PathBuf {
    directory.join(format!("{MARKER_PREFIX}{file_stem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(directory: &Utf8Path, name: &str) {
        std::fs::create_dir_all(directory.join(name)).unwrap();
    }

    const COLD: IncrementalClaim = IncrementalClaim { state: IncrementalState::Cold, remap: true };
    const OURS: IncrementalClaim = IncrementalClaim { state: IncrementalState::Continued, remap: true };
    const THEIRS: IncrementalClaim = IncrementalClaim { state: IncrementalState::Continued, remap: false };

    #[test]
    fn our_sessions_are_continued_remapped_and_those_of_plain_cargo_are_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(temporary.path()).unwrap().join("incremental");
        // Two units of one crate name begin before either has a directory.
        assert_eq!(claim(&directory, "foo", "foo-1").unwrap(), COLD);
        assert_eq!(claim(&directory, "foo", "foo-2").unwrap(), COLD);
        session(&directory, "foo-aaa");
        session(&directory, "foo-bbb");
        assert_eq!(claim(&directory, "foo", "foo-1").unwrap(), OURS);
        // A third unit has no directory yet: all there are have been accounted for.
        assert_eq!(claim(&directory, "foo", "foo-3").unwrap(), COLD);
        session(&directory, "foo-ccc");
        // Now plain cargo makes a fourth, and a fifth unit cannot be told from it.
        session(&directory, "foo-ddd");
        assert_eq!(claim(&directory, "foo", "foo-5").unwrap(), THEIRS);
        assert_eq!(claim(&directory, "foo", "foo-2").unwrap(), OURS);
        // Another crate whose name begins alike has nothing to do with it.
        assert_eq!(claim(&directory, "fo", "fo-1").unwrap(), COLD);
        session(&directory, "foo_bar-aaa");
        assert_eq!(claim(&directory, "foo_bar", "foo_bar-1").unwrap(), THEIRS);
    }

    #[test]
    fn a_session_that_failed_before_it_was_kept_is_still_cold() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(temporary.path()).unwrap();
        assert_eq!(claim(directory, "foo", "foo-1").unwrap(), COLD);
        assert_eq!(claim(directory, "foo", "foo-1").unwrap(), COLD);
    }
}
