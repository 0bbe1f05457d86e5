//! What caches did, told to the user: what matters as warnings, the rest with `--verbose`.
//!
//! What is wrong with a cache as a whole, such as that its key isn't trusted, shows in each of its paths. It is said
//! once, with what can be done about it: otherwise such a cache would look like an empty one.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nixcache_core::nix::Unverified;
use nixcache_remote::{RemoteEvent, TransferError};

use crate::report::{Report, chain};

/// What of a cache is not used, for a reason that is likely to hold for all of its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    UnknownKey,
    Unsigned,
    OtherContent,
    Compression,
    CutOff,
}

/// How a warning ends that stands for more.
const MORE: &str = "(`--verbose` shows each path)";

/// Tells the user what happened on the way.
pub(super) struct Teller {
    report: Report,
    told: AtomicUsize,
    /// What was said of which cache.
    refused: Mutex<BTreeSet<(String, Refused)>>,
}

impl Teller {
    /// A cache that is broken throughout has said enough after these.
    const WARNINGS: usize = 5;

    pub(super) fn new(report: Report) -> Self {
        Self { report, told: AtomicUsize::new(0), refused: Mutex::default() }
    }

    pub(super) fn tell(&self, event: &RemoteEvent) {
        match event {
            RemoteEvent::CacheLeftOut { cache, error } => {
                self.report.warning(&format!("the cache {cache} is left out of this build: {}", chain(error)));
            }
            RemoteEvent::FetchingEnded { after } => {
                let seconds = after.as_secs_f64();
                let text =
                    format!("fetching was slower than compiling, and ended after {seconds:.1} s: the rest is built");
                self.report.warning(&text);
            }
            RemoteEvent::NotTrusted { cache, path, error } if error.is_tampering() => {
                self.warn(&format!("{cache} has {path} with a wrong signature: {}", chain(error)));
            }
            RemoteEvent::NotTrusted { cache, path, error } => {
                let what = format!("{path} of {cache}: {}", chain(error));
                let (kind, warning) = match error {
                    Unverified::UnknownKeys { .. } => (
                        Refused::UnknownKey,
                        format!(
                            "{what}. If you trust that key, `cargo nixcache use {cache}` or --trusted-key says so; until \
                             then nothing that only it has signed is used {MORE}"
                        ),
                    ),
                    Unverified::Unsigned { .. } => (
                        Refused::Unsigned,
                        format!(
                            "{what}. What nobody signed isn't used; whoever publishes there needs a secret key {MORE}"
                        ),
                    ),
                    _ => (Refused::OtherContent, format!("{what} {MORE}")),
                };
                self.refuse(cache, kind, &warning, "Not trusted", &what);
            }
            RemoteEvent::BadNarInfo { cache, path, error } => {
                self.warn(&format!("{cache} has no usable narinfo for {path}: {}", chain(error)));
            }
            RemoteEvent::BadNar { cache, path, error } => match **error {
                // The connection broke, and was given up.
                TransferError::Cache { .. } => {
                    let what = format!("{path} of {cache}: {}", chain(error));
                    let warning = format!("{cache} has {path}, but it could not be fetched: {} {MORE}", chain(error));
                    self.refuse(cache, Refused::CutOff, &warning, "Not fetched", &what);
                }
                _ => self.warn(&format!("{cache} has {path} not as it was signed: {}", chain(error))),
            },
            RemoteEvent::NotUnpacked { cache, path, error } => {
                self.report.detail("Not unpacked", &format!("{path} of {cache}: {}", chain(error)));
            }
            RemoteEvent::UnsupportedCompression { cache, path, compression } => {
                let what = format!("{path} of {cache}: its compression {compression} is not one that can be read");
                let warning =
                    format!("{what}. `nix copy` to a cache for builds needs `?compression=zstd` in its URL {MORE}");
                self.refuse(cache, Refused::Compression, &warning, "Not fetched", &what);
            }
            other => self.report.detail("Cache", &format!("{other:?}")),
        }
    }

    /// One warning for each cache and kind; a line for each path with `--verbose`.
    fn refuse(&self, cache: &str, kind: Refused, warning: &str, word: &str, what: &str) {
        let is_first = {
            let mut refused = self.refused.lock().expect("no thread panics while it holds the list");
            refused.insert((cache.to_owned(), kind))
        };
        match is_first {
            true => self.report.warning(warning),
            false => self.report.detail(word, what),
        }
    }

    fn warn(&self, text: &str) {
        match self.told.fetch_add(1, Ordering::Relaxed) {
            told if told < Self::WARNINGS => self.report.warning(text),
            Self::WARNINGS => self.report.warning("there is more of this kind; `--verbose` shows it"),
            _ => self.report.detail("Not fetched", text),
        }
    }
}
