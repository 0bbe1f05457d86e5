//! `pull`: fetches what the caches hold for a build into the store, and builds nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use nixcache_core::session::UnitState;

use super::caches_failed;
use crate::caches::{self, CachesError, Fetch};
use crate::lookup::{LeaseSource, StoreLookup};
use crate::report::{Report, bytes};
use crate::settings::Settings;

/// `cargo nixcache pull`
pub(crate) fn run(settings: &Settings, arguments: &[OsString]) -> ExitCode {
    super::with_resolution(settings, arguments, |resolved| {
        let command = &resolved.build.command;
        let report = Report::new(command.quiet, command.verbose > 0, command.color.as_deref());
        let remote = match caches::open(&settings.caches, &resolved.build.environment, report) {
            Ok(Some(remote)) if remote.can_fetch() => remote,
            Ok(_) => return Ok(caches_failed(&CachesError::NowhereToFetch)),
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
        Ok(ExitCode::SUCCESS)
    })
}
