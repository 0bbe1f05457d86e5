//! The test machine itself: what it hides, what it sees, and that its guard bites.

use nixcache_tests::{Compilers, Machine, Promise, Toolchain};
use std::fs;

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
fn the_guard_fails_c_compilers_where_it_is_asked_to() {
    let machine = Machine::with_toolchain(&Toolchain::current().guarding_c_compilers());
    let workspace = machine.workspace("app");
    workspace.package("", "", "fn main() {}").write("tide.c", "int tide(void) { return 7; }\n").write(
        "build.rs",
        r#"fn main() {
            println!("cargo::rerun-if-changed=tide.c");
            let out = std::env::var("OUT_DIR").unwrap();
            let version = std::process::Command::new("cc").arg("--version").status().unwrap();
            assert!(version.success(), "a question gets through");
            let status = std::process::Command::new("cc").args(["-c", "tide.c", "-o"]).arg(out + "/tide.o").status();
            assert!(status.unwrap().success());
        }"#,
    );
    let cold = workspace.cargo(&["build"]).succeed();
    assert!(cold.compiled.iter().any(|call| call.starts_with("cc ")), "{cold}");
    workspace.write("tide.c", "int tide(void) { return 8; }\n");
    let outcome = workspace.cargo(&["build"]).compilers(Compilers::Fail).fail();
    assert!(outcome.stderr.contains("guard: cc was called"), "{outcome}");
}

#[test]
#[should_panic(expected = "compilers were called")]
fn a_promise_is_broken_by_a_compiler() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "", "fn main() {}");
    let promise = Promise::new(&["build"]);
    let cold = promise.cold(&workspace);
    workspace.write("src/main.rs", "fn main() { println!() }");
    promise.hold(&workspace, &cold);
}

#[test]
#[should_panic(expected = "the content of these differs: [\"app\"]")]
fn a_promise_is_broken_by_another_program() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "", "fn main() {}");
    let promise = Promise::new(&["build"]);
    let cold = promise.cold(&workspace);
    let warm = promise.warm(&workspace);
    let program = workspace.target().join("debug/app");
    let mut content = fs::read(&program).unwrap();
    // Padding of the ELF header, which nobody reads.
    content[9] ^= 1;
    fs::write(&program, content).unwrap();
    promise.check(&workspace, warm, &cold);
}

#[test]
#[should_panic(expected = "cargo ran [")]
fn a_promise_is_broken_by_a_build_script_that_cargo_runs() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "", "fn main() {}").write("build.rs", "fn main() {}");
    let promise = Promise::new(&["build"]);
    let cold = promise.cold(&workspace);
    let mut warm = promise.warm(&workspace);
    warm.stderr += "     Running `/somewhere/build-script-build`\n";
    promise.check(&workspace, warm, &cold);
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
