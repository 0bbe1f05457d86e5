//! Before cargo runs: what is there already is resolved, fetched and restored.

use std::time::{Instant, SystemTime};

use nixcache_core::cargo::fingerprint::newest_file;
use nixcache_core::cargo::layout::BuildLocks;
use nixcache_core::session::{Ledger, Resolution, RestoreContext, RestoreReport, UnitState, resolve, restore};
use nixcache_core::store::{Lease, LocalStore};
use nixcache_core::unit::PlannedPackage;
use nixcache_remote::Allowance;

use super::{Build, Stores};
use crate::caches::Fetch;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::report::{Report, bytes, chain};
use crate::session::Session;
use crate::settings::Patience;
use crate::summary::{Summary, timed};
use crate::workspace::PlannedBuild;

impl Build<'_> {
    /// Resolves and restores.
    pub(super) fn prepare(
        &self,
        build: &PlannedBuild,
        stores: Stores<'_>,
        report: &Report,
        summary: &mut Summary,
    ) -> Result<PreparedBuild, String> {
        let Stores { local: store, caches } = stores;
        let began = Instant::now();
        let session = Session::begin(build, self.dry_run).map_err(|error| chain(&error))?;
        let lease = store.lease().map_err(|error| chain(&error))?;
        let profile = build.layouts[0].profile().to_owned();
        let mut ledger = Ledger::read(build.build_directory(), &profile);
        let lookup = StoreLookup::new(build, LeaseSource::Held(&lease));
        let mut resolution = timed(&mut summary.seconds.resolve, || {
            resolve(&build.graph, &build.inputs, &ledger, build.build_directory(), &lookup)
        })
        .map_err(|error| chain(&error))?;
        let left_out = self.left_out(build);
        let in_place = |resolution: &Resolution| {
            let asked_for = resolution.iter().filter(|(unit, _)| !left_out.contains(unit));
            asked_for.filter(|(_, state)| matches!(state, UnitState::InPlace(_))).count() as u64
        };
        summary.units.fresh = in_place(&resolution);
        if self.dry_run {
            return Ok(PreparedBuild { resolution, ledger, session, profile });
        }
        if let Some(remote) = caches.filter(|remote| remote.can_fetch() && resolution.leaves_work()) {
            match self.settings.caches.patience {
                None => remote.allow(allowance(build, &resolution)),
                Some(Patience::Time(base)) => remote.allow(allowance(build, &resolution).with_base(base)),
                Some(Patience::Unlimited) => {}
            }
            let fetch = Fetch { build, store, remote, ledger: &ledger, lookup: &lookup, report, left_out: &left_out };
            let (resolved, fetched) =
                timed(&mut summary.seconds.resolve, || fetch.run(resolution)).map_err(|error| chain(&error))?;
            resolution = resolved;
            summary.bytes.fetched = fetched.bytes;
        }
        let restored = timed(&mut summary.seconds.restore, || {
            self.restore(build, &lease, &session, &mut resolution, &mut ledger, report)
        })?;
        summary.units.restored = in_place(&resolution).saturating_sub(summary.units.fresh);
        summary.bytes.linked = restored.linked;
        summary.bytes.copied = restored.copied;
        for (unit, error) in &restored.failed {
            let unit = build.graph.describe(*unit);
            report.detail("Not restored", &format!("{unit}: {}", chain(error)));
        }
        if summary.units.restored > 0 {
            report.status("Restored", &format!("{} in {:.1} s", restored_text(summary), began.elapsed().as_secs_f64()));
        }
        Ok(PreparedBuild { resolution, ledger, session, profile })
    }

    fn restore(
        &self,
        build: &PlannedBuild,
        lease: &Lease,
        session: &Session,
        resolution: &mut Resolution,
        ledger: &mut Ledger,
        report: &Report,
    ) -> Result<RestoreReport, String> {
        let hits = count(resolution, |state| matches!(state, UnitState::Restore(_)));
        if hits == 0 && !resolution.leaves_work() {
            return Ok(RestoreReport::default());
        }
        let writes_final_files =
            !matches!(build.command.intent(), Some(nixcache_core::cargo::arguments::Intent::Check { .. }));
        let _locks = BuildLocks::acquire(&build.layouts, build.lock_protocol, writes_final_files)
            .map_err(|error| chain(&error))?;
        // Whoever held the locks before may have built or restored something else in their places.
        if !resolution.is_intact(ledger, build.build_directory()) {
            *ledger = Ledger::read(build.build_directory(), build.layouts[0].profile());
            let lookup = StoreLookup::new(build, LeaseSource::Held(lease));
            *resolution = resolve(&build.graph, &build.inputs, ledger, build.build_directory(), &lookup)
                .map_err(|error| chain(&error))?;
        }
        let bar = report.bar("Restoring", hits);
        let context = RestoreContext {
            graph: &build.graph,
            store: lease,
            roots: &build.roots,
            layout: &|unit| build.layout(unit),
            layouts: &build.layouts,
            started: session.started,
            environment: &|name| build.variable(name),
            newest_file: &|package: &PlannedPackage| newest_file(package.root(), &build.workspace_root).ok(),
            immutable: &build.immutable,
            progress: &|done| bar.at(done),
        };
        restore(&context, resolution, ledger).map_err(|error| chain(&error))
    }
}

/// What is known when cargo starts.
pub(super) struct PreparedBuild {
    pub(super) resolution: Resolution,
    pub(super) ledger: Ledger,
    pub(super) session: Session,
    profile: String,
}

impl PreparedBuild {
    /// Writes down what is in place, and that it was used. It is done while cargo runs, since nothing of this build
    /// depends on it; whoever kills us before that loses time at the next build, and nothing else.
    pub(super) fn note(&mut self, build: &PlannedBuild, store: &LocalStore, report: &Report) {
        self.save_ledger(build, report);
        // Units that were used are the last to go. A store that cannot be written does not remember.
        let keys: Vec<_> =
            self.resolution.units.iter().filter_map(|state| state.pin().map(|pin| pin.artifact)).collect();
        let _ = store.lease().and_then(|lease| lease.touch(&keys, SystemTime::now()));
    }

    pub(super) fn save_ledger(&mut self, build: &PlannedBuild, report: &Report) {
        if let Err(error) = self.ledger.save(build.build_directory(), &self.profile) {
            report.detail("Ledger", &chain(&error));
        }
    }
}

/// What was restored, and how.
fn restored_text(summary: &Summary) -> String {
    let ways = [(summary.bytes.fetched, "fetched"), (summary.bytes.linked, "linked"), (summary.bytes.copied, "copied")];
    let ways = ways.into_iter().filter(|(size, _)| *size > 0).map(|(size, how)| format!("{} {how}", bytes(size)));
    let ways: Vec<_> = ways.collect();
    format!("{} of {} units ({})", summary.units.restored, summary.units.planned, ways.join(", "))
}

fn count(resolution: &Resolution, of: impl Fn(&UnitState) -> bool) -> u64 {
    resolution.units.iter().filter(|state| of(state)).count() as u64
}

/// How long fetching may take: it is to be faster than compiling.
fn allowance(build: &PlannedBuild, resolution: &Resolution) -> Allowance {
    let left = resolution.iter().filter(|(_, state)| matches!(state, UnitState::Left(_)));
    let profiles: Vec<_> = left.map(|(unit, _)| &build.graph.unit(unit).profile).collect();
    let optimized = profiles.iter().filter(|profile| profile.opt_level != "0").count();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Allowance::for_build(profiles.len(), cores, optimized * 2 > profiles.len())
}
