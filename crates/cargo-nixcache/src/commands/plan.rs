//! `plan`, and `--dry-run`: the units of a build, their keys, and whether they are at hand.

use std::ffi::OsString;
use std::process::ExitCode;

use nixcache_core::digest::Key;
use nixcache_core::exchange::{Output, outputs};
use nixcache_core::session::{MissReason, Resolution, UnitState};
use nixcache_core::store::Lease;
use nixcache_core::unit::UnitIndex;
use serde::Serialize;

use super::print;
use crate::caches::{BuildSet, artifact};
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
        let (build, resolution) = (resolved.build, &resolved.resolution);
        if json {
            show_json(build, resolution, &resolved.store.lease()?)
        } else {
            show(build, resolution)
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Shows how every unit was resolved.
pub(crate) fn show(build: &PlannedBuild, resolution: &Resolution) {
    for (index, state) in resolution.iter() {
        let (word, why) = describe(build, state);
        let why = why.map(|why| format!("  ({why})")).unwrap_or_default();
        print(&format!("{word:<8}  {}{why}", build.graph.describe(index)));
    }
    for part in &build.graph.passed_through {
        print(&format!("{:<8}  {}  ({})", "cargo", part.what, part.why));
    }
}

fn show_json(build: &PlannedBuild, resolution: &Resolution, lease: &Lease) {
    let unit = |(index, state): (UnitIndex, &UnitState)| {
        let (word, why) = describe(build, state);
        PlanUnit {
            unit: build.graph.describe(index),
            state: word,
            why,
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

fn describe(build: &PlannedBuild, state: &UnitState) -> (&'static str, Option<String>) {
    match state {
        UnitState::InPlace(_) => ("in place", None),
        UnitState::Restore(_) => ("store", None),
        UnitState::Left(left) => {
            let why = match &left.reason {
                MissReason::NotKept => "rustdoc's output is not kept".to_owned(),
                MissReason::Dependency(unit) => format!("{} is missing", build.graph.describe(*unit)),
                MissReason::NothingKept => "nobody has built it from these inputs".to_owned(),
            };
            ("missing", Some(why))
        }
    }
}
