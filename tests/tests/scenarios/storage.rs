//! Where the store is: on another file system, on a full one, read-only, or spoilt. A build never fails for it.

use nixcache_tests::{Machine, Toolchain, Workspace, skipped, walk};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

fn app(machine: &Machine, name: &str) -> Workspace {
    let workspace = machine.workspace(name);
    workspace.package(
        "",
        "[dependencies]\nitoa = \"1\"\n[workspace]\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(7)) }\n",
    );
    workspace
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// A directory on another file system than the one that machines are on.
fn on_another_file_system() -> Option<tempfile::TempDir> {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let is_other = |path: &&Path| device(path).is_some_and(|of| Some(of) != device(&std::env::temp_dir()));
    ["/dev/shm", "/var/tmp"].map(Path::new).into_iter().find(is_other).and_then(|path| tempfile::tempdir_in(path).ok())
}

#[test]
fn a_store_on_another_file_system_works_by_copies() {
    const TEST: &str = "a_store_on_another_file_system_works_by_copies";
    let Some(store) = on_another_file_system() else { return skipped(TEST, "another file system") };
    let machine = Machine::with_store(&Toolchain::current(), &store.path().join("store"));
    let workspace = app(&machine, "app");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "7\n");
    workspace.nixcache(&["verify"]).succeed();
}

#[test]
fn a_target_directory_on_another_file_system_works_by_copies() {
    const TEST: &str = "a_target_directory_on_another_file_system_works_by_copies";
    let Some(target) = on_another_file_system() else { return skipped(TEST, "another file system") };
    let machine = Machine::new();
    let workspace = app(&machine, "app").with_target(target.path().join("target"));
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "7\n");
}

/// A small file system in memory, which goes away with its value.
struct Small {
    directory: tempfile::TempDir,
}

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_under_the_store_costs_a_warning_and_never_the_build() {
    const TEST: &str = "a_full_disk_under_the_store_costs_a_warning_and_never_the_build";
    for size in ["64k", "300k", "1500k", "4m"] {
        let Some(small) = Small::mount(size) else { return skipped(TEST, "the right to mount") };
        let machine = Machine::with_store(&Toolchain::current(), &small.path().join("store"));
        let workspace = app(&machine, "app");
        for _ in 0..2 {
            workspace.remove_target();
            let outcome = workspace.nixcache(&["build"]).succeed();
            assert_eq!(workspace.run_output("debug/app"), "7\n", "{size}\n{outcome}");
            workspace.assert_nothing_to_do(&["build"]);
        }
        // Nothing half-written is left that would be believed later.
        let _ = workspace.nixcache(&["verify"]).run();
        let roomy = Machine::with_store(&Toolchain::current(), &machine.root().join("moved"));
        nixcache_tests::copy_tree(machine.store(), roomy.store(), &[]);
        let moved = workspace.checkout_on(&roomy, "app");
        moved.build(&["build"]);
        assert_eq!(moved.run_output("debug/app"), "7\n", "{size}");
        moved.hit(&["build"]);
    }
}

#[test]
fn a_full_disk_under_the_target_directory_fails_as_with_cargo_and_recovers() {
    const TEST: &str = "a_full_disk_under_the_target_directory_fails_as_with_cargo_and_recovers";
    let machine = Machine::new();
    let workspace = app(&machine, "app");
    workspace.build(&["build"]);
    let Some(small) = Small::mount("300k") else { return skipped(TEST, "the right to mount") };
    let cramped = workspace.with_target(small.path().join("target"));
    cramped.nixcache(&["build"]).fail();
    let remounted = Command::new("mount").args(["-o", "remount,size=100m"]).arg(small.path()).status().unwrap();
    assert!(remounted.success());
    cramped.nixcache(&["build"]).succeed();
    assert_eq!(cramped.run_output("debug/app"), "7\n");
    cramped.assert_nothing_to_do(&["build"]);
    workspace.nixcache(&["verify"]).succeed();
    workspace.hit(&["build"]);
}

#[test]
fn a_read_only_store_is_used_and_left_as_it_is() {
    let machine = Machine::new();
    let workspace = app(&machine, "app");
    workspace.build(&["build"]);
    let mounted = is_root().then(|| {
        // Root may write in spite of permissions, so the file system itself has to refuse.
        let store = machine.store();
        let bound = Command::new("mount").arg("--bind").args([store, store]).status().unwrap().success();
        bound && Command::new("mount").args(["-o", "remount,ro,bind"]).arg(store).status().unwrap().success()
    });
    match mounted {
        Some(true) => {}
        Some(false) => return skipped("a_read_only_store_is_used_and_left_as_it_is", "the right to mount"),
        None => set_writable(machine.store(), false),
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        workspace.hit(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), "7\n");
        workspace.edit("src/main.rs", "format(7)", "format(8)");
        workspace.remove_target();
        let outcome = workspace.nixcache(&["build"]).succeed();
        assert_eq!(outcome.compiled_crates().into_iter().collect::<Vec<_>>(), ["app"], "{outcome}");
        assert_eq!(workspace.run_output("debug/app"), "8\n");
    }));
    match mounted {
        Some(_) => drop(Command::new("umount").arg(machine.store()).status()),
        None => set_writable(machine.store(), true),
    }
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn set_writable(store: &Path, writable: bool) {
    let mut directories: Vec<_> = walk(store).iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
    directories.push(store.to_owned());
    for directory in directories {
        fs::set_permissions(directory, fs::Permissions::from_mode(if writable { 0o755 } else { 0o555 })).unwrap();
    }
}

#[test]
fn a_store_that_cannot_be_made_costs_a_warning_and_never_the_build() {
    let machine = Machine::new();
    let blocked = machine.root().join("blocked");
    fs::write(&blocked, "a file, not a directory").unwrap();
    let workspace = app(&machine, "app").with_env("NIXCACHE_STORE", blocked.join("store"));
    let outcome = workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "7\n");
    assert!(outcome.stderr.contains("store"), "it says why nothing is kept\n{outcome}");
}

/// Changes one byte of, or cuts off, each large file of the store in turn.
#[test]
fn a_spoilt_store_is_found_by_verify_and_rebuilt() {
    for cut in [false, true] {
        let machine = Machine::new();
        let workspace = app(&machine, "app");
        workspace.build(&["build"]);
        // Not through links: what they lead to is none of the store's.
        for path in walk(machine.store()).into_iter().filter(|path| !path.is_symlink()) {
            let mut bytes = fs::read(&path).unwrap();
            if bytes.len() < 4096 {
                continue;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let middle = bytes.len() / 2;
            if cut {
                bytes.truncate(middle)
            } else {
                bytes[middle] ^= 0xff
            }
            fs::write(&path, bytes).unwrap();
        }
        let verified = workspace.nixcache(&["verify"]).run();
        assert!(!verified.stdout.is_empty() || !verified.stderr.is_empty(), "{verified}");
        let outcome = workspace.build(&["build"]);
        assert!(!outcome.compiled.is_empty(), "spoilt files were used\n{outcome}");
        assert_eq!(workspace.run_output("debug/app"), "7\n");
        workspace.hit(&["build"]);
        workspace.nixcache(&["verify"]).succeed();
    }
}

#[test]
fn a_size_limit_is_kept_and_what_was_used_last_stays() {
    let machine = Machine::new();
    let old = app(&machine, "old");
    old.edit("src/main.rs", "format(7)", "format(1)");
    old.build(&["build", "--release"]);
    let recent = app(&machine, "recent");
    recent.build(&["build"]);
    recent.hit(&["build"]);
    recent.nixcache(&["gc"]).succeed();
    recent.hit(&["build"]);
    recent.nixcache(&["stats"]).succeed();
    let listed = recent.nixcache(&["list"]).succeed();
    assert!(listed.stdout.contains("itoa"), "{listed}");
}
