//! `nix lock`: writes down which units of a build derivations may take from caches, by content.
//!
//! ```toml
//! version = 1
//!
//! [units.x86_64-linux."build --release"]     # the system, and the name of the selection
//! toolchain = "rustc 1.95.0 (…)"
//!
//! [[units.x86_64-linux."build --release".records]]
//! key-path = "/nix/store/…-cargo-serde-1.0.0"   # where caches have it
//! nar-hash = "sha256-…"
//! path = "/nix/store/…-cargo-serde-1.0.0"       # where its content puts it
//! ```
//!
//! Third-party units alone: members are built by their own derivations. The file is sorted; what others wrote into it
//! stays.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use camino::Utf8Path;
use nixcache_core::digest::Key;
use nixcache_core::exchange::{PackError, pack, store_path};
use nixcache_core::nif::LOCK_HEAD;
use nixcache_core::nix::{HashingWriter, Sha256, StorePath};
use nixcache_core::session::{Lookup as _, UnitState, trie};
use nixcache_remote::Pinned;

use super::{NixError, failed};
use crate::caches;
use crate::commands::{Resolved, with_resolution};
use crate::exit;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::replace::replace;
use crate::report::Report;
use crate::settings::Settings;

/// `cargo nixcache nix lock`
pub(crate) fn run(settings: &Settings, file: &Utf8Path, name: Option<String>, arguments: &[OsString]) -> ExitCode {
    let name = name
        .unwrap_or_else(|| arguments.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" "));
    with_resolution(settings, arguments, |resolved| {
        let records = match locked(settings, &resolved) {
            Ok(records) => records,
            Err(NixError::Store(error)) => return Err(error),
            Err(error) => return Ok(failed(&error)),
        };
        let system = nix_system(&resolved.build.toolchain.host);
        let toolchain = resolved.build.toolchain.verbose_version.lines().next().unwrap_or_default().to_owned();
        let report = Report::new(false, false, None);
        if records.is_empty() {
            let hint = "build it with `cargo nixcache`, publish it with `cargo nixcache push`, then write the file";
            report.error(&NothingToLock, Some(hint));
            return Ok(ExitCode::from(exit::NIX));
        }
        if let Err(error) = write(file, &system, &name, &toolchain, &records) {
            return Ok(failed(&error));
        }
        report.status("Locked", &format!("{} records for {system} in {file}", records.len()));
        Ok(ExitCode::SUCCESS)
    })
}

/// There is nothing that a derivation could take.
#[derive(Debug, thiserror::Error)]
#[error("lock the units of this build: none of them is in the store")]
struct NothingToLock;

/// A record: where caches have it, and its content.
type Records = BTreeMap<StorePath, Sha256>;

/// The records of all third-party units that are settled, as the store has them; where there are caches, only those that
/// a cache has with the same content.
fn locked(settings: &Settings, resolved: &Resolved<'_>) -> Result<Records, NixError> {
    let (build, report) = (resolved.build, Report::new(false, false, None));
    let lookup = StoreLookup::new(build, LeaseSource::Store(resolved.store));
    let lease = resolved.store.lease()?;
    let mut records = Records::new();
    let mut left = BTreeSet::new();
    for (unit, state) in resolved.resolution.iter() {
        let package = build.graph.package(build.graph.unit(unit));
        if package.is_path() {
            continue;
        }
        let settled: Option<(Key, Key)> = match state {
            UnitState::InPlace(in_place) => {
                let entry = resolved.ledger.get(&in_place.place).filter(|_| in_place.kept);
                entry.and_then(|entry| Some((entry.unit?, entry.artifact?)))
            }
            UnitState::Restore(restorable) => Some((restorable.unit, restorable.artifact_key)),
            UnitState::Left(_) => None,
        };
        let keys = match settled {
            Some((key, artifact)) => {
                trie::records(key, artifact, |key| lookup.node(key), |input| lookup.value(unit, input))?
            }
            None => None,
        };
        let Some(keys) = keys else {
            left.insert(build.graph.describe(unit));
            continue;
        };
        for key in keys {
            let path = store_path(&key, &package.name, &package.version);
            if let Entry::Vacant(place) = records.entry(path) {
                let mut nar = HashingWriter::new(io::sink());
                match pack(&lease, &key, &mut nar) {
                    Ok(()) => {
                        place.insert(nar.into_parts().1.finish());
                    }
                    // Nobody can publish it.
                    Err(PackError::TooLarge { .. }) => {
                        left.insert(build.graph.describe(unit));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    if !left.is_empty() {
        let some = left.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        report.warning(&format!(
            "{} units are not in the store, or too large for caches, so derivations will build them: {some} …",
            left.len()
        ));
    }
    only_published(settings, resolved, records, report)
}

/// Leaves out what nobody could fetch. If that can't be known, as a cache doesn't answer, nothing is written: a shorter
/// file would say that the records aren't there.
fn only_published(
    settings: &Settings,
    resolved: &Resolved<'_>,
    mut records: Records,
    report: Report,
) -> Result<Records, NixError> {
    let mut caches = settings.caches.clone();
    // What was published to can be fetched from.
    caches.fetch.append(&mut caches.publish);
    let pinned =
        |(path, nar_hash): (&StorePath, &Sha256)| (path.clone(), Pinned { nar_hash: *nar_hash, nar_size: None });
    let pinned = records.iter().map(pinned).collect();
    let remote = caches::open_pinned(&caches, &resolved.build.environment, report, pinned)?;
    let Some(remote) = remote else {
        report.warning("no cache is set, so nobody has looked whether derivations can fetch these units");
        return Ok(records);
    };
    let paths: Vec<StorePath> = records.keys().cloned().collect();
    let mut missing: Vec<&StorePath> = Vec::new();
    for (path, found) in paths.iter().zip(remote.look_up(&paths)) {
        match found {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(path),
            // Somebody else built it, and it doesn't come out the same each time.
            Err(error) if error.is_other_content() => missing.push(path),
            Err(source) => return Err(NixError::LookUp { path: path.clone(), source: Box::new(source) }),
        }
    }
    if !missing.is_empty() {
        report.warning(&format!(
            "{} records are left out: no cache has them with this content (`cargo nixcache push` publishes them)",
            missing.len()
        ));
    }
    for path in missing {
        records.remove(path);
    }
    Ok(records)
}

/// Puts the records into the file.
fn write(file: &Utf8Path, system: &str, name: &str, toolchain: &str, records: &Records) -> Result<(), NixError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "version = 1\n".to_owned(),
        Err(error) => return Err(NixError::file("read", file)(error)),
    };
    let mut whole: toml::Table =
        text.parse().map_err(|error| NixError::Lock { path: file.to_owned(), source: Box::new(error) })?;
    if whole.get("version").and_then(toml::Value::as_integer) != Some(1) {
        return Err(NixError::LockVersion { path: file.to_owned() });
    }
    let table = |key_path: &StorePath, hash: &Sha256| {
        let path = StorePath::by_content(hash, &BTreeSet::new(), false, key_path.name().clone());
        let mut table = toml::Table::new();
        table.insert("key-path".to_owned(), key_path.to_string().into());
        table.insert("nar-hash".to_owned(), hash.to_sri().into());
        table.insert("path".to_owned(), path.to_string().into());
        toml::Value::Table(table)
    };
    // By name first: the hash in front says nothing to a reader.
    let mut sorted: Vec<(&StorePath, &Sha256)> = records.iter().collect();
    sorted.sort_by_key(|(path, _)| (path.name().as_str().to_owned(), path.to_string()));
    let mut selection = toml::Table::new();
    selection.insert("toolchain".to_owned(), toolchain.into());
    let list: Vec<toml::Value> = sorted.into_iter().map(|(path, hash)| table(path, hash)).collect();
    selection.insert("records".to_owned(), list.into());

    let empty = || toml::Value::Table(toml::Table::new());
    let units = whole.entry("units").or_insert_with(empty);
    let systems = units.as_table_mut().ok_or_else(|| NixError::LockVersion { path: file.to_owned() })?;
    let of_system = systems.entry(system).or_insert_with(empty);
    let selections = of_system.as_table_mut().ok_or_else(|| NixError::LockVersion { path: file.to_owned() })?;
    selections.insert(name.to_owned(), toml::Value::Table(selection));
    let body = toml::to_string(&whole).expect("it holds what was read from TOML, and texts");
    replace(file, &format!("{LOCK_HEAD}{body}")).map_err(NixError::file("write", file))
}

/// Nix's name of a platform: `x86_64-linux`.
fn nix_system(host: &str) -> String {
    let mut parts = host.split('-');
    let processor = match parts.next().unwrap_or_default() {
        "arm64" => "aarch64",
        processor if processor.starts_with("i") && processor.ends_with("86") => "i686",
        processor => processor,
    };
    let system = if host.contains("darwin") {
        "darwin"
    } else if host.contains("linux") {
        "linux"
    } else {
        parts.nth(1).unwrap_or("unknown")
    };
    format!("{processor}-{system}")
}

#[cfg(test)]
mod tests {
    use super::nix_system;

    #[test]
    fn platforms_have_nix_names() {
        assert_eq!(nix_system("x86_64-unknown-linux-gnu"), "x86_64-linux");
        assert_eq!(nix_system("aarch64-apple-darwin"), "aarch64-darwin");
        assert_eq!(nix_system("i686-unknown-linux-gnu"), "i686-linux");
        assert_eq!(nix_system("x86_64-unknown-freebsd"), "x86_64-freebsd");
    }
}
