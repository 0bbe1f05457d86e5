//! Files: copies, times, and the final outputs of a build by content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The final files of a build (what is directly in a profile's directory, and examples), by content.
#[derive(Clone, PartialEq, Eq)]
pub struct Outputs {
    files: BTreeMap<PathBuf, Vec<u8>>,
    executable: BTreeSet<PathBuf>,
}

impl Outputs {
    pub(crate) fn read(directory: &Path) -> Self {
        let (mut files, mut executable) = (BTreeMap::new(), BTreeSet::new());
        for part in ["", "examples"] {
            let Ok(entries) = fs::read_dir(directory.join(part)) else { continue };
            for entry in entries.map(Result::unwrap) {
                let path = entry.path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                // Dep-info files name paths, lock files say nothing, and what has a hash in its name is intermediate.
                let is_final = !name.ends_with(".d") && !name.starts_with('.') && !has_hash(&name);
                if path.is_file() && is_final {
                    let relative = Path::new(part).join(name);
                    if fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0 {
                        executable.insert(relative.clone());
                    }
                    files.insert(relative, fs::read(&path).unwrap());
                }
            }
        }
        Self { files, executable }
    }

    /// The names, relative to the profile's directory.
    pub fn names(&self) -> Vec<&str> {
        self.files.keys().map(|path| path.to_str().unwrap()).collect()
    }

    /// The names of those that can be run, relative to the profile's directory.
    pub fn programs(&self) -> Vec<&str> {
        let is_program = |path: &Path| path.extension().is_none() && self.executable.contains(path);
        self.files.keys().filter(|path| is_program(path)).map(|path| path.to_str().unwrap()).collect()
    }

    /// Panics if the two differ, and says where.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        assert_eq!(self.names(), other.names(), "other files");
        let different: Vec<_> =
            self.files.iter().filter(|(path, content)| other.files[*path] != **content).map(|(path, _)| path).collect();
        assert!(different.is_empty(), "the content of these differs: {different:?}");
    }
}

/// Whether a file name ends with cargo's hash, but for its extension.
fn has_hash(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    let hash = stem.rsplit('-').next().unwrap_or_default();
    stem.contains('-') && hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Copies a directory, without the entries of the given names that are directly in it; times are those of now.
pub fn copy_tree(from: &Path, to: &Path, except: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).map(Result::unwrap) {
        let name = entry.file_name();
        if except.iter().any(|skip| name == *skip) {
            continue;
        }
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_tree(&entry.path(), &to.join(&name), &[]);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), to.join(&name)).unwrap();
        } else {
            fs::copy(entry.path(), to.join(&name)).unwrap();
        }
    }
}

/// Every file below a directory.
pub fn walk(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// Whether any file below a directory, or its name, contains these bytes.
pub fn contains_bytes(directory: &Path, bytes: &str) -> Option<PathBuf> {
    walk(directory).into_iter().find(|path| {
        path.to_string_lossy().contains(bytes)
            || fs::read(path).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes.as_bytes())
    })
}

/// Sets the modification time of a file.
pub fn set_modified(path: &Path, time: SystemTime) {
    let writable = fs::metadata(path).unwrap().permissions().mode() & 0o200 != 0;
    assert!(writable, "{} can't be stamped", path.display());
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// Writes other content of the same length, and puts the old modification time back.
pub fn replace_keeping_times(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len(), "the size must stay");
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} doesn't contain {from:?}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
    set_modified(path, time);
}
