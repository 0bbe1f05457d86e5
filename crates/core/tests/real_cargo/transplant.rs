//! What cargo needs to find a unit Fresh: units are carried to a machine with other directories and fresh
//! checkouts, in the smallest set of files, with the times given by a policy, and cargo is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::dep_info::CargoDepInfo;
use nixcache_core::cargo::directives::Directives;
use nixcache_core::cargo::fingerprint::{
    CargoFingerprint, RelocatableFingerprint, Relocation, WatchedPaths, hashed_source_path, newest_file, output_stamp,
};
use nixcache_core::cargo::layout::{CargoHash, FingerprintStem, LayoutKind, UnitFlavor};
use nixcache_core::unit::TargetKind;

use crate::fixture::{Machine, Toolchain, toolchains};

const COMMANDS: [&[&str]; 4] = [
    &["build", "--workspace"],
    &["check", "--workspace", "--all-targets"],
    &["test", "--no-run", "--workspace"],
    &["build", "--workspace", "--all-targets"],
];

fn fixed() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// Which times the carried files get.
#[derive(Clone, Copy, PartialEq)]
enum Policy {
    /// `output_stamp` for outputs, the time of the transplant for dep-info.
    AsDocumented,
    /// The same, but the metadata alone of libraries has the time that they need.
    OneOutputNew,
    /// The fixed time for outputs and stdout files, the time of the transplant for dep-info.
    AllOutputsOld,
    /// The same, but stdout files of runs that watch paths are as new as these.
    OnlyStdoutNew,
    /// The fixed time for all files, dep-info too.
    AllOld,
}

struct Unit {
    package: String,
    hash: CargoHash,
    stem: FingerprintStem,
    record: CargoFingerprint,
}

fn units(machine: &Machine, toolchain: &Toolchain) -> Vec<Unit> {
    let layout = machine.layout(toolchain);
    let present = layout.present_units().unwrap();
    let all = present.iter().flat_map(|unit| unit.stems.iter().map(move |stem| (unit, stem)));
    all.map(|(unit, stem)| {
        let files = layout.fingerprint_files(&unit.package, unit.hash, stem);
        let record = CargoFingerprint::read(&files).unwrap().unwrap();
        Unit { package: unit.package.clone(), hash: unit.hash, stem: stem.clone(), record }
    })
    .collect()
}

/// Carries everything from one machine to another, and leaves out what cargo does not need.
fn transplant(from: &Machine, to: &Machine, toolchain: &Toolchain, policy: Policy) {
    let units = units(from, toolchain);
    let (source, destination) = (from.layout(toolchain), to.layout(toolchain));
    copy_outputs(&source.profile_root(), &destination.profile_root(), from, to);

    // Old hash to new hash and output time, in dependency order.
    let mut done: BTreeMap<u64, (u64, SystemTime)> = BTreeMap::new();
    let mut waiting: Vec<&Unit> = units.iter().collect();
    while !waiting.is_empty() {
        let before = waiting.len();
        waiting.retain(|unit| {
            let dependencies: Option<Vec<_>> = unit.record.deps.iter().map(|dep| done.get(&dep.3).copied()).collect();
            let Some(dependencies) = dependencies else { return true };
            let stamp = carry(unit, &dependencies, from, to, toolchain, policy);
            done.insert(unit.record.hash(), stamp);
            false
        });
        assert!(waiting.len() < before, "a dependency is missing");
    }
}

fn carry(
    unit: &Unit,
    dependencies: &[(u64, SystemTime)],
    from: &Machine,
    to: &Machine,
    toolchain: &Toolchain,
    policy: Policy,
) -> (u64, SystemTime) {
    let (source, destination) = (from.layout(toolchain), to.layout(toolchain));
    let old: Vec<u64> = unit.record.deps.iter().map(|dep| dep.3).collect();
    let new: Vec<u64> = dependencies.iter().map(|(hash, _)| *hash).collect();
    let path = source_path(from, &unit.package, &unit.stem);
    let stored = RelocatableFingerprint::from_cargo(&unit.record, path.as_deref(), &from.roots(), &old).unwrap();
    let (package_root, _) = package_root(to, &unit.package);
    let roots = to.roots();
    let record = stored
        .relocate(Relocation {
            roots: &roots,
            dependency_hashes: &new,
            environment: &|name| variable(to, name),
            newest_file: &|| newest_file(&package_root, &to.workspace).ok().map(|newest| newest.stamp()),
        })
        .unwrap();

    let files = destination.fingerprint_files(&unit.package, unit.hash, &unit.stem);
    fs::create_dir_all(&files.directory).unwrap();
    // The JSON, `output-…` and `invoked.timestamp` are not needed.
    fs::write(&files.hash, record.hash_file_text()).unwrap();
    if let Ok(bytes) = fs::read(source.fingerprint_files(&unit.package, unit.hash, &unit.stem).dep_info) {
        let hidden = CargoDepInfo::decode(&bytes).unwrap().hide(&from.roots());
        let revealed = hidden.reveal(&to.roots(), |name| variable(to, name)).unwrap();
        fs::write(&files.dep_info, revealed.encode()).unwrap();
        if policy == Policy::AllOld {
            set_time(&files.dep_info, fixed());
        }
    }

    let mut own = None;
    if unit.stem.is_run() {
        let stdout = destination.run_files(&unit.package, unit.hash).stdout;
        let directives = Directives::parse(&fs::read(&stdout).unwrap(), None).unwrap();
        let paths: Vec<_> = directives.rerun_if_changed().map(|path| package_root.join(path)).collect();
        own = WatchedPaths::look(paths.iter().map(Utf8PathBuf::as_path), &to.home).newest();
    }
    let times = dependencies.iter().map(|(_, time)| *time);
    let stamp = match policy {
        Policy::AsDocumented | Policy::OneOutputNew => output_stamp(fixed(), own, times),
        Policy::OnlyStdoutNew => output_stamp(fixed(), own, []),
        Policy::AllOutputsOld | Policy::AllOld => fixed(),
    };
    let files = outputs(unit, to, toolchain);
    let has_metadata = files.iter().any(|file| file.extension() == Some("rmeta"));
    for file in files {
        let old = policy == Policy::OneOutputNew && has_metadata && file.extension() != Some("rmeta");
        set_time(&file, if old { fixed() } else { stamp });
    }
    (record.hash(), stamp)
}

/// The value that cargo sees. `cargo clippy` sets a variable of its own, and clippy reads it.
fn variable(machine: &Machine, name: &str) -> Option<String> {
    machine.variables.get(name).cloned().or_else(|| (name == "CLIPPY_ARGS").then(String::new))
}

/// The files that cargo looks at the times of.
fn outputs(unit: &Unit, machine: &Machine, toolchain: &Toolchain) -> Vec<Utf8PathBuf> {
    let layout = machine.layout(toolchain);
    if unit.stem.flavor() == UnitFlavor::Doc {
        return Vec::new();
    }
    if unit.stem.is_run() {
        return vec![layout.run_files(&unit.package, unit.hash).stdout];
    }
    let directory = layout.output_directory(&unit.package, unit.hash, &unit.stem);
    let crate_name = unit.stem.name().replace('-', "_");
    let mut files = Vec::new();
    for file in directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().path().to_owned()) {
        let name = file.file_name().unwrap();
        let hashed = name.contains(&unit.hash.to_string());
        // Legacy cdylibs have no hash in their names. The fixture has one.
        let unhashed = name == format!("lib{crate_name}.so") || name == format!("lib{crate_name}.rlib");
        if file.is_file()
            && (toolchain.layout == LayoutKind::PerUnit || hashed || (unhashed && unit.package == "shared"))
        {
            files.push(file);
        }
    }
    assert!(!files.is_empty(), "{} {} {}", unit.package, unit.hash, unit.stem);
    files
}

/// Copies what compilers and build scripts wrote, all with the fixed time.
fn copy_outputs(from: &Utf8Path, to: &Utf8Path, producer: &Machine, consumer: &Machine) {
    for entry in from.read_dir_utf8().unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let target = to.join(name);
        if path.is_dir() {
            let skipped = [".fingerprint", "fingerprint", "incremental"].contains(&name);
            // Final files, beside the directories: cargo links them anew.
            if !skipped {
                copy_outputs(path, &target, producer, consumer);
            }
            continue;
        }
        let unneeded = ["stderr", "root-output", "invoked.timestamp"].contains(&name) || name.ends_with(".d");
        if unneeded || from.file_name() == Some("debug") {
            continue;
        }
        fs::create_dir_all(to).unwrap();
        if name == "output" || name == "stdout" {
            let text = fs::read_to_string(path).unwrap();
            fs::write(&target, text.replace(producer.target.as_str(), consumer.target.as_str())).unwrap();
        } else {
            fs::copy(path, &target).unwrap();
        }
        set_time(&target, fixed());
    }
    fs::create_dir_all(to).unwrap();
}

fn set_time(path: &Utf8Path, time: SystemTime) {
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

fn package_root(machine: &Machine, package: &str) -> (Utf8PathBuf, bool) {
    match package {
        "remote" | "quiet" => (machine.home.join("registry/src/stand-in").join(package), false),
        "app-one" => (machine.workspace.join("app"), true),
        other => (machine.workspace.join(other), true),
    }
}

/// The path that cargo hashed for a unit of the fixture.
pub(crate) fn source_path(machine: &Machine, package: &str, stem: &FingerprintStem) -> Option<Utf8PathBuf> {
    if stem.flavor() == UnitFlavor::Run {
        return None;
    }
    let file = match (stem.kind(), stem.name()) {
        (TargetKind::Lib, _) => "src/lib.rs".to_owned(),
        (TargetKind::CustomBuild, _) => "build.rs".to_owned(),
        (TargetKind::Bin, "renamed-bin") => "src/main.rs".to_owned(),
        (TargetKind::Bin, name) => format!("src/bin/{name}.rs"),
        (TargetKind::Example, name) => format!("examples/{name}.rs"),
        (TargetKind::Test, name) => format!("tests/{name}.rs"),
        (TargetKind::Bench, name) => format!("benches/{name}.rs"),
    };
    let (root, is_path) = package_root(machine, package);
    Some(hashed_source_path(&root.join(file), is_path, &machine.workspace).to_owned())
}

/// What cargo says of units that it did not find fresh.
fn dirty(text: &str) -> BTreeSet<String> {
    let words = ["Dirty", "Compiling", "Checking", "Running", "Documenting"];
    let lines = text.lines().map(str::trim_start).filter(|line| words.iter().any(|word| line.starts_with(word)));
    lines.map(str::to_owned).collect()
}

fn carried(toolchain: &Toolchain, policy: Policy) -> (Machine, Machine) {
    let mut producer = Machine::new("producer");
    producer.variables.insert("APP_TOKEN".into(), "theirs".into());
    for command in commands(toolchain) {
        producer.cargo(toolchain, command);
    }
    let mut consumer = Machine::new("consumer");
    consumer.variables.insert("APP_TOKEN".into(), "ours".into());
    transplant(&producer, &consumer, toolchain, policy);
    (producer, consumer)
}

/// Commands of every kind; clippy where it is installed.
fn commands(toolchain: &Toolchain) -> Vec<&'static [&'static str]> {
    let clippy: &[&str] = &["clippy", "--workspace"];
    let has_clippy = toolchain.directory.join("cargo-clippy").is_file();
    COMMANDS.into_iter().chain(has_clippy.then_some(clippy)).collect()
}

#[test]
fn everything_is_fresh_with_the_documented_times() {
    for toolchain in toolchains() {
        let (_producer, consumer) = carried(&toolchain, Policy::AsDocumented);
        for command in commands(&toolchain) {
            let text = consumer.cargo(&toolchain, command);
            assert_eq!(dirty(&text), BTreeSet::new(), "{} {command:?}", toolchain.name);
            assert!(text.contains("Fresh app-one"), "{text}");
        }
        // Cargo links the final files anew.
        assert!(consumer.target.join("debug/renamed-bin").is_file());
        assert!(consumer.target.join("debug/libshared.so").is_file());
        let text = consumer.cargo(&toolchain, &["doc", "--workspace", "--no-deps"]);
        let other = dirty(&text).into_iter().find(|line| line.contains("Running") && !line.contains("/rustdoc "));
        assert_eq!(other, None, "{}", toolchain.name);
    }
}

/// The units that cargo compiles or runs, by their crate names, `run` for build scripts.
fn compiled(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("Running `"));
    lines
        .map(|line| match line.split_once("--crate-name ") {
            Some((_, rest)) => rest.split(' ').next().unwrap().to_owned(),
            None => "run".to_owned(),
        })
        .collect()
}

#[test]
fn one_old_time_is_not_enough_for_runs_that_watch_paths() {
    let toolchain = &toolchains()[0];
    let compiled_with = |policy| {
        let (_producer, consumer) = carried(toolchain, policy);
        compiled(&consumer.cargo(toolchain, COMMANDS[0])).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(compiled_with(Policy::OneOutputNew), [""; 0]);
    // The stdout file is older than the paths that the script of `app` names.
    assert_eq!(compiled_with(Policy::AllOutputsOld), ["app_one", "other_bin", "renamed_bin", "run"]);
    // It is not, but newer than the outputs of its dependents.
    assert_eq!(compiled_with(Policy::OnlyStdoutNew), ["app_one", "other_bin", "renamed_bin"]);
    // Every member's dep-info is older than its sources; those of registry packages list none.
    let all = compiled_with(Policy::AllOld);
    assert!(all.contains(&"plain".to_owned()) && all.contains(&"mac".to_owned()), "{all:?}");
    assert!(!all.contains(&"remote".to_owned()) && !all.contains(&"quiet".to_owned()), "{all:?}");
}
