//! The names of the files in the store. Paths of requests are read here, so that no other name reaches the store.
//!
//! ```text
//! <hash>.narinfo                 what Nix knows of a store path; signed, never changed
//! <hash>.ls                      what is in it
//! nar/<file hash>.nar[.zst …]    its NAR; the name is the SHA-256 of the file
//! nixcache/checked/<NAR file>    what the NAR's check found: JSON, see `check`
//! nixcache/plain/<NAR hash>      the name of a NAR file that decompresses to this NAR
//! nixcache/upstream/<NAR file>   where another cache has this NAR, and its narinfo, until it is here
//! nixcache/pins/<name>           a store path that garbage collection keeps, with all it refers to
//! nixcache/barrier               there while garbage of a bucket is collected, see `gate`
//! nixcache/probe                 says what a bucket's store can do, see `storage`
//! nif/<namespace>/<archive>      an archive for RustlerPrecompiled, see `nif`
//! nixcache/nif/<the same>        its hash and size: JSON
//! nixcache/lock                  held by the server of a directory
//! ```

use std::fmt;

use nixcache_core::nif::{NifName, NifNamespace};
use nixcache_core::nix::{Compression, Sha256, StorePathHash};
use object_store::path::Path;

/// Where the server's own files are.
pub(crate) const OWN: &str = "nixcache";

/// The digits of a SHA-256 in nix32.
const HASH_DIGITS: usize = 52;

/// How a NAR is packed, as far as the server can look inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Packing {
    Plain,
    Xz,
    Zstd,
}

impl Packing {
    const ALL: [Self; 3] = [Self::Plain, Self::Xz, Self::Zstd];

    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// What a narinfo calls it.
    pub(crate) fn compression(self) -> Compression {
        match self {
            Self::Plain => Compression::None,
            Self::Xz => Compression::Xz,
            Self::Zstd => Compression::Zstd,
        }
    }
}

/// The name of a NAR's file. It says the hash of the file, so that the file can never be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NarFile {
    pub(crate) hash: Sha256,
    pub(crate) packing: Packing,
}

impl NarFile {
    /// Reads `<hash>.nar` with or without a suffix.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (digits, rest) = name.split_at_checked(HASH_DIGITS)?;
        let suffix = rest.strip_prefix(".nar")?;
        let packing = Packing::ALL.into_iter().find(|packing| packing.suffix() == suffix)?;
        Some(Self { hash: parse_hash(digits)?, packing })
    }

    /// Where it is in the store, which is also its URL in narinfos.
    pub(crate) fn path(&self) -> Path {
        Path::from(format!("nar/{self}"))
    }
}

impl fmt::Display for NarFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.nar{}", self.hash.to_nix32(), self.packing.suffix())
    }
}

/// Reads 52 digits of nix32.
pub(crate) fn parse_hash(digits: &str) -> Option<Sha256> {
    (digits.len() == HASH_DIGITS).then(|| format!("sha256:{digits}").parse().ok())?
}

/// A file directly in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootFile {
    NarInfo(StorePathHash),
    Listing(StorePathHash),
}

impl RootFile {
    /// Reads `<hash>.narinfo` and `<hash>.ls`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if let Some(hash) = name.strip_suffix(".narinfo") {
            return hash.parse().ok().map(Self::NarInfo);
        }
        name.strip_suffix(".ls")?.parse().ok().map(Self::Listing)
    }
}

pub(crate) fn narinfo(hash: &StorePathHash) -> Path {
    Path::from(format!("{hash}.narinfo"))
}

pub(crate) fn listing(hash: &StorePathHash) -> Path {
    Path::from(format!("{hash}.ls"))
}

pub(crate) fn checked(file: &NarFile) -> Path {
    Path::from(format!("{OWN}/checked/{file}"))
}

pub(crate) fn plain(nar_hash: &Sha256) -> Path {
    Path::from(format!("{OWN}/plain/{}", nar_hash.to_nix32()))
}

pub(crate) fn upstream(file: &NarFile) -> Path {
    Path::from(format!("{OWN}/upstream/{file}"))
}

/// Where the NIFs of a namespace are.
pub(crate) fn nifs(namespace: &NifNamespace) -> Path {
    Path::from(format!("nif/{namespace}"))
}

pub(crate) fn nif(namespace: &NifNamespace, name: &NifName) -> Path {
    Path::from(format!("nif/{namespace}/{}", name.archive_file()))
}

pub(crate) fn nif_record(namespace: &NifNamespace, name: &NifName) -> Path {
    Path::from(format!("{OWN}/nif/{namespace}/{}", name.archive_file()))
}

pub(crate) fn pins() -> Path {
    Path::from(format!("{OWN}/pins"))
}

/// Where the pin of this name is. Names are 1 to 100 letters, digits, `-`, `_` and `.`, and don't begin with a dot.
pub(crate) fn pin(name: &str) -> Option<Path> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let good = (1..=100).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed);
    good.then(|| Path::from(format!("{OWN}/pins/{name}")))
}

pub(crate) fn barrier() -> Path {
    Path::from(format!("{OWN}/barrier"))
}

pub(crate) fn probe() -> Path {
    Path::from(format!("{OWN}/probe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";

    #[test]
    fn names_of_nar_files_round_trip() {
        for suffix in ["", ".xz", ".zst"] {
            let name = format!("{FILE}.nar{suffix}");
            assert_eq!(NarFile::parse(&name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn no_other_name_is_a_nar_file() {
        let long = format!("{FILE}0.nar");
        let hex = format!("{}.nar", "0".repeat(64));
        let bad_digit = format!("{}e.nar", &FILE[..51]);
        let names = ["", ".nar", "x.nar", &long, &hex, &bad_digit, "../../etc/passwd", "é.nar.zst"];
        for name in names {
            assert_eq!(NarFile::parse(name), None, "{name}");
        }
        for suffix in [".nar.bz2", ".nar.gz", ".nar.zst.zst", ".nar/", ".nar#1", ".narinfo"] {
            assert_eq!(NarFile::parse(&format!("{FILE}{suffix}")), None, "{suffix}");
        }
    }

    #[test]
    fn files_of_the_root_are_narinfos_and_listings_of_hashes() {
        let hash = "vjjjypqlg1pgfwnjjbzxr8nd5x41laka";
        assert_eq!(RootFile::parse(&format!("{hash}.narinfo")), Some(RootFile::NarInfo(hash.parse().unwrap())));
        assert_eq!(RootFile::parse(&format!("{hash}.ls")), Some(RootFile::Listing(hash.parse().unwrap())));
        for name in [hash, "x.narinfo", ".narinfo", "nixcache", "..narinfo", "%2e%2e.ls"] {
            assert_eq!(RootFile::parse(name), None, "{name}");
        }
    }

    #[test]
    fn pins_have_names_that_are_plain_file_names() {
        assert!(pin("release-1.0_x").is_some());
        for name in ["", ".", "..", ".hidden", "a/b", "a b", "ü", &"x".repeat(101)] {
            assert!(pin(name).is_none(), "{name}");
        }
    }
}
