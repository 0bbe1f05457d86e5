//! Signatures: keys with names, as Nix keeps them in files, and who is trusted.
//!
//! A narinfo from a cache is only a claim. [`Verified`] is what it becomes when a trusted key has signed it, when its
//! path is named by its content, or when the hash of its content was known before; there is no other way to make one, so
//! that what must not act on a mere claim takes a `Verified<NarInfo>`. A secret key is never printed: it has neither `Debug` nor `Display`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::hash::Sha256;
use super::narinfo::{ContentAddress, NarInfo};
use super::store_path::StorePath;

/// The longest name of a key.
const NAME_LIMIT: usize = 255;

/// Signatures under trusted names that are looked at, of one narinfo: a file has room for ten thousand, and each takes
/// time. Who replaces a key has two.
const LOOKED_AT: usize = 16;

/// Why a text is no key, or no signature. The text itself is not told: it can be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, too long, or holds a colon, a space or a control character.
    #[error("use a key's name: it must be 1 to {NAME_LIMIT} characters without colon, spaces and control characters")]
    Name,
    /// The name could be read as another one, or as something else than a name.
    #[error("use the key's name {}: it must be of visible ASCII characters, without `#`", name.escape_default())]
    NotPlain {
        /// The name.
        name: String,
    },
    /// There is no colon between name and key.
    #[error("read a key or signature: it is not of the form <name>:<base64>")]
    Form,
    /// What follows the name is not base64, or has another length.
    #[error("read the key or signature of {name}: it is not {expected} bytes in base64")]
    Bytes {
        /// The name before the colon.
        name: KeyName,
        /// How many bytes are needed.
        expected: usize,
    },
    /// The bytes are no public key, or one that verifies anything.
    #[error("read the public key {name}: its bytes are no key")]
    NoKey {
        /// Its name.
        name: KeyName,
    },
    /// The second half of a secret key is not its public key: part of it was changed.
    #[error("read the secret key {name}: its halves don't belong together")]
    Halves {
        /// Its name.
        name: KeyName,
    },
}

/// A key's name, such as `cache.example.org-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses names that don't stand in a configuration file, or before people, as what they are: `nix.conf` ends a
    /// line at `#`, and characters that nobody sees make two names look like one. Signatures may have such names: they
    /// are of keys that are not trusted.
    pub fn check_plain(&self) -> Result<(), KeyError> {
        match self.0.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            true => Ok(()),
            false => Err(KeyError::NotPlain { name: self.0.clone() }),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bad = |c: char| c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > NAME_LIMIT || text.chars().any(bad) {
            return Err(KeyError::Name);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Reads `<name>:<base64 of N bytes>`.
fn parse_named<const N: usize>(text: &str) -> Result<(KeyName, Zeroizing<[u8; N]>), KeyError> {
    let (name, base64) = text.split_once(':').ok_or(KeyError::Form)?;
    let name: KeyName = name.parse()?;
    let mut bytes = Zeroizing::new([0; N]);
    // Without padding N bytes have this many digits; the decoder needs room for whole groups.
    let mut room = Zeroizing::new([0; 96]);
    match BASE64.decode_slice(base64, room.as_mut_slice()) {
        Ok(length) if length == N => bytes.copy_from_slice(&room[..N]),
        _ => return Err(KeyError::Bytes { name, expected: N }),
    }
    Ok((name, bytes))
}

/// A key that signs. Its memory is cleared when it goes.
pub struct SecretKey {
    name: KeyName,
    key: SigningKey,
}

impl SecretKey {
    /// Makes a key of 32 bytes, which must come from a good source of random numbers.
    pub fn generate(name: KeyName, seed: &[u8; 32]) -> Self {
        Self { name, key: SigningKey::from_bytes(seed) }
    }

    /// Reads what `nix-store --generate-binary-cache-key` writes: `name:base64(seed ‖ public key)`. White space
    /// around it doesn't matter.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = parse_named::<64>(text.trim())?;
        name.check_plain()?;
        match SigningKey::from_keypair_bytes(&bytes) {
            Ok(key) => Ok(Self { name, key }),
            Err(_) => Err(KeyError::Halves { name }),
        }
    }

    /// The text for the key's file, which nobody else may read.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.key.to_keypair_bytes());
        let base64 = Zeroizing::new(BASE64.encode(*bytes));
        let mut text = Zeroizing::new(String::with_capacity(self.name.0.len() + 1 + base64.len()));
        text.push_str(&self.name.0);
        text.push(':');
        text.push_str(&base64);
        text
    }

    /// The key's name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key that others verify with.
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature { key_name: self.name.clone(), bytes: self.key.sign(message).to_bytes() }
    }
}

/// A key that verifies. As text: `name:base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    key: VerifyingKey,
}

impl PublicKey {
    /// The key's name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Whether `signature` is this key's for `message`. Strict: there is one valid signature and no key for all.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key_name == self.name && self.key.verify_strict(message, &bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = parse_named::<32>(text)?;
        name.check_plain()?;
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self { name, key }),
            _ => Err(KeyError::NoKey { name }),
        }
    }
}

/// A signature, and the name of the key that is said to have made it. As text: `name:base64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    key_name: KeyName,
    bytes: [u8; 64],
}

impl Signature {
    /// Puts a signature together of its parts.
    pub fn new(key_name: KeyName, bytes: [u8; 64]) -> Self {
        Self { key_name, bytes }
    }

    /// The name of the key.
    pub fn key_name(&self) -> &KeyName {
        &self.key_name
    }

    /// The 64 bytes.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.bytes
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key_name, BASE64.encode(self.bytes))
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (key_name, bytes) = parse_named::<64>(text)?;
        Ok(Self { key_name, bytes: *bytes })
    }
}

/// Why a narinfo is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Nobody signed it.
    #[error("believe the narinfo of {path}: it has no signature")]
    Unsigned {
        /// The path that it is about.
        path: StorePath,
    },
    /// Others signed it.
    #[error("believe the narinfo of {path}: it is signed by {} only, which is not trusted", names(.keys))]
    UnknownKeys {
        /// The path that it is about.
        path: StorePath,
        /// Who signed it.
        keys: Vec<KeyName>,
    },
    /// A signature under a trusted name is not that key's: the narinfo was changed, or someone uses that name. This
    /// must be loud.
    #[error("believe the narinfo of {path}: the signature under the trusted name {key} is wrong")]
    BadSignature {
        /// The path that it is about.
        path: StorePath,
        /// The name.
        key: KeyName,
    },
    /// It has no content address of a kind that can be checked.
    #[error("believe the narinfo of {path} by its content: it has no address of the kind fixed:r:sha256")]
    NoContentAddress {
        /// The path that it is about.
        path: StorePath,
    },
    /// Its content address is not what its path and its NAR say. This must be loud.
    #[error("believe the narinfo of {path} by its content: this content belongs at {content_path}")]
    OtherContent {
        /// The path that it is about.
        path: StorePath,
        /// The path that its content names.
        content_path: StorePath,
    },
    /// Its NAR is another one than the one that is wanted.
    #[error("believe the narinfo of {path}: it is about the content {found}, and another one is wanted")]
    OtherHash {
        /// The path that it is about.
        path: StorePath,
        /// The hash that it names.
        found: Sha256,
    },
    /// Its NAR has another size than the one that is known: there is no such NAR.
    #[error(
        "believe the narinfo of {path}: it says that its NAR has {found} bytes, and it is known to have {expected}"
    )]
    OtherSize {
        /// The path that it is about.
        path: StorePath,
        /// The size that it names.
        found: u64,
        /// The size that is known.
        expected: u64,
    },
}

impl Unverified {
    /// Whether this looks like tampering, rather than a matter of whom one trusts.
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::BadSignature { .. } | Self::OtherContent { .. })
    }
}

/// A few of the names: a file can hold thousands.
fn names(keys: &[KeyName]) -> String {
    const SHOWN: usize = 5;
    let shown = keys.iter().take(SHOWN).map(KeyName::as_str).collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A value that somebody trusted vouches for. Only [`TrustedKeys::verify`], [`Verified::by_content`] and
/// [`Verified::by_hash`] make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// Takes the value out, and the proof away.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Verified<NarInfo> {
    /// Believes a narinfo whose store path is named by its content: `CA: fixed:r:sha256:…` with the hash of the NAR,
    /// and the path that this hash and the references make. Whose content it is, nobody says: ask for such a path
    /// only if its name came from somebody trusted.
    pub fn by_content(narinfo: NarInfo) -> Result<Self, Unverified> {
        let path = narinfo.store_path.clone();
        if narinfo.content_address != Some(ContentAddress::RecursiveSha256(narinfo.nar_hash)) {
            return Err(Unverified::NoContentAddress { path });
        }
        let mut references = narinfo.references.clone();
        let self_reference = references.remove(&path);
        let content_path = StorePath::by_content(&narinfo.nar_hash, &references, self_reference, path.name().clone());
        if content_path == path { Ok(Self(narinfo)) } else { Err(Unverified::OtherContent { path, content_path }) }
    }

    /// Believes a narinfo whose NAR has the hash that is already known, from a lock file for example. Whoever names the
    /// hash vouches for the content, and for no more than that: what the narinfo says of references is not looked at.
    pub fn by_hash(narinfo: NarInfo, expected: &Sha256) -> Result<Self, Unverified> {
        if narinfo.nar_hash == *expected {
            return Ok(Self(narinfo));
        }
        Err(Unverified::OtherHash { path: narinfo.store_path, found: narinfo.nar_hash })
    }
}

/// The keys whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(BTreeMap<KeyName, Vec<PublicKey>>);

impl TrustedKeys {
    /// Whether no key is trusted, so that nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, by name.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values().flatten()
    }

    /// Trusts `key` too. Another key of the same name stays trusted.
    pub fn insert(&mut self, key: PublicKey) {
        let keys = self.0.entry(key.name.clone()).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// Believes `narinfo` if one of its signatures is of a trusted key. Then the others don't matter: anyone can add
    /// to a file what doesn't verify. Of those under trusted names the first 16 are looked at, and no others.
    pub fn verify(&self, narinfo: NarInfo) -> Result<Verified<NarInfo>, Unverified> {
        let fingerprint = narinfo.fingerprint();
        let mut bad = None;
        let named =
            narinfo.signatures.iter().filter_map(|signature| Some((signature, self.0.get(&signature.key_name)?)));
        for (signature, keys) in named.take(LOOKED_AT) {
            if keys.iter().any(|key| key.verifies(fingerprint.as_bytes(), signature)) {
                return Ok(Verified(narinfo));
            }
            bad.get_or_insert(&signature.key_name);
        }
        let path = narinfo.store_path.clone();
        Err(match bad {
            Some(key) => Unverified::BadSignature { path, key: key.clone() },
            None if narinfo.signatures.is_empty() => Unverified::Unsigned { path },
            None => Unverified::UnknownKeys {
                path,
                keys: narinfo.signatures.iter().map(|signature| signature.key_name.clone()).collect(),
            },
        })
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut trusted = Self::default();
        keys.into_iter().for_each(|key| trusted.insert(key));
        trusted
    }
}

#[cfg(test)]
mod tests;
