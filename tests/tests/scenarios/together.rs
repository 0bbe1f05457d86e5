//! Several builds at once: in one target directory, and in several that share a store.

use nixcache_tests::{Machine, Toolchain, Workspace};

const PARTS: usize = 6;

fn workspace(machine: &Machine, name: &str) -> Workspace {
    let workspace = machine.workspace(name);
    let mut dependencies = String::from("itoa = \"1\"\n");
    for part in 0..PARTS {
        workspace.package(&format!("part{part}"), "", &format!("pub fn part() -> usize {{ {part} }}\n"));
        dependencies += &format!("part{part} = {{ path = \"part{part}\" }}\n");
    }
    let sum: Vec<String> = (0..PARTS).map(|part| format!("part{part}::part()")).collect();
    workspace.package(
        "",
        &format!("[dependencies]\n{dependencies}[workspace]\n"),
        &format!("fn main() {{ println!(\"{{}}\", itoa::Buffer::new().format({})) }}\n", sum.join(" + ")),
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace
}

fn on_machines_that_share(store: &std::path::Path, count: usize) -> Vec<Workspace> {
    let machine = || Machine::with_store(&Toolchain::current(), store);
    (0..count).map(|_| workspace(&machine(), "app")).collect()
}

#[test]
fn two_builds_in_one_target_directory_are_both_right() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "app");
    for _ in 0..3 {
        workspace.remove_target();
        let running = [(); 2].map(|()| workspace.nixcache(&["build"]).start());
        for outcome in running.map(nixcache_tests::Running::wait) {
            assert!(outcome.status.success(), "{outcome}");
        }
        assert_eq!(workspace.run_output("debug/app"), "15\n");
        workspace.assert_nothing_to_do(&["build"]);
    }
    workspace.hit(&["build"]);
}

#[test]
fn a_build_beside_a_plain_cargo_build_is_right() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "app");
    workspace.build(&["build"]);
    for _ in 0..3 {
        workspace.remove_target();
        let plain = workspace.cargo(&["build"]).start();
        let ours = workspace.nixcache(&["build"]).start();
        for outcome in [plain.wait(), ours.wait()] {
            assert!(outcome.status.success(), "{outcome}");
        }
        assert_eq!(workspace.run_output("debug/app"), "15\n");
        workspace.assert_nothing_to_do(&["build"]);
    }
}

#[test]
fn four_cold_builds_that_share_a_store_are_all_right_and_fill_it() {
    let store = tempfile::tempdir().unwrap();
    let workspaces = on_machines_that_share(store.path(), 4);
    let running: Vec<_> = workspaces.iter().map(|workspace| workspace.nixcache(&["build"]).start()).collect();
    for outcome in running.into_iter().map(nixcache_tests::Running::wait) {
        assert!(outcome.status.success(), "{outcome}");
    }
    for workspace in &workspaces {
        assert_eq!(workspace.run_output("debug/app"), "15\n");
        workspace.assert_nothing_to_do(&["build"]);
    }
    workspaces[0].nixcache(&["verify"]).succeed();
    for workspace in &workspaces {
        workspace.remove_target();
        let outcome = workspace.nixcache(&["build"]).succeed();
        // The binary was linked against four sets of libraries. Where they aren't identical, none may fit the set that
        // won; the libraries themselves are there.
        assert!(outcome.compiled_crates().iter().all(|name| name == "app"), "{outcome}");
        workspace.hit(&["build"]);
    }
}

#[test]
fn a_collection_of_garbage_takes_nothing_from_builds_that_run() {
    let store = tempfile::tempdir().unwrap();
    let workspaces = on_machines_that_share(store.path(), 3);
    workspaces[0].build(&["build"]);
    for _ in 0..3 {
        for workspace in &workspaces {
            workspace.remove_target();
        }
        let builds: Vec<_> = workspaces[..2].iter().map(|workspace| workspace.nixcache(&["build"]).start()).collect();
        let collection = workspaces[2].nixcache(&["gc"]).start();
        for outcome in builds.into_iter().chain([collection]).map(nixcache_tests::Running::wait) {
            assert!(outcome.status.success(), "{outcome}");
        }
        for workspace in &workspaces[..2] {
            assert_eq!(workspace.run_output("debug/app"), "15\n");
            workspace.assert_nothing_to_do(&["build"]);
        }
    }
    workspaces[2].nixcache(&["verify"]).succeed();
}
