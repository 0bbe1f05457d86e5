//! Remembers what `cargo metadata` said, so that a build that has nothing to do need not ask again.
//!
//! The answer is a function of the manifests, the lock file, cargo's configuration and the names of the files
//! from which cargo infers targets. All of these are compared by content. The answer is kept with placeholders
//! for the workspace and cargo's home, so that it serves every checkout. Where anything is out of the ordinary,
//! nothing is remembered. An answer that is wrong all the same plans other units than cargo builds: these are
//! compiled, as cargo compares every unit itself.

use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::arguments::CargoCommand;
use nixcache_core::cargo::config::BuildConfiguration;
use nixcache_core::cargo::metadata::Metadata;
use nixcache_core::cargo::toolchain::Toolchain;
use nixcache_core::digest::{ContentDigest, Key, KeyHasher};
use nixcache_core::environment::Environment;
use nixcache_core::store::{Lease, NewNode};

const WORKSPACE: &str = "@nixcache{workspace}@";
const CARGO_HOME: &str = "@nixcache{cargo-home}@";
const TARGET: &str = "@nixcache{target-dir}@";

/// Variables that say where things are, and nothing about the workspace.
const PLACES: [&str; 6] =
    ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"];

/// One place in the memory: what would be asked, and where.
pub(crate) struct Question<'a> {
    key: Key,
    workspace: Utf8PathBuf,
    cargo_home: Utf8PathBuf,
    target: Utf8PathBuf,
    lease: &'a Lease,
}

/// Manifests of path packages, hidden, with the digest of what an answer depends on there.
type Packages = Vec<(String, ContentDigest)>;

impl<'a> Question<'a> {
    /// The question that `command` asks, if its answer can be remembered.
    pub(crate) fn new(
        command: &CargoCommand,
        config: &BuildConfiguration,
        toolchain: &Toolchain,
        environment: &Environment,
        platforms: &[String],
        cargo_home: Utf8PathBuf,
        lease: &'a Lease,
    ) -> Option<Self> {
        let current = config.current_dir();
        let manifest = match &command.manifest_path {
            Some(path) => clean(&config.invocation_dir().join(path))?,
            None => current.ancestors().map(|directory| directory.join("Cargo.toml")).find(|path| path.is_file())?,
        };
        let workspace = workspace_root(&manifest)?;
        let is_plain = |path: &Utf8Path| {
            path.as_str().len() > 4
                && path.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-+".contains(&byte))
        };
        if !is_plain(&workspace) || !is_plain(&cargo_home) || workspace.starts_with(&cargo_home) {
            return None;
        }
        let target = target_directory(command, config, environment, &workspace)?;
        let lock = std::fs::read(workspace.join("Cargo.lock")).ok()?;
        let mut hasher = KeyHasher::new("metadata/1");
        hasher.field("cargo", &toolchain.cargo_version);
        hasher.field("lock", ContentDigest::of(&lock).as_bytes());
        hasher.field("root", ContentDigest::of(&std::fs::read(workspace.join("Cargo.toml")).ok()?).as_bytes());
        hasher.list("platforms", platforms);
        hasher.field("manifest", manifest.strip_prefix(&workspace).ok()?.as_str());
        hasher.field("locked", [u8::from(command.locked), u8::from(command.offline)]);
        hasher.list("unstable", &command.unstable);
        hasher.list("config", command.config.iter().map(|argument| argument.0.as_str()));
        for (name, value) in environment.iter() {
            let name = name.to_str()?;
            if name.starts_with("CARGO_") && !PLACES.contains(&name) {
                hasher.field(name, value.as_encoded_bytes());
            }
        }
        for file in configuration_files(current, &cargo_home) {
            hasher.field("configuration", ContentDigest::of(&std::fs::read(file).ok()?).as_bytes());
        }
        Some(Self { key: hasher.key(), workspace, cargo_home, target, lease })
    }

    /// The answer, if it is known and still right.
    pub(crate) fn recall(&self) -> Option<String> {
        let node = self.lease.get_node(&self.key).ok()??;
        let [packages, answer] = node.blobs.as_slice() else { return None };
        let packages: Packages = serde_json::from_slice(&self.lease.read_blob(packages).ok()?).ok()?;
        let current = |(manifest, digest): &(String, ContentDigest)| {
            let manifest = Utf8PathBuf::from(self.reveal(manifest));
            package_digest(&manifest).is_some_and(|present| present == *digest)
        };
        if !packages.iter().all(current) {
            return None;
        }
        // A megabyte or more: as a text within JSON it would take as long to read as to understand.
        Some(self.reveal(std::str::from_utf8(&self.lease.read_blob(answer).ok()?).ok()?))
    }

    /// Remembers an answer.
    pub(crate) fn remember(&self, answer: &str) {
        // It is a memory: what cannot be kept is asked again.
        let _ = self.try_remember(answer);
    }

    fn try_remember(&self, answer: &str) -> Option<()> {
        let metadata = Metadata::parse(answer).ok()?;
        let said = &metadata.answer;
        if said.workspace_root != self.workspace
            || said.target_directory != self.target
            || metadata.build_directory() != self.target
        {
            return None;
        }
        // A package outside the workspace can inherit from a manifest that is not looked at here.
        let is_outside = |package: &Utf8Path| !package.starts_with(&self.workspace);
        if said.packages.iter().any(|package| package.source.is_none() && is_outside(&package.manifest_path)) {
            return None;
        }
        let hidden = self.hide(answer);
        if self.reveal(&hidden) != answer {
            return None;
        }
        // Vendored packages are no less open to change than the user's own.
        let packages = said.packages.iter().filter_map(|package| {
            let can_change = package.source.is_none() || !package.manifest_path.starts_with(&self.cargo_home);
            can_change.then_some(&package.manifest_path)
        });
        let packages = packages.map(|manifest| {
            Some((self.hide(&format!("\"{manifest}\"")).trim_matches('"').to_owned(), package_digest(manifest)?))
        });
        let packages = packages.collect::<Option<Packages>>()?;
        let packages = self.lease.insert_bytes(&serde_json::to_vec(&packages).ok()?, false).ok()?;
        let blobs = [packages, self.lease.insert_bytes(hidden.as_bytes(), false).ok()?];
        let label = format!("metadata of {}", self.workspace.file_name().unwrap_or_default());
        // An older answer under the same key was wrong: a package changed that the key does not hold.
        self.lease.remove_node(&self.key).ok()?;
        let node = NewNode { key: self.key, kind: "metadata", label: &label, blobs: &blobs, nodes: &[], payload: b"" };
        self.lease.put_node(&node).ok()?;
        Some(())
    }

    fn hide(&self, text: &str) -> String {
        // The target directory comes first: it can lie in the workspace.
        let text = replace_paths(text, self.target.as_str(), TARGET);
        let text = replace_paths(&text, self.workspace.as_str(), WORKSPACE);
        replace_paths(&text, self.cargo_home.as_str(), CARGO_HOME)
    }

    fn reveal(&self, text: &str) -> String {
        text.replace(TARGET, self.target.as_str())
            .replace(WORKSPACE, self.workspace.as_str())
            .replace(CARGO_HOME, self.cargo_home.as_str())
    }
}

/// Replaces a directory wherever it is a whole path in JSON or in a `file://` URL.
fn replace_paths(text: &str, directory: &str, placeholder: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(directory) {
        let (before, from) = rest.split_at(at);
        let after = &from[directory.len()..];
        let begins = before.ends_with('"') || before.ends_with("file://") || before.ends_with(' ');
        let ends = after.starts_with(['/', '"', '#', '?', ')']);
        replaced.push_str(before);
        replaced.push_str(if begins && ends { placeholder } else { directory });
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

/// The root of the workspace that a manifest belongs to, as far as that is plain to see.
fn workspace_root(manifest: &Utf8Path) -> Option<Utf8PathBuf> {
    for directory in manifest.parent()?.ancestors() {
        let Ok(text) = std::fs::read_to_string(directory.join("Cargo.toml")) else { continue };
        let table: toml::Table = text.parse().ok()?;
        if table.contains_key("workspace") {
            return Some(directory.to_owned());
        }
        if table.get("package").and_then(|package| package.get("workspace")).is_some() {
            return None;
        }
    }
    manifest.parent().map(Utf8Path::to_owned)
}

/// Where cargo will put its files, if that is said in a way that needs no interpretation.
fn target_directory(
    command: &CargoCommand,
    config: &BuildConfiguration,
    environment: &Environment,
    workspace: &Utf8Path,
) -> Option<Utf8PathBuf> {
    if config.has_build_directories() || environment.get("CARGO_BUILD_BUILD_DIR").is_some() {
        return None;
    }
    let named = command.target_directory.clone().or_else(|| {
        let names = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];
        names.iter().find_map(|name| environment.get_str(name)).map(Utf8PathBuf::from)
    });
    match named {
        Some(directory) => clean(&config.current_dir().join(directory)),
        None => Some(workspace.join("target")),
    }
}

fn clean(path: &Utf8Path) -> Option<Utf8PathBuf> {
    use camino::Utf8Component::{CurDir, ParentDir};
    (!path.components().any(|component| matches!(component, CurDir | ParentDir))).then(|| path.components().collect())
}

/// The files in which cargo looks for its configuration.
pub(crate) fn configuration_files(current: &Utf8Path, cargo_home: &Utf8Path) -> Vec<Utf8PathBuf> {
    let directories = current.ancestors().map(|directory| directory.join(".cargo"));
    directories
        .chain([cargo_home.to_owned()])
        .flat_map(|directory| ["config.toml", "config"].map(|name| directory.join(name)))
        .filter(|path| path.is_file())
        .collect()
}

/// What the answer depends on in one package: the manifest, and the names from which cargo infers targets and the README.
fn package_digest(manifest: &Utf8Path) -> Option<ContentDigest> {
    let root = manifest.parent()?;
    let mut text = String::new();
    for directory in ["", "src", "src/bin", "examples", "tests", "benches"] {
        let Ok(entries) = root.join(directory).read_dir_utf8() else { continue };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let kind = entry.file_type().ok()?;
            if name.ends_with(".rs") || name.starts_with("README") || kind.is_symlink() {
                names.push(name.to_owned());
            } else if kind.is_dir() && !directory.is_empty() && entry.path().join("main.rs").is_file() {
                names.push(format!("{name}/main.rs"));
            }
        }
        names.sort();
        let _ = write!(text, "{directory:?} {names:?};");
    }
    let mut hasher = KeyHasher::new("package-shape/1");
    hasher.field("manifest", ContentDigest::of(&std::fs::read(manifest).ok()?).as_bytes()).field("names", text);
    Some(hasher.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_paths_are_replaced_and_others_left() {
        let text = r#"{"a":"/w/app/x","id":"path+file:///w/app#0.1.0","b":"/w/apple","c":"/v/w/app/x"}"#;
        let hidden = replace_paths(text, "/w/app", WORKSPACE);
        assert_eq!(
            hidden,
            format!(r#"{{"a":"{WORKSPACE}/x","id":"path+file://{WORKSPACE}#0.1.0","b":"/w/apple","c":"/v/w/app/x"}}"#)
        );
    }
}
