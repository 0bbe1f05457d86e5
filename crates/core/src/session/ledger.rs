//! The ledger of a build directory: what we know of the units in it, so that a build that has nothing to do
//! finds that out by looking at file facts alone.
//!
//! ```text
//! <build-dir>/.nixcache/
//!     ledger-<profile directory>.json     the entries, by unit place
//!     ledger.lock                         held while the file is read, merged and replaced
//! ```
//!
//! A ledger is never believed against the disk: an entry counts only while the facts of all its files are
//! what they were. Losing it costs time, nothing else. It never leaves the machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::artifact::dynamic::{DynamicInput, InputValue};
use crate::cargo::layout::{BuildLayout, CargoHash, FingerprintStem};
use crate::digest::{ContentDigest, Key};
use crate::store::FileFacts;

const VERSION: u32 = 1;

/// Why a ledger could not be kept. None of these stops a build.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the ledger {path}")]
pub struct LedgerError {
    path: Utf8PathBuf,
    #[source]
    source: io::Error,
}

/// Where a unit lives in a build directory: its fingerprint's hash file, relative to the build directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitPlace(pub Utf8PathBuf);

impl UnitPlace {
    /// The place of the unit with the given hash file.
    pub(super) fn of(layout: &BuildLayout, hash_file: &Utf8Path) -> Self {
        Self(layout.relative(hash_file).unwrap_or(hash_file).to_owned())
    }
}

/// What is known of one unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Cargo's hash of the unit.
    pub hash: CargoHash,
    /// The name of its fingerprint files.
    pub stem: FingerprintStem,
    /// The inputs hash of the planned unit.
    pub inputs: Key,
    /// The unit key, where the outputs of all dependencies were known.
    pub unit: Option<Key>,
    /// The key behind the dynamic inputs, under which the artifact is kept (if it is).
    pub artifact: Option<Key>,
    /// The digest of what it produced, where it was hashed.
    pub output: Option<ContentDigest>,
    /// Whether its outputs carry the one old time that restored files have.
    pub old_times: bool,
    /// The newest time of its outputs, in nanoseconds since 1970: what cargo compares with its dependents.
    pub newest: i64,
    /// Whether the store held the artifact when the entry was written.
    pub kept: bool,
    /// Cargo's own fingerprint of it here.
    pub fingerprint: u64,
    /// What it was seen to read, with the values of that time.
    pub dynamic: Vec<(DynamicInput, InputValue)>,
    /// The fingerprints of the dependencies that it was made from, and their outputs.
    pub dependencies: Vec<(u64, ContentDigest)>,
    /// Its files, relative to the build directory.
    pub files: Vec<LedgerFile>,
}

/// A file of a unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerFile {
    /// Relative to the build directory.
    pub path: Utf8PathBuf,
    /// Its facts when the entry was written.
    pub facts: FileFacts,
}

impl LedgerEntry {
    /// Whether cargo has not built the unit anew since: it writes the hash file whenever it does.
    pub fn is_current(&self, place: &UnitPlace, build_directory: &Utf8Path) -> bool {
        let hash_file = self.files.iter().find(|file| file.path == place.0);
        hash_file.is_some_and(|file| {
            FileFacts::of_path(&build_directory.join(&file.path)).is_ok_and(|facts| facts.same_but_links(&file.facts))
        })
    }

    /// Whether all files are what they were.
    pub fn is_intact(&self, build_directory: &Utf8Path) -> bool {
        are_intact(&self.files, build_directory)
    }
}

/// Whether all of these files are what they were.
pub(super) fn are_intact(files: &[LedgerFile], build_directory: &Utf8Path) -> bool {
    files.iter().all(|file| {
        // Cargo and other checkouts link files, which moves their change time and nothing else.
        FileFacts::of_path(&build_directory.join(&file.path)).is_ok_and(|facts| facts.same_but_links(&file.facts))
    })
}

/// All entries of one profile directory.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<UnitPlace, LedgerEntry>,
    /// Entries made since it was read; only these are written over what another process wrote meanwhile.
    changed: BTreeMap<UnitPlace, Option<LedgerEntry>>,
}

#[derive(Serialize, Deserialize)]
struct LedgerDocument {
    version: u32,
    entries: Vec<(UnitPlace, LedgerEntry)>,
}

impl Ledger {
    /// Reads the ledger of a profile directory; one that is missing or broken is empty.
    pub fn read(build_directory: &Utf8Path, profile_directory: &str) -> Self {
        Self { entries: read_entries(&ledger_path(build_directory, profile_directory)), changed: BTreeMap::new() }
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&UnitPlace, &LedgerEntry)> {
        self.entries.iter()
    }

    /// The entry of a place.
    pub fn get(&self, place: &UnitPlace) -> Option<&LedgerEntry> {
        self.entries.get(place)
    }

    /// Records what is known of a place.
    pub fn insert(&mut self, place: UnitPlace, entry: LedgerEntry) {
        self.changed.insert(place.clone(), Some(entry.clone()));
        self.entries.insert(place, entry);
    }

    /// Forgets a place.
    pub fn remove(&mut self, place: &UnitPlace) {
        if self.entries.remove(place).is_some() {
            self.changed.insert(place.clone(), None);
        }
    }

    /// Writes the changes, merged with what other processes wrote meanwhile.
    pub fn save(&mut self, build_directory: &Utf8Path, profile_directory: &str) -> Result<(), LedgerError> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let path = ledger_path(build_directory, profile_directory);
        let failed = |source| LedgerError { path: path.clone(), source };
        let directory = path.parent().unwrap_or(build_directory);
        std::fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(directory.join("ledger.lock")).map_err(failed)?;
        // A file system without locks costs at most a lost entry.
        let _locked = lock.lock();
        let mut merged = read_entries(&path);
        for (place, entry) in std::mem::take(&mut self.changed) {
            match entry {
                Some(entry) => merged.insert(place, entry),
                None => merged.remove(&place),
            };
        }
        // Units that are gone would otherwise pile up.
        merged.retain(|place, _| build_directory.join(&place.0).exists());
        let document = LedgerDocument { version: VERSION, entries: merged.into_iter().collect() };
        let text = serde_json::to_vec(&document).map_err(|error| failed(error.into()))?;
        let temporary = directory.join(format!(".ledger-{}.tmp", std::process::id()));
        std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &path)).map_err(failed)?;
        Ok(())
    }
}

fn ledger_path(build_directory: &Utf8Path, profile_directory: &str) -> Utf8PathBuf {
    build_directory.join(".nixcache").join(format!("ledger-{profile_directory}.json"))
}

fn read_entries(path: &Utf8Path) -> BTreeMap<UnitPlace, LedgerEntry> {
    let Ok(text) = std::fs::read(path) else { return BTreeMap::new() };
    match serde_json::from_slice::<LedgerDocument>(&text) {
        Ok(document) if document.version == VERSION => document.entries.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}
