//! Matching: which planned unit a recorded rustc invocation is.
//!
//! The plan knows nothing of cargo's hashes, and the record nothing of the plan. What they share (package,
//! source file, kind of compilation, features, platform, profile, and through `--extern` the dependencies)
//! must agree in full and point to exactly one planned unit; what doesn't is not kept.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use crate::cargo::fingerprint::CargoFingerprint;
use crate::cargo::layout::{BuildLayout, CargoHash, FingerprintStem, Location, RustcPlace};
use crate::cargo::record::InvocationRecord;
use crate::unit::{CompileMode, CompilePlatform, CrateType, PlannedUnit, UnitGraph, UnitIndex};

/// Where a unit is in cargo's directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnitAddress {
    pub(super) layout: BuildLayout,
    pub(super) package: String,
    pub(super) hash: CargoHash,
    pub(super) stem: FingerprintStem,
}

/// Assigns recorded invocations, and the build-script runs behind them, to planned units.
pub(super) struct Matcher<'a> {
    graph: &'a UnitGraph,
    build_directory: Utf8PathBuf,
    target_directory: Utf8PathBuf,
    /// Rustc units by source file and kind of compilation.
    candidates: BTreeMap<Identity, Vec<UnitIndex>>,
    /// What each planned unit turned out to be.
    addresses: Vec<Option<UnitAddress>>,
    /// Invocations that no single unit fits yet.
    waiting: Vec<InvocationRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    source: Utf8PathBuf,
    check: bool,
    test: bool,
    platform: String,
    features: BTreeSet<String>,
}

impl<'a> Matcher<'a> {
    /// A matcher for one plan. `settled` names the units that are in place or were restored.
    pub(super) fn new(
        graph: &'a UnitGraph,
        build_directory: &Utf8Path,
        target_directory: &Utf8Path,
        settled: impl IntoIterator<Item = (UnitIndex, UnitAddress)>,
    ) -> Self {
        let mut candidates: BTreeMap<Identity, Vec<UnitIndex>> = BTreeMap::new();
        for (index, unit) in graph.iter() {
            if let Some(identity) = planned_identity(unit) {
                candidates.entry(identity).or_default().push(index);
            }
        }
        let mut addresses = vec![None; graph.units.len()];
        for (index, address) in settled {
            addresses[index.0 as usize] = Some(address);
        }
        Self {
            graph,
            build_directory: build_directory.to_owned(),
            target_directory: target_directory.to_owned(),
            candidates,
            addresses,
            waiting: Vec::new(),
        }
    }

    /// Where a unit is, once it is known.
    pub(super) fn address(&self, unit: UnitIndex) -> Option<&UnitAddress> {
        self.addresses[unit.0 as usize].as_ref()
    }

    /// The invocations that could not be assigned, as people name them.
    pub(super) fn unmatched(&self) -> Vec<String> {
        let name = |record: &InvocationRecord| {
            let package = record.cargo.package_name.as_deref().unwrap_or_default();
            let version = record.cargo.package_version.as_deref().unwrap_or_default();
            format!("{package} {version} crate {}", record.invocation.crate_name.as_deref().unwrap_or_default())
        };
        self.waiting.iter().map(name).collect()
    }

    /// Takes in new records. Returns the units that they, or older ones that were waiting, turned out to be.
    pub(super) fn take(
        &mut self,
        records: impl IntoIterator<Item = InvocationRecord>,
    ) -> Vec<(UnitIndex, InvocationRecord)> {
        self.waiting.extend(records);
        let mut found = Vec::new();
        loop {
            let before = found.len();
            for record in std::mem::take(&mut self.waiting) {
                match self.assign(&record) {
                    Some((unit, address)) => {
                        self.assign_run(unit, &record);
                        self.addresses[unit.0 as usize] = Some(address);
                        found.push((unit, record));
                    }
                    None => self.waiting.push(record),
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    /// Finds the runs of build scripts that no compilation has pointed to: a build that failed in between, for
    /// example. `fingerprints` are those of settled units. A run is recognised by the fingerprint of its
    /// script, if no other run has the same.
    pub(super) fn find_runs(&mut self, fingerprints: &BTreeMap<u64, UnitIndex>) {
        let mut layouts: Vec<BuildLayout> = Vec::new();
        for address in self.addresses.iter().flatten() {
            if !layouts.contains(&address.layout) {
                layouts.push(address.layout.clone());
            }
        }
        let mut found: BTreeMap<UnitIndex, Vec<UnitAddress>> = BTreeMap::new();
        for layout in &layouts {
            for present in layout.present_units().unwrap_or_default() {
                for stem in present.stems.iter().filter(|stem| stem.is_run()) {
                    let files = layout.fingerprint_files(&present.package, present.hash, stem);
                    let Ok(Some(fingerprint)) = CargoFingerprint::read(&files) else { continue };
                    let scripts = fingerprint.deps.iter().filter_map(|dependency| fingerprints.get(&dependency.3));
                    for script in scripts {
                        let address = UnitAddress {
                            layout: layout.clone(),
                            package: present.package.clone(),
                            hash: present.hash,
                            stem: stem.clone(),
                        };
                        found.entry(*script).or_default().push(address);
                    }
                }
            }
        }
        for (script, mut addresses) in found {
            let mut runs = self.graph.iter().filter(|(_, unit)| {
                unit.mode == CompileMode::RunCustomBuild && unit.dependencies.iter().any(|edge| edge.unit == script)
            });
            let (Some((run, _)), None) = (runs.next(), runs.next()) else { continue };
            if let (Some(address), true) = (addresses.pop(), addresses.is_empty()) {
                let slot = &mut self.addresses[run.0 as usize];
                if slot.is_none() {
                    *slot = Some(address);
                }
            }
        }
    }

    fn assign(&self, record: &InvocationRecord) -> Option<(UnitIndex, UnitAddress)> {
        let identity = recorded_identity(record)?;
        let candidates = self.candidates.get(&identity)?;
        let mut fitting = candidates.iter().filter(|candidate| {
            let unit = self.graph.unit(**candidate);
            disagreement(unit, record).is_none() && self.externs_agree(unit, record)
        });
        let unit = *fitting.next()?;
        if fitting.next().is_some() {
            return None;
        }
        let address = self.locate(unit, record)?;
        // The same unit twice in one build is something that we do not understand.
        match self.address(unit) {
            Some(known) if *known != address => None,
            _ => Some((unit, address)),
        }
    }

    fn locate(&self, index: UnitIndex, record: &InvocationRecord) -> Option<UnitAddress> {
        let unit = self.graph.unit(index);
        let package = &self.graph.package(unit).name;
        let stem = FingerprintStem::new(unit.mode, unit.target.kind, &unit.target.name);
        let invocation = &record.invocation;
        let out_directory = absolute(&record.directory, invocation.out_dir.as_deref()?);
        let location = Location::of_rustc(
            &self.build_directory,
            &self.target_directory,
            &out_directory,
            invocation.extra_filename.as_deref(),
        )?;
        let hash = match location.place {
            RustcPlace::Unit { hash, package: found } => (found == *package).then_some(hash)?,
            RustcPlace::Hashed { hash } => hash,
            RustcPlace::Unhashed => location.layout.find_unhashed(package, &stem).ok()??,
        };
        Some(UnitAddress { layout: location.layout, package: package.clone(), hash, stem })
    }

    /// Whether the files in `--extern` are those of the planned dependencies, as far as these are known.
    fn externs_agree(&self, unit: &PlannedUnit, record: &InvocationRecord) -> bool {
        let linkable = |edge: &&crate::unit::UnitDependency| {
            let dependency = self.graph.unit(edge.unit);
            dependency.mode != CompileMode::RunCustomBuild && dependency.target.kind == crate::unit::TargetKind::Lib
        };
        let planned: BTreeSet<&str> =
            unit.dependencies.iter().filter(linkable).map(|edge| edge.extern_crate_name.as_str()).collect();
        let externs = record.invocation.externs.iter().filter(|krate| krate.path.is_some());
        let recorded: BTreeSet<&str> = externs.clone().map(|krate| krate.name.as_str()).collect();
        if planned != recorded {
            return false;
        }
        externs.filter_map(|krate| Some((krate, self.hash_of_output(&record.directory, krate.path.as_deref()?)?))).all(
            |(krate, hash)| {
                unit.dependencies.iter().filter(linkable).any(|edge| {
                    edge.extern_crate_name == krate.name
                        && self.address(edge.unit).is_none_or(|address| address.hash == hash)
                })
            },
        )
    }

    /// The cargo hash in the path of a library.
    fn hash_of_output(&self, directory: &Utf8Path, library: &Utf8Path) -> Option<CargoHash> {
        let library = absolute(directory, library);
        let suffix = library.file_stem()?.rsplit_once('-').map(|(_, hash)| format!("-{hash}"));
        let parent = library.parent()?;
        let locate =
            |suffix: Option<&str>| Location::of_rustc(&self.build_directory, &self.target_directory, parent, suffix);
        match locate(suffix.as_deref()).or_else(|| locate(None))?.place {
            RustcPlace::Unit { hash, .. } | RustcPlace::Hashed { hash } => Some(hash),
            RustcPlace::Unhashed => None,
        }
    }

    /// A unit whose `OUT_DIR` is known tells which run of the build script it belongs to.
    fn assign_run(&mut self, unit: UnitIndex, record: &InvocationRecord) {
        let planned = self.graph.unit(unit);
        let run = planned.dependencies.iter().find(|edge| {
            let dependency = self.graph.unit(edge.unit);
            dependency.mode == CompileMode::RunCustomBuild && dependency.package == planned.package
        });
        let (Some(run), Some(out_dir)) = (run, &record.cargo.out_dir) else { return };
        let located = Location::of_out_directory(&self.build_directory, &self.target_directory, out_dir);
        if let Some((layout, package, hash)) = located {
            let target = &self.graph.unit(run.unit).target;
            let stem = FingerprintStem::new(CompileMode::RunCustomBuild, target.kind, &target.name);
            let slot = &mut self.addresses[run.unit.0 as usize];
            if slot.is_none() {
                *slot = Some(UnitAddress { layout, package, hash, stem });
            }
        }
    }
}

fn planned_identity(unit: &PlannedUnit) -> Option<Identity> {
    let (check, test) = match unit.mode {
        CompileMode::Build => (false, false),
        CompileMode::Test => (false, true),
        CompileMode::Check { test } => (true, test),
        CompileMode::Doc | CompileMode::RunCustomBuild => return None,
    };
    let platform = match &unit.platform {
        CompilePlatform::Host => String::new(),
        CompilePlatform::Target { name, .. } => name.clone(),
    };
    Some(Identity { source: unit.target.source_path.clone(), check, test, platform, features: unit.features.clone() })
}

fn recorded_identity(record: &InvocationRecord) -> Option<Identity> {
    let invocation = &record.invocation;
    let source = absolute(&record.directory, invocation.source.as_deref()?);
    // Targets without the test harness are told by `--cfg test`.
    let test = invocation.test || invocation.cfgs.iter().any(|cfg| cfg == "test");
    let check = !invocation.emit.iter().any(|kind| kind == "link");
    let platform = match invocation.target.as_deref() {
        None => String::new(),
        Some(json) if json.ends_with(".json") => Utf8Path::new(json).file_stem()?.to_owned(),
        Some(triple) => triple.to_owned(),
    };
    Some(Identity { source, check, test, platform, features: invocation.features.iter().cloned().collect() })
}

/// The first thing in which a record contradicts the plan. A unit that was not compiled as planned would be
/// kept under a key that promises something else.
fn disagreement(unit: &PlannedUnit, record: &InvocationRecord) -> Option<&'static str> {
    let invocation = &record.invocation;
    let profile = &unit.profile;
    let crate_types: Vec<&str> = invocation.crate_types.iter().map(String::as_str).collect();
    let planned_types: Vec<&str> = unit.target.crate_types.iter().map(CrateType::as_str).collect();
    let test = matches!(unit.mode, CompileMode::Test | CompileMode::Check { test: true });
    let checks = [
        ("edition", invocation.edition.as_deref().unwrap_or("2015") == unit.target.edition),
        ("crate types", test || crate_types == planned_types),
        ("opt-level", invocation.opt_level.as_deref().unwrap_or("0") == profile.opt_level),
        ("debuginfo", debuginfo(invocation.debuginfo.as_deref().unwrap_or("0")) == debuginfo(&profile.debuginfo)),
        ("panic", invocation.panic.as_deref().unwrap_or("unwind") == profile.panic),
        (
            "codegen-units",
            invocation.codegen_units.as_deref() == profile.codegen_units.map(|units| units.to_string()).as_deref(),
        ),
        ("incremental", invocation.incremental.is_some() == profile.incremental),
        ("primary package", record.cargo.primary == unit.primary),
        ("rustflags", contains_in_order(&record.arguments, &unit.rustflags)),
    ];
    checks.into_iter().find(|(_, agrees)| !agrees).map(|(what, _)| what)
}

/// One spelling for each level of debug information.
fn debuginfo(text: &str) -> &str {
    match text {
        "none" | "false" => "0",
        "limited" => "1",
        "full" | "true" => "2",
        other => other,
    }
}

fn contains_in_order(arguments: &[String], expected: &[String]) -> bool {
    let mut rest = arguments.iter();
    expected.iter().all(|flag| rest.any(|argument| argument == flag))
}

/// Joins and cleans a path without looking at the disk.
pub(super) fn absolute(directory: &Utf8Path, path: &Utf8Path) -> Utf8PathBuf {
    let mut clean = Utf8PathBuf::new();
    for component in directory.join(path).components() {
        match component {
            Utf8Component::CurDir => {}
            Utf8Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}
