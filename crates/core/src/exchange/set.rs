//! Sets as store paths: one look-up that names everything a build can fetch.
//!
//! ```text
//! /nix/store/<hash of the set key>-cargo-deps-app/            (or -cargo-package-app-1.0.0)
//!   set.json      {"schema": 1, "key": "…", "label": "…", "sets": […], "outputs": […], "units": […]}    at most 2 MiB
//! ```
//!
//! The path's references are the paths of all records that it lists, of the sets that belong to it, and of its
//! outputs: whoever copies a set with Nix copies everything.
//!
//! A set is a hint. Whoever reads one looks for the records that it names, and then resolves as without it: a set
//! that lies costs a fetch in vain. Reading is strict all the same, and bounded.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::digest::Key;
use crate::nix::nar::{Event, NarError, NarLimits, NarReader, NarWriteError, NarWriter};
use crate::nix::{Sha256, StorePath};

use super::document::{self, DocumentError, TooLarge};
use super::name::store_path;
use super::output::OutputPath;

/// The version of the format.
const SCHEMA: u32 = 1;

/// The one file of a set.
const NAME: &str = "set.json";

/// The most units of a set: each has a path that it refers to.
const MOST_UNITS: usize = 1 << 13;

/// The most records of a unit: more names one after the other nobody reads.
const MOST_RECORDS: usize = 33;

/// The most sets that belong to a set, and the most outputs.
const MOST_OTHERS: usize = 1 << 12;

/// The longest text.
const LONGEST: usize = 512;

/// Sets that refer to more paths are not published: their narinfo would come near to what readers take (1 MiB).
pub const MOST_REFERENCES: usize = 6000;

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetManifest {
    /// The set key.
    pub key: Key,
    /// How people name the set.
    pub label: String,
    /// The sets that belong to it.
    pub sets: BTreeSet<StorePath>,
    /// What can be installed of it.
    pub outputs: BTreeSet<OutputPath>,
    /// Its units.
    pub units: BTreeSet<SetUnit>,
}

/// The records of one unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetUnit {
    /// The name of its package.
    pub package: String,
    /// The version of its package.
    pub version: String,
    /// Its inputs hash, by which a reader finds the unit in its own plan.
    pub inputs: Key,
    /// Its records: from its unit key, by way of names, to its artifact.
    pub records: Vec<Key>,
}

impl SetUnit {
    /// The store paths of its records.
    pub fn paths(&self) -> impl Iterator<Item = StorePath> {
        self.records.iter().map(|key| store_path(key, &self.package, &self.version))
    }

    fn is_bounded(&self) -> bool {
        let short = |text: &str| !text.is_empty() && text.len() <= LONGEST;
        short(&self.package) && short(&self.version) && (1..=MOST_RECORDS).contains(&self.records.len())
    }
}

/// Why a NAR is no set that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It is no NAR that we take.
    #[error("read the set {key}")]
    Nar {
        /// The key that was asked for.
        key: Key,
        /// What is wrong.
        #[source]
        source: NarError,
    },
    /// It holds other files than a set does.
    #[error("read the set {key}: its files are not those of a set")]
    Files {
        /// The key that was asked for.
        key: Key,
    },
    /// Its manifest is larger than that of any set that is published.
    #[error("read the set {key}: its manifest is too large")]
    TooLarge {
        /// The key that was asked for.
        key: Key,
        /// In which way.
        #[source]
        source: TooLarge,
    },
    /// Its manifest is of another form.
    #[error("read the set {key}: its manifest is not one that this version knows")]
    Manifest {
        /// The key that was asked for.
        key: Key,
        /// What is wrong, where it is more than that.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// It is another set.
    #[error("read the set {key}: it is the set {found}")]
    OtherKey {
        /// The key that was asked for.
        key: Key,
        /// The key that it bears.
        found: Key,
    },
    /// Its lists are not sorted, or hold something twice, too much, or what can't be.
    #[error("read the set {key}: what it lists is not in order")]
    Order {
        /// The key that was asked for.
        key: Key,
    },
}

/// What `set.json` holds. Sets and outputs are texts there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u32,
    key: Key,
    label: String,
    sets: Vec<String>,
    outputs: Vec<DocumentOutput>,
    units: Vec<SetUnit>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DocumentOutput {
    platform: Option<String>,
    path: String,
    nar_hash: String,
    nar_size: u64,
}

impl SetManifest {
    /// All paths that the set refers to.
    pub fn references(&self) -> BTreeSet<StorePath> {
        let outputs = self.outputs.iter().map(|output| output.path.clone());
        let records = self.units.iter().flat_map(SetUnit::paths);
        self.sets.iter().cloned().chain(outputs).chain(records).collect()
    }

    /// Writes the set as a NAR. The same set is the same bytes, whoever writes it. One that nobody would read is an error.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), NarWriteError> {
        let output = |output: &OutputPath| DocumentOutput {
            platform: output.platform.clone(),
            path: output.path.to_string(),
            nar_hash: output.nar_hash.to_string(),
            nar_size: output.nar_size,
        };
        let document = Document {
            schema: SCHEMA,
            key: self.key,
            label: self.label.clone(),
            sets: self.sets.iter().map(StorePath::to_string).collect(),
            outputs: self.outputs.iter().map(output).collect(),
            units: self.units.iter().cloned().collect(),
        };
        let text = document::write(&document).map_err(|error| NarWriteError::Contents { source: error.into() })?;
        let mut nar = NarWriter::new(out);
        nar.begin_directory()?;
        nar.entry(NAME.as_bytes())?;
        nar.regular_bytes(false, &text)?;
        nar.end_directory()?;
        nar.finish().map(|_| ())
    }

    /// Reads the set `key` from a NAR. All of `nar` is read.
    pub fn read(key: &Key, nar: &mut dyn Read) -> Result<Self, SetError> {
        let key = *key;
        let broken = |source| SetError::Nar { key, source };
        let files = || SetError::Files { key };
        let mut nar = NarReader::new(nar, NarLimits::default());
        match nar.next_event().map_err(broken)? {
            Some(Event::DirectoryStart) => {}
            _ => return Err(files()),
        }
        match nar.next_event().map_err(broken)? {
            Some(Event::Entry { name }) if name == NAME.as_bytes() => {}
            _ => return Err(files()),
        }
        let document = match nar.next_event().map_err(broken)? {
            Some(Event::Regular { executable: false, size, mut contents, .. }) => document::read(size, &mut contents)
                .map_err(|error| match error {
                DocumentError::TooLarge(source) => SetError::TooLarge { key, source },
                DocumentError::Json(source) => SetError::Manifest { key, source: Some(source) },
            })?,
            _ => return Err(files()),
        };
        if !matches!(nar.next_event().map_err(broken)?, Some(Event::DirectoryEnd))
            || nar.next_event().map_err(broken)?.is_some()
        {
            return Err(files());
        }
        Self::check(key, document)
    }

    fn check(key: Key, document: Document) -> Result<Self, SetError> {
        if document.schema != SCHEMA {
            return Err(SetError::Manifest { key, source: None });
        }
        if document.key != key {
            return Err(SetError::OtherKey { key, found: document.key });
        }
        let in_order = || SetError::Order { key };
        let too_much = document.label.len() > LONGEST
            || document.sets.len() > MOST_OTHERS
            || document.outputs.len() > MOST_OTHERS
            || document.units.len() > MOST_UNITS
            || !document.units.iter().all(SetUnit::is_bounded);
        if too_much {
            return Err(in_order());
        }
        let sets = document.sets.iter().map(|path| path.parse().ok()).collect::<Option<Vec<StorePath>>>();
        let outputs = document.outputs.into_iter().map(DocumentOutput::read).collect::<Option<Vec<_>>>();
        Ok(Self {
            key,
            label: document.label,
            sets: sets.and_then(ascending).ok_or_else(in_order)?,
            outputs: outputs.and_then(ascending).ok_or_else(in_order)?,
            units: ascending(document.units).ok_or_else(in_order)?,
        })
    }
}

impl DocumentOutput {
    /// The output, if its path is the one that its content makes.
    fn read(self) -> Option<OutputPath> {
        let nar_hash: Sha256 = self.nar_hash.parse().ok()?;
        let path: StorePath = self.path.parse().ok()?;
        let platform = self.platform;
        if platform.as_ref().is_some_and(|platform| platform.len() > LONGEST) {
            return None;
        }
        let output = OutputPath::new(platform, path.name().clone(), nar_hash, self.nar_size);
        (output.path == path && self.nar_size > 0).then_some(output)
    }
}

/// A list whose items ascend strictly.
fn ascending<T: Ord>(items: Vec<T>) -> Option<BTreeSet<T>> {
    items.windows(2).all(|pair| pair[0] < pair[1]).then(|| items.into_iter().collect())
}

#[cfg(test)]
mod tests;
