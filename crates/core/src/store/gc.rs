//! Garbage collection: least recently used nodes go until the store is small enough, then whatever nothing
//! refers to. It has the store for itself meanwhile; killed anywhere, it leaves at worst blobs without a node.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;

use super::blob::BlobRef;
use super::error::StoreError;
use super::inventory::{self, BlobName, Inventory};
use super::local::LocalStore;
use super::node::Node;
use super::{pins, usage};
use crate::digest::Key;

/// What garbage collection may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcOptions {
    /// How many allocated bytes may stay. `None`: only what nothing refers to goes.
    pub limit: Option<u64>,
    /// Nodes that were not used for so long go, whatever the limit.
    pub max_age: Option<Duration>,
    /// How long to wait for builds that use the store before giving up with [`StoreError::Busy`].
    pub wait: Duration,
    /// Report only; take nothing.
    pub dry_run: bool,
}

/// What garbage collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// The labels of the nodes that went for lack of use, sorted.
    pub dropped: Vec<String>,
    /// How many nodes went because they were damaged or lacked a blob.
    pub broken_nodes: u64,
    /// How many blobs went.
    pub dropped_blobs: u64,
    /// How many leftovers of killed processes went, and other files that do not belong there.
    pub leftovers: u64,
    /// Allocated bytes before. A blob that a target directory shares is counted, though its bytes are only
    /// free when both are gone.
    pub before: u64,
    /// Allocated bytes after.
    pub after: u64,
    /// How many nodes stay.
    pub kept_nodes: u64,
}

/// What is to go: the pure half of garbage collection.
#[derive(Debug, Default)]
struct Plan {
    nodes: Vec<Key>,
    blobs: Vec<BlobName>,
    report: GcReport,
}

impl LocalStore {
    /// Collects garbage. `now` is the current time.
    pub fn gc(&self, options: &GcOptions, now: SystemTime) -> Result<GcReport, StoreError> {
        if !self.exists()? {
            return Ok(GcReport::default());
        }
        let _alone = self.lock_exclusively(options.wait)?;
        let layout = &self.inner.layout;
        let inventory = inventory::scan(layout)?;
        let pinned = pins::read_all(layout)?.into_values().flatten().collect();
        let mut plan = plan(&inventory, &pinned, options, now);
        // Nobody has a lease, so nobody is writing these.
        let mut leftovers = inventory.strangers;
        leftovers.extend(temporary_files(&layout.temporary_directory())?);
        plan.report.leftovers = leftovers.len() as u64;
        if !options.dry_run {
            // Nodes before blobs: a node without its blobs would be a promise that can't be kept.
            remove_all(plan.nodes.par_iter().map(|key| layout.node(key)))?;
            remove_all(
                plan.blobs
                    .par_iter()
                    .map(|name| layout.blob(&BlobRef { digest: name.digest, size: 0, executable: name.executable })),
            )?;
            remove_all(leftovers.into_par_iter())?;
            usage::replace(layout, plan.report.after)?;
        }
        Ok(plan.report)
    }

    /// Collects garbage if the store seems to exceed its size limit, and nobody uses it at the moment. Reads
    /// one small file otherwise. To be called after the lease of a build is gone.
    pub fn auto_gc(&self, now: SystemTime) -> Result<Option<GcReport>, StoreError> {
        let Some(limit) = self.inner.options.size_limit else { return Ok(None) };
        if self.inner.options.read_only || self.approximate_size()? <= limit {
            return Ok(None);
        }
        // Some room is made, so that the next build does not collect again.
        let options = GcOptions { limit: Some(limit / 10 * 9), wait: inventory::SHORT_WAIT, ..GcOptions::default() };
        match self.gc(&options, now) {
            Ok(report) => Ok(Some(report)),
            Err(StoreError::Busy { .. } | StoreError::NoLocks { .. } | StoreError::ReadOnly { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn plan(inventory: &Inventory, pinned: &BTreeSet<Key>, options: &GcOptions, now: SystemTime) -> Plan {
    let mut plan = Plan::default();
    plan.report.before = inventory.allocated();
    let mut sound: HashMap<Key, &Node> = HashMap::new();
    for (key, file) in &inventory.nodes {
        let has = |blob: &BlobRef| inventory.blobs.get(&blob.into()).is_some_and(|file| file.size == blob.size);
        match &file.node {
            Ok(node) if node.blobs.iter().all(has) => drop(sound.insert(*key, node)),
            _ => plan.nodes.push(*key),
        }
    }
    plan.report.broken_nodes = plan.nodes.len() as u64;
    let mut users: HashMap<BlobName, u32> = HashMap::new();
    for name in sound.values().flat_map(|node| distinct(node)) {
        *users.entry(name).or_default() += 1;
    }
    let allocated = |name: &BlobName| inventory.blobs[name].allocated;
    let mut size: u64 = users.keys().map(allocated).sum();
    size += sound.keys().map(|key| inventory.nodes[key].allocated).sum::<u64>();

    let pinned = reachable(&sound, pinned.iter().copied());
    let last_used = effective_last_use(&sound, inventory);
    let mut candidates: Vec<(SystemTime, Key)> =
        sound.keys().filter(|key| !pinned.contains(key)).map(|key| (last_used[key], *key)).collect();
    candidates.sort_unstable();
    for (last_used, key) in candidates {
        let too_large = options.limit.is_some_and(|limit| size > limit);
        let too_old = options.max_age.is_some_and(|age| now.duration_since(last_used).is_ok_and(|idle| idle > age));
        if !too_large && !too_old {
            break;
        }
        let node = sound.remove(&key).expect("candidates are taken from the sound nodes, each once");
        size -= inventory.nodes[&key].allocated;
        for name in distinct(node) {
            let users = users.get_mut(&name).expect("every blob of a sound node has been counted");
            *users -= 1;
            if *users == 0 {
                size -= allocated(&name);
            }
        }
        plan.report.dropped.push(node.label.clone());
        plan.nodes.push(key);
    }
    plan.report.dropped.sort();
    plan.blobs =
        inventory.blobs.keys().filter(|name| users.get(name).is_none_or(|users| *users == 0)).copied().collect();
    plan.report.dropped_blobs = plan.blobs.len() as u64;
    plan.report.kept_nodes = sound.len() as u64;
    plan.report.after = size;
    plan
}

fn distinct(node: &Node) -> HashSet<BlobName> {
    node.blobs.iter().map(BlobName::from).collect()
}

/// The keys, and those of all nodes that they refer to.
fn reachable(nodes: &HashMap<Key, &Node>, from: impl Iterator<Item = Key>) -> HashSet<Key> {
    let (mut seen, mut open) = (HashSet::new(), from.collect::<Vec<_>>());
    while let Some(key) = open.pop() {
        if let Some(node) = nodes.get(&key)
            && seen.insert(key)
        {
            open.extend(&node.nodes);
        }
    }
    seen
}

/// When each node was last used, by itself or by one that refers to it.
fn effective_last_use(nodes: &HashMap<Key, &Node>, inventory: &Inventory) -> HashMap<Key, SystemTime> {
    let mut times: HashMap<Key, SystemTime> = nodes.keys().map(|key| (*key, inventory.nodes[key].last_used)).collect();
    // Newest first: the first time that reaches a node is then its newest, so each is visited once.
    let mut newest: Vec<(SystemTime, Key)> = times.iter().map(|(key, time)| (*time, *key)).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let mut seen = HashSet::new();
    for (time, key) in newest {
        let mut open = vec![key];
        while let Some(key) = open.pop() {
            if let Some(node) = nodes.get(&key)
                && seen.insert(key)
            {
                times.insert(key, time);
                open.extend(&node.nodes);
            }
        }
    }
    times
}

fn temporary_files(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, StoreError> {
    let failed = |error| StoreError::io("list", directory, error);
    let entries = directory.read_dir_utf8().map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.into_path()).map_err(failed)).collect()
}

fn remove_all(paths: impl ParallelIterator<Item = Utf8PathBuf>) -> Result<(), StoreError> {
    paths.try_for_each(|path| {
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir_all(&path),
            removed => removed,
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, error)),
            _ => Ok(()),
        }
    })
}
