//! What is built: published crates and local workspaces, and the cargo commands that build them.

use clap::ValueEnum;
use nixcache_tests::{Machine, PublishedCrate, Workspace, copy_tree};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Something with a `Cargo.toml` and a `Cargo.lock`.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A crate of crates.io.
    Published(PublishedCrate),
    /// A workspace on this machine.
    Directory(PathBuf),
}

impl Subject {
    /// A checkout of it on a machine: the first one, from which the others are made.
    ///
    /// Somebody may be working in a directory: what is there changes meanwhile.
    pub(crate) fn checkout(&self, machine: &Machine, name: &str) -> Workspace {
        let workspace = machine.workspace(name);
        match self {
            Self::Published(published) => published.unpack(workspace.root()),
            Self::Directory(directory) => copy_tree(directory, workspace.root(), &["target", ".git"]),
        }
        workspace
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(published) = PublishedCrate::parse(text) {
            return Ok(Self::Published(published));
        }
        let directory =
            PathBuf::from(text).canonicalize().map_err(|error| format!("{error}; a crate is NAME@VERSION"))?;
        Ok(Self::Directory(directory))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published(published) => write!(formatter, "{} {}", published.name, published.version),
            Self::Directory(directory) if *directory == nixcache_tests::repository() => {
                formatter.write_str("this workspace")
            }
            Self::Directory(directory) => directory.file_name().unwrap_or_default().display().fmt(formatter),
        }
    }
}

/// A cargo command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// `cargo build`
    Build,
    /// `cargo check`
    Check,
    /// `cargo test --no-run`
    Test,
    /// `cargo clippy`
    Clippy,
    /// `cargo doc --no-deps`
    Doc,
}

impl Task {
    /// The command line after `cargo`.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Build => &["build", "--workspace", "--locked"],
            Self::Check => &["check", "--workspace", "--locked"],
            Self::Test => &["test", "--no-run", "--workspace", "--locked"],
            Self::Clippy => &["clippy", "--workspace", "--locked"],
            Self::Doc => &["doc", "--no-deps", "--workspace", "--locked"],
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.arguments()[0])
    }
}
