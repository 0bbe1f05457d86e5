//! Resolve: which units of the plan are in place already, which the store can give, and which are left to
//! cargo.
//!
//! Units are named in dependency order, because a unit's key holds what its dependencies produced. A unit
//! whose dependency is left to cargo is left too: nothing is combined by hope.

use std::collections::BTreeMap;

use camino::Utf8Path;

use crate::artifact::UnitArtifact;
use crate::artifact::dynamic::{DynamicInput, InputValue};
use crate::cargo::layout::{CargoHash, FingerprintStem};
use crate::digest::{ContentDigest, Key};
use crate::unit::{CompileMode, Pin, UnitGraph, UnitIndex, UnitInputs, unit_key};

use super::ledger::{Ledger, LedgerEntry, UnitPlace};
use super::trie::{self, Node, Walk};

/// What becomes of one unit.
#[derive(Debug)]
pub enum UnitState {
    /// It is in the build directory, with the files and inputs that the ledger knows.
    InPlace(InPlace),
    /// The store has it.
    Restore(Box<Restorable>),
    /// Cargo decides.
    Left(Left),
}

/// A unit that is where it should be.
#[derive(Clone, Debug)]
pub struct InPlace {
    /// Where it lives.
    pub place: UnitPlace,
    /// Cargo's hash of the unit.
    pub hash: CargoHash,
    /// The name of its fingerprint files.
    pub stem: FingerprintStem,
    /// What dependents are pinned to.
    pub pin: Pin,
    /// Cargo's fingerprint of it.
    pub fingerprint: u64,
    /// Whether the store holds it.
    pub kept: bool,
    /// Whether its outputs carry the one old time.
    pub old_times: bool,
    /// The newest time of its outputs, in nanoseconds since 1970.
    pub newest: i64,
}

/// A unit that the store can give.
#[derive(Debug)]
pub struct Restorable {
    /// The inputs hash.
    pub inputs: Key,
    /// The unit key.
    pub unit: Key,
    /// The key of the artifact.
    pub artifact_key: Key,
    /// The artifact.
    pub artifact: Box<UnitArtifact>,
    /// The dynamic inputs that led to it, with their values here.
    pub dynamic: Vec<(DynamicInput, InputValue)>,
    /// The outputs of its dependencies.
    pub dependencies: Vec<ContentDigest>,
}

/// A unit that is left to cargo.
#[derive(Clone, Debug)]
pub struct Left {
    /// The unit key, where all dependencies are known.
    pub unit: Option<Key>,
    /// Why.
    pub reason: MissReason,
    /// The key under which nothing is kept here, and that a cache may know.
    pub wanted: Option<Key>,
    /// The places where a unit with these inputs was seen before, and must not be believed any more.
    pub stale: Vec<UnitPlace>,
}

/// Why a unit is not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissReason {
    /// Rustdoc's output is never kept.
    NotKept,
    /// The outputs of this dependency are not known before cargo has run.
    Dependency(UnitIndex),
    /// Nothing is kept under its key, or not with the present values of its dynamic inputs.
    NothingKept,
}

/// How every unit of the plan was resolved, in the plan's order.
#[derive(Debug)]
pub struct Resolution {
    /// One state a unit.
    pub units: Vec<UnitState>,
}

/// What resolve asks of the outside.
pub trait Lookup {
    /// Why a look-up failed (a failure is not a miss).
    type Error;
    /// The node under a key.
    fn node(&self, key: Key) -> Result<Option<Node>, Self::Error>;
    /// The present value of an input of a unit; `None` if it cannot be had.
    fn value(&self, unit: UnitIndex, input: &DynamicInput) -> Option<InputValue>;
    /// Values that are asked for from now on are those of now, whatever was found before.
    fn forget(&self);
}

impl UnitState {
    /// What dependents are pinned to, where it is known before cargo runs.
    pub fn pin(&self) -> Option<Pin> {
        match self {
            Self::InPlace(unit) => Some(unit.pin),
            Self::Restore(unit) => Some(Pin { artifact: unit.artifact_key, output: unit.artifact.output }),
            Self::Left(_) => None,
        }
    }
}

impl Resolution {
    /// The state of a unit.
    pub fn state(&self, unit: UnitIndex) -> &UnitState {
        &self.units[unit.0 as usize]
    }

    /// The units with their states.
    pub fn iter(&self) -> impl Iterator<Item = (UnitIndex, &UnitState)> {
        (0..).map(UnitIndex).zip(&self.units)
    }

    /// The places of the units that are settled.
    pub(super) fn places(&self) -> impl Iterator<Item = &UnitPlace> {
        self.units.iter().filter_map(|state| match state {
            UnitState::InPlace(unit) => Some(&unit.place),
            _ => None,
        })
    }

    /// Whether everything that is in place still is what the ledger says.
    pub fn is_intact(&self, ledger: &Ledger, build_directory: &Utf8Path) -> bool {
        self.places().all(|place| ledger.get(place).is_some_and(|entry| entry.is_intact(build_directory)))
    }

    /// Whether cargo has something to do, as far as we know.
    pub fn leaves_work(&self) -> bool {
        self.units.iter().any(|state| matches!(state, UnitState::Left(_)))
    }
}

/// Resolves all units of `graph`.
pub fn resolve<L: Lookup>(
    graph: &UnitGraph,
    inputs: &[UnitInputs],
    ledger: &Ledger,
    build_directory: &Utf8Path,
    lookup: &L,
) -> Result<Resolution, L::Error> {
    let known = KnownPlaces::of(ledger);
    let mut resolution = Resolution { units: Vec::with_capacity(graph.units.len()) };
    for (index, unit) in graph.iter() {
        let inputs = &inputs[index.0 as usize];
        let pins = |resolution: &Resolution, unit: UnitIndex| resolution.state(unit).pin();
        let key = unit_key(graph, inputs, index, |unit| pins(&resolution, unit));
        let state = match key {
            None => {
                let unknown = unit.dependencies.iter().find(|edge| pins(&resolution, edge.unit).is_none());
                let reason = unknown.map_or(MissReason::NothingKept, |edge| MissReason::Dependency(edge.unit));
                let stale = known.stale(None, inputs, index, build_directory, lookup);
                UnitState::Left(Left { unit: None, reason, wanted: None, stale })
            }
            Some(_) if unit.mode == CompileMode::Doc => {
                UnitState::Left(Left { unit: None, reason: MissReason::NotKept, wanted: None, stale: Vec::new() })
            }
            Some(key) => match known.in_place(key, index, build_directory, lookup) {
                Some(state) => state,
                None => match trie::look_up(key, |key| lookup.node(key), |input| lookup.value(index, input))? {
                    Walk::Found(found) => {
                        let dependencies =
                            unit.dependencies.iter().filter_map(|edge| Some(pins(&resolution, edge.unit)?.output));
                        UnitState::Restore(Box::new(Restorable {
                            inputs: inputs.key,
                            unit: key,
                            artifact_key: found.key,
                            artifact: found.artifact,
                            dynamic: found.values,
                            dependencies: dependencies.collect(),
                        }))
                    }
                    walk => {
                        let wanted = if let Walk::Missing(wanted) = walk { Some(wanted) } else { None };
                        let stale = known.stale(Some(key), inputs, index, build_directory, lookup);
                        UnitState::Left(Left { unit: Some(key), reason: MissReason::NothingKept, wanted, stale })
                    }
                },
            },
        };
        resolution.units.push(state);
    }
    Ok(resolution)
}

/// The ledger's entries by the keys that a plan can compute.
struct KnownPlaces<'a> {
    by_unit: BTreeMap<Key, (&'a UnitPlace, &'a LedgerEntry)>,
    by_inputs: BTreeMap<Key, Vec<(&'a UnitPlace, &'a LedgerEntry)>>,
}

impl<'a> KnownPlaces<'a> {
    fn of(ledger: &'a Ledger) -> Self {
        let mut by_unit = BTreeMap::new();
        let mut by_inputs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (place, entry) in ledger.iter() {
            if let Some(key) = entry.unit {
                by_unit.insert(key, (place, entry));
            }
            by_inputs.entry(entry.inputs).or_default().push((place, entry));
        }
        Self { by_unit, by_inputs }
    }

    fn in_place<L: Lookup>(
        &self,
        key: Key,
        unit: UnitIndex,
        build_directory: &Utf8Path,
        lookup: &L,
    ) -> Option<UnitState> {
        let (place, entry) = self.by_unit.get(&key)?;
        let pin = Pin { artifact: entry.artifact?, output: entry.output? };
        if !same_inputs(entry, unit, lookup) || !entry.is_intact(build_directory) {
            return None;
        }
        Some(UnitState::InPlace(InPlace {
            place: (*place).clone(),
            hash: entry.hash,
            stem: entry.stem.clone(),
            pin,
            fingerprint: entry.fingerprint,
            kept: entry.kept,
            old_times: entry.old_times,
            newest: entry.newest,
        }))
    }

    /// The places of a unit that cargo must judge, and would judge wrongly. Cargo judges by time and by what is in
    /// its fingerprints; where we know better (a source changed under an old time, a dependency was replaced by
    /// another build of itself), what lies in the build directory must be marked stale.
    fn stale<L: Lookup>(
        &self,
        key: Option<Key>,
        inputs: &UnitInputs,
        unit: UnitIndex,
        build_directory: &Utf8Path,
        lookup: &L,
    ) -> Vec<UnitPlace> {
        let mut stale = Vec::new();
        for (place, entry) in self.by_inputs.get(&inputs.key).into_iter().flatten() {
            let other_dependencies = key.is_some() && entry.unit.is_some() && key != entry.unit;
            if (other_dependencies || !same_inputs(entry, unit, lookup)) && entry.is_current(place, build_directory) {
                stale.push((*place).clone());
            }
        }
        stale
    }
}

fn same_inputs<L: Lookup>(entry: &LedgerEntry, unit: UnitIndex, lookup: &L) -> bool {
    let mut dynamic = entry.dynamic.iter().filter(|(input, _)| input.counts_in_place());
    dynamic.all(|(input, value)| lookup.value(unit, input).as_ref() == Some(value))
}
