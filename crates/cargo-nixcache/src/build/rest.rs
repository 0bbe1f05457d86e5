//! Cargo builds the rest, and what it builds is kept and published.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::plan::own_packages;
use nixcache_core::session::{CollectContext, CollectReport, Collector, KeptUnit, UnitState};
use nixcache_core::store::{LocalStore, StoreError};
use nixcache_core::unit::{UnitGraph, UnitIndex};
use nixcache_remote::Remote;

use super::prepare::PreparedBuild;
use super::{Build, Outcome, Scope, Stores, run_cargo};
use crate::caches::{self, Publisher};
use crate::child::CargoCall;
use crate::launcher;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::machine::MachineCache;
use crate::report::{Report, chain, units};
use crate::summary::{NotKeptUnit, Summary, timed};
use crate::workspace::PlannedBuild;

/// How often finished units are looked for while cargo runs.
const POLL: Duration = Duration::from_millis(100);

impl Build<'_> {
    /// Runs cargo for the rest, and keeps what it builds.
    pub(super) fn build_rest(
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
        if self.scope == Scope::Dependencies {
            let left = prepared
                .resolution
                .iter()
                .filter(|(unit, state)| matches!(state, UnitState::Left(_)) && !left_out.contains(unit));
            match left.count() {
                0 => {}
                left => report.status("Building", &format!("{} that the workspace depends upon", units(left))),
            }
        }
        let arguments = self.cargo_arguments();
        let notes = format!("{} {wrapper:?} {called:?}", build.toolchain.rustc);
        machine.place_rustc_info(build.build_directory(), &notes);
        let call = CargoCall {
            cargo: &build.toolchain.cargo,
            arguments: &arguments,
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
            let published = timed(&mut summary.seconds.publish, || publisher.finish_build());
            summary.bytes.published = published.bytes;
            caches::tell_published(report, &published);
        }
        if collected.kept > 0 || summary.bytes.fetched > 0 {
            crate::commands::keep_within_size(store, report);
        }
        code
    }
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
        own_packages: &build.own_packages,
        started: prepared.session.started,
        environment: &build.environment,
        variable: &|name| build.variable(name),
        host: &build.toolchain.host,
        planned_from: &planned_from,
        records: &prepared.session.records.clone(),
    };
    let mut collector = Collector::new(context, &prepared.resolution, &prepared.ledger, &lookup);
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
        report.status("Finished", &format!("{} that the workspace depends upon", units(done)));
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
