//! The exported file can be read again.

use std::fs::File;
use tides_cli::{Request, write_compressed};
use tides_model::Prediction;

#[test]
fn an_exported_table_can_be_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.json.gz");
    let table = Request::parse("port = \"Roscoff\"\nhours = 12").unwrap().table().unwrap();
    write_compressed(&table, File::create(&path).unwrap()).unwrap();

    let json = flate2::read::GzDecoder::new(File::open(&path).unwrap());
    let read: Vec<Prediction> = serde_json::from_reader(json).unwrap();
    assert_eq!(read.len(), table.len());
    for (read, written) in read.iter().zip(&table) {
        assert_eq!(read.port, written.port);
        assert!((read.height - written.height).abs() < 1e-9);
    }
}

#[test]
fn the_binary_prints_a_table() {
    // Asked for when the test runs: `env!` would tie the compiled test to one target directory.
    let binary = std::env::var_os("CARGO_BIN_EXE_tides").unwrap();
    let output = std::process::Command::new(&binary).arg("dover").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("metres above "));
}
