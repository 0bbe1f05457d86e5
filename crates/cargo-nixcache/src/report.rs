//! What people read: a quiet line beside cargo's own, a bar when it takes longer than a moment, and warnings.
//! All of it on standard error, in cargo's style, and none of it where cargo would be quiet.

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
pub(crate) use nixcache_core::error_chain::chain;

/// What takes longer than this is shown while it goes on.
const MOMENT: Duration = Duration::from_millis(400);

/// How much is said, and in which colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    quiet: bool,
    verbose: bool,
    colour: bool,
    terminal: bool,
}

impl Report {
    /// The report for a command of cargo with the given options.
    pub(crate) fn new(quiet: bool, verbose: bool, colour: Option<&str>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let colour = match colour {
            Some("always") => true,
            Some("never") => false,
            _ => terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        Self { quiet, verbose, colour, terminal }
    }

    /// A line with cargo's green word before it.
    pub(crate) fn status(&self, word: &str, text: &str) {
        if !self.quiet {
            self.line("\u{1b}[1;32m", &format!("{word:>12}"), &format!(" {text}"));
        }
    }

    /// A line that only `-v` shows.
    pub(crate) fn detail(&self, word: &str, text: &str) {
        if self.verbose {
            self.status(word, text);
        }
    }

    /// A warning: the build goes on.
    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            self.line("\u{1b}[1;33m", "warning", &format!(": nixcache: {text}"));
        }
    }

    /// An error of ours.
    pub(crate) fn error(&self, error: &dyn std::error::Error, hint: Option<&str>) {
        self.line("\u{1b}[1;31m", "error", &format!(": {}", chain(error)));
        if let Some(hint) = hint {
            self.line("\u{1b}[1;36m", "help", &format!(": {hint}"));
        }
    }

    fn line(&self, colour: &str, word: &str, text: &str) {
        let line = if self.colour { format!("{colour}{word}\u{1b}[0m{text}\n") } else { format!("{word}{text}\n") };
        // Nobody reads a closed standard error.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// A line for work whose end nobody knows, which shows itself only if it takes longer than a moment.
    pub(crate) fn spinner(&self, word: &'static str) -> Spinner {
        Spinner { word, began: Instant::now(), shown: !self.quiet && self.terminal, bar: OnceLock::new() }
    }

    /// A bar for work on `total` units, which shows itself only if the work takes longer than a moment.
    pub(crate) fn bar(&self, word: &'static str, total: u64) -> Bar {
        Bar { word, total, began: Instant::now(), shown: !self.quiet && self.terminal, bar: OnceLock::new() }
    }
}

/// A line that tells how work goes on whose end nobody knows; it may never be seen.
pub(crate) struct Spinner {
    word: &'static str,
    began: Instant,
    shown: bool,
    bar: OnceLock<ProgressBar>,
}

impl Spinner {
    /// Says where the work is.
    pub(crate) fn say(&self, text: &str) {
        if self.shown && self.began.elapsed() > MOMENT {
            let bar = self.bar.get_or_init(|| {
                let style = ProgressStyle::with_template("{prefix:>12.cyan.bold} {msg}");
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                    .with_prefix(self.word)
            });
            bar.set_message(text.to_owned());
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A progress bar that may never be seen.
pub(crate) struct Bar {
    word: &'static str,
    total: u64,
    began: Instant,
    shown: bool,
    bar: OnceLock<ProgressBar>,
}

impl Bar {
    /// Notes that `done` units are done.
    pub(crate) fn at(&self, done: u64) {
        if self.shown && self.began.elapsed() > MOMENT {
            let bar = self.bar.get_or_init(|| {
                let style = ProgressStyle::with_template("{prefix:>12.cyan.bold} [{bar:27}] {pos}/{len} units");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
                ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr())
                    .with_style(style)
                    .with_prefix(self.word)
            });
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A number of units as people read it.
pub(crate) fn units(count: usize) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}
