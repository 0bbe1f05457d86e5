//! Modification times never prove anything: content does.

use nixcache_tests::{Machine, Workspace, replace_keeping_times, set_modified, walk};
use std::time::{Duration, SystemTime};

fn app(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package("greeting", "", "pub fn text() -> &'static str { \"hello\" }\n");
    workspace.package(
        "",
        "[dependencies]\ngreeting = { path = \"greeting\" }\n[workspace]\n",
        "fn main() { println!(\"{} one\", greeting::text()) }\n",
    );
    workspace.nixcache(&["build"]).succeed();
    workspace
}

fn stamp_all(workspace: &Workspace, time: SystemTime) {
    for path in walk(workspace.root()).iter().filter(|path| !path.starts_with(workspace.target())) {
        set_modified(path, time);
    }
}

#[test]
fn a_source_with_its_old_time_and_size_but_other_content_is_a_miss() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.hit(&["build"]);
    replace_keeping_times(&workspace.path("src/main.rs"), "one", "two");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "hello two\n");
}

#[test]
fn a_dependency_with_its_old_time_and_size_but_other_content_is_a_miss() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.hit(&["build"]);
    replace_keeping_times(&workspace.path("greeting/src/lib.rs"), "hello", "howdy");
    workspace.miss(&["build"], &["app 0.1.0", "greeting 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "howdy one\n");
}

#[test]
fn an_old_time_does_not_hide_a_change_from_a_restored_target_directory() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.hit(&["build"]);
    replace_keeping_times(&workspace.path("src/main.rs"), "one", "two");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "hello two\n");
}

#[test]
fn equal_times_everywhere_hide_nothing() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    stamp_all(&workspace, then);
    workspace.hit(&["build"]);
    workspace.edit("src/main.rs", "one", "two");
    stamp_all(&workspace, then);
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "hello two\n");
}

#[test]
fn sources_from_the_future_are_built_each_time_as_cargo_does_and_others_restored() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.hit(&["build"]);
    // A stamp in the future would hide the next edit from plain cargo: this member is restored, and built all
    // the same. What it depends on is not.
    set_modified(&workspace.path("src/main.rs"), SystemTime::now() + Duration::from_secs(86_400));
    workspace.remove_target();
    let outcome = workspace.nixcache(&["build"]).succeed();
    assert_eq!(outcome.compiled_crates().into_iter().collect::<Vec<_>>(), ["app"]);
    assert_eq!(workspace.run_output("debug/app"), "hello one\n");
    replace_keeping_times(&workspace.path("src/main.rs"), "one", "two");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "hello two\n");
}

#[test]
fn an_edit_after_a_restore_is_seen_by_plain_cargo() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.hit(&["build"]);
    workspace.edit("greeting/src/lib.rs", "hello", "howdy");
    workspace.cargo(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "howdy one\n");
}
