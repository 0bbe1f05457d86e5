//! What cannot be planned is left to cargo, and named.

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_tests::oracle::Workspace;

const MANIFEST: &str = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\nlinks = \"native\"\n";

struct Place {
    _temporary: tempfile::TempDir,
    directory: Utf8PathBuf,
}

fn place(manifest: &str, config: &str) -> Place {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(temporary.path()).expect("a temporary directory is UTF-8");
    let directory = directory.canonicalize_utf8().expect("a temporary directory has a real path");
    for (path, text) in
        [("Cargo.toml", manifest), (".cargo/config.toml", config), ("src/lib.rs", ""), ("build.rs", "fn main() {}")]
    {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make a directory");
        std::fs::write(path, text).expect("write a file");
    }
    Place { _temporary: temporary, directory }
}

fn reasons(place: &Place, line: &str) -> Vec<String> {
    let mut workspace = Workspace::new(&place.directory, &[("CARGO_NET_OFFLINE", "true")]);
    let line: Vec<&str> = line.split_whitespace().collect();
    let graph = workspace.plan(&line).expect("the command line can be read");
    assert_eq!(graph.units.is_empty(), !graph.passed_through.is_empty(), "{:?}", graph.passed_through);
    graph.passed_through.into_iter().map(|reason| reason.what).collect()
}

#[test]
fn what_is_understood_is_planned() {
    assert!(reasons(&place(MANIFEST, ""), "build").is_empty());
    // A replaced build script of another package, or for another platform, is none of ours.
    let others = "[target.x86_64-unknown-linux-gnu.other]\nx = 'y'\n[target.aarch64-unknown-linux-gnu.native]\nx = 'y'";
    assert!(reasons(&place(MANIFEST, others), "build").is_empty());
}

#[test]
fn replaced_build_scripts_are_left_to_cargo() {
    let config = "[target.x86_64-unknown-linux-gnu.native]\nrustc-link-lib = ['z']";
    assert_eq!(reasons(&place(MANIFEST, config), "build"), ["a 0.1.0 run-build-script"]);
}

#[test]
fn unknown_arguments_and_settings_are_left_to_cargo() {
    let plain = place(MANIFEST, "");
    assert_eq!(reasons(&plain, "build --artifact-dir=x"), ["--artifact-dir=x"]);
    assert_eq!(reasons(&plain, "build -Zbuild-std"), ["-Z build-std"]);
    assert_eq!(reasons(&plain, "tree"), ["tree"]);
    assert_eq!(reasons(&place(MANIFEST, "[unstable]\nbindeps = true"), "build"), ["unstable.bindeps"]);
    let profile = format!("{MANIFEST}[profile.dev]\nhint-mostly-unused = true");
    assert_eq!(reasons(&place(&profile, ""), "build"), ["profile.dev: hint-mostly-unused"]);
}
