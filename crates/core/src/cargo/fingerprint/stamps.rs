//! Which modification times restored files need. The rules stand in the module's documentation.

use std::fs;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use ignore::WalkBuilder;

/// What the paths that a build script named in `rerun-if-changed` look like to cargo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchedPaths {
    /// There are none that cargo would look at.
    Unwatched,
    /// The newest of them. The script's stdout file must not be older.
    Newest(SystemTime),
    /// One is not there. Cargo runs the script again, always.
    Missing(Utf8PathBuf),
}

impl WatchedPaths {
    /// Looks at absolute paths as cargo does: a directory is as new as the newest thing in it, a symbolic link
    /// in one as new as itself or its target; what lies in the parts of cargo's home that nobody edits is
    /// passed over, and not even needs to be there.
    pub fn look<'a>(paths: impl IntoIterator<Item = &'a Utf8Path>, cargo_home: &Utf8Path) -> Self {
        let immutable = [cargo_home.join("git"), cargo_home.join("registry")];
        let mut newest = None;
        for path in paths {
            if immutable.iter().any(|directory| path.starts_with(directory)) {
                continue;
            }
            match newest_below(path) {
                Some(time) => newest = newest.max(Some(time)),
                None => return Self::Missing(path.to_owned()),
            }
        }
        newest.map_or(Self::Unwatched, Self::Newest)
    }

    /// The time, if there is one.
    pub fn newest(&self) -> Option<SystemTime> {
        match self {
            Self::Newest(time) => Some(*time),
            Self::Unwatched | Self::Missing(_) => None,
        }
    }
}

fn newest_below(path: &Utf8Path) -> Option<SystemTime> {
    let metadata = fs::metadata(path).ok()?;
    let own = metadata.modified().ok()?;
    if !metadata.is_dir() {
        return Some(own);
    }
    let entries = WalkBuilder::new(path).standard_filters(false).follow_links(true).build();
    let times = entries.filter_map(Result::ok).filter_map(|entry| {
        let target = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
        let link = entry.path_is_symlink().then(|| fs::symlink_metadata(entry.path()).ok()?.modified().ok()).flatten();
        target.max(link)
    });
    times.max().or(Some(own))
}

/// The modification time of a unit's newest output, given the one time that restored outputs have, the time
/// that the unit itself needs (a run that watches paths), and the times of its dependencies.
///
/// Called in dependency order, it is `fixed` for all units but runs that watch paths newer than that, and what
/// depends upon them. It is enough if one of a unit's outputs has the time; but where a dependent needs the
/// metadata alone, cargo compares the `.rmeta`.
pub fn output_stamp(
    fixed: SystemTime,
    own: Option<SystemTime>,
    dependencies: impl IntoIterator<Item = SystemTime>,
) -> SystemTime {
    dependencies.into_iter().chain(own).fold(fixed, SystemTime::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn file(path: &Utf8Path, seconds: u64) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::File::open(path).unwrap().set_modified(at(seconds)).unwrap();
    }

    #[test]
    fn watched_paths_are_seen_as_cargo_sees_them() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let home = root.join("home");
        file(&root.join("old"), 100);
        file(&root.join("directory/below/new"), 3_000_000_000);
        file(&home.join("registry/src/x"), 4_000_000_000);
        let look = |names: &[&str]| {
            let paths: Vec<Utf8PathBuf> = names.iter().map(|name| root.join(name)).collect();
            WatchedPaths::look(paths.iter().map(Utf8PathBuf::as_path), &home)
        };
        assert_eq!(look(&[]), WatchedPaths::Unwatched);
        assert_eq!(look(&["home/registry/src/x", "home/git/missing"]), WatchedPaths::Unwatched);
        assert_eq!(look(&["old"]).newest(), Some(at(100)));
        assert_eq!(look(&["old", "directory"]).newest(), Some(at(3_000_000_000)));
        assert_eq!(look(&["old", "missing", "directory"]), WatchedPaths::Missing(root.join("missing")));
    }

    #[test]
    fn a_dependent_is_as_new_as_its_newest_dependency() {
        assert_eq!(output_stamp(at(10), None, []), at(10));
        assert_eq!(output_stamp(at(10), Some(at(5)), [at(7)]), at(10));
        assert_eq!(output_stamp(at(10), Some(at(15)), [at(12)]), at(15));
        assert_eq!(output_stamp(at(10), None, [at(12), at(11)]), at(12));
    }
}
