//! The packages of a workspace, from its manifests alone: where they are, what they are called, and which targets they
//! have.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use toml::{Table, Value};

use super::{SkeletonError, read_toml};

/// The tables of dependencies of a manifest or of a `[target.…]`.
pub(super) const DEPENDENCY_TABLES: [&str; 5] =
    ["dependencies", "dev-dependencies", "dev_dependencies", "build-dependencies", "build_dependencies"];

/// A workspace's packages, those that path dependencies lead to among them.
pub(super) struct WorkspacePackages {
    pub(super) root_manifest: Table,
    /// In the order of their directories.
    pub(super) packages: Vec<WorkspacePackage>,
    /// The directories that the workspace names, its own among them.
    pub(super) declared: BTreeSet<Utf8PathBuf>,
}

/// One package.
pub(super) struct WorkspacePackage {
    /// Relative to the workspace's root.
    pub(super) directory: Utf8PathBuf,
    pub(super) manifest: Table,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) is_member: bool,
    /// Its build script.
    pub(super) build: Option<String>,
    pub(super) library: Option<Table>,
    pub(super) bins: Targets,
    pub(super) examples: Targets,
    pub(super) tests: Targets,
    pub(super) benches: Targets,
}

/// The targets of a kind: those that the manifest declares, with their places, and those that cargo finds by itself.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) declared: Vec<Table>,
    pub(super) found: Vec<Table>,
}

impl Targets {
    pub(super) fn all(&self) -> impl Iterator<Item = &Table> {
        self.declared.iter().chain(&self.found)
    }
}

impl WorkspacePackages {
    pub(super) fn read(root: &Utf8Path) -> Result<Self, SkeletonError> {
        let root_manifest = read_toml(&root.join("Cargo.toml"))?;
        let workspace = table(&root_manifest, "workspace");
        let excluded: Vec<Utf8PathBuf> =
            texts(workspace, "exclude").filter_map(|path| join(Utf8Path::new(""), path)).collect();
        let is_excluded = |directory: &Utf8Path| excluded.iter().any(|exclude| directory.starts_with(exclude));

        let mut declared = BTreeSet::new();
        for pattern in texts(workspace, "members") {
            if pattern.contains(['*', '?', '[']) {
                let found = matches(root, pattern);
                declared.extend(found.into_iter().filter(|directory| !is_excluded(directory)));
            } else {
                let directory =
                    join(Utf8Path::new(""), pattern).filter(|path| root.join(path).join("Cargo.toml").is_file());
                declared.insert(directory.ok_or_else(|| SkeletonError::Member { member: pattern.to_owned() })?);
            }
        }

        let mut manifests: BTreeMap<Utf8PathBuf, Table> = BTreeMap::new();
        let mut wanted: Vec<Utf8PathBuf> = declared.iter().cloned().chain([Utf8PathBuf::new()]).collect();
        while let Some(directory) = wanted.pop() {
            if let Entry::Vacant(place) = manifests.entry(directory) {
                let manifest = read_toml(&root.join(place.key()).join("Cargo.toml"))?;
                wanted.extend(path_dependencies(root, place.key(), &manifest, workspace)?);
                place.insert(manifest);
            }
        }
        let packages = manifests
            .into_iter()
            .filter(|(_, manifest)| manifest.contains_key("package"))
            .map(|(directory, manifest)| {
                let is_member = !is_excluded(&directory);
                WorkspacePackage::new(root, directory, manifest, workspace, is_member)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { packages, declared, root_manifest })
    }
}

/// The directories that a pattern names and that hold a manifest.
fn matches(root: &Utf8Path, pattern: &str) -> Vec<Utf8PathBuf> {
    let whole = Utf8Path::new(&glob::Pattern::escape(root.as_str())).join(pattern);
    let found = glob::glob(whole.as_str()).into_iter().flatten().filter_map(Result::ok);
    let found = found.filter_map(|path| Utf8PathBuf::from_path_buf(path).ok());
    let found = found.filter(|path| path.join("Cargo.toml").is_file());
    found.filter_map(|path| Some(path.strip_prefix(root).ok()?.to_owned())).collect()
}

/// `crates/app` and `../model` make `crates/model`. `None` where it leads out of the root.
pub(super) fn join(base: &Utf8Path, relative: &str) -> Option<Utf8PathBuf> {
    let mut joined = base.to_owned();
    for part in Utf8Path::new(relative).components() {
        match part {
            Utf8Component::Normal(name) => joined.push(name),
            Utf8Component::CurDir => {}
            Utf8Component::ParentDir => {
                if !joined.pop() {
                    return None;
                }
            }
            Utf8Component::Prefix(_) | Utf8Component::RootDir => return None,
        }
    }
    Some(joined)
}

/// The directories that the path dependencies and patches of a manifest lead to.
fn path_dependencies(
    root: &Utf8Path,
    directory: &Utf8Path,
    manifest: &Table,
    workspace: Option<&Table>,
) -> Result<Vec<Utf8PathBuf>, SkeletonError> {
    let targets = table(manifest, "target").into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let of = |table: &Table| DEPENDENCY_TABLES.map(|name| table.get(name).and_then(Value::as_table).cloned());
    let mut tables: Vec<Table> = of(manifest).into_iter().chain(targets.flat_map(of)).flatten().collect();
    let patches = table(manifest, "patch").into_iter().flat_map(Table::values).filter_map(Value::as_table);
    tables.extend(patches.chain(table(manifest, "replace")).cloned());
    let shared = workspace.and_then(|workspace| table(workspace, "dependencies"));

    let mut found = Vec::new();
    for (name, dependency) in tables.iter().flatten().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        let path = |table: &Table| table.get("path").and_then(Value::as_str).map(str::to_owned);
        let inherits = dependency.get("workspace").and_then(Value::as_bool) == Some(true);
        let (base, path) = match path(dependency) {
            Some(path) => (directory, path),
            None if inherits => {
                let inherited = shared.and_then(|shared| path(shared.get(name)?.as_table()?));
                match inherited {
                    Some(path) => (Utf8Path::new(""), path),
                    None => continue,
                }
            }
            None => continue,
        };
        let place = join(base, &path).filter(|place| root.join(place).join("Cargo.toml").is_file());
        found.push(place.ok_or_else(|| SkeletonError::Dependency {
            manifest: directory.join("Cargo.toml"),
            name: name.clone(),
            path,
        })?);
    }
    Ok(found)
}

impl WorkspacePackage {
    fn new(
        root: &Utf8Path,
        directory: Utf8PathBuf,
        manifest: Table,
        workspace: Option<&Table>,
        is_member: bool,
    ) -> Result<Self, SkeletonError> {
        let no_package = || SkeletonError::NoPackage { path: directory.join("Cargo.toml") };
        let package = table(&manifest, "package").ok_or_else(no_package)?;
        let shared = workspace.and_then(|workspace| table(workspace, "package"));
        let field = |name: &str| match package.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Table(_)) => Some(shared?.get(name)?.as_str()?.to_owned()),
            _ => None,
        };
        let name = field("name").ok_or_else(no_package)?;
        let edition = field("edition").unwrap_or_else(|| "2015".to_owned());
        let place = root.join(&directory);
        let build = match package.get("build") {
            Some(Value::Boolean(false)) => None,
            Some(Value::String(script)) => Some(script.clone()),
            // Several scripts are an unstable feature; one stands for all in a skeleton.
            Some(Value::Array(scripts)) => scripts.first().and_then(Value::as_str).map(str::to_owned),
            _ => place.join("build.rs").exists().then(|| "build.rs".to_owned()),
        };
        let declared_library = table(&manifest, "lib");
        let searches_library = package.get("autolib").and_then(Value::as_bool).unwrap_or(true);
        let has_library = declared_library.is_some() || searches_library && place.join("src/lib.rs").exists();
        let library = has_library.then(|| {
            let mut library = target(&name.replace('-', "_"), "src/lib.rs");
            library.extend(declared_library.cloned().unwrap_or_default());
            library
        });
        let main = place.join("src/main.rs").exists().then(|| target(&name, "src/main.rs"));
        let finder = Finder { place: &place, manifest: &manifest, package, edition: &edition };
        let (bins, examples) = (
            finder.targets("bin", "autobins", "src/bin", main),
            finder.targets("example", "autoexamples", "examples", None),
        );
        let tests = finder.targets("test", "autotests", "tests", None);
        let benches = finder.targets("bench", "autobenches", "benches", None);
        let version = field("version").unwrap_or_else(|| "0.0.0".to_owned());
        Ok(Self { directory, name, version, is_member, build, library, bins, examples, tests, benches, manifest })
    }
}

/// Finds the targets of one package.
struct Finder<'a> {
    place: &'a Utf8Path,
    manifest: &'a Table,
    package: &'a Table,
    edition: &'a str,
}

impl Finder<'_> {
    fn targets(&self, kind: &str, automatic: &str, directory: &str, more: Option<Table>) -> Targets {
        let declared = self.manifest.get(kind).and_then(Value::as_array).cloned().unwrap_or_default();
        let declared: Vec<Table> = declared.into_iter().filter_map(|value| value.try_into().ok()).collect();
        // Up to edition 2015 one declared target turned the search off.
        let searches = self.package.get(automatic).and_then(Value::as_bool);
        let searches = searches.unwrap_or(self.edition != "2015" || declared.is_empty());
        let candidates: Vec<Table> = more.into_iter().chain(self.found(directory)).collect();
        let placed: Vec<Table> = declared
            .into_iter()
            .map(|mut declared| {
                if !declared.contains_key("path") {
                    let same = candidates.iter().find(|candidate| candidate.get("name") == declared.get("name"));
                    let name = declared.get("name").and_then(Value::as_str).unwrap_or_default();
                    let path = same.and_then(|same| same.get("path").cloned());
                    let path = path.unwrap_or_else(|| format!("{directory}/{name}.rs").into());
                    declared.insert("path".to_owned(), path);
                }
                declared
            })
            .collect();
        let is_placed = |candidate: &Table| {
            placed.iter().any(|target| ["name", "path"].iter().any(|key| target.get(*key) == candidate.get(*key)))
        };
        let found = candidates.into_iter().filter(|candidate| searches && !is_placed(candidate)).collect();
        Targets { declared: placed, found }
    }

    /// `*.rs` and `*/main.rs`.
    fn found(&self, directory: &str) -> Vec<Table> {
        let entries = self.place.join(directory).read_dir_utf8().into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<(String, bool)> = entries
            .map(|entry| (entry.file_name().to_owned(), entry.file_type().is_ok_and(|kind| kind.is_dir())))
            .collect();
        names.sort();
        let found = names.into_iter().filter_map(|(name, is_directory)| match is_directory {
            false => Some(target(name.strip_suffix(".rs")?, &format!("{directory}/{name}"))),
            true => {
                let path = format!("{directory}/{name}/main.rs");
                self.place.join(&path).exists().then(|| target(&name, &path))
            }
        });
        found.collect()
    }
}

fn target(name: &str, path: &str) -> Table {
    Table::from_iter([("name".to_owned(), name.into()), ("path".to_owned(), path.into())])
}

pub(super) fn table<'a>(table: &'a Table, name: &str) -> Option<&'a Table> {
    table.get(name).and_then(Value::as_table)
}

fn texts<'a>(table: Option<&'a Table>, name: &str) -> impl Iterator<Item = &'a str> {
    table.and_then(|table| table.get(name)?.as_array()).into_iter().flatten().filter_map(Value::as_str)
}
