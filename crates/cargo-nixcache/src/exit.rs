//! Our own exit codes, beside cargo's. They are documented in `docs/exit-codes.md`.

/// The settings or arguments cannot be used.
pub(crate) const USAGE: u8 = 2;
/// Cargo could not be started.
pub(crate) const CARGO_MISSING: u8 = 70;
/// The store cannot be used.
pub(crate) const STORE: u8 = 71;
/// `verify` found damage that it did not repair.
pub(crate) const DAMAGED: u8 = 72;
/// There is no plan for what was asked.
pub(crate) const NO_PLAN: u8 = 73;
/// `doctor` found a problem.
pub(crate) const PROBLEM: u8 = 74;
/// A key can't be made or read.
pub(crate) const KEY: u8 = 75;
/// Caches can't be used, or did not take what was to be published.
pub(crate) const CACHES: u8 = 76;
/// The user did not agree.
pub(crate) const NOT_AGREED: u8 = 77;
/// The binary cache server can't be started, or its files not be used.
pub(crate) const SERVE: u8 = 78;
/// A NIF was refused, can't be had, or isn't the one that was locked.
pub(crate) const NIF: u8 = 79;
/// Units, lock files or target directories for Nix can't be read or written.
pub(crate) const NIX: u8 = 80;
