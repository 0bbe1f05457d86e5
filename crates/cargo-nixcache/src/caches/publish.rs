//! Publishing: what the local store holds of a build goes to the caches, while the build goes on. It never fails a
//! build.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use nixcache_core::digest::Key;
use nixcache_core::exchange::{pack, store_path};
use nixcache_core::session::trie;
use nixcache_core::session::{Ledger, Lookup as _, Resolution, UnitState};
use nixcache_core::store::{Lease, LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;
use nixcache_remote::{NewPath, PublishReport, Publishing, Remote};

use crate::lookup::StoreLookup;
use crate::workspace::PlannedBuild;

/// Publishes the records of one build.
pub(crate) struct Publisher<'a> {
    build: &'a PlannedBuild,
    lease: Arc<Lease>,
    publishing: Publishing<'a>,
    offered: BTreeSet<Key>,
}

impl<'a> Publisher<'a> {
    /// A publisher for `build`.
    pub(crate) fn new(build: &'a PlannedBuild, store: &LocalStore, remote: &'a Remote) -> Result<Self, StoreError> {
        let lease = Arc::new(store.lease()?);
        Ok(Self { build, lease, publishing: remote.publishing(), offered: BTreeSet::new() })
    }

    /// Offers the records of a unit, in the order in which they are to appear.
    pub(crate) fn offer(&mut self, unit: UnitIndex, records: &[Key]) {
        let package = self.build.graph.package(self.build.graph.unit(unit));
        for key in records {
            if self.offered.insert(*key) {
                let path = store_path(key, &package.name, &package.version);
                let (lease, key) = (Arc::clone(&self.lease), *key);
                let pack = Box::new(move |nar: &mut dyn Write| pack(&lease, &key, nar).map_err(std::io::Error::other));
                self.publishing.offer(NewPath { path, references: BTreeSet::new(), pack });
            }
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
                self.offer(unit, &records);
            }
        }
        Ok(())
    }

    /// Waits until everything is there.
    pub(crate) fn finish(self) -> PublishReport {
        self.publishing.finish()
    }
}
