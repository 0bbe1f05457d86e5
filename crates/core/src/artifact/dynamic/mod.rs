//! Dynamic inputs: what a unit read that no plan could name before it was built.
//!
//! Collect asks [`inputs_of_rustc`], [`inputs_of_build_script`] and [`inputs_of_binary`] what to keep with a unit;
//! resolve asks an [`Evaluator`] for the values on this machine, and the values are part of the key under which
//! the artifact is found. Only content counts, never a time stamp. Values of variables leave this room as digests
//! alone: they can be secrets.

mod collected;
mod evaluate;
mod host;
mod macros;
mod modules;
mod pkg_config;
mod repository;
mod sources;
mod tools;
mod tree;
mod ways_out;

use std::collections::BTreeSet;
use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

pub(crate) use self::collected::is_base_library;
pub use self::collected::{
    AlwaysRuns, BuildScriptFindings, CompileFindings, NativeCode, PackageOnDisk, declared_inputs, inputs_of_binary,
    inputs_of_build_script, inputs_of_rustc, set_for_build_scripts,
};
pub use self::evaluate::{EvaluateError, Evaluator, matching_files, package_files};
pub use self::host::{HostFacts, processor};
pub(crate) use self::macros::{MacroFiles, inputs_of_macros};
pub(crate) use self::repository::RepositoryState;
pub use self::sources::source_digest;
pub use self::tools::file_behind;
pub(crate) use self::tree::files_below;
pub(crate) use self::ways_out::Way;
use super::RootKind;
use super::binary_facts::LibraryVersion;
use crate::digest::ContentDigest;

/// One thing outside the plan that a unit's outputs depend on. Paths are hidden by the roots of the build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DynamicInput {
    /// A file's content.
    File {
        /// The file.
        path: Utf8PathBuf,
    },
    /// The names and content of all files below a directory.
    Directory {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// The names and content of the files below a directory that a pattern names.
    Glob {
        /// The directory.
        path: Utf8PathBuf,
        /// The pattern, in the syntax of `.gitignore`.
        pattern: String,
    },
    /// The names and content of the files of a package, as git would track them.
    PackageTree {
        /// The directory of the manifest.
        path: Utf8PathBuf,
    },
    /// That none of these files is there: each would be compiled in place of one that was, or contradict it.
    NoneOf {
        /// The files.
        paths: Vec<Utf8PathBuf>,
    },
    /// The names and content of the files of a package, as git would track them: what its macros could read.
    MacroPackage {
        /// The directory of the manifest.
        path: Utf8PathBuf,
        /// Whether Rust files of tests, examples and benchmarks count, as they do for those.
        tests: bool,
    },
    /// The names and content of all files below a directory from which a macro took some.
    MacroDirectory {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// What git says of the repository that a directory lies in: commit, branch, tags, and what was edited since.
    Repository {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// The value of an environment variable.
    Variable {
        /// Its name.
        name: String,
    },
    /// The program that a command finds.
    Tool {
        /// The command, as it was written.
        program: String,
    },
    /// The library that a linker takes, and what pkg-config says about it.
    SystemLibrary {
        /// The kind given with `-l`: `dylib`, `static`, `framework`.
        kind: String,
        /// The name given with `-l`.
        name: String,
        /// The directories given with `-L`.
        search: Vec<Utf8PathBuf>,
    },
    /// Where one of the roots lies: the outputs hold its path.
    BoundRoot {
        /// The root.
        root: RootKind,
    },
    /// That the glibc that a file is loaded with is new enough.
    Glibc {
        /// The oldest that will do.
        at_least: LibraryVersion,
        /// The dynamic linker that the file names. What names none, such as a proc macro, is loaded by rustc.
        interpreter: Option<Utf8PathBuf>,
    },
    /// That the host's libstdc++ is new enough.
    Libstdcxx {
        /// The oldest that will do, as in `GLIBCXX_3.4.30`.
        at_least: LibraryVersion,
    },
    /// The processor, where a build script compiles for it or looks at it.
    Processor,
    /// That the dynamic linker finds a library. Its content does not count.
    NeededLibrary {
        /// The name in `DT_NEEDED`.
        name: String,
        /// The directories that the file itself names, without those relative to it.
        search: Vec<Utf8PathBuf>,
    },
}

impl fmt::Display for DynamicInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => write!(f, "file {path}"),
            Self::Directory { path } => write!(f, "directory {path}"),
            Self::Glob { path, pattern } => write!(f, "files {path}/{pattern}"),
            Self::PackageTree { path } => write!(f, "files of the package in {path}"),
            Self::NoneOf { paths } => match paths.as_slice() {
                [path] => write!(f, "absence of {path}"),
                paths => write!(f, "absence of {} other places of modules", paths.len()),
            },
            Self::MacroPackage { path, .. } => write!(f, "files in {path} that macros can read"),
            Self::MacroDirectory { path } => write!(f, "files below {path}, where macros found some"),
            Self::Repository { path } => write!(f, "state of the git repository of {path}"),
            Self::Variable { name } => write!(f, "environment variable {name}"),
            Self::Tool { program } => write!(f, "program {program}"),
            Self::SystemLibrary { kind, name, .. } => write!(f, "system library {name} ({kind})"),
            Self::BoundRoot { root } => write!(f, "place of the {}", root_name(*root)),
            Self::Glibc { at_least, .. } => write!(f, "glibc {at_least} or newer"),
            Self::Libstdcxx { at_least } => write!(f, "libstdc++ with GLIBCXX {at_least} or newer"),
            Self::Processor => write!(f, "processor"),
            Self::NeededLibrary { name, .. } => write!(f, "shared library {name}"),
        }
    }
}

impl DynamicInput {
    /// Whether a unit that is in place is judged by it, too. What nobody has told cargo, cargo doesn't see change, and
    /// so it is in every edit loop: there, it remains cargo's to judge.
    pub fn counts_in_place(&self) -> bool {
        !matches!(self, Self::MacroPackage { .. } | Self::MacroDirectory { .. } | Self::Repository { .. })
    }
}

fn root_name(root: RootKind) -> &'static str {
    match root {
        RootKind::BuildDirectory => "build directory",
        RootKind::TargetDirectory => "target directory",
        RootKind::CargoHome => "cargo home",
        RootKind::Sysroot => "toolchain",
        RootKind::Workspace => "workspace",
        RootKind::Launcher => "launcher",
    }
}

/// What an input is on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputValue {
    /// There is no such thing, or the host does not have what is needed.
    Absent,
    /// It is there, and this is the digest of its content or value.
    Present(ContentDigest),
}

/// The inputs that outputs have because they hold the paths of roots.
pub fn inputs_of_bound_roots(roots: impl IntoIterator<Item = RootKind>) -> BTreeSet<DynamicInput> {
    roots.into_iter().map(|root| DynamicInput::BoundRoot { root }).collect()
}

#[cfg(test)]
mod tests;
