//! A record that travels as a NAR, with its manifest.

use camino::Utf8Path;
use nixcache_core::artifact::{ArtifactFile, FileClass, UnitArtifact};
use nixcache_core::digest::{ContentDigest, Key, KeyHasher};
use nixcache_core::exchange::{pack, unpack};
use nixcache_core::session::trie::Node;
use nixcache_core::store::{Lease, LocalStore, NewNode, StoreOptions};

/// A store that goes with the thread.
struct Scratch {
    lease: Lease,
    _directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("store");
        let lease = LocalStore::open(&path, StoreOptions::default()).unwrap().lease().unwrap();
        Self { lease, _directory: directory }
    }
}

thread_local! {
    static SCRATCH: Scratch = Scratch::new();
}

fn key() -> Key {
    KeyHasher::new("readers-test/1").field("name", "unit").key()
}

/// A record in a NAR. Nothing is visible before it is kept, which nobody does here.
pub fn record(data: &[u8]) {
    SCRATCH.with(|scratch| {
        let mut nar = data;
        if let Ok(unpacked) = unpack(&scratch.lease, &key(), &mut nar) {
            assert!(nar.is_empty(), "it was read to its end");
            if let Node::Artifact(artifact) = unpacked.node() {
                let inside = |path: &Utf8Path| {
                    path.is_relative() && !path.components().any(|part| matches!(part.as_str(), ".." | "."))
                };
                assert!(artifact.files.iter().all(|file| inside(&file.path)), "{:?}", artifact.files);
                assert!(artifact.directories.iter().all(|path| inside(path)), "{:?}", artifact.directories);
                assert!(artifact.links.iter().all(|(path, _)| inside(path)), "{:?}", artifact.links);
            }
        }
        assert!(scratch.lease.get_node(&key()).unwrap().is_none());
    });
}

/// A record of a unit with a few files, as it is published.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let scratch = Scratch::new();
    let lease = &scratch.lease;
    let contents: [(&str, &[u8], bool); 3] =
        [("libdemo-1.rlib", b"RLIB", false), ("out/run", b"#!/bin/sh\n", true), ("out/empty", b"", false)];
    let mut files = Vec::new();
    for (path, content, executable) in contents {
        let blob = lease.insert_bytes(content, executable).unwrap();
        files.push(ArtifactFile { path: path.into(), blob, class: FileClass::Replaced });
    }
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
        links: vec![("out/link".into(), "empty".to_owned())],
        dynamic: Vec::new(),
        rows: Vec::new(),
    };
    artifact.output =
        UnitArtifact::output_digest(artifact.hash, &artifact.files, &artifact.directories, &artifact.links, None);
    let blobs: Vec<_> = artifact.files.iter().map(|file| file.blob).collect();
    let payload = serde_json::to_vec(&Node::Artifact(Box::new(artifact))).unwrap();
    let (label, nodes) = ("demo 1.0.0 lib", &[][..]);
    lease.put_node(&NewNode { key: key(), kind: "unit", label, blobs: &blobs, nodes, payload: &payload }).unwrap();
    let mut nar = Vec::new();
    pack(lease, &key(), &mut nar).unwrap();
    vec![nar]
}
