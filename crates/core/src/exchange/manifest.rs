//! The manifest of a travelling record.

use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::session::trie::Node;

/// The version of the format.
pub(super) const SCHEMA: u32 = 1;

/// The manifest's name. It sorts before [`FILES`], so that a reader knows what to expect of the files.
pub(super) const NAME: &str = "artifact.json";

/// The directory of the files.
pub(super) const FILES: &str = "files";

/// What `artifact.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The version of the format.
    pub(super) schema: u32,
    /// The key of the record.
    pub(super) key: Key,
    /// How people name the unit.
    pub(super) label: String,
    /// The record.
    pub(super) node: Node,
}
