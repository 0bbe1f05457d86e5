//! The model of cargo nixcache: what a build consists of, what each part of it depends on, and how the
//! parts are kept and put back.
//!
//! Synchronous; no network, no printing, no clock, no reading of the process environment: these are
//! passed in. Dependencies point inward: `nix`, `cargo` ← `unit` ← `plan`,
//! `artifact` ← `store` ← `session` ← `exchange`.

pub mod artifact;
pub mod cargo;
pub mod digest;
pub mod environment;
pub mod error_chain;
pub mod exchange;
pub mod nif;
pub mod nix;
pub mod plan;
pub mod session;
pub mod skeleton;
pub mod store;
pub mod unit;
