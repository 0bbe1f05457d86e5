//! `nix`: what derivations and the flake helper need. One file for each command.
//!
//! ```text
//! lock     store and caches ──► nixcache.lock       which units there are, by content
//! fetch    nixcache.lock, caches ──► /nix/store/…   in a fixed-output derivation: the hash vouches for it
//! import   /nix/store/… ──► store                   in a derivation, before cargo runs
//! export   store ──► a directory                    in a derivation, after cargo ran
//! push     such a directory ──► caches
//! skeleton a workspace ──► a directory               what decides how dependencies are compiled, and nothing else
//! ```

pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod import;
pub(crate) mod lock;
pub(crate) mod push;
pub(crate) mod skeleton;

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::digest::Key;
use nixcache_core::exchange::{PackError, UnpackError};
use nixcache_core::nix::StorePath;
use nixcache_core::nix::nar::TreeError;
use nixcache_core::store::StoreError;
use nixcache_remote::FetchError;

use crate::caches::CachesError;
use crate::exit;
use crate::report::Report;

/// Why one of these commands failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NixError {
    /// A file or directory can't be used.
    #[error("{action} {path}")]
    File {
        /// What was to be done, as a verb.
        action: &'static str,
        /// With what.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A directory holds no unit.
    #[error("read the unit in {path}: its artifact.json names no key")]
    NoUnit {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// A directory holds something else than its manifest says.
    #[error("take the unit in {path}")]
    Unpack {
        /// The directory.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: Box<UnpackError>,
    },
    /// A tree can't be read or written.
    #[error("read or write the tree {path}")]
    Tree {
        /// Where.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: Box<TreeError>,
    },
    /// A record of the store can't be packed.
    #[error("pack a unit")]
    Pack(#[source] Box<PackError>),
    /// A record's name is not that of a unit.
    #[error("name the store path of {key}: its label is {label:?}")]
    Label {
        /// The record.
        key: Key,
        /// Its label.
        label: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Caches can't be used.
    #[error(transparent)]
    Caches(#[from] CachesError),
    /// A cache that may have a record could not be asked for it.
    #[error("look for {path} in the caches; without their answer the lock file could lack what they have")]
    LookUp {
        /// The record.
        path: StorePath,
        /// Why it could not be asked.
        #[source]
        source: Box<FetchError>,
    },
    /// A lock file is none.
    #[error("read {path}")]
    Lock {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A lock file is of another version.
    #[error("read {path}: it is not of version 1, which this cargo-nixcache knows")]
    LockVersion {
        /// The file.
        path: Utf8PathBuf,
    },
}

impl From<PackError> for NixError {
    fn from(error: PackError) -> Self {
        Self::Pack(Box::new(error))
    }
}

impl NixError {
    fn file(action: &'static str, path: &Utf8Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// Ends with an error.
fn failed(error: &NixError) -> ExitCode {
    let code = match error {
        NixError::Store(_) => exit::STORE,
        NixError::Caches(_) | NixError::LookUp { .. } => exit::CACHES,
        _ => exit::NIX,
    };
    Report::new(false, false, None).error(error, None);
    ExitCode::from(code)
}

/// The lines of a file that name directories.
fn lines(file: Option<&Utf8Path>) -> Result<Vec<Utf8PathBuf>, NixError> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(file).map_err(NixError::file("read", file))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(Utf8PathBuf::from).collect())
}
