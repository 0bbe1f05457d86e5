//! Shows on large real crates that what was built once is never built again: `large cargo-nextest@0.9.151`.
//!
//! Each subject is built cold once, and then from the store in all the places where that must need no compiler and no
//! build script. Compilers are guarded, outputs are compared byte by byte, programs are run, and plain cargo must have
//! nothing to do afterwards. Exit code 1: something was not as promised.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people")]
#![allow(clippy::unwrap_used, reason = "this crate is only used by tests")]

mod places;
mod subject;
mod table;

use clap::Parser;
use places::Case;
use std::path::PathBuf;
use std::process::ExitCode;
use subject::{Subject, Task};

/// Builds subjects cold, then from the store with compilers that fail, and prints what happened as a table.
#[derive(Debug, Parser)]
struct Options {
    /// Published crates (NAME@VERSION) that carry their lock file, or directories of workspaces
    subjects: Vec<Subject>,
    /// This project's own workspace, too
    #[arg(long)]
    here: bool,
    /// Where everything is built again: a, the same checkout; b, another one; c, another one with another cargo home,
    /// target directory and home; d, with a separate build directory; e, with nightly's new layout
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a,b,c,d,e")]
    cases: Vec<Case>,
    /// What is built
    #[arg(long, value_enum, value_delimiter = ',', default_value = "build")]
    commands: Vec<Task>,
    /// A variable for every build, such as CARGO_PROFILE_DEV_DEBUG=0
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// Where everything is built; some gigabytes for each subject
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Leave the directories of subjects that failed where they are
    #[arg(long)]
    keep: bool,
    /// More arguments for every cargo command
    #[arg(last = true)]
    arguments: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it isn't NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.here {
        options.subjects.push(Subject::Directory(nixcache_tests::repository()));
    }
    if options.subjects.is_empty() {
        eprintln!("there is no subject: name a published crate (NAME@VERSION), a directory, or --here");
        return ExitCode::from(2);
    }
    if let Some(scratch) = &options.scratch {
        std::fs::create_dir_all(scratch).unwrap();
        let scratch = scratch.canonicalize().unwrap();
        tempfile::env::override_temp_dir(&scratch).expect("nothing asked for a temporary directory before");
    }
    // What fails is a row of the table; a panic's message is shown there.
    std::panic::set_hook(Box::new(|_| {}));
    let mut rows = Vec::new();
    for subject in &options.subjects {
        rows.extend(places::visit(&options, subject));
    }
    println!("{}", table::render(&rows));
    ExitCode::from(u8::from(rows.iter().any(|row| row.problem.is_some())))
}
