//! Verification: every blob is hashed again, every node read, every reference followed. Repair drops what is
//! bad; what was dropped is a miss, and is built again.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::blob::BlobRef;
use super::error::StoreError;
use super::hash::hash_file;
use super::inventory::{self, BlobName};
use super::local::LocalStore;
use crate::digest::Key;

/// Progress of a verification.
#[derive(Clone, Debug)]
pub enum VerifyEvent {
    /// What there is to do.
    Started {
        /// How many blobs there are.
        blobs: u64,
        /// Their length together.
        bytes: u64,
    },
    /// One more blob was hashed.
    Hashed {
        /// Its length.
        bytes: u64,
    },
    /// Something is bad.
    Damaged {
        /// The blob or node, as people are shown it.
        what: String,
        /// What does not fit.
        why: String,
    },
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many blobs were hashed.
    pub blobs: u64,
    /// How many bytes that were.
    pub bytes: u64,
    /// How many nodes were read.
    pub nodes: u64,
    /// Blobs whose content is not what their name says (`<digest>` or `<digest>.x`), sorted.
    pub damaged_blobs: Vec<String>,
    /// Nodes that can't be read, sorted.
    pub damaged_nodes: Vec<Key>,
    /// Sound nodes that refer to a blob that is damaged or missing: key and label, sorted.
    pub broken_nodes: Vec<(Key, String)>,
    /// Whether all of these were dropped.
    pub repaired: bool,
}

impl VerifyReport {
    /// Whether nothing is bad.
    pub fn is_sound(&self) -> bool {
        self.damaged_blobs.is_empty() && self.damaged_nodes.is_empty() && self.broken_nodes.is_empty()
    }
}

impl LocalStore {
    /// Verifies the whole store, while builds may go on using it. `events` is called from several threads.
    pub fn verify(&self, repair: bool, events: &(dyn Fn(VerifyEvent) + Sync)) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        if !self.exists()? {
            return Ok(report);
        }
        let lease = self.lease()?;
        if repair {
            lease.check_writable()?;
        }
        let layout = &self.inner.layout;
        let inventory = inventory::scan(layout)?;
        let bytes = inventory.blobs.values().map(|blob| blob.size).sum();
        events(VerifyEvent::Started { blobs: inventory.blobs.len() as u64, bytes });

        let (bad, hashed) = (Mutex::new(HashSet::<BlobName>::new()), AtomicU64::new(0));
        let sequence: Vec<_> = inventory.blobs.keys().copied().collect();
        sequence.into_par_iter().try_for_each(|name| {
            let blob = BlobRef { digest: name.digest, size: 0, executable: name.executable };
            let why = match hash_file(&layout.blob(&blob)) {
                Ok(file) => {
                    hashed.fetch_add(file.size, Ordering::Relaxed);
                    events(VerifyEvent::Hashed { bytes: file.size });
                    if file.digest == name.digest {
                        return Ok(());
                    }
                    "its content is another"
                }
                Err(StoreError::Changed { .. }) => "it is being written to",
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
                // A block of the disk that can't be read is damage, not a reason to stop.
                Err(StoreError::Io { source, .. }) if source.kind() != io::ErrorKind::PermissionDenied => {
                    "it can't be read"
                }
                Err(error) => return Err(error),
            };
            events(VerifyEvent::Damaged { what: format!("blob {blob}"), why: why.to_owned() });
            bad.lock().expect("no thread panics while it holds the set").insert(name);
            Ok(())
        })?;
        let bad = bad.into_inner().expect("no thread panics while it holds the set");
        report.blobs = inventory.blobs.len() as u64;
        report.bytes = hashed.into_inner();
        report.nodes = inventory.nodes.len() as u64;

        for (key, file) in &inventory.nodes {
            match &file.node {
                Err(why) => {
                    events(VerifyEvent::Damaged { what: format!("node {key}"), why: why.clone() });
                    report.damaged_nodes.push(*key);
                }
                Ok(node) => {
                    let lacks = |blob: &BlobRef| {
                        let name = BlobName::from(blob);
                        bad.contains(&name) || inventory.blobs.get(&name).is_none_or(|file| file.size != blob.size)
                    };
                    if let Some(blob) = node.blobs.iter().find(|blob| lacks(blob)) {
                        let why = format!("its blob {blob} is damaged or missing");
                        events(VerifyEvent::Damaged { what: format!("node {key} ({})", node.label), why });
                        report.broken_nodes.push((*key, node.label.clone()));
                    }
                }
            }
        }
        if repair {
            for key in report.damaged_nodes.iter().chain(report.broken_nodes.iter().map(|(key, _)| key)) {
                lease.remove_node(key)?;
            }
            for name in &bad {
                let path = layout.blob(&BlobRef { digest: name.digest, size: 0, executable: name.executable });
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove", &path, error));
                    }
                    _ => {}
                }
            }
            report.repaired = true;
        }
        report.damaged_blobs = bad
            .iter()
            .map(|name| BlobRef { digest: name.digest, size: 0, executable: name.executable }.to_string())
            .collect();
        report.damaged_blobs.sort();
        report.damaged_nodes.sort();
        report.broken_nodes.sort();
        Ok(report)
    }
}
