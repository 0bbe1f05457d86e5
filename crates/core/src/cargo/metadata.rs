//! What `cargo metadata` says: the one call that a build needs, and the shape of its answer.
//!
//! [`read`] spawns cargo once and returns the text, which the caller may keep; [`Metadata::parse`] reads it. The
//! types are those of `cargo_metadata`; only what these cannot hold is read here. `plan` and the command line call it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use cargo_metadata::{Dependency, DependencyKind, Package, Resolve};
use serde::Deserialize;
use serde::de::IgnoredAny;

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
    /// The answer lacks something that every cargo that we know puts there.
    #[error("cargo metadata does not say {0}")]
    Lacking(&'static str),
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

/// The answer of `cargo metadata --format-version 1`.
#[derive(Debug)]
pub struct Metadata {
    /// What `cargo_metadata` reads of it. Default members and the resolved graph are there: [`Metadata::parse`] refuses
    /// an answer without them.
    pub answer: cargo_metadata::Metadata,
    /// `rust-version` of every package, in the order of the packages.
    rust_versions: Vec<Option<String>>,
    artifact_dependencies: bool,
}

impl Metadata {
    /// Reads the answer of `cargo metadata`.
    ///
    /// # Errors
    ///
    /// When the text has another shape.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let remainder: Remainder<'_> = serde_json::from_str(text).map_err(MetadataError::Parse)?;
        let is_whole = |version: &Cow<'_, str>| version.contains('.');
        let answer = if remainder.packages.iter().filter_map(|package| package.rust_version.as_ref()).all(is_whole) {
            serde_json::from_str(text)
        } else {
            // Cargo accepts `rust-version = "1"`, `cargo_metadata` does not. What was read above stands for it.
            without_rust_versions(text).and_then(serde_json::from_value)
        };
        let answer: cargo_metadata::Metadata = answer.map_err(MetadataError::Parse)?;
        if answer.resolve.is_none() {
            return Err(MetadataError::Lacking("who depends on whom"));
        }
        if answer.workspace_default_members.is_missing() {
            return Err(MetadataError::Lacking("which members are built by default"));
        }
        let is_artifact = |dependency: &RemainingDependency| dependency.artifact.is_some();
        let artifact_dependencies =
            remainder.packages.iter().any(|package| package.dependencies.iter().any(is_artifact));
        let rust_versions = remainder.packages.into_iter().map(|package| package.rust_version.map(Cow::into_owned));
        Ok(Self { answer, rust_versions: rust_versions.collect(), artifact_dependencies })
    }

    /// Every package of the resolved graph, each with its `rust-version` as the manifest has it: `1.85` and `1.85.0` are
    /// the same version but different values of `CARGO_PKG_RUST_VERSION`.
    pub fn packages(&self) -> impl ExactSizeIterator<Item = (&Package, Option<&str>)> {
        self.answer.packages.iter().zip(self.rust_versions.iter().map(Option::as_deref))
    }

    /// The resolved graph.
    pub fn resolve(&self) -> &Resolve {
        self.answer.resolve.as_ref().expect("an answer without it was refused when it was read")
    }

    /// Whether some package declares an artifact dependency. These are unstable.
    pub fn has_artifact_dependencies(&self) -> bool {
        self.artifact_dependencies
    }

    /// Where intermediate files go; older cargos than 1.91 have one directory for all.
    pub fn build_directory(&self) -> &Utf8Path {
        self.answer.build_directory.as_deref().unwrap_or(&self.answer.target_directory)
    }
}

/// The name of a dependency in the manifest: what features refer to.
pub fn name_in_manifest(dependency: &Dependency) -> &str {
    dependency.rename.as_deref().unwrap_or(&dependency.name)
}

/// Whether it is a dev-dependency.
pub fn is_dev(dependency: &Dependency) -> bool {
    dependency.kind == DependencyKind::Development
}

/// Whether it is a build-dependency.
pub fn is_build(dependency: &Dependency) -> bool {
    dependency.kind == DependencyKind::Build
}

/// What `cargo_metadata` (0.23) cannot hold.
#[derive(Deserialize)]
struct Remainder<'a> {
    #[serde(borrow)]
    packages: Vec<RemainingPackage<'a>>,
}

#[derive(Deserialize)]
struct RemainingPackage<'a> {
    /// It is a version there, which `1.85` is not, and is filled up to one.
    #[serde(borrow)]
    rust_version: Option<Cow<'a, str>>,
    dependencies: Vec<RemainingDependency>,
}

#[derive(Deserialize)]
struct RemainingDependency {
    /// It has no field for it.
    #[serde(default)]
    artifact: Option<IgnoredAny>,
}

fn without_rust_versions(text: &str) -> serde_json::Result<serde_json::Value> {
    let mut answer: serde_json::Value = serde_json::from_str(text)?;
    for package in answer["packages"].as_array_mut().into_iter().flatten() {
        package["rust_version"] = serde_json::Value::Null;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rust_version: &str, artifact: &str) -> String {
        format!(
            r#"{{"packages":[{{"name":"a","version":"0.1.0","id":"a","source":null,"description":null,"license":null,
            "license_file":null,"readme":null,"repository":null,"homepage":null,"documentation":null,"links":null,
            "publish":null,"default_run":null,"targets":[],"features":{{}},"manifest_path":"/w/Cargo.toml",
            "rust_version":{rust_version},"dependencies":[{{"name":"b","source":null,"req":"^1","kind":"dev",
            "rename":"c","optional":false,"uses_default_features":true,"features":[],"target":null,"registry":null
            {artifact}}}]}}],
            "workspace_members":["a"],"workspace_default_members":["a"],"resolve":{{"nodes":[],"root":null}},
            "target_directory":"/w/target","workspace_root":"/w","version":1,"metadata":null}}"#
        )
    }

    #[test]
    fn the_rust_version_is_what_the_manifest_says() {
        for (json, text) in
            [("\"1.85\"", Some("1.85")), ("\"1.85.0\"", Some("1.85.0")), ("\"1\"", Some("1")), ("null", None)]
        {
            let metadata = Metadata::parse(&answer(json, "")).unwrap();
            assert_eq!(metadata.packages().map(|(_, version)| version).collect::<Vec<_>>(), [text]);
        }
    }

    #[test]
    fn artifact_dependencies_are_seen() {
        let plain = Metadata::parse(&answer("null", "")).unwrap();
        assert!(!plain.has_artifact_dependencies());
        let artifact = r#","artifact":{"kinds":["bin"],"lib":false,"target":null}"#;
        assert!(Metadata::parse(&answer("null", artifact)).unwrap().has_artifact_dependencies());
        let dependency = &plain.answer.packages[0].dependencies[0];
        assert_eq!((name_in_manifest(dependency), is_dev(dependency), is_build(dependency)), ("c", true, false));
    }

    #[test]
    fn an_answer_without_dependencies_or_default_members_is_refused() {
        let whole = answer("null", "");
        let unresolved = whole.replace(r#"{"nodes":[],"root":null}"#, "null");
        assert!(matches!(Metadata::parse(&unresolved), Err(MetadataError::Lacking(_))));
        let old = whole.replace(r#""workspace_default_members":["a"],"#, "");
        assert!(matches!(Metadata::parse(&old), Err(MetadataError::Lacking(_))));
    }
}
