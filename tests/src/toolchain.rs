//! Toolchains whose compilers are guarded: every compilation is written down, and can be made to fail.
//!
//! The guard is a toolchain directory of its own, with scripts in place of `rustc`, `rustdoc` and `clippy-driver`. No
//! environment variable gives it away, so cargo and the product act as they do for everybody. Questions about the
//! compiler (`-vV`, `--print`) always get through: cargo asks them when it has nothing to build, too.
//!
//! C compilers are guarded where a test asks for it: their guards stand before the real ones in `PATH`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names by which build scripts and linkers call a C compiler, and what drives many calls of one.
const C_TOOLS: [&str; 8] = ["cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "make"];

/// What happens when a compiler is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compilers {
    /// It compiles, and the call is written down.
    #[default]
    Work,
    /// It fails, and the call is written down.
    Fail,
    /// rustdoc works, everything else fails.
    OnlyRustdoc,
}

/// An installed toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    binaries: PathBuf,
    guards_c: bool,
}

impl Toolchain {
    /// The toolchain that runs the tests.
    pub fn current() -> Self {
        let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(crate::repository()).output();
        let sysroot = String::from_utf8(output.expect("rustc starts").stdout).expect("the sysroot is UTF-8");
        Self { binaries: Path::new(sysroot.trim()).join("bin"), guards_c: false }
    }

    /// The nightly toolchain of rustup, if there is one.
    pub fn nightly() -> Option<Self> {
        let output = Command::new("rustup").args(["which", "--toolchain", "nightly", "cargo"]).output().ok()?;
        let path = output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))?;
        Some(Self { binaries: path.parent()?.to_owned(), guards_c: false })
    }

    /// The distribution's toolchain in `/usr/bin`, if there is one and it isn't the current one.
    pub fn system() -> Option<Self> {
        let system = Self { binaries: "/usr/bin".into(), guards_c: false };
        let complete = ["cargo", "rustc"].iter().all(|tool| system.tool(tool).is_file());
        (complete && system != Self::current()).then_some(system)
    }

    /// The same toolchain, with a machine's C compilers guarded as well.
    pub fn guarding_c_compilers(self) -> Self {
        Self { guards_c: true, ..self }
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// Makes the guarded twin of this toolchain in `directory`.
    pub(crate) fn guard(&self, directory: &Path) -> Guard {
        let binaries = directory.join("bin");
        fs::create_dir_all(&binaries).unwrap();
        for tool in ["rustc", "rustdoc", "clippy-driver"] {
            if self.tool(tool).exists() {
                script(&binaries.join(tool), &guard_script(directory, tool, &self.tool(tool)));
            }
        }
        let c_tools = C_TOOLS.into_iter().filter(|_| self.guards_c);
        for (tool, real) in c_tools.filter_map(|tool| Some((tool, in_path(tool)?))) {
            script(&binaries.join(tool), &guard_script(directory, tool, &real));
        }
        for tool in ["cargo", "cargo-clippy"] {
            let real = fs::canonicalize(self.tool(tool)).unwrap_or_else(|_| self.tool(tool));
            // cargo-clippy looks for its driver beside itself, so a symbolic link won't do.
            if real.exists() && fs::hard_link(&real, binaries.join(tool)).is_err() {
                fs::copy(&real, binaries.join(tool)).unwrap();
            }
        }
        let library = self.binaries.parent().expect("bin has a parent").join("lib");
        symlink(library, directory.join("lib")).unwrap();
        let guard = Guard { directory: directory.to_owned() };
        guard.set(Compilers::Work);
        guard
    }
}

/// The guarded twin of a toolchain.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    directory: PathBuf,
}

impl Guard {
    pub(crate) fn binaries(&self) -> PathBuf {
        self.directory.join("bin")
    }

    /// Says what the compilers do from now on, and forgets the calls.
    pub(crate) fn set(&self, compilers: Compilers) {
        fs::write(self.directory.join("mode"), format!("{compilers:?}\n")).unwrap();
        fs::write(self.directory.join("calls"), "").unwrap();
    }

    /// The compilations since [`Guard::set`]: tool, crate name and crate types.
    pub(crate) fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.directory.join("calls")).unwrap().lines().map(str::to_owned).collect()
    }
}

/// The program that a bare name means on the machines of the tests.
fn in_path(name: &str) -> Option<PathBuf> {
    crate::machine::SYSTEM_PATH.map(|directory| Path::new(directory).join(name)).into_iter().find(|path| path.is_file())
}

fn guard_script(directory: &Path, tool: &str, real: &Path) -> String {
    // Not any `sh`: dash takes variables such as `CARGO_BIN_EXE_cargo-nixcache` away, as no shell could name them.
    format!(
        r#"#!/bin/bash
name='' kind='' previous=''
[ "$*" = -v ] && exec '{real}' -v
for argument do
    case "$argument" in
        -vV|-V|--version|-dumpversion|-dumpmachine|--print|--print=*|-print-*|--print-*) exec '{real}' "$@" ;;
        --test) kind="$kind test" ;;
    esac
    case "$previous" in
        --crate-name) name=$argument ;;
        --crate-type) kind="$kind $argument" ;;
    esac
    previous=$argument
done
echo "{tool} $name$kind" >> '{directory}/calls'
read -r mode < '{directory}/mode'
case "$mode-{tool}" in
    Work-*|OnlyRustdoc-rustdoc) exec '{real}' "$@" ;;
esac
echo "guard: {tool} was called for $name$kind" >&2
exit 86
"#,
        real = real.display(),
        directory = directory.display(),
    )
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Says that a test can't run here, where `tests/run` shows it at the end: a skipped test must not look like a pass.
///
/// With `NIXCACHE_TEST_SKIPS` unset the test fails instead.
pub fn skipped(test: &str, missing: &str) {
    let Some(list) = std::env::var_os("NIXCACHE_TEST_SKIPS") else {
        panic!("{test} needs {missing}; ./tests/run lists such tests as skipped");
    };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
    writeln!(file, "{test} (needs {missing})").unwrap();
}
