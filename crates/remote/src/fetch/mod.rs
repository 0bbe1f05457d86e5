//! Fetching: many paths at once, each one from the best cache that has it, straight into the caller's hands.
//!
//! ```text
//! narinfo of every cache ─► believed? ─► NAR, piece by piece ─► decompression ─► hash and size ─► `unpack`
//!            (tasks of the runtime)                             (one thread that may block)
//! ```
//!
//! Nothing is held whole in memory: a few pieces wait between the task and the thread. What a NAR needs here, a turn and
//! a decoder, is there before it is asked for: one that came and waited would hold up others on its connection.

mod checked;
mod decoders;
mod decompress;
mod pieces;

use std::cell::Cell;
use std::error::Error;
use std::io::Read;
use std::sync::{Arc, mpsc};

use nixcache_core::nix::narinfo::NarInfoError;
use nixcache_core::nix::{Compression, NarInfo, Sha256, StorePath, Unverified, Verified};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::checked::CheckedNar;
pub(crate) use self::decoders::Decoders;
use self::decompress::Decompressor;
use self::pieces::{PieceReader, feed};
use crate::allowance::CountedNar;
use crate::error::CacheError;
use crate::event::RemoteEvent;
use crate::remote::{Remote, Shared};
use crate::set::{Answer, Wanted};

/// What comes of fetching one path.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was read to its end, and its size and hash are those that were signed.
    Fetched {
        /// What `unpack` made of it.
        value: T,
        /// The bytes that came from the cache: compressed.
        bytes: u64,
        /// The cache that it came from, as it is shown.
        cache: String,
    },
    /// Every cache was asked, and none has it.
    Missing,
    /// A cache may have it, but it could not be had, or the cache could not be asked.
    Failed(FetchError),
}

/// Why a path could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A cache could not be asked.
    #[error("ask {cache}")]
    Cache {
        /// The cache.
        cache: String,
        /// Why not.
        #[source]
        source: CacheError,
    },
    /// A cache answered with something that is no narinfo of this path.
    #[error("read the answer of {cache}")]
    NarInfo {
        /// The cache.
        cache: String,
        /// What is wrong with it.
        #[source]
        source: NarInfoError,
    },
    /// Nobody who is trusted vouches for what a cache has.
    #[error("trust the answer of {cache}")]
    NotTrusted {
        /// The cache.
        cache: String,
        /// Why not.
        #[source]
        source: Unverified,
    },
    /// The NAR could not be read, or is not what was signed.
    #[error("read the NAR from {cache}")]
    Transfer {
        /// The cache.
        cache: String,
        /// Why not.
        #[source]
        source: Arc<TransferError>,
    },
    /// The NAR is as it was signed, but could not be unpacked here.
    #[error("unpack the NAR from {cache}")]
    Unpack {
        /// The cache.
        cache: String,
        /// What `unpack` said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// None of the caches that were asked has it. Others were left out, and may have it.
    #[error("ask {}, left out before", caches.join(" and "))]
    NotAsked {
        /// The caches that were left out.
        caches: Vec<String>,
    },
    /// It was not worth the time any more.
    #[error("fetch the path: it would have taken longer than to build it")]
    Ended,
    /// The work on it was stopped by a panic, or because nobody wants it any more.
    #[error("fetch the path: the work on it was interrupted")]
    Interrupted,
}

impl FetchError {
    /// Whether every cache was asked, and at least one has the path with another content than the one that is known.
    pub fn is_other_content(&self) -> bool {
        matches!(self, Self::NotTrusted { source: Unverified::OtherHash { .. }, .. })
    }
}

/// Why a NAR is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The cache failed on the way.
    #[error("read it from the cache")]
    Cache {
        /// How.
        #[source]
        source: CacheError,
    },
    /// The narinfo is there, but not its NAR.
    #[error("read it from the cache: it isn't there, although its narinfo is")]
    Missing,
    /// What came can't be decompressed: it is broken, or it ends early, or needs more memory than is given.
    #[error("decompress it")]
    Decompress {
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// The NAR ends early.
    #[error("read all of it: {received} of {expected} bytes came")]
    TooShort {
        /// The size that was signed.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// The NAR doesn't end where it should. What comes after was not read.
    #[error("read it: it has more than the {expected} bytes that were signed")]
    TooLong {
        /// The size that was signed.
        expected: u64,
    },
    /// The NAR has another hash.
    #[error("believe it: its hash is {found}, but {expected} was signed")]
    WrongHash {
        /// The hash that was signed.
        expected: Sha256,
        /// The hash of what came.
        found: Sha256,
    },
}

impl TransferError {
    /// Whether it is another NAR than the one that was signed, rather than a transfer that broke.
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::WrongHash { .. } | Self::TooLong { .. })
    }
}

/// What `unpack` is told of the path that it gets.
#[derive(Debug)]
pub struct FetchedPath {
    /// The tag that it was wanted with.
    pub tag: u64,
    /// What a trusted key vouches for.
    pub narinfo: Verified<NarInfo>,
}

/// What the caller does with a NAR.
pub(crate) type Unpack<T> =
    Arc<dyn Fn(&FetchedPath, &mut dyn Read) -> Result<T, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// Paths that are being fetched. When it goes, what is under way is given up, and no `unpack` runs any more.
pub struct Fetching<'r, T> {
    remote: &'r Remote,
    unpack: Unpack<T>,
    tasks: JoinSet<()>,
    outcomes: mpsc::Receiver<(u64, Outcome<T>)>,
    reports: mpsc::Sender<(u64, Outcome<T>)>,
    under_way: usize,
    /// Says that no answer is wanted any more.
    ended: watch::Sender<bool>,
    /// Every running `unpack` holds a copy of the sender.
    running: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl Remote {
    /// Fetches wanted store paths, many at once, while the caller goes on naming more.
    ///
    /// `unpack` runs on threads that may block, and reads the NAR, decompressed. What it makes of it must not become
    /// visible to anyone before [`Outcome::Fetched`] is given: until then the bytes are not known to be right.
    pub fn fetching<'r, T: Send + 'static>(
        &'r self,
        unpack: impl Fn(&FetchedPath, &mut dyn Read) -> Result<T, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Fetching<'r, T> {
        let (reports, outcomes) = mpsc::channel();
        Fetching {
            remote: self,
            unpack: Arc::new(unpack),
            tasks: JoinSet::new(),
            outcomes,
            reports,
            under_way: 0,
            ended: watch::Sender::new(false),
            running: mpsc::channel(),
        }
    }
}

impl<T: Send + 'static> Fetching<'_, T> {
    /// Wants a path. Never blocks. The tag comes back with the outcome.
    pub fn want(&mut self, tag: u64, path: StorePath) {
        let budget = &self.remote.shared().budget;
        if budget.is_spent() {
            self.under_way += 1;
            // It can only fail if there is no receiver, which is kept here.
            let _ = self.reports.send((tag, Outcome::Failed(FetchError::Ended)));
            return;
        }
        budget.begin();
        while self.tasks.try_join_next().is_some() {}
        self.under_way += 1;
        let mut report = Report { tag, sender: self.reports.clone(), sent: false };
        let job = Job {
            shared: Arc::clone(self.remote.shared()),
            unpack: Arc::clone(&self.unpack),
            wanted: self.ended.subscribe(),
            running: self.running.0.clone(),
            tag,
            path,
        };
        self.tasks.spawn_on(async move { report.send(job.run().await) }, self.remote.handle());
    }

    /// Says which paths will be wanted, so that caches that can are asked for them together, once the first is wanted.
    pub fn announce(&mut self, paths: &[StorePath]) {
        let hashes: Vec<_> = paths.iter().map(|path| *path.hash()).collect();
        self.remote.shared().announce(&hashes);
    }

    /// Waits for the next outcome, in the order in which they come. `None` when nothing is under way. When it isn't worth
    /// waiting any longer ([`Remote::allow`]), what is under way fails with [`FetchError::Ended`].
    #[expect(clippy::should_implement_trait, reason = "more can be wanted after the end: it is no iterator")]
    pub fn next(&mut self) -> Option<(u64, Outcome<T>)> {
        loop {
            if self.under_way == 0 {
                return None;
            }
            // What is there is taken, even if it came too late.
            if let Some(outcome) = self.try_next() {
                return Some(outcome);
            }
            let shared = self.remote.shared();
            let left = shared.budget.left();
            if left.is_some_and(|left| left.is_zero()) {
                shared.end_fetching();
            }
            let outcome = match left {
                Some(left) if !shared.budget.is_spent() => self.outcomes.recv_timeout(left).ok(),
                Some(_) => {
                    // Each of them says that it was interrupted.
                    self.tasks.abort_all();
                    self.ended.send_replace(true);
                    self.outcomes.recv().ok()
                }
                None => self.outcomes.recv().ok(),
            };
            if let Some(outcome) = outcome {
                return Some(self.taken(outcome));
            }
        }
    }

    fn taken(&mut self, (tag, outcome): (u64, Outcome<T>)) -> (u64, Outcome<T>) {
        self.under_way -= 1;
        match outcome {
            Outcome::Failed(FetchError::Interrupted) if self.remote.shared().budget.is_spent() => {
                (tag, Outcome::Failed(FetchError::Ended))
            }
            outcome => (tag, outcome),
        }
    }

    /// An outcome that is there already.
    pub fn try_next(&mut self) -> Option<(u64, Outcome<T>)> {
        let outcome = self.outcomes.try_recv().ok()?;
        Some(self.taken(outcome))
    }

    /// The number of paths whose outcome wasn't taken yet.
    pub fn under_way(&self) -> usize {
        self.under_way
    }
}

impl<T> Drop for Fetching<'_, T> {
    fn drop(&mut self) {
        self.tasks.abort_all();
        // Aborted tasks give their readers an error, so that every `unpack` comes to its end.
        let (own, running) = std::mem::replace(&mut self.running, mpsc::channel());
        drop(own);
        let _ = running.recv();
    }
}

/// Sends an outcome in any case, so that nobody waits for ever.
struct Report<T> {
    tag: u64,
    sender: mpsc::Sender<(u64, Outcome<T>)>,
    sent: bool,
}

impl<T> Report<T> {
    fn send(&mut self, outcome: Outcome<T>) {
        self.sent = true;
        // Nobody listens any more if the caller gave up.
        let _ = self.sender.send((self.tag, outcome));
    }
}

impl<T> Drop for Report<T> {
    fn drop(&mut self) {
        if !self.sent {
            self.send(Outcome::Failed(FetchError::Interrupted));
        }
    }
}

/// One path to fetch.
struct Job<T> {
    shared: Arc<Shared>,
    unpack: Unpack<T>,
    wanted: Wanted,
    running: mpsc::Sender<()>,
    tag: u64,
    path: StorePath,
}

impl<T: Send + 'static> Job<T> {
    async fn run(self) -> Outcome<T> {
        let mut answers = self.shared.ask(&self.path, &self.wanted);
        while let Some(answer) = answers.next().await {
            let (cache, path) = (answer.member.guard.shown.clone(), self.path.clone());
            let compression = &answer.narinfo.compression;
            if !decompress::is_supported(compression) {
                let compression = compression.clone();
                self.shared.tell(RemoteEvent::UnsupportedCompression { cache, path, compression });
                continue;
            }
            match self.transfer(answer).await {
                Ok((value, bytes)) => return Outcome::Fetched { value, bytes, cache },
                // Whoever signed it was wrong about it, or another cache has another NAR.
                Err(Failure::Unpack(source)) => {
                    let source: Arc<dyn Error + Send + Sync> = source.into();
                    let (of, error) = (cache.clone(), Arc::clone(&source));
                    self.shared.tell(RemoteEvent::NotUnpacked { cache: of, path, error });
                    answers.error = Some(FetchError::Unpack { cache, source });
                }
                Err(Failure::Interrupted) => return Outcome::Failed(FetchError::Interrupted),
                Err(Failure::Transfer(error)) => {
                    let error = Arc::new(error);
                    // The event that the cache is left out says it all.
                    if !matches!(*error, TransferError::Cache { source: CacheError::LeftOut }) {
                        let (cache, error) = (cache.clone(), Arc::clone(&error));
                        self.shared.tell(RemoteEvent::BadNar { cache, path, error });
                    }
                    answers.error = Some(FetchError::Transfer { cache, source: error });
                }
            }
        }
        answers.end().map_or(Outcome::Missing, Outcome::Failed)
    }

    /// Reads the NAR of a believed narinfo.
    async fn transfer(&self, answer: Answer) -> Result<(T, u64), Failure> {
        let _turn = self.shared.nars.take(answer.narinfo.nar_size).await;
        match self.attempt(&answer, decoders::EXPECTED).await {
            // It was given up when its first bytes came. Now there is room for whatever it needs.
            Err(failure) if failure.needs_memory() => self.attempt(&answer, decoders::LARGEST).await,
            result => result,
        }
    }

    /// The same, if its window is at most `largest`. Everything that is waited for here is waited for before the NAR is
    /// asked for: then it is read as fast as it comes.
    async fn attempt(&self, answer: &Answer, largest: u64) -> Result<(T, u64), Failure> {
        let Answer { member, narinfo, size_is_known } = answer;
        let size = narinfo.nar_size;
        let reserved = Decompressor::reserve(&narinfo.compression, size, largest, &self.shared.decoders).await?;
        let pieces = member.nar(&narinfo.url).await.map_err(Failure::cache)?;
        let pieces = pieces.ok_or(Failure::Transfer(TransferError::Missing))?;
        let (sender, reader) = PieceReader::new();
        let feeding = feed(pieces, &member.guard, sender, compressed_limit(narinfo));
        let (result, ()) =
            tokio::join!(self.unpack_on_thread(narinfo.clone(), *size_is_known, reserved, reader), feeding);
        result
    }

    async fn unpack_on_thread(
        &self,
        narinfo: Verified<NarInfo>,
        size_is_known: bool,
        decompressor: Decompressor,
        compressed: PieceReader,
    ) -> Result<(T, u64), Failure> {
        let (unpack, running, tag) = (Arc::clone(&self.unpack), self.running.clone(), self.tag);
        let shared = Arc::clone(&self.shared);
        let work = tokio::task::spawn_blocking(move || {
            let _running = running;
            let bytes = Cell::new(0);
            let counted = Counted { source: compressed, bytes: &bytes };
            let mut in_budget = shared.budget.count();
            let value = decompressor.decompress(counted, narinfo.nar_size, |decompressed| {
                let bound = (!size_is_known).then_some(&bytes);
                let decompressed = Metered { source: decompressed, nar: &mut in_budget, came: 0, bound };
                let mut nar = CheckedNar::new(decompressed, narinfo.nar_size, narinfo.nar_hash);
                let result = unpack(&FetchedPath { tag, narinfo }, &mut nar);
                // What `unpack` left over is read too. If the NAR is wrong, that is the reason for whatever it said.
                nar.finish().map_err(Failure::Transfer)?;
                result.map_err(Failure::Unpack)
            })?;
            in_budget.done();
            Ok((value, bytes.get()))
        });
        work.await.unwrap_or(Err(Failure::Interrupted))
    }
}

/// Why one transfer brought nothing.
enum Failure {
    Transfer(TransferError),
    Unpack(Box<dyn Error + Send + Sync>),
    Interrupted,
}

impl Failure {
    fn cache(source: CacheError) -> Self {
        Self::Transfer(TransferError::Cache { source })
    }

    /// Whether it needs more memory than was reserved.
    fn needs_memory(&self) -> bool {
        let Self::Transfer(TransferError::Decompress { source }) = self else { return false };
        source.kind() == std::io::ErrorKind::OutOfMemory
    }
}

/// The most that a file with this NAR can sensibly have: compression can make things a little larger, and a stream
/// that brings nothing but empty frames must end.
fn compressed_limit(narinfo: &NarInfo) -> u64 {
    match narinfo.compression {
        // One byte more, to see that there is one.
        Compression::None => narinfo.nar_size.saturating_add(1),
        _ => narinfo.nar_size.saturating_add(narinfo.nar_size / 64).saturating_add(1 << 20),
    }
}

/// What comes out of a decompressor for every byte that went in, at the most, where nobody knows the size. Programs and
/// libraries come to 3 to 10.
const MOST_FOR_A_BYTE: u64 = 64;

/// What may come out of it in any case.
const SMALL: u64 = 16 << 20;

/// Counts what comes out of a decompressor.
struct Metered<'a, 'b, R> {
    source: R,
    nar: &'a mut CountedNar<'b>,
    came: u64,
    /// The bytes that went in, if they bound what comes out.
    bound: Option<&'a Cell<u64>>,
}

impl<R: Read> Read for Metered<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.came += read as u64;
        if self.bound.is_some_and(|bytes| self.came > bytes.get().saturating_mul(MOST_FOR_A_BYTE).saturating_add(SMALL))
        {
            let text = format!("more than {MOST_FOR_A_BYTE} times as much comes out of it, and nobody knows its size");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
        }
        self.nar.came(read as u64);
        Ok(read)
    }
}

/// Counts what is taken out of a buffered reader.
struct Counted<'a, R> {
    source: R,
    bytes: &'a Cell<u64>,
}

impl<R: std::io::BufRead> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

impl<R: std::io::BufRead> std::io::BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.bytes.set(self.bytes.get() + amount as u64);
        self.source.consume(amount);
    }
}
