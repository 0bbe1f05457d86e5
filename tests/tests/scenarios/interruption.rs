//! Interrupted builds: Ctrl-C and kill -9 in every phase, and a compiler that fails.

use nixcache_tests::{Machine, Workspace};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A chain of libraries, so that a build has a beginning, a middle and an end.
fn chain(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    let mut dependencies = String::new();
    for number in 0..8 {
        let manifest = match number {
            0 => "[dependencies]\nitoa = \"1\"\n".to_owned(),
            _ => format!("[dependencies]\nlink{0} = {{ path = \"../link{0}\" }}\n", number - 1),
        };
        let body = match number {
            0 => "1".to_owned(),
            _ => format!("1 + link{}::value()", number - 1),
        };
        workspace.package(&format!("link{number}"), &manifest, &format!("pub fn value() -> u32 {{ {body} }}\n"));
        dependencies += &format!("link{number} = {{ path = \"link{number}\" }}\n");
    }
    workspace.package(
        "",
        &format!("[dependencies]\n{dependencies}[workspace]\n"),
        "fn main() { println!(\"{}\", link7::value()) }\n",
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace
}

/// Sends a signal after each delay, into a build that is cold or warm, and wants everything right afterwards.
fn survives(signal: &str, warm: bool) {
    let machine = Machine::new();
    let workspace = chain(&machine);
    let started = Instant::now();
    workspace.build(&["build"]);
    if warm {
        workspace.hit(&["build"]);
    }
    let whole = started.elapsed();
    for step in 0..12 {
        // Something new each time, or a cold build would be a warm one.
        if !warm {
            workspace.write("link0/src/lib.rs", format!("pub fn value() -> u32 {{ 1 + 0 * {step} }}\n"));
        }
        workspace.remove_target();
        let mut running = workspace.nixcache(&["build"]).start();
        let until = Instant::now() + whole.mul_f64(f64::from(step) / if warm { 24.0 } else { 12.0 });
        while Instant::now() < until && running.is_running() {
            sleep(Duration::from_millis(2));
        }
        if running.is_running() {
            running.signal(signal);
        }
        running.wait();
        // The same target directory, as it was left.
        let outcome = workspace.nixcache(&["build"]).succeed();
        assert_eq!(workspace.run_output("debug/app"), "8\n", "after step {step}\n{outcome}");
        workspace.assert_nothing_to_do(&["build"]);
        if warm {
            assert_eq!(outcome.compiled, [""; 0], "after step {step}\n{outcome}");
        }
        workspace.nixcache(&["verify"]).succeed();
    }
    if !warm {
        // What was finished but not kept yet when a build was killed is in that target directory alone.
        workspace.build(&["build"]);
    }
    workspace.hit(&["build"]);
}

#[test]
fn a_cold_build_survives_kill_at_any_moment() {
    survives("KILL", false);
}

#[test]
fn a_warm_build_survives_kill_at_any_moment() {
    survives("KILL", true);
}

#[test]
fn a_cold_build_survives_an_interrupt_at_any_moment() {
    survives("INT", false);
}

#[test]
fn a_warm_build_survives_an_interrupt_at_any_moment() {
    survives("INT", true);
}

/// The file of this name in a directory of the target directory whose name begins so.
fn only_file(workspace: &Workspace, directory: &str, prefix: &str, file: &str) -> PathBuf {
    let entries = std::fs::read_dir(workspace.target().join(directory)).unwrap();
    let directories =
        entries.map(Result::unwrap).filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let files: Vec<PathBuf> = directories.map(|entry| entry.path().join(file)).filter(|file| file.exists()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// Cargo believes a dependent whose hash file is as it was, beside a dependency that is new: the files of both are old.
/// So what a restore replaces must be marked before the first of it is believed again.
#[test]
fn a_restore_over_another_version_that_stops_half_way_leaves_nothing_to_believe() {
    let machine = Machine::new();
    let workspace = chain(&machine);
    // A run that comes after the first link, and before the second.
    workspace.package("between", "[build-dependencies]\nlink0 = { path = \"../link0\" }\n", "");
    workspace.write("between/build.rs", "fn main() { println!(\"cargo::rerun-if-changed=build.rs\") }\n");
    workspace.edit("Cargo.toml", "[dependencies]\n", "[dependencies]\nbetween = { path = \"between\" }\n");
    workspace.cargo(&["generate-lockfile"]).succeed();
    let version = |number: u32| {
        workspace.write("link0/src/lib.rs", format!("pub fn value() -> u32 {{ 1 + {number} }}\n"));
    };
    for number in [1, 0] {
        version(number);
        // Where a target directory is kept, an edit is not worth keeping.
        workspace.remove_target();
        workspace.nixcache(&["build"]).succeed();
    }

    // Nobody reads from this pipe, so that whoever writes to it waits.
    let pipe = only_file(&workspace, "debug/build", "between-", "stderr");
    std::fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let sealed = only_file(&workspace, "debug/.fingerprint", "link0-", "lib-link0");
    let next = only_file(&workspace, "debug/.fingerprint", "link1-", "lib-link1");
    let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let before = written(&sealed);
    version(1);
    // On one thread, what comes after the run is not placed.
    let mut running = workspace.nixcache(&["build"]).env("RAYON_NUM_THREADS", "1").start();
    while written(&sealed).is_none_or(|time| Some(time) == before) {
        assert!(running.is_running(), "it was restored in spite of the pipe\n{}", running.wait());
        sleep(Duration::from_millis(1));
    }
    running.signal("KILL");
    running.wait();
    assert!(!next.exists(), "the second link is not believed");
    std::fs::remove_file(&pipe).unwrap();
    workspace.cargo(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "9\n");
    workspace.nixcache(&["verify"]).succeed();
}

#[test]
fn an_interrupted_build_keeps_what_was_finished_and_ends_as_cargo_ends() {
    let machine = Machine::new();
    let workspace = chain(&machine);
    // The last library takes its time, so that the signal comes when the others are done.
    workspace.write("link7/build.rs", "fn main() { std::thread::sleep(std::time::Duration::from_secs(20)); }\n");
    let mut running = workspace.nixcache(&["build"]).start();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Cargo writes a hash file when a unit is finished.
    let is_finished = |name: &str| {
        let units = std::fs::read_dir(workspace.target().join("debug/.fingerprint")).into_iter().flatten().flatten();
        let mut files = units.map(|unit| unit.path().join(format!("lib-{name}")));
        files.any(|file| file.exists())
    };
    while !is_finished("link6") {
        assert!(Instant::now() < deadline && running.is_running(), "the build doesn't get there");
        sleep(Duration::from_millis(20));
    }
    let signalled = Instant::now();
    running.signal("INT");
    let outcome = running.wait();
    assert!(signalled.elapsed() < Duration::from_secs(10), "it waited for the script\n{outcome}");
    let code = std::os::unix::process::ExitStatusExt::signal(&outcome.status).or(outcome.status.code());
    assert!(matches!(code, Some(2 | 130)), "cargo ends by the signal, or with 130\n{outcome}");
    workspace.write("link7/build.rs", "fn main() { println!(\"cargo::rerun-if-changed=build.rs\"); }\n");
    let next = workspace.build(&["build"]);
    let compiled = next.compiled_crates();
    for finished in ["itoa", "link0", "link3", "link5"] {
        assert!(!compiled.contains(finished), "{finished} was finished, and is compiled again\n{next}");
    }
}

/// Continuous integration sends it to one process, and no terminal to all.
#[test]
fn an_interrupt_that_is_sent_to_us_alone_reaches_cargo() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    let body = "std::fs::write(\"started\", \"\").unwrap(); std::thread::sleep(std::time::Duration::from_secs(60))";
    workspace.package("", "[workspace]\n", &format!("fn main() {{ {body} }}\n"));
    workspace.build(&["build"]);
    for signal in ["INT", "QUIT"] {
        let mut running = workspace.nixcache(&["run"]).start();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !workspace.path("started").exists() {
            assert!(Instant::now() < deadline && running.is_running(), "the program doesn't start");
            sleep(Duration::from_millis(20));
        }
        std::fs::remove_file(workspace.path("started")).unwrap();
        let signalled = Instant::now();
        running.signal_leader(signal);
        let outcome = running.wait();
        assert!(signalled.elapsed() < Duration::from_secs(30), "it waited for the program\n{outcome}");
        assert!(!outcome.status.success(), "{outcome}");
    }
}

#[test]
fn a_failed_build_keeps_what_was_finished() {
    let machine = Machine::new();
    let workspace = chain(&machine);
    workspace.write("link7/src/lib.rs", "pub fn value() -> u32 { this is no Rust }\n");
    let failed = workspace.nixcache(&["build"]).fail();
    assert_eq!(failed.status.code(), Some(101), "{failed}");
    workspace.write("link7/src/lib.rs", "pub fn value() -> u32 { 1 + link6::value() }\n");
    let next = workspace.build(&["build"]);
    assert_eq!(next.compiled_crates().into_iter().collect::<Vec<_>>(), ["app", "link7"], "{next}");
    assert_eq!(workspace.run_output("debug/app"), "8\n");
}

#[test]
fn a_unit_that_failed_is_never_a_hit() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() {}\n");
    workspace.write("build.rs", "fn main() { if std::path::Path::new(\"broken\").exists() { panic!(\"broken\") } }\n");
    workspace.write("broken", "");
    for _ in 0..2 {
        workspace.remove_target();
        let outcome = workspace.nixcache(&["build"]).fail();
        assert!(outcome.stderr.contains("broken"), "{outcome}");
    }
    std::fs::remove_file(workspace.path("broken")).unwrap();
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
}
