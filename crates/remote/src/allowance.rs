//! How long fetching may take: as long as it is worth it.
//!
//! What isn't fetched is compiled. So fetching may take the time that compiling what came would have taken, and a
//! little more at the beginning, when nothing can have come yet. A cache that is slower than the compiler is given up
//! when that is spent; what came until then is used.
//!
//! ```text
//! time that may pass = base + (NARs that came) / rate + at most 0.5 s for those under way
//! ```
//!
//! `rate` is how much of NARs this machine compiles in a second at the most: more than that, and the time saved would
//! be overestimated. So a build is slower than without the cache by `base` and 0.5 s at the most, if the rate is right.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Processor time that a unit takes to compile, at the least, on average.
const UNIT: Duration = Duration::from_millis(250);

/// The base, at the least: the time for a first answer from far away.
const BASE_AT_LEAST: Duration = Duration::from_millis(1000);

/// The base, at the most, however much there is to do.
const BASE_AT_MOST: Duration = Duration::from_millis(3000);

/// Bytes of NARs that one core compiles in a second, at the most.
const RATE: u64 = 12 << 20;

/// The same with optimization.
const RATE_OPTIMIZED: u64 = 4 << 20;

/// What NARs under way count for at the most: when they are given up, that was lost.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// How long fetching may take in one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    base: Duration,
    /// Bytes a second.
    rate: u64,
}

impl Allowance {
    /// For a build in which `units` are left to be compiled on `cores`, some of them with optimization or none.
    ///
    /// The base is a tenth of the time that they will take at the least; never under 1 s, never over 3 s.
    pub fn for_build(units: usize, cores: usize, optimized: bool) -> Self {
        let cores = u32::try_from(cores.max(1)).unwrap_or(u32::MAX);
        let work = UNIT.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX)) / cores;
        let rate = if optimized { RATE_OPTIMIZED } else { RATE };
        Self::new((work / 10).clamp(BASE_AT_LEAST, BASE_AT_MOST), rate * u64::from(cores))
    }

    /// The same with another base.
    pub fn with_base(self, base: Duration) -> Self {
        Self { base, ..self }
    }

    /// A base, and the bytes of NARs that are compiled in a second at the most.
    pub fn new(base: Duration, rate: u64) -> Self {
        Self { base, rate: rate.max(1) }
    }

    /// The time that is left after `elapsed`, when NARs of `done` bytes have come and `under_way` bytes of others. Zero
    /// when it is spent.
    fn left(&self, elapsed: Duration, done: u64, under_way: u64) -> Duration {
        let worth = |bytes: u64| Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let allowed = self.base.saturating_add(worth(done)).saturating_add(worth(under_way).min(UNDER_WAY));
        allowed.saturating_sub(elapsed)
    }
}

/// What all fetching of a build together has taken of its allowance.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    allowance: OnceLock<Allowance>,
    began: OnceLock<Instant>,
    done: AtomicU64,
    under_way: AtomicU64,
    spent: AtomicBool,
}

impl Budget {
    /// Sets the allowance. The first one counts.
    pub(crate) fn set(&self, allowance: Allowance) {
        let _ = self.allowance.set(allowance);
    }

    /// The clock starts with the first thing that is wanted.
    pub(crate) fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// The time that is left; `None` if there is no bound.
    pub(crate) fn left(&self) -> Option<Duration> {
        let allowance = self.allowance.get()?;
        let (done, under_way) = (self.done.load(Ordering::Relaxed), self.under_way.load(Ordering::Relaxed));
        Some(allowance.left(self.elapsed(), done, under_way))
    }

    /// Ends fetching for good. Whether it was this call that ended it.
    pub(crate) fn spend(&self) -> bool {
        !self.spent.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Acquire)
    }

    /// Counts one NAR.
    pub(crate) fn count(&self) -> CountedNar<'_> {
        CountedNar { budget: self, bytes: 0 }
    }
}

/// A NAR on its way, in the budget.
pub(crate) struct CountedNar<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl CountedNar<'_> {
    /// So many bytes more have come.
    pub(crate) fn came(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.budget.under_way.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It is there, and right.
    pub(crate) fn done(self) {
        self.budget.done.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for CountedNar<'_> {
    fn drop(&mut self) {
        self.budget.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A build and a cache, by the clock of a model: NARs come one after the other, `latency` passes before the first.
    struct Model {
        /// Sizes of NARs, in bytes.
        nars: Vec<u64>,
        /// What the cache gives in a second.
        speed: f64,
        latency: f64,
        /// What the machine compiles in a second.
        compiles: f64,
    }

    impl Model {
        fn without_cache(&self) -> f64 {
            self.nars.iter().sum::<u64>() as f64 / self.compiles
        }

        /// Seconds that fetching took, and bytes that came.
        fn fetch(&self, allowance: Allowance) -> (f64, u64) {
            let (mut now, mut done, mut index, mut under_way) = (0.0, 0, 0, 0.0);
            // In steps of a piece: `left` is asked whenever something comes, or when it is over.
            while index < self.nars.len() {
                let left = allowance.left(Duration::from_secs_f64(now), done, under_way as u64).as_secs_f64();
                if left == 0.0 {
                    break;
                }
                let piece = (self.nars[index] as f64 - under_way).min(65536.0);
                let begins = if now < self.latency { self.latency } else { now };
                let comes = begins + piece / self.speed;
                if comes - now > left {
                    now += left.max(1e-9);
                    continue;
                }
                now = comes;
                under_way += piece;
                if under_way >= self.nars[index] as f64 {
                    done += self.nars[index];
                    under_way = 0.0;
                    index += 1;
                }
            }
            (now, done)
        }

        /// The whole build: what didn't come is compiled.
        fn with_cache(&self, allowance: Allowance) -> f64 {
            let (seconds, done) = self.fetch(allowance);
            seconds + self.without_cache() - done as f64 / self.compiles
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_slow_cache_is_given_up_and_a_fast_one_never() {
        // 20 s of compilation on two cores: 40 units of 4 MiB at 8 MiB a second.
        let mut model = Model { nars: vec![4 * MIB; 40], speed: 0.0, latency: 0.1, compiles: (8 * MIB) as f64 };
        let allowance = Allowance::for_build(model.nars.len(), 2, false);
        assert_eq!(allowance, Allowance::new(BASE_AT_LEAST, 24 * MIB));
        // 200 KB/s, four times as much decompressed.
        model.speed = 800_000.0;
        assert!(model.with_cache(allowance) < model.without_cache() * 1.1, "{}", model.with_cache(allowance));
        model.speed = 100.0 * MIB as f64;
        assert_eq!(model.fetch(allowance).1, 160 * MIB);
        assert!(model.with_cache(allowance) < 2.0);
        // A black hole costs the base, however long it is waited for.
        model.latency = 1e6;
        assert!((model.with_cache(allowance) - model.without_cache() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_cache_that_becomes_slow_keeps_what_it_has_earned_and_no_more() {
        let allowance = Allowance::new(Duration::from_secs(1), MIB);
        let seconds = Duration::from_secs;
        assert_eq!(allowance.left(seconds(0), 0, 0), seconds(1));
        assert_eq!(allowance.left(seconds(5), 10 * MIB, 0), seconds(6));
        assert_eq!(allowance.left(seconds(5), 10 * MIB, 100 * MIB), seconds(6) + UNDER_WAY);
        assert_eq!(allowance.left(seconds(11), 10 * MIB, 0), Duration::ZERO);
    }

    #[test]
    fn the_base_grows_with_the_work() {
        let base = |units, cores| Allowance::for_build(units, cores, false).base;
        assert_eq!(base(1, 2), BASE_AT_LEAST);
        assert_eq!(base(120, 2), Duration::from_millis(1500));
        assert_eq!(base(10_000, 2), BASE_AT_MOST);
        assert_eq!(base(10_000, 64), BASE_AT_MOST);
        assert_eq!(base(0, 0), BASE_AT_LEAST);
        assert!(Allowance::for_build(9, 4, true).rate < Allowance::for_build(9, 4, false).rate);
    }

    #[test]
    fn what_was_under_way_and_failed_counts_for_nothing() {
        let budget = Budget::default();
        assert_eq!(budget.left(), None, "without an allowance there is no bound");
        budget.set(Allowance::new(Duration::from_secs(1), 1000));
        let mut nar = budget.count();
        nar.came(10_000);
        assert_eq!(budget.left(), Some(Duration::from_millis(1500)));
        drop(nar);
        assert_eq!(budget.left(), Some(Duration::from_secs(1)));
        let mut nar = budget.count();
        nar.came(10_000);
        nar.done();
        assert_eq!(budget.left(), Some(Duration::from_secs(11)));
        assert!(budget.spend() && !budget.spend() && budget.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_starts_with_the_first_thing_that_is_wanted() {
        let budget = Budget::default();
        budget.set(Allowance::new(Duration::from_secs(1), 1000));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(budget.left(), Some(Duration::from_secs(1)));
        budget.begin();
        tokio::time::advance(Duration::from_millis(400)).await;
        budget.begin();
        assert_eq!(budget.left(), Some(Duration::from_millis(600)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(budget.left(), Some(Duration::ZERO));
    }

    proptest! {
        /// Whatever the cache does: as long as the machine compiles no faster than is assumed, the build is longer by
        /// the base and half a second at the most.
        #[test]
        fn a_cache_never_costs_more_than_the_base(
            nars in proptest::collection::vec(1u64..40 * MIB, 1..60),
            speed in 1e3f64..3e8,
            latency in 0f64..10.0,
            share in 0.02f64..1.0,
            cores in 1usize..16,
        ) {
            let allowance = Allowance::for_build(nars.len(), cores, false);
            let compiles = allowance.rate as f64 * share;
            let model = Model { nars, speed, latency, compiles };
            let longer = model.with_cache(allowance) - model.without_cache();
            prop_assert!(longer <= (allowance.base + UNDER_WAY).as_secs_f64() + 1e-3, "{longer}");
            prop_assert!(longer <= 3.51);
        }

        /// A cache that is faster than the compiler is used to the end.
        #[test]
        fn a_cache_that_is_worth_it_is_not_given_up(
            nars in proptest::collection::vec(1u64..4 * MIB, 1..60),
            faster in 1.05f64..20.0,
            latency in 0f64..0.9,
            cores in 1usize..16,
        ) {
            let allowance = Allowance::for_build(nars.len(), cores, false);
            let all = nars.iter().sum::<u64>();
            let model = Model { nars, speed: allowance.rate as f64 * faster, latency, compiles: allowance.rate as f64 };
            prop_assert_eq!(model.fetch(allowance).1, all);
        }
    }
}
