//! What is in the store: one scan of its directories, and the lists and figures made of it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;

use super::blob::BlobRef;
use super::error::StoreError;
use super::layout::Layout;
use super::local::LocalStore;
use super::node::{self, Node};
use super::{platform, usage};
use crate::digest::{ContentDigest, Key};

/// A node, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSummary {
    /// Its key.
    pub key: Key,
    /// What sort of record it is.
    pub kind: String,
    /// How people name it.
    pub label: String,
    /// How many blobs it refers to.
    pub blobs: usize,
    /// Their length together, each counted once.
    pub bytes: u64,
    /// When it was last used, to the hour.
    pub last_used: SystemTime,
}

/// The figures of one kind of node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// How many nodes.
    pub nodes: u64,
    /// The allocated bytes of the blobs they refer to; a blob that several kinds share counts for each.
    pub blob_bytes: u64,
}

/// The figures of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// How many blobs.
    pub blobs: u64,
    /// Their allocated bytes, whether or not target directories share them.
    pub blob_bytes: u64,
    /// How many nodes.
    pub nodes: u64,
    /// Their allocated bytes.
    pub node_bytes: u64,
    /// How many nodes are damaged.
    pub damaged_nodes: u64,
    /// By kind of node.
    pub kinds: BTreeMap<String, KindStats>,
}

/// A blob's name: what its file name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlobName {
    pub(super) digest: ContentDigest,
    pub(super) executable: bool,
}

impl From<&BlobRef> for BlobName {
    fn from(blob: &BlobRef) -> Self {
        Self { digest: blob.digest, executable: blob.executable }
    }
}

/// A blob's file.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlobFile {
    pub(super) size: u64,
    pub(super) allocated: u64,
}

/// A node's file.
#[derive(Debug)]
pub(super) struct NodeFile {
    pub(super) allocated: u64,
    pub(super) last_used: SystemTime,
    /// The node without its payload, or why it can't be read.
    pub(super) node: Result<Node, String>,
}

/// Everything in the store.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) blobs: HashMap<BlobName, BlobFile>,
    pub(super) nodes: HashMap<Key, NodeFile>,
    /// Files that do not belong where they lie.
    pub(super) strangers: Vec<Utf8PathBuf>,
}

impl Inventory {
    /// The allocated bytes of all blobs and nodes.
    pub(super) fn allocated(&self) -> u64 {
        let blobs: u64 = self.blobs.values().map(|blob| blob.allocated).sum();
        blobs + self.nodes.values().map(|node| node.allocated).sum::<u64>()
    }
}

/// Scans the store. Nodes are looked at before blobs: whoever adds to the store meanwhile writes blobs first,
/// so no node is seen without its blobs.
pub(super) fn scan(layout: &Layout) -> Result<Inventory, StoreError> {
    let mut inventory = Inventory::default();
    for found in scan_directory(&layout.nodes(), |path, name, metadata| {
        let key: Key = name.parse().ok()?;
        let node = match fs::read(path) {
            Ok(bytes) => node::decode(&key, &bytes).map(|node| Node { payload: Vec::new(), ..node }),
            Err(error) => Err(format!("it can't be read: {error}")),
        };
        let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some((key, NodeFile { allocated: platform::allocated_size(metadata), last_used, node }))
    })? {
        match found {
            Ok((key, node)) => drop(inventory.nodes.insert(key, node)),
            Err(stranger) => inventory.strangers.push(stranger),
        }
    }
    for found in scan_directory(&layout.blobs(), |_, name, metadata| {
        let (digest, executable) = name.strip_suffix(".x").map_or((name, false), |digest| (digest, true));
        let name = BlobName { digest: digest.parse().ok()?, executable };
        Some((name, BlobFile { size: metadata.len(), allocated: platform::allocated_size(metadata) }))
    })? {
        match found {
            Ok((name, blob)) => drop(inventory.blobs.insert(name, blob)),
            Err(stranger) => inventory.strangers.push(stranger),
        }
    }
    Ok(inventory)
}

/// Reads the two levels of `directory`, its parts in parallel. `read` gets a file's path, its full name
/// (both levels joined) and metadata; what it does not want is a stranger.
fn scan_directory<T: Send>(
    directory: &Utf8Path,
    read: impl Fn(&Utf8Path, &str, &fs::Metadata) -> Option<T> + Sync,
) -> Result<Vec<Result<T, Utf8PathBuf>>, StoreError> {
    let list = |path: &Utf8Path| -> Result<Vec<(Utf8PathBuf, String)>, StoreError> {
        let failed = |error| StoreError::io("list", path, error);
        let entries = path.read_dir_utf8().map_err(failed)?;
        entries
            .map(|entry| entry.map(|entry| (entry.path().to_owned(), entry.file_name().to_owned())).map_err(failed))
            .collect()
    };
    let parts: Vec<Vec<Result<T, Utf8PathBuf>>> = list(directory)?
        .into_par_iter()
        .map(|(part, prefix)| {
            let mut found = Vec::new();
            if !part.is_dir() {
                return Ok(vec![Err(part)]);
            }
            for (path, rest) in list(&part)? {
                match fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_file() => {
                        found.push(read(&path, &format!("{prefix}{rest}"), &metadata).ok_or(path));
                    }
                    Ok(_) => found.push(Err(path)),
                    // Another process dropped it as damaged meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::io("read", &path, error)),
                }
            }
            Ok(found)
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(parts.into_iter().flatten().collect())
}

impl LocalStore {
    /// All sound nodes, sorted by label, then key.
    pub fn list(&self) -> Result<Vec<NodeSummary>, StoreError> {
        if !self.exists()? {
            return Ok(Vec::new());
        }
        let _lease = self.lease()?;
        let inventory = scan(&self.inner.layout)?;
        let mut list: Vec<NodeSummary> = inventory
            .nodes
            .into_iter()
            .filter_map(|(key, file)| {
                let node = file.node.ok()?;
                let distinct: HashMap<BlobName, u64> =
                    node.blobs.iter().map(|blob| (BlobName::from(blob), blob.size)).collect();
                Some(NodeSummary {
                    key,
                    kind: node.kind,
                    label: node.label,
                    blobs: distinct.len(),
                    bytes: distinct.values().sum(),
                    last_used: file.last_used,
                })
            })
            .collect();
        list.sort_by(|a, b| (&a.label, a.key).cmp(&(&b.label, b.key)));
        Ok(list)
    }

    /// The figures of the store.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        if !self.exists()? {
            return Ok(StoreStats::default());
        }
        let _lease = self.lease()?;
        let inventory = scan(&self.inner.layout)?;
        let mut stats = StoreStats::default();
        let mut blobs_of: BTreeMap<&str, HashMap<BlobName, u64>> = BTreeMap::new();
        for file in inventory.nodes.values() {
            stats.nodes += 1;
            stats.node_bytes += file.allocated;
            let Ok(node) = &file.node else {
                stats.damaged_nodes += 1;
                continue;
            };
            stats.kinds.entry(node.kind.clone()).or_default().nodes += 1;
            let blobs = blobs_of.entry(&node.kind).or_default();
            for name in node.blobs.iter().map(BlobName::from) {
                blobs.insert(name, inventory.blobs.get(&name).map_or(0, |blob| blob.allocated));
            }
        }
        for (kind, blobs) in blobs_of {
            stats.kinds.entry(kind.to_owned()).or_default().blob_bytes = blobs.values().sum();
        }
        stats.blobs = inventory.blobs.len() as u64;
        stats.blob_bytes = inventory.blobs.values().map(|blob| blob.allocated).sum();
        Ok(stats)
    }

    /// The approximate size in allocated bytes, without a scan.
    pub fn approximate_size(&self) -> Result<u64, StoreError> {
        usage::read(&self.inner.layout)
    }
}

/// How long a wait for the lock is at least, so that one short build in between does no harm.
pub(super) const SHORT_WAIT: Duration = Duration::from_millis(50);
