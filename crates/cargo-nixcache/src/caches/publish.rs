//! Publishing: what the local store holds of a build goes to the caches, while the build goes on. It never fails a
//! build.
//!
//! Records go as they come. A set follows when all of its units are there, and before it what can be installed of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use nixcache_core::artifact::UnitArtifact;
use nixcache_core::digest::Key;
use nixcache_core::exchange::{MOST_REFERENCES, Output, OutputPath, SetManifest, SetUnit, outputs, pack, store_path};
use nixcache_core::session::trie::{self, Node};
use nixcache_core::session::{KeptUnit, Ledger, Lookup as _, Resolution, UnitState};
use nixcache_core::store::{Lease, LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;
use nixcache_remote::{NewPath, PublishReport, Publishing, Remote};

use super::sets::BuildSet;
use crate::lookup::StoreLookup;
use crate::report::{Report, chain};
use crate::workspace::PlannedBuild;

/// Publishes the records of one build.
pub(crate) struct Publisher<'a> {
    build: &'a PlannedBuild,
    report: Report,
    /// Units that are not published.
    left_out: &'a BTreeSet<UnitIndex>,
    lease: Arc<Lease>,
    publishing: Publishing<'a>,
    /// The records of the units that were offered: from the artifact to the names that are looked up first.
    offered: BTreeMap<UnitIndex, Vec<Key>>,
    /// The sets that are complete, by their places, and whether others can refer to them: some can't be offered.
    sets: BTreeMap<usize, bool>,
}

impl<'a> Publisher<'a> {
    /// A publisher for `build`. The sources are read, as sets are named by them.
    pub(crate) fn new(
        build: &'a PlannedBuild,
        store: &LocalStore,
        remote: &'a Remote,
        left_out: &'a BTreeSet<UnitIndex>,
        report: Report,
    ) -> Result<Self, StoreError> {
        let lease = Arc::new(store.lease()?);
        build.sets();
        let (offered, sets) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { build, report, left_out, lease, publishing: remote.publishing(), offered, sets })
    }

    /// Offers units that were kept, and the sets that are complete with them.
    pub(crate) fn offer(&mut self, kept: &[KeptUnit]) {
        for unit in kept {
            self.offer_unit(unit.unit, &unit.records);
        }
        if !kept.is_empty() {
            self.offer_sets();
        }
    }

    /// Offers everything that the store holds of the units that are settled.
    pub(crate) fn offer_settled(
        &mut self,
        resolution: &Resolution,
        ledger: &Ledger,
        lookup: &StoreLookup<'_>,
    ) -> Result<(), StoreError> {
        for (unit, state) in resolution.iter() {
            let (key, artifact) = match state {
                UnitState::InPlace(in_place) if in_place.kept => {
                    let Some(entry) = ledger.get(&in_place.place) else { continue };
                    let (Some(key), Some(artifact)) = (entry.unit, entry.artifact) else { continue };
                    (key, artifact)
                }
                UnitState::Restore(restorable) => (restorable.unit, restorable.artifact_key),
                _ => continue,
            };
            let records = trie::records(key, artifact, |key| lookup.node(key), |input| lookup.value(unit, input))?;
            if let Some(records) = records {
                self.offer_unit(unit, &records);
            }
        }
        self.offer_sets();
        Ok(())
    }

    /// Waits for what a build has left to publish: not long for a cache that has taken nothing yet.
    pub(crate) fn finish_build(self) -> PublishReport {
        self.publishing.build_ended();
        self.finish()
    }

    /// Waits until everything is there.
    pub(crate) fn finish(self) -> PublishReport {
        self.publishing.finish()
    }

    /// Offers the records of a unit, in the order in which they are to appear.
    fn offer_unit(&mut self, unit: UnitIndex, records: &[Key]) {
        if self.left_out.contains(&unit) {
            return;
        }
        let package = self.build.graph.package(self.build.graph.unit(unit));
        for key in records {
            let path = store_path(key, &package.name, &package.version);
            let (lease, key) = (Arc::clone(&self.lease), *key);
            let pack = Box::new(move |nar: &mut dyn Write| pack(&lease, &key, nar).map_err(io::Error::other));
            self.publishing.offer(NewPath { path, references: BTreeSet::new(), by_content: false, pack });
        }
        self.offered.insert(unit, records.to_vec());
    }

    /// Offers the sets that are complete now. A set comes after those that it refers to.
    fn offer_sets(&mut self) {
        for (index, set) in self.build.sets().iter().enumerate() {
            let is_complete = !self.sets.contains_key(&index)
                && set.planned.units.iter().all(|unit| self.offered.contains_key(unit))
                && set.planned.references.iter().all(|set| self.sets.contains_key(set));
            if is_complete {
                let is_offered = self.offer_set(set);
                self.sets.insert(index, is_offered);
            }
        }
    }

    /// Returns whether it can be referred to.
    fn offer_set(&mut self, set: &BuildSet) -> bool {
        let (Some(key), Some(path)) = (set.planned.key, set.path.clone()) else { return false };
        let unit = |index: &UnitIndex| {
            let package = self.build.graph.package(self.build.graph.unit(*index));
            SetUnit {
                package: package.name.clone(),
                version: package.version.clone(),
                inputs: self.build.inputs[index.0 as usize].key,
                records: self.offered[index].iter().rev().copied().collect(),
            }
        };
        let there = set.planned.references.iter().filter(|set| self.sets.get(set) == Some(&true));
        let sets = there.filter_map(|set| self.build.sets()[*set].path.clone());
        let mut manifest = SetManifest {
            key,
            label: set.label(),
            sets: sets.collect(),
            outputs: BTreeSet::new(),
            units: set.planned.units.iter().map(unit).collect(),
        };
        for (output, at) in self.outputs(set) {
            let lease = Arc::clone(&self.lease);
            let path = at.path.clone();
            let pack = Box::new(move |nar: &mut dyn Write| output.write(&lease, nar).map_err(io::Error::other));
            self.publishing.offer(NewPath { path, references: BTreeSet::new(), by_content: true, pack });
            manifest.outputs.insert(at);
        }
        let references = manifest.references();
        if references.len() > MOST_REFERENCES {
            let text = format!("{}: it refers to {} paths, which is too many", manifest.label, references.len());
            self.report.detail("Not published", &text);
            return false;
        }
        let pack = Box::new(move |nar: &mut dyn Write| manifest.write(nar).map_err(io::Error::other));
        self.publishing.offer(NewPath { path, references, by_content: false, pack });
        true
    }

    /// What can be installed of a set, and where it is.
    fn outputs(&self, set: &BuildSet) -> Vec<(Output, OutputPath)> {
        let artifact = |unit| artifact(&self.lease, *self.offered.get(&unit)?.first()?);
        let outputs = outputs(&self.build.graph, &set.planned, artifact).unwrap_or_default();
        let with_path = |output: Output| match output.path(&self.lease) {
            Ok(Some(path)) => Some((output, path)),
            Ok(None) => {
                self.report.detail("Not published", &format!("the output {}: it names store paths", output.name));
                None
            }
            Err(error) => {
                self.report.detail("Not published", &format!("the output {}: {}", output.name, chain(&error)));
                None
            }
        };
        outputs.into_iter().filter_map(with_path).collect()
    }
}

/// An artifact of the store.
pub(crate) fn artifact(lease: &Lease, key: Key) -> Option<UnitArtifact> {
    let node = lease.get_node(&key).ok().flatten()?;
    match serde_json::from_slice(&node.payload).ok()? {
        Node::Artifact(artifact) => Some(*artifact),
        Node::Names(_) => None,
    }
}
