//! The local store: content-addressed blobs, and immutable nodes that refer to them.
//!
//! It knows nothing of units: a node has a key, a kind, a label, references and an opaque payload.
//! `artifact` writes and reads it while a build runs; the command line lists, verifies and shrinks it.
//! The format on disk is drawn in `layout` and explained in `docs/formats.md`.

mod blob;
mod error;
mod facts;
mod gc;
mod hash;
mod inventory;
mod layout;
mod lease;
mod local;
mod node;
mod pins;
mod platform;
mod records;
mod stream;
mod usage;
mod verify;

#[cfg(test)]
mod tests;

pub use blob::{BlobRef, InsertedBlob, InsertedHow, PlacedHow, Placement};
pub use error::StoreError;
pub use facts::FileFacts;
pub use gc::{GcOptions, GcReport};
pub use hash::{HashedFile, ScanChunk, hash_and_scan, hash_file};
pub use inventory::{KindStats, NodeSummary, StoreStats};
pub use layout::TEMPORARY_PREFIX;
pub use lease::Lease;
pub use local::{LocalStore, StoreOptions};
pub use node::{NewNode, Node};
pub use pins::PinName;
pub use platform::FIXED_MTIME_SECONDS;
pub use records::PutNode;
pub use stream::{StagedBlobs, StreamError};
pub use verify::{VerifyEvent, VerifyReport};
