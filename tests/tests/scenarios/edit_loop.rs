//! The edit loop: somebody saves and builds all day; the store doesn't fill, and incremental compilation stays.

use nixcache_tests::{Machine, walk};

#[test]
fn saving_all_day_does_not_fill_the_store() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("part", "", "pub fn part() -> u32 { 0 }\n");
    workspace.package(
        "",
        "[dependencies]\npart = { path = \"part\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", part::part()) }\n",
    );
    workspace.build(&["build"]);
    let size = || walk(machine.store()).iter().map(|path| path.metadata().map_or(0, |file| file.len())).sum::<u64>();
    let first = size();
    for round in 1..=12 {
        workspace.write("part/src/lib.rs", format!("pub fn part() -> u32 {{ {round} }}\n"));
        let outcome = workspace.nixcache(&["build"]).builds(&["app 0.1.0", "part 0.1.0"]);
        assert_eq!(workspace.run_output("debug/app"), format!("{round}\n"), "{outcome}");
    }
    let last = size();
    assert!(last < first * 4, "twelve saves made {first} bytes {last}");
}

#[test]
fn incremental_compilation_stays_on_for_members() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[dependencies]\nitoa = \"1\"\n[workspace]\n", "fn main() { println!(\"1\") }\n");
    workspace.build(&["build"]);
    workspace.edit("src/main.rs", "1", "2");
    workspace.nixcache(&["build"]).succeed();
    let incremental = workspace.target().join("debug/incremental");
    assert!(!walk(&incremental).is_empty(), "there is no incremental session");
    assert_eq!(nixcache_tests::contains_bytes(machine.store(), "dep-graph.bin"), None, "sessions are never kept");
}

#[test]
fn an_undone_edit_is_fresh_or_restored() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"1\") }\n");
    workspace.build(&["build"]);
    workspace.edit("src/main.rs", "1", "2");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "2\n");
    workspace.edit("src/main.rs", "2", "1");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "1\n");
    workspace.hit(&["build"]);
}
