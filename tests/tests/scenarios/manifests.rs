//! Manifests: what reaches the compiler is an input, the rest isn't.

use nixcache_tests::{Machine, Workspace};

/// A workspace with inheritance, built once.
fn built(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("house");
    workspace.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"app\", \"part\"]\n\
         [workspace.package]\nversion = \"0.1.0\"\nedition = \"2024\"\nauthors = [\"One\"]\n\
         [workspace.dependencies]\npart = { path = \"part\" }\n[workspace.lints.rust]\nunused = \"warn\"\n",
    );
    let package = |name: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\nauthors.workspace = true\n\
             [lints]\nworkspace = true\n"
        )
    };
    workspace.package("part", &package("part"), "pub fn part() -> &'static str { \"part\" }\n");
    workspace.package(
        "app",
        &(package("app") + "[dependencies]\npart.workspace = true\n"),
        "fn main() { println!(\"{} {} {}\", part::part(), env!(\"CARGO_PKG_VERSION\"), env!(\"CARGO_PKG_AUTHORS\")) }\n",
    );
    workspace.write("part/README.md", "# Part\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace
}

#[test]
fn a_version_bump_of_a_member_builds_it_and_its_dependents() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.edit("app/Cargo.toml", "version.workspace = true", "version = \"0.2.0\"");
    workspace.miss(&["build"], &["app 0.2.0"]);
    assert_eq!(workspace.run_output("debug/app"), "part 0.2.0 One\n");
    workspace.edit("part/Cargo.toml", "version.workspace = true", "version = \"0.3.0\"");
    workspace.miss(&["build"], &["app 0.2.0", "part 0.3.0"]);
    workspace.hit(&["build"]);
}

#[test]
fn changed_lints_are_shown() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.edit("part/src/lib.rs", "pub fn", "fn unused() {}\npub fn");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.edit("Cargo.toml", "unused = \"warn\"", "unused = \"deny\"");
    workspace.remove_target();
    let outcome = workspace.nixcache(&["build"]).fail();
    assert!(outcome.stderr.contains("function `unused` is never used"), "{outcome}");
    workspace.edit("Cargo.toml", "unused = \"deny\"", "unused = \"warn\"");
    workspace.hit(&["build"]);
}

#[test]
fn an_inherited_field_that_code_reads_is_an_input() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.edit("Cargo.toml", "authors = [\"One\"]", "authors = [\"Two\"]");
    let outcome = workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "part 0.1.0 Two\n", "{outcome}");
    workspace.hit(&["build"]);
    workspace.edit("Cargo.toml", "authors = [\"Two\"]", "authors = [\"One\"]");
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "part 0.1.0 One\n");
}

#[test]
fn another_edition_is_a_miss() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.edit("Cargo.toml", "edition = \"2024\"", "edition = \"2021\"");
    workspace.miss(&["build"], &["app 0.1.0", "part 0.1.0"]);
    workspace.hit(&["build"]);
}

#[test]
fn a_readme_that_no_code_includes_is_no_input() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.write("part/README.md", "# Part, and more words\n").write("README.md", "# New\n");
    workspace.hit(&["build"]);
}

#[test]
fn a_readme_that_code_includes_is_an_input() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.edit("part/src/lib.rs", "\"part\" }", "include_str!(\"../README.md\") }");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write("part/README.md", "# Other\n");
    workspace.miss(&["build"], &["app 0.1.0", "part 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "# Other\n 0.1.0 One\n");
}

#[test]
fn a_comment_in_a_manifest_is_no_input() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.write("app/Cargo.toml", workspace.read("app/Cargo.toml") + "# a comment\n");
    workspace.hit(&["build"]);
}

#[test]
fn another_member_that_is_not_built_is_no_input() {
    let machine = Machine::new();
    let workspace = built(&machine);
    workspace.build(&["build", "-p", "part"]);
    workspace.edit("app/src/main.rs", "{} {} {}", "{}-{}-{}");
    workspace.hit(&["build", "-p", "part"]);
}
