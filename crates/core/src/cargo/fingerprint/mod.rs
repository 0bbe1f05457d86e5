//! Cargo's fingerprints: read, recompute, relocate, write.
//!
//! [`CargoFingerprint`] is the file `<stem>.json` as cargo writes it, [`RelocatableFingerprint`] the form
//! that is kept: no path of this machine, no value of an environment variable, no hash of a dependency.
//! `artifact` calls it when units are collected and restored. It decides nothing about freshness of content.
//!
//! A field or variant that is not known here is an error, never skipped: it may belong to a cargo whose hash
//! has more in it. The caller keeps such a unit bound to the producer's paths.
//!
//! # When cargo says Fresh
//!
//! A unit is fresh if the hash that cargo computes equals the hash file, and its file system checks pass
//! (`check_filesystem` and `find_stale_file` in cargo's `fingerprint/mod.rs`):
//!
//! 1. Every output exists. For a run that is the script's stdout file. Contents are never looked at.
//! 2. No dependency's newest output is newer than the unit's *newest* output (for edges that need the rmeta
//!    alone, the dependency's rmeta). Equal is fine.
//! 3. No file in `dep-<stem>` is newer than that file itself, and the variables in it have the same values.
//!    Files below `$CARGO_HOME/{git,registry}` are passed over; registry and git packages, vendored ones too,
//!    list no file of their package, but what they include from `OUT_DIR`.
//! 4. For a run with `rerun-if-changed`: no named path is newer than the stdout file, and none is missing
//!    ([`WatchedPaths`]). The same directories of cargo's home are passed over, whether the path is there or not.
//! 5. For a run without directives, and for `doc`: the newest modification time among the package's files
//!    and that file's name are in the hash ([`newest_file()`]); for registry packages the version is, for git
//!    packages the revision.
//!
//! # Which times restored files need
//!
//! | file | its time |
//! |---|---|
//! | outputs, `OUT_DIR`, stdout of runs | one fixed old time, except as below |
//! | stdout of a run that watches a path newer than that, which cargo does not pass over | that of the newest such path |
//! | the newest output of every unit that depends on such a run, directly or not | at least the same ([`output_stamp`]) |
//! | `dep-<stem>` of path packages | not older than the sources: when the comparison of their content began |
//! | `dep-<stem>` of others | not older than `OUT_DIR`; any time after the outputs will do |
//! | hash file, JSON, `output-<stem>`, `invoked.timestamp`, `stderr`, `root-output`, `.d` | any; all but the first can be missing |
//!
//! One old time for everything is therefore *not* enough: a member's build script that names its own
//! `build.rs` runs again, as that file is newer than 2001; and a new stdout file alone makes its dependents stale.
//! Files that are linked to the store have the store's time, so the outputs that need another one are copied. One
//! output of each unit is enough, but the `.rmeta` is what dependents that need no more are compared with.
//!
//! Measured (the tests in `tests/real_cargo/transplant.rs`): a workspace with members, a proc macro, a cdylib,
//! build scripts with and without directives and registry packages, carried to another checkout, target
//! directory and cargo home with nothing but outputs, hash files, `dep-<stem>` and stdout, with these times:
//! build, check, test and clippy find every unit Fresh, and `doc` runs rustdoc alone, with cargo 1.95,
//! Debian's 1.96 and nightly 1.97 in both layouts. `cargo build` then links the final files anew.
//!
//! clippy's dep-info names `CLIPPY_ARGS` (set by `cargo clippy`: the arguments after `--`, each followed by
//! `__CLIPPY_HACKERY__`; empty without any) and `CLIPPY_CONF_DIR`: whoever reveals dep-info has to know them.

mod git_index;
mod package_stamp;
mod record;
mod relocate;
mod stamps;

pub use git_index::GitIndexError;
pub use package_stamp::{NewestFile, PackageStampError, newest_file};
pub use record::{
    CargoFingerprint, DependencyFingerprint, FingerprintError, LocalFingerprint, hashed_source_path, path_hash,
};
pub use relocate::{DependencySlot, NotReproducible, RelocatableFingerprint, RelocatableLocal, Relocation, Stamp};
pub use stamps::{WatchedPaths, output_stamp};
