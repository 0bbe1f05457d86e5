//! Digests: of content, and of keys. Every key is domain-separated, versioned and length-prefixed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a digest of 64 lower-case hexadecimal digits")]
pub struct DigestError {
    text: String,
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The 32 bytes of the digest.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Makes a digest of its 32 bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                parse_hex(text).map(Self).ok_or_else(|| DigestError { text: text.to_owned() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type! {
    /// The blake3 digest of a file's bytes, or of a listing of files.
    ContentDigest
}
digest_type! {
    /// A key under which something is looked up: the digest of everything that went into it.
    Key
}

impl ContentDigest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Builds a [`Key`] or [`ContentDigest`] from labelled, length-prefixed parts.
///
/// ```text
/// stream = domain, (label, tag, length, bytes)*      every text: u64le length, then its bytes
/// ```
#[derive(Clone)]
pub struct KeyHasher {
    hasher: blake3::Hasher,
}

impl KeyHasher {
    /// Starts a key of the given domain, such as `unit-inputs/1`.
    pub fn new(domain: &str) -> Self {
        let mut hasher = Self { hasher: blake3::Hasher::new_derive_key("cargo-nixcache 2026 key stream v1") };
        hasher.bytes(domain.as_bytes());
        hasher
    }

    /// Adds a labelled value.
    pub fn field(&mut self, label: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.bytes(label.as_bytes()).bytes(value.as_ref())
    }

    /// Adds a labelled value that may be absent; absent differs from empty.
    pub fn optional(&mut self, label: &str, value: Option<impl AsRef<[u8]>>) -> &mut Self {
        match value {
            Some(value) => self.bytes(label.as_bytes()).bytes(b"some").bytes(value.as_ref()),
            None => self.bytes(label.as_bytes()).bytes(b"none"),
        }
    }

    /// Adds a labelled list, with its length.
    pub fn list<T: AsRef<[u8]>>(&mut self, label: &str, values: impl IntoIterator<Item = T>) -> &mut Self {
        let values: Vec<T> = values.into_iter().collect();
        self.bytes(label.as_bytes()).number(values.len() as u64);
        for value in &values {
            self.bytes(value.as_ref());
        }
        self
    }

    /// The key.
    pub fn key(&self) -> Key {
        Key(*self.hasher.finalize().as_bytes())
    }

    /// The same, as the digest of a listing of content.
    pub fn digest(&self) -> ContentDigest {
        ContentDigest(*self.hasher.finalize().as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.hasher.update(&number.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let digest = ContentDigest::of(b"hello");
        assert_eq!(digest.to_string().parse::<ContentDigest>().unwrap(), digest);
        assert!("xyz".parse::<Key>().is_err());
        assert!(digest.to_string().to_uppercase().parse::<Key>().is_err());
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = |parts: &[(&str, &str)]| {
            let mut hasher = KeyHasher::new("test/1");
            for (label, value) in parts {
                hasher.field(label, value);
            }
            hasher.key()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "d")]), key(&[("a", "bcd")]));
        assert_ne!(
            KeyHasher::new("test/1").optional("a", None::<&str>).key(),
            KeyHasher::new("test/1").optional("a", Some("")).key()
        );
        assert_ne!(
            KeyHasher::new("test/1").list("a", ["b", "c"]).key(),
            KeyHasher::new("test/1").list("a", ["b"]).field("c", "").key()
        );
    }
}
