//! Crates that are published on crates.io, as subjects of tests.

use crate::registry::real_cargo_home;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A crate of crates.io, in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedCrate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl PublishedCrate {
    /// Reads `NAME@VERSION`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, version) = text.split_once('@')?;
        Some(Self { name: name.to_owned(), version: version.to_owned() })
    }

    /// Lets cargo download it, and copies its sources to where they can be a workspace of their own.
    #[track_caller]
    pub fn unpack(&self, directory: &Path) {
        let package = format!("{}@{}", self.name, self.version);
        // Not in the directory itself: a manifest there would count.
        let elsewhere = tempfile::tempdir().unwrap();
        let output = Command::new("cargo").args(["info", "--quiet", &package]).current_dir(&elsewhere).output();
        assert!(output.is_ok_and(|output| output.status.success()), "cargo can't find {package}");
        let name = format!("{}-{}", self.name, self.version);
        let registries = fs::read_dir(real_cargo_home().join("registry/src")).expect("cargo has unpacked sources");
        let source = registries.map(|registry| registry.unwrap().path().join(&name)).find(|path| path.is_dir());
        let source = source.unwrap_or_else(|| panic!("{name} is not among the unpacked sources"));
        crate::copy_tree(&source, directory, &[".cargo-ok"]);
    }
}
