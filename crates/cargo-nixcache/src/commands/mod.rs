//! Our own commands, one file each.

pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod crane;
pub(crate) mod doctor;
pub(crate) mod key;
pub(crate) mod man;
pub(crate) mod nif;
pub(crate) mod nix;
pub(crate) mod plan;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod use_cache;
pub(crate) mod why;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::SystemTime;

use nixcache_core::environment::Environment;
use nixcache_core::session::{Ledger, Resolution, resolve};
use nixcache_core::store::{LocalStore, StoreError, StoreOptions};

use crate::caches::{CachesError, Seen};
use crate::exit;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::machine::MachineCache;
use crate::report::{Report, chain};
use crate::settings::Settings;
use crate::summary::Seconds;
use crate::workspace::{PlannedBuild, WorkspaceError};

/// Opens the store of the settings.
pub(crate) fn open_store(settings: &Settings) -> Result<LocalStore, StoreError> {
    let options = StoreOptions { size_limit: settings.store_size, ..StoreOptions::default() };
    LocalStore::open(&settings.store, options)
}

/// Drops what was not used for longest, if the store has outgrown its size. What it can't drop now goes another time.
pub(crate) fn keep_within_size(store: &LocalStore, report: &Report) {
    if let Err(error) = store.auto_gc(SystemTime::now()) {
        report.detail("Store", &chain(&error));
    }
}

/// A build that was planned and resolved.
struct Resolved<'a> {
    build: &'a PlannedBuild,
    resolution: Resolution,
    ledger: &'a Ledger,
    store: &'a LocalStore,
}

impl Resolved<'_> {
    /// What caches have of the units that are left.
    fn seen(&self, settings: &Settings) -> Result<Seen, StoreError> {
        plan::seen(settings, self.build, self.store, self.ledger, &self.resolution, &BTreeSet::new())
    }
}

/// Plans and resolves a build without touching anything, and hands it to `show`.
fn with_resolution(
    settings: &Settings,
    arguments: &[OsString],
    show: impl FnOnce(Resolved<'_>) -> Result<ExitCode, StoreError>,
) -> ExitCode {
    let environment: Environment = std::env::vars_os().collect();
    let machine = MachineCache::new(&settings.store);
    let store = match open_store(settings) {
        Ok(store) => store,
        Err(error) => return store_failed(&error),
    };
    let mut seconds = Seconds::default();
    let build = match PlannedBuild::new(arguments, environment, settings, &machine, Some(&store), &mut seconds) {
        Ok(build) => build,
        Err(error) => return no_plan(&error),
    };
    let resolved = || {
        let lease = store.lease()?;
        let ledger = Ledger::read(build.build_directory(), build.layouts[0].profile());
        let lookup = StoreLookup::new(&build, LeaseSource::Held(&lease));
        let resolution = resolve(&build.graph, &build.inputs, &ledger, build.build_directory(), &lookup)?;
        show(Resolved { build: &build, resolution, ledger: &ledger, store: &store })
    };
    resolved().unwrap_or_else(|error| store_failed(&error))
}

/// Ends where there is no plan. What cargo said of it comes first, in its own words.
pub(crate) fn no_plan(error: &WorkspaceError) -> ExitCode {
    use std::io::Write as _;
    if let Some(words) = error.words_of_cargo() {
        // Nobody reads a closed standard error.
        let _ = std::io::stderr().write_all(words.as_bytes());
    }
    Report::new(false, false, None).error(error, error.hint());
    ExitCode::from(exit::NO_PLAN)
}

/// Ends with an error of the store.
pub(crate) fn store_failed(error: &StoreError) -> ExitCode {
    let hint = matches!(error, StoreError::Busy { .. }).then_some("wait for the builds that use it, and try again");
    Report::new(false, false, None).error(error, hint);
    ExitCode::from(exit::STORE)
}

/// Ends with an error of the caches.
fn caches_failed(error: &CachesError) -> ExitCode {
    Report::new(false, false, None).error(error, None);
    ExitCode::from(exit::CACHES)
}

/// Why there is no cache for a command: a setting that leaves none, or that none is set.
fn nowhere(switched_off: &[&'static str], otherwise: CachesError) -> CachesError {
    switched_off.first().map_or(otherwise, |setting| CachesError::SwitchedOff { setting })
}

/// Writes a line to standard output. A reader that has gone away is no error.
pub(crate) fn print(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
