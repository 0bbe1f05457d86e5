//! The store and this machine, as resolve and collect ask for them.

use std::collections::BTreeMap;

use nixcache_core::artifact::dynamic::{DynamicInput, Evaluator, HostFacts, InputValue};
use nixcache_core::digest::Key;
use nixcache_core::session::Lookup;
use nixcache_core::session::trie::Node;
use nixcache_core::store::{Lease, LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;

use crate::workspace::PlannedBuild;

/// Looks things up for one build.
pub(crate) struct StoreLookup<'a> {
    lease: LeaseSource<'a>,
    evaluator: Evaluator,
    environments: Vec<BTreeMap<String, String>>,
}

/// Where leases come from: one for the whole of resolve and restore, a new one for each look while cargo runs.
pub(crate) enum LeaseSource<'a> {
    /// A lease that is held.
    Held(&'a Lease),
    /// The store.
    Store(&'a LocalStore),
    /// One that is held, and then a store.
    Either(&'a Lease, &'a LocalStore),
}

impl<'a> StoreLookup<'a> {
    /// A look-up for `build`.
    pub(crate) fn new(build: &PlannedBuild, lease: LeaseSource<'a>) -> Self {
        let rustc = build.toolchain.sysroot.join("bin").join(format!("rustc{}", std::env::consts::EXE_SUFFIX));
        let host = HostFacts::discover(Some(&rustc));
        let evaluator = Evaluator::new(&build.environment, &build.config.variables, &build.roots, host)
            .with_packages(build.own_packages.clone());
        let environments =
            (0..build.graph.units.len() as u32).map(|index| build.unit_environment(UnitIndex(index))).collect();
        Self { lease, evaluator, environments }
    }
}

impl Lookup for StoreLookup<'_> {
    type Error = StoreError;

    fn node(&self, key: Key) -> Result<Option<Node>, StoreError> {
        match self.lease {
            LeaseSource::Held(lease) => node_of(lease, key),
            LeaseSource::Store(store) => node_of(&store.lease()?, key),
            LeaseSource::Either(lease, store) => match node_of(lease, key)? {
                Some(node) => Ok(Some(node)),
                None => node_of(&store.lease()?, key),
            },
        }
    }

    fn value(&self, unit: UnitIndex, input: &DynamicInput) -> Option<InputValue> {
        // What cannot be compared is a miss.
        self.evaluator.value(input, &self.environments[unit.0 as usize]).ok()
    }

    fn forget(&self) {
        self.evaluator.forget();
    }
}

fn node_of(lease: &Lease, key: Key) -> Result<Option<Node>, StoreError> {
    match lease.get_node(&key) {
        // A record that is not understood is a miss: it will be written again.
        Ok(node) => Ok(node.and_then(|node| serde_json::from_slice(&node.payload).ok())),
        Err(error) if error.is_miss() => Ok(None),
        Err(error) => Err(error),
    }
}
