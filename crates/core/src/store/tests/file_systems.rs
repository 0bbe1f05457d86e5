//! Stores on other file systems, on full ones, and with too few file descriptors.
//!
//! Those that need a prepared directory are ignored; `docs/formats.md` says how to run them.

use super::*;

/// The content of the file `number`, of 64 KiB.
fn content(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(16 << 10)
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_on_another_device_copies() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let elsewhere = Utf8Path::from_path(elsewhere.path()).unwrap();
    if fs::metadata(elsewhere).unwrap().dev() == fs::metadata(scratch.path("")).unwrap().dev() {
        return;
    }
    let lease = LocalStore::open(&elsewhere.join("store"), StoreOptions::default()).unwrap().lease().unwrap();
    let file = scratch.file("a", b"content");
    let inserted = lease.insert_file(&file, None, Placement::Link, false).unwrap();
    assert_eq!(inserted.how, InsertedHow::Copied);
    // The stamp is the same whether or not the file could be linked.
    assert_eq!(inserted.facts.mtime_ns, FIXED_MTIME_SECONDS * 1_000_000_000);
    for _ in ["nothing there", "something there"] {
        let out = scratch.path("out");
        assert_eq!(lease.materialise(&inserted.blob, &out, Placement::Link).unwrap(), PlacedHow::Copied);
        let facts = FileFacts::of_path(&out).unwrap();
        assert_eq!((facts.mtime_ns, facts.size), (inserted.facts.mtime_ns, 7));
    }
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 2, "a temporary file was left");
    let again = lease.insert_file(&file, None, Placement::Link, false).unwrap();
    assert_eq!(again.how, InsertedHow::AlreadyThere { linked: false });
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let blob = lease.insert_bytes(b"content", false).unwrap();
    for placement in [Placement::Link, Placement::Copy] {
        let error = lease.materialise(&blob, &scratch.path("no/such"), placement).unwrap_err();
        assert!(matches!(&error, StoreError::Io { path, .. } if path.ends_with("no/such")), "{error}");
        assert!(!error.is_miss());
    }
    let error = lease.insert_file(&scratch.path("no"), None, Placement::Link, false).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(matches!(
        lease.insert_file(&scratch.path(""), None, Placement::Copy, false),
        Err(StoreError::NotAFile { .. })
    ));
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_not_kept() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", b"content");
    std::os::unix::fs::symlink(&file, scratch.path("b")).unwrap();
    let error = lease.insert_file(&scratch.path("b"), None, Placement::Link, false).unwrap_err();
    assert!(matches!(error, StoreError::NotAFile { .. }), "{error}");
    // One at the destination is replaced, not followed.
    let blob = lease.insert_bytes(b"other", false).unwrap();
    for placement in [Placement::Link, Placement::Copy] {
        lease.materialise(&blob, &scratch.path("b"), placement).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"content");
        assert_eq!(fs::read(scratch.path("b")).unwrap(), b"other");
        fs::remove_file(scratch.path("b")).unwrap();
        std::os::unix::fs::symlink(&file, scratch.path("b")).unwrap();
    }
}

#[test]
#[ignore = "needs NIXCACHE_TEST_SMALL_DIRECTORY, on a file system of a few MiB"]
fn a_full_file_system() {
    let small = Utf8PathBuf::from(std::env::var("NIXCACHE_TEST_SMALL_DIRECTORY").unwrap());
    let store = LocalStore::open(&small.join("store"), StoreOptions::default()).unwrap();
    let (scratch, lease) = (Scratch::new(), store.lease().unwrap());
    let mut kept = Vec::new();
    let error = loop {
        let number = kept.len() as u32;
        let result = if number.is_multiple_of(2) {
            lease.insert_bytes(&content(number), false)
        } else {
            let file = scratch.file("a", &content(number));
            lease.insert_file(&file, None, Placement::Link, false).map(|inserted| inserted.blob)
        };
        match result {
            Ok(blob) => kept.push(blob),
            Err(error) => break error,
        }
        assert!(kept.len() < 10_000, "the file system is too large");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    for _ in 0..200 {
        let payload = content(7);
        let node = NewNode { key: key("a"), kind: "", label: "", blobs: &[], nodes: &[], payload: &payload };
        let error = lease.put_node(&node).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    }
    // Out of the store, onto the same full file system: nothing is left there either.
    let error = lease.materialise(&kept[0], &small.join("out"), Placement::Copy).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(!small.join("out").exists());
    lease.materialise(&kept[0], &small.join("linked"), Placement::Link).unwrap();
    drop(lease);
    assert!(store.verify(false, &|_| {}).unwrap().is_sound());
    assert_eq!(store.stats().unwrap().blobs, kept.len() as u64);
    let report = store.gc(&GcOptions::default(), after(0)).unwrap();
    assert_eq!((report.leftovers, report.kept_nodes, report.after), (0, 0, 0));
    store.lease().unwrap().insert_bytes(&content(0), false).unwrap();
}

#[test]
#[ignore = "needs NIXCACHE_TEST_CLONING_DIRECTORY, on a file system that can clone files"]
fn clones_are_made_where_they_can_be() {
    let directory = tempfile::tempdir_in(std::env::var("NIXCACHE_TEST_CLONING_DIRECTORY").unwrap()).unwrap();
    let scratch = Scratch { directory };
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", &content(1));
    let inserted = lease.insert_file(&file, None, Placement::Copy, false).unwrap();
    assert_eq!(inserted.how, InsertedHow::Cloned);
    for _ in ["nothing there", "something there"] {
        let out = scratch.path("out");
        assert_eq!(lease.materialise(&inserted.blob, &out, Placement::Copy).unwrap(), PlacedHow::Cloned);
        assert_eq!(fs::read(&out).unwrap(), content(1));
        assert_eq!(FileFacts::of_path(&out).unwrap().mtime_ns, FIXED_MTIME_SECONDS * 1_000_000_000);
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "makes 66,000 links"]
fn a_blob_with_too_many_links_is_copied() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let blob = lease.insert_bytes(b"content", false).unwrap();
    let how: Vec<PlacedHow> = (0..66_000)
        .map(|number| lease.materialise(&blob, &scratch.path(&number.to_string()), Placement::Link).unwrap())
        .collect();
    // ext4 has room for 65,000.
    assert_eq!((how[0], how[65_999]), (PlacedHow::Linked, PlacedHow::Copied));
    let out = scratch.path("65999");
    assert_eq!(fs::read(&out).unwrap(), b"content");
    assert_eq!(FileFacts::of_path(&out).unwrap().mtime_ns, FIXED_MTIME_SECONDS * 1_000_000_000);
    // The next file of that content stays as it is.
    let inserted = lease.insert_file(&scratch.file("again", b"content"), None, Placement::Link, false).unwrap();
    assert_eq!(inserted.how, InsertedHow::AlreadyThere { linked: false });
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "lowers the limit of open files for the whole process"]
fn too_few_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let file = scratch.file("a", b"content");
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    let errors = [
        lease.insert_bytes(b"x", false).unwrap_err(),
        lease.insert_file(&file, None, Placement::Link, false).unwrap_err(),
        lease.store().lease().unwrap_err(),
    ];
    setrlimit(Resource::Nofile, before).unwrap();
    for error in &errors {
        assert!(matches!(error, StoreError::TooManyOpenFiles { .. }), "{error:?}");
    }
    assert_eq!(lease.insert_bytes(b"x", false).unwrap().size, 1);
}

/// Run as a user other than root on a store that root made, or on a read-only mount of one.
#[test]
#[ignore = "needs NIXCACHE_TEST_FOREIGN_STORE, a store that this user can't write, with what `a_foreign_store_is_made` puts in"]
fn a_foreign_store_is_read() {
    let path = Utf8PathBuf::from(std::env::var("NIXCACHE_TEST_FOREIGN_STORE").unwrap());
    let (scratch, store) = (Scratch::new(), LocalStore::open(&path, StoreOptions::default()).unwrap());
    let lease = store.lease().unwrap();
    assert!(!lease.is_writable());
    let node = lease.get_node(&key("foreign")).unwrap().unwrap();
    for placement in [Placement::Link, Placement::Copy] {
        lease.materialise(&node.blobs[0], &scratch.path("out"), placement).unwrap();
        assert_eq!(fs::read(scratch.path("out")).unwrap(), b"foreign");
        assert_eq!(FileFacts::of_path(&scratch.path("out")).unwrap().mtime_ns, FIXED_MTIME_SECONDS * 1_000_000_000);
    }
    lease.touch(&[node.key], after(0)).unwrap();
    assert!(matches!(lease.insert_bytes(b"x", false), Err(StoreError::ReadOnly { .. })));
    drop(lease);
    assert!(matches!(store.gc(&GcOptions::default(), after(0)), Err(StoreError::ReadOnly { .. })));
    assert!(store.verify(false, &|_| {}).unwrap().is_sound());
    assert!(matches!(store.verify(true, &|_| {}), Err(StoreError::ReadOnly { .. })));
}

#[test]
#[ignore = "prepares `a_foreign_store_is_read`"]
fn a_foreign_store_is_made() {
    let path = Utf8PathBuf::from(std::env::var("NIXCACHE_TEST_FOREIGN_STORE").unwrap());
    let lease = LocalStore::open(&path, StoreOptions::default()).unwrap().lease().unwrap();
    let blob = lease.insert_bytes(b"foreign", false).unwrap();
    put(&lease, "foreign", &[blob], &[]);
}
