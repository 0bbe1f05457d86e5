//! Collect: takes the units that cargo really built into the store, while it is still building others.
//!
//! A unit is taken when cargo has written its fingerprint, and kept only if everything about it is understood:
//! it is the unit that was planned, all of its dependencies are kept, its fingerprint can be recomputed, and
//! nothing that it read changed while it was compiled. What is not kept is still noted in the ledger, so that
//! the next build knows it in place.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::dynamic::{DynamicInput, InputValue};
use crate::artifact::reach::Reach;
use crate::artifact::scan::Scanner;
use crate::artifact::{Roots, UnitArtifact};
use crate::cargo::dep_info::CargoDepInfo;
use crate::cargo::fingerprint::{CargoFingerprint, RelocatableFingerprint, hashed_source_path};
use crate::cargo::incremental::IncrementalState;
use crate::cargo::layout::{BuildLayout, RunFiles};
use crate::cargo::record::{InvocationRecord, RecordReader, StartedInvocation};
use crate::digest::{ContentDigest, Key, KeyHasher};
use crate::environment::Environment;
use crate::store::{Lease, LocalStore, NewNode, PutNode, StoreError};
use crate::unit::{
    CompileMode, PackageSource, Pin, PlannedPackage, TargetKind, UnitGraph, UnitIndex, UnitInputs, unit_key,
};

use super::before::{nothing_else_is_present, repositories_to_ask, used_out_directories};
use super::changes::{changed_since, is_newer};
use super::gather::{Dependencies, Gathered, NotKept, gather};
use super::ledger::{Ledger, LedgerEntry, LedgerFile, UnitPlace, are_intact};
use super::matching::{Matcher, UnitAddress};
use super::resolve::{Lookup, Resolution, UnitState};
use super::restore::{ledger_files, nanoseconds};
use super::trie::{self, Node};

/// What collect needs to know of the build.
pub struct CollectContext<'a> {
    /// The plan.
    pub graph: &'a UnitGraph,
    /// The inputs of its units.
    pub inputs: &'a [UnitInputs],
    /// The store.
    pub store: &'a LocalStore,
    /// Where this machine's directories are.
    pub roots: &'a Roots,
    /// All layouts of the build.
    pub layouts: &'a [BuildLayout],
    /// The layout of a unit's platform.
    pub layout: &'a (dyn Fn(UnitIndex) -> &'a BuildLayout + Sync),
    /// Cargo's build directory.
    pub build_directory: &'a Utf8Path,
    /// Cargo's target directory.
    pub target_directory: &'a Utf8Path,
    /// The workspace root.
    pub workspace_root: &'a Utf8Path,
    /// Directories whose files cargo takes for immutable.
    pub immutable: &'a [Utf8PathBuf],
    /// Where the packages lie that come from no registry or repository, planned or not.
    pub own_packages: &'a BTreeSet<Utf8PathBuf>,
    /// When the build began, by the clock of the build directory's file system.
    pub started: SystemTime,
    /// The environment that cargo gets.
    pub environment: &'a Environment,
    /// The value of a variable in what cargo starts: `[env]` of the configuration counts.
    pub variable: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// The triple of this machine.
    pub host: &'a str,
    /// The manifests and configuration files that the plan was made from.
    pub planned_from: &'a [Utf8PathBuf],
    /// Where the recorder writes.
    pub records: &'a Utf8Path,
}

impl CollectContext<'_> {
    /// Whether a package's sources are named exactly by its key: a registry's or a repository's, in cargo's
    /// own directories, where cargo takes them for immutable. Vendored sources are judged by content.
    pub(super) fn is_immutable(&self, package: &PlannedPackage) -> bool {
        let named = match &package.source {
            PackageSource::Registry { checksum, .. } => checksum.is_some(),
            PackageSource::Git { .. } => true,
            PackageSource::Path { .. } => false,
        };
        named && self.immutable.iter().any(|directory| package.manifest_path.starts_with(directory))
    }
}

/// What became of the units that cargo built.
#[derive(Debug, Default)]
pub struct CollectReport {
    /// Units that cargo built.
    pub built: Vec<UnitIndex>,
    /// Units that are in the store now.
    pub kept: u64,
    /// Units that can only be restored where the directories are the same.
    pub bound: u64,
    /// Units that were not kept, with the reason.
    pub not_kept: Vec<(UnitIndex, NotKept)>,
    /// Compilations that fit no planned unit.
    pub unmatched: Vec<String>,
    /// The error that ended keeping, if one did: a full disk, for example.
    pub stopped: Option<StoreError>,
}

/// A unit that is in the store now: what there is to publish of it.
#[derive(Clone, Debug)]
pub struct KeptUnit {
    /// The unit.
    pub unit: UnitIndex,
    /// Its records: the artifact first, then the names that lead to it, from the last to the first. Whoever sees one
    /// of them finds all that come before it.
    pub records: Vec<Key>,
}

/// What is known of a unit while cargo runs.
#[derive(Clone, Debug)]
enum Progress {
    /// Nothing yet.
    Open,
    /// Cargo called rustc for it.
    Recorded(Box<Recorded>),
    /// Its output is known.
    Settled(Settled),
    /// Its output will not be known.
    Given,
}

#[derive(Clone, Debug)]
struct Recorded {
    record: InvocationRecord,
    started: SystemTime,
}

#[derive(Clone, Copy, Debug)]
struct Settled {
    pin: Pin,
    fingerprint: u64,
    kept: bool,
    old_times: bool,
}

/// Watches one build.
pub struct Collector<'a, L> {
    context: CollectContext<'a>,
    lookup: &'a L,
    matcher: Matcher<'a>,
    reader: RecordReader,
    scanner: Scanner,
    progress: Vec<Progress>,
    /// The files of units whose output is known: it is that of the unit only while they are what they were.
    settled_files: BTreeMap<UnitIndex, Vec<LedgerFile>>,
    /// The `OUT_DIR`s that held something before cargo ran. What a script finds there it may leave as it is, or add to.
    used: Option<BTreeSet<Utf8PathBuf>>,
    /// The states of the repositories that scripts may ask for, before cargo ran.
    repositories: BTreeMap<DynamicInput, Option<InputValue>>,
    /// What procedural macros can reach, as far as somebody has asked.
    reaches: RefCell<BTreeMap<UnitIndex, Reach>>,
    entries: Vec<(UnitPlace, LedgerEntry)>,
    report: CollectReport,
    newly_kept: Vec<KeptUnit>,
    started_at: BTreeMap<String, SystemTime>,
    /// Whether outputs may be given the one old time. Cargo tells by times that a dependency was rebuilt, so what
    /// is built anew must look new to every unit here that is not part of this build: only where there is none,
    /// nothing is hidden from it.
    may_age: bool,
    /// Whether that was looked at while cargo held its locks.
    is_alone_for_sure: bool,
}

impl<'a, L: Lookup<Error = StoreError>> Collector<'a, L> {
    /// A collector for a build of which `resolution` has been restored, as the ledger has it.
    pub fn new(context: CollectContext<'a>, resolution: &Resolution, ledger: &Ledger, lookup: &'a L) -> Self {
        let mut progress = vec![Progress::Open; context.graph.units.len()];
        let mut settled_files = BTreeMap::new();
        for (index, state) in resolution.iter() {
            if let UnitState::InPlace(unit) = state {
                settled_files.extend(ledger.get(&unit.place).map(|entry| (index, entry.files.clone())));
                progress[index.0 as usize] = Progress::Settled(Settled {
                    pin: unit.pin,
                    fingerprint: unit.fingerprint,
                    kept: unit.kept,
                    old_times: unit.old_times,
                });
            }
        }
        let settled = resolution.iter().filter_map(|(index, state)| match state {
            UnitState::InPlace(unit) => {
                let layout = (context.layout)(index).clone();
                let package = context.graph.package(context.graph.unit(index)).name.clone();
                Some((index, UnitAddress { layout, package, hash: unit.hash, stem: unit.stem.clone() }))
            }
            _ => None,
        });
        let matcher = Matcher::new(context.graph, context.build_directory, context.target_directory, settled);
        let reader = RecordReader::new(context.records.to_owned());
        let may_age = nothing_else_is_present(&context, resolution.places(), None);
        let scanner = Scanner::new(context.roots);
        let used = used_out_directories(context.layouts);
        let repositories = repositories_to_ask(&context, resolution, lookup);
        Self {
            context,
            lookup,
            matcher,
            reader,
            scanner,
            progress,
            settled_files,
            used,
            repositories,
            reaches: RefCell::default(),
            entries: Vec::new(),
            report: CollectReport::default(),
            newly_kept: Vec::new(),
            started_at: BTreeMap::new(),
            may_age,
            is_alone_for_sure: false,
        }
    }

    /// Takes what has been finished since the last call, and says what of it was kept.
    pub fn poll(&mut self) -> Vec<KeptUnit> {
        self.read_records();
        self.take_finished();
        std::mem::take(&mut self.newly_kept)
    }

    /// Takes the rest, once cargo has ended, and writes down what is in the build directory now. Says what was kept
    /// since the last [`Collector::poll`].
    pub fn finish(mut self, ledger: &mut Ledger) -> (CollectReport, Vec<KeptUnit>) {
        self.read_records();
        self.find_runs();
        self.take_finished();
        for (index, progress) in (0..).map(UnitIndex).zip(&self.progress) {
            if let Progress::Recorded(_) = progress
                && self.is_finished(index).is_some()
            {
                self.report.built.push(index);
                self.report.not_kept.push((index, NotKept::Dependency));
            }
        }
        self.report.built.sort_unstable();
        for (place, entry) in self.entries {
            ledger.insert(place, entry);
        }
        self.report.unmatched = self.matcher.unmatched();
        (self.report, self.newly_kept)
    }

    fn read_records(&mut self) {
        // A record that cannot be read is a unit that is not kept.
        let Ok(records) = self.reader.new_records() else { return };
        let mut invocations = Vec::with_capacity(records.len());
        for StartedInvocation { mut record, started } in records {
            record.directory = self.context.roots.as_cargo_calls_it(&record.directory);
            self.started_at.insert(call_name(&record), started);
            invocations.push(record);
        }
        self.look_whether_alone();
        for (index, record) in self.matcher.take(invocations) {
            let started = self.started_at.get(&call_name(&record)).copied().unwrap_or(self.context.started);
            self.progress[index.0 as usize] = Progress::Recorded(Box::new(Recorded { record, started }));
        }
    }

    /// Between us and cargo somebody else may have held the locks and built something. What was there before the first
    /// compiler of this build is not of this build.
    fn look_whether_alone(&mut self) {
        if !self.may_age || self.is_alone_for_sure {
            return;
        }
        let Some(first) = self.started_at.values().min() else { return };
        let settled = self.settled_files.keys().filter_map(|index| Some(self.matcher.address(*index)?.place()));
        let settled: Vec<UnitPlace> = settled.collect();
        self.may_age = nothing_else_is_present(&self.context, &settled, Some(*first));
        self.is_alone_for_sure = true;
    }

    /// Runs whose dependents were not compiled are found by their fingerprints.
    fn find_runs(&mut self) {
        let fingerprints: BTreeMap<u64, UnitIndex> = (0..)
            .map(UnitIndex)
            .zip(&self.progress)
            .filter_map(|(index, progress)| match progress {
                Progress::Settled(settled) => Some((settled.fingerprint, index)),
                _ => None,
            })
            .collect();
        self.matcher.find_runs(&fingerprints);
    }

    fn take_finished(&mut self) {
        if self.report.stopped.is_some() {
            return;
        }
        let Ok(lease) = self.context.store.lease() else { return };
        for index in (0..self.context.graph.units.len() as u32).map(UnitIndex) {
            let is_run = self.context.graph.unit(index).mode == CompileMode::RunCustomBuild;
            let recorded = match &self.progress[index.0 as usize] {
                Progress::Recorded(recorded) => Some(recorded.clone()),
                Progress::Open if is_run && self.matcher.address(index).is_some() => None,
                _ => continue,
            };
            let Some(fingerprint) = self.is_finished(index) else { continue };
            let Some(dependencies) = self.dependencies(index) else { continue };
            let taken = self.take(index, recorded.as_deref(), &fingerprint, &dependencies, &lease);
            self.report.built.push(index);
            self.progress[index.0 as usize] = match taken {
                Ok(settled) => Progress::Settled(settled),
                Err(error) => {
                    if let NotKept::Store(error) = error {
                        self.report.stopped = Some(error);
                        return;
                    }
                    self.report.not_kept.push((index, error));
                    Progress::Given
                }
            };
        }
    }

    /// The fingerprint of a unit that cargo has finished in this build.
    fn is_finished(&self, index: UnitIndex) -> Option<CargoFingerprint> {
        let address = self.matcher.address(index)?;
        let since = match &self.progress[index.0 as usize] {
            Progress::Recorded(recorded) => recorded.started,
            _ => self.context.started,
        };
        let files = address.fingerprint_files();
        let written = fs::metadata(&files.hash).and_then(|metadata| metadata.modified()).ok()?;
        if written < since {
            return None;
        }
        CargoFingerprint::read(&files).ok()?
    }

    fn dependencies(&self, index: UnitIndex) -> Option<Vec<Settled>> {
        self.context
            .graph
            .unit(index)
            .dependencies
            .iter()
            .map(|edge| match &self.progress[edge.unit.0 as usize] {
                Progress::Settled(settled) => Some(*settled),
                _ => None,
            })
            .collect()
    }

    fn take(
        &mut self,
        index: UnitIndex,
        recorded: Option<&Recorded>,
        fingerprint: &CargoFingerprint,
        dependencies: &[Settled],
        lease: &Lease,
    ) -> Result<Settled, NotKept> {
        let context = &self.context;
        let graph = context.graph;
        let unit = graph.unit(index);
        let package = graph.package(unit);
        let address = self.matcher.address(index).cloned().ok_or(NotKept::Unmatched)?;
        let inputs = &context.inputs[index.0 as usize];
        let pin = |unit: UnitIndex| match &self.progress[unit.0 as usize] {
            Progress::Settled(settled) => Some(settled.pin),
            _ => None,
        };
        let key = unit_key(graph, inputs, index, pin).ok_or(NotKept::Dependency)?;
        // What cargo read may then be another manifest than the one in the key.
        if let Some(path) = context.planned_from.iter().find(|path| is_newer(path, context.started)) {
            return Err(NotKept::Unstable { what: format!("{path} changed after the plan was made") });
        }

        let source = (unit.mode != CompileMode::RunCustomBuild)
            .then(|| hashed_source_path(&unit.target.source_path, package.is_path(), context.workspace_root));
        let hashes: Vec<u64> = dependencies.iter().map(|settled| settled.fingerprint).collect();
        let relocatable = RelocatableFingerprint::from_cargo(fingerprint, source, context.roots, &hashes)
            .map_err(NotKept::Fingerprint)?;

        // Keeping the unit pays only if somebody can ask for it: each of its dependencies is kept, and it is no
        // passing state of an edit loop. Nor is it kept with what an earlier run of a script left, which a build from
        // scratch would not have.
        let is_run = unit.mode == CompileMode::RunCustomBuild;
        let continued = recorded.is_some_and(|recorded| recorded.record.incremental == IncrementalState::Continued)
            || is_run && self.is_used(&address.layout.run_files(&address.package, address.hash).out);
        let keep = !continued && dependencies.iter().all(|settled| settled.kept) && lease.is_writable();
        let since = recorded.map_or(context.started, |recorded| recorded.started);
        let depends_on_new_times = unit
            .dependencies
            .iter()
            .zip(dependencies)
            .any(|(edge, settled)| !settled.old_times && graph.unit(edge.unit).target.kind != TargetKind::Bin);
        // Sources are edited while cargo runs.
        self.lookup.forget();
        let gathered = gather(
            context,
            self.lookup,
            &self.scanner,
            index,
            &address,
            recorded.map(|recorded| &recorded.record),
            relocatable,
            self.may_age && !depends_on_new_times,
            keep.then_some(lease),
            self,
        )?;
        let Gathered { artifact, dynamic, files, old_times, bound } = gathered;
        // An answer of git's is of the moment at which it was asked, and not every change leaves a time.
        let was = |input: &DynamicInput| self.repositories.get(input).copied().flatten();
        if let Some((input, _)) = dynamic.iter().find(|(input, value)| was(input).is_some_and(|was| was != *value)) {
            return Err(NotKept::Changed { input: input.clone() });
        }

        let mut others = Vec::new();
        let other_value = |input: &DynamicInput| {
            others.push(input.clone());
            self.lookup.value(index, input)
        };
        let place = trie::place(key, &dynamic, |key| self.lookup.node(key), other_value).map_err(NotKept::Store)?;
        // After everything was read: what has not changed until now is what the compiler read.
        let read = dynamic.iter().map(|(input, _)| input).chain(&others);
        let is_changed = |input: &&DynamicInput| changed_since(input, context, package.root(), since);
        if let Some(input) = read.into_iter().find(is_changed) {
            return Err(NotKept::Changed { input: input.clone() });
        }
        // So it is with what it was compiled against: cargo runs a build script again whose files look new, and others
        // may have built here before cargo had its locks, or after.
        if unit.dependencies.iter().any(|edge| !self.is_as_settled(edge.unit)) {
            return Err(NotKept::Dependency);
        }
        let Some(place) = place else { return Err(NotKept::Inputs) };
        let mut kept = false;
        let mut output = artifact.as_ref().map(|artifact| artifact.output);
        if let Some(artifact) = artifact.filter(|_| keep) {
            kept = self.keep(index, &place, artifact, lease, &mut output).map_err(NotKept::Store)?;
        }
        let output = output.unwrap_or_else(|| nameless_output(place.key, fingerprint.hash()));
        if kept {
            self.report.kept += 1;
            let names = place.passed.iter().chain(place.missing.iter().map(|(key, _)| key)).rev();
            let records = std::iter::once(&place.key).chain(names).copied().collect();
            self.newly_kept.push(KeptUnit { unit: index, records });
        }
        self.report.bound += u64::from(bound);

        let newest = newest_of(&files);
        let place_in_ledger = address.place();
        let fingerprint_files = address.fingerprint_files();
        let mut all = files;
        all.push(fingerprint_files.hash.clone());
        if unit.mode != CompileMode::RunCustomBuild {
            all.push(fingerprint_files.dep_info.clone());
        }
        if let Ok(files) = ledger_files(&address.layout, all) {
            self.settled_files.insert(index, files.clone());
            let entry = LedgerEntry {
                hash: address.hash,
                stem: address.stem.clone(),
                inputs: inputs.key,
                unit: Some(key),
                artifact: Some(place.key),
                output: Some(output),
                old_times,
                newest,
                kept,
                fingerprint: fingerprint.hash(),
                dynamic,
                dependencies: dependencies.iter().map(|settled| (settled.fingerprint, settled.pin.output)).collect(),
                files,
            };
            self.entries.push((place_in_ledger, entry));
        }
        Ok(Settled { pin: Pin { artifact: place.key, output }, fingerprint: fingerprint.hash(), kept, old_times })
    }

    /// Whether the files of a unit whose output is known are those that it is known of.
    fn is_as_settled(&self, index: UnitIndex) -> bool {
        let files = self.settled_files.get(&index);
        files.is_some_and(|files| are_intact(files, self.context.build_directory))
    }

    fn is_used(&self, out: &Utf8Path) -> bool {
        self.used.as_ref().is_none_or(|used| used.contains(out))
    }

    fn settled_paths(&self, index: UnitIndex) -> impl Iterator<Item = Utf8PathBuf> {
        let files = self.settled_files.get(&index).into_iter().flatten();
        files.map(|file| self.context.build_directory.join(&file.path))
    }

    /// Writes the nodes of an artifact. Returns whether the store holds this very output now: where another
    /// build was first with a different one, ours stays in the build directory and nothing that depends on it
    /// is kept.
    fn keep(
        &self,
        index: UnitIndex,
        place: &trie::Path,
        artifact: UnitArtifact,
        lease: &Lease,
        output: &mut Option<ContentDigest>,
    ) -> Result<bool, StoreError> {
        if place.taken {
            return self.is_same(place.key, *output);
        }
        let label = self.context.graph.describe(index);
        let blobs: Vec<_> = artifact.files.iter().map(|file| file.blob).collect();
        let payload = encode(&Node::Artifact(Box::new(artifact)));
        let node =
            NewNode { key: place.key, kind: "unit", label: &label, blobs: &blobs, nodes: &[], payload: &payload };
        let inserted = lease.put_node(&node)?;
        for (key, names) in &place.missing {
            let payload = encode(&Node::Names(names.clone()));
            let node = NewNode { key: *key, kind: "names", label: &label, blobs: &[], nodes: &[], payload: &payload };
            lease.put_node(&node)?;
        }
        if inserted == PutNode::Inserted { Ok(true) } else { self.is_same(place.key, *output) }
    }

    fn is_same(&self, key: Key, output: Option<ContentDigest>) -> Result<bool, StoreError> {
        Ok(match self.lookup.node(key)? {
            Some(Node::Artifact(artifact)) => Some(artifact.output) == output,
            _ => false,
        })
    }
}

impl<L: Lookup<Error = StoreError>> Dependencies for Collector<'_, L> {
    fn run_output(&self, run: UnitIndex) -> Option<RunFiles> {
        let is_run = self.context.graph.unit(run).mode == CompileMode::RunCustomBuild;
        let address = self.matcher.address(run).filter(|_| is_run)?;
        Some(address.layout.run_files(&address.package, address.hash))
    }

    fn programs(&self, script: UnitIndex) -> Vec<Utf8PathBuf> {
        self.settled_paths(script).collect()
    }

    fn sources(&self, script: UnitIndex) -> Option<Vec<Utf8PathBuf>> {
        let dep_info = fs::read(self.matcher.address(script)?.fingerprint_files().dep_info).ok()?;
        let package = self.context.graph.package(self.context.graph.unit(script));
        let dep_info = CargoDepInfo::decode(&dep_info).ok()?;
        Some(dep_info.absolute_files(package.root(), self.context.build_directory).collect())
    }

    fn reach(&self, proc_macro: UnitIndex) -> Reach {
        let mut reaches = self.reaches.borrow_mut();
        *reaches.entry(proc_macro).or_insert_with(|| {
            let library = self.settled_paths(proc_macro).find(|path| has_library_name(path));
            // One that was checked alone is a library, too; what is not found can reach everything.
            Reach::of_proc_macro(&library.unwrap_or_default())
        })
    }
}

/// The newest time of files, as the ledger has it.
fn newest_of(files: &[Utf8PathBuf]) -> i64 {
    let time = |file: &Utf8PathBuf| fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    files.iter().filter_map(time).max().map_or(0, nanoseconds)
}

fn encode(node: &Node) -> Vec<u8> {
    serde_json::to_vec(node).expect("a node holds only texts, numbers and lists, which JSON can hold")
}

/// Stands for the output of a unit that nobody links: dependents (tests that start a program) are pinned to
/// its key.
fn nameless_output(key: Key, fingerprint: u64) -> ContentDigest {
    KeyHasher::new("unhashed-output/1")
        .field("key", key.as_bytes())
        .field("fingerprint", fingerprint.to_le_bytes())
        .digest()
}

/// Whether a file is called like what rustc loads procedural macros from.
fn has_library_name(path: &Utf8Path) -> bool {
    matches!(path.extension(), Some("so" | "dylib" | "dll"))
}

fn call_name(record: &InvocationRecord) -> String {
    record.arguments.join("\0")
}

impl UnitAddress {
    pub(super) fn fingerprint_files(&self) -> crate::cargo::layout::FingerprintFiles {
        self.layout.fingerprint_files(&self.package, self.hash, &self.stem)
    }

    pub(super) fn place(&self) -> UnitPlace {
        let files = self.fingerprint_files();
        UnitPlace::of(&self.layout, &files.hash)
    }
}
