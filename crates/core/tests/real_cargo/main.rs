//! What this crate knows about cargo's files, checked with the cargos that are installed: the one that runs the
//! tests always, nightly (both layouts) and the distribution's if they are there.
//!
//! Everything is built in temporary directories, with a home of its own, offline.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod fixture;
mod locks;
mod recompute;
mod speed;
mod stamp;
mod transplant;
