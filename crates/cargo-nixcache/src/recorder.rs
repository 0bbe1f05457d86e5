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
//! remapped like everything else, but it is no unit: nothing is recorded.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::incremental;
use nixcache_core::cargo::invocation::{RustcInvocation, expand_response_files};
use nixcache_core::cargo::record::{CargoVariables, InvocationRecord, RECORDER_VARIABLE, RecorderSession};

/// Does what the recorder does and does not return on Unix, or returns the exit code elsewhere. `None` if cargo
/// (or the user) called this binary as something else.
pub(crate) fn run_if_called() -> Option<ExitCode> {
    let session_file = env::var_os(RECORDER_VARIABLE)?;
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    // Cargo passes the name of a subcommand as its first argument. The variable is inherited by the tests and
    // programs that `cargo nixcache test` and `run` start, which may themselves call `cargo nixcache`.
    let first = arguments.first()?;
    if first == "nixcache" || first.as_encoded_bytes().starts_with(b"-") {
        return None;
    }
    let session = Utf8Path::from_path(Path::new(&session_file)).and_then(|file| RecorderSession::read(file).ok());
    let is_refused = |session: &RecorderSession| {
        let manifest = env::var("CARGO_MANIFEST_DIR").map(Utf8PathBuf::from);
        env::var_os("CARGO_CRATE_NAME").is_some() && manifest.is_ok_and(|manifest| session.refused.contains(&manifest))
    };
    if session.as_ref().is_some_and(is_refused) {
        return Some(ExitCode::FAILURE);
    }
    Some(run(&prepare(session.as_ref(), arguments), session.as_ref()))
}

/// Programs first, then arguments, as they are to be run.
struct PreparedCall {
    programs: Vec<OsString>,
    arguments: Vec<OsString>,
}

fn prepare(session: Option<&RecorderSession>, mut programs: Vec<OsString>) -> PreparedCall {
    let arguments = programs.split_off(1 + usize::from(programs.get(1).is_some_and(|second| is_program(second))));
    let mut call = PreparedCall { programs, arguments };
    let Some(session) = session else { return call };
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
