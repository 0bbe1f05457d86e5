//! Garbage collection: takes stock, decides (see `retention`), drops.
//!
//! Stock is taken twice: once while uploads go on, which is the long part, and once, of what is new, while they wait.
//! Narinfos never change, so what was read the first time is still true.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use nixcache_core::nix::{Asked, NarInfo, StorePath, StorePathHash, narinfo};
use object_store::path::Path;
use serde::Serialize;

use crate::gate::BARRIER_TIME;
use crate::layout::{self, NarFile, RootFile};
use crate::log::Event;
use crate::retention::{Inventory, PathFacts, Plan, plan};
use crate::server::Shared;
use crate::storage::{FileFacts, StorageError};

/// Narinfos that are read in one turn.
const BATCH: usize = 256;

/// Clients keep a narinfo for 30 days; so long they may ask for the NAR that it names.
const UPSTREAM_TIME: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// Why garbage was not collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The cache's files can't be used.
    #[error("collect garbage")]
    Storage {
        /// What is wrong.
        #[source]
        source: StorageError,
    },
    /// It is being collected already.
    #[error("collect garbage: it is being collected already")]
    Running,
    /// It took so long that uploads had to go on. What was dropped is dropped.
    #[error("collect garbage: it took too long, and was ended")]
    Time,
}

impl From<StorageError> for CollectError {
    fn from(source: StorageError) -> Self {
        Self::Storage { source }
    }
}

/// What a collection has done, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CollectReport {
    /// Store paths that were there.
    pub paths: usize,
    /// Store paths that were dropped.
    pub dropped_paths: usize,
    /// Files of NARs that were dropped.
    pub dropped_nars: usize,
    /// Bytes of all files of NARs before.
    pub bytes_before: u64,
    /// Bytes of all files of NARs after.
    pub bytes_after: u64,
    /// Whether nothing was dropped, only counted.
    pub dry_run: bool,
}

/// What is there besides narinfos and NARs.
#[derive(Default)]
struct Extras {
    listings: HashSet<StorePathHash>,
    checked: Vec<NarFile>,
    plain: Vec<(Path, SystemTime)>,
    upstream: Vec<(Path, SystemTime)>,
}

/// Collects garbage. With `dry_run` it only tells what would be dropped.
pub(crate) async fn collect(shared: &Arc<Shared>, dry_run: bool) -> Result<CollectReport, CollectError> {
    let Ok(_running) = shared.collecting.try_lock() else { return Err(CollectError::Running) };
    let mut inventory = Inventory::default();
    take_stock(shared, &mut inventory).await?;
    if dry_run {
        let plan = plan(&inventory, &shared.retention, SystemTime::now());
        return Ok(report(&inventory, &plan, true));
    }
    let Some(closed) = shared.gate.close(&shared.storage, shared.limits.request_time).await? else {
        return Err(CollectError::Running);
    };
    // A barrier falls by itself after this and the time for uploads; before that, this must have ended.
    let limit = if shared.storage.is_shared() { BARRIER_TIME / 2 } else { Duration::MAX };
    let swept = tokio::time::timeout(limit, sweep(shared, &mut inventory)).await;
    let opened = shared.gate.open(&shared.storage, closed).await;
    let plan = swept.map_err(|_| CollectError::Time)??;
    opened?;
    // Nobody writes to these any more, so nobody need wait meanwhile.
    shared.storage.drop_abandoned(SystemTime::now()).await?;
    let report = report(&inventory, &plan, false);
    shared.metrics.collections.add(1);
    shared.metrics.collected_paths.add(report.dropped_paths as u64);
    shared.metrics.collected_bytes.add(report.bytes_before - report.bytes_after);
    Ok(report)
}

fn report(inventory: &Inventory, plan: &Plan, dry_run: bool) -> CollectReport {
    CollectReport {
        paths: inventory.paths.len(),
        dropped_paths: plan.path_count(),
        dropped_nars: plan.nars.len(),
        bytes_before: plan.bytes_before,
        bytes_after: plan.bytes_after,
        dry_run,
    }
}

/// Brings the inventory up to date. Narinfos that are in it already are not read again.
async fn take_stock(shared: &Shared, inventory: &mut Inventory) -> Result<Extras, StorageError> {
    let mut extras = Extras::default();
    let mut seen = HashSet::new();
    let mut new = Vec::new();
    inventory.nars.clear();
    let mut files = shared.storage.list(None);
    while let Some((path, facts)) = files.try_next().await? {
        let name = path.as_ref();
        if let Some(nar) = name.strip_prefix("nar/") {
            // Other names are other programs' files.
            if let Some(nar) = NarFile::parse(nar) {
                inventory.nars.insert(nar, facts);
            }
        } else if let Some(own) = name.strip_prefix(layout::OWN).and_then(|rest| rest.strip_prefix('/')) {
            if let Some(file) = own.strip_prefix("checked/").and_then(NarFile::parse) {
                extras.checked.push(file);
            } else if own.starts_with("plain/") {
                extras.plain.push((path.clone(), facts.modified));
            } else if own.starts_with("upstream/") {
                extras.upstream.push((path.clone(), facts.modified));
            }
        } else {
            match RootFile::parse(name) {
                Some(RootFile::NarInfo(hash)) => {
                    seen.insert(hash);
                    match inventory.paths.get_mut(&hash) {
                        Some(known) => known.used = facts.modified,
                        None => new.push((hash, facts)),
                    }
                }
                Some(RootFile::Listing(hash)) => {
                    extras.listings.insert(hash);
                }
                None => {}
            }
        }
    }
    inventory.paths.retain(|hash, _| seen.contains(hash));
    for batch in new.chunks(BATCH) {
        let files = batch.iter().map(|(hash, _)| layout::narinfo(hash)).collect();
        let texts = shared.storage.read_all(files, narinfo::SIZE_LIMIT).await;
        for ((hash, facts), text) in batch.iter().zip(texts) {
            // It may be gone already.
            if let Some(text) = text? {
                inventory.paths.insert(*hash, path_facts(shared, hash, &text, *facts));
            }
        }
    }
    inventory.pins = read_pins(shared).await?.into_iter().map(|(_, path)| *path.hash()).collect();
    Ok(extras)
}

fn path_facts(shared: &Shared, hash: &StorePathHash, text: &[u8], facts: FileFacts) -> PathFacts {
    let used = facts.modified;
    match NarInfo::parse(text, Asked::Hash(hash)) {
        Ok(narinfo) => {
            let references = narinfo.references.iter().map(|path| *path.hash()).collect();
            let nar = narinfo.url.as_str().strip_prefix("nar/").and_then(NarFile::parse);
            PathFacts { references, nar, used }
        }
        // No client can read it either; so nothing needs what it may have named.
        Err(error) => {
            shared.sink.trouble("a narinfo of the store can't be read", &error);
            PathFacts { references: Box::default(), nar: None, used }
        }
    }
}

/// The pins, by name.
pub(crate) async fn read_pins(shared: &Shared) -> Result<Vec<(String, StorePath)>, StorageError> {
    let mut pins = Vec::new();
    let files: Vec<(Path, FileFacts)> = shared.storage.list(Some(&layout::pins())).try_collect().await?;
    for (path, _) in files {
        let Some((text, _)) = shared.storage.read(&path, 4096).await? else { continue };
        let target = std::str::from_utf8(&text).ok().and_then(|text| StorePath::from_base_name(text.trim()).ok());
        if let (Some(name), Some(target)) = (path.filename(), target) {
            pins.push((name.to_owned(), target));
        } else {
            shared.sink.send(&Event::Trouble(format!("the pin {path} can't be read, and keeps nothing")));
        }
    }
    pins.sort();
    Ok(pins)
}

/// Drops what the plan says, while no narinfo is being written.
async fn sweep(shared: &Shared, inventory: &mut Inventory) -> Result<Plan, StorageError> {
    let extras = take_stock(shared, inventory).await?;
    let now = SystemTime::now();
    let plan = plan(inventory, &shared.retention, now);
    // One group after the other: should this be ended here, what stays still has its references.
    for group in &plan.groups {
        shared.storage.delete_all(group.iter().map(layout::narinfo).collect()).await?;
    }
    let dropped: HashSet<StorePathHash> = plan.groups.iter().flatten().copied().collect();
    let mut files: Vec<Path> = Vec::new();
    files.extend(extras.listings.iter().filter(|hash| dropped.contains(*hash)).map(layout::listing));
    files.extend(plan.nars.iter().map(NarFile::path));
    let stays = |file: &NarFile| inventory.nars.contains_key(file) && !plan.nars.contains(file);
    files.extend(extras.checked.iter().filter(|file| !stays(file)).map(layout::checked));
    let unused = |modified: &SystemTime| now.duration_since(*modified).is_ok_and(|age| age > UPSTREAM_TIME);
    files.extend(extras.upstream.into_iter().filter(|(_, modified)| unused(modified)).map(|(path, _)| path));
    for (path, modified) in extras.plain {
        let young = now.duration_since(modified).is_ok_and(|age| age < shared.retention.grace);
        let Some((name, _)) = shared.storage.read(&path, 256).await?.filter(|_| !young) else { continue };
        let file = std::str::from_utf8(&name).ok().and_then(NarFile::parse);
        if !file.as_ref().is_some_and(stays) {
            files.push(path);
        }
    }
    shared.storage.delete_all(files).await?;
    Ok(plan)
}
