//! Looking: what caches have for a build that isn't done (`plan`, `why`, `--dry-run`).
//!
//! It goes the way that fetching goes, into a store that is thrown away, and fetches only what is small: sets, names,
//! and the records of runs. Of an artifact it is enough to know that a cache has it, signed by somebody trusted. What
//! depends on such an artifact can be named by a set alone, so without sets fewer units are found than a build would
//! fetch.

use std::collections::{BTreeMap, BTreeSet};

use nixcache_core::digest::Key;
use nixcache_core::nix::StorePath;
use nixcache_core::session::trie::Node;
use nixcache_core::session::{Ledger, resolve};
use nixcache_core::store::{Lease, LocalStore, StoreError, StoreOptions};
use nixcache_core::unit::UnitIndex;
use nixcache_remote::Remote;

use super::fetch::Fetch;
use super::hints::Wish;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::report::Report;
use crate::workspace::PlannedBuild;

/// Names are smaller than this. Artifacts that are smaller too cost nothing to fetch.
const SMALL: u64 = 256 * 1024;

/// The units of a build that a cache has, with the cache as it is shown.
pub(crate) type Seen = BTreeMap<UnitIndex, String>;

/// Asks the caches what they have of the units that the store lacks. Caches that fail have nothing.
pub(crate) fn look(
    build: &PlannedBuild,
    remote: &Remote,
    lease: &Lease,
    ledger: &Ledger,
    report: &Report,
    left_out: &BTreeSet<UnitIndex>,
) -> Result<Seen, StoreError> {
    let Ok(directory) = tempfile::tempdir() else { return Ok(Seen::new()) };
    let Some(path) = camino::Utf8Path::from_path(directory.path()) else { return Ok(Seen::new()) };
    let store = LocalStore::open(path, StoreOptions::default())?;
    let lookup = StoreLookup::new(build, LeaseSource::Either(lease, &store));
    let fetch = Fetch { build, store: &store, remote, ledger, lookup: &lookup, report, left_out };
    let again = resolve(&build.graph, &build.inputs, ledger, build.build_directory(), &lookup)?;
    let mut looking = Looking::default();
    fetch.run_with(again, Some(&mut looking))?;
    Ok(looking.seen)
}

/// What was seen on the way.
#[derive(Default)]
pub(super) struct Looking {
    seen: Seen,
    /// Of which unit something small is fetched, and from where.
    under_way: BTreeMap<Key, (UnitIndex, String)>,
}

impl Looking {
    /// Those of `wishes` that are fetched. What is large is an artifact, and seen.
    pub(super) fn small_ones(
        &mut self,
        remote: &Remote,
        wishes: Vec<Wish>,
        path: impl Fn(&Wish) -> StorePath,
    ) -> Vec<Wish> {
        let paths: Vec<StorePath> = wishes.iter().map(path).collect();
        let mut small = Vec::new();
        for ((unit, key), found) in wishes.into_iter().zip(remote.look_up(&paths)) {
            let Ok(Some(found)) = found else { continue };
            if found.narinfo.nar_size < SMALL {
                self.under_way.insert(key, (unit, found.cache));
                small.push((unit, key));
            } else {
                self.seen.insert(unit, found.cache);
            }
        }
        small
    }

    /// Something small has come: an artifact is seen, names lead on.
    pub(super) fn came(&mut self, key: Key, node: &Node) {
        if let (Node::Artifact(_), Some((unit, cache))) = (node, self.under_way.remove(&key)) {
            self.seen.insert(unit, cache);
        }
    }
}
