//! narinfo files: what a cache says of one store path, and where its NAR is.
//!
//! The reader takes what the caches of this world write (hexadecimal hashes, any URL, fields nobody knows), and is
//! strict where a lenient reader could be led to see something else than Nix does: every line ends in a newline and
//! has the form `name: value`, nothing is there twice, what is needed is there, and the path is the one asked for.
//! What it gives is a claim, until [`super::signature`] has verified it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::hash::{Sha256, Sha256Error};
use super::signature::{SecretKey, Signature};
use super::store_path::{StorePath, StorePathError, StorePathHash};

/// The largest file that is read: room for ten thousand references.
pub const SIZE_LIMIT: usize = 1 << 20;

/// The media type of the file over HTTP.
pub const MEDIA_TYPE: &str = "text/x-nix-narinfo";

/// What Nix writes for a path that it doesn't know the derivation of.
const UNKNOWN_DERIVER: &str = "unknown-deriver";

/// Why a file is not a narinfo, or not the one asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// The file is larger than such a file can sensibly be.
    #[error("read a narinfo: it has more than {SIZE_LIMIT} bytes")]
    TooLarge,
    /// The file is not UTF-8.
    #[error("read a narinfo: it is not UTF-8")]
    NotText,
    /// The file doesn't end in a newline: it was cut off.
    #[error("read a narinfo: its last line has no end")]
    CutOff,
    /// A line is not `name: value`, or holds a carriage return or another control character.
    #[error("read a narinfo: line {line} is not of the form `name: value`")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
    /// A field is there twice.
    #[error("read a narinfo: {field} is there twice")]
    Twice {
        /// Its name.
        field: &'static str,
    },
    /// A field that is needed isn't there.
    #[error("read a narinfo: {field} is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A size is not a decimal number, or zero where it must not be.
    #[error("read a narinfo: {field} is not a size")]
    Size {
        /// Its name.
        field: &'static str,
    },
    /// A hash is none.
    #[error("read a narinfo: {field} is not a hash")]
    Hash {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: Sha256Error,
    },
    /// A store path is none.
    #[error("read a narinfo: {field} is not a store path")]
    Path {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: StorePathError,
    },
    /// A text is empty, or has spaces or control characters where it must not.
    #[error("read a narinfo: {field} is not a plain text")]
    Text {
        /// The field's name.
        field: &'static str,
    },
    /// The narinfo is about another path than the one asked for.
    #[error("read the narinfo of {asked}: it is about {found}")]
    OtherPath {
        /// What was asked for.
        asked: String,
        /// What it is about.
        found: StorePath,
    },
}

/// What a narinfo was asked for. Whoever reads one must say, so that no cache can answer with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// This path, name included.
    Path(&'a StorePath),
    /// Any path with this hash: a server knows no more.
    Hash(&'a StorePathHash),
    /// Whatever comes: for tools that look at a file.
    Anything,
}

impl Asked<'_> {
    fn check(self, found: &StorePath) -> Result<(), NarInfoError> {
        let asked = match self {
            Self::Path(path) if path != found => path.to_string(),
            Self::Hash(hash) if hash != found.hash() => hash.to_string(),
            _ => return Ok(()),
        };
        Err(NarInfoError::OtherPath { asked, found: found.clone() })
    }
}

/// Where the NAR is: relative to the cache, or absolute, perhaps with a query. Without spaces and control characters,
/// but otherwise whatever the cache says, and not signed: who fetches it decides where it may lead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarUrl(String);

impl NarUrl {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where a file of this hash and compression is by convention: `nar/<hash>.nar.zst`.
    pub fn by_convention(file_hash: &Sha256, compression: &Compression) -> Self {
        let suffix = match compression {
            Compression::None => String::new(),
            Compression::Bzip2 => ".bz2".into(),
            Compression::Zstd => ".zst".into(),
            Compression::Gzip => ".gz".into(),
            Compression::Xz => ".xz".into(),
            Compression::Other(name) => format!(".{}", name.0),
        };
        Self(format!("nar/{}.nar{suffix}", file_hash.to_nix32()))
    }
}

impl fmt::Display for NarUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NarUrl {
    type Err = NarInfoError;

    fn from_str(text: &str) -> Result<Self, NarInfoError> {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > 4096 || text.chars().any(bad) {
            return Err(NarInfoError::Text { field: "URL" });
        }
        Ok(Self(text.to_owned()))
    }
}

/// A word that is kept as it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(String);

impl Word {
    fn parse(text: &str, field: &'static str) -> Result<Self, NarInfoError> {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        if text.is_empty() || text.chars().any(bad) {
            return Err(NarInfoError::Text { field });
        }
        Ok(Self(text.to_owned()))
    }

    /// The word as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the NAR is compressed in the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// bzip2: what a narinfo means that doesn't say.
    Bzip2,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// Something else: a word without spaces.
    Other(Word),
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Other(word) => &word.0,
        })
    }
}

impl FromStr for Compression {
    type Err = NarInfoError;

    fn from_str(text: &str) -> Result<Self, NarInfoError> {
        Ok(match text {
            "none" => Self::None,
            "bzip2" | "" => Self::Bzip2,
            "gzip" => Self::Gzip,
            "xz" => Self::Xz,
            "zstd" => Self::Zstd,
            other => Self::Other(Word::parse(other, "Compression")?),
        })
    }
}

/// What a path is named by, if by its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentAddress {
    /// `fixed:r:sha256:…`: the SHA-256 of its NAR.
    RecursiveSha256(Sha256),
    /// Another kind, as it came: it is not checked, and so proves nothing.
    Other(Word),
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecursiveSha256(hash) => write!(f, "fixed:r:{hash}"),
            Self::Other(word) => f.write_str(&word.0),
        }
    }
}

impl FromStr for ContentAddress {
    type Err = NarInfoError;

    fn from_str(text: &str) -> Result<Self, NarInfoError> {
        match text.strip_prefix("fixed:r:") {
            Some(hash) if hash.starts_with("sha256:") => match hash.parse() {
                Ok(hash) => Ok(Self::RecursiveSha256(hash)),
                Err(source) => Err(NarInfoError::Hash { field: "CA", source }),
            },
            _ => Ok(Self::Other(Word::parse(text, "CA")?)),
        }
    }
}

/// What a cache says of one store path. `Display` writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The path. Signed.
    pub store_path: StorePath,
    /// Where the file with the NAR is. Not signed.
    pub url: NarUrl,
    /// How that file is compressed. Not signed.
    pub compression: Compression,
    /// The hash of that file. Not signed, and Nix doesn't check it.
    pub file_hash: Option<Sha256>,
    /// The size of that file in bytes. Not signed, and Nix doesn't check it.
    pub file_size: Option<u64>,
    /// The hash of the NAR, decompressed. Signed.
    pub nar_hash: Sha256,
    /// The size of the NAR, decompressed, in bytes; never 0. Signed.
    pub nar_size: u64,
    /// The paths that it refers to. Signed.
    pub references: BTreeSet<StorePath>,
    /// The derivation that made it. Not signed.
    pub deriver: Option<StorePath>,
    /// Who signed it. Without those that are no signatures of Ed25519.
    pub signatures: Vec<Signature>,
    /// What its path is named by, if by its content. Not signed.
    pub content_address: Option<ContentAddress>,
}

impl NarInfo {
    /// Reads a narinfo, which must be about what was `asked` for.
    pub fn parse(bytes: &[u8], asked: Asked<'_>) -> Result<Self, NarInfoError> {
        let fields = Fields::read(bytes)?;
        let store_path = fields.store_path.ok_or(NarInfoError::Missing { field: "StorePath" })?;
        asked.check(&store_path)?;
        Ok(Self {
            store_path,
            url: fields.url.ok_or(NarInfoError::Missing { field: "URL" })?,
            compression: fields.compression.unwrap_or(Compression::Bzip2),
            file_hash: fields.file_hash,
            file_size: fields.file_size.filter(|size| *size != 0),
            nar_hash: fields.nar_hash.ok_or(NarInfoError::Missing { field: "NarHash" })?,
            nar_size: fields.nar_size.ok_or(NarInfoError::Missing { field: "NarSize" })?,
            references: fields.references.unwrap_or_default(),
            deriver: fields.deriver.flatten(),
            signatures: fields.signatures,
            content_address: fields.content_address,
        })
    }

    /// What is signed: path, hash and size of the NAR, references.
    pub fn fingerprint(&self) -> String {
        let references: Vec<_> = self.references.iter().map(StorePath::to_string).collect();
        format!("1;{};{};{};{}", self.store_path, self.nar_hash, self.nar_size, references.join(","))
    }

    /// Adds the signature of `key`, in place of another under the same name.
    pub fn sign(&mut self, key: &SecretKey) {
        let signature = key.sign(self.fingerprint().as_bytes());
        self.signatures.retain(|other| other.key_name() != key.name());
        self.signatures.push(signature);
    }
}

impl fmt::Display for NarInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StorePath: {}", self.store_path)?;
        writeln!(f, "URL: {}", self.url)?;
        writeln!(f, "Compression: {}", self.compression)?;
        self.file_hash.iter().try_for_each(|hash| writeln!(f, "FileHash: {hash}"))?;
        self.file_size.iter().try_for_each(|size| writeln!(f, "FileSize: {size}"))?;
        writeln!(f, "NarHash: {}", self.nar_hash)?;
        writeln!(f, "NarSize: {}", self.nar_size)?;
        let references: Vec<_> = self.references.iter().map(StorePath::base_name).collect();
        writeln!(f, "References: {}", references.join(" "))?;
        self.deriver.iter().try_for_each(|deriver| writeln!(f, "Deriver: {}", deriver.base_name()))?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "Sig: {signature}"))?;
        self.content_address.iter().try_for_each(|address| writeln!(f, "CA: {address}"))
    }
}

/// The fields of a file, as far as they were read.
#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: Option<NarUrl>,
    compression: Option<Compression>,
    file_hash: Option<Sha256>,
    file_size: Option<u64>,
    nar_hash: Option<Sha256>,
    nar_size: Option<u64>,
    references: Option<BTreeSet<StorePath>>,
    deriver: Option<Option<StorePath>>,
    signatures: Vec<Signature>,
    content_address: Option<ContentAddress>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Result<Self, NarInfoError> {
        if bytes.len() > SIZE_LIMIT {
            return Err(NarInfoError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NarInfoError::NotText)?;
        let text = text.strip_suffix('\n').ok_or(NarInfoError::CutOff)?;
        let mut fields = Self::default();
        for (index, line) in text.split('\n').enumerate() {
            match line.split_once(": ") {
                Some((name, value)) if !line.chars().any(char::is_control) => fields.take(name, value)?,
                _ => return Err(NarInfoError::Line { line: index + 1 }),
            }
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), NarInfoError> {
        match name {
            "StorePath" => set(&mut self.store_path, path("StorePath", value.parse())?, "StorePath"),
            "URL" => set(&mut self.url, value.parse()?, "URL"),
            "Compression" => set(&mut self.compression, value.parse()?, "Compression"),
            "FileHash" => set(&mut self.file_hash, hash("FileHash", value)?, "FileHash"),
            "FileSize" => set(&mut self.file_size, size("FileSize", value)?, "FileSize"),
            "NarHash" => set(&mut self.nar_hash, hash("NarHash", value)?, "NarHash"),
            "NarSize" => match size("NarSize", value)? {
                0 => Err(NarInfoError::Size { field: "NarSize" }),
                size => set(&mut self.nar_size, size, "NarSize"),
            },
            "References" => {
                let words = value.split(' ').filter(|word| !word.is_empty());
                let references = words.map(|word| path("References", StorePath::from_base_name(word)));
                set(&mut self.references, references.collect::<Result<_, _>>()?, "References")
            }
            "Deriver" => {
                let deriver = match value {
                    "" | UNKNOWN_DERIVER => None,
                    base_name => Some(path("Deriver", StorePath::from_base_name(base_name))?),
                };
                set(&mut self.deriver, deriver, "Deriver")
            }
            // One of another kind is passed over, as Nix passes over what it has no key for: it vouches for nothing,
            // and doesn't speak against those beside it.
            "Sig" => {
                self.signatures.extend(value.parse::<Signature>());
                Ok(())
            }
            "CA" if value.is_empty() => Ok(()),
            "CA" => set(&mut self.content_address, value.parse()?, "CA"),
            _ => Ok(()),
        }
    }
}

fn set<T>(place: &mut Option<T>, value: T, field: &'static str) -> Result<(), NarInfoError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(NarInfoError::Twice { field }),
    }
}

fn path(field: &'static str, path: Result<StorePath, StorePathError>) -> Result<StorePath, NarInfoError> {
    path.map_err(|source| NarInfoError::Path { field, source })
}

fn hash(field: &'static str, text: &str) -> Result<Sha256, NarInfoError> {
    text.parse().map_err(|source| NarInfoError::Hash { field, source })
}

fn size(field: &'static str, text: &str) -> Result<u64, NarInfoError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(NarInfoError::Size { field })
}

#[cfg(test)]
mod tests;
