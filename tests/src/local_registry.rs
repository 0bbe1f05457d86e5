//! A registry of our own in a directory, so that tests can publish several versions of a crate.

use crate::{Machine, Workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A registry with a git index, reached by `file://`.
#[derive(Debug)]
pub struct LocalRegistry {
    root: PathBuf,
    index: Workspace,
}

impl LocalRegistry {
    /// An empty registry on a machine.
    pub fn new(machine: &Machine) -> Self {
        let root = machine.root().join("registry");
        fs::create_dir_all(root.join("crates")).unwrap();
        let index = Workspace::new(machine.clone(), root.join("index"));
        let download = format!("file://{}/crates/{{crate}}-{{version}}.crate", root.display());
        index.write("config.json", format!("{{\"dl\": \"{download}\"}}"));
        index.commit();
        Self { root, index }
    }

    /// The lines of cargo's configuration that make it known as `local`.
    pub fn configuration(&self) -> String {
        format!("[registries.local]\nindex = \"file://{}\"\n[net]\noffline = false\n", self.index.root().display())
    }

    /// The lines that make it stand in for crates.io.
    pub fn replacing_crates_io(&self) -> String {
        format!(
            "{}[source.crates-io]\nreplace-with = \"local\"\n[source.local]\nregistry = \"file://{}\"\n",
            self.configuration(),
            self.index.root().display()
        )
    }

    /// Publishes a library without dependencies.
    pub fn publish(&self, name: &str, version: &str, source: &str) -> &Self {
        self.publish_with(name, version, source, &[])
    }

    /// Publishes a library with dependencies: names and requirements.
    pub fn publish_with(&self, name: &str, version: &str, source: &str, dependencies: &[(&str, &str)]) -> &Self {
        let label = format!("{name}-{version}");
        let directory = self.root.join("unpacked").join(&label);
        fs::create_dir_all(directory.join("src")).unwrap();
        let mut manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2024\"\n\n[dependencies]\n");
        for (dependency, requirement) in dependencies {
            manifest += &format!("{dependency} = \"{requirement}\"\n");
        }
        fs::write(directory.join("Cargo.toml"), manifest).unwrap();
        fs::write(directory.join("src/lib.rs"), source).unwrap();
        let file = self.root.join("crates").join(format!("{label}.crate"));
        let packed = Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(self.root.join("unpacked"))
            .arg(&label)
            .status()
            .expect("tar starts");
        assert!(packed.success());

        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(dependency, requirement)| {
                serde_json::json!({"name": dependency, "req": requirement, "features": [], "optional": false,
                    "default_features": true, "target": null, "kind": "normal", "registry": null, "package": null})
            })
            .collect();
        let line = serde_json::json!({"name": name, "vers": version, "deps": dependencies, "cksum": sha256(&file),
            "features": {}, "yanked": false, "links": null, "v": 2});
        let entry = crate::registry::index_entry(name);
        let entry = entry.to_str().unwrap();
        let known = fs::read_to_string(self.index.path(entry)).unwrap_or_default();
        self.index.write(entry, format!("{known}{line}\n"));
        self.index.commit();
        self
    }
}

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().expect("sha256sum starts");
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}
