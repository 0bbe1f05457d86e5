//! How long it takes to read, relocate and write the fingerprints of a large build. It is printed and not judged: other
//! work on the machine would decide.

use std::fs;
use std::time::Instant;

use camino::Utf8PathBuf;
use nixcache_core::artifact::{RootKind, Roots};
use nixcache_core::cargo::fingerprint::{
    CargoFingerprint, DependencyFingerprint, LocalFingerprint, RelocatableFingerprint, Relocation, path_hash,
};
use nixcache_core::cargo::layout::{BuildLayout, CargoHash, FingerprintStem, LayoutKind};
use nixcache_core::unit::{CompileMode, CompilePlatform, TargetKind};

const UNITS: u64 = 450;

#[test]
fn hundreds_of_units_are_moved_in_milliseconds() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    let roots = |name: &str| {
        Roots::new([
            (RootKind::CargoHome, root.join(name).join("cargo")),
            (RootKind::BuildDirectory, root.join(name).join("target")),
        ])
    };
    let layout = |name: &str| {
        let target = root.join(name).join("target");
        BuildLayout::new(LayoutKind::Legacy, &target, &target, &CompilePlatform::Host, "release")
    };
    let source = |unit: u64| root.join(format!("here/cargo/registry/src/index/package-{unit}-1.0.0/src/lib.rs"));
    let (package, stem) = ("package", FingerprintStem::new(CompileMode::Build, TargetKind::Lib, "package"));

    let mut hashes: Vec<u64> = Vec::new();
    for unit in 0..UNITS {
        let record = CargoFingerprint {
            rustc: 8354309321421523391,
            features: "[\"default\", \"derive\", \"std\"]".into(),
            declared_features: "[\"alloc\", \"default\", \"derive\", \"rc\", \"std\", \"unstable\"]".into(),
            target: 12492255980220669120,
            profile: 12077771321704829354,
            path: path_hash(&source(unit)),
            deps: hashes.iter().rev().take(12).map(|hash| DependencyFingerprint(7, "a".into(), false, *hash)).collect(),
            local: vec![LocalFingerprint::CheckDepInfo {
                dep_info: "release/x/dep-lib-package".into(),
                checksum: false,
            }],
            rustflags: vec![],
            config: 9396254390672932401,
            compile_kind: 0,
        };
        let files = layout("here").fingerprint_files(package, CargoHash::from_u64(unit), &stem);
        fs::create_dir_all(&files.directory).unwrap();
        record.write(&files).unwrap();
        let there = layout("there").fingerprint_files(package, CargoHash::from_u64(unit), &stem);
        fs::create_dir_all(&there.directory).unwrap();
        hashes.push(record.hash());
    }

    let started = Instant::now();
    let present = layout("here").present_units().unwrap();
    let listed = started.elapsed();
    assert_eq!(present.len() as u64, UNITS);

    let started = Instant::now();
    let here = roots("here");
    let stored: Vec<_> = (0..UNITS)
        .map(|unit| {
            let files = layout("here").fingerprint_files(package, CargoHash::from_u64(unit), &stem);
            let record = CargoFingerprint::read(&files).unwrap().unwrap();
            let unit = unit as usize;
            let dependencies = &hashes[unit.saturating_sub(12)..unit];
            RelocatableFingerprint::from_cargo(&record, Some(&source(unit as u64)), &here, dependencies).unwrap()
        })
        .collect();
    let collected = started.elapsed();

    let started = Instant::now();
    let there = roots("there");
    let mut moved: Vec<u64> = Vec::new();
    let records: Vec<CargoFingerprint> = stored
        .iter()
        .enumerate()
        .map(|(unit, stored)| {
            let relocation = Relocation {
                roots: &there,
                dependency_hashes: &moved[unit.saturating_sub(12)..],
                environment: &|_| None,
                newest_file: &|| None,
            };
            let record = stored.relocate(relocation).unwrap();
            moved.push(record.hash());
            record
        })
        .collect();
    let relocated = started.elapsed();

    let started = Instant::now();
    for (unit, record) in (0..).zip(&records) {
        record.write(&layout("there").fingerprint_files(package, CargoHash::from_u64(unit), &stem)).unwrap();
    }
    let written = started.elapsed();
    #[expect(clippy::print_stderr, reason = "a measurement is to be seen")]
    {
        eprintln!(
            "{UNITS} units: listed in {listed:?}, read, checked and hidden in {collected:?}, relocated in {relocated:?}, \
             written in {written:?}"
        );
    }
}
