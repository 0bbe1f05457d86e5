//! The test machine itself: what it hides, what it sees, and that its guard bites.

use nixcache_tests::{Compilers, Machine};

#[test]
fn plain_cargo_works_offline_and_the_guard_sees_each_compilation() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package(
        "",
        "[dependencies]\nitoa = \"1\"\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(7)) }",
    );
    let cold = workspace.cargo(&["build"]).succeed();
    assert_eq!(cold.compiled_crates().into_iter().collect::<Vec<_>>(), ["app", "itoa"]);
    assert_eq!(workspace.run_output("debug/app"), "7\n");
    workspace.assert_nothing_to_do(&["build"]);
}

#[test]
fn the_guard_fails_what_must_not_be_compiled() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "", "fn main() {}");
    let outcome = workspace.cargo(&["build"]).compilers(Compilers::Fail).fail();
    assert!(outcome.stderr.contains("guard: rustc was called for app bin"), "{outcome}");
    let outcome = workspace.cargo(&["clippy"]).compilers(Compilers::Fail).fail();
    assert!(outcome.stderr.contains("guard: clippy-driver was called for app bin"), "{outcome}");
}

#[test]
fn the_environment_of_the_person_who_runs_the_tests_is_hidden() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "", "fn main() { for (name, _) in std::env::vars() { println!(\"{name}\") } }");
    let outcome = workspace.cargo(&["run"]).succeed();
    for name in ["RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUST_BACKTRACE", "CARGO_TARGET_DIR", "USER"] {
        assert!(!outcome.stdout.lines().any(|line| line == name), "{name} is seen\n{outcome}");
    }
}
