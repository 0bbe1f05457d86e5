//! The promise: `examples/workspace`, built once, is never built again, wherever it is.
//!
//! One cold build per command fills a store; then an empty target directory in the same checkout, another checkout,
//! another machine, and one with a separate build directory must be filled from it, without any compiler or script.

use nixcache_tests::{Compilers, Machine, Outcome, Outputs, Toolchain, Workspace, skipped};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Test programs and other executables that cargo's messages name, by path below the target directory.
fn executables(outcome: &Outcome, target: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    outcome
        .messages()
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .map(|path| (path.strip_prefix(target).unwrap_or(&path).to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

struct Cold {
    outputs: Outputs,
    executables: BTreeMap<PathBuf, Vec<u8>>,
}

fn command<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, &["--workspace", "--locked", "--message-format=json"]].concat()
}

fn cold(workspace: &Workspace, arguments: &[&str]) -> Cold {
    let outcome = workspace.build(&command(arguments));
    assert_eq!(outcome.units().passed_through, 0, "{outcome}");
    Cold { outputs: workspace.outputs("debug"), executables: executables(&outcome, &workspace.target()) }
}

/// Everything comes from the store, is byte-identical, runs, and leaves plain cargo nothing to do.
fn warm(place: &str, workspace: &Workspace, arguments: &[&str], cold: &Cold) {
    eprintln!("{arguments:?}: {place}");
    workspace.remove_target();
    let outcome = workspace.nixcache(&command(arguments)).restores_everything();
    workspace.outputs("debug").assert_same(&cold.outputs);
    let executables = executables(&outcome, &workspace.target());
    assert!(executables == cold.executables, "the executables differ in {place}\n{outcome}");
    workspace.assert_nothing_to_do(&[arguments, &["--workspace", "--locked"]].concat());
    let verbose = [arguments, &["--workspace", "--locked", "--verbose"]].concat();
    let verbose = workspace.cargo(&verbose).compilers(Compilers::Fail).succeed();
    assert!(!verbose.stderr.contains("Running `"), "cargo ran something in {place}\n{verbose}");
    for name in cold.outputs.names() {
        if name == "tides" {
            assert!(workspace.run_output("debug/tides").starts_with("metres above LAT"));
        }
    }
}

fn promise(toolchain: &Toolchain, arguments: &[&str]) {
    let machine = Machine::with_toolchain(toolchain);
    let first = machine.example("first/checkout");
    let cold = cold(&first, arguments);
    warm("the same checkout", &first, arguments, &cold);
    warm("another checkout", &machine.example("second/deeper/down"), arguments, &cold);
    let other = machine.another();
    let third = other.example("third").with_target(other.root().join("built/elsewhere"));
    warm("another checkout, cargo home, target directory and home", &third, arguments, &cold);
    let fourth = machine.example("fourth").with_env("CARGO_BUILD_BUILD_DIR", machine.root().join("intermediate"));
    let remove = || drop(std::fs::remove_dir_all(machine.root().join("intermediate")));
    remove();
    // Test programs are in the build directory then, so only final files can be compared.
    fourth.nixcache(&command(arguments)).restores_everything();
    fourth.outputs("debug").assert_same(&cold.outputs);
    fourth.assert_nothing_to_do(&[arguments, &["--workspace", "--locked"]].concat());
    remove();
}

#[test]
fn build_is_never_done_twice() {
    promise(&Toolchain::current(), &["build"]);
}

#[test]
fn check_is_never_done_twice() {
    promise(&Toolchain::current(), &["check", "--all-targets"]);
}

#[test]
fn test_is_never_compiled_twice() {
    promise(&Toolchain::current(), &["test", "--no-run"]);
}

#[test]
fn clippy_is_never_done_twice() {
    promise(&Toolchain::current(), &["clippy"]);
}

#[test]
fn a_release_build_is_never_done_twice() {
    let machine = Machine::new();
    let first = machine.example("first");
    let arguments = ["build", "--workspace", "--locked", "--release"];
    first.build(&arguments);
    let cold = first.outputs("release");
    let other = machine.another();
    for workspace in [first, other.example("second")] {
        workspace.hit(&arguments);
        workspace.outputs("release").assert_same(&cold);
    }
}

#[test]
fn documentation_needs_rustdoc_and_nothing_else() {
    let machine = Machine::new();
    let arguments = ["doc", "--workspace", "--locked", "--no-deps"];
    machine.example("first").build(&arguments);
    let other = machine.another();
    for workspace in [machine.example("first"), machine.example("second"), other.example("third")] {
        workspace.remove_target();
        let outcome = workspace.nixcache(&arguments).compilers(Compilers::OnlyRustdoc).succeed();
        assert!(outcome.compiled.iter().all(|call| call.starts_with("rustdoc ")), "{outcome}");
        assert!(workspace.target().join("doc/tides_model/index.html").is_file(), "{outcome}");
    }
}

#[test]
fn tests_are_run_from_a_warm_store_without_compiling() {
    let machine = Machine::new();
    let first = machine.example("first");
    let arguments = ["test", "--workspace", "--locked", "--lib", "--bins", "--tests"];
    first.build(&arguments);
    let second = machine.example("second");
    let outcome = second.nixcache(&arguments).restores_everything();
    assert!(outcome.stdout.contains("the_binary_prints_a_table ... ok"), "{outcome}");
}

fn on_nightly(test: &str, arguments: &[&str]) {
    let Some(nightly) = Toolchain::nightly() else { return skipped(test, "a nightly toolchain") };
    let machine = Machine::with_toolchain(&nightly);
    let arguments = [arguments, &["--workspace", "--locked", "-Zbuild-dir-new-layout"]].concat();
    let first = machine.example("first");
    first.build(&arguments);
    let cold = first.outputs("debug");
    let other = machine.another();
    let moved = other.example("third").with_target(other.root().join("elsewhere"));
    for workspace in [first, machine.example("second"), moved] {
        workspace.hit(&arguments);
        workspace.outputs("debug").assert_same(&cold);
    }
}

#[test]
fn build_is_never_done_twice_in_the_new_layout() {
    on_nightly("build_is_never_done_twice_in_the_new_layout", &["build"]);
}

#[test]
fn check_is_never_done_twice_in_the_new_layout() {
    on_nightly("check_is_never_done_twice_in_the_new_layout", &["check"]);
}

#[test]
fn test_is_never_compiled_twice_in_the_new_layout() {
    on_nightly("test_is_never_compiled_twice_in_the_new_layout", &["test", "--no-run"]);
}
