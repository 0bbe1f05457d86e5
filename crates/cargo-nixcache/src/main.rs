//! The `cargo nixcache` subcommand.

mod arguments;
mod build;
mod c_compiler;
mod caches;
mod child;
mod cli;
mod commands;
mod exit;
mod facts;
mod launcher;
mod lookup;
mod machine;
mod metadata_cache;
mod nix_conf;
mod recorder;
mod replace;
mod report;
mod session;
mod settings;
mod summary;
mod workspace;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo runs this binary once for every unit that it compiles, so this comes before anything else.
    recorder::run_if_called().unwrap_or_else(cli::run)
}
