//! Leaves a cache behind this one out for a while when it gives no answer, so that it costs one wait now and then and
//! not one for each request. It knows nothing of HTTP and has no clock: `upstream` tells it what came, and when.
//!
//! What was failing is tried again: after a pause one request may ask, while the others go on without. Nothing is
//! remembered of the paths that were asked for, so no path is missing for longer than that.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Whether a cache may be asked.
#[derive(Debug)]
pub(crate) struct Outage {
    /// How long it is left out at first. With each failure it is as much longer.
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since the last answer.
    failures: u32,
    failed: Option<Instant>,
    answered: Option<Instant>,
    /// There from the first failure to the next answer.
    left_out_until: Option<Instant>,
}

impl Outage {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { pause, state: Mutex::default() }
    }

    /// Whether it may be asked now. Of those who come when a pause is over, only the first may; there is another pause
    /// for the others, should the first never say how it went.
    pub(crate) fn may_ask(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.left_out_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.left_out_until = Some(now + self.pause_after(state.failures));
                true
            }
            None => true,
        }
    }

    /// Whether it gave no answer the last time.
    pub(crate) fn is_left_out(&self) -> bool {
        self.state().left_out_until.is_some()
    }

    /// An answer came, whatever it says.
    pub(crate) fn answered(&self, now: Instant) {
        *self.state() = State { answered: Some(now), ..State::default() };
    }

    /// No answer came to what was asked at `began`. Gives the pause if this begins one: many that wait together for
    /// the same silence are one failure, and a cache that answers others is slow at most.
    pub(crate) fn failed(&self, began: Instant, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        if state.answered.max(state.failed).is_some_and(|known| began <= known) {
            return None;
        }
        state.failures = state.failures.saturating_add(1);
        state.failed = Some(now);
        let pause = self.pause_after(state.failures);
        state.left_out_until = Some(now + pause);
        Some(pause)
    }

    /// The answer came after all, too late for who asked. It may be that only the way there took long, and there is a
    /// connection now: so the first pause ends here. One that is late again is left out like a silent one.
    pub(crate) fn answered_late(&self, now: Instant) {
        let mut state = self.state();
        if state.failures == 1 {
            state.left_out_until = Some(now);
        }
    }

    fn pause_after(&self, failures: u32) -> Duration {
        self.pause.saturating_mul(failures).min(LONGEST_PAUSE.max(self.pause))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What is inside is right at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn pauses_get_longer_until_there_is_an_answer() {
        let (outage, mut now) = (Outage::new(PAUSE), Instant::now());
        assert!(outage.may_ask(now) && outage.may_ask(now));
        for seconds in [10, 20, 30, 40, 50, 60, 60] {
            let began = now;
            now += SECOND;
            assert_eq!(outage.failed(began, now), Some(SECOND * seconds));
            assert!(!outage.may_ask(now + SECOND * seconds - SECOND));
            now += SECOND * seconds;
            assert!(outage.may_ask(now));
            assert!(!outage.may_ask(now + SECOND), "one asks, the others go on");
        }
        outage.answered(now);
        assert!(outage.may_ask(now));
        assert_eq!(outage.failed(now + SECOND, now + SECOND * 2), Some(PAUSE), "what was is forgotten");
    }

    #[test]
    fn many_that_wait_for_the_same_silence_are_one_failure() {
        let (outage, now) = (Outage::new(PAUSE), Instant::now());
        assert_eq!(outage.failed(now, now + SECOND), Some(PAUSE));
        assert_eq!(outage.failed(now + SECOND / 2, now + SECOND * 3 / 2), None);
        assert!(outage.may_ask(now + SECOND + PAUSE));
    }

    #[test]
    fn who_answers_others_is_only_slow() {
        let (outage, now) = (Outage::new(PAUSE), Instant::now());
        outage.answered(now + SECOND / 2);
        assert_eq!(outage.failed(now, now + SECOND), None);
        assert!(outage.may_ask(now + SECOND));
    }

    #[test]
    fn who_never_says_how_it_went_does_not_keep_the_others_out() {
        let (outage, now) = (Outage::new(PAUSE), Instant::now());
        outage.failed(now, now + SECOND);
        assert!(outage.may_ask(now + SECOND + PAUSE));
        assert!(!outage.may_ask(now + PAUSE * 2));
        assert!(outage.may_ask(now + SECOND + PAUSE * 2));
    }

    #[test]
    fn a_late_answer_ends_the_first_pause_alone() {
        let (outage, now) = (Outage::new(PAUSE), Instant::now());
        outage.failed(now, now + SECOND);
        outage.answered_late(now + SECOND * 2);
        assert!(outage.may_ask(now + SECOND * 2));
        assert!(!outage.may_ask(now + SECOND * 2));
        outage.failed(now + SECOND * 2, now + SECOND * 3);
        outage.answered_late(now + SECOND * 4);
        assert!(!outage.may_ask(now + SECOND * 4));
    }
}
