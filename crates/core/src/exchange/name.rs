//! Which store path a record has.

use crate::digest::Key;
use crate::nix::{StorePath, StorePathName};

/// The longest part of a package's name or version that goes into a store path's name, which has at most 211 bytes.
const LONGEST: usize = 96;

/// The store path of the record `key` of a unit of the given package: `…-cargo-serde-1.0.0`.
///
/// The name is for people, and for caches that show it; what tells records apart is the key. What a name can't hold
/// is replaced by `-`.
pub fn store_path(key: &Key, package: &str, version: &str) -> StorePath {
    let name = format!("cargo-{}-{}", fitting(package), fitting(version));
    let name: StorePathName = name.parse().expect("it begins with a letter, is short, and holds allowed characters");
    StorePath::by_key(key.as_bytes(), name)
}

fn fitting(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '_' | '?' | '=' | '-');
    text.chars().take(LONGEST).map(|c| if allowed(c) { c } else { '-' }).collect()
}
