//! The manifests of a skeleton: what is kept of each, and the files that its targets need.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use toml::{Table, Value};

use super::packages::{DEPENDENCY_TABLES, WorkspacePackage, WorkspacePackages, table};
use super::{SkeletonFile, Stub, toml_text};

/// Of a manifest's first level.
const KEPT_TABLES: [&str; 8] = [
    "build-dependencies",
    "build_dependencies",
    "cargo-features",
    "dependencies",
    "dev-dependencies",
    "dev_dependencies",
    "features",
    "target",
];

/// Cargo reads these in the root manifest alone.
const ROOT_TABLES: [&str; 3] = ["patch", "profile", "replace"];

const KEPT_OF_PACKAGE: [&str; 7] =
    ["default-target", "edition", "forced-target", "links", "name", "resolver", "workspace"];

const KEPT_OF_TARGET: [&str; 8] =
    ["crate-type", "crate_type", "edition", "harness", "name", "path", "proc-macro", "proc_macro"];

/// The version that stands for ours, by `name version`.
pub(super) fn new_versions(packages: &WorkspacePackages, kept: &BTreeSet<String>) -> BTreeMap<String, String> {
    let stubbed = packages.packages.iter().filter(|package| !kept.contains(&package.name));
    stubbed.map(|package| (format!("{} {}", package.name, package.version), version(packages, package))).collect()
}

/// Two packages of one name must stay apart.
fn version(packages: &WorkspacePackages, package: &WorkspacePackage) -> String {
    let same = packages.packages.iter().filter(|other| other.name == package.name).count();
    if same == 1 { "0.0.0".to_owned() } else { package.version.clone() }
}

/// The manifests and the stubs of all packages that are not kept.
pub(super) fn files(packages: &WorkspacePackages, kept: &BTreeSet<String>) -> BTreeMap<Utf8PathBuf, SkeletonFile> {
    let writer = Writer { packages, keeps: !kept.is_empty() };
    let mut files = BTreeMap::new();
    if !packages.root_manifest.contains_key("package") {
        let manifest = writer.shared(Utf8Path::new(""), &packages.root_manifest);
        files.insert("Cargo.toml".into(), SkeletonFile::Text(toml_text::document(&manifest)));
    }
    for package in packages.packages.iter().filter(|package| !kept.contains(&package.name)) {
        let targets = ChosenTargets::of(package);
        let manifest = writer.manifest(package, &targets);
        let at = |path: &str| package.directory.join(path);
        files.insert(at("Cargo.toml"), SkeletonFile::Text(toml_text::document(&manifest)));
        if let Some(script) = &package.build {
            files.insert(at(script), SkeletonFile::Stub(Stub::Script));
        }
        let path = |target: &Table| target.get("path").and_then(Value::as_str).map(at);
        if let Some(library) = &package.library {
            let stub = if is_proc_macro(library) { Stub::Macro } else { Stub::Library };
            files.extend(path(library).map(|path| (path, SkeletonFile::Stub(stub))));
        }
        // A program may have the file of a library: then it must have a `main`.
        for program in targets.programs().filter_map(path) {
            files.insert(program, SkeletonFile::Stub(Stub::Program));
        }
    }
    files
}

fn is_proc_macro(library: &Table) -> bool {
    let says = |name: &str| library.get(name).and_then(Value::as_bool) == Some(true);
    let types = ["crate-type", "crate_type"].into_iter().find_map(|name| library.get(name)?.as_array());
    says("proc-macro") || says("proc_macro") || types.is_some_and(|types| types.contains(&"proc-macro".into()))
}

/// The targets that a skeleton has of a package.
struct ChosenTargets<'a> {
    bins: Vec<&'a Table>,
    examples: Vec<&'a Table>,
    tests: Vec<&'a Table>,
    benches: Vec<&'a Table>,
}

impl<'a> ChosenTargets<'a> {
    /// Tests and benches that cargo finds by itself are left out where the package has something else: that one's own
    /// tests need the same dependencies, and a new test file changes nothing.
    fn of(package: &'a WorkspacePackage) -> Self {
        let (bins, examples): (Vec<_>, Vec<_>) = (package.bins.all().collect(), package.examples.all().collect());
        let is_alone = package.library.is_none() && bins.is_empty() && examples.is_empty();
        let optional = |targets: &'a super::packages::Targets| -> Vec<&'a Table> {
            targets.all().take(if is_alone { usize::MAX } else { targets.declared.len() }).collect()
        };
        Self { bins, examples, tests: optional(&package.tests), benches: optional(&package.benches) }
    }

    fn programs(&self) -> impl Iterator<Item = &'a Table> {
        [&self.bins, &self.examples, &self.tests, &self.benches].into_iter().flatten().copied()
    }
}

struct Writer<'a> {
    packages: &'a WorkspacePackages,
    /// Whether packages are kept that may inherit from the workspace.
    keeps: bool,
}

impl Writer<'_> {
    fn manifest(&self, package: &WorkspacePackage, targets: &ChosenTargets<'_>) -> Table {
        let mut manifest = self.shared(&package.directory, &package.manifest);
        let mut of_package =
            table(&package.manifest, "package").map(|own| only(&KEPT_OF_PACKAGE, own)).unwrap_or_default();
        of_package.insert("version".to_owned(), version(self.packages, package).into());
        of_package.insert("build".to_owned(), package.build.clone().map_or(Value::Boolean(false), Value::from));
        for automatic in ["autobins", "autoexamples", "autotests", "autobenches"] {
            of_package.insert(automatic.to_owned(), false.into());
        }
        manifest.insert("package".to_owned(), of_package.into());
        if let Some(library) = &package.library {
            manifest.insert("lib".to_owned(), only(&KEPT_OF_TARGET, library).into());
        }
        let lists = [
            ("bin", &targets.bins),
            ("example", &targets.examples),
            ("test", &targets.tests),
            ("bench", &targets.benches),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            let list: Vec<Value> = list.iter().map(|target| only(&KEPT_OF_TARGET, target).into()).collect();
            manifest.insert(name.to_owned(), list.into());
        }
        manifest
    }

    /// What is kept of any manifest.
    fn shared(&self, directory: &Utf8Path, manifest: &Table) -> Table {
        let mut shared = without_requirements(only(&KEPT_TABLES, manifest));
        if directory.as_str().is_empty() {
            shared.extend(only(&ROOT_TABLES, manifest));
        }
        if let Some(targets) = table(manifest, "target") {
            let targets: Table = targets
                .iter()
                .map(|(name, value)| match value {
                    Value::Table(table) => (name.clone(), without_requirements(table.clone()).into()),
                    other => (name.clone(), other.clone()),
                })
                .collect();
            shared.insert("target".to_owned(), targets.into());
        }
        if let Some(workspace) = table(manifest, "workspace") {
            shared.insert("workspace".to_owned(), self.workspace(workspace).into());
        }
        shared
    }

    fn workspace(&self, given: &Table) -> Table {
        let mut workspace = only(&["default-members", "exclude", "resolver", "dependencies"], given);
        let workspace_dependencies =
            Table::from_iter(workspace.remove("dependencies").map(|table| ("dependencies".to_owned(), table)));
        workspace.extend(without_requirements(workspace_dependencies));
        let members = self.packages.packages.iter().filter(|package| package.is_member);
        let members: BTreeSet<&Utf8Path> = members
            .map(|package| package.directory.as_path())
            .chain(self.packages.declared.iter().map(Utf8PathBuf::as_path))
            .filter(|directory| !directory.as_str().is_empty())
            .collect();
        let members: Vec<Value> = members.into_iter().map(|directory| directory.as_str().into()).collect();
        workspace.insert("members".to_owned(), members.into());
        let package = table(given, "package").cloned().unwrap_or_default();
        let package = if self.keeps { package } else { only(&["edition"], &package) };
        workspace.insert("package".to_owned(), package.into());
        if let Some(lints) = given.get("lints").filter(|_| self.keeps) {
            workspace.insert("lints".to_owned(), lints.clone());
        }
        workspace
    }
}

fn only(names: &[&str], values: &Table) -> Table {
    values
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A dependency on a package of ours has no requirement: its version is 0.0.0.
fn without_requirements(mut table: Table) -> Table {
    for name in DEPENDENCY_TABLES {
        let dependencies = table.get_mut(name).and_then(Value::as_table_mut).into_iter().flatten();
        for (_, dependency) in dependencies {
            if let Some(dependency) = dependency.as_table_mut().filter(|dependency| dependency.contains_key("path")) {
                dependency.remove("version");
            }
        }
    }
    table
}

/// The paths that a configuration file names: wrappers, linkers, runners, targets, other configuration files.
pub(super) fn paths_in_config(config: &Table) -> Vec<String> {
    let first = |value: &Value| match value {
        Value::Array(words) => words.first().and_then(Value::as_str).map(str::to_owned),
        other => other.as_str().map(str::to_owned),
    };
    let build = table(config, "build");
    let of_build = |name: &str| build.and_then(|build| first(build.get(name)?));
    let mut programs: Vec<String> =
        ["rustc", "rustc-wrapper", "rustc-workspace-wrapper", "rustdoc"].into_iter().filter_map(of_build).collect();
    let targets = table(config, "target").into_iter().flat_map(Table::values).filter_map(Value::as_table);
    programs.extend(
        targets.flat_map(|target| ["linker", "runner"].into_iter().filter_map(|name| first(target.get(name)?))),
    );
    // Programs without a slash are looked for in PATH; a relative path is relative to the parent of `.cargo`.
    let mut paths: Vec<String> = programs.into_iter().filter(|path| path.find('/').is_some_and(|at| at > 0)).collect();
    let platforms = build.and_then(|build| build.get("target"));
    let platforms = match platforms {
        Some(Value::Array(platforms)) => platforms.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(platform)) => vec![platform.clone()],
        _ => Vec::new(),
    };
    paths.extend(platforms.into_iter().filter(|platform| platform.ends_with(".json")));
    let includes = match config.get("include") {
        Some(Value::Array(includes)) => includes.clone(),
        Some(other) => vec![other.clone()],
        None => Vec::new(),
    };
    let included = includes.iter().filter_map(|include| include.as_str().or_else(|| include.get("path")?.as_str()));
    paths.extend(included.map(|path| format!(".cargo/{path}")));
    paths
}
