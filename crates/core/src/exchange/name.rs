//! Which store path a record, a set or an output has.

use crate::digest::Key;
use crate::nix::{StorePath, StorePathName};
use crate::plan::{PlannedSet, SetKind};

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

/// The store path of a set: `…-cargo-deps-app`, `…-cargo-package-app-1.0.0`. `None` if it has no key.
pub fn set_path(set: &PlannedSet) -> Option<StorePath> {
    let version = set.version.as_deref().map(|version| format!("-{}", fitting(version))).unwrap_or_default();
    let what = match set.kind {
        SetKind::Deps => "deps",
        SetKind::Package(_) => "package",
    };
    let name = format!("cargo-{what}-{}{version}", fitting(&set.name));
    let name: StorePathName = name.parse().expect("it begins with a letter, is short, and holds allowed characters");
    Some(StorePath::by_key(set.key?.as_bytes(), name))
}

/// The name of an output's store path: `app-1.0.0`, `app-wasm32-wasip1-1.0.0`.
pub(super) fn output_name(package: &str, version: &str, platform: Option<&str>) -> StorePathName {
    // Shorter than elsewhere: there are three parts.
    let part = |text: &str| fitting(text).chars().take(LONGEST / 2).collect::<String>();
    let platform = platform.map(|platform| format!("-{}", part(platform))).unwrap_or_default();
    let name = format!("{}{platform}-{}", part(package), part(version));
    name.parse().unwrap_or_else(|_| format!("cargo-{name}").parse().expect("it begins with a letter and is short"))
}

fn fitting(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '_' | '?' | '=' | '-');
    text.chars().take(LONGEST).map(|c| if allowed(c) { c } else { '-' }).collect()
}
