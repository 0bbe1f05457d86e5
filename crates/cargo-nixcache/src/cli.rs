//! From the parsed command line to the command that it names.

use std::ffi::OsString;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::Parser as _;

use crate::arguments::{Cargo, Command, Nixcache, Options};
use crate::build::{Build, Scope};
use crate::commands;
use crate::exit;
use crate::report::Report;
use crate::settings::{Directories, Settings, SettingsError, read_file};

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let Cargo::Nixcache(Nixcache { options, command }) = Cargo::parse();
    let settings = match settings(&options) {
        Ok(settings) => settings,
        Err(error) => {
            Report::new(false, false, None).error(&error, None);
            return ExitCode::from(exit::USAGE);
        }
    };
    match command {
        Command::Cargo(arguments) => {
            let summary_file = options.summary.as_deref();
            let (dry_run, scope) = (options.dry_run, Scope::Everything);
            Build { settings: &settings, arguments: &arguments, dry_run, summary_file, scope }.run()
        }
        Command::Deps { arguments } => {
            let mut arguments = with_command(arguments);
            // Cargo goes on where a member is refused.
            arguments.insert(1, "--keep-going".into());
            let summary_file = options.summary.as_deref();
            let (dry_run, scope) = (options.dry_run, Scope::Dependencies);
            Build { settings: &settings, arguments: &arguments, dry_run, summary_file, scope }.run()
        }
        Command::Plan { json, arguments } => commands::plan::run(&settings, &with_command(arguments), json),
        Command::Why { package, arguments } => commands::why::run(&settings, &with_command(arguments), &package),
        Command::Gc { all } => commands::store::gc(&settings, all, options.dry_run),
        Command::Verify { repair } => commands::store::verify(&settings, repair),
        Command::List { json, filter } => commands::store::list(&settings, json, filter.as_deref()),
        Command::Stats { json } => commands::store::stats(&settings, json),
    }
}

/// `plan --release` means `plan build --release`.
fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let named = arguments.first().is_some_and(|first| !first.as_encoded_bytes().starts_with(b"-"));
    if !named {
        arguments.insert(0, "build".into());
    }
    arguments
}

fn settings(options: &Options) -> Result<Settings, SettingsError> {
    let directories = Directories::from_environment(|name| {
        std::env::var_os(name).and_then(|value| Utf8PathBuf::from_os_string(value).ok())
    });
    let mut files = Vec::new();
    // The workspace's file lies beside its manifest, at or above the current directory.
    let current = std::env::current_dir().ok().and_then(|directory| Utf8PathBuf::from_path_buf(directory).ok());
    let ancestors = current.iter().flat_map(|directory| directory.ancestors());
    if let Some(file) = ancestors.map(|directory| directory.join("nixcache.toml")).find(|file| file.is_file()) {
        files.push(read_file(&file)?);
    }
    if let Some(file) = directories.user_file() {
        files.push(read_file(&file)?);
    }
    Settings::settle(options, &files, &directories)
}
