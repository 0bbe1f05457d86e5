//! `nixcache.lock`: what a project uses, by content.
//!
//! ```toml
//! version = 1
//!
//! [nif.demo_nif]
//! manifest = "native/demo_nif/Cargo.toml"       # if there is one: its version must be that below
//! namespace = "main"
//! version = "0.1.0-s1a2b3c4d5e6f"
//!
//! [[nif.demo_nif.files]]
//! archive = "libdemo_nif-v0.1.0-s1a2b3c4d5e6f-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz"
//! archive-hash = "sha256:<hex>"
//! archive-nar-hash = "sha256-<base64>"
//! archive-nar-size = 123
//! archive-path = "/nix/store/…"
//! archive-size = 123
//! library-hash = "sha256:<hex>"
//! library-size = 123
//! nar-hash = "sha256-<base64>"
//! nar-size = 123
//! nif-version = "2.15"
//! path = "/nix/store/…"
//! target = "x86_64-unknown-linux-gnu"
//! variant = "avx2"                               # if there is one
//!
//! [[nif.demo_nif.sources]]                       # if the sources are in the version: where they are
//! path = "native/demo_nif"
//! ```
//!
//! The file is sorted, so that the same content is the same text. Every value is a text or a number on a line of its
//! own, so that it can be read where there is no reader of TOML. Other sections than `nif` are kept as they are.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::name::{NifCrate, NifName, NifNamespace, NifPlatform, NifRelease, NifTarget, NifVariant, NifVersion};
use super::output::{NifRecord, RecordedPath};
use crate::digest::{Key, KeyHasher};
use crate::nix::{Sha256, StorePath};

/// The name of the file.
pub const LOCK_FILE: &str = "nixcache.lock";

/// The version of the format.
const VERSION: i64 = 1;

/// How every lock file begins, whoever writes into it.
pub const LOCK_HEAD: &str =
    "# Written by `cargo nixcache`: what this project uses, by content. Put it under version control.\n";

/// Why a lock file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is no TOML, or something in it has no place.
    #[error("read {LOCK_FILE}")]
    Format {
        /// What is wrong.
        #[source]
        source: toml::de::Error,
    },
    /// It is of another version.
    #[error("read {LOCK_FILE}: it is of version {found}, and this cargo-nixcache knows {VERSION}")]
    Version {
        /// The version.
        found: String,
    },
    /// What it says of a NIF can't be true.
    #[error("read {LOCK_FILE}: what it says of {nif} can't be: {what}")]
    Contradiction {
        /// The NIF.
        nif: String,
        /// What is wrong.
        what: String,
    },
}

/// A lock file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NixcacheLock {
    /// The NIFs, by crate.
    pub nifs: BTreeMap<NifCrate, LockedNif>,
    /// What else it holds.
    others: toml::Table,
}

/// The NIF of one crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedNif {
    /// Whose it is.
    pub namespace: NifNamespace,
    /// The version.
    pub release: NifRelease,
    /// The crate's manifest, from the lock file, if it is in the same repository.
    pub manifest: Option<Utf8PathBuf>,
    /// The directories of the packages whose content is in the version, seen from the lock file. None, if the version
    /// doesn't say the content, or the sources are elsewhere. Whoever has no cargo compares them by this list.
    pub sources: BTreeSet<String>,
    /// Its files.
    pub files: BTreeMap<NifPlatform, LockedFile>,
}

/// A library and its archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedFile {
    /// The output.
    pub output: LockedPath,
    /// The SHA-256 of the library.
    pub library_hash: Sha256,
    /// The size of the library in bytes.
    pub library_size: u64,
    /// The archive as a store path.
    pub archive: LockedPath,
    /// The SHA-256 of the archive.
    pub archive_hash: Sha256,
    /// The size of the archive in bytes.
    pub archive_size: u64,
}

/// A store path that its content names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedPath {
    /// Its name.
    pub path: StorePath,
    /// The hash of its NAR.
    pub nar_hash: Sha256,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NifTable {
    files: Vec<FileTable>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Utf8PathBuf>,
    namespace: NifNamespace,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceTable>,
    version: NifRelease,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceTable {
    path: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileTable {
    archive: String,
    archive_hash: String,
    archive_nar_hash: String,
    archive_nar_size: u64,
    archive_path: String,
    archive_size: u64,
    library_hash: String,
    library_size: u64,
    nar_hash: String,
    nar_size: u64,
    nif_version: NifVersion,
    path: String,
    target: NifTarget,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<NifVariant>,
}

impl NixcacheLock {
    /// Reads a lock file.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let format = |source| LockError::Format { source };
        let mut others: toml::Table = text.parse().map_err(format)?;
        match others.remove("version") {
            Some(toml::Value::Integer(VERSION)) => {}
            other => {
                let found = other.map_or_else(|| "none".to_owned(), |other| other.to_string());
                return Err(LockError::Version { found });
            }
        }
        let tables: BTreeMap<NifCrate, NifTable> = match others.remove("nif") {
            Some(section) => section.try_into().map_err(format)?,
            None => BTreeMap::new(),
        };
        let read = |(name, table)| LockedNif::read(&name, table).map(|nif| (name, nif));
        Ok(Self { nifs: tables.into_iter().map(read).collect::<Result<_, _>>()?, others })
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut whole = self.others.clone();
        whole.insert("version".to_owned(), toml::Value::Integer(VERSION));
        let tables: BTreeMap<&NifCrate, NifTable> =
            self.nifs.iter().map(|(name, nif)| (name, nif.table(name))).collect();
        if !tables.is_empty() {
            let section = toml::Value::try_from(tables).expect("texts and numbers, which TOML can hold");
            whole.insert("nif".to_owned(), section);
        }
        let text = toml::to_string(&whole).expect("it holds what was read from TOML, or texts and numbers");
        format!("{LOCK_HEAD}{text}")
    }
}

impl LockedNif {
    /// The name of the NIF for a platform.
    pub fn name(&self, crate_name: &NifCrate, platform: &NifPlatform) -> NifName {
        NifName { crate_name: crate_name.clone(), release: self.release.clone(), platform: platform.clone() }
    }

    fn read(crate_name: &NifCrate, table: NifTable) -> Result<Self, LockError> {
        let mut nif = Self {
            namespace: table.namespace,
            release: table.version,
            manifest: table.manifest,
            sources: table.sources.into_iter().map(|source| source.path).collect(),
            files: BTreeMap::new(),
        };
        let outside =
            |manifest: &Utf8PathBuf| manifest.is_absolute() || manifest.components().any(|part| part.as_str() == "..");
        if nif.manifest.as_ref().is_some_and(outside) {
            let what = "its manifest is outside of the directory".to_owned();
            return Err(LockError::Contradiction { nif: crate_name.to_string(), what });
        }
        for file in table.files {
            let platform = NifPlatform {
                nif_version: file.nif_version,
                target: file.target.clone(),
                variant: file.variant.clone(),
            };
            let name = nif.name(crate_name, &platform);
            let read = LockedFile::read(&name, &file);
            let read = read.map_err(|what| LockError::Contradiction { nif: name.to_string(), what })?;
            if nif.files.insert(platform, read).is_some() {
                let what = "it is there twice".to_owned();
                return Err(LockError::Contradiction { nif: name.to_string(), what });
            }
        }
        Ok(nif)
    }

    fn table(&self, crate_name: &NifCrate) -> NifTable {
        let files = self.files.iter().map(|(platform, file)| {
            let name = self.name(crate_name, platform);
            FileTable {
                archive: name.archive_file(),
                archive_hash: hex(&file.archive_hash),
                archive_nar_hash: file.archive.nar_hash.to_sri(),
                archive_nar_size: file.archive.nar_size,
                archive_path: file.archive.path.to_string(),
                archive_size: file.archive_size,
                library_hash: hex(&file.library_hash),
                library_size: file.library_size,
                nar_hash: file.output.nar_hash.to_sri(),
                nar_size: file.output.nar_size,
                nif_version: platform.nif_version,
                path: file.output.path.to_string(),
                target: platform.target.clone(),
                variant: platform.variant.clone(),
            }
        });
        NifTable {
            files: files.collect(),
            manifest: self.manifest.clone(),
            namespace: self.namespace.clone(),
            sources: self.sources.iter().map(|path| SourceTable { path: path.clone() }).collect(),
            version: self.release.clone(),
        }
    }
}

fn hex(hash: &Sha256) -> String {
    format!("sha256:{}", hash.to_hex())
}

impl LockedFile {
    /// What a record says, if it can be true.
    pub fn of_record(record: &NifRecord) -> Result<Self, LockError> {
        let bad = |what| LockError::Contradiction { nif: record.nif.name().to_string(), what };
        let read = |path: &RecordedPath| LockedPath::read(&path.path, &path.nar_hash, path.nar_size);
        Ok(Self {
            output: read(&record.output).map_err(bad)?,
            library_hash: hash(&record.nif.sha256).map_err(bad)?,
            library_size: record.nif.size,
            archive: read(&record.archive.store).map_err(bad)?,
            archive_hash: hash(&record.archive.sha256).map_err(bad)?,
            archive_size: record.archive.size,
        })
    }

    fn read(name: &NifName, table: &FileTable) -> Result<Self, String> {
        if table.archive != name.archive_file() {
            return Err(format!("its archive must be {}", name.archive_file()));
        }
        Ok(Self {
            output: LockedPath::read(&table.path, &table.nar_hash, table.nar_size)?,
            library_hash: hash(&table.library_hash)?,
            library_size: table.library_size,
            archive: LockedPath::read(&table.archive_path, &table.archive_nar_hash, table.archive_nar_size)?,
            archive_hash: hash(&table.archive_hash)?,
            archive_size: table.archive_size,
        })
    }
}

fn hash(text: &str) -> Result<Sha256, String> {
    let hash: Result<Sha256, _> = text.parse();
    hash.map_err(|_| format!("{:?} is no SHA-256", super::name::shortened(text)))
}

impl LockedPath {
    /// The key under which the local store keeps what this path is for.
    pub fn key(&self) -> Key {
        KeyHasher::new("nif-path/1").field("path", self.path.to_string()).key()
    }

    /// A path that is named by this hash: anything else is refused, so that nobody has to be believed.
    fn read(path: &str, nar_hash: &str, nar_size: u64) -> Result<Self, String> {
        let path: StorePath =
            path.parse().map_err(|_| format!("{:?} is no store path", super::name::shortened(path)))?;
        let nar_hash = hash(nar_hash)?;
        if StorePath::by_content(&nar_hash, &BTreeSet::new(), false, path.name().clone()) != path {
            return Err(format!("{path} is not named by its content"));
        }
        Ok(Self { path, nar_hash, nar_size })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inspection, NifManifest, pack_archive, pack_output, write_archive};
    use super::*;

    fn lock() -> NixcacheLock {
        let mut lock = NixcacheLock::default();
        for file in [
            "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu--avx2.so.tar.gz",
            "libdemo_nif-v0.1.0-nif-2.15-aarch64-apple-darwin.so.tar.gz",
            "libother-v1.0.0-nif-2.16-x86_64-unknown-linux-gnu.so.tar.gz",
        ] {
            let name = NifName::parse_archive_file(file).unwrap();
            let needs = Inspection { nif_version: None, glibc: None, libstdcxx: None, needed: vec![] };
            let manifest = NifManifest::new(&name, b"library", needs);
            let archive = write_archive(&name, b"library");
            let output = pack_output(&manifest, b"library");
            let store = pack_archive(&name, &archive);
            let record = NifRecord::new(NifNamespace::default(), manifest, &output, &archive, &store);
            let nif = lock.nifs.entry(name.crate_name.clone()).or_insert_with(|| LockedNif {
                namespace: NifNamespace::default(),
                release: name.release.clone(),
                manifest: Some("native/demo_nif/Cargo.toml".into()),
                sources: ["../shared", "native/demo_nif"].map(str::to_owned).into(),
                files: BTreeMap::new(),
            });
            nif.files.insert(name.platform.clone(), LockedFile::of_record(&record).unwrap());
        }
        lock
    }

    #[test]
    fn a_lock_file_is_read_as_it_was_written() {
        let lock = lock();
        let text = lock.to_text();
        assert_eq!(NixcacheLock::parse(&text).unwrap(), lock);
        assert_eq!(NixcacheLock::parse(&text).unwrap().to_text(), text);
        assert!(text.starts_with("# Written by"), "{text}");
        assert_eq!(NixcacheLock::parse("version = 1\n").unwrap(), NixcacheLock::default());
    }

    #[test]
    fn every_line_of_a_lock_file_is_a_table_or_one_value() {
        for line in lock().to_text().lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let table = line.starts_with('[') && line.ends_with(']');
            let value = line.split_once(" = ").map(|(_, value)| value);
            let text =
                value.is_some_and(|value| value.starts_with('"') && value.ends_with('"') && !value.contains('\\'));
            let number = value.is_some_and(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(table || text || number, "{line}");
        }
    }

    #[test]
    fn other_sections_stay() {
        let text = "version = 1\n\n[package.tides]\npath = \"/nix/store/x\"\n";
        let mut lock = NixcacheLock::parse(text).unwrap();
        lock.nifs = self::lock().nifs;
        let written = lock.to_text();
        assert!(written.contains("[package.tides]\npath = \"/nix/store/x\""), "{written}");
        lock.nifs.clear();
        assert_eq!(lock.to_text(), format!("{LOCK_HEAD}{text}"));
    }

    #[test]
    fn what_cannot_be_true_is_refused() {
        let text = lock().to_text();
        let hash = text.lines().find_map(|line| line.strip_prefix("nar-hash = ")).unwrap();
        let other = format!("\"{}\"", Sha256::of(b"other").to_sri());
        for (from, to) in [
            (hash, other.as_str()),
            ("version = 1\n", "version = 2\n"),
            ("version = 1\n", ""),
            ("archive = \"libdemo_nif", "archive = \"../libdemo_nif"),
            ("archive = \"libdemo_nif-v0.1.0", "archive = \"libdemo_nif-v0.1.1"),
            ("manifest = \"native", "manifest = \"../native"),
            ("manifest = \"native", "manifest = \"/native"),
            ("target = \"aarch64-apple-darwin\"", "target = \"aarch64-apple/darwin\""),
            ("library-hash = \"sha256:", "library-hash = \"md5:"),
            ("library-size = ", "library-length = "),
            ("path = \"native/demo_nif\"", "directory = \"native/demo_nif\""),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(NixcacheLock::parse(&text.replacen(from, to, 1)).is_err(), "{from} → {to}");
        }
    }
}
