//! What has tools of its own: nextest, shells for people, and libraries for Erlang.

use std::process::Command;

use nixcache_tests::skipped;

use super::place::{Place, program_in_path};

#[test]
fn nextest_runs_tests_at_once_and_in_parts() {
    let test = "nextest_runs_tests_at_once_and_in_parts";
    let Some(place) = Place::new(test) else { return };
    if program_in_path("cargo-nextest").is_none() {
        return skipped(test, "cargo-nextest");
    }
    place.workspace();
    place.edit("ws/app/src/main.rs", "fn adds() {", "fn is_in_the_other_part() {}\n\n    #[test]\n    fn adds() {");
    place.write(
        "all.nix",
        "{ lib, partitions }:
         let
           common = { src = ./ws; pname = \"all\"; version = \"1\"; CARGO_PROFILE = \"\"; };
           cargoArtifacts = lib.buildDepsOnly common;
         in
         { inherit cargoArtifacts; tests = lib.cargoNextest (common // { inherit cargoArtifacts partitions; }); }\n",
    );
    let nextest = |partitions: u32| format!("(import ./all.nix {{ inherit lib; partitions = {partitions}; }}).tests");
    place.build("(import ./all.nix { inherit lib; partitions = 1; }).cargoArtifacts");
    let (_, log) = place.build(&nextest(1));
    assert!(log.contains("tests::adds") && log.contains("2 tests run: 2 passed"), "{log}");
    assert!(!log.contains("Compiling part"), "{log}");
    let (_, log) = place.build(&nextest(2));
    assert_eq!(log.matches("1 test run: 1 passed").count(), 2, "{log}");
    assert!(!log.contains("Compiling part"), "{log}");

    place.edit("ws/app/src/main.rs", "42", "43");
    let whole = format!("let lib = import ./lib.nix; in {}", nextest(1));
    let log = place.fail("nix-build", &["--no-out-link", "--expr", &whole]);
    assert!(log.contains("tests::adds") && log.contains("1 failed"), "{log}");
}

#[test]
fn a_shell_has_the_toolchain_and_what_checks_need() {
    let Some(place) = Place::new("a_shell_has_the_toolchain_and_what_checks_need") else { return };
    place.workspace();
    let (shell, _) = place.build(
        "let
           tool = name: (import ./stand-in { }).stdenv.mkDerivation {
             inherit name;
             buildCommand = ''
               mkdir -p $out/bin
               printf '#!/bin/sh\\necho this is ${name}\\n' >$out/bin/${name}
               chmod +x $out/bin/${name}
             '';
           };
           workspace = lib.buildWorkspace { src = ./ws; members.app.nativeBuildInputs = [ (tool \"for-app\") ]; };
         in
         lib.devShell { inherit (workspace) checks; packages = [ (tool \"for-people\") ]; }",
    );
    let run = |command: &str| {
        let script = format!("source {}; {command}", shell.display());
        let output = Command::new("bash").args(["-c", &script]).env_clear().output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for tool in ["cargo", "rustc", "cargo-clippy", "rustfmt"] {
        let found = run(&format!("command -v {tool}"));
        assert!(found.starts_with(place.path("store").to_str().unwrap()), "{tool}: {found}");
        run(&format!("{tool} --version"));
    }
    assert_eq!(run("for-people"), "this is for-people\n");
    assert_eq!(run("for-app"), "this is for-app\n");
}

#[test]
fn the_nifs_of_a_workspace_are_those_members_that_use_rustler() {
    let Some(place) = Place::new("the_nifs_of_a_workspace_are_those_members_that_use_rustler") else { return };
    let rustler = place.publish("rustler", "1.0.0", "pub fn answer() -> usize { 42 }\n", &[]);
    place.write("ws/Cargo.toml", "[workspace]\nmembers = [\"demo_nif\", \"plain\"]\nresolver = \"3\"\n");
    place.write(
        "ws/Cargo.lock",
        &format!(
            "version = 4\n\n[[package]]\nname = \"demo_nif\"\nversion = \"0.1.0\"\ndependencies = [\n \"plain\",\n \"rustler\",\n]\n\n\
             [[package]]\nname = \"plain\"\nversion = \"0.1.0\"\n\n{rustler}"
        ),
    );
    let package = |name: &str, more: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n{more}")
    };
    place.write("ws/plain/Cargo.toml", &package("plain", "[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n"));
    place.write("ws/plain/src/lib.rs", "pub fn plain() -> usize { 1 }\n");
    place.write(
        "ws/demo_nif/Cargo.toml",
        &package(
            "demo_nif",
            "[lib]\ncrate-type = [\"cdylib\"]\n\n[dependencies]\nplain = { path = \"../plain\" }\nrustler = \"1\"\n",
        ),
    );
    place.write(
        "ws/demo_nif/src/lib.rs",
        "#[unsafe(no_mangle)]\npub extern \"C\" fn nif_init() -> usize { rustler::answer() + plain::plain() }\n",
    );
    let nifs = "(lib.buildWorkspace { src = ./ws; CARGO_PROFILE = \"\"; doCheck = false; }).nifs";
    assert_eq!(place.evaluate(&format!("builtins.attrNames {nifs}")), serde_json::json!(["demo_nif"]));
    let (nif, _) = place.build(&format!("{nifs}.demo_nif"));
    assert!(nif.join("priv/native/demo_nif.so").is_file());
    assert!(nif.join("priv/native/libdemo_nif.so").exists() && nif.join("lib/libdemo_nif.so").exists());
}
