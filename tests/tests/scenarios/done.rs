//! The promise: `examples/workspace`, built once, is never built again, wherever it is.
//!
//! Each command fills a store; then an empty target directory in the same checkout, another checkout, another machine,
//! and one with a separate build directory must be filled from it, without any compiler or script. The commands share
//! the store, as they do with users: what one of them has built for another is not built here either.

use nixcache_tests::{Compilers, Machine, Promise, Toolchain, skipped};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tempfile::TempDir;

/// The store of the tests that run here, removed with the last of them.
struct Shared(Arc<TempDir>);

impl Shared {
    fn store() -> Self {
        static STORE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
        let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = store.upgrade().unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()));
        *store = Arc::downgrade(&directory);
        Self(directory)
    }

    fn machine(&self, toolchain: &Toolchain) -> Machine {
        Machine::with_store(toolchain, &self.0.path().join("store"))
    }

    /// Does what may compile. One at a time: two that build the same at once would both compile it.
    fn fill<T>(&self, build: impl FnOnce() -> T) -> T {
        static FILLS: Mutex<()> = Mutex::new(());
        let _fills = FILLS.lock().unwrap_or_else(PoisonError::into_inner);
        build()
    }
}

fn promise(toolchain: &Toolchain, arguments: &[&str]) {
    let promise = Promise::new(&[arguments, &["--workspace", "--locked"]].concat());
    let shared = Shared::store();
    let machine = shared.machine(toolchain);
    let first = machine.example("first/checkout");
    let cold = shared.fill(|| promise.cold(&first));
    let second = machine.example("second/deeper/down");
    let other = machine.another();
    let third = other.example("third").with_target(other.root().join("built/elsewhere"));
    let fourth = machine.example("fourth").with_build_directory(machine.root().join("intermediate"));
    let places = [
        ("the same checkout", &first),
        ("another checkout", &second),
        ("another checkout, cargo home, target directory and home", &third),
        ("a separate build directory", &fourth),
    ];
    for (place, workspace) in places {
        eprintln!("{arguments:?}: {place}");
        promise.hold(workspace, &cold);
        if cold.outputs().names().contains(&"tides") {
            assert!(workspace.run_output("debug/tides").starts_with("metres above LAT"));
        }
        workspace.remove_target();
    }
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
    let shared = Shared::store();
    let machine = shared.machine(&Toolchain::current());
    let first = machine.example("first");
    let arguments = ["build", "--workspace", "--locked", "--release"];
    shared.fill(|| first.build(&arguments));
    let cold = first.outputs("release");
    let other = machine.another();
    for workspace in [first, other.example("second")] {
        workspace.hit(&arguments);
        workspace.outputs("release").assert_same(&cold);
    }
}

#[test]
fn documentation_needs_rustdoc_and_nothing_else() {
    let shared = Shared::store();
    let machine = shared.machine(&Toolchain::current());
    let arguments = ["doc", "--workspace", "--locked", "--no-deps"];
    shared.fill(|| machine.example("first").build(&arguments));
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
    let shared = Shared::store();
    let machine = shared.machine(&Toolchain::current());
    let first = machine.example("first");
    let arguments = ["test", "--workspace", "--locked", "--lib", "--bins", "--tests"];
    shared.fill(|| first.build(&arguments));
    let second = machine.example("second");
    let outcome = second.nixcache(&arguments).restores_everything();
    assert!(outcome.stdout.contains("the_binary_prints_a_table ... ok"), "{outcome}");
}

fn on_nightly(test: &str, arguments: &[&str]) {
    let Some(nightly) = Toolchain::nightly() else { return skipped(test, "a nightly toolchain") };
    let shared = Shared::store();
    let machine = shared.machine(&nightly);
    let promise = Promise::new(&[arguments, &["--workspace", "--locked", "-Zbuild-dir-new-layout"]].concat());
    let first = machine.example("first");
    let cold = shared.fill(|| promise.cold(&first));
    let other = machine.another();
    let moved = other.example("third").with_target(other.root().join("elsewhere"));
    for workspace in [first, machine.example("second"), moved] {
        promise.hold(&workspace, &cold);
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
