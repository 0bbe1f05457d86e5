//! The main job: resolve, restore, run cargo, collect.

mod prepare;
mod rest;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{ExitCode, ExitStatus};
use std::time::Instant;

use camino::Utf8Path;
use nixcache_core::environment::Environment;
use nixcache_core::plan::own_units;
use nixcache_core::store::LocalStore;
use nixcache_core::unit::UnitIndex;
use nixcache_remote::Remote;

use self::prepare::PreparedBuild;
use crate::caches;
use crate::child::{CargoCall, end_as};
use crate::machine::MachineCache;
use crate::report::{Report, chain};
use crate::settings::Settings;
use crate::summary::{Summary, rounded};
use crate::workspace::PlannedBuild;

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
        let began = Instant::now();
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
                let report = build.report();
                summary.passed_through =
                    build.graph.passed_through.iter().map(|part| format!("{}: {}", part.what, part.why)).collect();
                for part in &summary.passed_through {
                    report.detail("Unplanned", part);
                }
                (report, Some(build).filter(|build| !build.graph.units.is_empty()))
            }
            Err(error) if self.dry_run => return Outcome::Code(crate::commands::no_plan(&error)),
            Err(error) => {
                let report = Report::new(false, false, None);
                summary.passed_through = vec![chain(&error)];
                // Cargo says what is wrong with a workspace or an argument, and says it better.
                if error.is_ours_to_tell() {
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
            None if self.dry_run => {
                for part in &summary.passed_through {
                    crate::commands::print(&format!("cargo     {part}"));
                }
                Outcome::Code(ExitCode::SUCCESS)
            }
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
        let arguments = &self.cargo_arguments();
        let call = CargoCall { cargo, arguments, variables, recorder: None, output: None };
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
        summary.units.planned = (build.graph.units.len() - self.left_out(build).len()) as u64;
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
            return Outcome::Code(self.show(build, store, &prepared));
        }
        self.build_rest(build, stores, &mut prepared, report, machine, summary)
    }

    /// Shows what would be done.
    fn show(&self, build: &PlannedBuild, store: &LocalStore, prepared: &PreparedBuild) -> ExitCode {
        use crate::commands::plan::{ShownPlan, seen, show};
        let left_out = self.left_out(build);
        let PreparedBuild { resolution, ledger, .. } = prepared;
        match seen(self.settings, build, store, ledger, resolution, &left_out) {
            Ok(seen) => {
                show(&ShownPlan { build, resolution, seen: &seen }, &left_out);
                ExitCode::SUCCESS
            }
            Err(error) => crate::commands::store_failed(&error),
        }
    }

    /// The caches of the settings. Without them everything goes on.
    fn remote(&self, build: &PlannedBuild, report: &Report) -> Option<Remote> {
        let settings = &self.settings.caches;
        let opened = caches::open(settings, &build.environment, *report).or_else(|error| {
            if !error.is_of_signing() {
                return Err(error);
            }
            // Whoever can't sign, such as a build of a stranger's change, can fetch all the same.
            report.warning(&format!("nothing is published: {}", chain(&error)));
            caches::open(&settings.to_fetch(), &build.environment, *report)
        });
        opened.unwrap_or_else(|error| {
            report.warning(&format!("no cache is used: {}", chain(&error)));
            None
        })
    }

    /// What cargo is told.
    fn cargo_arguments(&self) -> Vec<OsString> {
        let mut arguments = self.arguments.to_vec();
        if self.scope == Scope::Dependencies {
            // Cargo goes on where a member is refused.
            arguments.insert(1.min(arguments.len()), "--keep-going".into());
        }
        arguments
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

fn run_cargo(
    call: &CargoCall<'_>,
    report: &Report,
    summary: &mut Summary,
    meanwhile: impl FnOnce(&mut crate::child::Running),
) -> Outcome {
    let began = Instant::now();
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
