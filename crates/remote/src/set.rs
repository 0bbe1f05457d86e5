//! The caches that are asked, and how long for each: every request to a cache goes through its [`Guard`].

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nixcache_core::nix::{Asked, NarInfo, NarUrl, StorePath, StorePathHash, TrustedKeys, Unverified, Verified};
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::time::Instant;

use crate::breaker::{Breaker, Dead, Kind, SIGN_OF_LIFE, Waiting};
use crate::cache::{Cache, ManyNarInfos, NarPieces};
use crate::cache_url::CacheUrl;
use crate::error::CacheError;
use crate::event::{Listener, RemoteEvent};
use crate::fetch::FetchError;
use crate::network::NetworkOptions;
use crate::remote::Pinned;

/// What stands between us and a cache: the breaker, and the one event when it opens.
pub(crate) struct Guard {
    /// The cache as it is shown.
    pub(crate) shown: String,
    breaker: Breaker,
    /// The same cache in another use: where that is left out, so is this, and its reason was told.
    other: Option<Arc<Member>>,
    listener: Listener,
    /// Held while the listener is told, so that it knows before anybody acts on it.
    telling: Mutex<()>,
    patience: Duration,
    request_limit: Duration,
}

impl Guard {
    pub(crate) fn new(shown: String, listener: Listener, options: &NetworkOptions) -> Self {
        let breaker = Breaker::new(options.errors_allowed);
        let (patience, request_limit) = (options.patience, options.request_limit);
        Self { shown, breaker, other: None, listener, telling: Mutex::default(), patience, request_limit }
    }

    /// The same for another use of a cache.
    pub(crate) fn beside(self, other: Option<Arc<Member>>) -> Self {
        Self { other, ..self }
    }

    pub(crate) fn is_left_out(&self) -> bool {
        self.breaker.is_open() || self.other.as_ref().is_some_and(|other| other.guard.is_left_out())
    }

    /// The time that one request has.
    pub(crate) fn waiting(&self, kind: Kind) -> Waiting {
        Waiting::new(kind, self.patience, self.request_limit)
    }

    pub(crate) fn sign_of_life(&self) {
        self.breaker.sign_of_life();
    }

    /// Makes one request.
    pub(crate) async fn call<T>(
        &self,
        waiting: &mut Waiting,
        request: impl Future<Output = Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        let value = self.begin(waiting, request).await?;
        self.went_well(waiting);
        Ok(value)
    }

    /// Makes the first part of a request, or what may be none at all: that it went well says nothing yet.
    pub(crate) async fn begin<T>(
        &self,
        waiting: &mut Waiting,
        request: impl Future<Output = Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        if self.is_left_out() {
            return Err(CacheError::LeftOut);
        }
        let result = match self.breaker.wait(waiting, request).await {
            Ok(result) => result,
            Err(Dead::LeftOut) => return Err(CacheError::LeftOut),
            Err(Dead::Request { after }) => Err(CacheError::TimedOut { after }),
            Err(Dead::Cache { after }) => return Err(self.leave_out(CacheError::TimedOut { after })),
        };
        let hopeless = result.is_err() && self.breaker.note(waiting, &result);
        result.map_err(|error| if hopeless { self.leave_out(error) } else { error })
    }

    /// What was begun went well: the cache has answered.
    pub(crate) fn went_well(&self, waiting: &Waiting) {
        self.breaker.note(waiting, &Ok(()));
    }

    /// Leaves the cache out if it never gave a sign of life.
    pub(crate) fn leave_out_if_silent(&self, after: Duration) -> bool {
        let silent = !self.is_left_out() && self.breaker.is_silent();
        if silent {
            self.leave_out(CacheError::TimedOut { after });
        }
        silent
    }

    pub(crate) fn last_sign_of_life(&self) -> Option<Instant> {
        self.breaker.last_sign_of_life()
    }

    /// Leaves the cache out for the rest of the build. The listener is told before anybody can see it: what comes of
    /// a request never arrives before its reason.
    pub(crate) fn leave_out(&self, error: CacheError) -> CacheError {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.breaker.is_open() {
            if !self.is_left_out() {
                (self.listener)(RemoteEvent::CacheLeftOut { cache: self.shown.clone(), error: Arc::new(error) });
            }
            self.breaker.leave_out();
        }
        CacheError::LeftOut
    }
}

/// Paths that are asked for in one question: enough to make the way there cheap, few enough that a server over a bucket
/// has its answer soon.
const BATCH: usize = 256;

/// Paths that will be asked for. Whoever asks for the first of them asks for all.
struct Batch {
    hashes: Vec<StorePathHash>,
    answers: OnceCell<ManyNarInfos>,
}

/// A cache that is asked.
pub(crate) struct Member {
    pub(crate) guard: Guard,
    cache: Arc<dyn Cache>,
    narinfos: Semaphore,
    /// Whether it is known to be for our store directory.
    suits: OnceCell<()>,
    /// Paths that were announced, and not asked for yet.
    announced: Mutex<HashMap<StorePathHash, Arc<Batch>>>,
}

impl Member {
    pub(crate) fn new(cache: Arc<dyn Cache>, listener: Listener, options: &NetworkOptions) -> Self {
        let guard = Guard::new(cache.url().to_string(), listener, options);
        let narinfos = Semaphore::new(options.narinfos_at_once);
        Self { guard, cache, narinfos, suits: OnceCell::new(), announced: Mutex::default() }
    }

    pub(crate) fn is_at(&self, url: &CacheUrl) -> bool {
        self.cache.url().is_same_place(url)
    }

    /// The bytes of a narinfo, of a cache that suits us.
    async fn narinfo(&self, path: &StorePath) -> Result<Option<Bytes>, CacheError> {
        let answer = async {
            match self.announced_answer(path.hash()).await {
                Some(answer) => Ok(answer),
                None => self.ask(path.hash()).await,
            }
        };
        // At the same time: the first look-up shall not wait twice.
        let (suits, answer) = tokio::join!(self.suits.get_or_try_init(|| self.check()), answer);
        suits?;
        answer
    }

    async fn ask(&self, hash: &StorePathHash) -> Result<Option<Bytes>, CacheError> {
        let _permit = self.narinfos.acquire().await.expect("it is never closed");
        let mut waiting = self.guard.waiting(Kind::Small);
        self.guard.call(&mut waiting, self.cache.narinfo(hash)).await
    }

    /// Says which paths will be asked for, so that they can be asked for together.
    pub(crate) fn announce(&self, hashes: &[StorePathHash]) {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        for hashes in hashes.chunks(BATCH) {
            let batch = Arc::new(Batch { hashes: hashes.to_vec(), answers: OnceCell::new() });
            announced.extend(hashes.iter().map(|hash| (*hash, Arc::clone(&batch))));
        }
    }

    /// What the cache said of an announced path, together with others. It counts once: whoever asks again wants to
    /// know what is so then.
    async fn announced_answer(&self, hash: &StorePathHash) -> Option<Option<Bytes>> {
        let batch = self.announced.lock().unwrap_or_else(PoisonError::into_inner).remove(hash)?;
        let ask = || async {
            let mut waiting = self.guard.waiting(Kind::Small);
            let came = AtomicU64::new(0);
            let moved = |bytes: u64| {
                // A byte now and then is no sign of life.
                if came.fetch_add(bytes, Ordering::Relaxed) + bytes >= SIGN_OF_LIFE {
                    came.store(0, Ordering::Relaxed);
                    self.guard.sign_of_life();
                }
            };
            let answer = self.guard.begin(&mut waiting, self.cache.narinfos(&batch.hashes, &moved)).await;
            // Without an answer, each path is asked for by itself: if the cache is dead, that says so. Where none was
            // asked for, nothing is known of the cache.
            let answer = answer.ok().flatten();
            match &answer {
                Some(found) if !found.is_empty() => self.guard.went_well(&waiting),
                Some(_) => self.guard.sign_of_life(),
                None => {}
            }
            answer.unwrap_or_default()
        };
        batch.answers.get_or_init(ask).await.get(hash).cloned()
    }

    async fn check(&self) -> Result<(), CacheError> {
        let mut waiting = self.guard.waiting(Kind::Small);
        let info = async {
            match self.cache.info().await? {
                Some(info) if !info.store_directory.is_default() => {
                    Err(CacheError::StoreDirectory { directory: info.store_directory })
                }
                _ => Ok(()),
            }
        };
        self.guard.call(&mut waiting, info).await
    }

    /// Begins to read a NAR.
    pub(crate) async fn nar(&self, url: &NarUrl) -> Result<Option<Pieces>, CacheError> {
        let mut waiting = self.guard.waiting(Kind::Nar);
        let stream = self.guard.begin(&mut waiting, self.cache.nar(url)).await?;
        Ok(stream.map(|stream| Pieces { stream, waiting }))
    }
}

/// The pieces of a NAR, and the patience that is left for them.
pub(crate) struct Pieces {
    stream: NarPieces,
    waiting: Waiting,
}

impl Pieces {
    pub(crate) async fn next(&mut self, guard: &Guard) -> Result<Option<Bytes>, CacheError> {
        let stream = &mut self.stream;
        let piece = async { stream.next().await.transpose() };
        let piece = match guard.breaker.wait(&mut self.waiting, piece).await {
            // Whether a piece is a sign of life is a matter of its size; that the end came is one.
            Ok(Ok(Some(piece))) => {
                guard.breaker.moved(&mut self.waiting, piece.len() as u64);
                return Ok(Some(piece));
            }
            Ok(piece) => std::future::ready(piece),
            Err(Dead::LeftOut) => return Err(CacheError::LeftOut),
            Err(Dead::Request { after }) => std::future::ready(Err(CacheError::TimedOut { after })),
            Err(Dead::Cache { after }) => return Err(guard.leave_out(CacheError::TimedOut { after })),
        };
        guard.call(&mut self.waiting, piece).await
    }
}

/// What makes a claim more than one.
pub(crate) struct Trust {
    /// Whose signatures count.
    pub(crate) keys: TrustedKeys,
    /// Paths whose content is known.
    pub(crate) pinned: BTreeMap<StorePath, Pinned>,
}

/// What a cache answered that can be believed.
pub(crate) struct Answer {
    pub(crate) member: Arc<Member>,
    pub(crate) narinfo: Verified<NarInfo>,
    /// Whether the size of the NAR is more than the cache's word.
    pub(crate) size_is_known: bool,
}

/// The answer of one cache, on its way. `None` if nobody waits for it any more.
type Pending = tokio::task::JoinHandle<Option<Result<Option<Bytes>, CacheError>>>;

/// Until when answers are waited for: until this says so, or goes.
pub(crate) type Wanted = watch::Receiver<bool>;

/// The answers of all caches to one question, in the order of the caches.
pub(crate) struct Answers {
    path: StorePath,
    pending: std::vec::IntoIter<(Arc<Member>, Pending)>,
    trust: Arc<Trust>,
    listener: Listener,
    /// The caches that nothing is known of, as they are left out.
    not_asked: Vec<String>,
    /// What went wrong last, if nothing better is to be said in the end.
    pub(crate) error: Option<FetchError>,
    /// Of a path whose content is known: that a cache has another one. To be said if every cache was asked.
    other_content: Option<FetchError>,
}

impl Answers {
    /// Asks all caches at once.
    pub(crate) fn ask(
        members: &[Arc<Member>],
        path: &StorePath,
        trust: Arc<Trust>,
        listener: Listener,
        wanted: &Wanted,
    ) -> Self {
        let (left_out, open): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.guard.is_left_out());
        let asked = open.into_iter().map(|member| {
            let (asked, path, mut wanted) = (Arc::clone(member), path.clone(), wanted.clone());
            // A task of its own: an answer that isn't needed any more is still read, which keeps its connection. But
            // not when all fetching has ended: a cache that is silent then would be told of again, as a dead one.
            let answer = async move {
                tokio::select! {
                    biased;
                    _ = wanted.wait_for(|ended| *ended) => None,
                    answer = asked.narinfo(&path) => Some(answer),
                }
            };
            (Arc::clone(member), tokio::spawn(answer))
        });
        let pending = asked.collect::<Vec<_>>().into_iter();
        let not_asked = left_out.into_iter().map(|member| member.guard.shown.clone()).collect();
        Self { path: path.clone(), pending, trust, listener, not_asked, error: None, other_content: None }
    }

    /// The next answer that can be believed.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        loop {
            let (member, answer) = self.pending.next()?;
            let bytes = match answer.await {
                Ok(Some(Ok(Some(bytes)))) => bytes,
                Ok(Some(Ok(None))) => continue,
                Ok(Some(Err(CacheError::LeftOut))) => {
                    self.not_asked.push(member.guard.shown.clone());
                    continue;
                }
                Ok(Some(Err(error))) => {
                    self.error = Some(FetchError::Cache { cache: member.guard.shown.clone(), source: error });
                    continue;
                }
                Ok(None) | Err(_) => {
                    self.error = Some(FetchError::Interrupted);
                    continue;
                }
            };
            match self.believe(&member, &bytes) {
                Ok((narinfo, size_is_known)) => return Some(Answer { member, narinfo, size_is_known }),
                Err(error) if error.is_other_content() => self.other_content = Some(error),
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Why there is no answer any more that can be believed: `None` if every cache was asked, and has nothing. What a
    /// cache that is left out has, nobody knows.
    pub(crate) fn end(self) -> Option<FetchError> {
        let Self { error, not_asked, other_content, .. } = self;
        error
            .or_else(|| (!not_asked.is_empty()).then_some(FetchError::NotAsked { caches: not_asked }))
            .or(other_content)
    }

    /// A narinfo that is signed by a trusted key, or is about a path that its content names, or has the content that is
    /// known already; and whether more than the cache says how large its NAR is.
    fn believe(&self, member: &Member, bytes: &[u8]) -> Result<(Verified<NarInfo>, bool), FetchError> {
        let (cache, path) = (member.guard.shown.clone(), self.path.clone());
        let narinfo = match NarInfo::parse(bytes, Asked::Path(&self.path)) {
            Ok(narinfo) => narinfo,
            Err(error) => {
                (self.listener)(RemoteEvent::BadNarInfo { cache: cache.clone(), path, error: error.clone() });
                return Err(FetchError::NarInfo { cache, source: error });
            }
        };
        self.trust.believe(narinfo).map_err(|error| {
            (self.listener)(RemoteEvent::NotTrusted { cache: cache.clone(), path, error: error.clone() });
            FetchError::NotTrusted { cache, source: error }
        })
    }
}

impl Trust {
    fn believe(&self, narinfo: NarInfo) -> Result<(Verified<NarInfo>, bool), Unverified> {
        let pinned = self.pinned.get(&narinfo.store_path);
        if let Some(Pinned { nar_hash, nar_size: Some(expected) }) = pinned
            && narinfo.nar_size != *expected
            && narinfo.nar_hash == *nar_hash
        {
            let (path, found, expected) = (narinfo.store_path, narinfo.nar_size, *expected);
            return Err(Unverified::OtherSize { path, found, expected });
        }
        let size_is_known = pinned.is_some_and(|pinned| pinned.nar_size.is_some());
        let signed = || self.keys.verify(narinfo.clone());
        if narinfo.content_address.is_some()
            && let Ok(believed) = Verified::by_content(narinfo.clone())
        {
            return Ok((believed, size_is_known || signed().is_ok()));
        }
        match pinned {
            Some(pinned) => {
                Ok((Verified::by_hash(narinfo.clone(), &pinned.nar_hash)?, size_is_known || signed().is_ok()))
            }
            None => Ok((signed()?, true)),
        }
    }
}
