//! C compilers under the recorder: what is one, and how it is run with this machine's paths mapped.
//!
//! Called by the recorder for every call that is not rustc's. Refuses to change the outcome: `-ffile-prefix-map` is
//! added only where a single C, C++ or assembler source is compiled by a compiler that takes the option without a
//! word, for a package whose paths are mapped in Rust code too. If that fails for any reason, the compiler is run
//! again as the caller wanted it, and what the caller gets is the outcome of that.
//!
//! The second run is needed: `#include __FILE__` looks for the mapped name (gcc 12, clang 14).

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::record::RecorderSession;
use nixcache_core::digest::ContentDigest;

/// Variables that tell a compiler to write something beside what it is asked for, or where it finds itself.
const OF_COMPILERS: [&str; 4] = ["DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "CC_PRINT_OPTIONS", "CC_PRINT_HEADERS"];

/// Options after which it is unclear which compiler reads ours, or whether it reads them at all.
const UNCLEAR: [&str; 7] = ["-B", "-specs", "--specs", "-wrapper", "--driver-mode", "-cc1", "-fplugin"];

/// Options with which nothing is compiled.
const NOT_COMPILING: [&str; 6] = ["-E", "-M", "-MM", "-###", "--analyze", "-fsyntax-only"];

/// Whether a program is called like gcc or clang: `cc`, `g++-12`, `aarch64-linux-gnu-gcc`, `/opt/bin/clang`.
pub(crate) fn is_c_compiler(program: &OsStr) -> bool {
    let Some(mut name) = Path::new(program).file_name().and_then(OsStr::to_str) else { return false };
    if let Some((rest, version)) = name.rsplit_once('-')
        && version.starts_with(|character: char| character.is_ascii_digit())
        && version.chars().all(|character| character.is_ascii_digit() || character == '.')
    {
        name = rest;
    }
    let last = name.rsplit('-').next().unwrap_or(name);
    matches!(last, "cc" | "c++" | "gcc" | "g++" | "clang" | "clang++")
}

/// The options that map this machine's paths, or none where the call is to be left as it is.
pub(crate) fn mapping(session: &RecorderSession, program: &OsStr, arguments: &[OsString]) -> Vec<OsString> {
    let package = env::var("CARGO_MANIFEST_DIR").map(Utf8PathBuf::from);
    let is_mapped = package.is_ok_and(|package| !session.not_remapped.contains(&package));
    if !is_mapped || !compiles(arguments) || !takes_mapping(session, program) {
        return Vec::new();
    }
    let directory = env::current_dir().ok().and_then(|directory| Utf8PathBuf::from_path_buf(directory).ok());
    let mapping = session.file_prefix_arguments(directory.as_deref().unwrap_or(Utf8Path::new("/")));
    mapping.into_iter().map(OsString::from).collect()
}

/// Whether a source file becomes an object file, and nothing else happens.
fn compiles(arguments: &[OsString]) -> bool {
    let Some(texts) = arguments.iter().map(|argument| argument.to_str()).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let is_unclear = |text: &&str| {
        // Standard input cannot be read again; response files may say anything.
        *text == "-"
            || text.starts_with('@')
            || NOT_COMPILING.contains(text)
            || UNCLEAR.iter().any(|option| text.starts_with(option))
            || is_read_once(text)
    };
    texts.contains(&"-c") && !texts.iter().any(is_unclear)
}

/// Whether an argument is or ends in the path of a pipe or a device, such as `/dev/stdin` or what a shell puts in the
/// place of `<(…)`. A second run would find it empty, and succeed where the first one rightly failed.
fn is_read_once(text: &str) -> bool {
    let is_other = |path: &str| std::fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir());
    is_other(text) || text.find('/').is_some_and(|start| start > 0 && is_other(&text[start..]))
}

/// Whether the compiler takes the option without a word. It is asked once in a run of cargo.
fn takes_mapping(session: &RecorderSession, program: &OsStr) -> bool {
    if Path::new(program).is_relative() && Path::new(program).components().count() > 1 {
        // Another file in another directory.
        return false;
    }
    let mut identity = program.as_encoded_bytes().to_owned();
    for name in ["PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX"] {
        identity.push(0);
        identity.extend(env::var_os(name).unwrap_or_default().as_encoded_bytes());
    }
    let answer = session.records.join(format!(".compiler-{}", ContentDigest::of(&identity)));
    if let Ok(text) = std::fs::read(&answer) {
        return text == b"yes";
    }
    let takes = probe(program);
    let temporary = session.records.join(format!(".compiler-{}", std::process::id()));
    // It is asked again if the answer cannot be kept.
    let _ = std::fs::write(&temporary, if takes { "yes" } else { "no" })
        .and_then(|()| std::fs::rename(&temporary, &answer));
    takes
}

fn probe(program: &OsStr) -> bool {
    let mut command = Command::new(program);
    command.args(["-ffile-prefix-map=/a/=/b/", "-E", "-x", "c", "/dev/null"]).stdin(Stdio::null());
    for name in OF_COMPILERS {
        command.env_remove(name);
    }
    command.output().is_ok_and(|output| output.status.success() && output.stderr.is_empty())
}

/// Runs the call with the mapping. Returns whether that succeeded, and then the compiler's words are passed on. If
/// not, nobody has heard or seen anything of it.
pub(crate) fn succeeds(mut call: Command) -> bool {
    use std::io::Write as _;

    match call.stderr(Stdio::piped()).spawn().and_then(std::process::Child::wait_with_output) {
        Ok(output) if output.status.success() => {
            // Nobody reads a closed standard error.
            let _ = std::io::stderr().write_all(&output.stderr);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_known_by_their_names() {
        let is = |name: &str| is_c_compiler(OsStr::new(name));
        for name in ["cc", "/usr/bin/c++", "gcc-12", "clang++-14.0", "aarch64-linux-gnu-g++-12", "musl-gcc", "./clang"]
        {
            assert!(is(name), "{name}");
        }
        for name in
            ["rustc", "cl", "clang-cl", "clang-tidy", "nvcc", "emcc", "zig", "tcc", "gcc-ar", "", "cc-x", "nasm"]
        {
            assert!(!is(name), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_can_be_read_once_is_not_compiled_twice() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a.c");
        std::fs::write(&source, "").unwrap();
        let compiles = |words: &[&str]| compiles(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(compiles(&["-c", source.to_str().unwrap(), "-I/dev", "-o", "/no/such/a.o"]));
        assert!(!compiles(&["-x", "c", "-c", "/dev/null"]));
        assert!(!compiles(&["-include/dev/null", "-c", source.to_str().unwrap()]));
        assert!(!compiles(&["-c", source.to_str().unwrap(), "-o", "/dev/null"]));
    }

    #[test]
    fn only_compilations_that_are_understood_are_changed() {
        let compiles = |line: &str| compiles(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(compiles("-O2 -I include -c -o out/a.o a.c"));
        assert!(compiles("-MMD -MF a.d -c a.S"));
        let others = [
            "--version",
            "-E a.c",
            "-c -E a.c",
            "a.o -o a",
            "-c -",
            "-c @list",
            "-B/old -c a.c",
            "-c -specs=x a.c",
            "-c --driver-mode=cl a.c",
            "-M -c a.c",
            "-###  -c a.c",
        ];
        for line in others {
            assert!(!compiles(line), "{line}");
        }
    }
}
