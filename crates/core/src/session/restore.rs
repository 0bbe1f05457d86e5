//! Restore: puts the hits into cargo's directories, so that cargo finds every one of them fresh.
//!
//! The order is what makes an interruption harmless: first everything that must not be believed any more loses
//! its hash file, then the files are placed, and only when all of a unit's files and all of its dependencies
//! are there is its own hash file written. The caller holds cargo's locks.

mod place;

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;

use crate::artifact::{RootKind, Roots, UnitArtifact};
use crate::cargo::fingerprint::{
    CargoFingerprint, FingerprintError, NewestFile, NotReproducible, RelocatableLocal, Relocation, WatchedPaths,
    output_stamp,
};
use crate::cargo::layout::{BuildLayout, FingerprintFiles};
use crate::digest::ContentDigest;
use crate::store::{FIXED_MTIME_SECONDS, FileFacts, Lease, StoreError};
use crate::unit::{CompileMode, CrateType, PlannedPackage, PlannedUnit, TargetKind, UnitGraph, UnitIndex};

use self::place::Placing;
use super::changes::is_newer;
use super::ledger::{Ledger, LedgerEntry, LedgerFile, UnitPlace};
use super::resolve::{Left, MissReason, Resolution, Restorable, UnitState};
use super::stale::{mark_stale, mark_unbelievable};

/// Why one unit could not be restored. It is left to cargo then; nothing else is lost.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file could not be placed.
    #[error("place {path}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The store could not give a file.
    #[error("take a file from the store")]
    Store(#[source] StoreError),
    /// The fingerprint does not fit this machine.
    #[error("relocate the fingerprint")]
    Fingerprint(#[source] NotReproducible),
    /// The fingerprint could not be written.
    #[error("write the fingerprint")]
    WriteFingerprint(#[source] FingerprintError),
    /// Text names a directory that this build does not have, or the manifest is malformed.
    #[error("make sense of the artifact of {label}")]
    Malformed {
        /// The unit.
        label: String,
    },
}

/// What the restore needs to know of the build.
pub struct RestoreContext<'a> {
    /// The plan.
    pub graph: &'a UnitGraph,
    /// The store.
    pub store: &'a Lease,
    /// Where this machine's directories are.
    pub roots: &'a Roots,
    /// The layout of a unit's platform.
    pub layout: &'a (dyn Fn(UnitIndex) -> &'a BuildLayout + Sync),
    /// All layouts of the build, for units that are not in the plan.
    pub layouts: &'a [BuildLayout],
    /// A time from before any source was looked at, by the clock of the build directory's file system.
    pub started: SystemTime,
    /// The value that cargo sees for a variable.
    pub environment: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The newest file of a package, which cargo writes into fingerprints.
    pub newest_file: &'a (dyn Fn(&PlannedPackage) -> Option<NewestFile> + Sync),
    /// Directories whose files cargo takes for immutable.
    pub immutable: &'a [Utf8PathBuf],
    /// Called with the number of units done so far.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What was done.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Bytes that share their place on disk with the store.
    pub linked: u64,
    /// Bytes that were cloned or copied.
    pub copied: u64,
    /// Units that could not be restored, with the reason.
    pub failed: Vec<(UnitIndex, RestoreError)>,
    /// Units outside the plan that had to be marked stale.
    pub invalidated: Vec<Utf8PathBuf>,
}

/// What is known of a dependency.
#[derive(Clone, Copy)]
struct Known {
    fingerprint: u64,
    newest: SystemTime,
}

pub(super) struct Prepared<'a> {
    pub(super) index: UnitIndex,
    /// The fingerprints and outputs of its dependencies.
    pub(super) dependencies: Vec<(u64, ContentDigest)>,
    pub(super) unit: &'a Restorable,
    pub(super) files: FingerprintFiles,
    pub(super) place: UnitPlace,
    pub(super) fingerprint: CargoFingerprint,
    pub(super) old_times: bool,
    /// The time of its outputs: the one old time, or that of the newest file that cargo compares them with.
    pub(super) time: SystemTime,
    /// Whether its files are for the user, who expects them to be new, and nothing depends on their times.
    pub(super) is_final: bool,
}

/// Restores every unit that `resolution` found. Units that fail become [`UnitState::Left`], and so does what
/// depends on them; the others become [`UnitState::InPlace`].
pub fn restore(
    context: &RestoreContext<'_>,
    resolution: &mut Resolution,
    ledger: &mut Ledger,
) -> Result<RestoreReport, RestoreError> {
    let mut report = RestoreReport::default();
    let prepared = prepare(context, resolution, &mut report);
    for state in &resolution.units {
        if let UnitState::Left(left) = state {
            for place in &left.stale {
                mark_stale(&context.layouts[0].build_directory().join(&place.0))?;
            }
        }
    }
    mark_unbelievable(context, resolution, ledger, &prepared, &mut report)?;
    // All of them before anything is placed: units are sealed one by one, and one that is still as it was would be
    // believed beside a dependency that is new already. Those that can't be prepared, too: cargo would judge by time
    // what lies in their places.
    resolution.units.par_iter().enumerate().try_for_each(|(at, state)| match state {
        UnitState::Restore(unit) => match fingerprint_files(context, UnitIndex(at as u32), &unit.artifact) {
            Some(files) => mark_stale(&files.hash),
            None => Ok(()),
        },
        UnitState::InPlace(_) | UnitState::Left(_) => Ok(()),
    })?;

    let settled = Placing::new(context, &prepared).run(&mut report);
    let mut complete = Vec::with_capacity(prepared.len());
    for (unit, files) in prepared.into_iter().zip(settled) {
        if let Some(files) = files {
            complete.push((unit.index, entry(&unit, files), unit.place, unit.old_times));
        }
    }
    for (index, entry, place, old_times) in complete {
        let newest = entry.newest;
        let UnitState::Restore(unit) = &resolution.units[index.0 as usize] else { continue };
        let pin = crate::unit::Pin { artifact: unit.artifact_key, output: unit.artifact.output };
        let fingerprint = entry.fingerprint;
        ledger.insert(place.clone(), entry);
        resolution.units[index.0 as usize] = UnitState::InPlace(super::resolve::InPlace {
            place,
            hash: unit.artifact.hash,
            stem: unit.artifact.stem.clone(),
            pin,
            fingerprint,
            kept: true,
            old_times,
            newest,
        });
    }
    // Cargo builds the others, and what depends on them, as their hash files are not there.
    for state in &mut resolution.units {
        if let UnitState::Restore(unit) = state {
            *state = UnitState::Left(Left {
                unit: Some(unit.unit),
                reason: MissReason::NothingKept,
                wanted: None,
                stale: Vec::new(),
            });
        }
    }
    Ok(report)
}

/// Relocates every fingerprint, in dependency order. Nothing is written yet.
fn prepare<'a>(
    context: &RestoreContext<'_>,
    resolution: &'a Resolution,
    report: &mut RestoreReport,
) -> Vec<Prepared<'a>> {
    let mut known: BTreeMap<UnitIndex, Known> = BTreeMap::new();
    let mut prepared = Vec::new();
    for (index, state) in resolution.iter() {
        match state {
            UnitState::Left(_) => {}
            UnitState::InPlace(unit) => drop(
                known.insert(index, Known { fingerprint: unit.fingerprint, newest: from_nanoseconds(unit.newest) }),
            ),
            UnitState::Restore(unit) => match prepare_unit(context, index, unit, &known) {
                Ok(Some(ready)) => {
                    known.insert(index, Known { fingerprint: ready.fingerprint.hash(), newest: ready.time });
                    prepared.push(ready);
                }
                // A dependency could not be prepared: its own error says why.
                Ok(None) => {}
                Err(error) => report.failed.push((index, error)),
            },
        }
    }
    prepared
}

fn prepare_unit<'a>(
    context: &RestoreContext<'_>,
    index: UnitIndex,
    unit: &'a Restorable,
    known: &BTreeMap<UnitIndex, Known>,
) -> Result<Option<Prepared<'a>>, RestoreError> {
    let artifact = &unit.artifact;
    let planned = context.graph.unit(index);
    let Some(dependencies) =
        planned.dependencies.iter().map(|edge| known.get(&edge.unit).copied()).collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let files = fingerprint_files(context, index, artifact)
        .ok_or_else(|| RestoreError::Malformed { label: artifact.label.clone() })?;
    let hashes: Vec<u64> = dependencies.iter().map(|known| known.fingerprint).collect();
    let made_from = hashes.iter().copied().zip(unit.dependencies.iter().copied()).collect();
    // An edit since the sources were compared would be in the fingerprint already, and cargo would not see it.
    let newest_file = || {
        let newest = (context.newest_file)(context.graph.package(planned))?;
        (!is_newer(&newest.path, context.started)).then(|| newest.stamp())
    };
    let relocation = Relocation {
        roots: context.roots,
        dependency_hashes: &hashes,
        environment: context.environment,
        newest_file: &newest_file,
    };
    let fingerprint = artifact.fingerprint.relocate(relocation).map_err(RestoreError::Fingerprint)?;
    let place = UnitPlace::of((context.layout)(index), &files.hash);
    // Cargo wants no dependency newer than its dependent, and no watched file newer than a run's output.
    let compared = planned.dependencies.iter().zip(&dependencies);
    let compared = compared.filter(|(edge, _)| !is_final(context.graph.unit(edge.unit))).map(|(_, known)| known.newest);
    let watched = watched(artifact, context.graph.package(planned), context.roots).newest();
    // What is newer than the beginning of this build was edited since, and cargo must see that.
    let time = output_stamp(fixed_time(), watched, compared).min(context.started);
    let old_times = time == fixed_time();
    let is_final = is_final(planned);
    Ok(Some(Prepared { index, dependencies: made_from, unit, files, place, fingerprint, old_times, time, is_final }))
}

/// Where a unit's fingerprint belongs. `None` if the artifact is not one of this unit.
fn fingerprint_files(
    context: &RestoreContext<'_>,
    index: UnitIndex,
    artifact: &UnitArtifact,
) -> Option<FingerprintFiles> {
    let is_sound =
        artifact.is_well_formed() && artifact.package == context.graph.package(context.graph.unit(index)).name;
    is_sound.then(|| (context.layout)(index).fingerprint_files(&artifact.package, artifact.hash, &artifact.stem))
}

/// Whether a unit's outputs are for the user, and no other unit is compiled against them.
pub(super) fn is_final(unit: &PlannedUnit) -> bool {
    let linkable =
        |crate_type: &CrateType| !matches!(crate_type, CrateType::Cdylib | CrateType::Staticlib | CrateType::Bin);
    match unit.target.kind {
        TargetKind::CustomBuild => false,
        TargetKind::Lib => unit.mode == CompileMode::Build && !unit.target.crate_types.iter().any(linkable),
        _ => unit.mode != CompileMode::RunCustomBuild,
    }
}

/// The files that cargo compares the time of a run's output with.
pub(super) fn watched(artifact: &UnitArtifact, package: &PlannedPackage, roots: &Roots) -> WatchedPaths {
    let named = artifact.fingerprint.local().iter().flat_map(|local| match local {
        RelocatableLocal::Paths { paths, .. } => paths.as_slice(),
        _ => &[],
    });
    let paths: Vec<Utf8PathBuf> =
        named.filter_map(|path| roots.reveal(path)).map(|path| package.root().join(path)).collect();
    let home = roots.get(RootKind::CargoHome).unwrap_or(Utf8Path::new("/"));
    WatchedPaths::look(paths.iter().map(Utf8PathBuf::as_path), home)
}

/// The facts of files, for the ledger.
pub(super) fn ledger_files(
    layout: &BuildLayout,
    files: impl IntoIterator<Item = Utf8PathBuf>,
) -> Result<Vec<LedgerFile>, RestoreError> {
    let facts = |path: Utf8PathBuf| {
        let facts = FileFacts::of_path(&path).map_err(|source| RestoreError::File { path: path.clone(), source })?;
        let path = layout.relative(&path).unwrap_or(&path).to_owned();
        Ok(LedgerFile { path, facts })
    };
    files.into_iter().map(facts).collect()
}

fn entry(unit: &Prepared<'_>, files: Vec<LedgerFile>) -> LedgerEntry {
    LedgerEntry {
        hash: unit.unit.artifact.hash,
        stem: unit.unit.artifact.stem.clone(),
        inputs: unit.unit.inputs,
        unit: Some(unit.unit.unit),
        artifact: Some(unit.unit.artifact_key),
        output: Some(unit.unit.artifact.output),
        kept: true,
        old_times: unit.old_times,
        newest: nanoseconds(unit.time),
        fingerprint: unit.fingerprint.hash(),
        dynamic: unit.unit.dynamic.clone(),
        dependencies: unit.dependencies.clone(),
        files,
    }
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn from_nanoseconds(nanoseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// The one old time of restored outputs.
pub(super) fn fixed_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(FIXED_MTIME_SECONDS.unsigned_abs())
}

/// Sets a file's modification time.
pub(super) fn set_time(path: &Utf8Path, time: SystemTime) -> io::Result<()> {
    File::open(path)?.set_times(FileTimes::new().set_modified(time))
}

pub(super) fn remove_file(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
