//! The circuit breaker: when a cache is left out for the rest of a build.
//!
//! Every wait for a cache goes through [`Breaker::wait`], so that all of them end together when one of them finds that
//! the cache is dead. What counts is not how long one request takes but whether the cache gives anything at all: while
//! it is being waited for and gives nothing for the length of its patience, it is out. So a dead cache costs that time
//! once, whatever the number of requests. Nothing is remembered beyond the build.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::error::{CacheError, Verdict};

/// Bytes that must come to count as a sign of life: one byte now and then is none.
pub(crate) const SIGN_OF_LIFE: u64 = 16 * 1024;

/// Whether a cache is still worth asking.
#[derive(Debug)]
pub(crate) struct Breaker {
    errors_allowed: u32,
    state: Mutex<State>,
    left_out: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    last_sign_of_life: Option<Instant>,
    /// By what it was that failed: small files can be well while every NAR breaks off.
    errors_in_a_row: [u32; 2],
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A small file, or a question about many.
    Small = 0,
    /// A NAR.
    Nar = 1,
}

/// The waiting of one request, which may be in pieces.
#[derive(Debug)]
pub(crate) struct Waiting {
    kind: Kind,
    /// How long the cache as a whole may give nothing.
    patience: Duration,
    /// How long this request may get nothing, even though others do.
    limit: Duration,
    /// How long it was waited for since this request got something.
    waited: Duration,
    bytes: u64,
}

impl Waiting {
    pub(crate) fn new(kind: Kind, patience: Duration, limit: Duration) -> Self {
        Self { kind, patience, limit, waited: Duration::ZERO, bytes: 0 }
    }
}

impl Breaker {
    pub(crate) fn new(errors_allowed: u32) -> Self {
        Self { errors_allowed, state: Mutex::default(), left_out: watch::Sender::new(false) }
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.left_out.borrow()
    }

    /// Leaves the cache out.
    pub(crate) fn leave_out(&self) {
        self.left_out.send_replace(true);
    }

    /// Whether the cache has never given anything.
    pub(crate) fn is_silent(&self) -> bool {
        self.last_sign_of_life().is_none()
    }

    /// When the cache gave something last.
    pub(crate) fn last_sign_of_life(&self) -> Option<Instant> {
        self.state().last_sign_of_life
    }

    /// The cache gave something.
    pub(crate) fn sign_of_life(&self) {
        self.state().last_sign_of_life = Some(Instant::now());
    }

    /// Bytes came for, or went from, the request that `waiting` belongs to.
    pub(crate) fn moved(&self, waiting: &mut Waiting, bytes: u64) {
        waiting.bytes += bytes;
        if waiting.bytes >= SIGN_OF_LIFE {
            waiting.bytes = 0;
            waiting.waited = Duration::ZERO;
            self.sign_of_life();
        }
    }

    /// Notes how a request ended. The answer is whether the cache must be left out for it.
    pub(crate) fn note<T>(&self, waiting: &Waiting, result: &Result<T, CacheError>) -> bool {
        let kind = waiting.kind as usize;
        let verdict = match result {
            Ok(_) => {
                let mut state = self.state();
                state.errors_in_a_row[kind] = 0;
                state.last_sign_of_life = Some(Instant::now());
                return false;
            }
            Err(error) => error.verdict(),
        };
        match verdict {
            Verdict::Innocent => false,
            Verdict::Hopeless => true,
            Verdict::Suspicious => {
                let mut state = self.state();
                state.errors_in_a_row[kind] += 1;
                state.errors_in_a_row[kind] >= self.errors_allowed
            }
        }
    }

    /// Waits for `future`, as long as there is hope.
    pub(crate) async fn wait<T>(&self, waiting: &mut Waiting, future: impl Future<Output = T>) -> Result<T, Dead> {
        let mut future = std::pin::pin!(future);
        let mut left_out = self.left_out.subscribe();
        let began = Instant::now();
        loop {
            let hopeless_at = self.hopeless_at(waiting, began);
            let too_long_at = began + waiting.limit.saturating_sub(waiting.waited);
            tokio::select! {
                biased;
                value = &mut future => {
                    waiting.waited += began.elapsed();
                    return Ok(value);
                }
                // The sender is part of `self`, so the other outcome can't be.
                _ = left_out.wait_for(|left_out| *left_out) => return Err(Dead::LeftOut),
                () = sleep_until(hopeless_at.min(too_long_at)) => {
                    let after = waiting.waited + began.elapsed();
                    if Instant::now() >= too_long_at {
                        return Err(Dead::Request { after });
                    }
                    // Others may have had a sign of life meanwhile.
                    if Instant::now() >= self.hopeless_at(waiting, began) {
                        return Err(Dead::Cache { after });
                    }
                }
            }
        }
    }

    fn hopeless_at(&self, waiting: &Waiting, began: Instant) -> Instant {
        let own = began + waiting.patience.saturating_sub(waiting.waited);
        match self.state().last_sign_of_life {
            Some(last) => own.max(last + waiting.patience),
            None => own,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The numbers inside are right at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why it isn't waited any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dead {
    /// The cache was left out.
    LeftOut,
    /// The cache gives nothing to anyone.
    Cache { after: Duration },
    /// This request gets nothing.
    Request { after: Duration },
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn waiting() -> Waiting {
        Waiting::new(Kind::Small, PATIENCE, PATIENCE * 5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_cache_is_given_up_once_for_all() {
        let breaker = Breaker::new(3);
        let began = Instant::now();
        let (mut first, mut second) = (waiting(), waiting());
        let first = async {
            let end = breaker.wait(&mut first, std::future::pending::<()>()).await;
            breaker.leave_out();
            end
        };
        let second = async {
            tokio::time::sleep(PATIENCE / 2).await;
            breaker.wait(&mut second, std::future::pending::<()>()).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!((first, second), (Err(Dead::Cache { after: PATIENCE }), Err(Dead::LeftOut)));
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_get_gives_hope_but_not_for_ever() {
        let breaker = Breaker::new(3);
        let mut stuck = waiting();
        let others = async {
            loop {
                tokio::time::sleep(PATIENCE / 2).await;
                breaker.sign_of_life();
            }
        };
        let end = tokio::select! {
            end = breaker.wait(&mut stuck, std::future::pending::<()>()) => end,
            () = others => unreachable!(),
        };
        assert_eq!(end, Err(Dead::Request { after: PATIENCE * 5 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_no_sign_of_life() {
        let breaker = Breaker::new(3);
        let (mut slow, mut pieces) = (waiting(), 0);
        let end = loop {
            match breaker.wait(&mut slow, tokio::time::sleep(PATIENCE * 2 / 5)).await {
                Ok(()) => pieces += 1,
                Err(end) => break end,
            }
            breaker.moved(&mut slow, 1);
        };
        assert_eq!((end, pieces), (Dead::Cache { after: PATIENCE }, 2));
        // Enough of them are.
        let mut quick = waiting();
        for _ in 0..20 {
            breaker.wait(&mut quick, tokio::time::sleep(PATIENCE / 4)).await.unwrap();
            breaker.moved(&mut quick, SIGN_OF_LIFE);
        }
    }

    #[test]
    fn errors_in_a_row_are_enough_and_success_forgives() {
        let breaker = Breaker::new(2);
        let broken = || Err::<(), _>(CacheError::Status { address: String::new(), status: 500 });
        let (small, nar) = (waiting(), Waiting::new(Kind::Nar, PATIENCE, PATIENCE));
        assert!(!breaker.note(&small, &broken()));
        assert!(!breaker.note(&small, &Ok(())));
        assert!(!breaker.note(&small, &broken()));
        assert!(!breaker.note(&nar, &broken()));
        assert!(!breaker.note(&small, &Ok(())));
        assert!(breaker.note(&nar, &broken()), "small files don't make up for NARs");
        assert!(!breaker.note(&nar, &Err::<(), _>(CacheError::LeftOut)));
        breaker.leave_out();
        assert!(breaker.is_open());
    }
}
