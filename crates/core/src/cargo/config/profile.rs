//! The profiles of the configuration, with the variables that stand for their keys.

use std::collections::BTreeSet;

use super::BuildConfiguration;
use super::tree::Node;
use crate::cargo::profile::{ProfileError, ProfileTable};

/// Keys of a profile that a variable can set.
const KEYS: &[&str] = &[
    "inherits",
    "opt-level",
    "lto",
    "codegen-backend",
    "codegen-units",
    "debug",
    "split-debuginfo",
    "debug-assertions",
    "rpath",
    "panic",
    "overflow-checks",
    "incremental",
    "strip",
    "trim-paths",
];

impl BuildConfiguration {
    /// The names of the profiles in files and `--config`.
    pub fn profile_names(&self) -> impl Iterator<Item = &str> {
        self.tree.get(&["profile"]).into_iter().flat_map(Node::entries).map(|(name, _)| name)
    }

    /// A profile of the configuration, variables included.
    ///
    /// # Errors
    ///
    /// When a key has a value that cargo would refuse.
    pub fn profile(&self, name: &str) -> Result<Option<ProfileTable>, ProfileError> {
        let mut table = toml::Table::new();
        self.collect(&["profile", name], &mut table);
        if table.is_empty() {
            return Ok(None);
        }
        ProfileTable::parse(name, &table).map(Some)
    }

    /// Writes what is set below `keys` into `table`.
    fn collect(&self, keys: &[&str], table: &mut toml::Table) {
        if let Some(node) = self.tree.get(keys)
            && let toml::Value::Table(written) = node.to_value()
        {
            table.extend(written);
        }
        for key in KEYS {
            let keys: Vec<&str> = keys.iter().copied().chain([*key]).collect();
            if self.variable(&keys).is_some()
                && let Some((value, _)) = self.text(&keys)
            {
                table.insert((*key).to_owned(), toml::Value::String(value));
            }
        }
        if keys.len() > 2 {
            return;
        }
        let build_override: Vec<&str> = keys.iter().copied().chain(["build-override"]).collect();
        self.collect_nested(&build_override, "build-override", table);
        for package in self.overridden_packages(keys) {
            let keys: Vec<&str> = keys.iter().copied().chain(["package", &package]).collect();
            let mut packages = match table.remove("package") {
                Some(toml::Value::Table(packages)) => packages,
                _ => toml::Table::new(),
            };
            self.collect_nested(&keys, &package, &mut packages);
            table.insert("package".to_owned(), toml::Value::Table(packages));
        }
    }

    fn collect_nested(&self, keys: &[&str], key: &str, table: &mut toml::Table) {
        let mut nested = toml::Table::new();
        self.collect(keys, &mut nested);
        if !nested.is_empty() {
            table.insert(key.to_owned(), toml::Value::Table(nested));
        }
    }

    /// The packages that files and `--config` override. Variables can only add to these.
    fn overridden_packages(&self, keys: &[&str]) -> BTreeSet<String> {
        let written = self.tree.get(keys).and_then(|node| node.get(&["package"]));
        written.into_iter().flat_map(Node::entries).map(|(name, _)| name.to_owned()).collect()
    }
}
