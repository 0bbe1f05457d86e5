//! Fills a directory with a binary cache of many store paths, for measurements: narinfos as ours look, each with a few
//! references, and a NAR for each. Half of the paths, the first ones, were used long ago.
//!
//! The NARs are hard links to a few small files, and not what their names say: this is for what looks at names, sizes
//! and times alone.

use std::fs::{self, File, FileTimes};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Parser;
use nixcache_core::nix::{CacheInfo, Compression, NarInfo, NarUrl, SecretKey, Sha256, StorePath};

/// Names that one file can have at once on common file systems.
const LINKS: usize = 30_000;

/// How many paths the next ones may refer to.
const WINDOW: usize = 1000;

/// Fills a directory with a binary cache of many store paths.
#[derive(Parser)]
struct Arguments {
    /// The directory, which is made
    directory: PathBuf,
    /// How many store paths
    count: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    fs::create_dir_all(arguments.directory.join("nar"))?;
    let key = SecretKey::generate("populate-1".parse()?, &[1; 32]);
    let old = SystemTime::now() - Duration::from_secs(200 * 24 * 60 * 60);
    let new = SystemTime::now() - Duration::from_secs(10 * 24 * 60 * 60);
    let mut recent: Vec<StorePath> = Vec::new();
    let mut signed = None;
    let mut nar = PathBuf::new();
    for number in 0..arguments.count {
        let used = if number < arguments.count / 2 { old } else { new };
        if number % LINKS == 0 || number == arguments.count / 2 {
            nar = arguments.directory.join(format!("nar-{number}"));
            stamp(&nar, &vec![b'x'; 4096], used)?;
        }
        let narinfo = narinfo(number, &recent, &key, &mut signed)?;
        fs::hard_link(&nar, arguments.directory.join(narinfo.url.as_str()))?;
        let file = arguments.directory.join(format!("{}.narinfo", narinfo.store_path.hash()));
        stamp(&file, narinfo.to_string().as_bytes(), used)?;
        // New paths don't refer to old ones, or nothing old could go.
        if number + 1 == arguments.count / 2 {
            recent.clear();
        } else if recent.len() < WINDOW {
            recent.push(narinfo.store_path);
        } else {
            recent[number % WINDOW] = narinfo.store_path;
        }
    }
    for entry in fs::read_dir(&arguments.directory)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nar-")) {
            fs::remove_file(path)?;
        }
    }
    fs::write(arguments.directory.join("nix-cache-info"), CacheInfo::parse(b"")?.to_string())?;
    Ok(())
}

/// A narinfo of the usual size. Signing takes longest, and a signature is as long as any other: all have the first one.
fn narinfo(
    number: usize,
    recent: &[StorePath],
    key: &SecretKey,
    signed: &mut Option<NarInfo>,
) -> Result<NarInfo, Box<dyn std::error::Error>> {
    let hash = Sha256::of(format!("{number}").as_bytes());
    let pick = |salt: usize| recent.get((number.wrapping_mul(2_654_435_761) ^ (salt * 40_503)) % recent.len().max(1));
    let mut narinfo = NarInfo {
        store_path: StorePath::by_key(hash.as_bytes(), format!("cargo-crate-{}-1.2.3", number % 5000).parse()?),
        url: NarUrl::by_convention(&hash, &Compression::Zstd),
        compression: Compression::Zstd,
        file_hash: Some(hash),
        file_size: Some(4096),
        nar_hash: hash,
        nar_size: 20_000,
        references: (0..number % 5).filter_map(pick).cloned().collect(),
        deriver: None,
        signatures: Vec::new(),
        content_address: None,
    };
    match signed {
        Some(signed) => narinfo.signatures.clone_from(&signed.signatures),
        None => {
            narinfo.sign(key);
            *signed = Some(narinfo.clone());
        }
    }
    Ok(narinfo)
}

fn stamp(path: &Path, contents: &[u8], time: SystemTime) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(contents)?;
    file.set_times(FileTimes::new().set_modified(time))
}
