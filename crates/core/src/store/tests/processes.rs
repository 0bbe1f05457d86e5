//! Several processes at one store, all adding, reading and collecting garbage; and processes that are killed.
//!
//! The children are this test program again, running the ignored test [`child`].

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::*;

const DIRECTORY: &str = "NIXCACHE_TEST_STORE_DIRECTORY";
const SEED: &str = "NIXCACHE_TEST_STORE_SEED";
const ROUNDS: &str = "NIXCACHE_TEST_STORE_ROUNDS";

/// A small generator of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What the file `part` of node `number` holds: some of it is shared with other nodes.
fn content(number: u64, part: u64) -> Vec<u8> {
    let origin = if part == 0 { number / 4 } else { number };
    format!("{part} of {origin} ").repeat(1 + (origin * 97 + part * 31) as usize % 2000).into_bytes()
}

/// One thing that a build might do.
fn step(store: &LocalStore, scratch: &Utf8Path, numbers: &mut Numbers) {
    let number = numbers.below(40);
    let node_key = key(&number.to_string());
    if numbers.below(12) == 0 {
        let options = GcOptions { limit: Some(numbers.below(400_000)), ..GcOptions::default() };
        match store.gc(&options, after(numbers.below(100))) {
            Ok(_) | Err(StoreError::Busy { .. }) => return,
            Err(error) => panic!("gc: {error} {error:?}"),
        }
    }
    let lease = store.lease().unwrap();
    if let Some(node) = lease.get_node(&node_key).unwrap() {
        assert_eq!(node.payload, number.to_string().as_bytes());
        for (part, blob) in (0..).zip(&node.blobs) {
            let out = scratch.join(format!("out-{part}"));
            let placement = if part % 2 == 0 { Placement::Link } else { Placement::Copy };
            lease.materialise(blob, &out, placement).unwrap();
            assert_eq!(fs::read(&out).unwrap(), content(number, part));
        }
        lease.touch(&[node_key], after(numbers.below(100))).unwrap();
        return;
    }
    let blobs: Vec<BlobRef> = (0..3)
        .map(|part| {
            let content = content(number, part);
            if part == 2 {
                return lease.insert_bytes(&content, true).unwrap();
            }
            // As compilers do it: a new file takes the place of the old one.
            let (file, temporary) = (scratch.join(format!("in-{part}")), scratch.join("temporary"));
            fs::write(&temporary, &content).unwrap();
            fs::rename(&temporary, &file).unwrap();
            let placement = if part == 0 { Placement::Link } else { Placement::Copy };
            lease.insert_file(&file, None, placement, false).unwrap().blob
        })
        .collect();
    put(&lease, &number.to_string(), &blobs, &[]);
}

#[test]
#[ignore = "the child process of the other tests"]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let rounds: u64 = std::env::var(ROUNDS).unwrap().parse().unwrap();
    let directory = Utf8PathBuf::from(directory);
    let store = LocalStore::open(&directory.join("store"), StoreOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (store, scratch) = (&store, directory.join(format!("scratch-{seed}-{thread}")));
            scope.spawn(move || {
                fs::create_dir_all(&scratch).unwrap();
                let mut numbers = Numbers(seed * 1_000_003 + thread + 1);
                for _ in 0..rounds {
                    step(store, &scratch, &mut numbers);
                }
            });
        }
    });
}

fn spawn(directory: &Utf8Path, seed: u64, rounds: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::processes::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(SEED, seed.to_string())
        .env(ROUNDS, rounds.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn assert_sound(store: &LocalStore) {
    let report = store.verify(false, &|_| {}).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn processes_add_read_and_collect_at_once() {
    let scratch = Scratch::new();
    let children: Vec<Child> = (1..=4).map(|seed| spawn(&scratch.path(""), seed, 300)).collect();
    for mut child in children {
        let status = child.wait().unwrap();
        let (mut output, mut errors) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(status.success(), "{errors}");
        // A filter that matches nothing succeeds too.
        assert!(output.contains("1 passed"), "{output}");
    }
    let store = scratch.store();
    assert!(store.stats().unwrap().nodes > 0);
    assert_sound(&store);
    assert_eq!(store.gc(&GcOptions::default(), after(0)).unwrap().leftovers, 0);
}

#[test]
fn a_kill_at_any_moment_leaves_a_sound_store() {
    let scratch = Scratch::new();
    let mut numbers = Numbers(42);
    for round in 1..=25 {
        let mut children: Vec<Child> =
            (0..2).map(|number| spawn(&scratch.path(""), round * 10 + number, u64::MAX)).collect();
        std::thread::sleep(Duration::from_millis(5 + numbers.below(60)));
        for child in &mut children {
            child.kill().unwrap();
        }
        for child in &mut children {
            let status = child.wait().unwrap();
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            // The kill has to be what ended it, not a failed assertion.
            assert!(status.code().is_none(), "{errors}");
        }
        assert_sound(&scratch.store());
    }
    let store = scratch.store();
    assert!(store.stats().unwrap().nodes > 0);
    store.gc(&GcOptions::default(), after(0)).unwrap();
    assert_sound(&store);
    assert_eq!(store.gc(&GcOptions::default(), after(0)).unwrap().leftovers, 0);
}
