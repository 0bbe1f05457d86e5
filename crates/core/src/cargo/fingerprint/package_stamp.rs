//! The newest file of a path package, as cargo puts it into the fingerprint of a build script's run without
//! directives, and of `doc` units: `<seconds>.<nanoseconds>s (<path>)` (`sources/path.rs`).
//!
//! The stamp only has to be the one that cargo computes, so that cargo believes a restored unit. Whether the
//! files are the same is judged by their content, elsewhere. A stamp that differs from cargo's costs a rebuild.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::{DirEntry, WalkBuilder};

use super::git_index::{self, GitIndexError, Tracked};
use super::relocate::Stamp;

/// Why the newest file of a package is not known.
#[derive(Debug, thiserror::Error)]
pub enum PackageStampError {
    /// A file or directory could not be read.
    #[error("read {path}")]
    Io {
        /// The path.
        path: Utf8PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The manifest could not be understood.
    #[error("read the rules `include` and `exclude` of {path}")]
    Manifest {
        /// The manifest.
        path: Utf8PathBuf,
    },
    /// The package could not be walked, or has a rule that is no pattern.
    #[error("list the files of {path}")]
    Walk {
        /// The package root.
        path: Utf8PathBuf,
        /// What went wrong.
        source: ignore::Error,
    },
    /// The index of the git repository can't be read.
    #[error("list what git tracks in {path}")]
    Git {
        /// The package root.
        path: Utf8PathBuf,
        /// What went wrong.
        source: GitIndexError,
    },
}

/// The newest file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestFile {
    /// Its path.
    pub path: Utf8PathBuf,
    /// When it was modified.
    pub time: SystemTime,
    root: Utf8PathBuf,
}

impl NewestFile {
    /// As cargo writes it.
    pub fn stamp(&self) -> Stamp {
        let path = self.path.strip_prefix(&self.root).unwrap_or(&self.path);
        let time = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}.{:09}s ({path})", time.as_secs(), time.subsec_nanos())
    }
}

/// The newest file of the package below `package_root`. `workspace_root` is where inherited rules are looked up.
///
/// Which files count is cargo's rule for packaging: with `include`, what it names; else what git tracks or
/// does not ignore, if git tracks the manifest; else everything but hidden files. Less `exclude`, `target` and
/// packages below. Of equally new files the first counts, in the order of the directory.
pub fn newest_file(package_root: &Utf8Path, workspace_root: &Utf8Path) -> Result<NewestFile, PackageStampError> {
    let mut newest = NewestFile { path: Utf8PathBuf::new(), time: UNIX_EPOCH, root: package_root.to_owned() };
    for path in package_files(package_root, workspace_root)? {
        let time = fs::metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
        if time > newest.time {
            newest.time = time;
            newest.path = path;
        }
    }
    Ok(newest)
}

/// The files of a package, in the order in which cargo finds them.
fn package_files(root: &Utf8Path, workspace_root: &Utf8Path) -> Result<Vec<Utf8PathBuf>, PackageStampError> {
    let mut rules = Rules::read(root, workspace_root)?;
    if rules.include.is_some() {
        return walked_files(root, &rules);
    }
    let tracked =
        git_index::tracked_below(root).map_err(|source| PackageStampError::Git { path: root.to_owned(), source })?;
    match tracked {
        Some(tracked) if tracked.files.contains(Utf8Path::new("Cargo.toml")) => git_files(root, &rules, &tracked),
        _ => {
            rules.exclude_hidden()?;
            walked_files(root, &rules)
        }
    }
}

/// What git tracks or does not ignore.
fn git_files(root: &Utf8Path, rules: &Rules, tracked: &Tracked) -> Result<Vec<Utf8PathBuf>, PackageStampError> {
    let owned_root = root.to_owned();
    let mut walk = WalkBuilder::new(root);
    walk.hidden(false).ignore(false).filter_entry(move |entry| {
        entry.depth() == 0 || (entry.file_name() != ".git" && !is_foreign(&owned_root, entry))
    });
    let mut files: Vec<Utf8PathBuf> = collect(root, &mut walk)?
        .into_iter()
        // Cargo looks for this name at the root of the repository alone.
        .filter(|file| file != "Cargo.lock" || !tracked.at_root || tracked.files.contains(file))
        .collect();
    // What is tracked although it is ignored, or lies in `target`: cargo comes by it on its walk, or at its end.
    let found: BTreeSet<Utf8PathBuf> = files.iter().cloned().collect();
    for path in &tracked.files {
        let in_package_below = path
            .ancestors()
            .skip(1)
            .any(|directory| !directory.as_str().is_empty() && root.join(directory).join("Cargo.toml").is_file());
        if !found.contains(path) && !in_package_below && root.join(path).symlink_metadata().is_ok() {
            files.push(path.clone());
        }
    }
    Ok(files.into_iter().filter(|file| rules.allows(file, false)).map(|file| root.join(file)).collect())
}

/// Everything below the package root.
fn walked_files(root: &Utf8Path, rules: &Rules) -> Result<Vec<Utf8PathBuf>, PackageStampError> {
    let mut walk = WalkBuilder::new(root);
    let (owned_root, owned_rules) = (root.to_owned(), rules.clone());
    walk.standard_filters(false).follow_links(true).filter_entry(move |entry| {
        let Some(path) = Utf8Path::from_path(entry.path()) else { return false };
        let Ok(relative) = path.strip_prefix(&owned_root) else { return false };
        let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
        entry.depth() == 0 || (owned_rules.allows(relative, is_directory) && !is_foreign(&owned_root, entry))
    });
    Ok(collect(root, &mut walk)?.into_iter().map(|file| root.join(file)).collect())
}

/// The files that a walk finds, relative to the root. What can't be read counts as a file without a time.
fn collect(root: &Utf8Path, walk: &mut WalkBuilder) -> Result<Vec<Utf8PathBuf>, PackageStampError> {
    let mut files = Vec::new();
    for entry in walk.build() {
        let Ok(entry) = entry else { continue };
        let path = Utf8Path::from_path(entry.path()).ok_or_else(|| PackageStampError::Io {
            path: root.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, "a file name is not UTF-8"),
        })?;
        if entry.file_type().is_some_and(|kind| !kind.is_dir())
            && let Ok(relative) = path.strip_prefix(root)
        {
            files.push(relative.to_owned());
        }
    }
    Ok(files)
}

/// Whether a directory is `target`, or the root of another package.
fn is_foreign(root: &Utf8Path, entry: &DirEntry) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_dir())
        && (entry.path() == root.join("target") || entry.path().join("Cargo.toml").exists())
}

/// `include` and `exclude` of the manifest.
#[derive(Clone)]
struct Rules {
    root: Utf8PathBuf,
    include: Option<Gitignore>,
    exclude: Gitignore,
    exclude_lines: Vec<String>,
}

impl Rules {
    fn read(root: &Utf8Path, workspace_root: &Utf8Path) -> Result<Self, PackageStampError> {
        let manifest = read_manifest(&root.join("Cargo.toml"))?;
        let list = |name: &str| -> Result<Vec<String>, PackageStampError> {
            let package = manifest.get("package").or_else(|| manifest.get("project"));
            let value = match package.and_then(|package| package.get(name)) {
                Some(toml::Value::Table(inherited)) if inherited.contains_key("workspace") => {
                    let workspace = read_manifest(&workspace_root.join("Cargo.toml"))?;
                    workspace.get("workspace").and_then(|table| table.get("package")?.get(name).cloned())
                }
                value => value.cloned(),
            };
            let Some(value) = value else { return Ok(Vec::new()) };
            value.try_into().map_err(|_| PackageStampError::Manifest { path: root.join("Cargo.toml") })
        };
        let (include, exclude_lines) = (list("include")?, list("exclude")?);
        let include = if include.is_empty() { None } else { Some(patterns(root, &include)?) };
        Ok(Self { root: root.to_owned(), include, exclude: patterns(root, &exclude_lines)?, exclude_lines })
    }

    /// Leaves out hidden files too. The rule goes first, so that `exclude` can take it back.
    fn exclude_hidden(&mut self) -> Result<(), PackageStampError> {
        self.exclude_lines.insert(0, ".*".into());
        self.exclude = patterns(&self.root, &self.exclude_lines)?;
        Ok(())
    }

    fn allows(&self, path: &Utf8Path, is_directory: bool) -> bool {
        if matches!(path.as_str(), "Cargo.toml" | "Cargo.lock") {
            return true;
        }
        match &self.include {
            None => !self.exclude.matched_path_or_any_parents(path, is_directory).is_ignore(),
            Some(include) => is_directory || include.matched_path_or_any_parents(path, false).is_ignore(),
        }
    }
}

fn patterns(root: &Utf8Path, lines: &[String]) -> Result<Gitignore, PackageStampError> {
    let failed = |source| PackageStampError::Walk { path: root.to_owned(), source };
    let mut builder = GitignoreBuilder::new(root);
    for line in lines {
        builder.add_line(None, line).map_err(failed)?;
    }
    builder.build().map_err(failed)
}

fn read_manifest(path: &Utf8Path) -> Result<toml::Table, PackageStampError> {
    let text = fs::read_to_string(path).map_err(|source| PackageStampError::Io { path: path.to_owned(), source })?;
    text.parse().map_err(|_| PackageStampError::Manifest { path: path.to_owned() })
}
