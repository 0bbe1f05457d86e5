//! What the end-to-end tests share: a hermetic machine with real cargo in it.
//!
//! A [`Machine`] owns a home, a cargo home, a store and a guarded toolchain; a [`Workspace`] lives on it; running
//! something there gives an [`Outcome`]. Nothing here knows how `cargo nixcache` works: tests see what users see.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this crate is only used by tests")]

mod files;
pub mod generated;
mod invocation;
mod local_registry;
mod machine;
pub mod oracle;
mod outcome;
mod product;
mod promise;
mod published;
mod registry;
mod toolchain;
mod workspace;

pub use files::{Outputs, contains_bytes, copy_tree, replace_keeping_times, set_modified, walk};
pub use invocation::{Invocation, Running};
pub use local_registry::LocalRegistry;
pub use machine::Machine;
pub use outcome::{Outcome, Summary, Units};
pub use product::binary_directory;
pub use promise::{Kept, Promise};
pub use published::PublishedCrate;
pub use toolchain::{Compilers, Toolchain, skipped};
pub use workspace::Workspace;

use std::path::{Path, PathBuf};

/// The root of this repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace").to_owned()
}
