//! What is evaluated: purely, without building anything, and in a time that grows with the workspace.

use std::fmt::Write as _;

use super::place::Place;

#[test]
fn nix_flake_check_passes() {
    let Some(place) = Place::new("nix_flake_check_passes") else { return };
    let (flake, inputs) = place.flake("");
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    place.succeed("nix", &[&["flake", "check", &flake][..], &inputs].concat());
    let (shown, _) = place.succeed("nix", &[&["flake", "show", "--json", &flake][..], &inputs].concat());
    for output in ["overlays", "packages", "devShells", "checks", "templates", "nixosModules"] {
        assert!(shown.contains(&format!("\"{output}\"")), "{shown}");
    }
}

#[test]
fn every_function_evaluates_purely() {
    let Some(place) = Place::new("every_function_evaluates_purely") else { return };
    place.workspace();
    nixcache_tests::copy_tree(&place.path("ws"), &place.path("user/ws"), &[]);
    nixcache_tests::copy_tree(&place.path("nix"), &place.path("user/nix"), &[]);
    nixcache_tests::copy_tree(&place.path("stand-in"), &place.path("user/stand-in"), &[]);
    place.write("user/nif/Cargo.toml", "[package]\nname = \"demo_nif\"\n[lib]\ncrate-type = [\"cdylib\"]\n");
    place.write("user/nif/Cargo.lock", "version = 4\n");
    place.write("user/nif/src/lib.rs", "");
    place.write("user/nixcache.lock", LOCK);
    place.write("user/flake.nix", USER);
    let flake = format!("path:{}#functions", place.path("user").display());
    let (json, _) = place.succeed("nix", &["eval", "--json", &flake]);
    let functions: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (name, value) in functions.as_object().unwrap() {
        let text = value.as_str().unwrap_or_else(|| panic!("{name}: {value}"));
        assert!(text.starts_with(place.path("store").to_str().unwrap()), "{name}: {text}");
    }
    assert!(functions.as_object().unwrap().len() > 20, "{functions}");
}

/// A lock file with one of each.
const LOCK: &str = r#"version = 1

[units.x86_64-linux.build]
toolchain = "rustc 1.95.0"

[[units.x86_64-linux.build.records]]
key-path = "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0"
nar-hash = "sha256-KTIBEzm8rtLkyiP6ow9iEwE9vsUqevpJ+2BBa5yJzxc="
path = "/nix/store/rgy3mk635ha257gr8x39pdr7bkpf84ma-cargo-serde-1.0.0"

[nif.demo_nif]
namespace = "main"
version = "0.1.0"

[[nif.demo_nif.files]]
nar-hash = "sha256-KTIBEzm8rtLkyiP6ow9iEwE9vsUqevpJ+2BBa5yJzxc="
nif-version = "2.15"
path = "/nix/store/rgy3mk635ha257gr8x39pdr7bkpf84ma-cargo-serde-1.0.0"
target = "x86_64-unknown-linux-gnu"
"#;

/// Everything that gives a derivation or a source. Flakes are evaluated purely.
const USER: &str = r#"{
  outputs = { self }:
    let
      pkgs = import ./stand-in { system = "x86_64-linux"; };
      lib = import ./nix/lib.nix { inherit pkgs; };
      src = lib.cleanCargoSource self;
      ws = lib.cleanCargoSource ./ws;
      common = { src = ws; pname = "all"; version = "1"; };
      on = common // { cargoArtifacts = lib.buildDepsOnly common; };
      workspace = lib.buildWorkspace { src = ./ws; };
      fileset = lib.fileset.commonCargoSources ./ws;
      lock = ./nixcache.lock;
      record = builtins.head (builtins.fromTOML (builtins.readFile lock)).units.x86_64-linux.build.records;
    in
    {
      functions = builtins.mapAttrs (_: value: value.drvPath or (toString value)) (
        {
          source = src;
          files = pkgs.lib.fileset.toSource { root = ./ws; inherit fileset; };
          path = lib.path ./ws;
          skeleton = lib.mkDummySrc { src = ws; };
          toml = lib.writeTOML "x.toml" { a = 1; };
          vendored = lib.vendorCargoDeps common;
          derivation = lib.mkCargoDerivation (on // { buildPhaseCargoCommand = "cargo build"; });
          deps = lib.buildDepsOnly common;
          package = lib.buildPackage common;
          packageOnTop = lib.buildPackage on;
          build = lib.cargoBuild on;
          test = lib.cargoTest on;
          nextest = lib.cargoNextest on;
          nextestInParts = lib.cargoNextest (on // { partitions = 3; });
          clippy = lib.cargoClippy on;
          doc = lib.cargoDoc on;
          fmt = lib.cargoFmt on;
          shell = lib.devShell { checks = workspace.checks; };
          nif = lib.buildNif { src = ./nif; };
          workspaceDeps = workspace.deps;
          postBuildHook = lib.postBuildHook { to = "https://cache.example"; nix = null; };
          output = lib.fetchOutput { inherit (record) path; narHash = record.nar-hash; caches = [ "https://cache.example" ]; };
          outputByNix = lib.fetchOutput { inherit (record) path; narHash = record.nar-hash; url = "https://cache.example/nar/x.nar"; };
          restoreHook = lib.restoreHook { };
          inherit (lib) collectHook;
          nifOfLock = lib.fetchNif { inherit lock; nif = "demo_nif"; caches = [ "https://cache.example" ]; };
          warm = (lib.warmArtifacts { inherit lock; caches = [ "https://cache.example" ]; }).list;
          warmDeps = lib.buildDepsOnly (common // { warmArtifacts = lib.warmArtifacts { inherit lock; caches = [ "https://cache.example" ]; }; });
          inherit (lib)
            cargoHelperFunctionsHook
            configureCargoCommonVarsHook
            configureCargoVendoredDepsHook
            inheritCargoArtifactsHook
            installCargoArtifactsHook
            installFromCargoBuildLogHook
            removeReferencesToRustToolchainHook
            removeReferencesToVendoredSourcesHook
            replaceCargoLockHook
            ;
          overridden = (lib.overrideToolchain (pkgs: pkgs.rustc)).buildPackage common;
        }
        // workspace.packages
        // workspace.checks
      );
    };
}
"#;

/// A workspace of members that need each other and all of the crates of a long lock file.
fn large(place: &Place, members: usize, crates: usize) {
    let mut lock = String::from("version = 4\n\n");
    let mut names = Vec::new();
    for index in 0..crates {
        let name = format!("crate-{index}");
        let dependencies: String =
            (index + 1..crates.min(index + 4)).map(|next| format!(" \"crate-{next}\",\n")).collect();
        write!(
            lock,
            "[[package]]\nname = \"{name}\"\nversion = \"1.0.{index}\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
             checksum = \"{index:064x}\"\ndependencies = [\n{dependencies}]\n\n"
        )
        .unwrap();
        names.push(name);
    }
    for member in 0..members {
        let lines: String = names.iter().map(|name| format!("{name}.workspace = true\n")).collect();
        let previous = if member > 0 {
            format!("member-{} = {{ path = \"../member-{}\" }}\n", member - 1, member - 1)
        } else {
            String::new()
        };
        place.write(
            &format!("large/crates/member-{member}/Cargo.toml"),
            &format!("[package]\nname = \"member-{member}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n{previous}{lines}"),
        );
        for file in 0..10 {
            place.write(&format!("large/crates/member-{member}/src/part_{file}.rs"), "");
        }
        place.write(&format!("large/crates/member-{member}/src/lib.rs"), "");
        write!(lock, "[[package]]\nname = \"member-{member}\"\nversion = \"0.1.0\"\n\n").unwrap();
    }
    let shared: String = names.iter().map(|name| format!("{name} = \"1\"\n")).collect();
    place.write(
        "large/Cargo.toml",
        &format!("[workspace]\nmembers = [\"crates/*\"]\nresolver = \"3\"\n\n[workspace.dependencies]\n{shared}"),
    );
    place.write("large/Cargo.lock", &lock);
}

/// Every derivation of the workspace.
const LARGE: &str = "let w = lib.buildWorkspace { src = ./large; }; in
    builtins.length (map (drv: drv.drvPath) ([ w.deps ] ++ builtins.attrValues w.packages ++ builtins.attrValues w.checks))";

#[test]
fn a_large_workspace_evaluates() {
    let Some(place) = Place::new("a_large_workspace_evaluates") else { return };
    large(&place, 20, 500);
    assert_eq!(place.evaluate(LARGE), 1 + 20 + 41);
}

/// How long it takes, for `docs/nix.md`: `cargo test -p nixcache-tests --test flake -- --ignored --nocapture measured`.
#[test]
#[ignore = "it measures"]
#[expect(clippy::print_stderr, reason = "it shows what it measured")]
fn evaluation_is_measured() {
    for (members, crates) in [(5, 125), (10, 250), (20, 500), (40, 1000)] {
        let Some(place) = Place::new("evaluation_is_measured") else { return };
        large(&place, members, crates);
        place.evaluate(LARGE);
        let mut seconds: Vec<f64> = (0..5)
            .map(|_| {
                let begin = std::time::Instant::now();
                place.evaluate(LARGE);
                begin.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        eprintln!(
            "{members} members, {crates} crates: {:.2} s (from {:.2} to {:.2})",
            seconds[2], seconds[0], seconds[4]
        );
    }
}
