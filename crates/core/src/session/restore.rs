//! Restore: puts the hits into cargo's directories, so that cargo finds every one of them fresh.
//!
//! The order is what makes an interruption harmless: first everything that must not be believed any more loses
//! its hash file, then the files are placed, and only when all of a unit's files and all of its dependencies
//! are there is its own hash file written. The caller holds cargo's locks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;

use crate::artifact::scan::reveal_in_text;
use crate::artifact::{ArtifactFile, FileClass, RootKind, Roots, UnitArtifact};
use crate::cargo::fingerprint::{
    CargoFingerprint, FingerprintError, NotReproducible, RelocatableLocal, Relocation, WatchedPaths, output_stamp,
};
use crate::cargo::layout::{BuildLayout, FingerprintFiles};
use crate::digest::ContentDigest;
use crate::store::{FIXED_MTIME_SECONDS, FileFacts, Lease, PlacedHow, Placement, StoreError};
use crate::unit::{CompileMode, CrateType, PlannedPackage, PlannedUnit, TargetKind, UnitGraph, UnitIndex};

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
    /// The newest file of a package, as cargo writes it into fingerprints.
    pub newest_file: &'a (dyn Fn(&PlannedPackage) -> Option<String> + Sync),
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

    let linked = AtomicU64::new(0);
    let copied = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    // The largest copies first, so that none of them is left for the end while the other cores are idle.
    let mut order: Vec<usize> = (0..prepared.len()).collect();
    order.sort_by_key(|index| Reverse(copied_bytes(&prepared[*index])));
    let mut placed: Vec<(usize, Result<Vec<LedgerFile>, RestoreError>)> = order
        .par_iter()
        .with_max_len(1)
        .map(|index| {
            let unit = &prepared[*index];
            let files = place_files(context, unit, &linked, &copied);
            (context.progress)(done.fetch_add(1, Ordering::Relaxed) + 1);
            (*index, files)
        })
        .collect();
    placed.sort_by_key(|(index, _)| *index);
    report.linked = linked.into_inner();
    report.copied = copied.into_inner();

    // A unit is believed only with all of its dependencies: what depends on a failure fails too.
    let mut missing: BTreeSet<UnitIndex> = BTreeSet::new();
    let mut complete = Vec::with_capacity(prepared.len());
    for (unit, (_, placed)) in prepared.into_iter().zip(placed) {
        let broken = context.graph.unit(unit.index).dependencies.iter().any(|edge| missing.contains(&edge.unit));
        match placed {
            Ok(files) if !broken => complete.push((unit, files)),
            Ok(_) => drop(missing.insert(unit.index)),
            Err(error) => {
                missing.insert(unit.index);
                report.failed.push((unit.index, error));
            }
        }
    }
    let sealed: Vec<Result<Vec<LedgerFile>, RestoreError>> =
        complete.par_iter().map(|(unit, _)| seal(context, unit)).collect();
    let mut settled = Vec::with_capacity(complete.len());
    for ((unit, mut files), sealed) in complete.into_iter().zip(sealed) {
        match sealed {
            Ok(more) => {
                files.extend(more);
                settled.push((unit.index, entry(&unit, files), unit.place, unit.old_times));
            }
            // Cargo rebuilds it, and its dependents with it, as its hash file is not there.
            Err(error) => {
                missing.insert(unit.index);
                report.failed.push((unit.index, error));
            }
        }
    }
    for (index, entry, place, old_times) in settled {
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
    for index in missing {
        let state = &mut resolution.units[index.0 as usize];
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

/// How much of a unit has to be copied.
fn copied_bytes(unit: &Prepared<'_>) -> u64 {
    unit.unit.artifact.files.iter().filter(|file| placement(unit, file) == Placement::Copy).map(|f| f.blob.size).sum()
}

/// Whether a file may be a link, which has the one old time. Where a unit needs a newer one, its metadata has it: cargo
/// takes the newest output for the unit's time, or the metadata where a dependent needs that alone. So the library
/// beside it, which is the larger part, can be a link all the same.
fn placement(unit: &Prepared<'_>, file: &ArtifactFile) -> Placement {
    let extension = |file: &ArtifactFile, extension| file.path.extension() == Some(extension);
    let carries_no_time =
        || extension(file, "rlib") && unit.unit.artifact.files.iter().any(|file| extension(file, "rmeta"));
    match file.class {
        FileClass::Replaced if unit.old_times || carries_no_time() => Placement::Link,
        _ => Placement::Copy,
    }
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
    if !artifact.is_well_formed() || artifact.package != context.graph.package(planned).name {
        return Err(RestoreError::Malformed { label: artifact.label.clone() });
    }
    let hashes: Vec<u64> = dependencies.iter().map(|known| known.fingerprint).collect();
    let made_from = hashes.iter().copied().zip(unit.dependencies.iter().copied()).collect();
    let newest_file = || (context.newest_file)(context.graph.package(planned));
    let relocation = Relocation {
        roots: context.roots,
        dependency_hashes: &hashes,
        environment: context.environment,
        newest_file: &newest_file,
    };
    let fingerprint = artifact.fingerprint.relocate(relocation).map_err(RestoreError::Fingerprint)?;
    let layout = (context.layout)(index);
    let files = layout.fingerprint_files(&artifact.package, artifact.hash, &artifact.stem);
    let place = UnitPlace::of(layout, &files.hash);
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

fn place_files(
    context: &RestoreContext<'_>,
    unit: &Prepared<'_>,
    linked: &AtomicU64,
    copied: &AtomicU64,
) -> Result<Vec<LedgerFile>, RestoreError> {
    let artifact = &unit.unit.artifact;
    let layout = (context.layout)(unit.index);
    let failed = |path: &Utf8Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { path, source }
    };
    mark_stale(&unit.files.hash)?;
    let directory = layout.output_directory(&artifact.package, artifact.hash, &artifact.stem);
    if artifact.run.is_some() {
        remove_directory(&directory).map_err(failed(&directory))?;
    }
    fs::create_dir_all(&directory).map_err(failed(&directory))?;
    for relative in &artifact.directories {
        let path = directory.join(relative);
        fs::create_dir_all(&path).map_err(failed(&path))?;
    }
    let malformed = || RestoreError::Malformed { label: artifact.label.clone() };
    let mut placed = Vec::with_capacity(artifact.files.len());
    for file in &artifact.files {
        let path = directory.join(&file.path);
        let shared = match file.class {
            FileClass::Text => {
                let bytes = context.store.read_blob(&file.blob).map_err(RestoreError::Store)?;
                let text = String::from_utf8(bytes).map_err(|_| malformed())?;
                let text = reveal_in_text(&text, context.roots).ok_or_else(malformed)?;
                remove_file(&path).map_err(failed(&path))?;
                fs::write(&path, &text).map_err(failed(&path))?;
                if file.blob.executable {
                    make_executable(&path).map_err(failed(&path))?;
                }
                copied.fetch_add(text.len() as u64, Ordering::Relaxed);
                false
            }
            FileClass::Replaced | FileClass::Own => {
                let placement = placement(unit, file);
                let how = context.store.materialise(&file.blob, &path, placement).map_err(RestoreError::Store)?;
                let counter = if how == PlacedHow::Linked { linked } else { copied };
                counter.fetch_add(file.blob.size, Ordering::Relaxed);
                how == PlacedHow::Linked
            }
        };
        if !shared {
            // What a build script generated is compared with the dep-info of what includes it: always old.
            let time = match (artifact.run.is_some(), unit.is_final) {
                (true, _) => fixed_time(),
                (false, true) => context.started,
                (false, false) => unit.time,
            };
            set_time(&path, time).map_err(failed(&path))?;
        }
        placed.push(path);
    }
    for (relative, target) in &artifact.links {
        let path = directory.join(relative);
        let target = reveal_in_text(target, context.roots).ok_or_else(malformed)?;
        remove_file(&path).map_err(failed(&path))?;
        symbolic_link(&target, &path).map_err(failed(&path))?;
    }
    if let Some(run) = &artifact.run {
        let files = layout.run_files(&artifact.package, artifact.hash);
        fs::create_dir_all(&files.directory).map_err(failed(&files.directory))?;
        for (path, text) in [(&files.stdout, &run.stdout), (&files.stderr, &run.stderr)] {
            let text = reveal_in_text(text, context.roots).ok_or_else(malformed)?;
            write_with_time(path, text.as_bytes(), unit.time).map_err(failed(path))?;
        }
        fs::write(&files.root_output, files.out.as_str()).map_err(failed(&files.root_output))?;
        placed.push(files.stdout);
    }
    ledger_files(layout, placed)
}

/// Writes a unit's fingerprint, the hash file last.
fn seal(context: &RestoreContext<'_>, unit: &Prepared<'_>) -> Result<Vec<LedgerFile>, RestoreError> {
    let artifact = &unit.unit.artifact;
    let failed = |path: &Utf8Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { path, source }
    };
    let malformed = || RestoreError::Malformed { label: artifact.label.clone() };
    fs::create_dir_all(&unit.files.directory).map_err(failed(&unit.files.directory))?;
    if let Some(dep_info) = &artifact.dep_info {
        let dep_info = dep_info.reveal(context.roots, context.environment).map_err(|_| malformed())?;
        // Not later than the moment before the sources were compared: what is edited from then on is newer.
        let path = &unit.files.dep_info;
        write_with_time(path, &dep_info.encode(), context.started).map_err(failed(path))?;
    }
    match &artifact.diagnostics {
        Some(diagnostics) => {
            let text = reveal_in_text(diagnostics, context.roots).ok_or_else(malformed)?;
            fs::write(&unit.files.diagnostics, text).map_err(failed(&unit.files.diagnostics))?;
        }
        None => remove_file(&unit.files.diagnostics).map_err(failed(&unit.files.diagnostics))?,
    }
    // The JSON beside it only serves to explain why a unit is dirty, and creating files is what costs here.
    unit.fingerprint.write_hash(&unit.files).map_err(RestoreError::WriteFingerprint)?;
    let layout = (context.layout)(unit.index);
    let mut files = vec![unit.files.hash.clone()];
    if artifact.dep_info.is_some() {
        files.push(unit.files.dep_info.clone());
    }
    ledger_files(layout, files)
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

/// Writes a file that is to have another modification time than now.
fn write_with_time(path: &Utf8Path, bytes: &[u8], time: SystemTime) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.set_times(FileTimes::new().set_modified(time))
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

fn remove_directory(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(unix)]
fn make_executable(path: &Utf8Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_path: &Utf8Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn symbolic_link(target: &str, path: &Utf8Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symbolic_link(target: &str, path: &Utf8Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}
