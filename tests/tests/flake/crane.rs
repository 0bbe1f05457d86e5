//! The same with the real crane, where `tests/crane` has fetched it: its derivations and ours on top of each other, and
//! its hooks with what the command line packs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixcache_tests::{Machine, skipped, walk};

use super::place::Place;
use super::warm::Border;

/// The directory of `tests/crane`, which `NIXCACHE_TEST_CRANE` names.
fn fetched(test: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("NIXCACHE_TEST_CRANE").filter(|directory| !directory.is_empty());
    if directory.is_none() {
        skipped(test, "the real crane: tests/crane fetches it");
    }
    directory.map(PathBuf::from)
}

/// A place where `crane` stands for crane, `ours` for our derivations and `both` for ours through crane.
fn place(test: &str) -> Option<Place> {
    let fetched = fetched(test)?;
    let place = Place::new(test)?;
    let with_crane = nixcache_tests::repository().join("tests/nix/with-crane.nix");
    fs::copy(with_crane, place.path("with-crane.nix")).unwrap();
    place.write(
        "all.nix",
        &format!(
            "let
               overlaid = import ./with-crane.nix {{ fetched = {}; }};
               registry = lib: [
                 (lib.registryFromDownloadUrl {{
                   indexUrl = \"https://github.com/rust-lang/crates.io-index\";
                   dl = \"file://${{toString ./crates}}/{{crate}}-{{version}}.crate\";
                 }})
               ];
               known = lib: lib.appendCrateRegistries (registry lib);
               crane = known overlaid.craneLib;
             in
             rec {{
               inherit crane;
               ours = known (import ./nix/lib.nix {{ inherit (overlaid) pkgs; }});
               both = import ./nix/lib.nix {{ inherit (overlaid) pkgs; craneLib = crane; }};
               # The toolchain is in no store here, and crane's hook looks for the name that it has there.
               everywhere = {{ src = ./ws; CARGO_PROFILE = \"\"; doCheck = false; doNotRemoveReferencesToRustToolchain = true; }};
               # Cargo knows crates by the directory that they are in, so all have to have them from one.
               cargoVendorDir = crane.vendorCargoDeps {{ src = ./ws; }};
               common = everywhere // {{ pname = \"all\"; version = \"1\"; inherit cargoVendorDir; }};
               on = cargoArtifacts: common // {{ inherit cargoArtifacts; }};
               workspace = both.buildWorkspace everywhere;
             }}\n",
            fetched.display()
        ),
    );
    place.workspace();
    Some(place)
}

fn build(place: &Place, expression: &str) -> (PathBuf, String) {
    place.build(&format!("with (import ./all.nix); {expression}"))
}

fn run(program: &Path) -> String {
    String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap()
}

#[test]
fn a_workspace_is_built_through_crane() {
    let Some(place) = place("a_workspace_is_built_through_crane") else { return };
    let (_, log) = build(&place, "workspace.deps");
    assert!(log.contains("Compiling part v1.0.0"), "{log}");
    let (app, log) = build(&place, "workspace.packages.app");
    assert_eq!(run(&app.join("bin/app")), "42 library 40\n");
    assert!(!log.contains("Compiling part") && !log.contains("Compiling base"), "{log}");
    assert_eq!(log.matches("Compiling library v0.1.0").count(), 1, "{log}");
}

#[test]
fn artifacts_flow_from_crane_to_us_and_back() {
    let test = "artifacts_flow_from_crane_to_us_and_back";
    let Some(place) = place(test) else { return };
    // Crane asks for it; older ones can't read its skeleton's expression.
    if place.evaluate("builtins.compareVersions builtins.nixVersion \"2.31\" < 0") == true {
        return skipped(test, "Nix 2.31: tests/modern-nix sets one up");
    }
    let once = |log: &str| assert!(!log.contains("Compiling part") && !log.contains("Compiling base"), "{log}");
    // Crane's package on our dependencies.
    let (_, log) = build(&place, "ours.buildDepsOnly common");
    assert!(log.contains("Compiling part v1.0.0"), "{log}");
    let (package, log) = build(&place, "crane.buildPackage (on (ours.buildDepsOnly common))");
    once(&log);
    assert_eq!(run(&package.join("bin/app")), "42 library 40\n");
    // Ours on crane's.
    let (_, log) = build(&place, "crane.buildDepsOnly common");
    assert!(log.contains("Compiling part v1.0.0"), "{log}");
    let (package, log) = build(&place, "ours.buildPackage (on (crane.buildDepsOnly common))");
    once(&log);
    assert_eq!(run(&package.join("bin/app")), "42 library 40\n");
    // Chains of both kinds: an archive of the one goes on from an archive of the other.
    for (first, second) in [("ours", "crane"), ("crane", "ours")] {
        let middle = format!("{second}.cargoBuild (on ({first}.buildDepsOnly common))");
        let (built, log) = build(&place, &middle);
        assert!(built.join("target.tar.zst.prev").is_symlink(), "{first}, then {second}");
        once(&log);
        let (_, log) = build(&place, &format!("{first}.cargoBuild (on ({middle}))"));
        assert!(log.contains("Finished") && !log.contains("Compiling"), "{first}, then {second}: {log}");
    }
}

#[test]
fn units_published_outside_are_used_in_derivations_of_crane() {
    let test = "units_published_outside_are_used_in_derivations_of_crane";
    let Some(fetched) = fetched(test) else { return };
    let Some(border) = Border::new(test) else { return };
    let Border { place, machine, workspace, .. } = &border;
    let with_crane = nixcache_tests::repository().join("tests/nix/with-crane.nix");
    fs::copy(with_crane, place.path("with-crane.nix")).unwrap();
    place.write(
        "lib.nix",
        &format!(
            "let
               overlaid = import ./with-crane.nix {{ fetched = {}; }};
             in
             import ./nix/lib.nix {{
               inherit (overlaid) pkgs;
               craneLib = overlaid.craneLib.appendCrateRegistries [
                 (overlaid.craneLib.registryFromDownloadUrl {{
                   indexUrl = \"https://github.com/rust-lang/crates.io-index\";
                   dl = \"file://{}/registry/cache/index.crates.io-1949cf8c6b5b557f/{{crate}}-{{version}}.crate\";
                 }})
               ];
             }}\n",
            fetched.display(),
            machine.cargo_home().display()
        ),
    );
    border.publishing(workspace).build(&["build"]);
    border.lock();
    border.copy_sources();
    border.allow(&["app"]);
    let more = format!(
        "doNotRemoveReferencesToRustToolchain = true;
         warmArtifacts = {};",
        border.warm_artifacts()
    );
    let (app, log) = place.build(&format!("{}.packages.app", border.build_workspace(&more)));
    assert!(!log.contains("Compiling quote"), "{log}");
    assert_eq!(run(&app.join("bin/app")), "it works\n");
}

/// The files below a directory, with what is in them.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walk(root)
        .into_iter()
        .filter(|path| !path.is_dir())
        .map(|path| (path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
}

/// Runs crane's hooks.
fn hooks(fetched: &Path, directory: &Path, script: &str) {
    let whole = format!(
        "source {0}/inheritCargoArtifactsHook.sh; source {0}/installCargoArtifactsHook.sh; {script}",
        fetched.join("crane/lib/setupHooks").display()
    );
    let output = Command::new("bash").args(["-eo", "pipefail", "-c", &whole]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn cranes_hooks_read_what_is_exported_and_write_what_is_imported() {
    let test = "cranes_hooks_read_what_is_exported_and_write_what_is_imported";
    let Some(fetched) = fetched(test) else { return };
    let machine = Machine::new();
    // Sessions of incremental compilation are deleted, which archives can't say.
    let workspace = machine.workspace("app").with_env("CARGO_INCREMENTAL", "0");
    workspace.package("", "[dependencies]\nquote = \"1\"\n[workspace]\n", "fn main() { println!(\"one\"); }\n");
    let root = workspace.root().to_owned();
    let place = root.as_path();
    workspace.cargo(&["build"]).succeed();
    workspace.nixcache(&["export", "--format", "crane", "--out", "first"]).succeed();
    let first = files(&place.join("target"));
    workspace.edit("src/main.rs", "one", "two");
    workspace.cargo(&["build"]).succeed();
    workspace.nixcache(&["export", "--format", "crane", "--out", "second", "--previous", "first"]).succeed();
    let second = files(&place.join("target"));
    assert!(place.join("second/target.tar.zst.prev").is_symlink());

    hooks(&fetched, place, "inheritCargoArtifacts $PWD/first one; inheritCargoArtifacts $PWD/second two");
    assert_eq!(files(&place.join("one")), first);
    assert_eq!(files(&place.join("two")), second);

    // On top of that, by crane's hook, and back.
    fs::write(place.join("two/added"), "added").unwrap();
    hooks(
        &fetched,
        place,
        "export TMPDIR=$PWD; prepareAndInstallCargoArtifactsDir $PWD/third $PWD/two use-zstd $PWD/second",
    );
    assert!(place.join("third/target.tar.zst.prev").is_symlink());
    workspace.nixcache(&["import", "--format", "crane", "third", "--target-dir", "three"]).succeed();
    let mut third = second;
    third.insert("added".into(), b"added".to_vec());
    assert_eq!(files(&place.join("three")), third);
    // And a whole one.
    hooks(&fetched, place, "export TMPDIR=$PWD; prepareAndInstallCargoArtifactsDir $PWD/fourth $PWD/two use-zstd ''");
    workspace.nixcache(&["import", "--format", "crane", "fourth", "--target-dir", "four"]).succeed();
    assert_eq!(files(&place.join("four")), third);
    // Cargo believes it.
    fs::remove_dir_all(place.join("target")).unwrap();
    workspace.nixcache(&["import", "--format", "crane", "third"]).succeed();
    let log = workspace.cargo(&["build"]).succeed().stderr.clone();
    assert!(!log.contains("Compiling quote"), "{log}");
}
