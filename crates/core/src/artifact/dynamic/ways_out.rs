//! Where a path leads that begins in a directory of generated files.
//!
//! Such a directory is in a digest with its files' content and its links' text. What lies behind a link that leads out
//! of it is in none, so whoever reads through one has an input more. Asked where files are taken for pinned because a
//! build script's run is. Looks at links alone, and reads no file.

use std::collections::{BTreeSet, VecDeque};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::super::Roots;
use super::{DynamicInput, inputs_of_bound_roots};

/// More links on the way to one file lead in a circle: nobody can read it.
const MOST_LINKS: usize = 40;

/// Where a path leads that begins in one of several directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It ends in one of them.
    Within,
    /// It leaves them.
    Out {
        /// The first place outside. Links that come after it are not followed: they can be changed.
        path: Utf8PathBuf,
        /// Whether the way is told by `..`: where directories lie elsewhere, it leads to another place.
        relative: bool,
    },
}

impl Way {
    /// Follows a path. `None` if it begins in none of the directories.
    pub(crate) fn of(directories: &[impl AsRef<Utf8Path>], path: &Utf8Path) -> Option<Self> {
        let begin = |path: &Utf8Path| {
            let (directory, rest) = directories
                .iter()
                .find_map(|directory| Some((directory.as_ref(), path.strip_prefix(directory.as_ref()).ok()?)))?;
            Some((directory.to_owned(), rest.components().map(text).collect::<VecDeque<_>>()))
        };
        let (mut directory, mut left) = begin(path)?;
        let (mut place, mut links) = (directory.clone(), 0);
        while let Some(name) = left.pop_front() {
            match name.as_str() {
                "." => {}
                ".." if place == directory => {
                    // What is above a directory that is reached through a link is above where the link leads.
                    let mut path = directory.canonicalize_utf8().unwrap_or(directory);
                    path.pop();
                    while left.front().is_some_and(|name| name == "..") {
                        left.pop_front();
                        path.pop();
                    }
                    path.extend(left);
                    return Some(Self::Out { path, relative: true });
                }
                ".." => drop(place.pop()),
                _ => {
                    let Ok(target) = place.join(&name).read_link_utf8() else {
                        place.push(name);
                        continue;
                    };
                    links += 1;
                    if links > MOST_LINKS {
                        return Some(Self::Within);
                    }
                    if target.is_absolute() {
                        let mut path = target;
                        path.extend(left);
                        let Some(again) = begin(&path) else {
                            let relative = path.components().any(|part| part == Utf8Component::ParentDir);
                            return Some(Self::Out { path, relative });
                        };
                        (directory, left) = again;
                        place.clone_from(&directory);
                    } else {
                        for part in target.components().rev() {
                            left.push_front(text(part));
                        }
                    }
                }
            }
        }
        Some(Self::Within)
    }

    /// The inputs of somebody who reads the file that lies there, or the whole directory.
    pub(crate) fn inputs(&self, is_directory: bool, roots: &Roots) -> BTreeSet<DynamicInput> {
        let mut inputs = self.places(roots);
        if let Self::Out { path, .. } = self {
            let path = roots.hide(path);
            inputs.insert(match is_directory {
                true => DynamicInput::Directory { path },
                false => DynamicInput::File { path },
            });
        }
        inputs
    }

    /// What has to lie in the same place for the way to lead to the same place.
    pub(crate) fn places(&self, roots: &Roots) -> BTreeSet<DynamicInput> {
        match self {
            Self::Out { relative: true, .. } => inputs_of_bound_roots(roots.iter().map(|(kind, _)| kind)),
            _ => BTreeSet::new(),
        }
    }
}

/// The links below a directory, or the path itself if it is one.
pub(super) fn links_below(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let (mut links, mut left) = (Vec::new(), vec![path.to_owned()]);
    while let Some(path) = left.pop() {
        if path.is_symlink() {
            links.push(path);
        } else if path.is_dir() {
            left.extend(path.read_dir_utf8().into_iter().flatten().flatten().map(|entry| entry.into_path()));
        }
    }
    links
}

fn text(component: Utf8Component<'_>) -> String {
    component.as_str().to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_followed_until_it_leaves() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let (out, other) = (root.join("build/a/out"), root.join("build/b/out"));
        for directory in [&out.join("sub"), &other] {
            fs::create_dir_all(directory).unwrap();
        }
        for (link, target) in [
            ("inside", "sub/x"),
            ("sub/up", "../x"),
            ("absolute", &format!("{root}/data")),
            ("relative", "../../../data"),
            ("above", &format!("{out}/../../../data")),
            ("dotted", &format!("{root}/build/../data")),
            ("second", "absolute"),
            ("other", other.as_str()),
            ("circle", "circle"),
            ("sub/away", "../../../../data"),
        ] {
            symlink(target, out.join(link)).unwrap();
        }
        // The place outside is a link, too. It can be changed, so it is not followed.
        symlink(root.join("elsewhere"), root.join("data")).unwrap();
        let gone = |path: &str, relative| Way::Out { path: root.join(path), relative };
        for (path, way) in [
            ("sub/x", Way::Within),
            ("sub/../x", Way::Within),
            ("inside", Way::Within),
            ("sub/up", Way::Within),
            ("circle", Way::Within),
            ("other/x", Way::Within),
            ("absolute/x", gone("data/x", false)),
            ("second/x", gone("data/x", false)),
            ("relative/x", gone("data/x", true)),
            ("above/x", gone("data/x", true)),
            ("dotted/x", gone("build/../data/x", true)),
            ("sub/away", gone("data", true)),
            ("../../../data/x", gone("data/x", true)),
            // Textually this is `x` in the directory itself.
            ("absolute/../x", gone("data/../x", true)),
        ] {
            assert_eq!(Way::of(&[&out, &other], &out.join(path)), Some(way), "{path}");
        }
        assert_eq!(Way::of(&[&out, &other], &root.join("data")), None);
    }
}
