//! Several toolchains share a store: each has artifacts of its own, and its own hits.

use nixcache_tests::{Machine, Toolchain, skipped};

use crate::small::app;

fn each_has_its_own(test: &str, other: Option<Toolchain>, missing: &str) {
    let Some(other) = other else { return skipped(test, missing) };
    let store = tempfile::tempdir().unwrap();
    let first = app(&Machine::with_store(&Toolchain::current(), store.path()));
    let second = app(&Machine::with_store(&other, store.path()));
    first.build(&["build"]);
    let outcome = second.build(&["build"]);
    assert_eq!(outcome.units().restored, 0, "another compiler's files were used\n{outcome}");
    for workspace in [&first, &second, &first, &second] {
        workspace.hit(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), "1\n");
    }
}

#[test]
fn the_distribution_s_toolchain_has_artifacts_of_its_own() {
    each_has_its_own(
        "the_distribution_s_toolchain_has_artifacts_of_its_own",
        Toolchain::system(),
        "a second toolchain in /usr/bin",
    );
}

#[test]
fn nightly_has_artifacts_of_its_own() {
    each_has_its_own("nightly_has_artifacts_of_its_own", Toolchain::nightly(), "a nightly toolchain");
}

#[test]
fn the_new_directory_layout_and_the_old_one_share_what_was_built() {
    const TEST: &str = "the_new_directory_layout_and_the_old_one_share_what_was_built";
    let Some(nightly) = Toolchain::nightly() else { return skipped(TEST, "a nightly toolchain") };
    let workspace = app(&Machine::with_toolchain(&nightly));
    let (old, new) = (["build"], ["build", "-Zbuild-dir-new-layout"]);
    workspace.build(&new);
    workspace.hit(&new);
    assert_eq!(workspace.run_output("debug/app"), "1\n");
    // Whether the other layout hits is not promised; that both are right, and stay, is.
    workspace.build(&old);
    workspace.hit(&old);
    workspace.hit(&new);
}
