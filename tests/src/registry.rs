//! Fills a machine's cargo home with the crates that a workspace needs, so that it never asks the network.
//!
//! Downloaded crates are hard-linked (cargo never writes to them again), index entries are copied (cargo does).
//! Cargo unpacks the sources itself: their paths are those of the machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A package of a lock file that comes from a registry.
struct Locked {
    name: String,
    version: String,
}

/// Puts every registry crate of a workspace's lock file into `cargo_home`.
pub(crate) fn seed(cargo_home: &Path, workspace: &Path) {
    download(workspace);
    let real = real_cargo_home().join("registry");
    let crates = read_lock(&workspace.join("Cargo.lock"));
    for index in children(&real.join("index")) {
        let registry = index.file_name().expect("a child has a name");
        let cache = real.join("cache").join(registry);
        if !cache.is_dir() {
            continue;
        }
        let to = cargo_home.join("registry/index").join(registry);
        fs::create_dir_all(to.join(".cache")).unwrap();
        fs::create_dir_all(cargo_home.join("registry/cache").join(registry)).unwrap();
        copy_if_there(&index.join("config.json"), &to.join("config.json"));
        for locked in &crates {
            let entry = Path::new(".cache").join(index_entry(&locked.name));
            copy_if_there(&index.join(&entry), &to.join(&entry));
            let file = format!("{}-{}.crate", locked.name, locked.version);
            link_if_there(&cache.join(&file), &cargo_home.join("registry/cache").join(registry).join(&file));
        }
    }
}

/// Downloads what a workspace needs into the registry of the person who runs the tests, once for each workspace.
fn download(workspace: &Path) {
    static DOWNLOADED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut downloaded = DOWNLOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if downloaded.contains(workspace) {
        return;
    }
    let fetched = crate::own_cargo()
        .args(["fetch", "--locked", "--quiet", "--manifest-path"])
        .arg(workspace.join("Cargo.toml"))
        .status()
        .expect("cargo starts");
    assert!(fetched.success(), "the crates of {} can't be downloaded", workspace.display());
    downloaded.insert(workspace.to_owned());
}

/// The cargo home of the person who runs the tests.
pub(crate) fn real_cargo_home() -> PathBuf {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => home.into(),
        None => Path::new(&std::env::var_os("HOME").expect("there is a home directory")).join(".cargo"),
    }
}

fn read_lock(lock: &Path) -> Vec<Locked> {
    let text = fs::read_to_string(lock).unwrap_or_else(|error| panic!("{}: {error}", lock.display()));
    let field = |block: &str, name: &str| {
        block
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(" = \"")?.trim_end_matches('"').to_owned()))
    };
    text.split("[[package]]")
        .filter(|block| block.contains("source = \"registry+"))
        .map(|block| Locked { name: field(block, "name").unwrap(), version: field(block, "version").unwrap() })
        .collect()
}

/// Where a registry's index keeps a package, by the rules of the index format.
pub(crate) fn index_entry(name: &str) -> PathBuf {
    let name = name.to_lowercase();
    match name.len() {
        1 => Path::new("1").join(&name),
        2 => Path::new("2").join(&name),
        3 => Path::new("3").join(&name[..1]).join(&name),
        _ => Path::new(&name[..2]).join(&name[2..4]).join(&name),
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.file_name() != Some(OsStr::new(".cache"))).collect()
}

fn copy_if_there(from: &Path, to: &Path) {
    if from.exists() {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

fn link_if_there(from: &Path, to: &Path) {
    if from.exists() && !to.exists() && fs::hard_link(from, to).is_err() {
        fs::copy(from, to).unwrap();
    }
}
