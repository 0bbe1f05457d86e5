//! Counters, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that goes up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the server counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Answers by the first digit of their status.
    answers: [Counter; 6],
    pub(crate) answer_bytes: Counter,
    pub(crate) answer_microseconds: Counter,
    pub(crate) connections: Counter,
    pub(crate) narinfo_hits: Counter,
    pub(crate) narinfo_misses: Counter,
    pub(crate) narinfos_stored: Counter,
    pub(crate) nars_stored: Counter,
    pub(crate) nar_bytes_stored: Counter,
    pub(crate) nars_refused: Counter,
    pub(crate) collections: Counter,
    pub(crate) collected_paths: Counter,
    pub(crate) collected_bytes: Counter,
}

impl Metrics {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = self.answers.get(usize::from(status / 100)) {
            counter.add(1);
        }
    }

    /// The text that is served at `/metrics`.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "# HELP nixcache_answers_total Answers, by the class of their status.");
        let _ = writeln!(text, "# TYPE nixcache_answers_total counter");
        for (class, counter) in self.answers.iter().enumerate().skip(1) {
            let _ = writeln!(text, "nixcache_answers_total{{class=\"{class}xx\"}} {}", counter.get());
        }
        let rows = [
            ("answer_bytes_total", "counter", "Bytes of answers whose length was known.", &self.answer_bytes),
            ("answer_microseconds_total", "counter", "Time until answers began.", &self.answer_microseconds),
            ("connections", "gauge", "Connections that are open.", &self.connections),
            ("narinfo_hits_total", "counter", "Narinfos asked for that were there.", &self.narinfo_hits),
            ("narinfo_misses_total", "counter", "Narinfos asked for that were not there.", &self.narinfo_misses),
            ("narinfos_stored_total", "counter", "Narinfos taken in.", &self.narinfos_stored),
            ("nars_stored_total", "counter", "NARs taken in.", &self.nars_stored),
            ("nar_bytes_stored_total", "counter", "Bytes of the files of NARs taken in.", &self.nar_bytes_stored),
            ("nars_refused_total", "counter", "NARs that were sent and not taken.", &self.nars_refused),
            ("collections_total", "counter", "Garbage collections that ended well.", &self.collections),
            ("collected_paths_total", "counter", "Store paths that were dropped.", &self.collected_paths),
            ("collected_bytes_total", "counter", "Bytes of NARs that were dropped.", &self.collected_bytes),
        ];
        for (name, kind, help, counter) in rows {
            let _ = writeln!(text, "# HELP nixcache_{name} {help}");
            let _ = writeln!(text, "# TYPE nixcache_{name} {kind}");
            let _ = writeln!(text, "nixcache_{name} {}", counter.get());
        }
        text
    }
}
