//! Every reader of bytes from outside, as a function that must never panic, hang or break its promise, whatever it is
//! given.
//!
//! Each is run in two ways: by libFuzzer (`fuzz/`, which says how), and in the ordinary tests over its seeds and
//! thousands of changed ones. A function ends quietly where its reader refuses the bytes; it panics where the reader
//! takes them and then doesn't keep what it promises.

#![allow(clippy::unwrap_used, reason = "this crate is only used by tests")]

mod mutations;
mod nif;
mod nix;
mod record;
mod remote;

pub use mutations::mutated;
pub use nif::{nif_archive, nif_library, nif_lock, nif_name, nif_output};
pub use nix::{cache_info, checked, hash, key, listing, nar, narinfo, store_path};
pub use record::record;
pub use remote::{cache_url, netrc, profiles};

/// A reader: what it is called, the function, and bytes that it takes.
pub struct Reader {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// The function.
    pub read: fn(&[u8]),
    /// Good and nearly good bytes to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How expensive it is: one in so many of the changed inputs is tried in the ordinary tests.
    pub one_in: usize,
}

/// All of them.
pub const READERS: &[Reader] = &[
    Reader { name: "cache_info", read: cache_info, seeds: nix::cache_info_seeds, one_in: 1 },
    Reader { name: "cache_url", read: cache_url, seeds: remote::cache_url_seeds, one_in: 1 },
    Reader { name: "checked", read: checked, seeds: nix::nar_seeds, one_in: 2 },
    Reader { name: "hash", read: hash, seeds: nix::hash_seeds, one_in: 1 },
    Reader { name: "key", read: key, seeds: nix::key_seeds, one_in: 1 },
    Reader { name: "listing", read: listing, seeds: nix::nar_seeds, one_in: 2 },
    Reader { name: "nar", read: nar, seeds: nix::nar_seeds, one_in: 2 },
    Reader { name: "narinfo", read: narinfo, seeds: nix::narinfo_seeds, one_in: 1 },
    Reader { name: "netrc", read: netrc, seeds: remote::netrc_seeds, one_in: 1 },
    Reader { name: "nif_archive", read: nif_archive, seeds: nif::archive_seeds, one_in: 2 },
    Reader { name: "nif_library", read: nif_library, seeds: nif::library_seeds, one_in: 10 },
    Reader { name: "nif_lock", read: nif_lock, seeds: nif::lock_seeds, one_in: 4 },
    Reader { name: "nif_name", read: nif_name, seeds: nif::name_seeds, one_in: 1 },
    Reader { name: "nif_output", read: nif_output, seeds: nif::output_seeds, one_in: 2 },
    Reader { name: "profiles", read: profiles, seeds: remote::profiles_seeds, one_in: 1 },
    Reader { name: "record", read: record, seeds: record::seeds, one_in: 10 },
    Reader { name: "store_path", read: store_path, seeds: nix::store_path_seeds, one_in: 1 },
];
