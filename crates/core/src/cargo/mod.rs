//! What is cargo's: its command line, configuration, metadata, toolchains, directories and fingerprints.
//! Depends on nothing else of ours but digests, roots and the environment.

pub mod arguments;
pub mod config;
pub mod dep_info;
pub mod directives;
pub mod fingerprint;
pub mod incremental;
pub mod invocation;
pub mod layout;
pub mod metadata;
pub mod package_spec;
pub mod profile;
pub mod record;
pub mod toolchain;
