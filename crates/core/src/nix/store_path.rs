//! Store paths: their names, how their digests are made, and how they are written.
//!
//! There are two kinds. A path *by key* is named by a digest that says how it was made, whatever its content; its
//! content is vouched for by a signature. A path *by content* is named by its content and needs nobody's word. The
//! digest holds the store directory, so a path is good in `/nix/store` alone; caches for another one are refused.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::hash::Sha256;
use super::nix32::{self, Nix32Error};

/// The store directory that every digest here is made for.
pub const DEFAULT_STORE_DIRECTORY: &str = "/nix/store";

/// The longest name of a store path, so that a lock file beside it still fits in 255 bytes.
pub const NAME_LIMIT: usize = 211;

/// The number of characters of a store path's hash.
const HASH_CHARACTERS: usize = nix32::encoded_length(20);

/// Why a text is not a store path, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// A store directory must be an absolute path, without `.`, `..`, empty parts and a slash at its end.
    #[error("use the store directory {text:?}: it is not a plain absolute path")]
    Directory {
        /// The text.
        text: String,
    },
    /// A name has 1 to 211 of the characters `A-Za-z0-9+-._?=`, and is not `.`, `..`, `.-…` or `..-…`.
    #[error("use the store path name {text:?}: Nix doesn't allow it")]
    Name {
        /// The text.
        text: String,
    },
    /// The digest of the path is not 32 digits of nix32.
    #[error("read the store path hash {text:?}")]
    Hash {
        /// The text.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Nix32Error,
    },
    /// It has no dash between hash and name, or isn't directly in `/nix/store`.
    #[error("read the store path {text:?}: it is not of the form {DEFAULT_STORE_DIRECTORY}/<hash>-<name>")]
    Form {
        /// The text.
        text: String,
    },
}

/// As much of a text from outside as an error message can bear.
fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

/// The directory that a cache's paths lie in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreDirectory(String);

impl StoreDirectory {
    /// The directory as text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the digests of its paths are ours: only `/nix/store`.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT_STORE_DIRECTORY
    }
}

impl Default for StoreDirectory {
    fn default() -> Self {
        Self(DEFAULT_STORE_DIRECTORY.to_owned())
    }
}

impl fmt::Display for StoreDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StoreDirectory {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        match text.strip_prefix('/') {
            Some(rest) if text.len() <= 4095 && rest.split('/').all(plain) => Ok(Self(text.to_owned())),
            _ => Err(StorePathError::Directory { text: shortened(text) }),
        }
    }
}

/// The part of a store path that is for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePathName(String);

impl StorePathName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StorePathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StorePathName {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
        let dots = matches!(text.split('-').next(), Some("." | ".."));
        if text.is_empty() || text.len() > NAME_LIMIT || dots || !text.bytes().all(allowed) {
            return Err(StorePathError::Name { text: shortened(text) });
        }
        Ok(Self(text.to_owned()))
    }
}

/// The digest in a store path: 20 bytes, 32 characters. A cache is asked for a path by this alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorePathHash([u8; 20]);

impl StorePathHash {
    /// Takes the 20 bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The 20 bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl Ord for StorePathHash {
    /// As the texts sort: nix32 writes the last byte first.
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for StorePathHash {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&nix32::encode(&self.0))
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorePathHash({self})")
    }
}

impl FromStr for StorePathHash {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        let bytes = nix32::decode(text, 20)
            .map_err(|source| StorePathError::Hash { text: shortened(text), source })?
            .try_into()
            .expect("decode gives the number of bytes that it was asked for");
        Ok(Self(bytes))
    }
}

/// A path in `/nix/store`. They sort as their texts do, which is the order that signatures are made in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath {
    hash: StorePathHash,
    name: StorePathName,
}

impl StorePath {
    /// Puts a path together of its parts.
    pub fn new(hash: StorePathHash, name: StorePathName) -> Self {
        Self { hash, name }
    }

    /// The path that `key` names, whatever its content is: what Nix would give the output `out` of a derivation
    /// whose digest is `key`.
    pub fn by_key(key: &[u8; 32], name: StorePathName) -> Self {
        Self::make("output:out", &Sha256::from_bytes(*key), name)
    }

    /// The path that its content names, as of `nix-store --add-fixed --recursive sha256`: by the hash of its NAR,
    /// the paths it refers to, and whether it refers to itself (`references` does not say that).
    pub fn by_content(
        nar_hash: &Sha256,
        references: &BTreeSet<StorePath>,
        self_reference: bool,
        name: StorePathName,
    ) -> Self {
        let mut kind = "source".to_owned();
        for reference in references {
            kind.push(':');
            kind.push_str(&reference.to_string());
        }
        if self_reference {
            kind.push_str(":self");
        }
        Self::make(&kind, nar_hash, name)
    }

    fn make(kind: &str, inner: &Sha256, name: StorePathName) -> Self {
        let text = format!("{kind}:sha256:{}:{DEFAULT_STORE_DIRECTORY}:{name}", inner.to_hex());
        let mut hash = [0; 20];
        for (index, byte) in Sha256::of(text.as_bytes()).as_bytes().iter().enumerate() {
            hash[index % 20] ^= byte;
        }
        Self { hash: StorePathHash(hash), name }
    }

    /// The digest.
    pub fn hash(&self) -> &StorePathHash {
        &self.hash
    }

    /// The name.
    pub fn name(&self) -> &StorePathName {
        &self.name
    }

    /// `<hash>-<name>`, as narinfo files refer to a path.
    pub fn base_name(&self) -> String {
        format!("{}-{}", self.hash, self.name)
    }

    /// Reads `<hash>-<name>`.
    pub fn from_base_name(text: &str) -> Result<Self, StorePathError> {
        let form = || StorePathError::Form { text: shortened(text) };
        let (hash, rest) = text.split_at_checked(HASH_CHARACTERS).ok_or_else(form)?;
        let name = rest.strip_prefix('-').ok_or_else(form)?;
        Ok(Self { hash: hash.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DEFAULT_STORE_DIRECTORY}/{}-{}", self.hash, self.name)
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        let base_name = text.strip_prefix(DEFAULT_STORE_DIRECTORY).and_then(|rest| rest.strip_prefix('/'));
        Self::from_base_name(base_name.ok_or_else(|| StorePathError::Form { text: shortened(text) })?)
    }
}

#[cfg(test)]
mod tests;
