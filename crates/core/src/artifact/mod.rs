//! Unit artifacts: how the files of a built unit are normalised, kept, and put back.

pub mod binary_facts;
pub mod dynamic;
mod manifest;
pub mod reach;
mod roots;
pub mod scan;

pub use manifest::{ArtifactFile, FileClass, RunOutput, UnitArtifact};
pub use roots::{RootKind, Roots};
