//! Which path goes where, and when: after the paths that it refers to, and only where it is missing.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use nixcache_core::nix::{StorePath, StorePathHash};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::pack::{Described, pack};
use super::{NewPath, PublishError, PublishReport, Publisher};
use crate::cache::{PackedPath, Stored};
use crate::error::CacheError;
use crate::remote::Shared;

/// Paths that are asked for at once.
const BATCH: usize = 256;

/// Whether a path is in a cache, once that is known. If the sender goes without a word, it is not.
type Settled = watch::Receiver<Option<bool>>;

/// Takes the offers, asks what is missing, and starts a task for each path that is.
pub(super) struct Coordinator {
    shared: Arc<Shared>,
    packing: Arc<Semaphore>,
    /// The paths that were offered, by cache.
    settled: HashMap<StorePathHash, Vec<Settled>>,
    tasks: JoinSet<ItemReport>,
    report: PublishReport,
}

/// One path that some caches lack.
struct Item {
    shared: Arc<Shared>,
    packing: Arc<Semaphore>,
    new: NewPath,
    targets: Vec<Target>,
}

/// A cache that lacks a path.
struct Target {
    publisher: Arc<Publisher>,
    references: Vec<(StorePath, Settled)>,
    settled: watch::Sender<Option<bool>>,
}

/// What came of one path, by cache.
struct ItemReport {
    path: StorePath,
    /// The size of its file.
    bytes: u64,
    results: Vec<(String, Result<Stored, PublishError>)>,
}

impl Coordinator {
    pub(super) fn new(shared: Arc<Shared>, packing: Arc<Semaphore>) -> Self {
        let (settled, tasks, report) = (HashMap::new(), JoinSet::new(), PublishReport::default());
        Self { shared, packing, settled, tasks, report }
    }

    pub(super) async fn run(mut self, mut offers: mpsc::UnboundedReceiver<NewPath>) -> PublishReport {
        let mut batch = Vec::new();
        while offers.recv_many(&mut batch, BATCH).await > 0 {
            self.begin(std::mem::take(&mut batch)).await;
            while let Some(Ok(item)) = self.tasks.try_join_next() {
                self.take(item);
            }
        }
        while let Some(Ok(item)) = self.tasks.join_next().await {
            self.take(item);
        }
        self.report
    }

    /// Asks every cache what it lacks of a batch, and starts the work on that.
    async fn begin(&mut self, batch: Vec<NewPath>) {
        let mut known = BTreeSet::new();
        let is_new = |new: &NewPath| !self.settled.contains_key(new.path.hash()) && known.insert(*new.path.hash());
        let batch: Vec<_> = batch.into_iter().filter(is_new).collect();
        if batch.is_empty() {
            return;
        }
        let hashes: Vec<_> = batch.iter().map(|new| *new.path.hash()).collect();
        let asked = self.shared.publishers.iter().map(|publisher| publisher.missing(&hashes));
        let answers = futures_util::future::join_all(asked).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.map_err(Arc::new)).collect();
        for new in batch {
            self.begin_item(new, &answers);
        }
    }

    fn begin_item(&mut self, new: NewPath, answers: &[Result<BTreeSet<StorePathHash>, Arc<CacheError>>]) {
        let (mut targets, mut settled, mut there) = (Vec::new(), Vec::new(), false);
        for (index, (publisher, answer)) in self.shared.publishers.iter().zip(answers).enumerate() {
            let (sender, receiver) = watch::channel(None);
            settled.push(receiver);
            match answer {
                Ok(missing) if missing.contains(new.path.hash()) => {
                    // Only paths that were offered before, so that no two wait for each other.
                    let before = |reference: &StorePath| {
                        let settled = self.settled.get(reference.hash())?.get(index)?;
                        Some((reference.clone(), settled.clone()))
                    };
                    let references = new.references.iter().filter_map(before).collect();
                    targets.push(Target { publisher: Arc::clone(publisher), references, settled: sender });
                }
                Ok(_) => {
                    sender.send_replace(Some(true));
                    there = true;
                }
                Err(error) => {
                    let error = PublishError::Ask { source: Arc::clone(error) };
                    self.report.failed.push((new.path.clone(), publisher.guard.shown.clone(), error));
                }
            }
        }
        self.settled.insert(*new.path.hash(), settled);
        if targets.is_empty() {
            self.report.already_there += usize::from(there);
        } else {
            let (shared, packing) = (Arc::clone(&self.shared), Arc::clone(&self.packing));
            self.tasks.spawn(Item { shared, packing, new, targets }.publish());
        }
    }

    fn take(&mut self, item: ItemReport) {
        let new = item.results.iter().filter(|(_, result)| matches!(result, Ok(Stored::New))).count();
        let there = item.results.iter().any(|(_, result)| matches!(result, Ok(Stored::AlreadyThere)));
        self.report.bytes += item.bytes * new as u64;
        self.report.published += usize::from(new > 0);
        self.report.already_there += usize::from(new == 0 && there);
        for (cache, result) in item.results {
            self.report.failed.extend(result.err().map(|error| (item.path.clone(), cache, error)));
        }
    }
}

impl Item {
    async fn publish(self) -> ItemReport {
        let Self { shared, packing, new, targets } = self;
        let NewPath { path, references, by_content, pack: write } = new;
        let packed = {
            let _permit = packing.acquire().await.expect("it is never closed");
            if targets.iter().all(|target| target.publisher.guard.is_left_out()) {
                Err(PublishError::Store { source: CacheError::LeftOut })
            } else {
                let (shared, path) = (Arc::clone(&shared), path.clone());
                let work = tokio::task::spawn_blocking(move || {
                    let narinfo = Described { path, references, by_content };
                    pack(narinfo, write, shared.secret_key.as_ref(), &shared.network)
                });
                match work.await {
                    Ok(packed) => packed.map_err(|source| PublishError::Pack { source }),
                    Err(_) => Err(PublishError::Interrupted),
                }
            }
        };
        let results = match &packed {
            Ok(packed) => futures_util::future::join_all(targets.into_iter().map(|target| target.store(packed))).await,
            Err(error) => {
                let failed = |target: Target| (target.publisher.guard.shown.clone(), Err(again(error)));
                targets.into_iter().map(failed).collect()
            }
        };
        ItemReport { path, bytes: packed.map_or(0, |packed| packed.file_size), results }
    }
}

/// The same error for another cache.
fn again(error: &PublishError) -> PublishError {
    match error {
        PublishError::Pack { source } => {
            PublishError::Pack { source: io::Error::new(source.kind(), source.to_string()) }
        }
        PublishError::Store { .. } => PublishError::Store { source: CacheError::LeftOut },
        _ => PublishError::Interrupted,
    }
}

impl Target {
    async fn store(mut self, packed: &PackedPath) -> (String, Result<Stored, PublishError>) {
        let cache = self.publisher.guard.shown.clone();
        for (reference, settled) in &mut self.references {
            // An error means that its task ended without a word: then it is not there.
            let there = settled.wait_for(Option::is_some).await.is_ok_and(|there| *there == Some(true));
            if !there {
                return (cache, Err(PublishError::Reference { reference: reference.clone() }));
            }
        }
        let result = self.publisher.store(packed).await;
        self.settled.send_replace(Some(result.is_ok()));
        (cache, result.map_err(|source| PublishError::Store { source }))
    }
}
