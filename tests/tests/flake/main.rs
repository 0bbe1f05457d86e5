//! The flake helper with a real Nix: what it evaluates, what it builds, and what it says when something is wrong.
//!
//! Nixpkgs stands in by `tests/nix/stand-in`, over the toolchain that runs the tests. Each test has a Nix of its own: its
//! store, its configuration and its home are in a scratch directory. `NIXCACHE_TEST_NIX` names a directory with another
//! Nix's programs, `NIXCACHE_TEST_CRANE` one with the real crane, and with `NIXCACHE_TEST_SANDBOX` builders run in a
//! sandbox. See docs/nix.md.

#![expect(clippy::unwrap_used, reason = "this file holds tests alone")]

mod arguments;
mod builds;
mod crane;
mod errors;
mod evaluation;
mod git;
mod handed_on;
mod place;
mod templates;
mod tools;
mod warm;
