//! Interrupted builds: Ctrl-C and kill -9 in every phase, and a compiler that fails.

use nixcache_tests::{Machine, Workspace};
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

#[test]
fn a_restore_over_another_version_survives_kill_at_any_moment() {
    let machine = Machine::new();
    let workspace = chain(&machine);
    let version = |number: u32| {
        workspace.write("link0/src/lib.rs", format!("pub fn value() -> u32 {{ 1 + {number} }}\n"));
    };
    let build = || workspace.nixcache(&["build"]).succeed();
    for number in [1, 0, 1] {
        version(number);
        // Where a target directory is kept, an edit is not worth keeping.
        workspace.remove_target();
        build();
    }
    version(0);
    let started = Instant::now();
    let outcome = build();
    let whole = started.elapsed();
    assert_eq!(outcome.compiled, [""; 0], "both versions are kept\n{outcome}");

    for step in 1..=16 {
        let number = step % 2;
        version(number);
        let mut running = workspace.nixcache(&["build"]).start();
        let until = Instant::now() + whole.mul_f64(0.2 + f64::from(step) / 20.0);
        while Instant::now() < until && running.is_running() {
            sleep(Duration::from_millis(1));
        }
        if running.is_running() {
            running.signal("KILL");
        }
        running.wait();
        // Cargo alone judges what was left: some units are new, others are as they were.
        workspace.cargo(&["build"]).succeed();
        assert_eq!(workspace.run_output("debug/app"), format!("{}\n", 8 + number), "after step {step}");
    }
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
    while !running.compiled().iter().any(|call| call.starts_with("rustc link6")) {
        assert!(Instant::now() < deadline && running.is_running(), "the build doesn't get there");
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_secs(1));
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
