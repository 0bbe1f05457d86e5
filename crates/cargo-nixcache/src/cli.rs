//! From the parsed command line to the command that it names.

use std::ffi::OsString;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use nixcache_core::cargo::arguments::CargoCommand;

use crate::arguments::{ArchiveFormat, Cargo, Command, KeyCommand, NixCommand, Nixcache, Options};
use crate::build::{Build, Scope};
use crate::commands;
use crate::exit;
use crate::report::Report;
use crate::settings::{Directories, GivenOptions, Settings, SettingsError, nearest_manifest, read_files};

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let matches = Cargo::command().get_matches();
    let Cargo::Nixcache(Nixcache { options, command }) =
        Cargo::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // These two say nothing that a setting could change.
    match &command {
        Command::Completions { shell } => return commands::completions::run(*shell),
        Command::Man => return commands::man::run(),
        _ => {}
    }
    let settings = match settings(&options, &from_variables(&matches), command.cargo_arguments()) {
        Ok(settings) => settings,
        Err(error) => {
            return refuse(&error);
        }
    };
    if options.dry_run && !command.has_dry_run() {
        return refuse(&NoDryRun);
    }
    let (summary_file, dry_run) = (settings.summary.as_deref(), options.dry_run);
    match command {
        Command::Cargo(arguments) => {
            let scope = Scope::Everything;
            Build { settings: &settings, arguments: &arguments, dry_run, summary_file, scope, variables: &[] }.run()
        }
        Command::Deps { arguments } => {
            let arguments = with_command(arguments);
            let command = arguments.first().map(|command| command.to_string_lossy().into_owned()).unwrap_or_default();
            if !DEPS_OF.contains(&command.as_str()) {
                return refuse(&NoDepsOf { command });
            }
            let scope = Scope::Dependencies;
            Build { settings: &settings, arguments: &arguments, dry_run, summary_file, scope, variables: &[] }.run()
        }
        Command::Plan { json, arguments } => commands::plan::run(&settings, &with_command(arguments), json),
        Command::Why { package, arguments } => commands::why::run(&settings, &with_command(arguments), &package),
        Command::Gc { all } => commands::store::gc(&settings, all, dry_run),
        Command::Serve(serve) => commands::serve::run(&serve),
        Command::Nif { command } => commands::nif::run(&settings, *command),
        Command::Verify { repair } => commands::store::verify(&settings, repair),
        Command::List { json, filter } => commands::store::list(&settings, json, filter.as_deref()),
        Command::Stats { json } => commands::store::stats(&settings, json),
        Command::Push { from: Some(directory), .. } => commands::nix::push::run(&settings, &directory),
        Command::Push { from: None, arguments } => commands::push::run(&settings, &with_command(arguments)),
        Command::Pull { arguments } => commands::pull::run(&settings, &with_command(arguments)),
        Command::Key { command: KeyCommand::Generate { name } } => commands::key::generate(&settings, name),
        Command::Key { command: KeyCommand::Public } => commands::key::public(&settings),
        Command::Use(mut arguments) => {
            arguments.dry_run |= dry_run;
            commands::use_cache::run(&settings, &arguments, settings.caches.switched_off.contains(&"offline"))
        }
        Command::Nix { command } => match command {
            NixCommand::Lock { file, name, arguments } => {
                commands::nix::lock::run(&settings, &file, name, &with_command(arguments))
            }
            NixCommand::Fetch { path, nar_hash, out, from } => {
                commands::nix::fetch::run(&settings, &path, nar_hash, &out, &from)
            }
            NixCommand::Import { paths, list } => commands::nix::import::run(&settings, paths, list.as_deref()),
            NixCommand::Skeleton { out, root } => commands::nix::skeleton::run(root, &out),
            NixCommand::Export { out, without } => commands::nix::export::run(&settings, &out, without.as_deref()),
        },
        Command::Export { format: ArchiveFormat::Crane, out, previous, target_dir } => {
            commands::crane::export(&out, previous.as_deref(), target_dir)
        }
        Command::Import { format: ArchiveFormat::Crane, from, target_dir } => {
            commands::crane::import(&from, target_dir)
        }
        Command::Config { json } => commands::config::run(&settings, json),
        Command::Doctor => commands::doctor::run(&settings),
        Command::Completions { .. } | Command::Man => ExitCode::SUCCESS,
    }
}

/// What `deps` can build.
const DEPS_OF: [&str; 5] = ["build", "b", "check", "c", "clippy"];

/// `deps` was asked for something that cargo doesn't build members in the end for.
#[derive(Debug, thiserror::Error)]
#[error("deps of `{command}`: cargo's command must be build, check or clippy")]
struct NoDepsOf {
    command: String,
}

/// A command that changes something whatever it is told.
#[derive(Debug, thiserror::Error)]
#[error(
    "this command has no `--dry-run`: cargo's own, `deps`, `gc` and `use` have; `serve gc` has one after the command"
)]
struct NoDryRun;

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    Report::new(false, false, None).error(error, None);
    ExitCode::from(exit::USAGE)
}

/// `plan --release` means `plan build --release`.
fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let named = arguments.first().is_some_and(|first| !first.as_encoded_bytes().starts_with(b"-"));
    if !named {
        arguments.insert(0, "build".into());
    }
    arguments
}

/// The options that were not given as flags but as variables.
fn from_variables(matches: &ArgMatches) -> Vec<&'static str> {
    let matches = matches.subcommand_matches("nixcache");
    let is_variable =
        |field: &&str| matches.is_some_and(|matches| matches.value_source(field) == Some(ValueSource::EnvVariable));
    let lists = ["cache", "publish", "trusted_key"];
    let values = ["store", "store_size", "summary", "secret_key_file", "patience"];
    let switches = ["no_fetch", "no_publish", "offline"];
    lists.into_iter().chain(values).chain(switches).filter(is_variable).collect()
}

fn settings(
    options: &Options,
    from_variables: &[&'static str],
    arguments: Option<&[OsString]>,
) -> Result<Settings, SettingsError> {
    let directories = Directories::from_environment(|name| {
        std::env::var_os(name).and_then(|value| Utf8PathBuf::from_os_string(value).ok())
    });
    // Without a directory that we can name, only absolute paths mean something.
    let current = std::env::current_dir().ok().and_then(|directory| Utf8PathBuf::from_path_buf(directory).ok());
    let directory = current.unwrap_or_default();
    // Cargo may be told of a workspace elsewhere. Arguments that cannot be read are cargo's to refuse.
    let command = arguments.and_then(|arguments| CargoCommand::parse(arguments).ok());
    let (elsewhere, named) = command.map_or((None, None), |command| (command.directory, command.manifest_path));
    let base = elsewhere.map_or_else(|| directory.clone(), |elsewhere| directory.join(elsewhere));
    let manifest = match named {
        Some(manifest) => Some(base.join(manifest)),
        None => nearest_manifest(&base),
    };
    let files = read_files(manifest.as_deref(), directories.user_file())?;
    Settings::settle(GivenOptions { options, from_variables, directory: &directory }, files, &directories)
}
