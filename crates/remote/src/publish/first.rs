//! The first upload that a cache takes: until then nobody knows whether it takes any.
//!
//! A server can answer questions and hang on everything that is sent to it. While cargo compiles, that costs nothing.
//! When cargo has ended, the build waits for it; so it must give a sign of life soon. A cache that has taken something
//! in this build is trusted to take the rest, and waited for as long as uploads may take.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::network::NetworkOptions;
use crate::set::Guard;

/// Bytes of files under way that give a server a second more: it may look inside before it answers.
const LOOKED_AT: u64 = 16 << 20;

/// The same where nothing is told of what was sent until it is through: the way there can be slow.
const SENT: u64 = 1 << 20;

/// Whether a cache has taken anything yet, and how long it has for that.
pub(super) struct FirstAnswer {
    /// How long nothing may come.
    patience: Duration,
    /// That, and what files under way are good for, is no more than this.
    at_most: Duration,
    bytes_a_second: u64,
    has_come: AtomicBool,
    under_way: AtomicU64,
    build_ended: watch::Sender<Option<Instant>>,
}

/// A file on its way.
struct UnderWay<'a> {
    of: &'a AtomicU64,
    size: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.of.fetch_sub(self.size, Ordering::Relaxed);
    }
}

impl FirstAnswer {
    pub(super) fn new(options: &NetworkOptions, tells_what_is_sent: bool) -> Self {
        Self {
            patience: options.patience.min(options.upload_patience),
            at_most: options.upload_patience,
            bytes_a_second: if tells_what_is_sent { LOOKED_AT } else { SENT },
            has_come: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
            build_ended: watch::Sender::new(None),
        }
    }

    /// The cache has taken something.
    pub(super) fn came(&self) {
        self.has_come.store(true, Ordering::Relaxed);
    }

    pub(super) fn build_ended(&self) {
        self.build_ended.send_replace(Some(Instant::now()));
    }

    /// Waits, beside an upload of `size` bytes, until there is no hope for it. Gives how long nothing came.
    pub(super) async fn hopeless(&self, guard: &Guard, size: u64) -> Duration {
        self.under_way.fetch_add(size, Ordering::Relaxed);
        let _under_way = UnderWay { of: &self.under_way, size };
        let began = Instant::now();
        let mut build_ended = self.build_ended.subscribe();
        let build_ended = build_ended.wait_for(Option::is_some).await.ok().and_then(|at| *at).unwrap_or(began);
        loop {
            if self.has_come.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let silent_since = guard.last_sign_of_life().unwrap_or(began).max(began).max(build_ended);
            let until = silent_since + self.patience_for(self.under_way.load(Ordering::Relaxed));
            if Instant::now() >= until {
                return silent_since.elapsed();
            }
            sleep_until(until).await;
        }
    }

    fn patience_for(&self, under_way: u64) -> Duration {
        let more = Duration::from_secs_f64(under_way as f64 / self.bytes_a_second as f64);
        self.patience.saturating_add(more).min(self.at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_worth_some_time() {
        let options = NetworkOptions::default();
        let patience = |tells, size| FirstAnswer::new(&options, tells).patience_for(size);
        assert_eq!(patience(true, 0), options.patience);
        assert_eq!(patience(true, 64 << 20), options.patience + Duration::from_secs(4));
        assert_eq!(patience(false, 4 << 20), options.patience + Duration::from_secs(4));
        assert_eq!(patience(false, u64::MAX), options.upload_patience);
    }
}
