//! The directories of one machine that must never reach another: where they are here, and what stands in
//! for them in what is stored.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// One of the directories whose place differs from machine to machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKind {
    /// Cargo's build directory (`build.build-dir`): intermediate files.
    BuildDirectory,
    /// Cargo's target directory: final files. Often the same as the build directory.
    TargetDirectory,
    /// `CARGO_HOME`.
    CargoHome,
    /// The toolchain's sysroot.
    Sysroot,
    /// The workspace root.
    Workspace,
    /// The directory by which the recorder is called. No source lies in it, but `configure` scripts write down
    /// how they call the compiler.
    Launcher,
}

impl RootKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::BuildDirectory, Self::TargetDirectory, Self::CargoHome, Self::Sysroot, Self::Workspace, Self::Launcher];

    /// What stands for the directory in stored text and paths.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::BuildDirectory => "@nixcache{build-dir}@",
            Self::TargetDirectory => "@nixcache{target-dir}@",
            Self::CargoHome => "@nixcache{cargo-home}@",
            Self::Sysroot => "@nixcache{sysroot}@",
            Self::Workspace => "@nixcache{workspace}@",
            Self::Launcher => "@nixcache{launcher}@",
        }
    }

    /// What `--remap-path-prefix` puts in its place in compiled code. The workspace becomes `.`: debuggers
    /// then find members' sources when they are started from the workspace root.
    /// `None` for directories that hold no sources.
    pub fn remapped(self) -> Option<&'static str> {
        match self {
            Self::BuildDirectory | Self::TargetDirectory => Some("/nixcache/target"),
            Self::CargoHome => Some("/nixcache/cargo"),
            // The standard library names its sources by a path of its own already.
            Self::Sysroot | Self::Launcher => None,
            Self::Workspace => Some("."),
        }
    }
}

/// Where the directories are on this machine, for this build. All absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Most specific first, so that the build directory inside the workspace is found before the workspace.
    entries: Vec<(RootKind, Utf8PathBuf)>,
    /// What those are called that are reached through links, once the links have been followed. No placeholder ever
    /// stands for such a name, which would be put back as the other one.
    behind_links: Vec<(RootKind, Utf8PathBuf)>,
}

impl Roots {
    /// The roots of one build. The sysroot of a compiler that the system installed is none of them.
    pub fn new(entries: impl IntoIterator<Item = (RootKind, Utf8PathBuf)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().filter(|(kind, path)| !is_system_prefix(*kind, path)).collect();
        entries.sort_by(|(kind, path), (other_kind, other)| {
            other.as_str().len().cmp(&path.as_str().len()).then(kind.cmp(other_kind))
        });
        Self { entries, behind_links: Vec::new() }
    }

    /// The same roots, with the names that they have behind links on this machine. A script that follows links writes
    /// these down, and the recorded paths of compilers can begin with them.
    #[must_use]
    pub fn following_links(mut self) -> Self {
        let followed = self.entries.iter().filter_map(|(kind, path)| Some((*kind, follow(path)?)));
        let other = followed.filter(|(kind, path)| self.get(*kind) != Some(path) && !is_system_prefix(*kind, path));
        self.behind_links = other.collect();
        self
    }

    /// The other names of roots that are reached through links.
    pub fn behind_links(&self) -> impl Iterator<Item = (RootKind, &Utf8Path)> {
        self.behind_links.iter().map(|(kind, path)| (*kind, path.as_path()))
    }

    /// The roots that a path lies in by such another name.
    pub fn reached_behind_links(&self, path: &Utf8Path) -> impl Iterator<Item = RootKind> {
        self.behind_links().filter(move |(_, root)| path.starts_with(root)).map(|(kind, _)| kind)
    }

    /// The path by the name that cargo has for its root. A process that was started in a directory knows it by the name
    /// behind links.
    pub fn as_cargo_calls_it(&self, path: &Utf8Path) -> Utf8PathBuf {
        let behind = self.behind_links().filter(|(_, root)| path.starts_with(root));
        let nearest = behind.max_by_key(|(_, root)| root.as_str().len());
        let called =
            nearest.and_then(|(kind, root)| Some(join(self.get(kind)?.as_str(), path.strip_prefix(root).ok()?)));
        called.unwrap_or_else(|| path.to_owned())
    }

    /// The directory that stands behind `kind`, if this build has one.
    pub fn get(&self, kind: RootKind) -> Option<&Utf8Path> {
        self.entries.iter().find(|(entry, _)| *entry == kind).map(|(_, path)| path.as_path())
    }

    /// All roots, longest path first.
    pub fn iter(&self) -> impl Iterator<Item = (RootKind, &Utf8Path)> {
        self.entries.iter().map(|(kind, path)| (*kind, path.as_path()))
    }

    /// The path with its root replaced by a placeholder, if it lies below one.
    pub fn hide(&self, path: &Utf8Path) -> Utf8PathBuf {
        for (kind, root) in self.iter() {
            if let Ok(rest) = path.strip_prefix(root) {
                return join(kind.placeholder(), rest);
            }
        }
        path.to_owned()
    }

    /// The path with a placeholder replaced by this machine's directory. `None` if it names a root that this
    /// build does not have.
    pub fn reveal(&self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        for kind in RootKind::ALL {
            if let Ok(rest) = path.strip_prefix(kind.placeholder()) {
                return Some(join(self.get(kind)?.as_str(), rest));
            }
        }
        Some(path.to_owned())
    }
}

/// Whether a sysroot is where the system has everything, as Debian's `/usr`. Half of all files name such a directory,
/// for reasons that have nothing to do with the compiler, and it is in the same place wherever it is.
fn is_system_prefix(kind: RootKind, path: &Utf8Path) -> bool {
    kind == RootKind::Sysroot && matches!(path.as_str(), "/" | "/usr" | "/usr/local")
}

/// The path without links, as far as it exists.
fn follow(path: &Utf8Path) -> Option<Utf8PathBuf> {
    let mut above = path.ancestors();
    above.find_map(|above| Some((above.canonicalize_utf8().ok()?, path.strip_prefix(above).ok()?))).map(
        |(followed, rest)| match rest.as_str() {
            "" => followed,
            _ => followed.join(rest),
        },
    )
}

fn join(root: &str, rest: &Utf8Path) -> Utf8PathBuf {
    if rest.as_str().is_empty() { Utf8PathBuf::from(root) } else { Utf8Path::new(root).join(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_directories_are_no_root() {
        for (path, is_root) in [("/usr", false), ("/usr/local", false), ("/opt/rust", true)] {
            let roots = Roots::new([(RootKind::Sysroot, path.into())]);
            assert_eq!(roots.get(RootKind::Sysroot).is_some(), is_root, "{path}");
        }
    }

    #[test]
    fn hidden_paths_are_revealed_elsewhere() {
        let here = Roots::new([
            (RootKind::Workspace, "/home/a/work".into()),
            (RootKind::BuildDirectory, "/home/a/work/target".into()),
        ]);
        let there =
            Roots::new([(RootKind::Workspace, "/srv/b".into()), (RootKind::BuildDirectory, "/tmp/target".into())]);
        let hidden = here.hide("/home/a/work/target/debug/build".into());
        assert_eq!(hidden, "@nixcache{build-dir}@/debug/build");
        assert_eq!(there.reveal(&hidden).unwrap(), "/tmp/target/debug/build");
        assert_eq!(there.reveal(&here.hide("/home/a/work".into())).unwrap(), "/srv/b");
        assert_eq!(here.hide("/home/a/workshop/x".into()), "/home/a/workshop/x");
        assert_eq!(there.reveal("@nixcache{cargo-home}@/x".into()), None);
    }
}
