//! The recorder: what this binary is when cargo runs it as `RUSTC_WRAPPER`.
//!
//! Cargo runs `<us> [<workspace wrapper>] <rustc> <arguments>`. We prepend path remapping, write down the call of a
//! unit, and become rustc, so that cargo sees rustc's own output, signals and exit code. `main` asks
//! [`run_if_called`] before it does anything else. Refuses to fail: where something is not as expected (no
//! session file, arguments that are no UTF-8, a full disk), rustc runs as cargo asked, and the unit is unrecorded
//! and therefore not kept.
//!
//! Rustdoc has no such wrapper in cargo, so `doc` units pass unseen and are never kept.
//!
//! Build scripts find us in their `RUSTC_WRAPPER` and use us for their probes. What a probe leaves in `OUT_DIR` is
//! remapped like everything else, but it is no unit: nothing is recorded. Some run a C compiler through us, as the
//! `cc` crate does for a wrapper with our [`launcher`]'s name: see [`c_compiler`]. Every other program is run as it is.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::incremental;
use nixcache_core::cargo::invocation::{RustcInvocation, expand_response_files};
use nixcache_core::cargo::record::{CargoVariables, InvocationRecord, RECORDER_VARIABLE, RecorderSession};

use crate::{c_compiler, launcher};

/// Does what the recorder does and does not return on Unix, or returns the exit code elsewhere. `None` if cargo
/// (or the user) called this binary as something else.
pub(crate) fn run_if_called() -> Option<ExitCode> {
    let mut words = env::args_os();
    let is_launcher = words.next().is_some_and(|own| launcher::is_cache(&own));
    let words: Vec<OsString> = words.collect();
    let session_file = env::var_os(RECORDER_VARIABLE);
    // The launcher is called without the variable too: by what a build script left behind, or with an environment
    // of its own.
    if session_file.is_none() && !is_launcher {
        return None;
    }
    let session = session_file.as_deref().and_then(|file| Utf8Path::from_path(Path::new(file)));
    let session = session.and_then(|file| RecorderSession::read(file).ok());
    // Cargo passes the name of a subcommand as its first argument. The variable is inherited by the tests and
    // programs that `cargo nixcache test` and `run` start, which may themselves call `cargo nixcache`.
    let first = words.first()?;
    if first.as_encoded_bytes().starts_with(b"-") {
        // Not for us. Perhaps for the cache whose name we have.
        let cache = session.as_ref().and_then(|session| session.wrapper.clone()).filter(|_| is_launcher)?;
        return Some(run(&PreparedCall { programs: vec![cache.into()], arguments: words }, None));
    }
    if first == "nixcache" && !is_launcher {
        return None;
    }
    let is_refused = |session: &RecorderSession| {
        let manifest = env::var("CARGO_MANIFEST_DIR").map(Utf8PathBuf::from);
        env::var_os("CARGO_CRATE_NAME").is_some() && manifest.is_ok_and(|manifest| session.refused.contains(&manifest))
    };
    if session.as_ref().is_some_and(is_refused) {
        return Some(ExitCode::FAILURE);
    }
    let Some(session) = session else { return Some(run(&PreparedCall::of_one_program(words), None)) };
    if is_rustc(&session, &words) {
        return Some(run(&prepare_rustc(&session, words), Some(&session)));
    }
    Some(run_other(&session, PreparedCall::of_one_program(words)))
}

/// Programs first, then arguments, as they are to be run.
struct PreparedCall {
    programs: Vec<OsString>,
    arguments: Vec<OsString>,
}

impl PreparedCall {
    fn of_one_program(mut words: Vec<OsString>) -> Self {
        let arguments = words.split_off(1);
        Self { programs: words, arguments }
    }
}

/// Whether this is a call of rustc, or of a workspace wrapper around it. Cargo says so by a variable when it compiles
/// a unit; its questions and build scripts' probes are told by rustc's name.
fn is_rustc(session: &RecorderSession, words: &[OsString]) -> bool {
    let name = |word: &OsString| Path::new(word).file_name().map(OsStr::to_owned);
    let own = session.rustc.file_name().map(OsString::from);
    let has_its_name = |word: &OsString| {
        let name = name(word);
        name == own || name.is_some_and(|name| ["rustc", "rustc.exe"].iter().any(|rustc| name == *rustc))
    };
    !c_compiler::is_c_compiler(&words[0])
        && (env::var_os("CARGO_CRATE_NAME").is_some() || words.iter().take(2).any(has_its_name))
}

/// Runs a program that is not rustc, as a build script wants it.
fn run_other(session: &RecorderSession, mut call: PreparedCall) -> ExitCode {
    let program = call.programs[0].clone();
    let is_c = c_compiler::is_c_compiler(&program);
    // A wrapper that the `cc` crate does not take for a compiler cache is not run around C compilers without us.
    if let Some(wrapper) = &session.wrapper
        && (!is_c || launcher::is_cache(wrapper.as_ref()))
    {
        call.programs.insert(0, wrapper.into());
    }
    if is_c {
        let mapping = c_compiler::mapping(session, &program, &call.arguments);
        if !mapping.is_empty() {
            let arguments: Vec<_> = mapping.into_iter().chain(call.arguments.iter().cloned()).collect();
            if c_compiler::succeeds(command(&call, &arguments)) {
                return ExitCode::SUCCESS;
            }
        }
    }
    run(&call, None)
}

fn prepare_rustc(session: &RecorderSession, mut programs: Vec<OsString>) -> PreparedCall {
    let arguments = programs.split_off(1 + usize::from(programs.get(1).is_some_and(|second| is_program(second))));
    let mut call = PreparedCall { programs, arguments };
    let remap = recorded_call(session, &call);
    if let Some(wrapper) = &session.wrapper {
        call.programs.insert(0, wrapper.into());
    }
    if remap {
        call.arguments.splice(0..0, session.remap_arguments().into_iter().map(OsString::from));
    }
    call
}

/// Whether the argument after the first program is a program too: a workspace wrapper was called with rustc's
/// name. Cargo begins rustc's own arguments with an option or a response file; build scripts may begin with a
/// source file.
fn is_program(argument: &OsStr) -> bool {
    let bytes = argument.as_encoded_bytes();
    !(bytes.is_empty() || bytes.starts_with(b"-") || bytes.starts_with(b"@") || bytes.ends_with(b".rs"))
}

/// Writes the record of a unit. Returns whether paths are to be remapped.
fn recorded_call(session: &RecorderSession, call: &PreparedCall) -> bool {
    let text = |texts: &[OsString]| texts.iter().map(|text| text.to_str().map(str::to_owned)).collect();
    let (Some(programs), Some(arguments)): (Option<Vec<String>>, Option<Vec<String>>) =
        (text(&call.programs), text(&call.arguments))
    else {
        return false;
    };
    let Some(directory) = env::current_dir().ok().and_then(|directory| Utf8PathBuf::from_path_buf(directory).ok())
    else {
        return false;
    };
    let arguments = expand_response_files(arguments);
    let invocation = RustcInvocation::parse(&arguments);
    if invocation.is_query() {
        return false;
    }
    if !invocation.is_unit() {
        return true;
    }
    let mut programs = programs.into_iter().rev();
    let rustc = programs.next().unwrap_or_default();
    let mut record = InvocationRecord::new(rustc, programs.next(), arguments, directory, cargo_variables());
    let stem = record.invocation.file_stem().unwrap_or_default();
    record.remapped = !record.cargo.manifest_directory.as_ref().is_some_and(|d| session.not_remapped.contains(d));
    if let (Some(incremental), Some(name)) = (&record.invocation.incremental, &record.invocation.crate_name) {
        // Without a look at the sessions nothing is known of them, and what is unknown is left alone.
        // In cargo's new layout file names hold no hash, so the unit is told by `-C metadata`.
        let unit = format!("{name}-{}", record.invocation.metadata.as_deref().unwrap_or_default());
        let Ok(claim) = incremental::claim(&record.directory.join(incremental), name, &unit) else { return false };
        record.remapped &= claim.remap;
        record.incremental = claim.state;
    }
    let name = format!("{stem}.{}", std::process::id());
    let _unrecorded = record.write(&session.records, &name);
    record.remapped
}

fn cargo_variables() -> CargoVariables {
    let text = |name: &str| env::var(name).ok();
    let path = |name: &str| text(name).map(Utf8PathBuf::from);
    CargoVariables {
        package_name: text("CARGO_PKG_NAME"),
        package_version: text("CARGO_PKG_VERSION"),
        manifest_directory: path("CARGO_MANIFEST_DIR"),
        manifest_path: path("CARGO_MANIFEST_PATH"),
        crate_name: text("CARGO_CRATE_NAME"),
        binary_name: text("CARGO_BIN_NAME"),
        primary: env::var_os("CARGO_PRIMARY_PACKAGE").is_some(),
        out_dir: path("OUT_DIR"),
    }
}

fn command(call: &PreparedCall, arguments: &[OsString]) -> Command {
    let mut command = Command::new(&call.programs[0]);
    command.args(&call.programs[1..]).args(arguments);
    command
}

#[cfg(unix)]
fn run(call: &PreparedCall, session: Option<&RecorderSession>) -> ExitCode {
    use std::os::unix::process::CommandExt as _;

    let mut error = command(call, &call.arguments).exec();
    // Cargo's command line just fitted, and ours with the remapping does not.
    if error.kind() == std::io::ErrorKind::ArgumentListTooLong
        && let Some(file) = session.and_then(|session| response_file(session, &call.arguments))
    {
        error = command(call, &[file]).exec();
    }
    failed(call, &error)
}

#[cfg(not(unix))]
fn run(call: &PreparedCall, _session: Option<&RecorderSession>) -> ExitCode {
    match command(call, &call.arguments).status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => failed(call, &error),
    }
}

/// Puts the arguments where rustc finds them. The file is left to whoever removes the session's directory.
#[cfg(unix)]
fn response_file(session: &RecorderSession, arguments: &[OsString]) -> Option<OsString> {
    let arguments: Option<Vec<String>> = arguments.iter().map(|text| text.to_str().map(str::to_owned)).collect();
    // rustc does not look for response files in response files.
    let arguments = expand_response_files(arguments?);
    if arguments.iter().any(|argument| argument.contains('\n')) {
        return None;
    }
    let text = arguments.join("\n") + "\n";
    let file = session.records.join(format!(".arguments.{}", std::process::id()));
    std::fs::write(&file, text).ok()?;
    Some(format!("@{file}").into())
}

#[expect(clippy::print_stderr, reason = "cargo shows its compiler's standard error to the user")]
fn failed(call: &PreparedCall, error: &std::io::Error) -> ExitCode {
    eprintln!("error: failed to run {}: {error}", Path::new(&call.programs[0]).display());
    ExitCode::FAILURE
}
