//! What is selected decides which features are unified: every selection has units of its own, and keeps them.

use nixcache_tests::{Machine, Workspace};

/// Two members that want different features of one dependency, which tells what it was built with.
fn workspace(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("two");
    workspace.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"low\", \"high\", \"shared\"]\n");
    workspace.package(
        "shared",
        "[features]\ndefault = [\"base\"]\nbase = []\nextra = []\n",
        "pub fn text() -> String { format!(\"base={} extra={}\", cfg!(feature = \"base\"), cfg!(feature = \"extra\")) }\n",
    );
    let main = "fn main() { println!(\"{}\", shared::text()) }\n";
    workspace.package("low", "[dependencies]\nshared = { path = \"../shared\" }\n", main);
    workspace.package(
        "high",
        "[features]\nplain = []\n[dependencies]\nshared = { path = \"../shared\", features = [\"extra\"] }\n",
        main,
    );
    workspace
}

#[test]
fn one_package_and_the_whole_workspace_differ_and_both_stay() {
    let machine = Machine::new();
    let workspace = workspace(&machine);
    workspace.build(&["build", "-p", "low"]);
    assert_eq!(workspace.run_output("debug/low"), "base=true extra=false\n");
    workspace.hit(&["build", "-p", "low"]);
    workspace.miss(&["build", "--workspace"], &["high 0.1.0", "low 0.1.0", "shared 0.1.0"]);
    assert_eq!(workspace.run_output("debug/low"), "base=true extra=true\n");
    for _ in 0..2 {
        workspace.hit(&["build", "-p", "low"]);
        assert_eq!(workspace.run_output("debug/low"), "base=true extra=false\n");
        workspace.hit(&["build", "--workspace"]);
        assert_eq!(workspace.run_output("debug/low"), "base=true extra=true\n");
    }
}

#[test]
fn both_selections_stay_right_in_one_target_directory() {
    let machine = Machine::new();
    let workspace = workspace(&machine);
    workspace.build(&["build", "-p", "low"]);
    workspace.nixcache(&["build", "--workspace"]).succeed();
    for _ in 0..2 {
        workspace.nixcache(&["build", "-p", "low"]).succeed().assert_fresh();
        assert_eq!(workspace.run_output("debug/low"), "base=true extra=false\n");
        workspace.nixcache(&["build", "--workspace"]).succeed().assert_fresh();
        assert_eq!(workspace.run_output("debug/low"), "base=true extra=true\n");
    }
}

#[test]
fn every_spelling_of_a_selection_hits_what_an_equal_one_built() {
    let equal: &[&[&[&str]]] = &[
        &[&["-p", "low"], &["--package", "low"], &["--package=low"], &["--manifest-path", "low/Cargo.toml"]],
        &[
            &["--workspace"],
            &["--all"],
            &["-p", "low", "-p", "high", "-p", "shared"],
            &["--workspace", "--exclude", "none*"],
        ],
        &[
            &["-p", "shared", "--features", "extra"],
            &["-p", "shared", "-F", "extra"],
            &["-p", "shared", "--all-features"],
        ],
        &[&["-p", "low", "--bins"], &["-p", "low", "--bin", "low"]],
    ];
    let machine = Machine::new();
    let workspace = workspace(&machine);
    for group in equal {
        let command = |spelling: &[&'static str]| [&["build"], spelling].concat();
        workspace.build(&command(group[0]));
        for spelling in *group {
            workspace.hit(&command(spelling));
        }
    }
}

#[test]
fn a_feature_more_or_less_is_a_miss() {
    let machine = Machine::new();
    let workspace = workspace(&machine);
    workspace.build(&["build", "-p", "shared"]);
    workspace.hit(&["build", "-p", "shared"]);
    workspace.miss(&["build", "-p", "shared", "--features", "extra"], &["shared 0.1.0"]);
    workspace.miss(&["build", "-p", "shared", "--no-default-features"], &["shared 0.1.0"]);
    workspace.hit(&["build", "-p", "shared"]);
    workspace.hit(&["build", "-p", "shared", "--no-default-features"]);
}

#[test]
fn the_directory_that_cargo_is_called_in_selects_as_with_cargo() {
    let machine = Machine::new();
    let workspace = workspace(&machine);
    workspace.build(&["build", "-p", "low"]);
    workspace.remove_target();
    workspace.nixcache(&["build"]).directory("low").restores_everything();
    assert_eq!(workspace.run_output("debug/low"), "base=true extra=false\n");
}

#[test]
fn default_members_are_what_is_built_without_a_selection() {
    let machine = Machine::new();
    let workspace = workspace(&machine);
    workspace.edit("Cargo.toml", "members = [\"low\"", "default-members = [\"low\"]\nmembers = [\"low\"");
    workspace.build(&["build"]);
    assert!(!workspace.target().join("debug/high").exists());
    workspace.hit(&["build"]);
    workspace.hit(&["build", "-p", "low"]);
}

#[test]
fn host_and_target_features_are_apart_with_resolver_two_and_together_with_one() {
    for (resolver, target, host) in [("1", "extra=true", "extra=true"), ("2", "extra=false", "extra=true")] {
        let machine = Machine::new();
        let workspace = machine.workspace("app");
        workspace.package(
            "shared",
            "[features]\nextra = []\n",
            "pub fn text() -> String { format!(\"extra={}\", cfg!(feature = \"extra\")) }\n",
        );
        workspace.package(
            "",
            &format!(
                "build = \"build.rs\"\n[dependencies]\nshared = {{ path = \"shared\" }}\n\
                 [build-dependencies]\nshared = {{ path = \"shared\", features = [\"extra\"] }}\n\
                 [workspace]\nresolver = \"{resolver}\"\n"
            ),
            "fn main() { println!(\"{} {}\", shared::text(), env!(\"HOST\")) }\n",
        );
        workspace.write(
            "build.rs",
            "fn main() { println!(\"cargo::rerun-if-changed=build.rs\"); println!(\"cargo::rustc-env=HOST={}\", shared::text()) }\n",
        );
        workspace.build(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), format!("{target} {host}\n"), "resolver {resolver}");
        workspace.hit(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), format!("{target} {host}\n"), "resolver {resolver}");
    }
}

#[test]
fn dev_dependencies_change_what_a_test_build_unifies() {
    let machine = Machine::new();
    let workspace = workspace(&machine);
    workspace.edit("low/Cargo.toml", "shared = {", "shared = { features = [], ");
    workspace.write(
        "low/Cargo.toml",
        workspace.read("low/Cargo.toml")
            + "[dev-dependencies]\nshared = { path = \"../shared\", features = [\"extra\"] }\n",
    );
    workspace.build(&["build", "-p", "low"]);
    assert_eq!(workspace.run_output("debug/low"), "base=true extra=false\n");
    workspace.build(&["test", "--no-run", "-p", "low"]);
    workspace.hit(&["test", "--no-run", "-p", "low"]);
    workspace.hit(&["build", "-p", "low"]);
    assert_eq!(workspace.run_output("debug/low"), "base=true extra=false\n");
}
