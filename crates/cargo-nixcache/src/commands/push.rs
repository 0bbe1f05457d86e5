//! `push`: publishes what the store holds for a build.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use nixcache_core::session::UnitState;

use super::{caches_failed, nowhere};
use crate::caches::{self, CachesError, Publisher};
use crate::exit;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::report::units;
use crate::settings::Settings;

/// `cargo nixcache push`
pub(crate) fn run(settings: &Settings, arguments: &[OsString]) -> ExitCode {
    super::with_resolution(settings, arguments, |resolved| {
        let report = resolved.build.report();
        let remote = match caches::open(&settings.caches, &resolved.build.environment, report) {
            Ok(Some(remote)) if remote.can_publish() => remote,
            Ok(_) => {
                let error = nowhere(&settings.caches.switched_off, CachesError::NowhereToPublish);
                return Ok(caches_failed(&error));
            }
            Err(error) => return Ok(caches_failed(&error)),
        };
        let lookup = StoreLookup::new(resolved.build, LeaseSource::Store(resolved.store));
        let left_out = BTreeSet::new();
        let mut publisher = Publisher::new(resolved.build, resolved.store, &remote, &left_out, report)?;
        publisher.offer_settled(&resolved.resolution, resolved.ledger, &lookup)?;
        let published = publisher.finish();
        caches::tell_published(&report, &published);
        if published.failed.is_empty() {
            let left = resolved.resolution.iter().filter(|(_, state)| matches!(state, UnitState::Left(_))).count();
            let lacking = if left > 0 { format!("; the store lacks {}", units(left)) } else { String::new() };
            report.status("Finished", &format!("{} records were there already{lacking}", published.already_there));
            Ok(ExitCode::SUCCESS)
        } else {
            Ok(ExitCode::from(exit::CACHES))
        }
    })
}
