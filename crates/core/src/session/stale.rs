//! Stale units: what lies in the build directory and must not be believed by cargo any more.
//!
//! Called by restore, before anything is placed, under cargo's locks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::cargo::dep_info::CargoDepInfo;
use crate::cargo::fingerprint::CargoFingerprint;
use crate::cargo::layout::{BuildLayout, FingerprintFiles, notes_beside};
use crate::digest::ContentDigest;
use crate::unit::PlannedPackage;

use super::changes::change_time;
use super::ledger::{Ledger, LedgerEntry, UnitPlace};
use super::resolve::Resolution;
use super::restore::{Prepared, RestoreContext, RestoreError, RestoreReport, remove_file};

/// Marks everything in the build directory that cargo would believe and must not.
pub(super) fn mark_unbelievable(
    context: &RestoreContext<'_>,
    resolution: &Resolution,
    ledger: &Ledger,
    prepared: &[Prepared<'_>],
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let cargo_judges = resolution.leaves_work();
    if !cargo_judges && prepared.is_empty() {
        return Ok(());
    }
    let members: BTreeMap<&str, &PlannedPackage> = context
        .graph
        .packages
        .iter()
        .filter(|package| cargo_judges && package.is_path())
        .map(|package| (package.name.as_str(), package))
        .collect();
    let restored: BTreeMap<u64, ContentDigest> =
        prepared.iter().map(|unit| (unit.fingerprint.hash(), unit.unit.artifact.output)).collect();
    let settled: BTreeSet<&UnitPlace> = resolution.places().chain(prepared.iter().map(|unit| &unit.place)).collect();
    let build_directory = || context.layouts[0].build_directory().to_owned();
    let layouts = layouts_with_dependents(context.layouts)
        .map_err(|source| RestoreError::File { path: build_directory(), source })?;
    for layout in &layouts {
        let failed = |source| RestoreError::File { path: layout.profile_root(), source };
        for unit in layout.present_units().map_err(failed)? {
            let member = members.get(unit.package.as_str());
            for stem in &unit.stems {
                let files = layout.fingerprint_files(&unit.package, unit.hash, stem);
                let place = UnitPlace::of(layout, &files.hash);
                let known = ledger.get(&place).filter(|entry| entry.is_current(&place, layout.build_directory()));
                if known.is_none() && member.is_some_and(|member| changed_silently(&files, member, layout)) {
                    mark_stale(&files.hash)?;
                } else if !prepared.is_empty()
                    && !settled.contains(&place)
                    && was_made_from_others(&files, known, &restored)
                {
                    mark_stale(&files.hash)?;
                    report.invalidated.push(files.hash);
                }
            }
        }
    }
    Ok(())
}

/// The layouts of a build, and those of other platforms beside them, if it has units of the host: such units (procedural
/// macros) have dependents there. Who builds for another platform holds the host's lock as well.
pub(super) fn layouts_with_dependents(layouts: &[BuildLayout]) -> io::Result<Vec<BuildLayout>> {
    let mut all = layouts.to_vec();
    if let Some(host) = layouts.iter().find(|layout| layout.platform().is_none()) {
        all.extend(host.layouts_of_targets()?.into_iter().filter(|other| !layouts.contains(other)));
    }
    Ok(all)
}

/// Cargo compares the times of a member's sources with its own note of them, and believes a source that changed
/// under an old time. What the ledger knows was compared by content; for the rest, the change time tells.
fn changed_silently(files: &FingerprintFiles, package: &PlannedPackage, layout: &BuildLayout) -> bool {
    let Ok(noted) = fs::metadata(&files.dep_info).and_then(|metadata| metadata.modified()) else { return false };
    let dep_info = fs::read(&files.dep_info).ok().and_then(|bytes| CargoDepInfo::decode(&bytes).ok());
    let Some(dep_info) = dep_info else { return false };
    let silent = |path: Utf8PathBuf| {
        fs::metadata(&path)
            .is_ok_and(|metadata| change_time(&metadata) > noted && metadata.modified().is_ok_and(|time| time <= noted))
    };
    dep_info.absolute_files(package.root(), layout.build_directory()).any(silent)
}

/// Whether a unit that is there was made from other dependencies than those that are `restored` now, by their
/// fingerprints. Cargo would believe it, because restored files are old.
fn was_made_from_others(
    files: &FingerprintFiles,
    known: Option<&LedgerEntry>,
    restored: &BTreeMap<u64, ContentDigest>,
) -> bool {
    match known {
        Some(entry) => entry
            .dependencies
            .iter()
            .any(|(fingerprint, output)| restored.get(fingerprint).is_some_and(|restored| restored != output)),
        None => match CargoFingerprint::read(files) {
            Ok(Some(fingerprint)) => fingerprint.deps.iter().any(|dependency| restored.contains_key(&dependency.3)),
            // A fingerprint that we cannot read says nothing of its dependencies.
            Ok(None) | Err(_) => true,
        },
    }
}

/// Makes cargo build a unit anew, and everything that depends on it. Without its hash file cargo builds the unit,
/// but believes its dependents: these look at what the unit was made from. So cargo's note of that goes too: the
/// dep-info, or the output of a run. It goes first: with the hash file and without the note cargo builds all of them.
pub(super) fn mark_stale(hash_file: &Utf8Path) -> Result<(), RestoreError> {
    let remove =
        |path: &Utf8Path| remove_file(path).map_err(|source| RestoreError::File { path: path.to_owned(), source });
    notes_beside(hash_file).iter().try_for_each(|note| remove(note))?;
    remove(hash_file)
}
