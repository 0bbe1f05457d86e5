//! A cargo command line, as far as it decides what is built.
//!
//! [`CargoCommand::parse`] reads the arguments that follow `cargo nixcache`. It refuses nothing: what it does not
//! know is written down in [`CargoCommand::unplannable`], and cargo gets the command as it is.

mod filter;
mod options;
mod parse;

use std::ffi::OsString;
use std::fmt;

use camino::Utf8PathBuf;

pub use self::filter::{Filter, LibraryRule, Rule};
pub(crate) use self::options::is_harmless_unstable;
use crate::cargo::profile::profile_directory;
use crate::unit::PassedThrough;

/// Why a command line cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArgumentsError {
    /// There is no command.
    #[error("there is no cargo command")]
    NoCommand,
}

/// The command of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subcommand {
    /// `cargo build`
    Build,
    /// `cargo check`
    Check,
    /// `cargo clippy`
    Clippy,
    /// `cargo test`
    Test,
    /// `cargo bench`
    Bench,
    /// `cargo run`
    Run,
    /// `cargo doc`
    Doc,
    /// `cargo rustc`
    Rustc,
    /// `cargo rustdoc`
    Rustdoc,
    /// `cargo nextest run`, `list` and `archive`
    Nextest,
    /// Another, or an alias that is not resolved yet.
    Other(String),
}

/// What a command makes of the targets that it is about (cargo's `UserIntent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    /// Builds them.
    Build,
    /// Checks them.
    Check {
        /// With the test harness.
        test: bool,
    },
    /// Builds their tests.
    Test,
    /// Builds their benchmarks.
    Bench,
    /// Documents them.
    Doc {
        /// And what they depend on.
        dependencies: bool,
    },
    /// Builds what their documentation tests need.
    Doctest,
}

impl Intent {
    /// Whether the test harness is built for (cargo's `is_rustc_test`).
    pub fn is_test(self) -> bool {
        matches!(self, Self::Test | Self::Bench | Self::Check { test: true })
    }
}

/// Which packages a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageSelection {
    /// The default members.
    Default,
    /// The package of the current directory.
    Current,
    /// Every member but some.
    Workspace {
        /// Those.
        exclude: Vec<String>,
    },
    /// These.
    Packages(Vec<String>),
}

/// Which features a command asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureSelection {
    /// `--features`, split.
    pub features: Vec<String>,
    /// `--all-features`
    pub all: bool,
    /// `--no-default-features`
    pub no_default: bool,
}

/// Which targets a command names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetNames {
    pub(super) library: bool,
    pub(super) all_binaries: bool,
    pub(super) binaries: Vec<String>,
    pub(super) all_examples: bool,
    pub(super) examples: Vec<String>,
    pub(super) all_tests: bool,
    pub(super) tests: Vec<String>,
    pub(super) all_benches: bool,
    pub(super) benches: Vec<String>,
    pub(super) all_targets: bool,
    pub(super) doctests: bool,
}

/// A value of `--config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigArgument(pub String);

/// A cargo command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CargoCommand {
    /// The command.
    pub subcommand: Subcommand,
    /// All arguments as they were given, with aliases resolved: what cargo is run with.
    pub arguments: Vec<OsString>,
    /// What of it is not planned. If there is anything, nothing is.
    pub unplannable: Vec<PassedThrough>,
    /// The features.
    pub features: FeatureSelection,
    /// `--target`, each.
    pub targets: Vec<String>,
    /// `--target-dir`
    pub target_directory: Option<Utf8PathBuf>,
    /// `--manifest-path`
    pub manifest_path: Option<Utf8PathBuf>,
    /// `-C`: the directory that cargo changes to first (unstable).
    pub directory: Option<Utf8PathBuf>,
    /// `--config`, in order.
    pub config: Vec<ConfigArgument>,
    /// `--locked` or `--frozen`
    pub locked: bool,
    /// `--offline` or `--frozen`
    pub offline: bool,
    /// `-Z`, each.
    pub unstable: Vec<String>,
    /// `--jobs`
    pub jobs: Option<String>,
    /// `--message-format`, each.
    pub message_formats: Vec<String>,
    /// `--no-run`
    pub no_run: bool,
    /// `--keep-going`
    pub keep_going: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// `--quiet`
    pub quiet: bool,
    /// `--color`
    pub color: Option<String>,
    /// `--document-private-items`
    pub document_private_items: bool,
    /// What follows `--`.
    pub trailing: Vec<OsString>,
    pub(super) alias: Option<(String, Vec<OsString>)>,
    pub(super) packages: Vec<String>,
    pub(super) workspace: bool,
    pub(super) exclude: Vec<String>,
    pub(super) names: TargetNames,
    pub(super) release: bool,
    pub(super) profile: Option<String>,
    pub(super) no_dependencies: bool,
    pub(super) positional: Vec<OsString>,
    pub(super) extra: Vec<String>,
}

impl CargoCommand {
    /// What the command makes of its targets, `None` if it builds nothing that we plan.
    pub fn intent(&self) -> Option<Intent> {
        let profile = self.profile.as_deref();
        Some(match &self.subcommand {
            Subcommand::Build | Subcommand::Run => Intent::Build,
            Subcommand::Check | Subcommand::Clippy => Intent::Check { test: profile == Some("test") },
            Subcommand::Test if self.names.doctests => Intent::Doctest,
            Subcommand::Test | Subcommand::Nextest => Intent::Test,
            Subcommand::Bench => Intent::Bench,
            Subcommand::Doc => Intent::Doc { dependencies: !self.no_dependencies },
            Subcommand::Rustdoc => Intent::Doc { dependencies: false },
            // The profile's name has always decided here.
            Subcommand::Rustc => match profile {
                Some("test") => Intent::Test,
                Some("bench") => Intent::Bench,
                Some("check") => Intent::Check { test: false },
                _ => Intent::Build,
            },
            Subcommand::Other(_) => return None,
        })
    }

    /// Whether cargo runs with clippy as `RUSTC_WORKSPACE_WRAPPER`.
    pub fn is_clippy(&self) -> bool {
        self.subcommand == Subcommand::Clippy
    }

    /// Whether cargo runs what it built.
    pub fn is_run(&self) -> bool {
        self.subcommand == Subcommand::Run
    }

    /// The profile.
    pub fn profile_name(&self) -> String {
        let default = match self.subcommand {
            Subcommand::Test | Subcommand::Nextest => "test",
            Subcommand::Bench => "bench",
            _ => "dev",
        };
        match self.profile.as_deref() {
            Some("check") if self.subcommand == Subcommand::Rustc => "dev".to_owned(),
            // `cargo check --profile test` and `cargo rustc --profile …` keep the name even with `--release`.
            Some(name @ "test") if matches!(self.subcommand, Subcommand::Check | Subcommand::Clippy) => name.to_owned(),
            Some(name @ ("dev" | "test" | "bench")) if self.subcommand == Subcommand::Rustc => name.to_owned(),
            Some(name) => name.to_owned(),
            None if self.release => "release".to_owned(),
            None => default.to_owned(),
        }
    }

    /// The directory of the profile below the target directory.
    pub fn profile_directory(&self) -> String {
        profile_directory(&self.profile_name()).to_owned()
    }

    /// Which packages it is about.
    pub fn package_selection(&self) -> PackageSelection {
        let single = matches!(self.subcommand, Subcommand::Rustc | Subcommand::Rustdoc);
        if single && self.packages.is_empty() {
            PackageSelection::Current
        } else if self.workspace {
            PackageSelection::Workspace { exclude: self.exclude.clone() }
        } else if self.packages.is_empty() {
            PackageSelection::Default
        } else {
            PackageSelection::Packages(self.packages.clone())
        }
    }

    /// Arguments after `--` that cargo hands to rustc or rustdoc.
    pub fn extra_compiler_arguments(&self) -> &[String] {
        &self.extra
    }

    /// The arguments that decide which workspace and configuration cargo sees, for another call of it.
    pub fn global_arguments(&self) -> impl Iterator<Item = OsString> {
        let mut arguments = Vec::new();
        for value in &self.unstable {
            arguments.push(format!("-Z{value}"));
        }
        if let Some(directory) = &self.directory {
            arguments.extend(["-C".to_owned(), directory.to_string()]);
        }
        for ConfigArgument(value) in &self.config {
            arguments.extend(["--config".to_owned(), value.clone()]);
        }
        for (flag, on) in [("--locked", self.locked), ("--offline", self.offline)] {
            if on {
                arguments.push(flag.to_owned());
            }
        }
        arguments.into_iter().map(OsString::from)
    }

    pub(super) fn leave_to_cargo(&mut self, what: impl Into<String>, why: &str) {
        self.unplannable.push(PassedThrough { what: what.into(), why: why.to_owned() });
    }
}

impl Subcommand {
    /// The command of this name; built-in aliases count.
    pub fn named(name: &str) -> Self {
        match name {
            "build" | "b" => Self::Build,
            "check" | "c" => Self::Check,
            "clippy" => Self::Clippy,
            "test" | "t" => Self::Test,
            "bench" => Self::Bench,
            "run" | "r" => Self::Run,
            "doc" | "d" => Self::Doc,
            "rustc" => Self::Rustc,
            "rustdoc" => Self::Rustdoc,
            "nextest" => Self::Nextest,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Subcommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Check => "check",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Bench => "bench",
            Self::Run => "run",
            Self::Doc => "doc",
            Self::Rustc => "rustc",
            Self::Rustdoc => "rustdoc",
            Self::Nextest => "nextest",
            Self::Other(name) => name,
        })
    }
}
