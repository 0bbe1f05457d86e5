//! `pull`: fetches what the caches hold for a build into the store, and builds nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use nixcache_core::session::UnitState;

use super::{caches_failed, keep_within_size, nowhere};
use crate::caches::{self, CachesError, Fetch};
use crate::lookup::{LeaseSource, StoreLookup};
use crate::report::bytes;
use crate::settings::Settings;

/// `cargo nixcache pull`
pub(crate) fn run(settings: &Settings, arguments: &[OsString]) -> ExitCode {
    super::with_resolution(settings, arguments, |resolved| {
        let report = resolved.build.report();
        let caches = &settings.caches;
        let remote = match caches::open(&caches.to_fetch(), &resolved.build.environment, report) {
            Ok(Some(remote)) => remote,
            Ok(None) => return Ok(caches_failed(&nowhere(&caches.switched_off, CachesError::NowhereToFetch))),
            Err(error) => return Ok(caches_failed(&error)),
        };
        let lookup = StoreLookup::new(resolved.build, LeaseSource::Store(resolved.store));
        let fetch = Fetch {
            build: resolved.build,
            store: resolved.store,
            remote: &remote,
            ledger: resolved.ledger,
            lookup: &lookup,
            report: &report,
            left_out: &BTreeSet::new(),
        };
        let (resolution, fetched) = fetch.run(resolved.resolution)?;
        let left = resolution.iter().filter(|(_, state)| matches!(state, UnitState::Left(_))).count();
        let text = format!("{} records ({}); {left} units are left to build", fetched.records, bytes(fetched.bytes));
        report.status("Fetched", &text);
        keep_within_size(resolved.store, &report);
        if left > 0 && !remote.is_any_usable() {
            return Ok(caches_failed(&CachesError::NoneUsable));
        }
        Ok(ExitCode::SUCCESS)
    })
}
