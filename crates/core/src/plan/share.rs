//! The second pass over the graph: without `--target`, units for the host and for the target that are alike in all
//! that they depend on become one; and what depends on the whole graph (stripping, the debug information of host
//! tools) is settled. The rules are those of cargo's `ops/cargo_compile/mod.rs` (0.96).

use std::collections::{HashMap, HashSet};

use super::platform::Kind;
use super::profiles::Strip;
use super::units::{Interner, Mode, Unit, UnitEdge, UnitEdges, UnitId};
use super::workspace::Workspace;
use crate::cargo::profile::DebugInformation;

/// Shares units. Returns the new roots and the new graph.
pub(super) fn share<'m>(
    interner: &mut Interner<'m>,
    edges: &UnitEdges<'m>,
    roots: &[UnitId],
    to_host: Option<Kind>,
) -> (Vec<UnitId>, UnitEdges<'m>) {
    let mut sharing = Sharing { interner, edges, to_host, known: HashMap::new(), shared: UnitEdges::new() };
    let roots = roots.iter().map(|root| sharing.share(*root, false)).collect();
    (roots, sharing.shared)
}

struct Sharing<'s, 'm> {
    interner: &'s mut Interner<'m>,
    edges: &'s UnitEdges<'m>,
    to_host: Option<Kind>,
    known: HashMap<UnitId, UnitId>,
    shared: UnitEdges<'m>,
}

impl<'m> Sharing<'_, 'm> {
    fn share(&mut self, id: UnitId, for_host: bool) -> UnitId {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let edges: &[UnitEdge<'m>] = &self.edges[&id];
        let dependencies: Vec<UnitEdge<'m>> = edges
            .iter()
            .map(|edge| UnitEdge { unit: self.share(edge.unit, edge.unit_for.host), ..edge.clone() })
            .collect();
        let unit = self.interner.get(id);
        let mut profile = unit.profile.clone();
        let debug_of = |unit: UnitId| self.interner.get(unit).profile.debug;
        if profile.strip_deferred
            && profile.debug == DebugInformation::None
            && dependencies.iter().all(|edge| debug_of(edge.unit) == DebugInformation::None)
        {
            // The debug information of the standard library would be all that is left.
            (profile.strip, profile.strip_deferred) = (Strip::Named("debuginfo".to_owned()), false);
        }
        if let Some(target) = self.to_host
            && for_host
            && profile.debug_deferred
        {
            let twin = Unit { profile: profile.clone(), kind: target, ..(*unit).clone() };
            let is_shared = self.interner.find(&twin).is_some_and(|twin| self.edges.contains_key(&twin));
            if !is_shared {
                profile.debug = DebugInformation::None;
            }
            profile.debug_deferred = false;
        }
        let kind = if self.to_host == Some(unit.kind) { Kind::Host } else { unit.kind };
        let dependencies_id = self.interner.dependencies_id(dependencies.iter().map(|edge| edge.unit).collect());
        let shared = self.interner.intern(Unit { profile, kind, dependencies_id, ..(*unit).clone() });
        self.known.insert(id, shared);
        self.shared.entry(shared).or_insert(dependencies);
        shared
    }
}

/// rustdoc writes each crate to a directory of its name, so cargo documents one crate of a name where it can.
pub(super) fn remove_duplicate_documentation<'m>(
    interner: &Interner<'m>,
    workspace: &Workspace<'m>,
    edges: &mut UnitEdges<'m>,
    roots: &[UnitId],
    for_host_alone: bool,
) {
    let mut by_name: HashMap<String, Vec<UnitId>> = HashMap::new();
    for id in edges.keys() {
        let unit = interner.get(*id);
        if unit.mode == Mode::Doc {
            by_name.entry(unit.target(workspace).data.name.replace('-', "_")).or_default().push(*id);
        }
    }
    let mut removed = HashSet::new();
    for (_, mut units) in by_name {
        if units.len() == 1 {
            continue;
        }
        let mut remove = |units: Vec<UnitId>, is_duplicate: &dyn Fn(&Unit<'m>) -> bool| -> Vec<UnitId> {
            let (gone, left): (Vec<_>, Vec<_>) =
                units.into_iter().partition(|id| is_duplicate(&interner.get(*id)) && !roots.contains(id));
            removed.extend(gone);
            left
        };
        if for_host_alone {
            units = remove(units, &|unit| unit.kind == Kind::Host);
            if units.len() == 1 {
                continue;
            }
        }
        let mut by_source: HashMap<(&str, Option<&str>, Kind), Vec<UnitId>> = HashMap::new();
        for id in units {
            let unit = interner.get(id);
            let package = &workspace.packages[unit.package];
            // Path packages have no source in the metadata: their directories are their sources.
            let source =
                package.data.source.as_ref().map_or(package.data.manifest_path.as_str(), |source| &source.repr);
            by_source.entry((&package.data.name, Some(source), unit.kind)).or_default().push(id);
        }
        for (_, units) in by_source {
            let version = |id: &UnitId| &workspace.packages[interner.get(*id).package].version;
            if let Some(newest) = units.iter().map(version).max() {
                remove(units, &|unit| workspace.packages[unit.package].version < *newest);
            }
        }
    }
    for list in edges.values_mut() {
        list.retain(|edge| !removed.contains(&edge.unit));
    }
    let mut reached = HashSet::new();
    let mut stack: Vec<UnitId> = roots.to_vec();
    while let Some(id) = stack.pop() {
        if reached.insert(id) {
            stack.extend(edges[&id].iter().map(|edge| edge.unit));
        }
    }
    edges.retain(|id, _| reached.contains(id));
}
