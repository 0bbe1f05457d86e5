//! The unit key: a unit's inputs, pinned to the exact outputs of its dependencies.

use std::collections::BTreeSet;

use crate::digest::{ContentDigest, Key, KeyHasher};

use super::graph::{CompileMode, CrateType, PlannedPackage, PlannedUnit, TargetKind, UnitGraph, UnitIndex};
use super::inputs::UnitInputs;

const DOMAIN: &str = "unit-key/2";

/// The domain of plan keys.
const PLAN_DOMAIN: &str = "plan-key/1";

/// What is known of a dependency once it has been found or built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The key under which its artifact was found, dynamic inputs included.
    pub artifact: Key,
    /// The digest of what it produced.
    pub output: ContentDigest,
}

/// The key of the unit with the given inputs and dependencies; `pin` gives what is known of each.
///
/// Libraries and build-script runs are pinned by output: a dependent was compiled against those bytes and no
/// others. Programs that are only run (build scripts, and the binaries that integration tests start) are
/// pinned by key: which linker made them does not matter to what they are built from. A unit that is linked
/// is also pinned to the keys of all the runs below it: native libraries that they found reach the linker past
/// the outputs of everything between. A run can be told by another where a third left its files, and a macro reads what
/// the runs below it left while it expands: who follows is pinned to the outputs of those, too.
///
/// `None` if the outputs of a dependency are unknown: then the unit can only be missed.
pub fn unit_key(
    graph: &UnitGraph,
    inputs: &UnitInputs,
    unit: UnitIndex,
    pin: impl Fn(UnitIndex) -> Option<Pin>,
) -> Option<Key> {
    let mut hasher = KeyHasher::new(DOMAIN);
    hasher.field("inputs", inputs.key.as_bytes());
    // The order of edges comes from package ids, which hold paths of this machine: sort by what is hashed.
    let mut edges = Vec::new();
    for edge in &graph.unit(unit).dependencies {
        let known = pin(edge.unit)?;
        let dependency = graph.unit(edge.unit);
        let runs = matches!(dependency.target.kind, TargetKind::CustomBuild | TargetKind::Bin)
            && dependency.mode != CompileMode::RunCustomBuild;
        let pinned = if runs { *known.artifact.as_bytes() } else { *known.output.as_bytes() };
        edges.push((edge.extern_crate_name.as_str(), runs, pinned));
    }
    edges.sort_unstable();
    for (name, runs, pinned) in edges {
        hasher.field("name", name).field(if runs { "program" } else { "output" }, pinned);
    }
    let mut told: BTreeSet<UnitIndex> = inputs.macro_runs.iter().copied().collect();
    if graph.unit(unit).mode == CompileMode::RunCustomBuild {
        told.extend(runs_told_of(graph, unit));
    }
    let mut outputs = Vec::with_capacity(told.len());
    for run in told {
        outputs.push(*pin(run)?.output.as_bytes());
    }
    outputs.sort_unstable();
    hasher.list("runs told of", outputs);
    if is_linked(graph.unit(unit)) {
        let mut runs = Vec::new();
        for run in runs_below(graph, unit) {
            runs.push(*pin(run)?.artifact.as_bytes());
        }
        runs.sort_unstable();
        hasher.list("linked runs", runs);
    }
    Some(hasher.key())
}

/// The plan key of every unit: its inputs and those of all units below it, with no output in it. So it is known before
/// anything was built or found, which a unit key isn't.
///
/// It names sets of records and nothing else. It is too weak for more: what a unit reads while it is compiled is not
/// in it. `sources` gives a digest of the files of a package whose files no checksum names; `None` (they can't be
/// read) leaves its units, and all above them, without a key.
pub fn plan_keys(
    graph: &UnitGraph,
    inputs: &[UnitInputs],
    sources: impl Fn(&PlannedPackage) -> Option<ContentDigest>,
) -> Vec<Option<Key>> {
    let sources: Vec<_> = graph.packages.iter().map(|package| package.is_path().then(|| sources(package))).collect();
    let mut keys: Vec<Option<Key>> = Vec::with_capacity(graph.units.len());
    for (index, unit) in graph.iter() {
        let key = || {
            let mut hasher = KeyHasher::new(PLAN_DOMAIN);
            hasher.field("inputs", inputs[index.0 as usize].key.as_bytes());
            let sources = match sources[unit.package.0 as usize] {
                Some(sources) => Some(sources?),
                None => None,
            };
            hasher.optional("sources", sources.map(|sources| *sources.as_bytes()));
            let mut edges = Vec::new();
            for edge in &unit.dependencies {
                edges.push((edge.extern_crate_name.as_str(), keys[edge.unit.0 as usize]?));
            }
            // Their order in the graph comes from package ids, which hold paths of this machine.
            edges.sort_unstable();
            for (name, key) in edges {
                hasher.field("name", name).field("dependency", key.as_bytes());
            }
            Some(hasher.key())
        };
        let key = key();
        keys.push(key);
    }
    keys
}

/// Whether a linker makes an output of the unit, or native libraries are copied into it.
fn is_linked(unit: &PlannedUnit) -> bool {
    matches!(unit.mode, CompileMode::Build | CompileMode::Test)
        && (unit.mode == CompileMode::Test
            || unit.target.crate_types.iter().any(|crate_type| !matches!(crate_type, CrateType::Lib | CrateType::Rlib)))
}

/// The runs whose `links` metadata can have reached a run, at any distance.
fn runs_told_of(graph: &UnitGraph, run: UnitIndex) -> BTreeSet<UnitIndex> {
    let (mut told, mut left) = (BTreeSet::new(), vec![run]);
    while let Some(run) = left.pop() {
        let edges = graph.unit(run).dependencies.iter().map(|edge| edge.unit);
        let runs = edges.filter(|unit| graph.unit(*unit).mode == CompileMode::RunCustomBuild);
        left.extend(runs.filter(|run| told.insert(*run)));
    }
    told
}

/// The runs of build scripts that a unit depends upon at any distance.
pub(super) fn runs_below(graph: &UnitGraph, unit: UnitIndex) -> BTreeSet<UnitIndex> {
    let mut seen = BTreeSet::new();
    let mut left = vec![unit];
    while let Some(unit) = left.pop() {
        for edge in &graph.unit(unit).dependencies {
            if seen.insert(edge.unit) {
                left.push(edge.unit);
            }
        }
    }
    seen.retain(|unit| graph.unit(*unit).mode == CompileMode::RunCustomBuild);
    seen
}
