//! A digest of a crate's sources, for crates whose version does not change with every change.
//!
//! It is a name and no key: what is published under it never changes, so a source that it misses shows as a refusal,
//! not as a wrong library. It needs neither cargo nor git. It holds the files of the package and of the packages that
//! it depends upon by path (`dependencies` and `build-dependencies`), the lock file, the workspace's manifest and the
//! toolchain file; texts in Markdown are left out. `elixir/lib/cargo_nixcache/source.ex` makes the same digest where
//! there is none of our programs: `tests/nif_elixir` compares the two.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use ignore::WalkBuilder;
use toml::{Table, Value};

use crate::nix::{Sha256, Sha256Hasher};

/// Files of the workspace that count beside the packages.
const OF_WORKSPACE: [&str; 4] = ["Cargo.lock", "Cargo.toml", "rust-toolchain", "rust-toolchain.toml"];

/// Why sources have no digest.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file can't be read.
    #[error("read {path}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A manifest is no TOML.
    #[error("understand {path}")]
    Manifest {
        /// The manifest.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: toml::de::Error,
    },
    /// A directory can't be listed.
    #[error("list {path}")]
    List {
        /// The directory.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: ignore::Error,
    },
    /// A name is not UTF-8.
    #[error("read the sources in {path}: a name there is not UTF-8")]
    Name {
        /// The directory.
        path: Utf8PathBuf,
    },
}

/// The packages that the sources of a NIF are in.
struct Sources {
    /// Where the lock file of the workspace is.
    root: Utf8PathBuf,
    /// The directories of the packages.
    packages: BTreeSet<Utf8PathBuf>,
}

impl Sources {
    fn of(manifest: &Utf8Path) -> Result<Self, SourceError> {
        let read = |source| SourceError::File { path: manifest.to_owned(), source };
        let manifest = manifest.canonicalize_utf8().map_err(read)?;
        let start = parent(&manifest);
        let root = workspace_root(&start);
        let shared = match root.join("Cargo.toml") {
            manifest if manifest.is_file() => read_manifest(&manifest)?,
            _ => Table::new(),
        };
        let mut packages = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(directory) = waiting.pop() {
            if packages.contains(&directory) {
                continue;
            }
            let table = read_manifest(&directory.join("Cargo.toml"))?;
            for path in path_dependencies(&table, &directory, &shared, &root) {
                let read = |source| SourceError::File { path: path.clone(), source };
                waiting.push(path.canonicalize_utf8().map_err(read)?);
            }
            packages.insert(directory);
        }
        Ok(Self { root, packages })
    }
}

/// The directories that [`source_digest`] looks into, as they are seen from another directory: of the package with this
/// manifest and of those that it depends upon by path.
pub fn source_directories(manifest: &Utf8Path, seen_from: &Utf8Path) -> Result<BTreeSet<String>, SourceError> {
    let read = |source| SourceError::File { path: seen_from.to_owned(), source };
    let seen_from = seen_from.canonicalize_utf8().map_err(read)?;
    let named = |directory: &Utf8PathBuf| match from(&seen_from, directory) {
        own if own.is_empty() => ".".to_owned(),
        name => name,
    };
    Ok(Sources::of(manifest)?.packages.iter().map(named).collect())
}

/// The digest of the sources of the package with this manifest.
pub fn source_digest(manifest: &Utf8Path) -> Result<[u8; 32], SourceError> {
    let Sources { root, packages } = Sources::of(manifest)?;
    // Named from the workspace, so that another checkout has the same names.
    let mut files: BTreeMap<String, Utf8PathBuf> = BTreeMap::new();
    for directory in &packages {
        for file in package_files(directory)? {
            files.insert(from(&root, &file), file);
        }
    }
    for name in OF_WORKSPACE {
        let file = root.join(name);
        if file.is_file() {
            files.insert(from(&root, &file), file);
        }
    }
    let mut hasher = Sha256Hasher::new();
    for (name, path) in files {
        let bytes = std::fs::read(&path).map_err(|source| SourceError::File { path: path.clone(), source })?;
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(Sha256::of(&bytes).as_bytes());
    }
    Ok(*hasher.finish().as_bytes())
}

fn parent(path: &Utf8Path) -> Utf8PathBuf {
    path.parent().unwrap_or(Utf8Path::new("")).to_owned()
}

fn read_manifest(path: &Utf8Path) -> Result<Table, SourceError> {
    let text = std::fs::read_to_string(path).map_err(|source| SourceError::File { path: path.to_owned(), source })?;
    text.parse().map_err(|source| SourceError::Manifest { path: path.to_owned(), source })
}

/// The nearest directory above with a lock file; without any the package's own.
fn workspace_root(start: &Utf8Path) -> Utf8PathBuf {
    start.ancestors().find(|directory| directory.join("Cargo.lock").is_file()).unwrap_or(start).to_owned()
}

/// A path as seen from the root: with `..` where it is outside.
fn from(root: &Utf8Path, path: &Utf8Path) -> String {
    let shared = root.components().zip(path.components()).take_while(|(one, two)| one == two).count();
    let up = root.components().skip(shared).map(|_| "..");
    up.chain(path.components().skip(shared).map(|part| part.as_str())).collect::<Vec<_>>().join("/")
}

/// The directories of the packages that this one depends upon by path.
fn path_dependencies(manifest: &Table, directory: &Utf8Path, shared: &Table, root: &Utf8Path) -> Vec<Utf8PathBuf> {
    let tables = |table: &Table| -> Vec<Table> {
        ["dependencies", "build-dependencies"].iter().filter_map(|name| table.get(*name)?.as_table().cloned()).collect()
    };
    let mut all = tables(manifest);
    for platform in manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values) {
        all.extend(platform.as_table().map(tables).unwrap_or_default());
    }
    let shared = shared.get("workspace").and_then(|workspace| workspace.get("dependencies")?.as_table());
    let path_of = |name: &str, dependency: &Value| -> Option<Utf8PathBuf> {
        if dependency.get("workspace").and_then(Value::as_bool) == Some(true) {
            return Some(root.join(shared?.get(name)?.get("path")?.as_str()?));
        }
        Some(directory.join(dependency.get("path")?.as_str()?))
    };
    all.iter().flatten().filter_map(|(name, dependency)| path_of(name, dependency)).collect()
}

/// The files of a package that git would track, without those of packages inside it.
fn package_files(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, SourceError> {
    let own = directory.to_owned();
    let walk = WalkBuilder::new(directory)
        .hidden(false)
        .require_git(false)
        .filter_entry(move |entry| {
            let name = entry.file_name();
            let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
            let other = is_directory && entry.path() != own.as_std_path() && entry.path().join("Cargo.toml").is_file();
            !(other || is_directory && (name == ".git" || name == "target"))
        })
        .build();
    let mut files = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|source| SourceError::List { path: directory.to_owned(), source })?;
        if entry.file_type().is_none_or(|kind| !kind.is_file()) {
            continue;
        }
        let path = Utf8PathBuf::from_path_buf(entry.into_path())
            .map_err(|_| SourceError::Name { path: directory.to_owned() })?;
        if path.extension() != Some("md") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Utf8Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
    }

    fn workspace(root: &Utf8Path) {
        write(
            root,
            &[
                ("Cargo.toml", "[workspace]\nmembers = ['*']\n[workspace.dependencies]\nshared = { path = 'shared' }"),
                ("Cargo.lock", "version = 4"),
                ("nif/Cargo.toml", "[package]\nname = 'nif'\n[dependencies]\nshared.workspace = true"),
                ("nif/src/lib.rs", ""),
                ("nif/README.md", ""),
                ("nif/.gitignore", "*.tmp"),
                ("shared/Cargo.toml", "[package]\nname = 'shared'\n[dependencies]\ndeep = { path = '../deep' }"),
                ("shared/src/lib.rs", ""),
                ("deep/Cargo.toml", "[package]\nname = 'deep'"),
                ("deep/src/lib.rs", ""),
                ("other/Cargo.toml", "[package]\nname = 'other'"),
            ],
        );
    }

    #[test]
    fn what_belongs_to_a_crate_changes_its_digest_and_nothing_else_does() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (Utf8Path::from_path(here.path()).unwrap(), Utf8Path::from_path(there.path()).unwrap());
        let there = there.join("deeper/down");
        workspace(here);
        workspace(&there);
        let digest = |root: &Utf8Path| source_digest(&root.join("nif/Cargo.toml")).unwrap();
        let before = digest(here);
        assert_eq!(digest(&there), before, "another checkout");
        for (path, text) in [
            ("nif/README.md", "x"),
            ("other/src/lib.rs", "x"),
            ("nif/x.tmp", "x"),
            ("nif/target/x", "x"),
            ("nif/README.md", ""),
        ] {
            write(&there, &[(path, text)]);
            assert_eq!(digest(&there), before, "{path}");
        }
        for path in
            ["nif/src/lib.rs", "shared/src/lib.rs", "deep/src/new.rs", "Cargo.lock", "Cargo.toml", "rust-toolchain"]
        {
            let old = std::fs::read_to_string(there.join(path)).unwrap_or_default();
            let now = digest(&there);
            write(&there, &[(path, &format!("{old}\n# changed"))]);
            assert_ne!(digest(&there), now, "{path}");
        }
    }

    #[test]
    fn the_directories_are_told_from_where_the_lock_is() {
        let here = tempfile::tempdir().unwrap();
        let here = Utf8Path::from_path(here.path()).unwrap();
        workspace(here);
        let seen_from = |directory: &str| source_directories(&here.join("nif/Cargo.toml"), &here.join(directory));
        assert_eq!(seen_from("").unwrap(), ["deep", "nif", "shared"].map(str::to_owned).into());
        assert_eq!(seen_from("nif").unwrap(), [".", "../deep", "../shared"].map(str::to_owned).into());
    }

    #[test]
    fn a_dependency_that_is_not_there_is_an_error() {
        let here = tempfile::tempdir().unwrap();
        let here = Utf8Path::from_path(here.path()).unwrap();
        workspace(here);
        std::fs::remove_dir_all(here.join("deep")).unwrap();
        assert!(matches!(source_digest(&here.join("nif/Cargo.toml")), Err(SourceError::File { .. })));
    }
}
