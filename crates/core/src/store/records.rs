//! Nodes in the store: put, got, touched, removed.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use super::error::StoreError;
use super::facts::FileFacts;
use super::lease::Lease;
use super::node::{self, NewNode, Node};
use super::platform;
use crate::digest::Key;

/// How exact the time of last use is. A finer one would cost a write for each node of each build.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);

/// What came of putting a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutNode {
    /// It is there now.
    Inserted,
    /// The key has a whole node already, which stays.
    AlreadyThere(Node),
}

impl Lease {
    /// Keeps a node, whose blobs are in the store already. The first writer wins, unless what it wrote is
    /// damaged or lacks a blob: then it can't be used, and is replaced.
    pub fn put_node(&self, new: &NewNode<'_>) -> Result<PutNode, StoreError> {
        self.check_writable()?;
        for blob in new.blobs {
            if !self.has_blob(blob)? {
                return Err(StoreError::MissingBlob { blob: *blob });
            }
        }
        let path = self.layout().node(&new.key);
        let bytes = node::encode(new);
        // Twice, since a broken node is removed on the first round; more only if others keep interfering.
        for _ in 0..8 {
            match self.get_node(&new.key) {
                Ok(Some(existing)) if self.is_whole(&existing)? => return Ok(PutNode::AlreadyThere(existing)),
                Ok(Some(_)) => self.remove_node(&new.key)?,
                Ok(None) | Err(StoreError::DamagedNode { .. }) => {}
                Err(error) => return Err(error),
            }
            let added = self.write_new(&path, |temporary| {
                fs::write(temporary, &bytes)
                    .and_then(|()| platform::write_protect(temporary))
                    .map_err(|error| StoreError::io("write", temporary, error))
            })?;
            if added {
                self.grew_by((bytes.len() as u64).next_multiple_of(4096));
                return Ok(PutNode::Inserted);
            }
        }
        Err(StoreError::DamagedNode { key: new.key, why: "it is damaged again and again".to_owned() })
    }

    /// The node of `key`. A damaged one is dropped and reported.
    pub fn get_node(&self, key: &Key) -> Result<Option<Node>, StoreError> {
        let path = self.layout().node(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        node::decode(key, &bytes).map(Some).map_err(|why| {
            if self.is_writable() {
                // If it can't be removed, the next reader finds the same damage.
                let _ = fs::remove_file(&path);
            }
            StoreError::DamagedNode { key: *key, why }
        })
    }

    /// Removes the node of `key`, if there is one. Its blobs stay until garbage is collected.
    pub fn remove_node(&self, key: &Key) -> Result<(), StoreError> {
        self.check_writable()?;
        let path = self.layout().node(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// Notes that the nodes were used at `now`: those that are used least are the first to go. Costs a
    /// write at most once an hour for each. A store that can't be written does not mind.
    pub fn touch(&self, keys: &[Key], now: SystemTime) -> Result<(), StoreError> {
        if !self.is_writable() {
            return Ok(());
        }
        let stale = platform::nanoseconds(now.checked_sub(TOUCH_INTERVAL).unwrap_or(now));
        let now_ns = platform::nanoseconds(now);
        for key in keys {
            let path = self.layout().node(key);
            // A stamp from the future (a clock that was set back) would protect the node for ever.
            let stamped = match FileFacts::of_path(&path) {
                Ok(facts) if facts.mtime_ns <= stale || facts.mtime_ns > now_ns => platform::set_modified(&path, now),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            match stamped {
                Err(error) if error.kind() != io::ErrorKind::NotFound && !platform::is_read_only(&error) => {
                    return Err(StoreError::io("set the time of", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_whole(&self, node: &Node) -> Result<bool, StoreError> {
        for blob in &node.blobs {
            if !self.has_blob(blob)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
