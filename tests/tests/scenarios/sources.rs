//! Where a package comes from: a path outside, a patch, git, a vendored directory, another registry, two versions.

use nixcache_tests::{LocalRegistry, Machine, Workspace, walk};
use std::fs;
use std::path::Path;

const MAIN: &str = "fn main() { println!(\"{}\", part::text()) }\n";

fn part(text: &str) -> String {
    format!("pub fn text() -> &'static str {{ {text:?} }}\n")
}

#[test]
fn a_path_dependency_outside_the_workspace_is_judged_by_content() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("../part", "", &part("one"));
    workspace.package("", "[dependencies]\npart = { path = \"../part\" }\n[workspace]\n", MAIN);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write("../part/src/lib.rs", part("two"));
    workspace.miss(&["build"], &["app 0.1.0", "part 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n");
    workspace.write("../part/src/lib.rs", part("one"));
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one\n");
}

#[test]
fn a_path_dependency_outside_is_right_in_another_checkout() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("../part", "", &part("one"));
    workspace.package("", "[dependencies]\npart = { path = \"../part\" }\n[workspace]\n", MAIN);
    workspace.build(&["build"]);
    // Cargo's own hash of such a package holds its absolute path: whether this hits is not promised.
    let second = workspace.checkout("second/app");
    nixcache_tests::copy_tree(&workspace.path("../part"), &second.path("../part"), &["target"]);
    second.nixcache(&["build"]).succeed();
    assert_eq!(second.run_output("debug/app"), "one\n");
    second.assert_nothing_to_do(&["build"]);
    second.write("../part/src/lib.rs", part("two"));
    second.build(&["build"]);
    assert_eq!(second.run_output("debug/app"), "two\n");
}

#[test]
fn a_patch_to_a_path_is_judged_by_content() {
    let machine = Machine::new();
    let registry = LocalRegistry::new(&machine);
    registry.publish("part", "1.0.0", &part("published")).publish_with(
        "between",
        "1.0.0",
        "pub fn text() -> &'static str { part::text() }\n",
        &[("part", "1")],
    );
    let workspace = machine.workspace("app");
    workspace.write(".cargo/config.toml", registry.replacing_crates_io());
    let manifest = "[dependencies]\nbetween = \"1\"\n[workspace]\n";
    workspace.package("", manifest, "fn main() { println!(\"{}\", between::text()) }\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.package("patched/part", "", &part("patched"));
    workspace.edit("patched/part/Cargo.toml", "0.1.0", "1.0.0");
    workspace.package(
        "",
        &format!("{manifest}exclude = [\"patched\"]\n[patch.crates-io]\npart = {{ path = \"patched/part\" }}\n"),
        "fn main() { println!(\"{}\", between::text()) }\n",
    );
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "patched\n");
    workspace.hit(&["build"]);
    workspace.write("patched/part/src/lib.rs", part("changed"));
    workspace.miss(&["build"], &["app 0.1.0", "between 1.0.0", "part 1.0.0"]);
    assert_eq!(workspace.run_output("debug/app"), "changed\n");
}

#[test]
fn a_git_dependency_is_known_by_its_revision() {
    let machine = Machine::new();
    let repository = machine.workspace("repositories/part");
    repository.package("", "", &part("one"));
    repository.edit("Cargo.toml", "name = \"app\"", "name = \"part\"");
    let first = repository.commit();
    repository.write("src/lib.rs", part("two"));
    let second = repository.commit();
    let workspace = machine.workspace("app");
    workspace.write(".cargo/config.toml", "[net]\noffline = false\n");
    let at = |revision: &str| {
        let url = format!("file://{}", repository.root().display());
        workspace.package(
            "",
            &format!("[dependencies]\npart = {{ git = \"{url}\", rev = \"{revision}\" }}\n[workspace]\n"),
            MAIN,
        );
    };
    at(&first);
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one\n");
    workspace.hit(&["build"]);
    workspace.checkout("elsewhere").hit(&["build"]);
    at(&second);
    workspace.miss(&["build"], &["app 0.1.0", "part 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n");
    at(&first);
    workspace.hit(&["build"]);
}

#[test]
fn a_git_dependency_is_a_hit_on_another_machine() {
    let machine = Machine::new();
    let repository = machine.workspace("repositories/part");
    repository.package("", "", &part("one"));
    repository.edit("Cargo.toml", "name = \"app\"", "name = \"part\"");
    repository.commit();
    let workspace = machine.workspace("app");
    workspace.write(".cargo/config.toml", "[net]\noffline = false\n");
    let url = format!("file://{}", repository.root().display());
    workspace.package("", &format!("[dependencies]\npart = {{ git = \"{url}\" }}\n[workspace]\n"), MAIN);
    workspace.build(&["build"]);
    let other = Machine::with_store(&nixcache_tests::Toolchain::current(), machine.store());
    let copy = workspace.checkout_on(&other, "deep/down/app");
    copy.hit(&["build"]);
    assert_eq!(copy.run_output("debug/app"), "one\n");
}

/// A workspace with its registry dependencies in a directory of its own.
fn vendored(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package(
        "",
        "[dependencies]\nitoa = \"1\"\n[workspace]\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(7)) }\n",
    );
    workspace.cargo(&["vendor", "--quiet"]).succeed();
    workspace.write(
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n",
    );
    workspace
}

#[test]
fn vendored_sources_are_a_hit_in_every_checkout() {
    let machine = Machine::new();
    let workspace = vendored(&machine);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.checkout("elsewhere/app").hit(&["build"]);
}

/// As people do who patch a vendored crate: the list of checksums names no file any more.
fn forget_checksums(directory: &Path) {
    let checksums = directory.join(".cargo-checksum.json");
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&checksums).unwrap()).unwrap();
    json["files"] = serde_json::json!({});
    fs::write(&checksums, json.to_string()).unwrap();
}

#[test]
fn a_vendored_source_that_was_changed_is_a_miss() {
    let machine = Machine::new();
    let workspace = vendored(&machine);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let directory = fs::read_dir(workspace.path("vendor")).unwrap().next().unwrap().unwrap().path();
    let library = directory.join("src/lib.rs");
    let text = fs::read_to_string(&library).unwrap();
    fs::write(&library, format!("{text}\npub fn patched() {{}}\n")).unwrap();
    forget_checksums(&directory);
    let outcome = workspace.build(&["build"]);
    assert!(outcome.compiled_crates().contains("itoa"), "{outcome}");
    workspace.hit(&["build"]);
}

#[test]
fn a_vendored_manifest_that_was_changed_is_a_miss() {
    let machine = Machine::new();
    let workspace = vendored(&machine);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let directory = fs::read_dir(workspace.path("vendor")).unwrap().next().unwrap().unwrap().path();
    let manifest = directory.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let changed: String =
        text.lines()
            .map(|line| {
                if line.starts_with("description") { "description = \"changed\"\n".into() } else { format!("{line}\n") }
            })
            .collect();
    assert_ne!(changed, text);
    fs::write(&manifest, changed).unwrap();
    forget_checksums(&directory);
    let name = directory.file_name().unwrap().to_str().unwrap();
    workspace.remove_target();
    let outcome = workspace.nixcache(&["build"]).succeed();
    assert!(outcome.summary().built.iter().any(|unit| unit.starts_with(name)), "{outcome}");
}

#[test]
fn two_versions_of_one_crate_and_a_renamed_one_stay_apart() {
    let machine = Machine::new();
    let registry = LocalRegistry::new(&machine);
    registry.publish("part", "1.0.0", &part("one")).publish("part", "2.0.0", &part("two"));
    let workspace = machine.workspace("app");
    workspace.write(".cargo/config.toml", registry.replacing_crates_io());
    let renamed = |old: &str, new: &str| {
        workspace.package(
            "",
            &format!(
                "[dependencies]\n{old} = {{ package = \"part\", version = \"1\" }}\n\
                 {new} = {{ package = \"part\", version = \"2\" }}\n[workspace]\n"
            ),
            "fn main() { println!(\"{} {}\", left::text(), right::text()) }\n",
        );
    };
    renamed("left", "right");
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one two\n");
    workspace.hit(&["build"]);
    renamed("right", "left");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "two one\n");
    renamed("left", "right");
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one two\n");
}

#[test]
fn a_crate_of_another_registry_is_not_its_namesake() {
    let machine = Machine::new();
    let registry = LocalRegistry::new(&machine);
    registry.publish("itoa", "1.0.18", &part("not the itoa you know"));
    let workspace = machine.workspace("app");
    workspace.write(".cargo/config.toml", registry.configuration());
    workspace.package(
        "",
        "[dependencies]\npart = { package = \"itoa\", version = \"1\", registry = \"local\" }\n[workspace]\n",
        MAIN,
    );
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "not the itoa you know\n");
    workspace.hit(&["build"]);
    workspace.write(".cargo/config.toml", "");
    workspace.package(
        "",
        "[dependencies]\npart = { package = \"itoa\", version = \"1\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", part::Buffer::new().format(7)) }\n",
    );
    fs::remove_file(workspace.path("Cargo.lock")).unwrap();
    let outcome = workspace.build(&["build"]);
    assert!(outcome.compiled_crates().contains("itoa"), "{outcome}");
    assert_eq!(workspace.run_output("debug/app"), "7\n");
}

#[test]
fn the_sources_in_cargo_s_home_are_not_written_to() {
    let machine = Machine::new();
    let workspace = machine.example("app");
    workspace.cargo(&["fetch", "--locked"]).succeed();
    let state = || {
        let mut files = walk(&machine.cargo_home().join("registry/src"));
        files.sort();
        files.into_iter().map(|path| (fs::metadata(&path).unwrap().modified().unwrap(), path)).collect::<Vec<_>>()
    };
    let before = state();
    assert!(!before.is_empty());
    workspace.build(&["check", "-p", "tides-derive"]);
    workspace.hit(&["check", "-p", "tides-derive"]);
    assert_eq!(state(), before);
}
