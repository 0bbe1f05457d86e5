//! Outputs: what can be installed of a package, as a store path that its content names. It needs no trusted key.
//!
//! ```text
//! /nix/store/<hash of the content>-app-1.0.0/
//!   bin/app          programs
//!   lib/libapp.so    cdylibs and staticlibs
//! ```
//!
//! Examples, tests and Rust libraries are not installed. The files are those of the unit artifacts, bit for bit.

use std::collections::BTreeMap;
use std::io::{self, Write};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::artifact::UnitArtifact;
use crate::digest::{Key, KeyHasher};
use crate::nix::nar::NarWriter;
use crate::nix::{HashingWriter, Sha256, StorePath, StorePathName};
use crate::plan::{PlannedSet, SetKind};
use crate::store::{BlobRef, Lease, NewNode, StoreError};
use crate::unit::{CompileMode, CompilePlatform, CrateType, PlannedUnit, TargetKind, UnitGraph, UnitIndex};

use super::name::output_name;
use super::pack::{TreeError, write_tree};

/// The domain of the keys under which the store remembers the hashes of outputs.
const DOMAIN: &str = "output-nar/1";

/// What stands before the hash in every store path.
const STORE: &[u8] = b"/nix/store/";

/// The digits of a store path's hash, and the hyphen after them.
const HASH: usize = 33;

/// What can be installed of a package, for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The platform; `None` is the host.
    pub platform: Option<String>,
    /// The name of its store path.
    pub name: StorePathName,
    /// The files, by their paths.
    pub files: BTreeMap<Utf8PathBuf, BlobRef>,
}

/// Where an output is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputPath {
    /// The platform; `None` is the host.
    pub platform: Option<String>,
    /// The path that its content names.
    pub path: StorePath,
    /// The hash of its NAR.
    pub nar_hash: Sha256,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
}

impl OutputPath {
    /// The path of an output whose NAR is known. It refers to nothing.
    pub fn new(platform: Option<String>, name: StorePathName, nar_hash: Sha256, nar_size: u64) -> Self {
        let path = StorePath::by_content(&nar_hash, &std::collections::BTreeSet::new(), false, name);
        Self { platform, path, nar_hash, nar_size }
    }
}

/// Why an output could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file of it could not be read from the store, or the NAR not be written.
    #[error("pack the output {name}")]
    Tree {
        /// The name of its store path.
        name: StorePathName,
        /// What is wrong.
        #[source]
        source: TreeError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What can be installed of a set, by platform. `artifact` gives the artifact of a unit that can be; `None` if one of
/// them isn't at hand.
pub fn outputs(
    graph: &UnitGraph,
    set: &PlannedSet,
    artifact: impl Fn(UnitIndex) -> Option<UnitArtifact>,
) -> Option<Vec<Output>> {
    let SetKind::Package(package) = set.kind else { return Some(Vec::new()) };
    let package = &graph.packages[package.0 as usize];
    let mut by_platform: BTreeMap<Option<String>, BTreeMap<Utf8PathBuf, BlobRef>> = BTreeMap::new();
    for index in &set.units {
        let unit = graph.unit(*index);
        if !can_be_installed(unit) {
            continue;
        }
        let artifact = artifact(*index)?;
        let platform = match &unit.platform {
            CompilePlatform::Host => None,
            CompilePlatform::Target { name, .. } => Some(name.clone()),
        };
        for (path, blob) in installable(unit, &artifact) {
            by_platform.entry(platform.clone()).or_default().insert(path, blob);
        }
    }
    let output = |(platform, files): (Option<String>, _)| {
        let name = output_name(&package.name, &package.version, platform.as_deref());
        Output { platform, name, files }
    };
    Some(by_platform.into_iter().map(output).collect())
}

fn can_be_installed(unit: &PlannedUnit) -> bool {
    let foreign = |crate_type: &CrateType| matches!(crate_type, CrateType::Cdylib | CrateType::Staticlib);
    unit.mode == CompileMode::Build
        && match unit.target.kind {
            TargetKind::Bin => true,
            TargetKind::Lib => unit.target.crate_types.iter().any(foreign),
            _ => false,
        }
}

/// The files of a unit that are installed, under the names that cargo gives its final files.
fn installable(unit: &PlannedUnit, artifact: &UnitArtifact) -> Vec<(Utf8PathBuf, BlobRef)> {
    let is_program = unit.target.kind == TargetKind::Bin;
    let has = |crate_type| unit.target.crate_types.contains(&crate_type);
    let hash = format!("-{}", artifact.hash);
    let mut installed = Vec::new();
    for file in &artifact.files {
        if file.path.components().count() != 1 {
            continue;
        }
        let extension = file.path.extension().unwrap_or_default();
        let stem = file.path.file_stem().unwrap_or_default();
        let stem = stem.strip_suffix(&hash).unwrap_or(stem);
        let (directory, stem) = match (is_program, extension) {
            // Of programs cargo names the final file as the target, not as the crate.
            (true, "" | "exe" | "wasm") => ("bin", unit.target.name.as_str()),
            (false, "so" | "dylib" | "dll" | "wasm") if has(CrateType::Cdylib) => ("lib", stem),
            (false, "a" | "lib") if has(CrateType::Staticlib) => ("lib", stem),
            _ => continue,
        };
        let name = if extension.is_empty() { stem.to_owned() } else { format!("{stem}.{extension}") };
        installed.push((Utf8Path::new(directory).join(name), file.blob));
    }
    installed
}

impl Output {
    /// Writes it as a NAR. Every file is hashed on the way, as records are.
    pub fn write(&self, lease: &Lease, out: &mut dyn Write) -> Result<(), OutputError> {
        self.write_watched(lease, out, &mut |_| ())
    }

    fn write_watched(
        &self,
        lease: &Lease,
        out: &mut dyn Write,
        watch: &mut dyn FnMut(&[u8]),
    ) -> Result<(), OutputError> {
        let failed = |source| OutputError::Tree { name: self.name.clone(), source };
        let mut nar = NarWriter::new(out);
        let files = self.files.iter().map(|(path, blob)| (path.as_path(), *blob));
        nar.begin_directory().map_err(|error| failed(error.into()))?;
        write_tree(&mut nar, lease, files, watch).map_err(failed)?;
        nar.end_directory().and_then(|()| nar.finish()).map_err(|error| failed(error.into()))?;
        Ok(())
    }

    /// Where it is. `None` if a file of it names a store path: whoever fetches it would lack that one, so it is left
    /// to Nix to build.
    ///
    /// The store remembers the answer, so that the files are read once.
    pub fn path(&self, lease: &Lease) -> Result<Option<OutputPath>, OutputError> {
        let key = self.key();
        let known = lease.get_node(&key).ok().flatten();
        let facts = match known.and_then(|node| serde_json::from_slice::<Facts>(&node.payload).ok()) {
            Some(facts) => facts,
            None => {
                let mut search = ReferenceSearch::default();
                let mut nar = HashingWriter::new(io::sink());
                self.write_watched(lease, &mut nar, &mut |bytes| search.feed(bytes))?;
                let (_, hasher) = nar.into_parts();
                let nar_size = hasher.length();
                let facts = Facts { nar_hash: hasher.finish().to_string(), nar_size, names_store_paths: search.is_met };
                self.remember(lease, key, &facts)?;
                facts
            }
        };
        let hash = facts.nar_hash.parse::<Sha256>().ok().filter(|_| !facts.names_store_paths);
        Ok(hash.map(|hash| OutputPath::new(self.platform.clone(), self.name.clone(), hash, facts.nar_size)))
    }

    fn key(&self) -> Key {
        let mut hasher = KeyHasher::new(DOMAIN);
        for (path, blob) in &self.files {
            hasher.field("path", path.as_str()).field("content", blob.digest.as_bytes());
            hasher.field("executable", [u8::from(blob.executable)]);
        }
        hasher.key()
    }

    fn remember(&self, lease: &Lease, key: Key, facts: &Facts) -> Result<(), StoreError> {
        if !lease.is_writable() {
            return Ok(());
        }
        let payload = serde_json::to_vec(facts).expect("it holds only texts and numbers");
        let label = format!("output {}", self.name);
        let new = NewNode { key, kind: "output", label: &label, blobs: &[], nodes: &[], payload: &payload };
        lease.put_node(&new).map(|_| ())
    }
}

/// What the store remembers of an output.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    nar_hash: String,
    nar_size: u64,
    names_store_paths: bool,
}

/// Looks for the names of store paths in bytes that come in pieces.
#[derive(Default)]
struct ReferenceSearch {
    /// The end of what came before: a name can lie across pieces.
    tail: Vec<u8>,
    is_met: bool,
}

impl ReferenceSearch {
    fn feed(&mut self, bytes: &[u8]) {
        const NAME: usize = STORE.len() + HASH;
        if self.is_met {
            return;
        }
        let across = bytes.len().min(NAME);
        self.tail.extend_from_slice(&bytes[..across]);
        self.is_met = names_store_path(&self.tail) || names_store_path(bytes);
        self.tail.extend_from_slice(&bytes[across.max(bytes.len().saturating_sub(NAME))..]);
        let keep = self.tail.len().saturating_sub(NAME - 1);
        self.tail.drain(..keep);
    }
}

fn names_store_path(bytes: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, STORE).any(|at| {
        let Some(name) = bytes.get(at + STORE.len()..at + STORE.len() + HASH) else { return false };
        let (hash, hyphen) = name.split_at(HASH - 1);
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (byte.is_ascii_lowercase() && !b"eotu".contains(byte));
        hyphen == b"-" && hash.iter().all(is_digit)
    })
}

#[cfg(test)]
mod tests;
