//! The skeleton of a workspace: all that decides how its third-party dependencies are compiled, and nothing that people
//! edit every day.
//!
//! ```text
//! manifests   what concerns dependencies, features, profiles and targets; our own versions are 0.0.0
//! Cargo.lock  with these versions
//! targets     a small file each; every target is named with its place, so nothing depends on what cargo finds
//! .cargo      as it is, with what its configuration names by a path
//! packages    that packages from elsewhere are compiled against (`[patch]` with a path): as they are
//! ```
//!
//! `nix/lib/internal/skeleton.nix` makes the same one while evaluating, and `nix/checks/skeleton` holds trees that both
//! must make. Only manifests that cargo would read are read. It reads files, and writes only where it is told to.

mod lock;
mod manifest;
mod packages;
mod toml_text;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use packages::WorkspacePackages;

/// Why a workspace has no skeleton.
#[derive(Debug, thiserror::Error)]
pub enum SkeletonError {
    /// A file can't be read or written.
    #[error("{action} {path}")]
    File {
        /// What was to be done, as a verb.
        action: &'static str,
        /// With what.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A manifest, a lock file or a configuration file is none.
    #[error("read {path}")]
    Toml {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: toml::de::Error,
    },
    /// A manifest has no package, or the package no name.
    #[error("read {path}: it names no package")]
    NoPackage {
        /// The manifest.
        path: Utf8PathBuf,
    },
    /// A member isn't there.
    #[error("find the member {member}: there is no Cargo.toml")]
    Member {
        /// As the workspace names it.
        member: String,
    },
    /// A target's file is not in the workspace.
    #[error("write {path}, which a manifest names: it is outside of the workspace")]
    Outside {
        /// The file.
        path: Utf8PathBuf,
    },
    /// A path dependency leads out of the workspace, or to nothing.
    #[error("find the dependency {name} of {manifest}: there is no package at {path} in the workspace")]
    Dependency {
        /// The manifest.
        manifest: Utf8PathBuf,
        /// The dependency.
        name: String,
        /// Where it should be.
        path: String,
    },
}

/// What stands for a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stub {
    /// A program, an example, a test or a bench.
    Program,
    /// A library.
    Library,
    /// A proc macro.
    Macro,
    /// A build script.
    Script,
}

/// A file of a skeleton.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkeletonFile {
    /// With this text.
    Text(String),
    /// That stands for a source file.
    Stub(Stub),
}

/// The skeleton of a workspace. See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// Its files, by their paths in the workspace.
    pub files: BTreeMap<Utf8PathBuf, SkeletonFile>,
    /// What is taken from the workspace with all that is in it.
    pub copied: BTreeSet<Utf8PathBuf>,
    /// The packages that are what they are.
    pub kept: BTreeSet<String>,
}

/// Targets without an operating system have no standard library, and what is linked for them needs somebody to call when
/// all is lost.
const BARE: &str = r#"any(target_os = "none", target_os = "uefi", target_os = "cuda")"#;

impl Stub {
    /// The text of the file.
    pub fn text(self) -> String {
        let lost = format!(
            "#[cfg({BARE})]\n#[panic_handler]\nfn lost(_: &core::panic::PanicInfo<'_>) -> ! {{\n    loop {{}}\n}}\n"
        );
        match self {
            Self::Program => {
                format!("#![cfg_attr({BARE}, no_std, no_main)]\n\n{lost}\n#[cfg(not({BARE}))]\nfn main() {{}}\n")
            }
            Self::Library => format!("#![cfg_attr({BARE}, no_std)]\n\n{lost}"),
            Self::Macro => String::new(),
            // A script runs on the machine that builds, which has an operating system.
            Self::Script => "fn main() {}\n".to_owned(),
        }
    }
}

impl Skeleton {
    /// The skeleton of the workspace whose root manifest is in `root`.
    pub fn of(root: &Utf8Path) -> Result<Self, SkeletonError> {
        let packages = WorkspacePackages::read(root)?;
        let lock = lock::LockFile::read(root)?;
        let kept = lock.needed_by_others();
        let mut files = manifest::files(&packages, &kept);
        let versions = manifest::new_versions(&packages, &kept);
        files.insert("Cargo.lock".into(), SkeletonFile::Text(lock.with_versions(&versions)));
        let mut copied: BTreeSet<Utf8PathBuf> = packages
            .packages
            .iter()
            .filter(|package| kept.contains(&package.name))
            .map(|package| package.directory.clone())
            .collect();
        copied.extend(configured(root)?);
        Ok(Self { files, copied, kept })
    }

    /// Writes the skeleton of `root` to `destination`, which is made.
    pub fn write(&self, root: &Utf8Path, destination: &Utf8Path) -> Result<(), SkeletonError> {
        make_directory(destination)?;
        for path in &self.copied {
            copy(&root.join(path), &destination.join(path))?;
        }
        for (path, file) in &self.files {
            // A target's path comes from a manifest, and can lead anywhere.
            let inside = packages::join(Utf8Path::new(""), path.as_str());
            let path = destination.join(inside.ok_or_else(|| SkeletonError::Outside { path: path.clone() })?);
            make_directory(path.parent().expect("a file of the skeleton is in a directory"))?;
            let text = match file {
                SkeletonFile::Text(text) => text.clone(),
                SkeletonFile::Stub(stub) => stub.text(),
            };
            fs::write(&path, text).map_err(failed("write", &path))?;
        }
        Ok(())
    }
}

/// Cargo's configuration, the toolchain file, and the files that the configuration names.
fn configured(root: &Utf8Path) -> Result<Vec<Utf8PathBuf>, SkeletonError> {
    let mut found: Vec<Utf8PathBuf> = ["rust-toolchain", "rust-toolchain.toml", ".cargo"]
        .into_iter()
        .filter(|name| root.join(name).exists())
        .map(Utf8PathBuf::from)
        .collect();
    let config = [".cargo/config.toml", ".cargo/config"].into_iter().find(|name| root.join(name).is_file());
    if let Some(config) = config {
        let named = manifest::paths_in_config(&read_toml(&root.join(config))?);
        let named = named.iter().filter_map(|path| packages::join(Utf8Path::new(""), path));
        found.extend(named.filter(|path| !path.starts_with(".cargo") && root.join(path).exists()));
    }
    Ok(found)
}

fn failed(action: &'static str, path: &Utf8Path) -> impl FnOnce(io::Error) -> SkeletonError {
    move |source| SkeletonError::File { action, path: path.to_owned(), source }
}

fn make_directory(path: &Utf8Path) -> Result<(), SkeletonError> {
    fs::create_dir_all(path).map_err(failed("make", path))
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<(), SkeletonError> {
    if !from.is_dir() {
        make_directory(to.parent().expect("a file of the skeleton is in a directory"))?;
        return fs::copy(from, to).map(|_| ()).map_err(failed("copy", from));
    }
    make_directory(to)?;
    for entry in from.read_dir_utf8().map_err(failed("list", from))? {
        let entry = entry.map_err(failed("list", from))?;
        copy(entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn read_toml(path: &Utf8Path) -> Result<toml::Table, SkeletonError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    text.parse().map_err(|source| SkeletonError::Toml { path: path.to_owned(), source })
}
