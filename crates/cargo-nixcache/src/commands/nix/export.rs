//! `nix export`: the units of the store, unpacked into a directory: the form in which they travel through derivations.

use std::collections::BTreeSet;
use std::io::{BufReader, BufWriter, Write as _};
use std::process::ExitCode;

use camino::Utf8Path;
use nixcache_core::digest::Key;
use nixcache_core::exchange::{pack, store_path};
use nixcache_core::nix::nar::unpack;
use nixcache_core::nix::{NarLimits, NarReader, StorePath};
use nixcache_core::store::Lease;

use super::import::key_of;
use super::{NixError, failed, lines};
use crate::commands::open_store;
use crate::report::Report;
use crate::settings::Settings;

/// `cargo nixcache nix export`
pub(crate) fn run(settings: &Settings, out: &Utf8Path, without: Option<&Utf8Path>) -> ExitCode {
    match export(settings, out, without) {
        Ok(count) => {
            Report::new(false, false, None).status("Exported", &format!("{count} records to {out}"));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn export(settings: &Settings, out: &Utf8Path, without: Option<&Utf8Path>) -> Result<usize, NixError> {
    let unwanted = lines(without)?.iter().map(|directory| key_of(directory)).collect::<Result<BTreeSet<Key>, _>>()?;
    std::fs::create_dir_all(out).map_err(NixError::file("make", out))?;
    let store = open_store(settings)?;
    let lease = store.lease()?;
    let mut count = 0;
    for node in store.list()? {
        if !matches!(node.kind.as_str(), "unit" | "names") || unwanted.contains(&node.key) {
            continue;
        }
        let path = path_of(&node.key, &node.label)?;
        export_unit(&lease, &node.key, &out.join(path.base_name()))?;
        count += 1;
    }
    Ok(count)
}

/// The store path of a record: its label begins with the package's name and version.
pub(super) fn path_of(key: &Key, label: &str) -> Result<StorePath, NixError> {
    let mut words = label.split(' ');
    match (words.next(), words.next()) {
        (Some(name), Some(version)) => Ok(store_path(key, name, version)),
        _ => Err(NixError::Label { key: *key, label: label.to_owned() }),
    }
}

fn export_unit(lease: &Lease, key: &Key, destination: &Utf8Path) -> Result<(), NixError> {
    let (reader, writer) = std::io::pipe().map_err(NixError::file("open a pipe for", destination))?;
    let (read, written) = std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut writer = BufWriter::with_capacity(1 << 16, writer);
            pack(lease, key, &mut writer)?;
            writer.flush().map_err(NixError::file("write", destination))
        });
        let reader = BufReader::with_capacity(1 << 16, reader);
        let read = unpack(&mut NarReader::new(reader, NarLimits::default()), destination);
        (read, writing.join().expect("packing a record does not panic"))
    });
    // What went wrong with the record is why there is no whole NAR.
    written?;
    read.map_err(|error| NixError::Tree { path: destination.to_owned(), source: Box::new(error) })
}
