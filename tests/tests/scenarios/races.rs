//! What changes while a build is under way: sources, and what others build in the same target directory.

use nixcache_tests::{Invocation, Machine, Workspace};
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// A workspace of which every state is worth keeping.
fn workspace(machine: &Machine) -> Workspace {
    machine.workspace("app").with_env("CARGO_INCREMENTAL", "0")
}

/// A program of the shell.
fn script(machine: &Machine, name: &str, text: &str) -> PathBuf {
    let path = machine.root().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `cargo nixcache` with these arguments, and with a cargo that runs `commands` once, before it builds.
fn meanwhile(workspace: &Workspace, arguments: &[&str], commands: &str) -> Invocation {
    let once = workspace.machine().root().join("once");
    std::fs::write(&once, "").unwrap();
    let condition = format!("[ \"$1\" = build ] && rm '{}' 2>/dev/null", once.display());
    let text = format!("if {condition}; then\n{commands}\nfi\nexec cargo \"$@\"");
    let cargo = script(workspace.machine(), "meanwhile", &text);
    let command = format!("shift; CARGO='{}' exec cargo-nixcache \"$@\"", cargo.display());
    workspace.nixcache(arguments).prefix(&["sh", "-c", &command, "sh"])
}

/// A plain cargo within `meanwhile`.
const CARGO: &str = "env -u RUSTC_WRAPPER -u NIXCACHE_RECORDER cargo";

/// A library `d` and a program `l` that prints what it says.
fn library_and_program(machine: &Machine) -> Workspace {
    let workspace = workspace(machine);
    workspace.write("Cargo.toml", "[workspace]\nmembers = [\"d\", \"l\"]\nresolver = \"2\"\n");
    workspace.package("d", "", "");
    workspace.package("l", "[dependencies]\nd = { path = \"../d\" }\n", "fn main() { println!(\"A {}\", d::VALUE) }\n");
    library(&workspace, 1);
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace
}

fn library(workspace: &Workspace, value: u32) {
    workspace.write("d/src/lib.rs", format!("pub const VALUE: u32 = {value};\n"));
}

/// A program with a build script that reads `data.txt`.
fn with_build_script(machine: &Machine, directive: &str) -> Workspace {
    let workspace = workspace(machine);
    workspace.package("", "[workspace]\n", "");
    let script = format!(
        "fn main() {{\n    {directive}\n    let data = std::fs::read_to_string(\"data.txt\").unwrap();\n    \
         let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap());\n    \
         std::fs::write(out.join(\"data.rs\"), format!(\"const DATA: u32 = {{}};\", data.trim())).unwrap();\n}}\n"
    );
    workspace.write("build.rs", script);
    workspace.write("data.txt", "1");
    program(&workspace, "A");
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace
}

fn program(workspace: &Workspace, name: &str) {
    let text = "include!(concat!(env!(\"OUT_DIR\"), \"/data.rs\"));\n";
    workspace.write("src/main.rs", format!("{text}fn main() {{ println!(\"{name} {{DATA}}\") }}\n"));
}

/// Waits until somebody waits for a lock on this file.
fn until_awaited(lock: &Path) {
    let inode = format!(":{} ", lock.metadata().unwrap().ino());
    let is_awaited = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&inode))
    };
    for _ in 0..30_000 {
        if is_awaited() {
            return;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("nobody waits for {}", lock.display());
}

/// The lock of the target directory, held.
fn hold(workspace: &Workspace) -> (File, PathBuf) {
    let path = workspace.target().join("debug/.cargo-lock");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = File::options().create(true).append(true).open(&path).unwrap();
    lock.lock().unwrap();
    (lock, path)
}

#[test]
fn a_source_that_is_saved_while_another_unit_is_compiled_is_read_anew() {
    let machine = Machine::new();
    let workspace = workspace(&machine);
    workspace.write("Cargo.toml", "[workspace]\nmembers = [\"a\", \"slow\"]\nresolver = \"2\"\n");
    workspace.package("a", "[dev-dependencies]\nslow = { path = \"../slow\" }\n", "");
    workspace.package("slow", "", "");
    // Its compiler says when it is called, and waits for an answer.
    let root = machine.root().display();
    let wait = format!("touch '{root}/asks'; while [ ! -e '{root}/answer' ]; do sleep 0.01; done");
    let wrapper = format!("case \"$*\" in *'--crate-name slow'*) {wait};; esac\nexec \"$@\"");
    let workspace = workspace.with_env("RUSTC_WRAPPER", script(&machine, "wrapper", &wrapper));
    let version = |number: u32| {
        let test = "#[test]\nfn version() { println!(\"version {}\", VALUE) }\n";
        workspace.write("a/src/lib.rs", format!("pub const VALUE: u32 = {number};\n{test}"));
    };
    version(1);
    workspace.cargo(&["generate-lockfile"]).succeed();
    let mut running = workspace.nixcache(&["test", "--no-run", "-p", "a"]).start();
    let library = workspace.target().join("debug/deps");
    let exists = |directory: &Path, begins: &str, ends: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .any(|n| n.starts_with(begins) && n.ends_with(ends))
    };
    while !machine.root().join("asks").exists() || !exists(&library, "liba-", ".rlib") {
        assert!(running.is_running(), "it ended\n{}", running.wait());
        sleep(Duration::from_millis(1));
    }
    // What was compiled is taken in between.
    sleep(Duration::from_millis(1500));
    version(2);
    std::fs::write(machine.root().join("answer"), "").unwrap();
    running.wait();

    version(1);
    workspace.remove_target();
    workspace.nixcache(&["test", "--no-run", "-p", "a"]).succeed();
    let outcome = workspace.cargo(&["test", "-p", "a", "--", "--nocapture"]).succeed();
    assert!(outcome.stdout.contains("version 1"), "{outcome}");
}

#[test]
fn a_build_script_that_cargo_runs_again_is_another_output() {
    let machine = Machine::new();
    let workspace = with_build_script(&machine, "println!(\"cargo::rerun-if-changed=data.txt\");");
    workspace.build(&["build"]);
    program(&workspace, "B");
    let data = workspace.path("data.txt").display().to_string();
    meanwhile(&workspace, &["build"], &format!("echo 2 >'{data}'")).succeed();
    assert_eq!(workspace.run_output("debug/app"), "B 2\n");
    workspace.write("data.txt", "1");
    workspace.remove_target();
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "B 1\n");
}

#[test]
fn a_dependency_that_somebody_else_built_meanwhile_is_not_the_one_that_was_there() {
    let machine = Machine::new();
    let workspace = library_and_program(&machine);
    workspace.build(&["build"]);
    workspace.write("l/src/main.rs", "fn main() { println!(\"B {}\", d::VALUE) }\n");
    let source = workspace.path("d/src/lib.rs").display().to_string();
    let commands = format!("echo 'pub const VALUE: u32 = 2;' >'{source}'\n{CARGO} build --quiet --package d");
    meanwhile(&workspace, &["build"], &commands).succeed();
    assert_eq!(workspace.run_output("debug/l"), "B 2\n");
    library(&workspace, 1);
    workspace.remove_target();
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/l"), "B 1\n");
}

#[test]
fn what_is_built_beside_others_looks_new_to_them() {
    let machine = Machine::new();
    let workspace = library_and_program(&machine);
    let source = workspace.path("d/src/lib.rs").display().to_string();
    let commands = format!(
        "{CARGO} build --quiet --package l\nsleep 0.1\necho 'pub const VALUE: u32 = 2;' >'{source}'\nsleep 0.1"
    );
    meanwhile(&workspace, &["build", "--package", "d"], &commands).succeed();
    workspace.cargo(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/l"), "A 2\n");
}

#[test]
fn what_others_restore_while_a_build_waits_for_the_lock_is_looked_at_again() {
    let machine = Machine::new();
    let workspace = library_and_program(&machine);
    for value in [2, 1] {
        library(&workspace, value);
        workspace.remove_target();
        workspace.nixcache(&["build"]).succeed();
    }
    workspace.remove_target();
    workspace.nixcache(&["build", "--package", "d"]).succeed();

    // The first build knows the library in its place, and wants to restore the program.
    let (lock, path) = hold(&workspace);
    let first = workspace.nixcache(&["build"]).start();
    until_awaited(&path);
    first.stop();
    drop(lock);
    library(&workspace, 2);
    workspace.nixcache(&["build"]).succeed();
    first.signal_leader("CONT");
    let outcome = first.wait();
    assert!(outcome.status.success(), "{outcome}");
    assert_eq!(workspace.run_output("debug/l"), "A 2\n");
    workspace.cargo(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/l"), "A 2\n");
}

#[test]
fn a_file_that_is_saved_while_a_build_waits_for_the_lock_is_seen() {
    let machine = Machine::new();
    // Without directives, cargo asks for the newest file of the package.
    let workspace = with_build_script(&machine, "");
    workspace.build(&["build"]);
    workspace.remove_target();
    let (lock, path) = hold(&workspace);
    let running = workspace.nixcache(&["build"]).start();
    until_awaited(&path);
    workspace.write("data.txt", "2");
    drop(lock);
    let outcome = running.wait();
    assert!(outcome.status.success(), "{outcome}");
    workspace.cargo(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "A 2\n");
}

/// A script that names no file may read every file of its package, hidden ones and ones behind links too.
#[test]
fn a_hidden_or_linked_file_that_is_edited_while_its_script_runs_is_read_anew() {
    for file in [".env", "linked/data.txt"] {
        let machine = Machine::new();
        let workspace = workspace(&machine);
        let root = machine.root().display();
        let body = format!(
            "let data = std::fs::read_to_string({file:?}).unwrap();\n    \
             println!(\"cargo::rustc-env=DATA={{}}\", data.trim());\n    \
             std::fs::write(\"{root}/asks\", \"\").unwrap();\n    \
             while !std::path::Path::new(\"{root}/answer\").exists() {{\n        \
             std::thread::sleep(std::time::Duration::from_millis(10));\n    }}\n"
        );
        workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", env!(\"DATA\")) }\n");
        workspace.write("build.rs", format!("fn main() {{\n    {body}}}\n"));
        std::fs::create_dir(machine.root().join("behind")).unwrap();
        std::os::unix::fs::symlink(machine.root().join("behind"), workspace.path("linked")).unwrap();
        workspace.write(file, "one\n");
        workspace.cargo(&["generate-lockfile"]).succeed();
        let mut running = workspace.nixcache(&["build"]).start();
        while !machine.root().join("asks").exists() {
            assert!(running.is_running(), "the script doesn't run\n{}", running.wait());
            sleep(Duration::from_millis(10));
        }
        workspace.write(file, "two\n");
        std::fs::write(machine.root().join("answer"), "").unwrap();
        assert!(running.wait().status.success());
        workspace.remove_target();
        workspace.nixcache(&["build"]).succeed();
        assert_eq!(workspace.run_output("debug/app"), "two\n", "{file}");
    }
}
