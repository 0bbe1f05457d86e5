//! A dependency is bumped: it and its dependents are built, everything else is restored.

use nixcache_tests::{LocalRegistry, Machine, Workspace};

fn locked(machine: &Machine) -> (Workspace, LocalRegistry) {
    let registry = LocalRegistry::new(machine);
    registry
        .publish("leaf", "1.0.0", "pub fn leaf() -> u32 { 1 }\n")
        .publish("leaf", "1.0.1", "pub fn leaf() -> u32 { 2 }\n")
        .publish("aside", "1.0.0", "pub fn aside() -> u32 { 10 }\n")
        .publish_with("middle", "1.0.0", "pub fn middle() -> u32 { leaf::leaf() }\n", &[("leaf", "1")]);
    let workspace = machine.workspace("app");
    workspace.write(".cargo/config.toml", registry.replacing_crates_io());
    workspace.package(
        "",
        "[dependencies]\nmiddle = \"1\"\naside = \"1\"\n[workspace]\n",
        "fn main() { println!(\"{}\", middle::middle() + aside::aside()) }\n",
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace.cargo(&["update", "-p", "leaf", "--precise", "1.0.0"]).succeed();
    (workspace, registry)
}

#[test]
fn a_bumped_dependency_and_its_dependents_are_built_and_the_rest_restored() {
    let machine = Machine::new();
    let (workspace, _registry) = locked(&machine);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.cargo(&["update", "-p", "leaf", "--precise", "1.0.1"]).succeed();
    workspace.miss(&["build"], &["app 0.1.0", "leaf 1.0.1", "middle 1.0.0"]);
    assert_eq!(workspace.run_output("debug/app"), "12\n");
    workspace.cargo(&["update", "-p", "leaf", "--precise", "1.0.0"]).succeed();
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "11\n");
}

#[test]
fn a_bump_in_a_filled_target_directory_builds_as_little() {
    let machine = Machine::new();
    let (workspace, _registry) = locked(&machine);
    workspace.build(&["build"]);
    workspace.cargo(&["update", "-p", "leaf", "--precise", "1.0.1"]).succeed();
    workspace.nixcache(&["build"]).builds(&["app 0.1.0", "leaf 1.0.1", "middle 1.0.0"]);
    assert_eq!(workspace.run_output("debug/app"), "12\n");
    workspace.cargo(&["update", "-p", "leaf", "--precise", "1.0.0"]).succeed();
    workspace.nixcache(&["build"]).succeed().assert_fresh();
    assert_eq!(workspace.run_output("debug/app"), "11\n");
}

#[test]
fn another_content_under_the_same_version_is_a_miss() {
    let machine = Machine::new();
    let (workspace, registry) = locked(&machine);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    // As if another registry served it: the name and the version are no proof, the checksum is.
    let other = Machine::with_store(&nixcache_tests::Toolchain::current(), machine.store());
    let replaced = LocalRegistry::new(&other);
    replaced
        .publish("leaf", "1.0.0", "pub fn leaf() -> u32 { 7 }\n")
        .publish("aside", "1.0.0", "pub fn aside() -> u32 { 10 }\n")
        .publish_with("middle", "1.0.0", "pub fn middle() -> u32 { leaf::leaf() }\n", &[("leaf", "1")]);
    drop(registry);
    let copy = workspace.checkout_on(&other, "app");
    std::fs::remove_file(copy.path("Cargo.lock")).unwrap();
    copy.write(".cargo/config.toml", replaced.replacing_crates_io());
    let outcome = copy.build(&["build"]);
    assert_eq!(copy.run_output("debug/app"), "17\n", "{outcome}");
}

#[test]
fn a_package_of_the_lock_file_that_is_not_built_is_no_input() {
    let machine = Machine::new();
    let (workspace, registry) = locked(&machine);
    workspace.edit("Cargo.toml", "[workspace]", "[workspace]\nmembers = [\"more/*\"]");
    workspace.package("more/first", "", "");
    workspace.cargo(&["update", "-p", "app"]).succeed();
    workspace.build(&["build", "-p", "app"]);
    workspace.hit(&["build", "-p", "app"]);
    registry.publish("beside", "1.0.0", "");
    workspace.package("more/second", "[dependencies]\nbeside = \"1\"\n", "");
    let lock = workspace.read("Cargo.lock");
    workspace.cargo(&["update", "-p", "app"]).succeed();
    assert_ne!(workspace.read("Cargo.lock"), lock);
    workspace.hit(&["build", "-p", "app"]);
}
