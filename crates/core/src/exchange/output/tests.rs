//! Outputs hold what cargo would put beside its final files, and are named by it.

use super::*;
use crate::artifact::{ArtifactFile, FileClass};
use crate::digest::ContentDigest;
use crate::nix::nar::{Event, NarLimits, NarReader};
use crate::store::{LocalStore, StoreOptions};
use crate::unit::tests::{edge, package, unit};
use crate::unit::{BoundaryKind, PackageSource};

struct Scratch {
    _directory: tempfile::TempDir,
    lease: Lease,
}

fn scratch() -> Scratch {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap().join("store");
    let lease = LocalStore::open(&path, StoreOptions::default()).unwrap().lease().unwrap();
    Scratch { _directory: directory, lease }
}

/// An artifact with these files, whose cargo hash is `0123456789abcdef`.
fn artifact(lease: &Lease, files: &[(&str, &[u8], bool)]) -> UnitArtifact {
    let file = |(path, content, executable): &(&str, &[u8], bool)| ArtifactFile {
        path: (*path).into(),
        blob: lease.insert_bytes(content, *executable).unwrap(),
        class: FileClass::Own,
    };
    let fingerprint = serde_json::json!({
        "rustc": 1, "features": "[]", "declared_features": "[]", "target": 2, "profile": 3,
        "source_path": null, "dependencies": [], "local": [], "rustflags": [], "config": 4, "compile_kind": 5,
    });
    UnitArtifact {
        label: "x".to_owned(),
        package: "x".to_owned(),
        hash: "0123456789abcdef".parse().unwrap(),
        stem: serde_json::from_value(serde_json::json!("bin-x")).unwrap(),
        output: ContentDigest::of(b""),
        fingerprint: serde_json::from_value(fingerprint).unwrap(),
        dep_info: None,
        diagnostics: None,
        run: None,
        files: files.iter().map(file).collect(),
        directories: Vec::new(),
        links: Vec::new(),
        dynamic: Vec::new(),
        rows: Vec::new(),
    }
}

const MEMBER: PackageSource = PackageSource::Path { boundary: BoundaryKind::Member };

/// A library of every kind, a program, an example, and the program once more for another platform.
fn graph() -> (UnitGraph, PlannedSet) {
    let mut library = unit(0, CrateType::Rlib, "/w", Vec::new());
    library.target.crate_types.extend([CrateType::Cdylib, CrateType::Staticlib]);
    let mut program = unit(0, CrateType::Bin, "/w", vec![edge(0, "x")]);
    program.target.name = "my-app".to_owned();
    let mut example = program.clone();
    example.target.kind = TargetKind::Example;
    let mut test = program.clone();
    test.mode = CompileMode::Test;
    let mut elsewhere = program.clone();
    elsewhere.platform = CompilePlatform::Target { name: "wasm32-wasip1".to_owned(), specification: None };
    let graph = UnitGraph {
        packages: vec![package("my-app", MEMBER, "/w")],
        units: vec![library, program, example, test, elsewhere],
        ..UnitGraph::default()
    };
    let set = PlannedSet {
        kind: SetKind::Package(crate::unit::PackageIndex(0)),
        name: "my-app".to_owned(),
        version: Some("1.0.0".to_owned()),
        units: (0..5).map(UnitIndex).collect(),
        references: Vec::new(),
        key: None,
    };
    (graph, set)
}

fn made(lease: &Lease, program: &[u8]) -> Vec<Output> {
    let (graph, set) = graph();
    let library = [
        ("libmy_app-0123456789abcdef.rlib", &b"rlib"[..], false),
        ("libmy_app-0123456789abcdef.rmeta", b"rmeta", false),
        ("libmy_app-0123456789abcdef.a", b"archive", false),
        ("libmy_app.so", b"shared", true),
    ];
    let program = [("my_app-0123456789abcdef", program, true), ("my_app-0123456789abcdef.dwp", b"debug", false)];
    let wasm = [("my_app-0123456789abcdef.wasm", &b"wasm"[..], true)];
    let artifacts = [
        artifact(lease, &library),
        artifact(lease, &program),
        artifact(lease, &program),
        artifact(lease, &program),
        artifact(lease, &wasm),
    ];
    outputs(&graph, &set, |index| artifacts.get(index.0 as usize).cloned()).unwrap()
}

#[test]
fn programs_and_foreign_libraries_are_installed() {
    let scratch = scratch();
    let outputs = made(&scratch.lease, b"program");
    let shown: Vec<_> = outputs
        .iter()
        .map(|output| (output.name.as_str(), output.files.keys().map(|path| path.as_str()).collect::<Vec<_>>()))
        .collect();
    let expected = [
        ("my-app-1.0.0", vec!["bin/my-app", "lib/libmy_app.a", "lib/libmy_app.so"]),
        ("my-app-wasm32-wasip1-1.0.0", vec!["bin/my-app.wasm"]),
    ];
    assert_eq!(shown, expected);
    let (graph, set) = graph();
    let deps = PlannedSet { kind: SetKind::Deps, ..set };
    assert!(super::outputs(&graph, &deps, |_| None).unwrap().is_empty());
    let (graph, set) = self::graph();
    assert!(super::outputs(&graph, &set, |_| None).is_none(), "not all of it is at hand");
}

#[test]
fn an_output_is_named_by_what_is_in_it() {
    let scratch = scratch();
    let [output, _] = <[Output; 2]>::try_from(made(&scratch.lease, b"program")).unwrap();
    let path = output.path(&scratch.lease).unwrap().unwrap();
    let mut nar = Vec::new();
    output.write(&scratch.lease, &mut nar).unwrap();
    assert_eq!((path.nar_hash, path.nar_size), (Sha256::of(&nar), nar.len() as u64));
    // The store remembers it, and says the same.
    assert_eq!(output.path(&scratch.lease).unwrap(), Some(path.clone()));
    // Another store, the same files.
    let other = self::scratch();
    let [again, _] = <[Output; 2]>::try_from(made(&other.lease, b"program")).unwrap();
    assert_eq!(again.path(&other.lease).unwrap(), Some(path.clone()));
    let [changed, _] = <[Output; 2]>::try_from(made(&other.lease, b"another program")).unwrap();
    assert_ne!(changed.path(&other.lease).unwrap(), Some(path));

    let mut reader = NarReader::new(nar.as_slice(), NarLimits::default());
    let mut executables = Vec::new();
    let mut name = String::new();
    while let Some(event) = reader.next_event().unwrap() {
        match event {
            Event::Entry { name: found } => name = String::from_utf8(found.to_vec()).unwrap(),
            Event::Regular { executable, mut contents, .. } => {
                io::copy(&mut contents, &mut io::sink()).unwrap();
                executables.push((std::mem::take(&mut name), executable));
            }
            _ => {}
        }
    }
    let expected = [("my-app", true), ("libmy_app.a", false), ("libmy_app.so", true)];
    assert_eq!(executables, expected.map(|(name, executable)| (name.to_owned(), executable)));
}

#[test]
fn what_names_a_store_path_is_left_to_nix() {
    let scratch = scratch();
    let path = |content: &[u8]| made(&scratch.lease, content)[0].path(&scratch.lease).unwrap();
    let named = b"\0/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-glibc-2.40/lib/ld-linux.so.2\0";
    assert_eq!(path(named), None);
    assert_eq!(path(named), None, "nor when the store remembers it");
    // Across the pieces in which it is read.
    for length in [(1 << 16) - 20, (1 << 17) - 20, (1 << 18) - 20] {
        assert_eq!(path(&[&vec![b'x'; length][..], named].concat()), None, "{length}");
    }
    for harmless in ["/nix/store", "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka", "/nix/store/eeee-x", "/nix/store/"] {
        assert!(path(harmless.as_bytes()).is_some(), "{harmless}");
    }
}

#[test]
fn the_search_finds_a_name_wherever_it_is_cut() {
    let text = b"xx/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-glibc";
    for first in 0..text.len() {
        for second in first..text.len() {
            let mut search = ReferenceSearch::default();
            search.feed(&text[..first]);
            search.feed(&text[first..second]);
            search.feed(&text[second..]);
            assert!(search.is_met, "{first} {second}");
        }
    }
    let mut bytewise = ReferenceSearch::default();
    text.iter().for_each(|byte| bytewise.feed(&[*byte]));
    assert!(bytewise.is_met);
}
