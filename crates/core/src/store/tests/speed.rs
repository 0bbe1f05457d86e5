//! How long the store takes. Run by hand, optimised:
//! `cargo test --release -p nixcache-core speed -- --ignored --nocapture --test-threads 1`

#![expect(clippy::print_stderr, reason = "the figures are what it is run for")]

use std::time::Instant;

use rayon::prelude::*;

use super::*;

fn timed<T>(what: &str, run: impl Fn() -> T) -> T {
    let mut times = Vec::new();
    let mut result = None;
    for _ in 0..5 {
        let start = Instant::now();
        result = Some(run());
        times.push(start.elapsed());
    }
    times.sort();
    eprintln!("{what:<50} median {:>10.3?}  best {:>10.3?}", times[2], times[0]);
    result.unwrap()
}

#[test]
#[ignore = "a measurement"]
fn linking_and_looking_up() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    let target = scratch.path("target");
    fs::create_dir(&target).unwrap();
    let blobs: Vec<BlobRef> = (0..3000_u32)
        .into_par_iter()
        .map(|number| lease.insert_bytes(&number.to_le_bytes().repeat(4000), false).unwrap())
        .collect();
    let place = |placement| {
        blobs.par_iter().enumerate().for_each(|(number, blob)| {
            lease.materialise(blob, &target.join(format!("{number}")), placement).unwrap();
        });
    };
    let clear = || {
        fs::remove_dir_all(&target).unwrap();
        fs::create_dir(&target).unwrap();
    };
    let floor = Instant::now();
    for (number, blob) in blobs.iter().enumerate() {
        fs::hard_link(blob_path(&store, blob), target.join(format!("{number}"))).unwrap();
    }
    eprintln!("floor: 3000 links, one thread: {:?}", floor.elapsed());
    for placement in [Placement::Link, Placement::Copy] {
        for _ in 0..3 {
            clear();
            let start = Instant::now();
            place(placement);
            eprintln!("3000 blobs, {placement:?}, nothing there: {:?}", start.elapsed());
        }
    }
    timed("3000 blobs, Link, over what is there", || place(Placement::Link));
    for number in 0..450 {
        put(&lease, &format!("{number}"), &blobs[number * 6..number * 6 + 6], &[]);
    }
    let keys: Vec<Key> = (0..450).map(|number| key(&number.to_string())).collect();
    timed("450 nodes got, one thread", || keys.iter().for_each(|key| drop(lease.get_node(key).unwrap().unwrap())));
    timed("450 nodes touched, within the hour", || lease.touch(&keys, SystemTime::now()).unwrap());
    timed("2700 blobs looked for", || blobs[..2700].iter().all(|blob| lease.has_blob(blob).unwrap()));
    timed("a lease", || drop(store.lease().unwrap()));
    timed("names by inode", || platform::names_by_inode(&store.inner.layout.blobs()).unwrap().len());
    let limited = scratch.store_with(StoreOptions { size_limit: Some(1 << 40), ..StoreOptions::default() });
    timed("automatic collection, below the limit", || limited.auto_gc(after(0)).unwrap());
    timed("figures", || store.stats().unwrap());
    timed("verification of 48 MB", || store.verify(false, &|_| {}).unwrap());
}

#[test]
#[ignore = "a measurement"]
fn inserting_and_hashing() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let content: Vec<u8> = (0..64_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let large = scratch.file("large", &content);
    timed("64 MiB hashed", || hash_file(&large).unwrap());
    for executable in [false, true] {
        let files: Vec<_> = (0..60_u32)
            .map(|number| {
                let mut content = content[..4 << 20].to_vec();
                content[..5].copy_from_slice(&[number as u8, 1, 2, 3, u8::from(executable)]);
                let path = scratch.file(&format!("{executable}-{number}"), &content);
                #[cfg(unix)]
                if executable {
                    use std::os::unix::fs::PermissionsExt;
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
                }
                path
            })
            .collect();
        let start = Instant::now();
        for file in &files {
            lease.insert_file(file, None, Placement::Link, executable).unwrap();
        }
        eprintln!("60 files of 4 MiB inserted, executable {executable}: {:?}", start.elapsed());
    }
}

#[test]
#[ignore = "a measurement"]
fn a_large_store() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    (0..20_000_u32).into_par_iter().for_each(|number| {
        let blobs: Vec<BlobRef> = (0..5_u32)
            .map(|part| lease.insert_bytes(&[number.to_le_bytes(), part.to_le_bytes()].concat(), false).unwrap())
            .collect();
        put(&lease, &format!("{number}"), &blobs, &[]);
    });
    drop(lease);
    timed("figures of 100,000 blobs, 20,000 nodes", || store.stats().unwrap());
    timed("collection there, nothing to do", || store.gc(&GcOptions::default(), after(0)).unwrap());
    let options = GcOptions { limit: Some(store.approximate_size().unwrap() / 2), ..GcOptions::default() };
    let start = Instant::now();
    let report = store.gc(&options, after(0)).unwrap();
    eprintln!("half of it collected ({} blobs): {:?}", report.dropped_blobs, start.elapsed());
}
