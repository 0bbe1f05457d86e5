//! `plan`, and `--dry-run`: the units of a build and its artifacts, their keys, and where they are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use nixcache_core::digest::Key;
use nixcache_core::exchange::{Output, outputs};
use nixcache_core::session::{Ledger, MissReason, Resolution, UnitState};
use nixcache_core::store::{Lease, LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;
use serde::Serialize;

use super::print;
use crate::caches::{self, BuildSet, Seen, artifact};
use crate::report::chain;
use crate::settings::Settings;
use crate::workspace::PlannedBuild;

#[derive(Serialize)]
struct PlanDocument {
    schema: u32,
    units: Vec<PlanUnit>,
    sets: Vec<PlanSet>,
    passed_through: Vec<String>,
}

#[derive(Serialize)]
struct PlanUnit {
    unit: String,
    state: &'static str,
    why: Option<String>,
    /// The cache that has it.
    from: Option<String>,
    inputs: Key,
    key: Option<Key>,
    dependencies: Vec<usize>,
}

/// A set of the plan. Units and other sets are named by their places.
#[derive(Serialize)]
struct PlanSet {
    label: String,
    key: Option<Key>,
    path: Option<String>,
    units: Vec<u32>,
    sets: Vec<usize>,
    /// What can be installed of it; absent where that isn't known yet.
    outputs: Option<Vec<PlanOutput>>,
}

#[derive(Serialize)]
struct PlanOutput {
    platform: Option<String>,
    /// Absent where it names store paths, and so is not published.
    path: Option<String>,
    nar_hash: Option<String>,
    files: Vec<String>,
}

/// `cargo nixcache plan`
pub(crate) fn run(settings: &Settings, arguments: &[OsString], json: bool) -> ExitCode {
    super::with_resolution(settings, arguments, |resolved| {
        let seen = resolved.seen(settings)?;
        let shown = ShownPlan { build: resolved.build, resolution: &resolved.resolution, seen: &seen };
        if json {
            show_json(&shown, &resolved.store.lease()?)
        } else {
            show(&shown, &BTreeSet::new())
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What is shown of a build.
pub(crate) struct ShownPlan<'a> {
    pub(crate) build: &'a PlannedBuild,
    pub(crate) resolution: &'a Resolution,
    /// What caches have of it.
    pub(crate) seen: &'a Seen,
}

/// What the caches of the settings have of the units that `resolution` leaves. A cache that can't be used has nothing.
pub(crate) fn seen(
    settings: &Settings,
    build: &PlannedBuild,
    store: &LocalStore,
    ledger: &Ledger,
    resolution: &Resolution,
    left_out: &BTreeSet<UnitIndex>,
) -> Result<Seen, StoreError> {
    if !resolution.leaves_work() {
        return Ok(Seen::new());
    }
    let report = build.report();
    let remote = caches::open(&settings.caches.to_fetch(), &build.environment, report).unwrap_or_else(|error| {
        report.warning(&format!("no cache is asked: {}", chain(&error)));
        None
    });
    match remote {
        Some(remote) => caches::look(build, &remote, &store.lease()?, ledger, &report, left_out),
        None => Ok(Seen::new()),
    }
}

/// Shows how every unit was resolved, but for those that nobody asked for, and the artifacts that they make up.
pub(crate) fn show(shown: &ShownPlan<'_>, left_out: &BTreeSet<UnitIndex>) {
    let ShownPlan { build, resolution, .. } = shown;
    for (index, state) in resolution.iter().filter(|(index, _)| !left_out.contains(index)) {
        let Described { word, why, from } = shown.describe(index, state);
        let about = why.or(from).map(|text| format!("  ({text})")).unwrap_or_default();
        print(&format!("{word:<8}  {}  {}{about}", short(key(state)), build.graph.describe(index)));
    }
    for part in &build.graph.passed_through {
        print(&format!("{:<8}  {}  {}  ({})", "cargo", short(None), part.what, part.why));
    }
    for set in build.sets().iter().filter(|set| !set.planned.units.iter().all(|unit| left_out.contains(unit))) {
        let path = set.path.as_ref().map(|path| format!("  ({path})")).unwrap_or_default();
        print(&format!("{:<8}  {}  {}{path}", "artifact", short(set.planned.key), set.label()));
    }
}

/// The beginning of a key, which tells it from others; a place for one that isn't known.
fn short(key: Option<Key>) -> String {
    key.map_or_else(|| "-".repeat(12), |key| key.to_string().chars().take(12).collect())
}

fn show_json(shown: &ShownPlan<'_>, lease: &Lease) {
    let ShownPlan { build, resolution, .. } = shown;
    let unit = |(index, state): (UnitIndex, &UnitState)| {
        let Described { word, why, from } = shown.describe(index, state);
        PlanUnit {
            unit: build.graph.describe(index),
            state: word,
            why,
            from,
            inputs: build.inputs[index.0 as usize].key,
            key: key(state),
            dependencies: build.graph.unit(index).dependencies.iter().map(|edge| edge.unit.0 as usize).collect(),
        }
    };
    let document = PlanDocument {
        schema: 1,
        units: resolution.iter().map(unit).collect(),
        sets: build.sets().iter().map(|set| plan_set(build, resolution, lease, set)).collect(),
        passed_through: build.graph.passed_through.iter().map(|part| format!("{}: {}", part.what, part.why)).collect(),
    };
    print(&serde_json::to_string_pretty(&document).unwrap_or_default());
}

fn plan_set(build: &PlannedBuild, resolution: &Resolution, lease: &Lease, set: &BuildSet) -> PlanSet {
    let artifact = |unit| artifact(lease, resolution.state(unit).pin()?.artifact);
    let output = |output: &Output| {
        let path = output.path(lease).ok().flatten();
        PlanOutput {
            platform: output.platform.clone(),
            path: path.as_ref().map(|path| path.path.to_string()),
            nar_hash: path.as_ref().map(|path| path.nar_hash.to_sri()),
            files: output.files.keys().map(ToString::to_string).collect(),
        }
    };
    let outputs = outputs(&build.graph, &set.planned, artifact);
    PlanSet {
        label: set.label(),
        key: set.planned.key,
        path: set.path.as_ref().map(ToString::to_string),
        units: set.planned.units.iter().map(|unit| unit.0).collect(),
        sets: set.planned.references.clone(),
        outputs: outputs.map(|outputs| outputs.iter().map(output).collect()),
    }
}

fn key(state: &UnitState) -> Option<Key> {
    match state {
        UnitState::InPlace(unit) => Some(unit.pin.artifact),
        UnitState::Restore(unit) => Some(unit.artifact_key),
        UnitState::Left(left) => left.unit,
    }
}

/// How a unit is shown.
struct Described {
    word: &'static str,
    why: Option<String>,
    from: Option<String>,
}

impl ShownPlan<'_> {
    fn describe(&self, index: UnitIndex, state: &UnitState) -> Described {
        let at_hand = |word| Described { word, why: None, from: None };
        let left = match state {
            UnitState::InPlace(_) => return at_hand("in place"),
            UnitState::Restore(_) => return at_hand("store"),
            UnitState::Left(left) => left,
        };
        if let Some(cache) = self.seen.get(&index) {
            return Described { word: "cache", why: None, from: Some(cache.clone()) };
        }
        let why = match &left.reason {
            MissReason::NotKept => "rustdoc's output is not kept".to_owned(),
            MissReason::Dependency(unit) if self.seen.contains_key(unit) => {
                "no cache says that it has what depends on what it has".to_owned()
            }
            MissReason::Dependency(unit) => format!("{} is missing", self.build.graph.describe(*unit)),
            MissReason::NothingKept => "nobody has built it from these inputs".to_owned(),
        };
        Described { word: "missing", why: Some(why), from: None }
    }
}
