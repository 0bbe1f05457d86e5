//! What the end-to-end tests share: a hermetic machine with real cargo in it.
//!
//! A [`Machine`] owns a home, a cargo home, a store and a guarded toolchain; a [`Workspace`] lives on it; running
//! something there gives an [`Outcome`]. Nothing here knows how `cargo nixcache` works: tests see what users see.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this crate is only used by tests")]

mod balancer;
mod files;
mod garage;
pub mod generated;
mod invocation;
mod local_registry;
mod machine;
mod nix;
pub mod oracle;
mod outcome;
mod parallel;
mod product;
mod promise;
mod published;
mod registry;
mod server;
mod toolchain;
mod workspace;

pub use balancer::{Balancer, Direction};
pub use files::{Outputs, contains_bytes, copy_tree, replace_keeping_times, set_modified, walk};
pub use garage::Garage;
pub use invocation::{Invocation, Running};
pub use local_registry::LocalRegistry;
pub use machine::Machine;
pub use nix::Nix;
pub use outcome::{Outcome, Summary, Units};
pub use parallel::in_parallel;
pub use product::binary_directory;
pub use promise::{Kept, Promise};
pub use published::PublishedCrate;
pub use server::CacheServer;
pub use toolchain::{Compilers, Toolchain, skipped};
pub use workspace::Workspace;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of this repository.
///
/// Asked for when it runs, as `env!` would tie everything here to one checkout. Cargo says it to what it runs; a
/// program that is started without cargo looks around itself.
pub fn repository() -> PathBuf {
    if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
        return Path::new(&package).parent().expect("the tests are a member of the workspace").to_owned();
    }
    let current = std::env::current_dir().expect("there is a current directory");
    let is_root = |directory: &&Path| directory.join("tests/src/machine.rs").is_file();
    current.ancestors().find(is_root).expect("the current directory is in this repository").to_owned()
}

/// The cargo that runs the tests, else the one in `PATH`.
pub(crate) fn own_cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
