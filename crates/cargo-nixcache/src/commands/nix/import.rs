//! `nix import`: units that are unpacked in directories, into the store. Who names a directory vouches for it: in a
//! derivation its content is pinned by the lock file.

use std::io::BufWriter;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::digest::Key;
use nixcache_core::exchange::unpack;
use nixcache_core::nix::nar::write_path;
use nixcache_core::store::Lease;

use super::{NixError, failed, lines};
use crate::commands::open_store;
use crate::report::Report;
use crate::settings::Settings;

/// The file that every unit has.
const MANIFEST: &str = "artifact.json";

/// `cargo nixcache nix import`
pub(crate) fn run(settings: &Settings, mut paths: Vec<Utf8PathBuf>, list: Option<&Utf8Path>) -> ExitCode {
    let imported = lines(list).and_then(|more| {
        paths.extend(more);
        let lease = open_store(settings)?.lease()?;
        paths.iter().try_fold(0, |count, path| Ok(count + import(&lease, path)?.len()))
    });
    match imported {
        Ok(count) => {
            Report::new(false, false, None).status("Imported", &format!("{count} records"));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// Takes the unit in `directory`, or all units in directories of it. Gives their keys and labels.
pub(super) fn import(lease: &Lease, directory: &Utf8Path) -> Result<Vec<Key>, NixError> {
    if directory.join(MANIFEST).is_file() {
        return Ok(vec![import_unit(lease, directory)?]);
    }
    let mut keys = Vec::new();
    for directory in units_in(directory)? {
        keys.push(import_unit(lease, &directory)?);
    }
    Ok(keys)
}

/// The directories of units in `directory`.
pub(super) fn units_in(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, NixError> {
    let entries = directory.read_dir_utf8().map_err(NixError::file("list", directory))?;
    let mut units = Vec::new();
    for entry in entries {
        let entry = entry.map_err(NixError::file("list", directory))?;
        if entry.path().join(MANIFEST).is_file() {
            units.push(entry.path().to_owned());
        }
    }
    units.sort();
    Ok(units)
}

/// The key of the unit in `directory`.
pub(super) fn key_of(directory: &Utf8Path) -> Result<Key, NixError> {
    let manifest = directory.join(MANIFEST);
    let text = std::fs::read(&manifest).map_err(NixError::file("read", &manifest))?;
    let json: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    let key = json.as_ref().and_then(|json| json.get("key")?.as_str()?.parse().ok());
    key.ok_or_else(|| NixError::NoUnit { path: directory.to_owned() })
}

fn import_unit(lease: &Lease, directory: &Utf8Path) -> Result<Key, NixError> {
    let key = key_of(directory)?;
    let pipe = std::io::pipe().map_err(NixError::file("open a pipe for", directory))?;
    let (mut reader, writer) = pipe;
    let (read, written) = std::thread::scope(|scope| {
        // The writer goes at its end, so that the reader comes to one.
        let writing = scope.spawn(move || write_path(directory, BufWriter::with_capacity(1 << 16, writer)));
        let read = unpack(lease, &key, &mut reader);
        drop(reader);
        (read, writing.join().expect("writing a NAR does not panic"))
    });
    // A reader that has had enough closes the pipe: its error is the one to tell.
    let unpacked = read.map_err(|error| NixError::Unpack { path: directory.to_owned(), source: Box::new(error) })?;
    written.map_err(|error| NixError::Tree { path: directory.to_owned(), source: Box::new(error) })?;
    unpacked.keep(lease)?;
    Ok(key)
}
