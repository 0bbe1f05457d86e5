//! `doctor`: what caching needs, checked one by one. Each check is a line on standard output: `ok`, `note` for what
//! makes it slower or narrower, `problem` for what stops it. Nothing is changed but for two small files, which are
//! removed again.

mod caches;

use std::process::{Command, ExitCode};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::arguments::CargoCommand;
use nixcache_core::cargo::config::BuildConfiguration;
use nixcache_core::cargo::layout::{CargoRelease, LayoutDecision, LayoutKind, LayoutSwitches};
use nixcache_core::cargo::record::RECORDER_VARIABLE;
use nixcache_core::cargo::toolchain::{Programs, Toolchain};
use nixcache_core::environment::Environment;
use nixcache_core::store::{Lease, LocalStore, PlacedHow, Placement, StoreError};

use super::{open_store, print};
use crate::exit;
use crate::machine::MachineCache;
use crate::report::{bytes, chain};
use crate::settings::Settings;
use crate::summary::Seconds;
use crate::workspace::{PlannedBuild, WorkspaceError};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Note,
    Problem,
}

/// The checks so far.
#[derive(Default)]
struct Findings {
    problems: usize,
}

impl Findings {
    fn say(&mut self, verdict: Verdict, what: &str, text: &str) {
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "problem",
        };
        self.problems += usize::from(verdict == Verdict::Problem);
        print(&format!("{word:<8} {what:<10} {text}"));
    }
}

/// `cargo nixcache doctor`
pub(crate) fn run(settings: &Settings) -> ExitCode {
    let mut findings = Findings::default();
    let environment: Environment = std::env::vars_os().collect();
    for file in settings.files.iter().filter(|file| file.present) {
        findings.say(Verdict::Ok, "settings", &file.name());
    }
    let toolchain = match toolchain(&environment, settings) {
        Ok((config, toolchain)) => {
            check_toolchain(&mut findings, &environment, &config, &toolchain);
            check_recorder(&mut findings, &toolchain);
            check_wrappers(&mut findings, &config);
            Some(toolchain)
        }
        Err(error) => {
            findings.say(Verdict::Problem, "toolchain", &error);
            None
        }
    };
    let build_directory = toolchain.and_then(|_| check_workspace(&mut findings, environment.clone(), settings));
    match open_store(settings) {
        Ok(store) => check_store(&mut findings, settings, &store, build_directory.as_deref()),
        Err(error) => findings.say(Verdict::Problem, "store", &chain(&error)),
    }
    caches::check(&mut findings, settings, &environment);
    if findings.problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::PROBLEM) }
}

fn toolchain(environment: &Environment, settings: &Settings) -> Result<(BuildConfiguration, Toolchain), String> {
    let command = CargoCommand::parse(&["build".into()]).map_err(|error| chain(&error))?;
    let current = std::env::current_dir().ok().and_then(|directory| Utf8PathBuf::from_path_buf(directory).ok());
    let current = current.ok_or("the current directory is not UTF-8")?;
    let config = BuildConfiguration::load(&current, environment, &command).map_err(|error| chain(&error))?;
    let programs = Programs::find(environment, &config).map_err(|error| chain(&error))?;
    let machine = MachineCache::new(&settings.store);
    let toolchain = machine.toolchain(&programs, environment, &config, &command).map_err(|error| chain(&error))?;
    Ok((config, toolchain))
}

fn check_toolchain(
    findings: &mut Findings,
    environment: &Environment,
    config: &BuildConfiguration,
    toolchain: &Toolchain,
) {
    findings.say(Verdict::Ok, "rustc", &format!("{} at {}", toolchain.release, toolchain.rustc));
    let release = toolchain.cargo_release().unwrap_or("of no known version");
    let Ok(known) = release.parse::<CargoRelease>() else {
        let text = format!("{release} at {} is not known: nothing is cached", toolchain.cargo);
        return findings.say(Verdict::Problem, "cargo", &text);
    };
    findings.say(Verdict::Ok, "cargo", &format!("{release} at {}", toolchain.cargo));
    let switches = LayoutSwitches {
        unstable_flags: &[],
        configured: config.unstable("build-dir-new-layout"),
        configured_fine_grain_locking: config.unstable("fine-grain-locking"),
    };
    let name = |kind| match kind {
        LayoutKind::Legacy => "one directory for all units (legacy)",
        LayoutKind::PerUnit => "one directory for each unit",
    };
    match known.decide_layout(switches, environment) {
        LayoutDecision::Known(kind) => findings.say(Verdict::Ok, "layout", name(kind)),
        LayoutDecision::Guess(kind) => {
            let text =
                format!("{}, by guess: the first build into an empty target directory is cargo's own", name(kind));
            findings.say(Verdict::Note, "layout", &text);
        }
    }
}

/// The recorder is this binary: it must be able to become rustc.
fn check_recorder(findings: &mut Findings, toolchain: &Toolchain) {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return findings.say(Verdict::Problem, "recorder", &format!("our own path is unknown: {error}")),
    };
    // There is no session in this file, so that nothing is recorded.
    let answer = Command::new(&own).arg(&toolchain.rustc).arg("-vV").env(RECORDER_VARIABLE, "/nonexistent").output();
    match answer {
        Ok(answer) if answer.status.success() && answer.stdout == toolchain.verbose_version.as_bytes() => {
            findings.say(Verdict::Ok, "recorder", &format!("{} starts rustc", own.display()));
        }
        Ok(answer) => {
            let text = format!("{} does not start rustc: {}", own.display(), answer.status);
            findings.say(Verdict::Problem, "recorder", &text);
        }
        Err(error) => {
            findings.say(Verdict::Problem, "recorder", &format!("{} does not start: {error}", own.display()));
        }
    }
}

fn check_wrappers(findings: &mut Findings, config: &BuildConfiguration) {
    match &config.rustc_wrapper {
        Some(wrapper) => findings.say(Verdict::Note, "wrapper", &format!("{wrapper} is called for what is compiled")),
        None => findings.say(Verdict::Ok, "wrapper", "none but our own"),
    }
    if let Some(wrapper) = &config.rustc_workspace_wrapper {
        findings.say(Verdict::Note, "wrapper", &format!("{wrapper} is part of the key of every member"));
    }
}

/// Plans a plain build here. Returns where cargo builds.
fn check_workspace(findings: &mut Findings, environment: Environment, settings: &Settings) -> Option<Utf8PathBuf> {
    let machine = MachineCache::new(&settings.store);
    let build = PlannedBuild::new(&["build".into()], environment, settings, &machine, None, &mut Seconds::default());
    match build {
        Ok(build) if build.graph.passed_through.is_empty() => {
            let text = format!("{} units at {}", build.graph.units.len(), build.workspace_root);
            findings.say(Verdict::Ok, "workspace", &text);
            Some(build.build_directory().to_owned())
        }
        Ok(build) => {
            let reasons = build.graph.passed_through.iter().map(|part| format!("{}: {}", part.what, part.why));
            let reasons: Vec<String> = reasons.collect();
            findings.say(Verdict::Note, "workspace", &format!("it is left to cargo: {}", reasons.join("; ")));
            Some(build.build_directory().to_owned())
        }
        Err(error @ WorkspaceError::Unknown { .. }) => {
            findings.say(Verdict::Problem, "workspace", &chain(&error));
            None
        }
        // No workspace is here, or cargo would refuse it.
        Err(error) => {
            findings.say(Verdict::Note, "workspace", &format!("no build is planned here: {}", chain(&error)));
            None
        }
    }
}

fn check_store(findings: &mut Findings, settings: &Settings, store: &LocalStore, build_directory: Option<&Utf8Path>) {
    match store.stats() {
        Ok(stats) => {
            let size = stats.blob_bytes + stats.node_bytes;
            let limit = settings.store_size.map_or_else(|| "no limit".to_owned(), bytes);
            let text = format!("{} of {limit} at {}", bytes(size), settings.store);
            match settings.store_size {
                Some(limit) if size > limit => {
                    findings.say(Verdict::Note, "size", &format!("{text}: `cargo nixcache gc` drops what is too much"));
                }
                _ => findings.say(Verdict::Ok, "size", &text),
            }
        }
        Err(error) => findings.say(Verdict::Problem, "size", &chain(&error)),
    }
    let lease = match store.lease() {
        Ok(lease) => lease,
        Err(error) => return findings.say(Verdict::Problem, "store", &chain(&error)),
    };
    if !lease.is_writable() {
        let text = format!("{} cannot be written: nothing new is kept", settings.store);
        return findings.say(Verdict::Problem, "store", &text);
    }
    findings.say(Verdict::Ok, "store", &format!("{} can be written", settings.store));
    let Some(directory) = build_directory.and_then(existing) else { return };
    match placed(&lease, directory) {
        Ok((PlacedHow::Linked, copies)) => {
            let copies = if copies == PlacedHow::Cloned { "clones" } else { "copies" };
            findings.say(Verdict::Ok, "links", &format!("hard links and {copies} into {directory}"));
        }
        Ok((PlacedHow::Cloned, _)) => {
            findings.say(Verdict::Ok, "links", &format!("clones into {directory}, no hard links"));
        }
        Ok((PlacedHow::Copied, _)) => {
            let text =
                format!("every file is copied into {directory}: a store on the same file system would be faster");
            findings.say(Verdict::Note, "links", &text);
        }
        Err(error) => findings.say(Verdict::Problem, "links", &chain(&error)),
    }
}

/// The directory, or the nearest above it that is there: cargo may not have made it yet.
fn existing(directory: &Utf8Path) -> Option<&Utf8Path> {
    directory.ancestors().find(|directory| directory.is_dir())
}

/// How a library and a program would get from the store into `directory`. Tried with a small file.
fn placed(lease: &Lease, directory: &Utf8Path) -> Result<(PlacedHow, PlacedHow), StoreError> {
    let blob = lease.insert_bytes(b"cargo nixcache doctor\n", false)?;
    let try_one = |placement| {
        let path = directory.join(format!(".cargo-nixcache-doctor-{}", std::process::id()));
        let placed = lease.materialise(&blob, &path, placement);
        // What could not be placed need not be removed.
        let _ = std::fs::remove_file(&path);
        placed
    };
    Ok((try_one(Placement::Link)?, try_one(Placement::Copy)?))
}
