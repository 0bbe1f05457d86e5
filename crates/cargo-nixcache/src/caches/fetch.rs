//! Fetching: what the local store lacks is asked of the caches, many records at once, while every answer lets resolve
//! name more of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use nixcache_core::digest::Key;
use nixcache_core::exchange::{Unpacked, store_path, unpack};
use nixcache_core::session::{Ledger, Resolution, UnitState, resolve};
use nixcache_core::store::{Lease, LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;
use nixcache_remote::{Outcome, Remote};

use crate::lookup::StoreLookup;
use crate::report::{Report, bytes, chain};
use crate::workspace::PlannedBuild;

/// What came from caches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fetched {
    /// How many records.
    pub(crate) records: u64,
    /// How many bytes went over the wire.
    pub(crate) bytes: u64,
}

/// What a fetch needs to know of the build.
pub(crate) struct Fetch<'a> {
    pub(crate) build: &'a PlannedBuild,
    pub(crate) store: &'a LocalStore,
    pub(crate) remote: &'a Remote,
    pub(crate) ledger: &'a Ledger,
    pub(crate) lookup: &'a StoreLookup<'a>,
    pub(crate) report: &'a Report,
}

impl Fetch<'_> {
    /// Asks the caches for everything that `resolution` lacks, and resolves again with what came. Caches that fail are
    /// no error: what they would have given is built.
    pub(crate) fn run(&self, mut resolution: Resolution) -> Result<(Resolution, Fetched), StoreError> {
        let lease = Arc::new(self.store.lease()?);
        let mut fetched = Fetched::default();
        if !lease.is_writable() {
            return Ok((resolution, fetched));
        }
        // A wanted record is known to the remote by its place in this list.
        let keys: Arc<Mutex<Vec<Key>>> = Arc::default();
        let mut fetching = self.remote.fetching({
            let (lease, keys) = (Arc::clone(&lease), Arc::clone(&keys));
            move |path, nar| unpack(&lease, &nth(&keys, path.tag), nar).map_err(Into::into)
        });
        let mut asked = BTreeSet::new();
        let spinner = self.report.spinner("Fetching");
        loop {
            for (unit, key) in wanted(&resolution) {
                if asked.insert(key) {
                    let package = self.build.graph.package(self.build.graph.unit(unit));
                    fetching.want(push(&keys, key), store_path(&key, &package.name, &package.version));
                }
            }
            let Some(first) = fetching.next() else { break };
            let mut more = false;
            let mut answer = Some(first);
            while let Some((tag, outcome)) = answer {
                more |= self.take(&lease, nth(&keys, tag), outcome, &mut fetched)?;
                answer = fetching.try_next();
            }
            spinner.say(&format!("{} records, {}", fetched.records, bytes(fetched.bytes)));
            if more {
                let Self { build, ledger, lookup, .. } = self;
                resolution = resolve(&build.graph, &build.inputs, ledger, build.build_directory(), *lookup)?;
            }
        }
        Ok((resolution, fetched))
    }

    /// Keeps what came. Returns whether there is something new.
    fn take(
        &self,
        lease: &Lease,
        key: Key,
        outcome: Outcome<Unpacked>,
        fetched: &mut Fetched,
    ) -> Result<bool, StoreError> {
        match outcome {
            Outcome::Fetched { value, bytes, .. } => {
                value.keep(lease)?;
                fetched.records += 1;
                fetched.bytes += bytes;
                Ok(true)
            }
            Outcome::Missing => Ok(false),
            Outcome::Failed(error) => {
                self.report.detail("Not fetched", &format!("{key}: {}", chain(&error)));
                Ok(false)
            }
        }
    }
}

fn push(keys: &Mutex<Vec<Key>>, key: Key) -> u64 {
    let mut keys = keys.lock().expect("no thread panics while it holds the list");
    keys.push(key);
    keys.len() as u64 - 1
}

fn nth(keys: &Mutex<Vec<Key>>, tag: u64) -> Key {
    keys.lock().expect("no thread panics while it holds the list")[tag as usize]
}

/// The records that resolve has no answer for.
fn wanted(resolution: &Resolution) -> impl Iterator<Item = (UnitIndex, Key)> {
    resolution.iter().filter_map(|(unit, state)| match state {
        UnitState::Left(left) => Some((unit, left.wanted?)),
        _ => None,
    })
}
