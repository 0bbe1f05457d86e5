//! `nif build`: the ordinary build of a member, as a NIF, and a look into what came out.
//!
//! It is a release build without symbols. `RUSTLER_PRIMARY_NIF_INIT` is set, so that `nif_init` is there also where
//! the crate is built as another's dependency; it is in the keys of what it changes.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::arguments::CargoCommand;
use nixcache_core::cargo::metadata;
use nixcache_core::environment::Environment;
use nixcache_core::nif::{
    Inspection, Limits, NifMember, NifName, NifPlatform, NifTarget, NifVersion, find_members, inspect,
};
use nixcache_core::unit::{CompileMode, CrateType};

use super::{BuildArguments, NifError};
use crate::build::{Build, Scope};
use crate::commands::{open_store, print};
use crate::machine::MachineCache;
use crate::report::Report;
use crate::settings::Settings;
use crate::summary::Seconds;
use crate::workspace::PlannedBuild;

/// What is said to cargo and to all that it runs.
const VARIABLES: [(&str, &str); 2] = [("RUSTLER_PRIMARY_NIF_INIT", "1"), ("CARGO_PROFILE_RELEASE_STRIP", "symbols")];

/// A NIF that was built, and that Erlang can load.
pub(super) struct BuiltNif {
    pub(super) name: NifName,
    pub(super) member: NifMember,
    pub(super) library: Utf8PathBuf,
    pub(super) needs: Inspection,
}

pub(super) fn run(settings: &Settings, arguments: &BuildArguments, report: &Report) -> Result<(), NifError> {
    for nif in build(settings, arguments, report)? {
        print(nif.library.as_str());
    }
    Ok(())
}

/// Builds what was asked for, each member for each target.
pub(super) fn build(
    settings: &Settings,
    arguments: &BuildArguments,
    report: &Report,
) -> Result<Vec<BuiltNif>, NifError> {
    let mut environment: Environment = std::env::vars_os().collect();
    VARIABLES.iter().for_each(|(name, value)| environment.set(*name, *value));
    let members = find_members(&ask_cargo(arguments, &environment)?, &arguments.packages)?;
    let targets: Vec<Option<&NifTarget>> = match arguments.targets.as_slice() {
        [] => vec![None],
        targets => targets.iter().map(Some).collect(),
    };
    let mut built = Vec::new();
    for member in &members {
        for target in &targets {
            built.push(build_one(settings, arguments, &environment, member, *target, report)?);
        }
    }
    Ok(built)
}

/// The members, as cargo knows them.
fn ask_cargo(arguments: &BuildArguments, environment: &Environment) -> Result<String, NifError> {
    let words: Vec<OsString> = std::iter::once("build".into()).chain(arguments.arguments.iter().cloned()).collect();
    let command = CargoCommand::parse(&words).map_err(|source| NifError::Unplanned { source: source.into() })?;
    let cargo = environment.get_str("CARGO").unwrap_or("cargo").to_owned();
    let mut asked = Command::new(&cargo);
    asked.args(metadata::arguments(&command, &[])).arg("--no-deps").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = asked.output().map_err(|source| NifError::Cargo { cargo, source })?;
    if !output.status.success() {
        return Err(NifError::CargoFailed { code: crate::child::end_as(output.status) });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn build_one(
    settings: &Settings,
    arguments: &BuildArguments,
    environment: &Environment,
    member: &NifMember,
    target: Option<&NifTarget>,
    report: &Report,
) -> Result<BuiltNif, NifError> {
    let words = words(arguments, member, target);
    let build = Build {
        settings,
        arguments: &words,
        dry_run: false,
        summary_file: settings.summary.as_deref(),
        scope: Scope::Everything,
        variables: &VARIABLES,
    };
    let code = build.run();
    if code != ExitCode::SUCCESS {
        return Err(NifError::CargoFailed { code });
    }
    let Found { library, target, feature } = find_library(settings, &words, environment, member)?;
    let platform = NifPlatform { nif_version: arguments.nif_version, target, variant: arguments.variant.clone() };
    let name = NifName { crate_name: member.crate_name.clone(), release: member.release.clone(), platform };
    if let Some(feature) = feature.filter(|feature| *feature > arguments.nif_version) {
        return Err(NifError::Feature { nif: name.to_string(), feature });
    }
    let limits = Limits { glibc: arguments.max_glibc.clone() };
    let needs = inspect(&library, &name.platform.target, arguments.nif_version, &limits)
        .map_err(|source| NifError::Refused { nif: name.to_string(), source })?;
    report.status("Checked", &format!("{name}: it needs {needs}"));
    Ok(BuiltNif { name, member: member.clone(), library, needs })
}

/// The command of cargo.
fn words(arguments: &BuildArguments, member: &NifMember, target: Option<&NifTarget>) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["build", "--release", "--lib", "--package"].map(OsString::from).to_vec();
    words.push(member.package.clone().into());
    if let Some(target) = target {
        words.extend(["--target".into(), target.as_str().into()]);
    }
    let features = member.features_for(arguments.nif_version);
    if features.without_default {
        words.push("--no-default-features".into());
    }
    if !features.features.is_empty() {
        words.extend(["--features".into(), features.features.join(",").into()]);
    }
    words.extend(arguments.arguments.iter().cloned());
    words
}

/// What cargo has built.
struct Found {
    library: Utf8PathBuf,
    target: NifTarget,
    /// The NIF version that rustler was built for, and writes into the library: virtual machines compare it.
    feature: Option<NifVersion>,
}

/// Where cargo has put the library, and what it is.
fn find_library(
    settings: &Settings,
    words: &[OsString],
    environment: &Environment,
    member: &NifMember,
) -> Result<Found, NifError> {
    let unplanned = |source: Box<dyn std::error::Error + Send + Sync>| NifError::Unplanned { source };
    let machine = MachineCache::new(&settings.store);
    let store = open_store(settings).ok();
    let mut seconds = Seconds::default();
    let build = PlannedBuild::new(words, environment.clone(), settings, &machine, store.as_ref(), &mut seconds);
    let build = build.map_err(|error| unplanned(error.into()))?;
    let mut units = build.graph.iter().filter(|(_, unit)| {
        let is_library = unit.mode == CompileMode::Build && unit.target.crate_types.contains(&CrateType::Cdylib);
        is_library && build.graph.package(unit).manifest_path == member.manifest
    });
    let (index, _) = units.next().ok_or_else(|| unplanned("no unit of the plan is this library".into()))?;
    let layout = build.layout(index);
    let triple = layout.platform().unwrap_or(&build.toolchain.host);
    let target: NifTarget =
        triple.parse().map_err(|error: nixcache_core::nif::NifNameError| unplanned(error.into()))?;
    let library = layout.final_directory().join(library_file(&target, member));
    let rustler = build.graph.iter().filter(|(_, unit)| build.graph.package(unit).name == "rustler");
    let features = rustler.flat_map(|(_, unit)| &unit.features);
    let feature =
        features.filter_map(|feature| NifVersion::ALL.into_iter().find(|version| version.feature() == *feature)).max();
    Ok(Found { library, target, feature })
}

/// The name that rustc gives a cdylib.
fn library_file(target: &NifTarget, member: &NifMember) -> Utf8PathBuf {
    let name = member.crate_name.as_str();
    let file = match target.as_str() {
        triple if triple.contains("windows") => format!("{name}.dll"),
        triple if triple.contains("-apple-") => format!("lib{name}.dylib"),
        _ => format!("lib{name}.so"),
    };
    Utf8Path::new(&file).to_owned()
}
