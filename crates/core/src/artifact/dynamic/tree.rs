//! Listings of directories: which files count, for `rerun-if-changed` on a directory, and for a package whose
//! build script names no inputs at all.
//!
//! Cargo (`sources/path.rs`) takes for a package's files what git tracks or would track, without what lies below another
//! manifest. Here, what is ignored counts, too, and so does what lies below a manifest of no package of the build: a
//! template, perhaps. Empty directories are listed as if they were files.

use std::collections::BTreeSet;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use ignore::WalkBuilder;
use ignore::overrides::OverrideBuilder;

/// More links to directories on the way to a file are an error: they lead in a circle.
const MOST_LINKS: usize = 8;

/// All files below `directory`, sorted, with links followed.
pub(crate) fn files_below(directory: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    let mut files = Vec::new();
    let mut left = vec![(directory.to_owned(), 0)];
    while let Some((directory, links)) = left.pop() {
        if links > MOST_LINKS {
            return Err(io::Error::other(format!("{directory} is reached through too many links")));
        }
        let mut is_empty = true;
        for entry in directory.read_dir_utf8()? {
            let path = entry?.into_path();
            is_empty = false;
            if path.is_dir() {
                let links = links + usize::from(path.is_symlink());
                left.push((path, links));
            } else {
                files.push(path);
            }
        }
        if is_empty {
            files.push(directory);
        }
    }
    files.sort();
    Ok(files)
}

/// The files below `root` that `pattern` names, sorted. Nothing is left out for being hidden or ignored, but
/// nothing below `left_out` (target directories) is taken.
pub(super) fn files_matching(root: &Utf8Path, pattern: &str, left_out: &[&Utf8Path]) -> io::Result<Vec<Utf8PathBuf>> {
    let mut overrides = OverrideBuilder::new(root);
    // A leading slash ties the pattern to the root, as paths in a manifest are.
    let pattern = format!("/{}", pattern.trim_start_matches("./").trim_start_matches('/'));
    let overrides = overrides.add(&pattern).and_then(|overrides| overrides.build()).map_err(io::Error::other)?;
    // Only what the pattern does not name in full has to be walked.
    let whole = pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len());
    let below = pattern[..whole].rfind('/').map_or("", |slash| pattern[..slash].trim_start_matches('/'));
    let mut files = Vec::new();
    let mut left = vec![root.join(below)];
    let is_recursive = pattern.contains("**") || pattern[whole..].contains('/');
    while let Some(directory) = left.pop() {
        let entries = match directory.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.into_path();
            let is_output = left_out.contains(&path.as_path()) || path == root.join("target");
            if path.is_dir() {
                // Links to directories are not followed: they can lead in a circle.
                if is_recursive && !is_output && path.file_name() != Some(".git") && !path.is_symlink() {
                    left.push(path);
                }
            } else if overrides.matched(&path, false).is_whitelist() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The files of the package in `root`, sorted. Nothing below `left_out` (target directories) is taken.
/// `packages` are where those of the build lie.
pub(super) fn package_files(
    root: &Utf8Path,
    left_out: &[&Utf8Path],
    packages: &BTreeSet<Utf8PathBuf>,
) -> io::Result<Vec<Utf8PathBuf>> {
    let tracked = tracked_files(root);
    let mut walk = WalkBuilder::new(root);
    // Ignored files count too: a script that names nothing may read `.env` or a local configuration.
    walk.standard_filters(false);
    let own_root = root.to_owned();
    let left_out: BTreeSet<_> =
        left_out.iter().map(|path| (*path).to_owned()).chain(packages.iter().cloned()).collect();
    walk.filter_entry(move |entry| {
        let Some(path) = Utf8Path::from_path(entry.path()) else { return true };
        !is_left_out(path, &own_root, &left_out)
    });
    let mut files = BTreeSet::new();
    for entry in walk.build() {
        let entry = entry.map_err(|error| error.into_io_error().unwrap_or_else(|| io::Error::other("cannot walk")))?;
        let path = Utf8PathBuf::from_path_buf(entry.into_path())
            .map_err(|path| io::Error::other(format!("{} is not UTF-8", path.display())))?;
        if path.is_dir() {
            // A link to a directory is tracked as what it links to, and its files may be read through it.
            let is_link = path.is_symlink() && path != root;
            if is_link || path.read_dir_utf8()?.next().is_none() {
                files.extend(files_below(&path)?);
            }
        } else {
            files.insert(path);
        }
    }
    // Files that are tracked although a pattern ignores them.
    let is_in_another = |path: &Utf8Path| {
        let above = path.ancestors().skip(1).take_while(|directory| *directory != root);
        above.into_iter().any(|directory| packages.contains(directory))
    };
    files.extend(tracked.unwrap_or_default().into_iter().filter(|path| path.is_file() && !is_in_another(path)));
    Ok(files.into_iter().collect())
}

fn is_left_out(path: &Utf8Path, root: &Utf8Path, left_out: &BTreeSet<Utf8PathBuf>) -> bool {
    path != root
        && (path.file_name() == Some(".git")
            || path == root.join("target")
            || left_out.contains(path)
            // A target directory of somebody else's.
            || path.file_name() == Some("target") && path.join("CACHEDIR.TAG").exists())
}

/// The files below `root` that git tracks. `None` if there is no repository, or its index cannot be read.
pub(super) fn tracked_files(root: &Utf8Path) -> Option<Vec<Utf8PathBuf>> {
    let root = root.canonicalize_utf8().ok()?;
    let repository = root.ancestors().find(|directory| directory.join(".git").exists())?;
    let mut git = repository.join(".git");
    if git.is_file() {
        // A work tree or submodule: `gitdir: <path>`.
        let text = std::fs::read_to_string(&git).ok()?;
        git = repository.join(text.strip_prefix("gitdir:")?.trim());
    }
    let prefix = root.strip_prefix(repository).ok()?;
    let index = std::fs::read(git.join("index")).ok()?;
    let paths = parse_index(&index)?.into_iter().map(Utf8PathBuf::from).filter(|path| path.starts_with(prefix));
    Some(paths.map(|path| repository.join(path)).collect())
}

/// The paths in a git index of version 2 to 4 (git's `gitformat-index`, for SHA-1 repositories). `None` for
/// anything else, among it split and sparse indices, which do not hold every path themselves.
fn parse_index(bytes: &[u8]) -> Option<Vec<String>> {
    const FIXED: usize = 62;
    const EXTENDED: u16 = 0x4000;
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let version = number(4)?;
    if bytes.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let count = number(8)? as usize;
    let (mut at, mut paths, mut path) = (12, Vec::new(), Vec::new());
    for _ in 0..count {
        let flags = u16::from_be_bytes(bytes.get(at + 60..at + 62)?.try_into().ok()?);
        let begin = at;
        at += FIXED + if flags & EXTENDED == 0 { 0 } else { 2 };
        if version == 4 {
            // The end of the previous path is cut by so many bytes, and what follows is added to it.
            let (cut, length) = offset_number(bytes.get(at..)?)?;
            at += length;
            path.truncate(path.len().checked_sub(cut)?);
        } else {
            path.clear();
        }
        let end = at + memchr::memchr(0, bytes.get(at..)?)?;
        path.extend_from_slice(&bytes[at..end]);
        // Entries of the older versions are filled with one to eight zeros to a multiple of eight bytes.
        at = if version == 4 { end + 1 } else { begin + ((end - begin) / 8 + 1) * 8 };
        paths.push(String::from_utf8(path.clone()).ok()?);
    }
    // Extensions follow: four letters and a length. `link` and `sdir` mean that paths are elsewhere.
    const CHECKSUM: usize = 20;
    while at + 8 <= bytes.len().checked_sub(CHECKSUM)? {
        if matches!(bytes.get(at..at + 4)?, b"link" | b"sdir") {
            return None;
        }
        at = at.checked_add(8)?.checked_add(number(at + 4)? as usize)?;
    }
    Some(paths)
}

/// Git's variable-length number for offsets, and how many bytes it takes.
fn offset_number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = usize::from(bytes.first()? & 0x7f);
    let mut length = 1;
    while bytes[length - 1] & 0x80 != 0 {
        let byte = *bytes.get(length)?;
        value = value.checked_add(1)?.checked_mul(128)? | usize::from(byte & 0x7f);
        length += 1;
    }
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn write(root: &Utf8Path, path: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    fn git(root: &Utf8Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@x"]).args(arguments).current_dir(root);
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    }

    fn listed(root: &Utf8Path, package: &str) -> Vec<String> {
        let package = root.join(package);
        let files = package_files(&package, &[&package.join("out")], &[package.join("nested")].into()).unwrap();
        files.iter().map(|path| path.strip_prefix(&package).unwrap().to_string()).collect()
    }

    #[test]
    fn a_package_has_all_files_but_outputs_and_packages_below() {
        for version in ["2", "4"] {
            let directory = tempfile::tempdir().unwrap();
            let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
            let files = [
                "Cargo.toml",
                "build.rs",
                "src/lib.rs",
                ".hidden",
                "kept.log",
                "target/x",
                "out/y",
                "z.log",
                "template/Cargo.toml",
                "template/target/CACHEDIR.TAG",
            ];
            for file in files {
                write(&root, &format!("p/{file}"));
            }
            write(&root, "p/nested/Cargo.toml");
            write(&root, "p/nested/src/lib.rs");
            write(&root, "outside.txt");
            std::fs::write(root.join(".gitignore"), "*.log\n").unwrap();
            // Without a repository, nothing is ignored but the target directory.
            std::fs::create_dir(root.join("p/src/empty")).unwrap();
            let all = [
                ".hidden",
                "Cargo.toml",
                "build.rs",
                "kept.log",
                "src/empty",
                "src/lib.rs",
                "template/Cargo.toml",
                "z.log",
            ];
            assert_eq!(listed(&root, "p"), all);
            git(&root, &["init", "-q"]);
            git(&root, &["config", "index.version", version]);
            git(&root, &["add", "-f", "p/kept.log", "p/Cargo.toml", "p/src", "outside.txt"]);
            // With one, what it ignores still counts.
            assert_eq!(listed(&root, "p"), all, "version {version}");
        }
    }

    #[test]
    fn a_link_that_leads_in_a_circle_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        write(root, "a/b");
        assert_eq!(files_below(root).unwrap(), [root.join("a/b")]);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root, root.join("a/c")).unwrap();
            assert!(files_below(root).is_err());
        }
    }

    proptest! {
        #[test]
        fn hostile_indices_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..256), version in 2..5_u8) {
            let head = [b'D', b'I', b'R', b'C', 0, 0, 0, version, 0, 0, 0, 3];
            bytes.splice(0..0, head);
            let _any_answer = parse_index(&bytes);
        }
    }
}
