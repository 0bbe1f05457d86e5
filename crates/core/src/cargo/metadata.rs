//! What `cargo metadata` says: the one call that a build needs, and the shape of its answer.
//!
//! [`read`] spawns cargo once and returns the text, which the caller may keep; [`Metadata::parse`] reads it
//! without copying. Only the fields that planning needs are here. `plan` and the command line call it.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Deref;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::arguments::CargoCommand;
use crate::environment::Environment;

/// Why there is no metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Cargo could not be started.
    #[error("start {cargo} metadata")]
    Spawn {
        /// The cargo that was tried.
        cargo: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Cargo refused. It would refuse the build for the same reason, and say so itself.
    #[error("cargo metadata exited with {status}")]
    Refused {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The answer is not text.
    #[error("cargo metadata printed bytes that are not UTF-8")]
    NotText,
    /// The answer has another shape.
    #[error("read the answer of cargo metadata")]
    Parse(#[source] serde_json::Error),
}

/// Asks cargo for the metadata of the workspace that `command` is about: once, with every feature, so that the
/// answer holds every edge that any selection of features can need. With `platforms`, only the edges that these
/// targets have are in it, and the packages of others are not downloaded.
///
/// # Errors
///
/// When cargo does not start, or refuses.
pub fn read(
    cargo: &Utf8Path,
    current_dir: &Utf8Path,
    command: &CargoCommand,
    environment: &Environment,
    platforms: &[String],
) -> Result<String, MetadataError> {
    let mut metadata = Command::new(cargo);
    metadata.args(arguments(command, platforms)).current_dir(current_dir).env_clear().envs(environment.iter());
    if let Some(directory) = &command.target_directory {
        // `cargo metadata` has no `--target-dir`; the variable says the same.
        let base = command.directory.as_ref().map_or(current_dir.to_owned(), |base| current_dir.join(base));
        metadata.env("CARGO_TARGET_DIR", base.join(directory));
    }
    let output = metadata
        .stdin(Stdio::null())
        .output()
        .map_err(|source| MetadataError::Spawn { cargo: cargo.to_owned(), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(MetadataError::Refused { status: output.status, stderr });
    }
    String::from_utf8(output.stdout).map_err(|_| MetadataError::NotText)
}

/// The arguments of the call that [`read`] makes.
pub fn arguments(command: &CargoCommand, platforms: &[String]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = command.global_arguments().collect();
    arguments.extend(["metadata", "--format-version=1", "--all-features"].map(OsString::from));
    if let Some(path) = &command.manifest_path {
        arguments.extend(["--manifest-path".into(), path.as_str().into()]);
    }
    for platform in platforms {
        arguments.extend(["--filter-platform".into(), platform.into()]);
    }
    arguments
}

/// A string of the answer, borrowed from it where it holds no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The answer of `cargo metadata --format-version 1`.
#[derive(Debug, Deserialize)]
pub struct Metadata<'a> {
    /// Every package of the resolved graph.
    #[serde(borrow)]
    pub packages: Vec<Package<'a>>,
    /// The package ids of the members.
    pub workspace_members: Vec<Text<'a>>,
    /// The package ids of the default members.
    #[serde(default)]
    pub workspace_default_members: Vec<Text<'a>>,
    /// Who depends on whom.
    pub resolve: Resolve<'a>,
    /// Where final files go.
    pub target_directory: Text<'a>,
    /// Where intermediate files go (cargo 1.91 and newer).
    pub build_directory: Option<Text<'a>>,
    /// The directory of the root manifest.
    pub workspace_root: Text<'a>,
}

/// A package.
#[derive(Debug, Deserialize)]
pub struct Package<'a> {
    /// The name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The version.
    pub version: Text<'a>,
    /// The package id.
    pub id: Text<'a>,
    /// The source, `None` for path packages.
    pub source: Option<Text<'a>>,
    /// Declared dependencies.
    pub dependencies: Vec<Dependency<'a>>,
    /// Targets, in the order of the manifest.
    pub targets: Vec<Target<'a>>,
    /// Declared features, those that optional dependencies imply included.
    pub features: BTreeMap<Text<'a>, Vec<Text<'a>>>,
    /// The manifest.
    pub manifest_path: Text<'a>,
    /// `[package.metadata]`, unread.
    pub metadata: Option<&'a RawValue>,
    /// `authors`
    #[serde(default)]
    pub authors: Vec<Text<'a>>,
    /// `description`
    pub description: Option<Text<'a>>,
    /// `homepage`
    pub homepage: Option<Text<'a>>,
    /// `repository`
    pub repository: Option<Text<'a>>,
    /// `license`
    pub license: Option<Text<'a>>,
    /// `license-file`
    pub license_file: Option<Text<'a>>,
    /// `readme`
    pub readme: Option<Text<'a>>,
    /// `rust-version`
    pub rust_version: Option<Text<'a>>,
    /// `links`
    pub links: Option<Text<'a>>,
    /// `default-run`
    pub default_run: Option<Text<'a>>,
}

/// A declared dependency.
#[derive(Debug, Deserialize)]
pub struct Dependency<'a> {
    /// The package's name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The version requirement.
    pub req: Text<'a>,
    /// `None`, `dev` or `build`.
    pub kind: Option<Text<'a>>,
    /// The name in the manifest, where it differs from the package's.
    pub rename: Option<Text<'a>>,
    /// Whether it is optional.
    pub optional: bool,
    /// Whether the default features are asked for.
    pub uses_default_features: bool,
    /// The features that are asked for.
    pub features: Vec<Text<'a>>,
    /// A `cfg(…)` expression or a triple.
    pub target: Option<Text<'a>>,
    /// Artifact dependencies are unstable.
    #[serde(default)]
    pub artifact: Option<&'a RawValue>,
}

impl Dependency<'_> {
    /// The name in the manifest: what features refer to.
    pub fn name_in_manifest(&self) -> &str {
        self.rename.as_deref().unwrap_or(&self.name)
    }

    /// Whether it is a dev-dependency.
    pub fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }

    /// Whether it is a build-dependency.
    pub fn is_build(&self) -> bool {
        self.kind.as_deref() == Some("build")
    }
}

/// A target of a package.
#[derive(Debug, Deserialize)]
pub struct Target<'a> {
    /// `lib`, `rlib`, `proc-macro`, `bin`, `example`, `test`, `bench`, `custom-build`.
    #[serde(borrow)]
    pub kind: Vec<Text<'a>>,
    /// The crate types.
    pub crate_types: Vec<Text<'a>>,
    /// The name.
    pub name: Text<'a>,
    /// The root source file.
    pub src_path: Text<'a>,
    /// The edition.
    pub edition: Text<'a>,
    /// Features without which the target is not built.
    #[serde(default, rename = "required-features")]
    pub required_features: Vec<Text<'a>>,
    /// Whether `cargo doc` documents it.
    #[serde(default)]
    pub doc: bool,
    /// Whether `cargo test` runs its documentation tests.
    #[serde(default)]
    pub doctest: bool,
    /// Whether `cargo test` builds it.
    #[serde(default)]
    pub test: bool,
}

/// The resolved graph.
#[derive(Debug, Deserialize)]
pub struct Resolve<'a> {
    /// One node for every package.
    #[serde(borrow)]
    pub nodes: Vec<Node<'a>>,
    /// The package of the current directory, or of `--manifest-path`.
    pub root: Option<Text<'a>>,
}

/// A package of the resolved graph.
#[derive(Debug, Deserialize)]
pub struct Node<'a> {
    /// The package id.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// What it depends on.
    pub deps: Vec<NodeDependency<'a>>,
}

/// An edge of the resolved graph.
#[derive(Debug, Deserialize)]
pub struct NodeDependency<'a> {
    /// The name of the extern crate.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The package id.
    pub pkg: Text<'a>,
    /// As what it is depended upon.
    pub dep_kinds: Vec<DependencyKind<'a>>,
}

/// As what, and for which platform, a package is depended upon.
#[derive(Debug, Deserialize)]
pub struct DependencyKind<'a> {
    /// `None`, `dev` or `build`.
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    /// A `cfg(…)` expression or a triple.
    pub target: Option<Text<'a>>,
}

impl<'a> Metadata<'a> {
    /// Reads the answer of `cargo metadata`.
    ///
    /// # Errors
    ///
    /// When the text has another shape.
    pub fn parse(text: &'a str) -> Result<Self, MetadataError> {
        serde_json::from_str(text).map_err(MetadataError::Parse)
    }

    /// Where intermediate files go.
    pub fn build_directory(&self) -> &Utf8Path {
        Utf8Path::new(&**self.build_directory.as_ref().unwrap_or(&self.target_directory))
    }
}
