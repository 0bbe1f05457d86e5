//! Every reader over its seeds and over thousands of changed ones, the same in each run.

#![allow(missing_docs, reason = "these are tests")]

use nixcache_test_readers::{READERS, Reader, mutated};

/// Changed inputs for each reader that costs little. `NIXCACHE_READER_INPUTS` asks for more: they go on where these end.
const INPUTS: usize = 6000;

fn run(reader: &Reader) {
    let more = std::env::var("NIXCACHE_READER_INPUTS").ok().and_then(|count| count.parse().ok());
    let inputs: usize = more.unwrap_or(INPUTS);
    let seeds = (reader.seeds)();
    assert!(!seeds.is_empty());
    for seed in &seeds {
        attempt(reader, seed);
    }
    for input in mutated(&seeds, 0x6e69_7863_6163_6865, inputs / reader.one_in) {
        attempt(reader, &input);
    }
}

/// If it panics, the test says with what.
fn attempt(reader: &Reader, input: &[u8]) {
    let result = std::panic::catch_unwind(|| (reader.read)(input));
    assert!(result.is_ok(), "{} panics on {:?}", reader.name, input.escape_ascii().to_string());
}

#[test]
fn no_reader_panics_whatever_it_is_given() {
    std::thread::scope(|scope| {
        for reader in READERS {
            scope.spawn(|| run(reader));
        }
    });
}

#[test]
fn every_reader_has_a_fuzz_target_and_every_target_a_reader() {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let directory = std::path::Path::new(&package).join("../../fuzz/fuzz_targets");
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".rs").map(str::to_owned)).collect();
    names.sort();
    assert_eq!(names, READERS.iter().map(|reader| reader.name).collect::<Vec<_>>());
}
