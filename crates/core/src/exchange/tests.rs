//! Records travel from one store to another, and nothing else comes with them.

use camino::{Utf8Path, Utf8PathBuf};

use super::*;
use crate::artifact::dynamic::DynamicInput;
use crate::artifact::{ArtifactFile, FileClass, UnitArtifact};
use crate::digest::{ContentDigest, Key, KeyHasher};
use crate::nix::NarWriter;
use crate::session::trie::Node;
use crate::store::{BlobRef, Lease, LocalStore, NewNode, StoreOptions};

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

fn key(name: &str) -> Key {
    KeyHasher::new("exchange-test/1").field("name", name).key()
}

const FILES: [(&str, &[u8], bool); 4] = [
    ("libdemo-1.rlib", b"RLIB", false),
    // Sorts before `a/b` as a text and after it as a path.
    ("a-c", b"#!/bin/sh\n", true),
    ("a/b/generated.rs", b"pub fn f() {}\n", false),
    ("a/empty", b"", false),
];

fn artifact() -> UnitArtifact {
    let blob = |content: &[u8], executable| BlobRef {
        digest: ContentDigest::of(content),
        size: content.len() as u64,
        executable,
    };
    let mut files: Vec<ArtifactFile> = FILES
        .iter()
        .map(|(path, content, executable)| ArtifactFile {
            path: (*path).into(),
            blob: blob(content, *executable),
            class: FileClass::Replaced,
        })
        .collect();
    files.sort();
    let fingerprint = serde_json::json!({
        "rustc": 1, "features": "[]", "declared_features": "[]", "target": 2, "profile": 3,
        "source_path": null, "dependencies": [], "local": [], "rustflags": [], "config": 4, "compile_kind": 5,
    });
    let mut artifact = UnitArtifact {
        label: "demo 1.0.0 lib".to_owned(),
        package: "demo".to_owned(),
        hash: "0123456789abcdef".parse().unwrap(),
        stem: serde_json::from_value(serde_json::json!("lib-demo")).unwrap(),
        output: ContentDigest::of(b""),
        fingerprint: serde_json::from_value(fingerprint).unwrap(),
        dep_info: None,
        diagnostics: None,
        run: None,
        files,
        directories: vec!["empty".into()],
        links: Vec::new(),
        dynamic: Vec::new(),
        rows: Vec::new(),
    };
    artifact.output = output_of(&artifact);
    artifact
}

fn output_of(artifact: &UnitArtifact) -> ContentDigest {
    UnitArtifact::output_digest(artifact.hash, &artifact.files, &artifact.directories, &artifact.links, None)
}

fn put(lease: &Lease, key: Key, node: &Node) {
    let mut blobs = Vec::new();
    if let Node::Artifact(_) = node {
        for (_, content, executable) in FILES {
            blobs.push(lease.insert_bytes(content, executable).unwrap());
        }
    }
    let payload = serde_json::to_vec(node).unwrap();
    let new = NewNode { key, kind: "unit", label: "demo 1.0.0 lib", blobs: &blobs, nodes: &[], payload: &payload };
    lease.put_node(&new).unwrap();
}

fn packed(node: &Node) -> Vec<u8> {
    let from = scratch();
    put(&from.lease, key("unit"), node);
    let mut nar = Vec::new();
    pack(&from.lease, &key("unit"), &mut nar).unwrap();
    nar
}

/// A NAR with the given manifest and files, in the order in which they are given.
fn forged(manifest: &serde_json::Value, files: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let mut nar = NarWriter::new(Vec::new());
    nar.begin_directory().unwrap();
    nar.entry(b"artifact.json").unwrap();
    nar.regular_bytes(false, manifest.to_string().as_bytes()).unwrap();
    nar.entry(b"files").unwrap();
    nar.begin_directory().unwrap();
    for (name, content, executable) in files {
        nar.entry(name.as_bytes()).unwrap();
        nar.regular_bytes(*executable, content).unwrap();
    }
    nar.end_directory().unwrap();
    nar.end_directory().unwrap();
    nar.finish().unwrap()
}

fn manifest_of(artifact: &UnitArtifact) -> serde_json::Value {
    serde_json::json!({
        "schema": 1, "key": key("unit"), "label": "demo 1.0.0 lib",
        "node": Node::Artifact(Box::new(artifact.clone())),
    })
}

/// An artifact of one file, so that forgeries are easy to write.
fn small() -> UnitArtifact {
    let mut artifact = artifact();
    artifact.files.retain(|file| file.path == "libdemo-1.rlib");
    artifact.directories.clear();
    artifact.output = output_of(&artifact);
    artifact
}

const RLIB: (&str, &[u8], bool) = ("libdemo-1.rlib", b"RLIB", false);

#[test]
fn an_artifact_travels_whole() {
    let node = Node::Artifact(Box::new(artifact()));
    let nar = packed(&node);
    let to = scratch();
    let unpacked = unpack(&to.lease, &key("unit"), &mut nar.as_slice()).unwrap();
    assert!(to.lease.get_node(&key("unit")).unwrap().is_none(), "nobody sees it before it is kept");
    unpacked.keep(&to.lease).unwrap();
    let record = to.lease.get_node(&key("unit")).unwrap().unwrap();
    assert_eq!((record.kind.as_str(), record.label.as_str()), ("unit", "demo 1.0.0 lib"));
    let Node::Artifact(arrived) = serde_json::from_slice(&record.payload).unwrap() else { panic!("an artifact") };
    assert_eq!(*arrived, artifact());
    for file in &arrived.files {
        assert!(to.lease.has_blob(&file.blob).unwrap(), "{}", file.path);
    }
    let mut again = Vec::new();
    pack(&to.lease, &key("unit"), &mut again).unwrap();
    assert!(again == nar, "the same record has the same NAR, whoever packs it");
}

#[test]
fn of_a_record_that_is_not_kept_nothing_stays() {
    let mut nar = packed(&Node::Artifact(Box::new(artifact())));
    let to = scratch();
    let files = |directory: &str| {
        let root = to.lease.store().root().join(directory);
        ignore::WalkBuilder::new(root)
            .standard_filters(false)
            .build()
            .filter(|entry| entry.as_ref().unwrap().file_type().is_some_and(|kind| kind.is_file()))
            .count()
    };
    // As it is when the NAR turns out to be another one than was signed: all of its files came first.
    drop(unpack(&to.lease, &key("unit"), &mut nar.as_slice()).unwrap());
    assert_eq!((files("blobs"), files("tmp")), (0, 0));
    // And when it has more than the record.
    nar.extend_from_slice(b"garbage!");
    unpack(&to.lease, &key("unit"), &mut nar.as_slice()).unwrap_err();
    assert_eq!((files("blobs"), files("tmp")), (0, 0));
}

#[test]
fn names_travel_too() {
    let names = vec![DynamicInput::Variable { name: "CC".to_owned() }];
    let nar = packed(&Node::Names(names.clone()));
    let to = scratch();
    let unpacked = unpack(&to.lease, &key("unit"), &mut nar.as_slice()).unwrap();
    assert!(matches!(unpacked.node(), Node::Names(arrived) if *arrived == names));
}

#[test]
fn the_store_path_follows_from_key_name_and_version() {
    let path = |name: &str, version| store_path(&key(name), "serde", version).to_string();
    assert_eq!(path("a", "1.0.0"), path("a", "1.0.0"));
    assert_ne!(path("a", "1.0.0"), path("b", "1.0.0"));
    assert!(path("a", "1.0.0+build.5").ends_with("-cargo-serde-1.0.0+build.5"));
    let strange = store_path(&key("a"), &"ü/".repeat(300), &"9".repeat(300)).to_string();
    assert!(strange.len() < 12 + 32 + 211, "{strange}");
}

#[test]
fn what_is_damaged_on_the_disk_is_not_passed_on() {
    let from = scratch();
    let node = Node::Artifact(Box::new(artifact()));
    put(&from.lease, key("unit"), &node);
    let name = ContentDigest::of(b"RLIB").to_string();
    let path: Utf8PathBuf = from.lease.store().root().join("blobs").join(&name[..2]).join(&name[2..]);
    let times = std::fs::File::open(&path).unwrap().metadata().unwrap().modified().unwrap();
    std::fs::write(&path, b"BLIR").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    let error = pack(&from.lease, &key("unit"), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, PackError::Damaged { .. }), "{error}");
    assert!(matches!(pack(&from.lease, &key("other"), &mut Vec::new()), Err(PackError::NoRecord { .. })));
}

#[test]
fn a_record_of_another_key_is_refused() {
    let nar = packed(&Node::Artifact(Box::new(artifact())));
    let error = unpack(&scratch().lease, &key("other"), &mut nar.as_slice()).unwrap_err();
    assert!(matches!(error, UnpackError::OtherKey { .. }), "{error}");
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let refused = |change: &dyn Fn(&mut UnitArtifact)| {
        let mut artifact = small();
        change(&mut artifact);
        let nar = forged(&manifest_of(&artifact), &[RLIB]);
        unpack(&scratch().lease, &key("unit"), &mut nar.as_slice()).unwrap_err()
    };
    // The digest that dependents are pinned to is not believed, it is computed.
    let lying = refused(&|artifact| artifact.output = ContentDigest::of(b"another"));
    assert!(matches!(lying, UnpackError::Contradiction { .. }), "{lying}");
    for path in ["../libdemo-1.rlib", "/libdemo-1.rlib", "a/../../b", ""] {
        let leaving = refused(&|artifact| {
            artifact.files[0].path = path.into();
            artifact.output = output_of(artifact);
        });
        assert!(matches!(leaving, UnpackError::Contradiction { .. }), "{path}: {leaving}");
    }
    let elsewhere = refused(&|artifact| artifact.package = "../../demo".to_owned());
    assert!(matches!(elsewhere, UnpackError::Contradiction { .. }), "{elsewhere}");
}

#[test]
fn a_manifest_of_another_form_is_refused() {
    let refused = |manifest: serde_json::Value| {
        let nar = forged(&manifest, &[RLIB]);
        let error = unpack(&scratch().lease, &key("unit"), &mut nar.as_slice()).unwrap_err();
        assert!(matches!(error, UnpackError::Manifest { .. }), "{error}");
    };
    let mut newer = manifest_of(&small());
    newer["schema"] = 2.into();
    refused(newer);
    let mut more = manifest_of(&small());
    more["extra"] = true.into();
    refused(more);
    refused(serde_json::json!("nothing"));
}

#[test]
fn a_run_with_many_files_travels() {
    let (from, to) = (scratch(), scratch());
    let mut artifact = artifact();
    let path = |n: usize| format!("build/third-party/src/directory-of-some-length/object-file-{n:04}.o");
    let paths = (0..2000).map(path);
    artifact.files = paths.map(|path| ArtifactFile { path: path.into(), ..artifact.files[0].clone() }).collect();
    let blob = from.lease.insert_bytes(FILES[1].1, FILES[1].2).unwrap();
    artifact.files.iter_mut().for_each(|file| file.blob = blob);
    artifact.output = output_of(&artifact);
    let payload = serde_json::to_vec(&Node::Artifact(Box::new(artifact))).unwrap();
    let new = NewNode { key: key("unit"), kind: "unit", label: "run", blobs: &[blob], nodes: &[], payload: &payload };
    from.lease.put_node(&new).unwrap();
    let mut nar = Vec::new();
    pack(&from.lease, &key("unit"), &mut nar).unwrap();
    unpack(&to.lease, &key("unit"), &mut nar.as_slice()).unwrap();
}

#[test]
fn a_manifest_that_would_fill_the_memory_is_refused_and_not_made() {
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = manifest_of(&small());
        change(&mut manifest);
        let nar = forged(&manifest, &[RLIB]);
        let error = unpack(&scratch().lease, &key("unit"), &mut nar.as_slice()).unwrap_err();
        assert!(matches!(error, UnpackError::TooLarge { .. }), "{error}");
    };
    let many = serde_json::json!(vec!["a"; 1 << 20]);
    let some = serde_json::json!(vec!["a"; 1 << 15]);
    refused(&|manifest| manifest["node"]["artifact"]["directories"] = many.clone());
    refused(&|manifest| manifest["node"]["artifact"]["directories"] = some.clone());
    refused(&|manifest| manifest["node"]["artifact"]["fingerprint"]["rustflags"] = some.clone());
    refused(&|manifest| manifest["node"] = serde_json::json!({ "names": [{ "none-of": { "paths": some } }] }));
    refused(&|manifest| manifest["label"] = " ".repeat(2 << 20).into());

    let mut artifact = artifact();
    artifact.directories = vec!["a".into(); 1 << 15];
    let from = scratch();
    put(&from.lease, key("unit"), &Node::Artifact(Box::new(artifact)));
    let error = pack(&from.lease, &key("unit"), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, PackError::TooLarge { .. }) && error.to_string().contains("lists more than"), "{error}");
}

#[test]
fn files_that_are_not_in_the_manifest_are_refused() {
    let refused = |files: &[(&str, &[u8], bool)]| {
        let nar = forged(&manifest_of(&small()), files);
        let to = scratch();
        unpack(&to.lease, &key("unit"), &mut nar.as_slice()).unwrap_err()
    };
    for files in [
        &[][..],
        &[RLIB, ("more", b"", false)],
        &[("libdemo-1.rlib", b"RLIB", true)],
        &[("libdemo-1.rlib", b"RLIBS", false)],
        &[("libdemo-2.rlib", b"RLIB", false)],
    ] {
        let error = refused(files);
        assert!(matches!(error, UnpackError::Files { .. }), "{files:?}: {error}");
    }
    // Of the right length, so that only the content can tell.
    let error = refused(&[("libdemo-1.rlib", b"BLIR", false)]);
    assert!(matches!(error, UnpackError::Content { .. }), "{error}");
}

#[test]
fn links_and_what_stands_beside_the_files_are_refused() {
    let manifest = manifest_of(&small()).to_string();
    let archive = |write: &dyn Fn(&mut NarWriter<Vec<u8>>)| {
        let mut nar = NarWriter::new(Vec::new());
        write(&mut nar);
        nar.finish().unwrap()
    };
    let begin = |nar: &mut NarWriter<Vec<u8>>| {
        nar.begin_directory().unwrap();
        nar.entry(b"artifact.json").unwrap();
        nar.regular_bytes(false, manifest.as_bytes()).unwrap();
        nar.entry(b"files").unwrap();
    };
    let linked_file = archive(&|nar| {
        begin(nar);
        nar.begin_directory().unwrap();
        nar.entry(b"libdemo-1.rlib").unwrap();
        nar.symlink(b"/etc/passwd").unwrap();
        nar.end_directory().unwrap();
        nar.end_directory().unwrap();
    });
    let linked_directory = archive(&|nar| {
        begin(nar);
        nar.symlink(b"/").unwrap();
        nar.end_directory().unwrap();
    });
    let beside = archive(&|nar| {
        begin(nar);
        nar.begin_directory().unwrap();
        nar.entry(b"libdemo-1.rlib").unwrap();
        nar.regular_bytes(false, b"RLIB").unwrap();
        nar.end_directory().unwrap();
        nar.entry(b"more").unwrap();
        nar.regular_bytes(false, b"").unwrap();
        nar.end_directory().unwrap();
    });
    let no_directory = archive(&|nar| nar.regular_bytes(false, b"RLIB").unwrap());
    let empty = archive(&|nar| {
        nar.begin_directory().unwrap();
        nar.end_directory().unwrap();
    });
    for nar in [linked_file, linked_directory, beside, no_directory, empty] {
        unpack(&scratch().lease, &key("unit"), &mut nar.as_slice()).unwrap_err();
    }
}

#[test]
fn no_part_of_a_record_is_a_record() {
    let nar = packed(&Node::Artifact(Box::new(artifact())));
    let to = scratch();
    for length in (0..nar.len()).step_by(7) {
        unpack(&to.lease, &key("unit"), &mut &nar[..length]).unwrap_err();
    }
    // Any byte that differs is an error, or changes what nobody takes for content: the label.
    for at in (0..nar.len()).step_by(3) {
        let mut changed = nar.clone();
        changed[at] ^= 1;
        if let Ok(unpacked) = unpack(&to.lease, &key("unit"), &mut changed.as_slice()) {
            let Node::Artifact(arrived) = unpacked.node() else { panic!("an artifact") };
            assert_eq!(arrived.output, artifact().output, "byte {at}");
        }
    }
}
