//! Publishing: what was built goes to every writable cache, while the build goes on.
//!
//! ```text
//! offered ─► asked for in bulk ─► packed, hashed, compressed, signed ─► references there? ─► NAR ─► narinfo
//! ```
//!
//! A cache that fails is left out; the others go on, and the build doesn't notice.

mod coordinate;
mod first;
mod named;
mod pack;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use nixcache_core::nix::{StorePath, StorePathHash};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use self::coordinate::Coordinator;
use self::first::FirstAnswer;
use crate::breaker::{Kind, Waiting};
use crate::cache::{PackedPath, Stored, WritableCache};
use crate::cache_url::CacheUrl;
use crate::error::CacheError;
use crate::event::Listener;
use crate::network::NetworkOptions;
use crate::remote::Remote;
use crate::set::{Guard, Member};

/// The longest that one upload may take, as long as it moves.
const UPLOAD_LIMIT: Duration = Duration::from_secs(3600);

/// Writes a NAR.
pub type WriteNar = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// A path to publish.
pub struct NewPath {
    /// Its name.
    pub path: StorePath,
    /// The paths that it refers to. Offer those first that are not published yet.
    pub references: BTreeSet<StorePath>,
    /// Whether its content names it: then it is published as such, and must be what its name says.
    pub by_content: bool,
    /// Writes its NAR. Called at most once, on a thread that may block, and only if a cache lacks the path.
    pub pack: WriteNar,
}

/// Why a path was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Its NAR could not be made.
    #[error("pack it")]
    Pack {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A path that it refers to could not be published, and the cache would not be complete.
    #[error("publish it before {reference}, which it refers to")]
    Reference {
        /// That path.
        reference: StorePath,
    },
    /// The cache could not be asked what it lacks. One error for all paths of one question.
    #[error("ask what is missing")]
    Ask {
        /// Why not.
        #[source]
        source: Arc<CacheError>,
    },
    /// The cache failed, or was left out before.
    #[error("store it")]
    Store {
        /// How.
        #[source]
        source: CacheError,
    },
    /// The work on it was stopped by a panic.
    #[error("publish it: the work on it was interrupted")]
    Interrupted,
}

/// What came of publishing.
#[derive(Debug, Default)]
pub struct PublishReport {
    /// Paths that are new in at least one cache.
    pub published: usize,
    /// Paths that every cache had, or got from another meanwhile.
    pub already_there: usize,
    /// What could not be published, with the cache as it is shown.
    pub failed: Vec<(StorePath, String, PublishError)>,
    /// The bytes of the NARs that were stored, compressed; once for each cache.
    pub bytes: u64,
}

/// A cache that is published to.
pub(crate) struct Publisher {
    guard: Guard,
    cache: Arc<dyn WritableCache>,
    uploads: Semaphore,
    questions_at_once: usize,
    patience: Duration,
    first: FirstAnswer,
}

impl Publisher {
    pub(crate) fn new(
        cache: Arc<dyn WritableCache>,
        read_too: Option<Arc<Member>>,
        listener: Listener,
        options: &NetworkOptions,
    ) -> Self {
        let guard = Guard::new(cache.url().to_string(), listener, options).beside(read_too);
        let uploads = Semaphore::new(options.uploads_at_once);
        let first = FirstAnswer::new(options, cache.tells_what_is_sent());
        let (questions_at_once, patience) = (options.narinfos_at_once, options.upload_patience);
        Self { guard, cache, uploads, questions_at_once, patience, first }
    }

    pub(crate) fn is_at(&self, url: &CacheUrl) -> bool {
        self.cache.url().is_same_place(url)
    }

    async fn missing(&self, hashes: &[StorePathHash]) -> Result<BTreeSet<StorePathHash>, CacheError> {
        let mut waiting = self.guard.waiting(Kind::Small);
        // What was not asked is no sign of life.
        if let Some(missing) = self.guard.begin(&mut waiting, self.cache.missing(hashes)).await? {
            self.guard.went_well(&waiting);
            return Ok(missing.into_iter().collect());
        }
        // Each is a request of its own: a cache that answers slowly is alive.
        let asked = stream::iter(hashes.to_vec()).map(|hash| async move {
            let mut waiting = self.guard.waiting(Kind::Small);
            let has = self.guard.call(&mut waiting, self.cache.has(&hash)).await?;
            Ok((!has).then_some(hash))
        });
        let missing: Vec<_> = asked.buffer_unordered(self.questions_at_once).try_collect().await?;
        Ok(missing.into_iter().flatten().collect())
    }

    async fn store(&self, path: &PackedPath) -> Result<Stored, CacheError> {
        let _permit = self.uploads.acquire().await.expect("it is never closed");
        let mut waiting = Waiting::new(Kind::Nar, self.patience, UPLOAD_LIMIT);
        let moved = |_bytes| self.guard.sign_of_life();
        let store = self.guard.call(&mut waiting, self.cache.store(path, &moved));
        let stored = tokio::select! {
            biased;
            stored = store => stored,
            after = self.first.hopeless(&self.guard, path.file_size) => {
                Err(self.guard.leave_out(CacheError::TimedOut { after }))
            }
        };
        if matches!(stored, Ok(Stored::New)) {
            self.first.came();
        }
        stored
    }
}

/// Paths that are being published. When it goes without [`Publishing::finish`], what is under way is given up.
pub struct Publishing<'r> {
    remote: &'r Remote,
    offers: Option<mpsc::UnboundedSender<NewPath>>,
    packing: Arc<Semaphore>,
    work: JoinHandle<PublishReport>,
}

impl Remote {
    /// Publishes to every writable cache; first writer wins. The work goes on beside the build, on one core until
    /// [`Publishing::finish`] is called.
    pub fn publishing(&self) -> Publishing<'_> {
        let (offers, receiver) = mpsc::unbounded_channel();
        let packing = Arc::new(Semaphore::new(1));
        let coordinator = Coordinator::new(Arc::clone(self.shared()), Arc::clone(&packing));
        let work = self.handle().spawn(coordinator.run(receiver));
        Publishing { remote: self, offers: Some(offers), packing, work }
    }
}

impl Publishing<'_> {
    /// Offers a path. Never blocks. A path that was offered before is passed over.
    pub fn offer(&mut self, item: NewPath) {
        if let Some(offers) = &self.offers {
            // The work can only have ended by a panic, which `finish` reports.
            let _ = offers.send(item);
        }
    }

    /// Says that nobody compiles any more: from now on, publishing is all that is waited for. A cache that has taken
    /// nothing until then must do so soon.
    pub fn build_ended(&self) {
        self.remote.shared().publishers.iter().for_each(|publisher| publisher.first.build_ended());
    }

    /// Waits until everything is published, or has failed.
    pub fn finish(mut self) -> PublishReport {
        self.offers = None;
        // Nothing else needs the cores any more.
        self.packing.add_permits(std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1));
        let work = &mut self.work;
        self.remote.handle().block_on(work).unwrap_or_default()
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.work.abort();
    }
}
