//! Which files git tracks below a directory: its index, read without git.
//!
//! Versions 2 to 4 with SHA-1, as gitformat-index describes them. Split and sparse indices are refused.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

/// Why git's index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum GitIndexError {
    /// A file of the repository could not be read.
    #[error("read {path}")]
    Io {
        /// The file.
        path: Utf8PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The index is damaged, or of a kind that we do not read.
    #[error("understand {path}")]
    Unsupported {
        /// The index.
        path: Utf8PathBuf,
    },
}

/// What git tracks below a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracked {
    /// Whether the directory is the root of the work tree.
    pub(super) at_root: bool,
    /// The paths, relative to the directory.
    pub(super) files: BTreeSet<Utf8PathBuf>,
}

/// What git tracks below `directory`. `None` outside of a repository.
pub(super) fn tracked_below(directory: &Utf8Path) -> Result<Option<Tracked>, GitIndexError> {
    let Some((work_tree, repository)) = find_repository(directory)? else { return Ok(None) };
    let below = directory.strip_prefix(&work_tree).unwrap_or(Utf8Path::new(""));
    let path = repository.join("index");
    let names = match fs::read(&path) {
        Ok(bytes) => parse(&bytes).ok_or(GitIndexError::Unsupported { path })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(GitIndexError::Io { path, source }),
    };
    let files = names.iter().filter_map(|name| name.strip_prefix(below).ok().map(Utf8Path::to_owned)).collect();
    Ok(Some(Tracked { at_root: below.as_str().is_empty(), files }))
}

/// The work tree that the directory lies in, and the directory of its index.
fn find_repository(directory: &Utf8Path) -> Result<Option<(Utf8PathBuf, Utf8PathBuf)>, GitIndexError> {
    for ancestor in directory.ancestors() {
        let path = ancestor.join(".git");
        if path.join("HEAD").is_file() {
            return Ok(Some((ancestor.to_owned(), path)));
        }
        if path.is_file() {
            let text = fs::read_to_string(&path).map_err(|source| GitIndexError::Io { path: path.clone(), source })?;
            let Some(place) = text.trim_end().strip_prefix("gitdir: ") else {
                return Err(GitIndexError::Unsupported { path });
            };
            return Ok(Some((ancestor.to_owned(), ancestor.join(place))));
        }
    }
    Ok(None)
}

/// Mode, sizes and times, and a SHA-1, which are not of interest; then the flags.
const FLAGS: usize = 60;

fn parse(bytes: &[u8]) -> Option<Vec<Utf8PathBuf>> {
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (version, count) = (number(4)?, number(8)?);
    if bytes.get(..4)? != b"DIRC" || !(2..=4).contains(&version) {
        return None;
    }
    let mut at: usize = 12;
    let mut name: Vec<u8> = Vec::new();
    let mut names = Vec::new();
    for _ in 0..count {
        let start = at;
        let flags = u16::from_be_bytes(bytes.get(at + FLAGS..at + FLAGS + 2)?.try_into().ok()?);
        // The mode of a directory marks a sparse index.
        if number(at + 24)? >> 12 == 0o4 {
            return None;
        }
        at += FLAGS + if flags & 0x4000 != 0 && version >= 3 { 4 } else { 2 };
        if version == 4 {
            let (stripped, length) = variable_number(bytes.get(at..)?)?;
            at += length;
            name.truncate(name.len().checked_sub(stripped)?);
        } else {
            name.clear();
        }
        let length = bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
        name.extend(&bytes[at..at + length]);
        at += length + 1;
        if version < 4 {
            // Entries are padded with zeros to a multiple of eight.
            at = start + (at - start).next_multiple_of(8);
        }
        // Stages of a conflict are listed one after the other.
        let path = Utf8PathBuf::from(String::from_utf8(name.clone()).ok()?);
        if names.last() != Some(&path) {
            names.push(path);
        }
    }
    let end = bytes.len().checked_sub(20)?;
    while at < end {
        // A split index keeps its names in another file.
        if bytes.get(at..at + 4)? == b"link" {
            return None;
        }
        at += 8 + number(at + 4)? as usize;
    }
    (at == end).then_some(names)
}

/// The offset encoding of git's pack files: seven bits a byte, the highest bit says that more follow.
fn variable_number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = usize::from(bytes.first()? & 0x7f);
    let mut length = 1;
    while bytes[length - 1] & 0x80 != 0 {
        let byte = *bytes.get(length)?;
        value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        length += 1;
    }
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, version in 2u8..5, count in 0u8..4) {
            let head = [&b"DIRC\0\0\0"[..], &[version, 0, 0, 0, count]].concat();
            let _ = parse(&[&head[..], &bytes].concat());
        }
    }

    #[test]
    fn what_git_tracks_is_listed_in_every_version() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let git = |arguments: &[&str]| {
            let status = Command::new("git").current_dir(root).args(arguments).env("HOME", root).status().unwrap();
            assert!(status.success(), "{arguments:?}");
        };
        assert!(tracked_below(root).unwrap().is_none_or(|tracked| tracked.files.is_empty()));
        git(&["init", "-q"]);
        assert_eq!(tracked_below(root).unwrap(), Some(Tracked { at_root: true, files: BTreeSet::new() }));
        let mut expected = Tracked::default();
        for name in ["a/Cargo.toml", "a/src/lib.rs", "a/src/lib2.rs", "a/x", "b/with space", "c"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
            expected.files.extend(Utf8Path::new(name).strip_prefix("a").ok().map(Utf8Path::to_owned));
        }
        git(&["add", "a", "b"]);
        for version in ["2", "3", "4"] {
            git(&["update-index", "--index-version", version]);
            assert_eq!(tracked_below(&root.join("a")).unwrap().unwrap(), expected, "{version}");
            assert_eq!(tracked_below(root).unwrap().unwrap().files.len(), 5);
        }
        git(&["update-index", "--split-index"]);
        assert!(tracked_below(root).is_err());
    }
}
