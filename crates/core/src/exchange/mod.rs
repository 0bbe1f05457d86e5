//! How records of the local store travel through Nix caches: one record, one store path.
//!
//! ```text
//! /nix/store/<hash of the record's key>-cargo-serde-1.0.0/
//!   artifact.json      {"schema": 1, "key": "…", "label": "serde 1.0.0 lib", "node": …}     at most 2 MiB
//!   files/…            the files of an artifact, at their paths; a record of names has none
//! ```
//!
//! The store path follows from the key and from the package's name and version, so that whoever can plan a unit
//! knows where to look for it. The key is inside as well: a signature says who made a path, and the key what it is.
//!
//! Beside the records there are [sets](SetManifest), which name all records that a build needs, and [outputs](Output),
//! which hold what can be installed of a package.
//!
//! It moves no bytes over a network: packing writes a NAR, unpacking reads one, and what was unpacked becomes visible
//! when the caller, who has then checked the hash of the whole, says so.

mod document;
mod manifest;
mod name;
mod output;
mod pack;
mod set;
mod unpack;

#[cfg(test)]
mod tests;

pub use document::TooLarge;
pub use name::{set_path, store_path};
pub use output::{Output, OutputError, OutputPath, outputs};
pub use pack::{PackError, TreeError, pack};
pub use set::{MOST_REFERENCES, SetError, SetManifest, SetUnit};
pub use unpack::{UnpackError, Unpacked, unpack};
