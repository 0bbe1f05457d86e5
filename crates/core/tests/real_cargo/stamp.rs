//! The newest file of a package is the one that cargo finds.

use std::fs;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use camino::Utf8Path;
use nixcache_core::cargo::fingerprint::{CargoFingerprint, LocalFingerprint, newest_file};

use crate::fixture::{Machine, Toolchain, toolchains, write};

/// What cargo put into the fingerprint of the run of `plain`'s build script.
fn cargos_stamp(machine: &Machine, toolchain: &Toolchain) -> String {
    machine.cargo(toolchain, &["check", "-p", "plain"]);
    let layout = machine.layout(toolchain);
    let stamps: Vec<String> = layout
        .present_units()
        .unwrap()
        .iter()
        .flat_map(|unit| unit.stems.iter().map(move |stem| (unit, stem)))
        .filter(|(unit, stem)| unit.package == "plain" && stem.is_run())
        .map(|(unit, stem)| {
            let files = layout.fingerprint_files(&unit.package, unit.hash, stem);
            match &CargoFingerprint::read(&files).unwrap().unwrap().local[..] {
                [LocalFingerprint::Precalculated(text)] => text.clone(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let [stamp] = &stamps[..] else { panic!("{stamps:?}") };
    stamp.clone()
}

fn age_all(directory: &Utf8Path, seconds: u64) {
    for entry in directory.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            age_all(entry.path(), seconds);
        } else if entry.file_type().unwrap().is_file() {
            let time = UNIX_EPOCH + Duration::new(seconds, 123_456_789);
            fs::File::open(entry.path()).unwrap().set_modified(time).unwrap();
        }
    }
}

/// Compares where all files are equally new, as after a checkout: the first one counts.
fn compare_equals(machine: &Machine, toolchain: &Toolchain, seconds: u64) {
    let plain = machine.workspace.join("plain");
    for name in ["z", "a", "m", "dir/z", "dir/a", "dir/sub/x", "other/x", "Z"] {
        write(&plain.join(name), "");
    }
    age_all(&plain, seconds);
    let expected = cargos_stamp(machine, toolchain);
    assert_eq!(newest_file(&plain, &machine.workspace).unwrap().stamp(), expected);
}

/// Makes each file in turn the newest one, and compares.
fn compare(machine: &Machine, toolchain: &Toolchain, files: &[(&str, bool)]) {
    let plain = machine.workspace.join("plain");
    for (file, counts) in files {
        age_all(&plain, 1_500_000_000);
        write(&plain.join(file), "// new");
        let expected = cargos_stamp(machine, toolchain);
        assert_eq!(newest_file(&plain, &machine.workspace).unwrap().stamp(), expected, "{file}");
        assert_eq!(expected.ends_with(&format!("({file})")), *counts, "{file}: {expected}");
    }
}

#[test]
fn without_git_hidden_files_and_exclusions_are_passed_over() {
    let files = [
        ("src/lib.rs", true),
        ("data/any", true),
        (".hidden", false),
        ("left-out/x", false),
        ("data/.hidden/x", false),
        ("target/x", false),
        ("data/target/x", true),
        ("Cargo.lock", true),
        ("below/Cargo.toml", false),
        ("below/src/x", false),
    ];
    let toolchains = toolchains();
    let machine = Machine::new("machine");
    compare(&machine, &toolchains[0], &files);
    compare_equals(&machine, &toolchains[0], 1_600_000_000);
    compare(&Machine::new("machine"), toolchains.last().unwrap(), &files[..3]);
}

#[test]
fn git_chooses_where_it_tracks_the_manifest() {
    let machine = Machine::new("machine");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(&machine.workspace).args(arguments).env("HOME", &machine.root);
        assert!(command.status().unwrap().success(), "{arguments:?}");
    };
    let plain = machine.workspace.join("plain");
    write(&machine.workspace.join(".gitignore"), "*.ignored\n");
    write(&plain.join("kept.ignored"), "");
    write(&plain.join("below/Cargo.toml"), "[package]\nname = \"below\"\nversion = \"0.1.0\"\n[workspace]\n");
    write(&plain.join(".git-like/x"), "");
    git(&["init", "-q"]);
    // A repository that does not track the manifest does not choose.
    compare(&machine, &toolchains()[0], &[("new.ignored", true), (".hidden", false)]);
    git(&["add", "."]);
    git(&["add", "-f", "plain/kept.ignored"]);
    compare(
        &machine,
        &toolchains()[0],
        &[
            ("src/lib.rs", true),
            ("untracked", true),
            (".hidden", true),
            (".git-like/x", true),
            ("other.ignored", false),
            ("kept.ignored", true),
            ("left-out/x", false),
            ("target/x", false),
            ("below/src/x", false),
            ("Cargo.lock", true),
        ],
    );
    compare_equals(&machine, &toolchains()[0], 1_600_000_000);
    git(&["add", "."]);
    compare_equals(&machine, &toolchains()[0], 1_600_000_001);
    let manifest = fs::read_to_string(plain.join("Cargo.toml")).unwrap();
    write(
        &plain.join("Cargo.toml"),
        &manifest.replace("exclude = [\"left-out\"]", "include = [\"/src\", \"left-out/*\"]"),
    );
    compare(&machine, &toolchains()[0], &[("src/lib.rs", true), ("left-out/x", true), ("untracked", false)]);
}
