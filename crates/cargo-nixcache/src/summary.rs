//! The summary: what happened, as JSON. The names are a contract: see `docs/summary.md`.

use std::time::{Duration, Instant};

use serde::Serialize;

/// What happened in one build.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    schema: u32,
    command: Vec<String>,
    pub(crate) units: Units,
    /// The units that cargo built, by name.
    pub(crate) built: Vec<String>,
    pub(crate) not_kept: Vec<NotKeptUnit>,
    pub(crate) passed_through: Vec<String>,
    pub(crate) seconds: Seconds,
    pub(crate) bytes: Bytes,
}

/// How many units of which fate.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Units {
    /// In the plan.
    pub(crate) planned: u64,
    /// In place before.
    pub(crate) fresh: u64,
    /// Put in place.
    pub(crate) restored: u64,
    /// Built by cargo.
    pub(crate) built: u64,
    /// Built, and good only where the directories are the same.
    pub(crate) bound: u64,
    /// Left to cargo without a plan.
    pub(crate) passed_through: u64,
}

/// A unit that was built and not kept.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotKeptUnit {
    pub(crate) unit: String,
    pub(crate) why: String,
}

/// How long each step took, in seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Seconds {
    pub(crate) metadata: f64,
    pub(crate) plan: f64,
    pub(crate) resolve: f64,
    pub(crate) restore: f64,
    pub(crate) cargo: f64,
    pub(crate) collect: f64,
    pub(crate) publish: f64,
    pub(crate) total: f64,
}

/// How many bytes went which way.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Bytes {
    pub(crate) linked: u64,
    pub(crate) copied: u64,
    pub(crate) fetched: u64,
    pub(crate) published: u64,
}

impl Summary {
    /// The summary of a command that has not done anything yet.
    pub(crate) fn new(arguments: &[std::ffi::OsString]) -> Self {
        let command = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
        Self { schema: 1, command, ..Self::default() }
    }
}

impl Seconds {
    /// Times the reading of the metadata.
    pub(crate) fn metadata<T>(&mut self, work: impl FnOnce() -> T) -> T {
        timed(&mut self.metadata, work)
    }

    /// Times the plan.
    pub(crate) fn plan<T>(&mut self, work: impl FnOnce() -> T) -> T {
        timed(&mut self.plan, work)
    }
}

/// Adds the time that `work` takes to `seconds`.
pub(crate) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *seconds += rounded(began.elapsed());
    result
}

/// Whole milliseconds.
pub(crate) fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
