//! What a plan says about packages: where their sources are from, their checksums, declared inputs and features.

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::unit::{BoundaryKind, PackageSource, UnitGraph};
use nixcache_tests::oracle::Workspace;

fn source<'g>(graph: &'g UnitGraph, name: &str) -> &'g PackageSource {
    &graph.packages.iter().find(|package| package.name == name).expect("the package is planned").source
}

#[test]
fn registry_packages_carry_their_checksums() {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let root = Utf8Path::new(&package).parent().expect("the tests are below the root");
    let graph = Workspace::new(root, &[]).plan(&["build", "--workspace"]).expect("this workspace is planned");
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).expect("there is a lock file");
    let mut seen = 0;
    for package in &graph.packages {
        match &package.source {
            PackageSource::Registry { url, checksum } => {
                assert_eq!(url, "registry+https://github.com/rust-lang/crates.io-index", "{}", package.name);
                let checksum = checksum.as_deref().unwrap_or_else(|| panic!("{} has no checksum", package.name));
                assert!(checksum.len() == 64 && lock.contains(checksum), "{}", package.name);
                seen += 1;
            }
            source => assert_eq!(*source, PackageSource::Path { boundary: BoundaryKind::Member }, "{}", package.name),
        }
    }
    assert!(seen > 50);
    assert!(graph.packages.is_sorted_by(|a, b| a.name <= b.name), "packages have cargo's order");
}

#[test]
fn path_and_git_packages_are_told_apart() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(temporary.path()).expect("a temporary directory is UTF-8");
    let directory = directory.canonicalize_utf8().expect("a temporary directory has a real path");
    let package = |name: &str, rest: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\n{rest}");
    write(&directory.join("repository/Cargo.toml"), &package("versioned", ""));
    write(&directory.join("repository/src/lib.rs"), "");
    for arguments in [&["init", "-q", "-b", "main"] as &[&str], &["add", "-A"], &["commit", "-q", "-m", "first"]] {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let status = std::process::Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(directory.join("repository"))
            .status()
            .expect("start git");
        assert!(status.success());
    }
    write(&directory.join("outside/Cargo.toml"), &package("outside", "[workspace]\n"));
    write(&directory.join("outside/src/lib.rs"), "");
    write(&directory.join("work/inside/Cargo.toml"), &package("inside", "[features]\nb = []\na = []\n[workspace]\n"));
    write(&directory.join("work/inside/src/lib.rs"), "");
    let url = format!("file://{directory}/repository");
    let member = format!(
        "[package.metadata.nixcache]\ninputs = [\"queries/**\", \"env:DATABASE\"]\n\
         [dependencies]\nversioned = {{ git = \"{url}\", branch = \"main\" }}\n\
         inside = {{ path = \"inside\" }}\noutside = {{ path = \"../outside\" }}\n\
         [workspace]\nexclude = [\"inside\"]\n"
    );
    write(&directory.join("work/Cargo.toml"), &package("member", &member));
    write(&directory.join("work/src/lib.rs"), "");

    let mut workspace = Workspace::new(&directory.join("work/src"), &[]);
    let graph = workspace.plan(&["check", "--target-dir", "../out"]).expect("the workspace is planned");
    let places = workspace.places().expect("something was planned");
    assert_eq!(places.workspace_root, directory.join("work"));
    // Relative to where cargo is started.
    assert_eq!(places.target_directory, directory.join("work/src/../out"));
    assert_eq!(places.build_directory, places.target_directory);
    assert_eq!(places.member_manifests, [directory.join("work/Cargo.toml")]);
    let path = |boundary| PackageSource::Path { boundary };
    assert_eq!(*source(&graph, "member"), path(BoundaryKind::Member));
    assert_eq!(*source(&graph, "inside"), path(BoundaryKind::InsideWorkspace));
    assert_eq!(*source(&graph, "outside"), path(BoundaryKind::OutsideWorkspace));
    let PackageSource::Git { url: planned, commit } = source(&graph, "versioned") else { panic!("not from git") };
    assert_eq!(*planned, format!("git+{url}?branch=main"));
    assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let package = |name: &str| graph.packages.iter().find(|package| package.name == name).expect("it is planned");
    let declared = |name: &str| package(name).declared_inputs.clone();
    assert_eq!(declared("member").expect("it declares some"), ["queries/**", "env:DATABASE"]);
    assert_eq!(declared("inside"), None);
    assert_eq!(package("inside").declared_features.iter().collect::<Vec<_>>(), ["a", "b"]);
    let primary: Vec<bool> = graph.units.iter().map(|unit| unit.primary).collect();
    assert_eq!(primary.iter().filter(|primary| **primary).count(), 1);
}

fn write(path: &Utf8PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make a directory");
    std::fs::write(path, text).expect("write a file");
}
