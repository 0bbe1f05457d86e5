//! Fetching: what the local store lacks for a build comes from the caches.
//!
//! A unit can only be named when the outputs of its dependencies are known. The sets of the plan name records of all
//! units at once, so they are asked for first, together with what resolve wants already. What no set names comes level
//! by level: what arrives lets resolve name more units, and these are asked for while the rest is still on its way.
//!
//! Which records a build uses is decided by resolve alone, whatever led to their being fetched.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use nixcache_core::digest::Key;
use nixcache_core::exchange::{SetManifest, Unpacked, store_path, unpack};
use nixcache_core::nix::StorePath;
use nixcache_core::session::{Ledger, Lookup as _, Resolution, UnitState, resolve};
use nixcache_core::store::{Lease, LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;
use nixcache_remote::{FetchError, Fetching, Outcome, Remote};

use super::hints::{Hints, Wish};
use super::look::Looking;
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
    /// Units that nothing is fetched for.
    pub(crate) left_out: &'a BTreeSet<UnitIndex>,
}

/// What a path was asked for as.
#[derive(Clone, Copy)]
enum Item {
    /// A record of the store.
    Record(Key),
    /// A set.
    Set(Key),
}

/// What came of it.
enum Arrived {
    Record(Unpacked),
    Set(SetManifest),
}

/// What is under way.
struct Run<'a> {
    fetch: &'a Fetch<'a>,
    lease: Arc<Lease>,
    fetching: Fetching<'a, Arrived>,
    /// What was asked for: the remote knows it by its place in this list.
    items: Arc<Mutex<Vec<Item>>>,
    /// By path: a set can name a record as that of another unit, and then the path is another one.
    asked: BTreeSet<StorePath>,
    hints: Hints,
    /// What is under way because of a set, or is one.
    hinted: BTreeSet<u64>,
    fetched: Fetched,
    /// Set where artifacts are looked for and not fetched.
    looking: Option<&'a mut Looking>,
}

impl Fetch<'_> {
    /// Asks the caches for everything that `resolution` lacks, and resolves again with what came. Caches that fail are
    /// no error: what they would have given is built.
    pub(crate) fn run(&self, resolution: Resolution) -> Result<(Resolution, Fetched), StoreError> {
        self.run_with(resolution, None)
    }

    /// The same; with `looking`, only what is small is fetched.
    pub(super) fn run_with(
        &self,
        mut resolution: Resolution,
        looking: Option<&mut Looking>,
    ) -> Result<(Resolution, Fetched), StoreError> {
        let lease = Arc::new(self.store.lease()?);
        if !lease.is_writable() {
            return Ok((resolution, Fetched::default()));
        }
        let Self { build, ledger, lookup, .. } = self;
        let items: Arc<Mutex<Vec<Item>>> = Arc::default();
        let fetching = self.remote.fetching({
            let (lease, items) = (Arc::clone(&lease), Arc::clone(&items));
            move |path, nar| match nth(&items, path.tag) {
                Item::Record(key) => Ok(Arrived::Record(unpack(&lease, &key, nar)?)),
                Item::Set(key) => Ok(Arrived::Set(SetManifest::read(&key, nar)?)),
            }
        });
        let hints = Hints::new(&build.graph, &build.inputs, &resolution, self.left_out);
        let (asked, hinted) = (BTreeSet::new(), BTreeSet::new());
        let fetched = Fetched::default();
        let mut run = Run { fetch: self, lease, fetching, items, asked, hints, hinted, fetched, looking };
        let spinner = self.report.spinner("Fetching");
        run.begin(wanted(&resolution));
        let mut is_new = false;
        while let Some(first) = run.fetching.next() {
            let mut answer = Some(first);
            while let Some((tag, outcome)) = answer {
                is_new |= run.take(tag, outcome)?;
                answer = run.fetching.try_next();
            }
            spinner.say(&format!("{} records, {}", run.fetched.records, bytes(run.fetched.bytes)));
            // What sets name comes without being asked for level by level, so nothing is asked for twice.
            if is_new && run.hinted.is_empty() {
                is_new = false;
                resolution = resolve(&build.graph, &build.inputs, ledger, build.build_directory(), *lookup)?;
                let wishes = run.new_ones(wanted(&resolution));
                run.announce(&[], &wishes);
                run.want(wishes, false);
            }
        }
        Ok((resolution, run.fetched))
    }

    /// The path of a record follows from the plan, whoever named it.
    fn path(&self, unit: UnitIndex, key: &Key) -> StorePath {
        let package = self.build.graph.package(self.build.graph.unit(unit));
        store_path(key, &package.name, &package.version)
    }
}

impl Run<'_> {
    /// Asks for what is wanted, together with the sets that name something which is not at hand.
    fn begin(&mut self, wishes: Vec<Wish>) {
        let wishes = self.new_ones(wishes);
        if wishes.is_empty() {
            return;
        }
        let build = self.fetch.build;
        let concerned = build.sets().iter().filter(|set| self.hints.concern(&set.planned.units, &build.inputs));
        let sets: Vec<(Key, StorePath)> =
            concerned.filter_map(|set| Some((set.planned.key?, set.path.clone()?))).collect();
        let paths: Vec<StorePath> = sets.iter().map(|(_, path)| path.clone()).collect();
        self.announce(&paths, &wishes);
        for (key, path) in sets {
            let tag = push(&self.items, Item::Set(key));
            self.hinted.insert(tag);
            self.fetching.want(tag, path);
        }
        self.want(wishes, false);
    }

    /// Those that were not asked for yet.
    fn new_ones(&self, wishes: Vec<Wish>) -> Vec<Wish> {
        let is_new = |(unit, key): &Wish| {
            !self.fetch.left_out.contains(unit) && !self.asked.contains(&self.fetch.path(*unit, key))
        };
        wishes.into_iter().filter(is_new).collect()
    }

    /// Says what will be asked for, so that caches can answer many questions at once.
    fn announce(&mut self, sets: &[StorePath], records: &[Wish]) {
        let records = records.iter().map(|(unit, key)| self.fetch.path(*unit, key));
        let paths: Vec<StorePath> = sets.iter().cloned().chain(records).collect();
        self.fetching.announce(&paths);
    }

    /// Asks for records that were not asked for yet.
    fn want(&mut self, mut wishes: Vec<Wish>, hinted: bool) {
        wishes.retain(|(unit, key)| self.asked.insert(self.fetch.path(*unit, key)));
        if let Some(looking) = &mut self.looking {
            wishes = looking.small_ones(self.fetch.remote, wishes, |(unit, key)| self.fetch.path(*unit, key));
        }
        for (unit, key) in wishes {
            let tag = push(&self.items, Item::Record(key));
            if hinted {
                self.hinted.insert(tag);
            }
            self.fetching.want(tag, self.fetch.path(unit, &key));
        }
    }

    /// Keeps what came. Returns whether there is a new record.
    fn take(&mut self, tag: u64, outcome: Outcome<Arrived>) -> Result<bool, StoreError> {
        let item = nth(&self.items, tag);
        self.hinted.remove(&tag);
        let mut is_new = false;
        match outcome {
            Outcome::Fetched { value: Arrived::Record(record), bytes, .. } => {
                if let (Some(looking), Item::Record(key)) = (&mut self.looking, item) {
                    looking.came(key, record.node());
                }
                self.fetched.bytes += bytes;
                match record.keep(&self.lease) {
                    Ok(_) => {
                        self.fetched.records += 1;
                        is_new = true;
                    }
                    // No other record would fare better.
                    Err(error @ (StoreError::ReadOnly { .. } | StoreError::Full { .. })) => return Err(error),
                    Err(error) => {
                        let (Item::Record(key) | Item::Set(key)) = item;
                        self.fetch.report.detail("Not kept", &format!("{key}: {}", chain(&error)));
                    }
                }
            }
            Outcome::Fetched { value: Arrived::Set(set), bytes, .. } => {
                self.fetched.bytes += bytes;
                self.follow(&set)?;
            }
            // That a cache is left out was said once.
            Outcome::Missing | Outcome::Failed(FetchError::NotAsked { .. }) => {}
            Outcome::Failed(error) => {
                let what = match item {
                    Item::Record(key) => key.to_string(),
                    Item::Set(key) => format!("the set {key}"),
                };
                self.fetch.report.detail("Not fetched", &format!("{what}: {}", chain(&error)));
            }
        }
        if let Item::Record(key) = item {
            let wishes = self.hints.settled(key, self.fetch.lookup)?;
            let lacking = self.lacking(wishes)?;
            self.want(lacking, true);
        }
        Ok(is_new)
    }

    /// Asks for what a set names and the store lacks.
    fn follow(&mut self, set: &SetManifest) -> Result<(), StoreError> {
        let (possible, now) = self.hints.take(set, self.fetch.lookup)?;
        let possible = self.lacking(possible)?;
        self.announce(&[], &possible);
        let possible: BTreeSet<Wish> = possible.into_iter().collect();
        self.want(now.into_iter().filter(|wish| possible.contains(wish)).collect(), true);
        Ok(())
    }

    fn lacking(&self, wishes: Vec<Wish>) -> Result<Vec<Wish>, StoreError> {
        let mut lacking = Vec::new();
        for (unit, key) in wishes {
            if !self.asked.contains(&self.fetch.path(unit, &key)) && self.fetch.lookup.node(key)?.is_none() {
                lacking.push((unit, key));
            }
        }
        Ok(lacking)
    }
}

fn push(items: &Mutex<Vec<Item>>, item: Item) -> u64 {
    let mut items = items.lock().expect("no thread panics while it holds the list");
    items.push(item);
    items.len() as u64 - 1
}

fn nth(items: &Mutex<Vec<Item>>, tag: u64) -> Item {
    items.lock().expect("no thread panics while it holds the list")[tag as usize]
}

/// The records that resolve has no answer for.
fn wanted(resolution: &Resolution) -> Vec<Wish> {
    let wanted = resolution.iter().filter_map(|(unit, state)| match state {
        UnitState::Left(left) => Some((unit, left.wanted?)),
        _ => None,
    });
    wanted.collect()
}
