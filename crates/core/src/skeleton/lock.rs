//! The lock file of a skeleton, and which packages of the workspace others are compiled against.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;
use toml::{Table, Value};

use super::{SkeletonError, read_toml, toml_text};

/// A lock file.
pub(super) struct LockFile(Table);

impl LockFile {
    pub(super) fn read(root: &Utf8Path) -> Result<Self, SkeletonError> {
        Ok(Self(read_toml(&root.join("Cargo.lock"))?))
    }

    fn packages(&self) -> impl Iterator<Item = &Table> {
        self.0.get("package").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
    }

    /// Packages of the workspace that packages from elsewhere depend on, with all that they need in it. Nothing else can
    /// stand in for these.
    pub(super) fn needed_by_others(&self) -> BTreeSet<String> {
        let mut wanted: Vec<&Table> = self.packages().filter(|package| !is_local(package)).collect();
        let mut needed = BTreeSet::new();
        while let Some(package) = wanted.pop() {
            for dependency in dependencies(package) {
                let mut parts = dependency.split(' ');
                let (name, version, source) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
                // One with a source is from elsewhere.
                let locals = self.packages().filter(|candidate| {
                    source.is_none()
                        && is_local(candidate)
                        && text(candidate, "name") == name
                        && version.is_none_or(|version| text(candidate, "version") == version)
                });
                for local in locals {
                    if needed.insert(text(local, "name").to_owned()) {
                        wanted.push(local);
                    }
                }
            }
        }
        needed
    }

    /// The text of the same with other versions of our own packages, `versions` being by `name version`. In cargo's own
    /// form: there are readers that go line by line.
    pub(super) fn with_versions(&self, versions: &BTreeMap<String, String>) -> String {
        let mut whole = self.0.clone();
        let packages = whole.get_mut("package").and_then(Value::as_array_mut).into_iter().flatten();
        for package in packages.filter_map(Value::as_table_mut) {
            if is_local(package) {
                let name = format!("{} {}", text(package, "name"), text(package, "version"));
                if let Some(version) = versions.get(&name) {
                    package.insert("version".to_owned(), version.clone().into());
                }
            }
            let dependencies = package.get_mut("dependencies").and_then(Value::as_array_mut).into_iter().flatten();
            for dependency in dependencies {
                let changed = dependency.as_str().and_then(|written| {
                    let version = versions.get(written)?;
                    Some(format!("{} {version}", written.split(' ').next()?))
                });
                if let Some(changed) = changed {
                    *dependency = changed.into();
                }
            }
        }
        let mut text = whole.remove("version").map(|version| format!("version = {version}\n")).unwrap_or_default();
        if let Some(Value::Array(packages)) = whole.remove("package") {
            text.extend(packages.iter().filter_map(Value::as_table).map(entry));
        }
        text + &toml_text::document(&whole)
    }
}

fn entry(package: &Table) -> String {
    let field = |name: &str| {
        package.get(name).map(|value| format!("{name} = {}\n", toml_text::inline(value))).unwrap_or_default()
    };
    let mut text = String::from("\n[[package]]\n");
    text.extend(["name", "version", "source", "checksum"].map(field));
    let dependencies: Vec<&str> = dependencies(package).collect();
    if !dependencies.is_empty() {
        let lines = dependencies.iter().map(|dependency| format!(" {},\n", toml_text::inline(&(*dependency).into())));
        text += &format!("dependencies = [\n{}]\n", lines.collect::<String>());
    }
    text + &field("replace")
}

fn is_local(package: &Table) -> bool {
    !package.contains_key("source")
}

fn text<'a>(package: &'a Table, field: &str) -> &'a str {
    package.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn dependencies(package: &Table) -> impl Iterator<Item = &str> {
    package.get("dependencies").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
