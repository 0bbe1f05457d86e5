//! What planning needs of the manifests themselves because `cargo metadata` leaves it out: the resolver, the
//! profiles, `bench` and `harness` of targets, unstable cargo features. And the files it reads them from.

use std::collections::{BTreeMap, HashMap};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::PlanError;
use crate::cargo::arguments::CargoCommand;
use crate::cargo::config::BuildConfiguration;
use crate::cargo::metadata::{self, Metadata};
use crate::cargo::profile::ProfileTable;
use crate::cargo::toolchain::Toolchain;
use crate::environment::Environment;
use crate::unit::TargetKind;

/// The texts of the files that planning needs beside the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceFiles {
    /// The root manifest.
    pub root_manifest: String,
    /// `Cargo.lock` beside it, for the checksums.
    pub lock: Option<String>,
    /// The manifests of the members and the other path packages, by path.
    pub manifests: BTreeMap<Utf8PathBuf, String>,
}

impl WorkspaceFiles {
    /// Reads the files of the workspace that `metadata` is about.
    ///
    /// # Errors
    ///
    /// When a manifest cannot be read. A missing lock file is none.
    pub fn read(metadata: &Metadata) -> Result<Self, PlanError> {
        let read = |path: &Utf8Path| {
            std::fs::read_to_string(path).map_err(|source| PlanError::Read { path: path.to_owned(), source })
        };
        let root = &metadata.answer.workspace_root;
        let root_manifest = read(&root.join("Cargo.toml"))?;
        let lock = match std::fs::read_to_string(root.join("Cargo.lock")) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(PlanError::Read { path: root.join("Cargo.lock"), source }),
        };
        let mut manifests = BTreeMap::new();
        for package in metadata.answer.packages.iter().filter(|package| package.source.is_none()) {
            manifests.insert(package.manifest_path.clone(), read(&package.manifest_path)?);
        }
        Ok(Self { root_manifest, lock, manifests })
    }

    /// Whether the metadata must hold the dependencies of every platform: with resolver 1, what a dependency of
    /// another platform asks for counts on this one.
    pub fn needs_every_platform(&self) -> bool {
        self.root_manifest.parse().is_ok_and(|manifest: toml::Table| resolver(&manifest) < 2)
    }
}

/// The metadata of a workspace, and the files that belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceAnswer {
    /// The answer of `cargo metadata`.
    pub metadata: String,
    /// The manifests and the lock file.
    pub files: WorkspaceFiles,
    /// Where things are.
    pub places: WorkspacePlaces,
}

/// Where a workspace and what is built of it are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspacePlaces {
    /// The directory of the root manifest.
    pub workspace_root: Utf8PathBuf,
    /// Where final files go.
    pub target_directory: Utf8PathBuf,
    /// Where intermediate files go; the same, unless `build.build-dir` says otherwise.
    pub build_directory: Utf8PathBuf,
    /// The manifests of the members.
    pub member_manifests: Vec<Utf8PathBuf>,
}

impl WorkspacePlaces {
    /// What the metadata says of them.
    pub fn new(metadata: &Metadata) -> Self {
        let members = metadata.answer.workspace_packages();
        Self {
            workspace_root: metadata.answer.workspace_root.clone(),
            target_directory: metadata.answer.target_directory.clone(),
            build_directory: metadata.build_directory().to_owned(),
            member_manifests: members.into_iter().map(|package| package.manifest_path.clone()).collect(),
        }
    }
}

impl WorkspaceAnswer {
    /// Asks cargo about the workspace, and reads the files. Cargo is asked for the platforms of the build alone, and
    /// once more, for all of them, where the workspace turns out to have resolver 1.
    ///
    /// # Errors
    ///
    /// When cargo refuses, or a manifest cannot be read.
    pub fn read(
        command: &CargoCommand,
        config: &BuildConfiguration,
        toolchain: &Toolchain,
        environment: &Environment,
    ) -> Result<Self, PlanError> {
        let requested = config.requested_targets(command, &toolchain.host);
        let mut platforms: Vec<String> = requested.into_iter().map(|target| target.argument).collect();
        if !platforms.contains(&toolchain.host) {
            platforms.push(toolchain.host.clone());
        }
        loop {
            let current_dir = config.invocation_dir();
            let metadata = metadata::read(&toolchain.cargo, current_dir, command, environment, &platforms)?;
            let parsed = Metadata::parse(&metadata)?;
            let files = WorkspaceFiles::read(&parsed)?;
            if platforms.is_empty() || !files.needs_every_platform() {
                let places = WorkspacePlaces::new(&parsed);
                return Ok(Self { metadata, files, places });
            }
            platforms.clear();
        }
    }
}

/// What the manifests say.
pub(super) struct ManifestFacts {
    /// The feature resolver: 1, 2 or 3.
    pub(super) resolver: u8,
    /// `[profile]` of the root manifest.
    pub(super) profiles: BTreeMap<String, ProfileTable>,
    /// What needs a nightly cargo or is otherwise not planned.
    pub(super) unplanned: Vec<String>,
    targets: HashMap<(Utf8PathBuf, TargetKind, String), DeclaredTarget>,
    /// Members with `doc-scrape-examples = true` on some example.
    pub(super) scrape_examples: Vec<Utf8PathBuf>,
}

/// `bench` and `harness` of a target.
#[derive(Clone, Copy)]
pub(super) struct DeclaredTarget {
    pub(super) bench: bool,
    pub(super) harness: bool,
}

impl ManifestFacts {
    pub(super) fn new(files: &WorkspaceFiles, root: &Utf8Path) -> Result<Self, PlanError> {
        let root_path = root.join("Cargo.toml");
        let manifest = parse(&root_path, &files.root_manifest)?;
        let mut facts = Self {
            resolver: resolver(&manifest),
            profiles: BTreeMap::new(),
            unplanned: Vec::new(),
            targets: HashMap::new(),
            scrape_examples: Vec::new(),
        };
        if let Some(profiles) = manifest.get("profile").and_then(toml::Value::as_table) {
            for (name, table) in profiles {
                let table = table.as_table().ok_or_else(|| PlanError::Manifest {
                    path: root_path.clone(),
                    message: format!("profile.{name} is not a table"),
                })?;
                facts.profiles.insert(name.clone(), ProfileTable::parse(name, table)?);
            }
        }
        if manifest.contains_key("cargo-features") {
            facts.unplanned.push(format!("cargo-features in {root_path}"));
        }
        for (path, text) in &files.manifests {
            // Most manifests hold nothing of this; reading them would take longer than the rest of the plan.
            let interesting = ["bench", "harness", "cargo-features", "doc-scrape-examples", "forced-target"];
            if !interesting.iter().any(|word| text.contains(word)) {
                continue;
            }
            let manifest = parse(path, text)?;
            facts.member(path, &manifest);
        }
        Ok(facts)
    }

    /// `bench` and `harness` of a target: declared, or the default of its kind.
    pub(super) fn target(&self, manifest: &Utf8Path, kind: TargetKind, name: &str) -> DeclaredTarget {
        let bench = matches!(kind, TargetKind::Lib | TargetKind::Bin | TargetKind::Bench);
        let default = DeclaredTarget { bench, harness: true };
        if self.targets.is_empty() {
            return default;
        }
        let name = if kind == TargetKind::Lib { "" } else { name };
        self.targets.get(&(manifest.to_owned(), kind, name.to_owned())).copied().unwrap_or(default)
    }

    fn member(&mut self, path: &Utf8Path, manifest: &toml::Table) {
        if manifest.contains_key("cargo-features") {
            self.unplanned.push(format!("cargo-features in {path}"));
        }
        let lib = manifest.get("lib").and_then(toml::Value::as_table);
        let mut declared: Vec<(TargetKind, &toml::Table)> = lib.map(|lib| (TargetKind::Lib, lib)).into_iter().collect();
        for (key, kind) in [
            ("bin", TargetKind::Bin),
            ("example", TargetKind::Example),
            ("test", TargetKind::Test),
            ("bench", TargetKind::Bench),
        ] {
            let list = manifest.get(key).and_then(toml::Value::as_array);
            declared.extend(list.into_iter().flatten().filter_map(toml::Value::as_table).map(|table| (kind, table)));
        }
        for (kind, table) in declared {
            let default = matches!(kind, TargetKind::Lib | TargetKind::Bin | TargetKind::Bench);
            let truth = |key, default| table.get(key).and_then(toml::Value::as_bool).unwrap_or(default);
            let name = match kind {
                TargetKind::Lib => "",
                _ => table.get("name").and_then(toml::Value::as_str).unwrap_or(""),
            };
            let target = DeclaredTarget { bench: truth("bench", default), harness: truth("harness", true) };
            self.targets.insert((path.to_owned(), kind, name.to_owned()), target);
            if truth("doc-scrape-examples", false) && kind == TargetKind::Example {
                self.scrape_examples.push(path.to_owned());
            }
        }
    }
}

fn parse(path: &Utf8Path, text: &str) -> Result<toml::Table, PlanError> {
    text.parse().map_err(|error: toml::de::Error| PlanError::Manifest {
        path: path.to_owned(),
        message: error.message().to_owned(),
    })
}

/// The resolver that the root manifest names, or that its edition implies.
fn resolver(manifest: &toml::Table) -> u8 {
    let table = |key: &str| manifest.get(key).and_then(toml::Value::as_table);
    let (workspace, package) = (table("workspace"), table("package"));
    let named = [workspace, package].into_iter().flatten().find_map(|table| table.get("resolver")?.as_str());
    if let Some(named) = named {
        return match named {
            "1" => 1,
            "2" => 2,
            _ => 3,
        };
    }
    let edition = package.and_then(|package| match package.get("edition")? {
        toml::Value::String(edition) => Some(edition.as_str()),
        // `edition.workspace = true`
        _ => workspace?.get("package")?.as_table()?.get("edition")?.as_str(),
    });
    match edition {
        None | Some("2015" | "2018") => 1,
        Some("2021") => 2,
        Some(_) => 3,
    }
}
