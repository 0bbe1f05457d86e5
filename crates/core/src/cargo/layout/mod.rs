//! Cargo's directories: the only place that knows them. Legacy and per-unit layout, their detection, the
//! units present in them, and cargo's build locks.
//!
//! Pure path arithmetic except for [`BuildLayout::present_units`], [`on_disk`] and the locks. `plan`,
//! `artifact` and the recorder call it; nobody else joins a path below a build directory.
//!
//! # The two layouts
//!
//! Everything lies in `<build-dir>/[<triple>/]<profile>/`, the *profile root*. `legacy`, of every cargo up
//! to 1.98 and every stable one so far:
//!
//! ```text
//! deps/                         outputs: lib<crate>-<hash>.rlib, .rmeta, .so, <crate>-<hash>, .d
//! examples/                     outputs of examples
//! .fingerprint/<pkg>-<hash>/    <stem>, <stem>.json, dep-<stem>, output-<stem>, invoked.timestamp
//! build/<pkg>-<hash>/           a build script's program: build_script_build-<hash>, build-script-build
//! build/<pkg>-<hash>/           its run: out/ (OUT_DIR), output, stderr, root-output, invoked.timestamp
//! incremental/
//! ```
//!
//! `per-unit`, by `-Z build-dir-new-layout` (nightly 1.97, where the default is still legacy), the default
//! of nightly from 1.99 on:
//!
//! ```text
//! build/<pkg>/<hash>/fingerprint/   as above; for a run: the hash file and its JSON
//! build/<pkg>/<hash>/out/           outputs, examples and build scripts too; of a run: OUT_DIR
//! build/<pkg>/<hash>/run/           of a run: stdout (!), stderr, root-output, invoked.timestamp
//! incremental/
//! ```
//!
//! There, executables, build scripts (always `build_script_build`), dylibs and cdylibs have no hash in
//! their file names, as the directory holds it. In the legacy layout dylibs and cdylibs of path packages have
//! neither a hash in their file name nor one of their own in the directory: they and all `doc` units of a
//! package share `<pkg>-<hash of the package id>`. So a directory can hold the files of several units, told
//! apart by the stem.
//!
//! [Read in `fingerprint/mod.rs` and `build_runner/compilation_files.rs` of cargo 1.95 to 1.99; measured with
//! 1.95, 1.96 and nightly 1.97.]

mod detect;
mod directories;
mod hash;
mod locate;
mod locks;
mod present;
mod stem;

pub use detect::{CargoRelease, Channel, LayoutDecision, LayoutSwitches, OnDisk, ReleaseError, on_disk};
pub use directories::{BuildLayout, FingerprintFiles, LayoutKind, RunFiles, notes_beside};
pub use hash::{CargoHash, CargoHashError};
pub use locate::{Location, RustcPlace};
pub use locks::{BuildLocks, LockError, LockProtocol};
pub use present::PresentUnit;
pub use stem::{FingerprintStem, StemError, UnitFlavor};
