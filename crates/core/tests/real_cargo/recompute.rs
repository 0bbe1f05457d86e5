//! Every fingerprint and dep-info that the installed cargos write is recomputed, rewritten and relocated.

use std::collections::BTreeSet;
use std::fs;

use nixcache_core::cargo::dep_info::{CargoDepInfo, RustcDepInfo};
use nixcache_core::cargo::directives::Directives;
use nixcache_core::cargo::fingerprint::{CargoFingerprint, LocalFingerprint, RelocatableFingerprint};
use nixcache_core::cargo::layout::{
    BuildLayout, FingerprintStem, LayoutKind, Location, PresentUnit, RustcPlace, UnitFlavor, on_disk,
};
use nixcache_core::unit::{CompileMode, CompilePlatform, TargetKind};

use crate::fixture::{Machine, toolchains};
use crate::transplant::source_path;

#[test]
fn every_unit_is_recomputed_rewritten_and_relocated() {
    for toolchain in toolchains() {
        let mut machine = Machine::new("producer");
        machine.variables.insert("APP_TOKEN".into(), "secret-token".into());
        let mut text = String::new();
        for command in ["build", "check"] {
            text += &machine.cargo(&toolchain, &[command, "--workspace", "--all-targets"]);
        }
        machine.cargo(&toolchain, &["doc", "--workspace", "--no-deps"]);

        let layout = machine.layout(&toolchain);
        let seen = on_disk(&layout.profile_root());
        assert_eq!(
            (seen.legacy, seen.per_unit),
            match toolchain.layout {
                LayoutKind::Legacy => (true, false),
                LayoutKind::PerUnit => (false, true),
            }
        );
        let units = layout.present_units().unwrap();
        let mut stems = BTreeSet::new();
        let mut records = Vec::new();
        for unit in &units {
            assert!(!unit.stems.is_empty(), "{unit:?}");
            for stem in &unit.stems {
                stems.insert(stem.to_string());
                let files = layout.fingerprint_files(&unit.package, unit.hash, stem);
                let record = CargoFingerprint::read(&files).unwrap().unwrap();
                assert_eq!(record.to_json(), fs::read(&files.json).unwrap());
                for local in &record.local {
                    match local {
                        LocalFingerprint::CheckDepInfo { dep_info, .. } => {
                            assert_eq!(Some(dep_info.as_path()), layout.relative(&files.dep_info));
                        }
                        LocalFingerprint::RerunIfChanged { output, .. } => {
                            let run = layout.run_files(&unit.package, unit.hash);
                            assert_eq!(Some(output.as_path()), layout.relative(&run.stdout));
                        }
                        LocalFingerprint::Precalculated(_) | LocalFingerprint::RerunIfEnvChanged { .. } => {}
                    }
                }
                if let Ok(bytes) = fs::read(&files.dep_info) {
                    let info = CargoDepInfo::decode(&bytes).unwrap();
                    assert_eq!(info.encode(), bytes);
                } else {
                    assert!(matches!(stem.flavor(), UnitFlavor::Doc | UnitFlavor::Run), "{stem}");
                }
                if stem.is_run() {
                    let run = layout.run_files(&unit.package, unit.hash);
                    Directives::parse(&fs::read(&run.stdout).unwrap(), None).unwrap();
                    assert_eq!(fs::read(&run.root_output).unwrap(), run.out.as_str().as_bytes());
                    let found = Location::of_out_directory(&machine.target, &machine.target, &run.out).unwrap();
                    assert_eq!(found, (layout.clone(), unit.package.clone(), unit.hash));
                }
                records.push((unit.package.clone(), stem.clone(), record));
            }
        }
        for expected in [
            "lib-app_one",
            "test-lib-app_one",
            "doc-lib-app_one",
            "bin-renamed-bin",
            "test-bin-other-bin",
            "test-integration-test-it",
            "example-ex-a",
            "test-bench-speed",
            "lib-mac",
            "lib-remote",
            "lib-shared",
            "build-script-build-script-build",
            "run-build-script-build-script-build",
        ] {
            assert!(stems.contains(expected), "{}: no {expected} in {stems:?}", toolchain.name);
        }

        let hashes: Vec<u64> = records.iter().map(|(_, _, record)| record.hash()).collect();
        for (package, stem, record) in &records {
            let source = source_path(&machine, package, stem);
            let stored =
                RelocatableFingerprint::from_cargo(record, source.as_deref(), &machine.roots(), &hashes).unwrap();
            let text = serde_json::to_string(&stored).unwrap();
            assert!(!text.contains(machine.root.as_str()) && !text.contains("secret-token"), "{text}");
        }

        every_command_line_is_located(&machine, &layout, &units, &text);

        let makefiles = layout.profile_root();
        let mut read = 0;
        for file in walk(makefiles.as_std_path()) {
            if file.extension().is_some_and(|extension| extension == "d") {
                let info = RustcDepInfo::parse(&fs::read_to_string(&file).unwrap()).unwrap();
                assert!(!info.files.is_empty(), "{}", file.display());
                read += 1;
            }
        }
        assert!(read > 20, "{read}");
    }
}

#[test]
fn separate_directories_and_targets_are_told_apart() {
    for toolchain in toolchains() {
        let mut machine = Machine::new("machine");
        let build = machine.root.join("intermediate");
        machine.variables.insert("CARGO_BUILD_BUILD_DIR".into(), build.to_string());
        let host = "x86_64-unknown-linux-gnu";
        machine.cargo(&toolchain, &["build", "-p", "app-one", "--lib", "--profile", "release", "--target", host]);
        let target = CompilePlatform::Target { name: host.into(), specification: None };
        let layout = |platform| BuildLayout::new(toolchain.layout, &build, &machine.target, platform, "release");
        let packages = |platform| {
            let layout = layout(platform);
            let mut packages = Vec::new();
            for unit in layout.present_units().unwrap() {
                for stem in &unit.stems {
                    let files = layout.fingerprint_files(&unit.package, unit.hash, stem);
                    assert!(CargoFingerprint::read(&files).unwrap().is_some());
                    let outputs = layout.output_directory(&unit.package, unit.hash, stem);
                    assert!(outputs.is_dir(), "{outputs}");
                    packages.push(format!("{} {stem}", unit.package));
                }
            }
            packages
        };
        let (on_host, on_target) = (packages(&CompilePlatform::Host), packages(&target));
        assert!(on_host.contains(&"mac lib-mac".into()) && !on_host.contains(&"remote lib-remote".into()));
        assert!(on_target.contains(&"remote lib-remote".into()) && !on_target.contains(&"mac lib-mac".into()));
        assert!(on_target.contains(&"remote run-build-script-build-script-build".into()), "{on_target:?}");
        assert!(layout(&target).final_directory().join("libapp_one.rlib").is_file());
    }
}

/// The output directory and extra file name of every rustc lead to a unit on disk.
fn every_command_line_is_located(machine: &Machine, layout: &BuildLayout, units: &[PresentUnit], text: &str) {
    let mut located = 0;
    for line in text.lines().filter(|line| line.contains("Running `") && line.contains("--out-dir ")) {
        let after = |option: &str| line.split_once(option).and_then(|(_, rest)| rest.split(' ').next());
        let out = after("--out-dir ").unwrap();
        let found =
            Location::of_rustc(&machine.target, &machine.target, out.into(), after("-C extra-filename=")).unwrap();
        assert_eq!(found.layout, *layout);
        match found.place {
            RustcPlace::Unit { package, hash } => {
                assert!(units.iter().any(|unit| unit.package == package && unit.hash == hash), "{line}");
            }
            RustcPlace::Hashed { hash } => assert!(units.iter().any(|unit| unit.hash == hash), "{line}"),
            RustcPlace::Unhashed => {
                let stem = FingerprintStem::new(CompileMode::Build, TargetKind::Lib, "shared");
                assert!(line.contains("--crate-name shared "), "{line}");
                let hash = layout.find_unhashed("shared", &stem).unwrap().unwrap();
                assert!(layout.fingerprint_files("shared", hash, &stem).hash.is_file());
                assert!(layout.profile_root().join("deps/libshared.so").is_file());
            }
        }
        located += 1;
    }
    assert!(located > 20, "{located}");
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
