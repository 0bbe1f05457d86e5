//! Tokens: who may do what. The file holds their hashes alone, so that reading it gives no access.
//!
//! A token is 32 random bytes. That is why a plain SHA-256 will do for it, where a password would need a slow hash.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nix::Sha256;
use serde::{Deserialize, Serialize};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

/// The version of the file's format.
const VERSION: u32 = 1;

/// What a token begins with, so that it is recognised where it doesn't belong.
const PREFIX: &str = "nixcache_";

/// The longest text that is looked at as a token.
const LENGTH_LIMIT: usize = 256;

/// Why the file of tokens can't be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It can't be read or written.
    #[error("{action} the file of tokens {path}")]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It isn't of the known form.
    #[error("read the file of tokens {path}")]
    Form {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It is of another version.
    #[error("read the file of tokens {path}: its version {version} is not known")]
    Version {
        /// The file.
        path: Utf8PathBuf,
        /// Its version.
        version: u32,
    },
    /// A name that no token can have.
    #[error("call a token {text:?}: names are 1 to 64 letters, digits, dots, dashes and underscores")]
    Name {
        /// The text.
        text: String,
    },
    /// A scope that isn't known.
    #[error("use the scope {text:?}: there are read, write and admin")]
    Scope {
        /// The text.
        text: String,
    },
    /// There is a token of this name.
    #[error("add the token {name}: there is one of this name; remove it first")]
    Exists {
        /// The name.
        name: TokenName,
    },
    /// The system gives no random bytes.
    #[error("make a token: the system gives no random bytes")]
    Random,
}

/// What a token allows. Each scope holds the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reading.
    Read,
    /// Uploading.
    Write,
    /// Garbage collection and pins.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(TokenError::Scope { text: text.to_owned() }),
        }
    }
}

/// What a token is called, in the file and in logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenName {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(TokenError::Name { text: text.chars().take(80).collect() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TokenName {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, TokenError> {
        text.parse()
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0
    }
}

/// A token itself. It has no `Debug` and no `Display`; [`Token::reveal`] is the one way to its text.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Makes a new one.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| TokenError::Random)?;
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(*bytes)))))
    }

    /// The text, to be shown once to whom it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: TokenName,
    scope: Scope,
    /// Of the token's text, as `sha256:<nix32>`.
    #[serde(with = "hash_text")]
    hash: Sha256,
}

mod hash_text {
    use nixcache_core::nix::Sha256;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(hash: &Sha256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sha256, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The file of tokens, and what it holds.
///
/// ```toml
/// version = 1
///
/// [[token]]
/// name = "ci"
/// scope = "write"
/// hash = "sha256:…"
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    version: u32,
    #[serde(default, rename = "token")]
    tokens: Vec<Entry>,
}

fn directory_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

/// What is locked while the file is changed. The file itself won't do, for another one takes its place.
#[cfg(unix)]
fn open_lock(directory: &Utf8Path, _: &Utf8Path) -> std::io::Result<std::fs::File> {
    // Whoever may change the file can open the directory, and no file of one user is in another's way.
    std::fs::File::open(directory)
}

#[cfg(not(unix))]
fn open_lock(_: &Utf8Path, path: &Utf8Path) -> std::io::Result<std::fs::File> {
    std::fs::File::create(format!("{path}.lock"))
}

/// Whose file a file of tokens is, after it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The owner and the group that it had before; or it is new.
    Kept,
    /// Another one, for only root gives files to others.
    Changed,
}

/// Gives a file the owner, the group and the rights of the one whose place it takes.
#[cfg(unix)]
fn take_over(file: &std::fs::File, old: &std::fs::Metadata) -> std::io::Result<Owner> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let own = file.metadata()?;
    // One at a time: members of a group can keep that, if not the owner.
    let group = own.gid() == old.gid() || fchown(file, None, Some(old.gid())).is_ok();
    let user = own.uid() == old.uid() || fchown(file, Some(old.uid()), None).is_ok();
    // What a group may do is not for another one.
    let mode = old.mode() & if group { 0o777 } else { 0o707 };
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(if group && user { Owner::Kept } else { Owner::Changed })
}

#[cfg(not(unix))]
fn take_over(_: &std::fs::File, _: &std::fs::Metadata) -> std::io::Result<Owner> {
    Ok(Owner::Kept)
}

impl Default for TokenFile {
    fn default() -> Self {
        Self { version: VERSION, tokens: Vec::new() }
    }
}

impl TokenFile {
    /// Reads the file. If there is none, there are no tokens.
    pub fn read(path: &Utf8Path) -> Result<Self, TokenError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(TokenError::File { action: "read", path: path.to_owned(), source }),
        };
        let file: Self = toml::from_str(&text)
            .map_err(|source| TokenError::Form { path: path.to_owned(), source: Box::new(source) })?;
        match file.version {
            VERSION => Ok(file),
            version => Err(TokenError::Version { path: path.to_owned(), version }),
        }
    }

    /// Reads the file, changes it and writes it if it is another one then. Who changes it meanwhile waits: nobody's change
    /// is lost.
    pub fn change<T>(
        path: &Utf8Path,
        change: impl FnOnce(&mut Self) -> Result<T, TokenError>,
    ) -> Result<(T, Owner), TokenError> {
        let directory = directory_of(path);
        let failed = |source| TokenError::File { action: "lock", path: path.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let lock = open_lock(directory, path).map_err(failed)?;
        // Some network file systems have no locks. There, two at once are two at once.
        let _ = lock.lock();
        let before = Self::read(path)?;
        let mut file = before.clone();
        let changed = change(&mut file)?;
        let owner = if file == before { Owner::Kept } else { file.write(path)? };
        Ok((changed, owner))
    }

    /// Writes the file. It gets the owner and the rights of the one that it takes the place of, as far as the system lets
    /// us: a server that runs as another user must still be able to read it. A new one only its owner can read.
    pub fn write(&self, path: &Utf8Path) -> Result<Owner, TokenError> {
        let failed = |source| TokenError::File { action: "write", path: path.to_owned(), source };
        let text = toml::to_string(self).expect("names, scopes and hashes are texts");
        let directory = directory_of(path);
        std::fs::create_dir_all(directory).map_err(failed)?;
        // Temporary files are made readable for their owner alone.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        let owner = match std::fs::metadata(path) {
            Ok(old) => take_over(file.as_file(), &old).map_err(failed)?,
            Err(_) => Owner::Kept,
        };
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(owner)
    }

    /// Adds a token. Its text is nowhere but in what this returns.
    pub fn add(&mut self, name: TokenName, scope: Scope) -> Result<Token, TokenError> {
        if self.tokens.iter().any(|entry| entry.name == name) {
            return Err(TokenError::Exists { name });
        }
        let token = Token::generate()?;
        self.tokens.push(Entry { name, scope, hash: Sha256::of(token.0.as_bytes()) });
        Ok(token)
    }

    /// Removes a token. Tells whether there was one of this name.
    pub fn remove(&mut self, name: &TokenName) -> bool {
        let before = self.tokens.len();
        self.tokens.retain(|entry| &entry.name != name);
        self.tokens.len() != before
    }

    /// The names and scopes.
    pub fn iter(&self) -> impl Iterator<Item = (&TokenName, Scope)> {
        self.tokens.iter().map(|entry| (&entry.name, entry.scope))
    }

    /// Whose token this is. It takes the same time for each text of a length: all are compared, to the end.
    pub fn find(&self, text: &str) -> Option<(&TokenName, Scope)> {
        if text.len() > LENGTH_LIMIT {
            return None;
        }
        let hash = Sha256::of(text.as_bytes());
        let mut found = u32::MAX;
        for (index, entry) in (0u32..).zip(&self.tokens) {
            let equal = entry.hash.as_bytes().ct_eq(hash.as_bytes());
            found.conditional_assign(&index, equal);
        }
        self.tokens.get(found as usize).map(|entry| (&entry.name, entry.scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_text_alone() {
        let mut file = TokenFile::default();
        let reader = file.add("reader".parse().unwrap(), Scope::Read).unwrap();
        let writer = file.add("writer".parse().unwrap(), Scope::Write).unwrap();
        assert_ne!(reader.reveal(), writer.reveal());
        assert_eq!(file.find(writer.reveal()).map(|(_, scope)| scope), Some(Scope::Write));
        assert_eq!(file.find(reader.reveal()).unwrap().0.to_string(), "reader");
        let longer = format!("{}x", writer.reveal());
        for wrong in ["", "writer", PREFIX, &writer.reveal()[1..], &longer, &"x".repeat(100_000)] {
            assert!(file.find(wrong).is_none(), "{wrong}");
        }
        assert!(matches!(file.add("writer".parse().unwrap(), Scope::Admin), Err(TokenError::Exists { .. })));
        assert!(file.remove(&"writer".parse().unwrap()) && !file.remove(&"writer".parse().unwrap()));
        assert!(file.find(writer.reveal()).is_none());
    }

    #[test]
    fn the_file_holds_no_token_and_is_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("deep/tokens.toml");
        assert_eq!(TokenFile::read(&path).unwrap().iter().count(), 0);
        let mut file = TokenFile::default();
        let token = file.add("ci".parse().unwrap(), Scope::Write).unwrap();
        file.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token.reveal()[PREFIX.len()..]) && text.contains("scope = \"write\""), "{text}");
        assert!(TokenFile::read(&path).unwrap().find(token.reveal()).is_some());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("deep/tokens.toml");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let name: TokenName = format!("token-{number}").parse().unwrap();
                    TokenFile::change(path, |file| {
                        // Whoever doesn't wait reads the file now.
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        file.add(name, Scope::Read)
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(TokenFile::read(&path).unwrap().iter().count(), 8);
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        let unknown = TokenFile::change(&path, |file| Ok(file.remove(&"unknown".parse().unwrap())));
        assert!(matches!(unknown, Ok((false, Owner::Kept))));
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before, "nothing was to be changed");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_is_written_again_keeps_owner_and_rights() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("tokens.toml");
        let mut file = TokenFile::default();
        assert_eq!(file.write(&path).unwrap(), Owner::Kept);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        // Only root can do this, and is whom it is about.
        let given_away = chown(&path, Some(12345), Some(12346)).is_ok();
        let before = std::fs::metadata(&path).unwrap();
        file.add("ci".parse().unwrap(), Scope::Write).unwrap();
        assert_eq!(file.write(&path).unwrap(), Owner::Kept);
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!(TokenFile::read(&path).unwrap().iter().count(), 1);
        assert_eq!(after.mode() & 0o777, 0o640);
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert!(!given_away || after.uid() == 12345);
    }

    #[test]
    fn files_of_another_form_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("tokens.toml");
        let bad = [
            "version = 2",
            "",
            "version = 1\nother = 1",
            "version = 1\n[[token]]\nname = \"a b\"\nscope = \"read\"\nhash = \"sha256:x\"",
            "version = 1\n[[token]]\nname = \"a\"\nscope = \"root\"\n",
        ];
        for text in bad {
            std::fs::write(&path, text).unwrap();
            assert!(TokenFile::read(&path).is_err(), "{text}");
        }
    }
}
