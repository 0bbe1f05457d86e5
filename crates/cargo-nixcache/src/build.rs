//! The main job: resolve, restore, run cargo, collect.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::fingerprint::package_stamp;
use nixcache_core::cargo::layout::BuildLocks;
use nixcache_core::environment::Environment;
use nixcache_core::plan::{own_packages, own_units};
use nixcache_core::session::{
    CollectContext, CollectReport, Collector, KeptUnit, Ledger, Resolution, RestoreContext, RestoreReport, UnitState,
    resolve, restore,
};
use nixcache_core::store::{Lease, LocalStore, StoreError};
use nixcache_core::unit::{PlannedPackage, UnitGraph, UnitIndex};
use nixcache_remote::{Allowance, Remote};

use crate::caches::{self, Fetch, Publisher};
use crate::child::{CargoCall, end_as};
use crate::launcher;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::machine::MachineCache;
use crate::report::{Report, bytes, chain};
use crate::session::Session;
use crate::settings::{Patience, Settings};
use crate::summary::{NotKeptUnit, Summary, rounded, timed};
use crate::workspace::{PlannedBuild, WorkspaceError};

/// How often finished units are looked for while cargo runs.
const POLL: Duration = Duration::from_millis(100);

/// One cargo command, from its arguments to its exit code.
pub(crate) struct Build<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) arguments: &'a [OsString],
    pub(crate) dry_run: bool,
    pub(crate) summary_file: Option<&'a Utf8Path>,
    pub(crate) scope: Scope,
    /// What is said to cargo and to all that it runs, beside our own environment.
    pub(crate) variables: &'a [(&'a str, &'a str)],
}

/// How much of the plan is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Everything,
    /// What does not belong to the workspace (crane's `buildDepsOnly`).
    Dependencies,
}

impl Build<'_> {
    /// Runs it.
    pub(crate) fn run(&self) -> ExitCode {
        match self.outcome() {
            Outcome::Code(code) => code,
            Outcome::Ended(status) => end_as(status),
        }
    }

    fn outcome(&self) -> Outcome {
        let began = std::time::Instant::now();
        let mut summary = Summary::new(self.arguments);
        let mut environment: Environment = std::env::vars_os().collect();
        self.variables.iter().for_each(|(name, value)| environment.set(*name, *value));
        let machine = MachineCache::new(&self.settings.store);
        let store = crate::commands::open_store(self.settings);
        let build = PlannedBuild::new(
            self.arguments,
            environment.clone(),
            self.settings,
            &machine,
            store.as_ref().ok(),
            &mut summary.seconds,
        );
        let (report, planned) = match build {
            Ok(build) => {
                let command = &build.command;
                let report = Report::new(command.quiet, command.verbose > 0, command.color.as_deref());
                summary.passed_through =
                    build.graph.passed_through.iter().map(|part| format!("{}: {}", part.what, part.why)).collect();
                for part in &summary.passed_through {
                    report.detail("Unplanned", part);
                }
                (report, Some(build).filter(|build| !build.graph.units.is_empty()))
            }
            Err(error) => {
                let report = Report::new(false, false, None);
                summary.passed_through = vec![chain(&error)];
                // Cargo says what is wrong with a workspace or an argument, and says it better.
                if matches!(error, WorkspaceError::Unknown { .. }) {
                    report.warning(&format!("nothing is cached: {}", chain(&error)));
                }
                (report, None)
            }
        };
        summary.units.passed_through = summary.passed_through.len() as u64;
        let code = match &planned {
            Some(build) => match &store {
                Ok(store) => self.cached(build, store, &report, &machine, &mut summary),
                Err(error) => {
                    report.warning(&format!("nothing is cached: {}", chain(error)));
                    self.plain(&environment, &report, &mut summary)
                }
            },
            None if self.dry_run => Outcome::Code(ExitCode::SUCCESS),
            None => self.plain(&environment, &report, &mut summary),
        };
        summary.seconds.total = rounded(began.elapsed());
        self.write_summary(&summary, &report);
        code
    }

    /// Cargo alone.
    fn plain(&self, environment: &Environment, report: &Report, summary: &mut Summary) -> Outcome {
        let cargo = environment.get_str("CARGO").unwrap_or("cargo");
        let (cargo, variables) = (Utf8Path::new(cargo), self.variables);
        let call = CargoCall { cargo, arguments: self.arguments, variables, recorder: None, output: None };
        run_cargo(&call, report, summary, |_| {})
    }

    fn cached(
        &self,
        build: &PlannedBuild,
        store: &LocalStore,
        report: &Report,
        machine: &MachineCache,
        summary: &mut Summary,
    ) -> Outcome {
        summary.units.planned = build.graph.units.len() as u64;
        let remote = if self.dry_run { None } else { self.remote(build, report) };
        let stores = Stores { local: store, caches: remote.as_ref() };
        let mut prepared = match self.prepare(build, stores, report, summary) {
            Ok(prepared) => prepared,
            Err(why) => {
                report.warning(&format!("nothing is cached: {why}"));
                return self.plain(&build.environment, report, summary);
            }
        };
        if prepared.resolution.leaves_work() {
            for proposal in &self.settings.caches.proposed {
                let (url, file, command) = (&proposal.url, &proposal.file, proposal.command());
                report.status("Proposed", &format!("{url}, by {file}; to trust and use it: {command}"));
            }
        }
        if self.dry_run {
            crate::commands::plan::show(build, &prepared.resolution);
            return Outcome::Code(ExitCode::SUCCESS);
        }
        self.build_rest(build, stores, &mut prepared, report, machine, summary)
    }

    /// The caches of the settings. Without them everything goes on.
    fn remote(&self, build: &PlannedBuild, report: &Report) -> Option<Remote> {
        caches::open(&self.settings.caches, &build.environment, *report).unwrap_or_else(|error| {
            report.warning(&format!("no cache is used: {}", chain(&error)));
            None
        })
    }

    /// Resolves and restores.
    fn prepare(
        &self,
        build: &PlannedBuild,
        stores: Stores<'_>,
        report: &Report,
        summary: &mut Summary,
    ) -> Result<PreparedBuild, String> {
        let Stores { local: store, caches } = stores;
        let began = std::time::Instant::now();
        let session = Session::begin(build, self.dry_run).map_err(|error| chain(&error))?;
        let lease = store.lease().map_err(|error| chain(&error))?;
        let profile = build.layouts[0].profile().to_owned();
        let mut ledger = Ledger::read(build.build_directory(), &profile);
        let lookup = StoreLookup::new(build, LeaseSource::Held(&lease));
        let mut resolution = timed(&mut summary.seconds.resolve, || {
            resolve(&build.graph, &build.inputs, &ledger, build.build_directory(), &lookup)
        })
        .map_err(|error| chain(&error))?;
        summary.units.fresh = count(&resolution, |state| matches!(state, UnitState::InPlace(_)));
        if self.dry_run {
            return Ok(PreparedBuild { resolution, ledger, session, profile });
        }
        if let Some(remote) = caches.filter(|remote| remote.can_fetch() && resolution.leaves_work()) {
            match self.settings.caches.patience {
                None => remote.allow(allowance(build, &resolution)),
                Some(Patience::Time(base)) => remote.allow(allowance(build, &resolution).with_base(base)),
                Some(Patience::Unlimited) => {}
            }
            let left_out = self.left_out(build);
            let fetch = Fetch { build, store, remote, ledger: &ledger, lookup: &lookup, report, left_out: &left_out };
            let (resolved, fetched) =
                timed(&mut summary.seconds.resolve, || fetch.run(resolution)).map_err(|error| chain(&error))?;
            resolution = resolved;
            summary.bytes.fetched = fetched.bytes;
        }
        let restored = timed(&mut summary.seconds.restore, || {
            self.restore(build, &lease, &session, &mut resolution, &mut ledger, report)
        })?;
        let in_place = count(&resolution, |state| matches!(state, UnitState::InPlace(_)));
        summary.units.restored = in_place - summary.units.fresh;
        summary.bytes.linked = restored.linked;
        summary.bytes.copied = restored.copied;
        for (unit, error) in &restored.failed {
            let unit = build.graph.describe(*unit);
            report.detail("Not restored", &format!("{unit}: {}", chain(error)));
        }
        if summary.units.restored > 0 {
            let linked = if restored.linked > 0 { format!("{} linked", bytes(restored.linked)) } else { String::new() };
            let copied = if restored.copied > 0 { format!("{} copied", bytes(restored.copied)) } else { String::new() };
            let fetched = summary.bytes.fetched;
            let fetched = if fetched > 0 { format!("{} fetched", bytes(fetched)) } else { String::new() };
            let both =
                [fetched, linked, copied].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
            let line = format!(
                "{} of {} units ({both}) in {:.1} s",
                summary.units.restored,
                summary.units.planned,
                began.elapsed().as_secs_f64()
            );
            report.status("Restored", &line);
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
        let bar = report.bar(hits);
        let context = RestoreContext {
            graph: &build.graph,
            store: lease,
            roots: &build.roots,
            layout: &|unit| build.layout(unit),
            layouts: &build.layouts,
            started: session.started,
            environment: &|name| build.variable(name),
            newest_file: &|package: &PlannedPackage| package_stamp(package.root(), &build.workspace_root).ok(),
            immutable: &build.immutable,
            progress: &|done| bar.at(done),
        };
        restore(&context, resolution, ledger).map_err(|error| chain(&error))
    }

    /// Runs cargo for the rest, and keeps what it builds.
    fn build_rest(
        &self,
        build: &PlannedBuild,
        stores: Stores<'_>,
        prepared: &mut PreparedBuild,
        report: &Report,
        machine: &MachineCache,
        summary: &mut Summary,
    ) -> Outcome {
        let Stores { local: store, caches } = stores;
        let wrapper = build.config.rustc_wrapper.as_deref().filter(|wrapper| !launcher::is_own(wrapper));
        // Whose units cargo is not to build.
        let refused = match self.scope {
            Scope::Everything => BTreeSet::new(),
            Scope::Dependencies => own_directories(&build.graph),
        };
        let left_out = self.left_out(build);
        // Files that were restored may name the launcher, so it is put in its place in any case.
        let program = launcher::recorder(&self.settings.store, wrapper);
        let recorder = program.filter(|_| prepared.resolution.leaves_work()).and_then(|program| {
            let session = prepared.session.recorder(build, wrapper.map(Utf8Path::to_string), self.settings, &refused);
            session.map(|file| (program, file))
        });
        let called = recorder.as_ref().map(|(program, _)| program);
        let notes = format!("{} {wrapper:?} {called:?}", build.toolchain.rustc);
        machine.place_rustc_info(build.build_directory(), &notes);
        let call = CargoCall {
            cargo: &build.toolchain.cargo,
            arguments: self.arguments,
            variables: self.variables,
            recorder: recorder.as_ref().map(|(program, file)| (program.as_path(), file.clone())),
            // What cargo says of refused members is no news.
            output: (self.scope == Scope::Dependencies).then(|| prepared.session.output_file()).flatten(),
        };
        let mut publisher = caches.and_then(|remote| publisher(build, store, remote, prepared, &left_out, report));
        let (code, collected) = if prepared.resolution.leaves_work() {
            build_and_collect(build, store, &call, prepared, publisher.as_mut(), report, summary)
        } else {
            // Nothing that cargo may still build was recorded, so there is nothing to keep.
            let code = run_cargo(&call, report, summary, |_| prepared.note(build, store, report));
            (code, CollectReport::default())
        };
        machine.keep_rustc_info(build.build_directory(), &notes);
        let code = match self.scope {
            Scope::Everything => code,
            Scope::Dependencies => dependencies_outcome(build, prepared, &left_out, &collected, report, code),
        };
        describe(build, &collected, report, summary);
        if let Some(publisher) = publisher {
            let published = timed(&mut summary.seconds.publish, || publisher.finish());
            summary.bytes.published = published.bytes;
            caches::tell_published(report, &published);
        }
        if collected.kept > 0
            && let Err(error) = store.auto_gc(SystemTime::now())
        {
            report.detail("Store", &chain(&error));
        }
        code
    }

    /// The units that caches have nothing to do with.
    fn left_out(&self, build: &PlannedBuild) -> BTreeSet<UnitIndex> {
        match self.scope {
            Scope::Everything => BTreeSet::new(),
            Scope::Dependencies => own_units(&build.graph),
        }
    }

    fn write_summary(&self, summary: &Summary, report: &Report) {
        let Some(path) = self.summary_file else { return };
        let written = serde_json::to_vec_pretty(summary).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|text| std::fs::write(path, text)) {
            report.warning(&format!("cannot write the summary {}: {error}", path));
        }
    }
}

/// Where artifacts come from and go to.
#[derive(Clone, Copy)]
struct Stores<'a> {
    local: &'a LocalStore,
    caches: Option<&'a Remote>,
}

/// How a command ends.
enum Outcome {
    /// With a code of ours.
    Code(ExitCode),
    /// As cargo ended, by a signal perhaps.
    Ended(ExitStatus),
}

struct PreparedBuild {
    resolution: Resolution,
    ledger: Ledger,
    session: Session,
    profile: String,
}

impl PreparedBuild {
    /// Writes down what is in place, and that it was used. It is done while cargo runs, since nothing of this build
    /// depends on it; whoever kills us before that loses time at the next build, and nothing else.
    fn note(&mut self, build: &PlannedBuild, store: &LocalStore, report: &Report) {
        self.save_ledger(build, report);
        // Units that were used are the last to go. A store that cannot be written does not remember.
        let keys: Vec<_> =
            self.resolution.units.iter().filter_map(|state| state.pin().map(|pin| pin.artifact)).collect();
        let _ = store.lease().and_then(|lease| lease.touch(&keys, SystemTime::now()));
    }

    fn save_ledger(&mut self, build: &PlannedBuild, report: &Report) {
        if let Err(error) = self.ledger.save(build.build_directory(), &self.profile) {
            report.detail("Ledger", &chain(&error));
        }
    }
}

fn count(resolution: &Resolution, of: impl Fn(&UnitState) -> bool) -> u64 {
    resolution.units.iter().filter(|state| of(state)).count() as u64
}

/// Runs cargo, and takes what it builds into the store while it is building the rest.
fn build_and_collect(
    build: &PlannedBuild,
    store: &LocalStore,
    call: &CargoCall<'_>,
    prepared: &mut PreparedBuild,
    mut publisher: Option<&mut Publisher<'_>>,
    report: &Report,
    summary: &mut Summary,
) -> (Outcome, CollectReport) {
    let lookup = StoreLookup::new(build, LeaseSource::Store(store));
    let layout = |unit: UnitIndex| build.layout(unit);
    let planned_from = build.planned_from();
    let context = CollectContext {
        graph: &build.graph,
        inputs: &build.inputs,
        store,
        roots: &build.roots,
        layouts: &build.layouts,
        layout: &layout,
        build_directory: build.build_directory(),
        target_directory: build.target_directory(),
        workspace_root: &build.workspace_root,
        immutable: &build.immutable,
        started: prepared.session.started,
        environment: &build.environment,
        host: &build.toolchain.host,
        planned_from: &planned_from,
        records: &prepared.session.records.clone(),
    };
    let mut collector = Collector::new(context, &prepared.resolution, &lookup);
    let code = run_cargo(call, report, summary, |running| {
        prepared.note(build, store, report);
        if call.recorder.is_some() {
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let collecting = scope.spawn(|| {
                    while !ended.load(Ordering::Acquire) {
                        offer(publisher.as_deref_mut(), &collector.poll());
                        std::thread::park_timeout(POLL);
                    }
                });
                // The status is asked for again below.
                let _ = running.wait();
                ended.store(true, Ordering::Release);
                collecting.thread().unpark();
            });
        }
    });
    let (collected, kept) = timed(&mut summary.seconds.collect, || collector.finish(&mut prepared.ledger));
    offer(publisher, &kept);
    prepared.save_ledger(build, report);
    (code, collected)
}

/// How long fetching may take: it is to be faster than compiling.
fn allowance(build: &PlannedBuild, resolution: &Resolution) -> Allowance {
    let left = resolution.iter().filter(|(_, state)| matches!(state, UnitState::Left(_)));
    let profiles: Vec<_> = left.map(|(unit, _)| &build.graph.unit(unit).profile).collect();
    let optimized = profiles.iter().filter(|profile| profile.opt_level != "0").count();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Allowance::for_build(profiles.len(), cores, optimized * 2 > profiles.len())
}

/// A publisher that has been offered what is in place already. A store that fails here is no reason not to build.
fn publisher<'a>(
    build: &'a PlannedBuild,
    store: &LocalStore,
    remote: &'a Remote,
    prepared: &PreparedBuild,
    left_out: &'a BTreeSet<UnitIndex>,
    report: &Report,
) -> Option<Publisher<'a>> {
    if !remote.can_publish() {
        return None;
    }
    let lookup = StoreLookup::new(build, LeaseSource::Store(store));
    let publisher = Publisher::new(build, store, remote, left_out, *report).and_then(|mut publisher| {
        publisher.offer_settled(&prepared.resolution, &prepared.ledger, &lookup)?;
        Ok(publisher)
    });
    publisher.inspect_err(|error| report.warning(&format!("nothing is published: {}", chain(error)))).ok()
}

fn offer(publisher: Option<&mut Publisher<'_>>, kept: &[KeptUnit]) {
    if let Some(publisher) = publisher {
        publisher.offer(kept);
    }
}

fn run_cargo(
    call: &CargoCall<'_>,
    report: &Report,
    summary: &mut Summary,
    meanwhile: impl FnOnce(&mut crate::child::Running),
) -> Outcome {
    let began = std::time::Instant::now();
    let status = call.start().and_then(|mut running| {
        meanwhile(&mut running);
        let status = running.wait();
        running.done();
        status
    });
    summary.seconds.cargo = rounded(began.elapsed());
    match status {
        Ok(status) => Outcome::Ended(status),
        Err(error) => {
            report.error(&error, Some(&format!("{} could not be run", call.cargo)));
            Outcome::Code(ExitCode::from(crate::exit::CARGO_MISSING))
        }
    }
}

/// The directories of the packages that belong to the user.
fn own_directories(graph: &UnitGraph) -> BTreeSet<Utf8PathBuf> {
    own_packages(graph).into_iter().map(|package| graph.packages[package.0 as usize].root().to_owned()).collect()
}

/// The members were refused, so cargo failed; what counts is whether all else is there.
fn dependencies_outcome(
    build: &PlannedBuild,
    prepared: &PreparedBuild,
    left_out: &BTreeSet<UnitIndex>,
    collected: &CollectReport,
    report: &Report,
    code: Outcome,
) -> Outcome {
    let mut missing = 0;
    let mut done = 0;
    for (index, _) in build.graph.iter() {
        if left_out.contains(&index) {
            // It was refused.
        } else if matches!(prepared.resolution.state(index), UnitState::InPlace(_)) || collected.built.contains(&index)
        {
            done += 1;
        } else {
            missing += 1;
        }
    }
    if missing == 0 {
        report.status("Finished", &format!("{done} units that the workspace depends upon"));
        return Outcome::Code(ExitCode::SUCCESS);
    }
    if let Some(output) = prepared.session.output_file().and_then(|file| std::fs::read(file).ok()) {
        use std::io::Write as _;
        // Nobody reads a closed standard error.
        let _ = std::io::stderr().write_all(&output);
    }
    code
}

/// Says what became of what cargo built.
fn describe(build: &PlannedBuild, collected: &CollectReport, report: &Report, summary: &mut Summary) {
    summary.built = collected.built.iter().map(|unit| build.graph.describe(*unit)).collect();
    summary.units.built = collected.built.len() as u64;
    summary.units.bound = collected.bound;
    for (unit, why) in &collected.not_kept {
        let unit = build.graph.describe(*unit);
        let why = chain(why);
        report.detail("Not kept", &format!("{unit}: {why}"));
        summary.not_kept.push(NotKeptUnit { unit, why });
    }
    for unit in &collected.unmatched {
        report.detail("Not kept", &format!("{unit}: it fits no planned unit"));
        summary.not_kept.push(NotKeptUnit { unit: unit.clone(), why: "it fits no planned unit".to_owned() });
    }
    if let Some(error) = &collected.stopped {
        match error {
            StoreError::ReadOnly { .. } => report.detail("Not kept", &chain(error)),
            other => report.warning(&format!("new units are no longer kept: {}", chain(other))),
        }
    }
}
