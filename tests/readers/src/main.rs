//! Writes the seeds of every reader into a directory, for libFuzzer: `nixcache-test-readers fuzz/corpus`.

use std::path::PathBuf;

use nixcache_test_readers::READERS;

fn main() -> std::io::Result<()> {
    let directory: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| "fuzz/corpus".into()).into();
    for reader in READERS {
        let directory = directory.join(reader.name);
        std::fs::create_dir_all(&directory)?;
        for (number, seed) in (reader.seeds)().iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
