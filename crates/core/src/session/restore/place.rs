//! Placing: the files of many units, on all cores, and the hash file of each once nothing of it is missing.
//!
//! A unit is believed only with all of its dependencies, so it is sealed when its own files are in place and its
//! dependencies are sealed. Sealing goes on while large files are still being copied: they are mostly final programs,
//! which nothing else waits for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use camino::Utf8Path;
use rayon::prelude::*;

use super::{Prepared, RestoreContext, RestoreError, RestoreReport, fixed_time, ledger_files, remove_file, set_time};
use crate::artifact::scan::reveal_in_text;
use crate::artifact::{ArtifactFile, FileClass};
use crate::session::ledger::LedgerFile;
use crate::store::{PlacedHow, Placement};
use crate::unit::UnitIndex;

/// Units on their way into cargo's directories.
pub(super) struct Placing<'a, 'c> {
    context: &'a RestoreContext<'c>,
    units: &'a [Prepared<'a>],
    progress: Vec<Progress>,
    linked: AtomicU64,
    copied: AtomicU64,
}

/// The files of a unit, once they are in place.
type Placed = Option<Result<Vec<LedgerFile>, RestoreError>>;

/// How far one unit is.
#[derive(Default)]
struct Progress {
    /// How much it waits for: its own files, and each of its dependencies that is placed now.
    waits_for: AtomicUsize,
    /// Who waits for it.
    dependents: Vec<usize>,
    /// Whether a dependency of it failed.
    is_broken: AtomicBool,
    /// Its files so far.
    files: Mutex<Placed>,
}

impl<'a, 'c> Placing<'a, 'c> {
    /// `units` are in dependency order, and what they depend on besides is in place.
    pub(super) fn new(context: &'a RestoreContext<'c>, units: &'a [Prepared<'a>]) -> Self {
        let mut progress: Vec<Progress> = units.iter().map(|_| Progress::default()).collect();
        let mut at: BTreeMap<UnitIndex, usize> = BTreeMap::new();
        for (this, unit) in units.iter().enumerate() {
            let edges = &context.graph.unit(unit.index).dependencies;
            let dependencies: Vec<usize> = edges.iter().filter_map(|edge| at.get(&edge.unit).copied()).collect();
            progress[this].waits_for = AtomicUsize::new(1 + dependencies.len());
            for dependency in dependencies {
                progress[dependency].dependents.push(this);
            }
            at.insert(unit.index, this);
        }
        Self { context, units, progress, linked: AtomicU64::new(0), copied: AtomicU64::new(0) }
    }

    /// Places and seals all of them. Gives the files of each; `None` where it, or something that it depends on, failed.
    /// The report has the reason.
    pub(super) fn run(self, report: &mut RestoreReport) -> Vec<Option<Vec<LedgerFile>>> {
        let done = AtomicU64::new(0);
        // The largest copies first, so that none of them is left for the end while the other cores are idle.
        let mut order: Vec<usize> = (0..self.units.len()).collect();
        order.sort_by_key(|at| Reverse(copied_bytes(&self.units[*at])));
        order.par_iter().with_max_len(1).for_each(|at| {
            let files = place_files(self.context, &self.units[*at], &self.linked, &self.copied);
            *self.files(*at) = Some(files);
            self.seal_what_is_complete(*at);
            (self.context.progress)(done.fetch_add(1, Ordering::Relaxed) + 1);
        });
        report.linked = self.linked.into_inner();
        report.copied = self.copied.into_inner();
        let mut settled = Vec::with_capacity(self.units.len());
        for (unit, progress) in self.units.iter().zip(self.progress) {
            let is_broken = progress.is_broken.into_inner();
            settled.push(match progress.files.into_inner().expect(NO_PANIC) {
                Some(Ok(files)) if !is_broken => Some(files),
                Some(Err(error)) => {
                    report.failed.push((unit.index, error));
                    None
                }
                _ => None,
            });
        }
        settled
    }

    /// One thing that the unit waited for has come: if it was the last, the unit is sealed, and so on.
    fn seal_what_is_complete(&self, at: usize) {
        let mut came = vec![at];
        while let Some(at) = came.pop() {
            let progress = &self.progress[at];
            // What other threads have written before is seen by who takes the last one.
            if progress.waits_for.fetch_sub(1, Ordering::AcqRel) > 1 {
                continue;
            }
            let is_sealed = !progress.is_broken.load(Ordering::Relaxed) && self.seal(at);
            for dependent in &progress.dependents {
                if !is_sealed {
                    self.progress[*dependent].is_broken.store(true, Ordering::Relaxed);
                }
                came.push(*dependent);
            }
        }
    }

    /// Seals a unit, if all went well.
    fn seal(&self, at: usize) -> bool {
        let mut files = self.files(at);
        if let Some(Ok(placed)) = files.as_mut() {
            match seal(self.context, &self.units[at]) {
                Ok(more) => placed.extend(more),
                Err(error) => *files = Some(Err(error)),
            }
        }
        matches!(*files, Some(Ok(_)))
    }

    fn files(&self, at: usize) -> MutexGuard<'_, Placed> {
        self.progress[at].files.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no thread panics while it holds the files of a unit";

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

/// Puts a unit's files in their places, and says which they are.
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
    // What a build script generated is compared with the dep-info of what includes it: always old.
    let time = match (artifact.run.is_some(), unit.is_final) {
        (true, _) => fixed_time(),
        (false, true) => context.started,
        (false, false) => unit.time,
    };
    let mut placed = Vec::with_capacity(artifact.files.len());
    for file in &artifact.files {
        let path = directory.join(&file.path);
        match file.class {
            FileClass::Text => {
                let bytes = context.store.read_blob(&file.blob).map_err(RestoreError::Store)?;
                let text = String::from_utf8(bytes).map_err(|_| malformed())?;
                let text = reveal_in_text(&text, context.roots).ok_or_else(malformed)?;
                remove_file(&path).map_err(failed(&path))?;
                fs::write(&path, &text).map_err(failed(&path))?;
                if file.blob.executable {
                    make_executable(&path).map_err(failed(&path))?;
                }
                set_time(&path, time).map_err(failed(&path))?;
                copied.fetch_add(text.len() as u64, Ordering::Relaxed);
            }
            FileClass::Replaced | FileClass::Own => {
                let placement = placement(unit, file);
                let how = context.store.materialise(&file.blob, &path, placement).map_err(RestoreError::Store)?;
                let counter = if how == PlacedHow::Linked { linked } else { copied };
                counter.fetch_add(file.blob.size, Ordering::Relaxed);
                // Whatever the store gives has the one old time.
                if how != PlacedHow::Linked && time != fixed_time() {
                    set_time(&path, time).map_err(failed(&path))?;
                }
            }
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

/// Writes a file that is to have another modification time than now.
fn write_with_time(path: &Utf8Path, bytes: &[u8], time: SystemTime) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.set_times(FileTimes::new().set_modified(time))
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
