//! Tests of the store as its callers use it.

use std::fs;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};

use super::*;
use crate::digest::{ContentDigest, Key, KeyHasher};

mod file_systems;
mod formats;
mod processes;
mod speed;
mod streams;

/// A directory that goes with the test.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> Utf8PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn store(&self) -> LocalStore {
        self.store_with(StoreOptions::default())
    }

    fn store_with(&self, options: StoreOptions) -> LocalStore {
        LocalStore::open(&self.path("store"), options).unwrap()
    }
}

fn key(name: &str) -> Key {
    KeyHasher::new("store-test/1").field("name", name).key()
}

fn blob_path(store: &LocalStore, blob: &BlobRef) -> Utf8PathBuf {
    store.inner.layout.blob(blob)
}

fn put(lease: &Lease, name: &str, blobs: &[BlobRef], nodes: &[Key]) -> PutNode {
    lease
        .put_node(&NewNode { key: key(name), kind: "unit", label: name, blobs, nodes, payload: name.as_bytes() })
        .unwrap()
}

fn after(hours: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + hours * 3600)
}

#[test]
fn opening_writes_nothing_and_a_lease_makes_the_store() {
    let scratch = Scratch::new();
    let store = scratch.store();
    assert!(!scratch.path("store").exists());
    assert_eq!(store.stats().unwrap(), StoreStats::default());
    assert!(!scratch.path("store").exists());
    assert!(store.lease().unwrap().is_writable());
    assert!(scratch.path("store/v1/CACHEDIR.TAG").is_file());
}

#[test]
fn a_store_of_an_unknown_version_is_left_alone() {
    let scratch = Scratch::new();
    let store = scratch.store();
    drop(store.lease().unwrap());
    fs::write(store.root().join("format"), "cargo-nixcache store 7\n").unwrap();
    let error = LocalStore::open(&scratch.path("store"), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::UnknownVersion { .. }), "{error}");
    assert!(store.lease().is_err());
}

#[cfg(unix)]
#[test]
fn files_are_linked_in_and_out() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a.rlib", b"content");
    let inserted = lease.insert_file(&file, None, Placement::Link, false).unwrap();
    assert_eq!(inserted.how, InsertedHow::Linked);
    assert_eq!(inserted.facts.mtime_ns, FIXED_MTIME_SECONDS * 1_000_000_000);
    assert_eq!(inserted.facts, FileFacts::of_path(&file).unwrap());

    let out = scratch.file("out.rlib", b"something older");
    assert_eq!(lease.materialise(&inserted.blob, &out, Placement::Link).unwrap(), PlacedHow::Linked);
    assert!(FileFacts::of_path(&out).unwrap().same_file(&FileFacts::of_path(&file).unwrap()));

    let copy = scratch.file("copy.rlib", b"something older");
    assert_ne!(lease.materialise(&inserted.blob, &copy, Placement::Copy).unwrap(), PlacedHow::Linked);
    let facts = FileFacts::of_path(&copy).unwrap();
    assert!(!facts.same_file(&inserted.facts));
    assert_eq!(facts.mtime_ns, inserted.facts.mtime_ns);
    assert_eq!(fs::read(&copy).unwrap(), b"content");
}

#[cfg(unix)]
#[test]
fn a_second_file_of_the_same_content_becomes_a_link() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let (one, two) = (scratch.file("one", b"same"), scratch.file("two", b"same"));
    let first = lease.insert_file(&one, None, Placement::Link, false).unwrap();
    let second = lease.insert_file(&two, None, Placement::Link, false).unwrap();
    assert_eq!(second.how, InsertedHow::AlreadyThere { linked: true });
    assert_eq!(first.blob, second.blob);
    assert!(FileFacts::of_path(&two).unwrap().same_file(&first.facts));
    let again = lease.insert_file(&two, None, Placement::Link, false).unwrap();
    assert_eq!(again.how, InsertedHow::AlreadyThere { linked: true });

    let three = scratch.file("three", b"same");
    let before = FileFacts::of_path(&three).unwrap();
    let third = lease.insert_file(&three, None, Placement::Copy, false).unwrap();
    assert_eq!(third.how, InsertedHow::AlreadyThere { linked: false });
    assert_eq!(third.facts, before);
}

#[test]
fn copies_leave_the_callers_file_alone() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", b"content");
    let before = FileFacts::of_path(&file).unwrap();
    let inserted = lease.insert_file(&file, None, Placement::Copy, false).unwrap();
    assert!(matches!(inserted.how, InsertedHow::Copied | InsertedHow::Cloned));
    assert_eq!(FileFacts::of_path(&file).unwrap(), before);
}

#[cfg(unix)]
#[test]
fn executables_are_blobs_of_their_own_and_stay_executable() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let plain = lease.insert_bytes(b"#!/bin/sh\n", false).unwrap();
    let program = lease.insert_bytes(b"#!/bin/sh\n", true).unwrap();
    assert_ne!(plain, program);
    for placement in [Placement::Link, Placement::Copy] {
        for blob in [plain, program] {
            let out = scratch.path("out");
            lease.materialise(&blob, &out, placement).unwrap();
            let mode = fs::metadata(&out).unwrap().permissions().mode();
            assert_eq!(mode & 0o100 != 0, blob.executable);
            // rustc refuses to replace an output that has no write bit.
            assert_eq!(mode & 0o200, 0o200);
        }
    }
    // A file whose mode does not fit is not shared.
    let file = scratch.file("protected", b"protected");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let inserted = lease.insert_file(&file, None, Placement::Link, false).unwrap();
    assert!(matches!(inserted.how, InsertedHow::Copied | InsertedHow::Cloned));
}

#[test]
fn a_hash_that_is_out_of_date_is_noticed() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", b"one");
    let known = hash_file(&file).unwrap();
    fs::write(&file, b"two").unwrap();
    let error = lease.insert_file(&file, Some(&known), Placement::Link, false).unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    assert_eq!(scratch.store().stats().unwrap().blobs, 0);
    // Another link to it changes its facts, and not its content.
    let known = hash_file(&file).unwrap();
    fs::hard_link(&file, scratch.path("b")).unwrap();
    lease.insert_file(&file, Some(&known), Placement::Link, false).unwrap();
}

#[cfg(unix)]
#[test]
fn a_blob_that_was_written_through_a_link_is_never_placed() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", b"content");
    let blob = lease.insert_file(&file, None, Placement::Link, false).unwrap().blob;
    fs::write(&file, b"CONTENT").unwrap();
    let error = lease.materialise(&blob, &scratch.path("out"), Placement::Link).unwrap_err();
    assert!(matches!(error, StoreError::DamagedBlob { .. }) && error.is_miss(), "{error}");
    assert!(!scratch.path("out").exists());
    let error = lease.materialise(&blob, &scratch.path("out"), Placement::Link).unwrap_err();
    assert!(matches!(error, StoreError::MissingBlob { .. }) && error.is_miss(), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_that_was_rewritten_in_place_does_not_take_its_old_name_along() {
    // The stamp of the second insertion would make the first blob look sound: same inode, same length.
    for placement in [Placement::Link, Placement::Copy] {
        let scratch = Scratch::new();
        let lease = scratch.store().lease().unwrap();
        let file = scratch.file("a", b"one");
        let one = lease.insert_file(&file, None, Placement::Link, false).unwrap().blob;
        drop(lease);
        fs::write(&file, b"two").unwrap();
        let lease = scratch.store().lease().unwrap();
        let two = lease.insert_file(&file, None, placement, false).unwrap().blob;
        assert!(!lease.has_blob(&one).unwrap());
        assert_eq!(lease.read_blob(&two).unwrap(), b"two");
        // Once more under the same lease.
        fs::write(&file, b"six").unwrap();
        lease.insert_file(&file, None, placement, false).unwrap();
        assert_eq!(lease.has_blob(&two).unwrap(), placement == Placement::Copy);
        assert!(scratch.store().verify(false, &|_| {}).unwrap().is_sound());
    }
}

#[test]
fn a_blob_that_lost_its_write_bit_is_copied() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", b"content");
    let blob = lease.insert_file(&file, None, Placement::Link, false).unwrap().blob;
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions).unwrap();
    let out = scratch.path("out");
    assert_ne!(lease.materialise(&blob, &out, Placement::Link).unwrap(), PlacedHow::Linked);
    assert!(!fs::metadata(&out).unwrap().permissions().readonly());
}

#[cfg(unix)]
#[test]
fn a_blob_whose_stamp_alone_changed_is_stamped_again() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", b"content");
    let inserted = lease.insert_file(&file, None, Placement::Link, false).unwrap();
    platform::set_modified(&file, after(1)).unwrap();
    lease.materialise(&inserted.blob, &scratch.path("out"), Placement::Link).unwrap();
    assert_eq!(FileFacts::of_path(&scratch.path("out")).unwrap().mtime_ns, inserted.facts.mtime_ns);
}

#[test]
fn a_truncated_blob_is_a_miss_and_is_healed_by_the_next_insertion() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let blob = lease.insert_bytes(b"content", false).unwrap();
    let path = blob_path(lease.store(), &blob);
    fs::write(&path, b"").unwrap();
    platform::stamp(&path).unwrap();
    assert!(!lease.has_blob(&blob).unwrap());
    assert_eq!(lease.insert_bytes(b"content", false).unwrap(), blob);
    assert_eq!(lease.read_blob(&blob).unwrap(), b"content");
}

#[test]
fn nodes_are_immutable_until_they_are_broken() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let blob = lease.insert_bytes(b"content", false).unwrap();
    assert_eq!(put(&lease, "a", &[blob], &[]), PutNode::Inserted);
    let other = NewNode { key: key("a"), kind: "unit", label: "x", blobs: &[], nodes: &[], payload: b"other" };
    let PutNode::AlreadyThere(first) = lease.put_node(&other).unwrap() else { panic!("it was replaced") };
    assert_eq!((first.payload.as_slice(), first.label.as_str(), first.blobs.as_slice()), (&b"a"[..], "a", &[blob][..]));
    assert_eq!(lease.get_node(&key("a")).unwrap().unwrap(), first);
    assert_eq!(lease.get_node(&key("b")).unwrap(), None);
    // Without its blob it can't be used, so it need not stay.
    fs::remove_file(blob_path(lease.store(), &blob)).unwrap();
    assert_eq!(lease.put_node(&other).unwrap(), PutNode::Inserted);
    assert_eq!(lease.get_node(&key("a")).unwrap().unwrap().payload, b"other");
}

#[test]
fn a_node_without_its_blobs_is_refused() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let blob = BlobRef { digest: ContentDigest::of(b"x"), size: 1, executable: false };
    let node = NewNode { key: key("a"), kind: "unit", label: "a", blobs: &[blob], nodes: &[], payload: b"" };
    assert!(matches!(lease.put_node(&node), Err(StoreError::MissingBlob { .. })));
}

#[test]
fn a_damaged_node_is_dropped_and_reported_once() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    put(&lease, "a", &[], &[]);
    put(&lease, "b", &[], &[]);
    let path = lease.store().inner.layout.node(&key("a"));
    // The content of another node under this name is damage too.
    fs::remove_file(&path).unwrap();
    fs::copy(lease.store().inner.layout.node(&key("b")), &path).unwrap();
    assert!(matches!(lease.get_node(&key("a")), Err(StoreError::DamagedNode { .. })));
    assert_eq!(lease.get_node(&key("a")).unwrap(), None);
    assert_eq!(put(&lease, "a", &[], &[]), PutNode::Inserted);
}

#[test]
fn a_read_only_store_reads() {
    let scratch = Scratch::new();
    let blob = {
        let lease = scratch.store().lease().unwrap();
        let blob = lease.insert_bytes(b"content", false).unwrap();
        put(&lease, "a", &[blob], &[]);
        blob
    };
    let store = scratch.store_with(StoreOptions { read_only: true, ..StoreOptions::default() });
    let lease = store.lease().unwrap();
    assert!(!lease.is_writable());
    assert!(lease.get_node(&key("a")).unwrap().is_some());
    lease.materialise(&blob, &scratch.path("out"), Placement::Copy).unwrap();
    assert!(matches!(lease.insert_bytes(b"x", false), Err(StoreError::ReadOnly { .. })));
    assert!(matches!(lease.remove_node(&key("a")), Err(StoreError::ReadOnly { .. })));
    lease.touch(&[key("a")], after(0)).unwrap();
    drop(lease);
    assert!(matches!(store.gc(&GcOptions::default(), after(0)), Err(StoreError::ReadOnly { .. })));
    // No store at all, and no right to make one: everything is a miss.
    let options = StoreOptions { read_only: true, ..StoreOptions::default() };
    let lease = LocalStore::open(&scratch.path("none"), options).unwrap().lease().unwrap();
    assert_eq!(lease.get_node(&key("a")).unwrap(), None);
    assert!(!scratch.path("none").exists());
}

#[test]
fn garbage_is_what_was_not_used_for_longest() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    let blobs: Vec<BlobRef> =
        (0..4_u8).map(|number| lease.insert_bytes(&vec![number; 100_000], false).unwrap()).collect();
    put(&lease, "old", &[blobs[0], blobs[3]], &[]);
    put(&lease, "new", &[blobs[1], blobs[3]], &[]);
    put(&lease, "pinned", &[blobs[2]], &[]);
    lease.insert_bytes(b"nobody refers to this", false).unwrap();
    lease.touch(&[key("pinned")], after(0)).unwrap();
    lease.touch(&[key("old")], after(10)).unwrap();
    lease.touch(&[key("new")], after(20)).unwrap();
    let pin: PinName = "release".parse().unwrap();
    lease.pin(&pin, &[key("pinned")].into()).unwrap();
    assert!(matches!(store.gc(&GcOptions::default(), after(30)), Err(StoreError::Busy { .. })));
    drop(lease);

    let report = store.gc(&GcOptions { dry_run: true, ..GcOptions::default() }, after(30)).unwrap();
    assert_eq!(store.stats().unwrap().blobs, 5);
    assert_eq!(report, store.gc(&GcOptions::default(), after(30)).unwrap());
    assert_eq!((report.dropped_blobs, report.dropped.len()), (1, 0));
    assert_eq!(report.after, store.approximate_size().unwrap());

    let report = store.gc(&GcOptions { limit: Some(report.after - 1), ..GcOptions::default() }, after(30)).unwrap();
    assert_eq!(report.dropped, ["old"]);
    let stats = store.stats().unwrap();
    assert_eq!((stats.blobs, stats.nodes), (3, 2));
    assert_eq!(stats.blob_bytes + stats.node_bytes, report.after);
    let report = store.gc(&GcOptions { limit: Some(0), ..GcOptions::default() }, after(30)).unwrap();
    assert_eq!((report.dropped.as_slice(), report.kept_nodes), (&["new".to_owned()][..], 1));
    store.lease().unwrap().unpin(&pin).unwrap();
    let report =
        store.gc(&GcOptions { max_age: Some(Duration::from_secs(31 * 3600)), ..GcOptions::default() }, after(30));
    assert_eq!(report.unwrap().kept_nodes, 1);
    let report = store.gc(&GcOptions { limit: Some(0), ..GcOptions::default() }, after(30)).unwrap();
    assert_eq!((report.after, report.kept_nodes), (0, 0));
}

#[test]
fn using_a_node_is_using_what_it_refers_to() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    put(&lease, "unit", &[], &[]);
    put(&lease, "set", &[], &[key("unit")]);
    put(&lease, "other", &[], &[]);
    for (name, hours) in [("unit", 0), ("other", 10), ("set", 20)] {
        lease.touch(&[key(name)], after(hours)).unwrap();
    }
    drop(lease);
    let before = store.gc(&GcOptions::default(), after(30)).unwrap().after;
    let report = store.gc(&GcOptions { limit: Some(before - 1), ..GcOptions::default() }, after(30)).unwrap();
    assert_eq!(report.dropped, ["other"]);
}

#[test]
fn touching_is_at_most_hourly() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    put(&lease, "a", &[], &[]);
    let stamp = || FileFacts::of_path(&lease.store().inner.layout.node(&key("a"))).unwrap().mtime_ns;
    lease.touch(&[key("a"), key("missing")], after(0)).unwrap();
    let first = stamp();
    lease.touch(&[key("a")], after(0) + Duration::from_secs(60)).unwrap();
    assert_eq!(stamp(), first);
    lease.touch(&[key("a")], after(2)).unwrap();
    assert_ne!(stamp(), first);
    // A clock that was ahead does not protect it for ever.
    lease.touch(&[key("a")], after(0)).unwrap();
    assert_eq!(stamp(), first);
}

#[test]
fn garbage_is_collected_by_itself_only_above_the_limit() {
    let scratch = Scratch::new();
    let store = scratch.store_with(StoreOptions { size_limit: Some(1_000_000), ..StoreOptions::default() });
    assert_eq!(store.auto_gc(after(0)).unwrap(), None);
    let lease = store.lease().unwrap();
    for number in 0..12_u8 {
        let blob = lease.insert_bytes(&vec![number; 100_000], false).unwrap();
        put(&lease, &format!("node {number}"), &[blob], &[]);
        if number == 3 {
            assert_eq!(store.auto_gc(after(0)).unwrap(), None);
        }
    }
    drop(lease);
    let report = store.auto_gc(after(0)).unwrap().unwrap();
    assert!(report.after <= 900_000 && report.kept_nodes >= 7, "{report:?}");
    assert_eq!(store.auto_gc(after(0)).unwrap(), None);
}

#[test]
fn leftovers_are_swept() {
    let scratch = Scratch::new();
    let store = scratch.store();
    drop(store.lease().unwrap());
    fs::write(store.root().join("tmp/1-2-3"), "half").unwrap();
    fs::create_dir(store.root().join("blobs/ab")).unwrap();
    fs::write(store.root().join("blobs/ab/what"), "is this").unwrap();
    assert_eq!(store.gc(&GcOptions::default(), after(0)).unwrap().leftovers, 2);
    assert_eq!(store.gc(&GcOptions::default(), after(0)).unwrap().leftovers, 0);
}

#[test]
fn an_unreadable_pin_stops_garbage_collection() {
    let scratch = Scratch::new();
    let store = scratch.store();
    put(&store.lease().unwrap(), "a", &[], &[]);
    fs::write(store.root().join("pins/release"), "nonsense\n").unwrap();
    let result = store.gc(&GcOptions { limit: Some(0), ..GcOptions::default() }, after(0));
    assert!(matches!(result, Err(StoreError::DamagedPin { line: 1, .. })));
    assert_eq!(store.list().unwrap().len(), 1);
    for name in ["", ".x", "a/b", "a b"] {
        assert!(name.parse::<PinName>().is_err(), "{name:?}");
    }
}

#[test]
fn verification_finds_and_drops_what_is_bad() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    let good = lease.insert_bytes(b"good", false).unwrap();
    let bad = lease.insert_bytes(b"bad", true).unwrap();
    let gone = lease.insert_bytes(b"gone", false).unwrap();
    put(&lease, "good", &[good], &[]);
    put(&lease, "bad", &[good, bad], &[]);
    put(&lease, "lacking", &[gone], &[]);
    put(&lease, "torn", &[], &[]);
    assert!(store.verify(false, &|_| {}).unwrap().is_sound());
    let path = blob_path(&store, &bad);
    fs::write(&path, b"BAD").unwrap();
    platform::stamp(&path).unwrap();
    fs::remove_file(blob_path(&store, &gone)).unwrap();
    let torn = store.inner.layout.node(&key("torn"));
    let bytes = fs::read(&torn).unwrap();
    fs::remove_file(&torn).unwrap();
    fs::write(&torn, &bytes[..bytes.len() - 1]).unwrap();

    let found = std::sync::Mutex::new(0);
    let events = |event| {
        if let VerifyEvent::Damaged { .. } = event {
            *found.lock().unwrap() += 1;
        }
    };
    let report = store.verify(true, &events).unwrap();
    assert_eq!(*found.lock().unwrap(), 4);
    assert_eq!(report.damaged_blobs, [bad.to_string()]);
    assert_eq!(report.damaged_nodes, [key("torn")]);
    let broken: std::collections::BTreeSet<&str> =
        report.broken_nodes.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(broken, ["bad", "lacking"].into());
    let report = store.verify(false, &|_| {}).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.nodes, 1);
}

#[test]
fn listing_and_figures() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    let blob = lease.insert_bytes(&[7; 5000], false).unwrap();
    put(&lease, "serde 1.0.0 lib", &[blob, blob], &[]);
    lease
        .put_node(&NewNode { key: key("m"), kind: "set", label: "all", blobs: &[], nodes: &[], payload: b"" })
        .unwrap();
    let list = store.list().unwrap();
    let shown: Vec<_> = list.iter().map(|node| (node.label.as_str(), node.blobs, node.bytes)).collect();
    assert_eq!(shown, [("all", 0, 0), ("serde 1.0.0 lib", 1, 5000)]);
    let stats = store.stats().unwrap();
    assert_eq!((stats.blobs, stats.nodes, stats.kinds["unit"].nodes, stats.kinds["set"].blob_bytes), (1, 2, 1, 0));
    assert_eq!(stats.kinds["unit"].blob_bytes, stats.blob_bytes);
}
