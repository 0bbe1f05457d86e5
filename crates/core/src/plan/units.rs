//! Units while they are planned: interned, so that two requests for the same thing are one unit.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::platform::Kind;
use super::profiles::{Profile, UnitFor, profile_order};
use super::workspace::{TargetNode, Workspace};

/// A unit's number. Equal numbers are equal units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UnitId(pub(super) u32);

/// Cargo's compile modes, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Mode {
    Test,
    Build,
    Check { test: bool },
    Doc,
    Doctest,
    RunBuildScript,
}

impl Mode {
    pub(super) fn is_check(self) -> bool {
        matches!(self, Self::Check { .. })
    }

    /// Whether the unit sees dev-dependencies.
    pub(super) fn is_any_test(self) -> bool {
        matches!(self, Self::Test | Self::Doctest | Self::Check { test: true })
    }
}

/// A set of features, shared by the units that have it.
pub(super) type FeatureSet<'m> = Rc<BTreeSet<&'m str>>;

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unit<'m> {
    pub(super) package: usize,
    pub(super) target: usize,
    pub(super) profile: Profile,
    pub(super) kind: Kind,
    pub(super) mode: Mode,
    pub(super) features: FeatureSet<'m>,
    /// Tells units apart that are equal but for their dependencies. 0 until the graph is shared.
    pub(super) dependencies_id: u32,
}

impl<'m> Unit<'m> {
    pub(super) fn target<'w>(&self, workspace: &'w Workspace<'m>) -> &'w TargetNode<'m> {
        &workspace.packages[self.package].targets[self.target]
    }
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnitEdge<'m> {
    pub(super) unit: UnitId,
    pub(super) unit_for: UnitFor,
    pub(super) extern_name: std::borrow::Cow<'m, str>,
}

/// The edges of every unit, by unit.
pub(super) type UnitEdges<'m> = HashMap<UnitId, Vec<UnitEdge<'m>>>;

/// Every unit that was ever asked for. The first that asks for a unit decides what does not count for equality:
/// whether a profile's value is only a default.
#[derive(Default)]
pub(super) struct Interner<'m> {
    units: Vec<Rc<Unit<'m>>>,
    index: HashMap<Rc<Unit<'m>>, UnitId>,
    dependencies: HashMap<Vec<UnitId>, u32>,
}

impl<'m> Interner<'m> {
    pub(super) fn intern(&mut self, unit: Unit<'m>) -> UnitId {
        if let Some(id) = self.index.get(&unit) {
            return *id;
        }
        let id = UnitId(u32::try_from(self.units.len()).expect("fewer units than 2^32"));
        let unit = Rc::new(unit);
        self.units.push(Rc::clone(&unit));
        self.index.insert(unit, id);
        id
    }

    pub(super) fn find(&self, unit: &Unit<'m>) -> Option<UnitId> {
        self.index.get(unit).copied()
    }

    pub(super) fn get(&self, id: UnitId) -> Rc<Unit<'m>> {
        Rc::clone(&self.units[id.0 as usize])
    }

    /// A number for a list of dependencies; never 0.
    pub(super) fn dependencies_id(&mut self, dependencies: Vec<UnitId>) -> u32 {
        let next = u32::try_from(self.dependencies.len()).expect("fewer lists than 2^32") + 1;
        *self.dependencies.entry(dependencies).or_insert(next)
    }

    /// Cargo's order of units.
    pub(super) fn compare(&self, workspace: &Workspace<'m>, a: UnitId, b: UnitId) -> Ordering {
        if a == b {
            return Ordering::Equal;
        }
        let (a, b) = (&self.units[a.0 as usize], &self.units[b.0 as usize]);
        let rank = |unit: &Unit<'m>| unit.target(workspace).rank;
        a.package
            .cmp(&b.package)
            .then_with(|| rank(a).cmp(&rank(b)))
            .then_with(|| profile_order(&a.profile, &b.profile))
            .then_with(|| a.kind.cmp(&b.kind))
            .then_with(|| a.mode.cmp(&b.mode))
            .then_with(|| a.features.cmp(&b.features))
            .then_with(|| a.dependencies_id.cmp(&b.dependencies_id))
    }
}
