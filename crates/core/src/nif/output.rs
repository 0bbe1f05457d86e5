//! What is published of a NIF: three store paths.
//!
//! ```text
//! …-nif-demo_nif-0.1.0-nif-2.15-<target>/          the output, by content
//!   lib/libdemo_nif.so           -> ../priv/native/demo_nif.so
//!   nif.json                     what it is and needs
//!   priv/native/demo_nif.so      the library
//!   priv/native/libdemo_nif.so   -> demo_nif.so
//! …-libdemo_nif-v0.1.0-nif-2.15-<target>.so.tar.gz    RustlerPrecompiled's archive, by content: one file
//! …-nif-record-demo_nif-0.1.0-nif-2.15-<target>       the record, by its name: one file, JSON; refers to both
//! ```
//!
//! The first two need nobody's word, since their names say what is in them. The third says which content belongs to a
//! name; a trusted key signs it, and the first that is published under a name stays.

use std::collections::BTreeSet;
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::inspect::Inspection;
use super::name::{NifCrate, NifName, NifNamespace, NifPlatform, NifRelease, NifTarget, NifVariant, NifVersion};
use crate::nix::nar::{Event, NarError, NarWriteError};
use crate::nix::{NarLimits, NarReader, NarWriter, Sha256, StorePath, StorePathName};

/// The version of the formats.
const SCHEMA: u32 = 1;

/// Larger libraries are refused.
pub const LIBRARY_LIMIT: u64 = 1 << 30;

/// Longer records are refused.
const RECORD_LIMIT: u64 = 1 << 20;

/// The name of the manifest in an output.
const MANIFEST: &str = "nif.json";

/// Why a NAR is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// It is no NAR.
    #[error("read the NAR of {what}")]
    Nar {
        /// What was expected.
        what: String,
        /// What is wrong.
        #[source]
        source: NarError,
    },
    /// A file in it could not be read.
    #[error("read a file in the NAR of {what}")]
    Contents {
        /// What was expected.
        what: String,
        /// What is wrong.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("read the NAR of {what}: it holds something else")]
    Other {
        /// What was expected.
        what: String,
    },
    /// The record is none, or of a later version.
    #[error("read the record of {what}")]
    Record {
        /// What was expected.
        what: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The record is of another version, or of another NIF.
    #[error("read the record of {what}: it is that of something else")]
    OtherRecord {
        /// What was expected.
        what: String,
    },
}

/// A store path that its content names, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentPath {
    /// Its name.
    pub path: StorePath,
    /// Its content.
    pub nar: Vec<u8>,
    /// The hash of its content.
    pub nar_hash: Sha256,
}

impl ContentPath {
    fn new(nar: Vec<u8>, name: StorePathName) -> Self {
        let nar_hash = Sha256::of(&nar);
        Self { path: StorePath::by_content(&nar_hash, &BTreeSet::new(), false, name), nar, nar_hash }
    }

    /// What a record says of it.
    pub fn recorded(&self) -> RecordedPath {
        RecordedPath { path: self.path.to_string(), nar_hash: self.nar_hash.to_sri(), nar_size: self.nar.len() as u64 }
    }
}

/// What a library is: `nif.json` in an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NifManifest {
    /// The version of the format: 1.
    pub schema: u32,
    /// The name of the library.
    #[serde(rename = "crate")]
    pub crate_name: NifCrate,
    /// The version.
    pub version: NifRelease,
    /// The NIF version that it was built for.
    pub nif_version: NifVersion,
    /// The target that it was built for.
    pub target: NifTarget,
    /// The variant, if there are several.
    pub variant: Option<NifVariant>,
    /// The SHA-256 of the library, as `sha256:<hex>`.
    pub sha256: String,
    /// The size of the library in bytes.
    pub size: u64,
    /// What the library needs.
    pub needs: Inspection,
}

impl NifManifest {
    /// The manifest of a library.
    pub fn new(name: &NifName, library: &[u8], needs: Inspection) -> Self {
        let NifPlatform { nif_version, target, variant } = name.platform.clone();
        Self {
            schema: SCHEMA,
            crate_name: name.crate_name.clone(),
            version: name.release.clone(),
            nif_version,
            target,
            variant,
            sha256: hex(&Sha256::of(library)),
            size: library.len() as u64,
            needs,
        }
    }

    /// The name that it says.
    pub fn name(&self) -> NifName {
        let platform =
            NifPlatform { nif_version: self.nif_version, target: self.target.clone(), variant: self.variant.clone() };
        NifName { crate_name: self.crate_name.clone(), release: self.version.clone(), platform }
    }
}

fn hex(hash: &Sha256) -> String {
    format!("sha256:{}", hash.to_hex())
}

/// A store path as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedPath {
    /// The store path.
    pub path: String,
    /// The hash of its NAR, as Nix writes it in expressions: `sha256-<base64>`.
    pub nar_hash: String,
    /// The size of its NAR in bytes.
    pub nar_size: u64,
}

/// RustlerPrecompiled's archive as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedArchive {
    /// The name of the file.
    pub file: String,
    /// The SHA-256 of the file, as `sha256:<hex>`.
    pub sha256: String,
    /// The size of the file in bytes.
    pub size: u64,
    /// Its store path.
    pub store: RecordedPath,
}

/// What was published under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NifRecord {
    /// Whose it is.
    pub namespace: NifNamespace,
    /// What it is.
    pub nif: NifManifest,
    /// The output.
    pub output: RecordedPath,
    /// The archive.
    pub archive: RecordedArchive,
}

impl NifRecord {
    /// The record of a NIF.
    pub fn new(
        namespace: NifNamespace,
        nif: NifManifest,
        output: &ContentPath,
        archive: &[u8],
        store: &ContentPath,
    ) -> Self {
        let archive = RecordedArchive {
            file: nif.name().archive_file(),
            sha256: hex(&Sha256::of(archive)),
            size: archive.len() as u64,
            store: store.recorded(),
        };
        Self { namespace, nif, output: output.recorded(), archive }
    }
}

fn write(tree: impl FnOnce(&mut NarWriter<&mut Vec<u8>>) -> Result<(), NarWriteError>) -> Vec<u8> {
    let mut nar = Vec::new();
    let mut writer = NarWriter::new(&mut nar);
    let written = tree(&mut writer).and_then(|()| writer.finish().map(|_| ()));
    written.expect("writing to memory does not fail, and the names are plain and sorted");
    nar
}

/// Packs the output of a library.
pub fn pack_output(manifest: &NifManifest, library: &[u8]) -> ContentPath {
    let name = manifest.name();
    let files = name.native_files();
    let text = serde_json::to_vec_pretty(manifest).expect("a manifest holds only texts and numbers");
    let nar = write(|nar| {
        nar.begin_directory()?;
        nar.entry(b"lib")?;
        nar.begin_directory()?;
        nar.entry(files.legacy.as_bytes())?;
        nar.symlink(format!("../priv/native/{}", files.plain).as_bytes())?;
        nar.end_directory()?;
        nar.entry(MANIFEST.as_bytes())?;
        nar.regular_bytes(false, &text)?;
        nar.entry(b"priv")?;
        nar.begin_directory()?;
        nar.entry(b"native")?;
        nar.begin_directory()?;
        let names: BTreeSet<&String> = [&files.plain, &files.legacy].into_iter().collect();
        for name in names {
            nar.entry(name.as_bytes())?;
            if *name == files.plain {
                nar.regular_bytes(true, library)?;
            } else {
                nar.symlink(files.plain.as_bytes())?;
            }
        }
        (0..3).try_for_each(|_| nar.end_directory())
    });
    ContentPath::new(nar, name.store_name("nif"))
}

/// Packs an archive: one file, under its own name.
pub fn pack_archive(name: &NifName, archive: &[u8]) -> ContentPath {
    let file = name.archive_file().parse().expect("the parts are short, and hold only what store paths may hold");
    ContentPath::new(write(|nar| nar.regular_bytes(false, archive)), file)
}

/// Packs a record, whose path follows from its name alone.
pub fn pack_record(record: &NifRecord) -> (StorePath, Vec<u8>) {
    let mut text = serde_json::to_vec_pretty(&Versioned { schema: SCHEMA, record }).expect("texts and numbers");
    text.push(b'\n');
    (record.nif.name().record_path(&record.namespace), write(|nar| nar.regular_bytes(false, &text)))
}

#[derive(Serialize)]
struct Versioned<'a> {
    schema: u32,
    record: &'a NifRecord,
}

#[derive(Deserialize)]
struct VersionedIn {
    schema: u32,
    record: NifRecord,
}

/// Reads the record of `name` from a NAR that a trusted key has signed.
pub fn read_record(namespace: &NifNamespace, name: &NifName, nar: &mut dyn Read) -> Result<NifRecord, OutputError> {
    let what = format!("the record of {name}");
    let text = read_file_nar(&what, nar, RECORD_LIMIT)?;
    let read: VersionedIn =
        serde_json::from_slice(&text).map_err(|source| OutputError::Record { what: what.clone(), source })?;
    let record = read.record;
    let same = read.schema == SCHEMA
        && record.nif.schema == SCHEMA
        && record.namespace == *namespace
        && record.nif.name() == *name
        && record.archive.file == name.archive_file();
    if same { Ok(record) } else { Err(OutputError::OtherRecord { what }) }
}

/// Reads a NAR that is one file of at most `limit` bytes. `what` it is, for the error.
pub fn read_file_nar(what: &str, nar: &mut dyn Read, limit: u64) -> Result<Vec<u8>, OutputError> {
    let mut reader = NarReader::new(nar, NarLimits::default());
    let mut file = None;
    while let Some(event) = reader.next_event().map_err(|source| OutputError::Nar { what: what.to_owned(), source })? {
        match event {
            Event::Regular { size, mut contents, .. } if size <= limit && file.is_none() => {
                let mut bytes = Vec::new();
                let read = contents.read_to_end(&mut bytes);
                read.map_err(|source| OutputError::Contents { what: what.to_owned(), source })?;
                file = Some(bytes);
            }
            _ => return Err(OutputError::Other { what: what.to_owned() }),
        }
    }
    file.ok_or_else(|| OutputError::Other { what: what.to_owned() })
}

/// Reads the library out of the NAR of an output. All of the NAR is read; nothing in it is followed or written.
pub fn library_of_output(name: &NifName, nar: &mut dyn Read) -> Result<Vec<u8>, OutputError> {
    let what = name.to_string();
    let wanted = name.native_files().plain;
    let mut reader = NarReader::new(nar, NarLimits::default());
    let mut open: Vec<String> = Vec::new();
    let mut entry: Option<String> = None;
    let mut library = None;
    while let Some(event) = reader.next_event().map_err(|source| OutputError::Nar { what: what.clone(), source })? {
        match event {
            Event::Entry { name } => entry = Some(String::from_utf8_lossy(name).into_owned()),
            Event::DirectoryStart => open.push(entry.take().unwrap_or_default()),
            Event::DirectoryEnd => drop(open.pop()),
            Event::Symlink { .. } => entry = None,
            Event::Regular { size, mut contents, .. } => {
                let path = open.iter().map(String::as_str).chain(entry.take().as_deref()).collect::<Vec<_>>().join("/");
                if path == format!("/priv/native/{wanted}") {
                    if size > LIBRARY_LIMIT {
                        return Err(OutputError::Other { what });
                    }
                    let mut bytes = Vec::new();
                    let read = contents.read_to_end(&mut bytes);
                    read.map_err(|source| OutputError::Contents { what: what.clone(), source })?;
                    library = Some(bytes);
                }
            }
        }
    }
    library.ok_or(OutputError::Other { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nif::write_archive;

    fn name(file: &str) -> NifName {
        NifName::parse_archive_file(file).unwrap()
    }

    fn needs() -> Inspection {
        Inspection {
            nif_version: Some(NifVersion::default()),
            glibc: Some("2.34".parse().unwrap()),
            libstdcxx: None,
            needed: vec!["libc.so.6".to_owned()],
        }
    }

    const LINUX: &str = "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz";

    #[test]
    fn an_output_gives_its_library_back() {
        for file in [
            LINUX,
            "demo_nif-v0.1.0-nif-2.15-x86_64-pc-windows-msvc.dll.tar.gz",
            "libzz-v0.1.0-nif-2.15-aarch64-apple-darwin.so.tar.gz",
        ] {
            let name = name(file);
            let output = pack_output(&NifManifest::new(&name, b"library", needs()), b"library");
            assert_eq!(library_of_output(&name, &mut output.nar.as_slice()).unwrap(), b"library");
            assert!(
                output
                    .path
                    .to_string()
                    .ends_with(&format!("-nif-{}-{}-{}", name.crate_name, name.release, name.platform))
            );
            let again = pack_output(&NifManifest::new(&name, b"library", needs()), b"library");
            assert_eq!(output, again);
        }
    }

    #[test]
    fn an_output_is_unpacked_as_rustler_and_nix_expect_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = camino::Utf8Path::from_path(directory.path()).unwrap().join("output");
        let name = name(LINUX);
        let output = pack_output(&NifManifest::new(&name, b"library", needs()), b"library");
        crate::nix::nar::unpack(&mut NarReader::new(output.nar.as_slice(), NarLimits::default()), &root).unwrap();
        for file in ["priv/native/demo_nif.so", "priv/native/libdemo_nif.so", "lib/libdemo_nif.so"] {
            assert_eq!(std::fs::read(root.join(file)).unwrap(), b"library", "{file}");
        }
        let manifest: NifManifest = serde_json::from_slice(&std::fs::read(root.join("nif.json")).unwrap()).unwrap();
        assert_eq!(manifest.name(), name);
    }

    #[test]
    fn a_record_is_believed_of_its_own_name_alone() {
        let (name, namespace) = (name(LINUX), NifNamespace::default());
        let manifest = NifManifest::new(&name, b"library", needs());
        let archive = write_archive(&name, b"library");
        let output = pack_output(&manifest, b"library");
        let record = NifRecord::new(namespace.clone(), manifest, &output, &archive, &pack_archive(&name, &archive));
        let (path, nar) = pack_record(&record);
        assert_eq!(path, name.record_path(&namespace));
        assert_eq!(read_record(&namespace, &name, &mut nar.as_slice()).unwrap(), record);
        let other = self::name("libdemo_nif-v0.1.1-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz");
        assert!(matches!(read_record(&namespace, &other, &mut nar.as_slice()), Err(OutputError::OtherRecord { .. })));
        let foreign = "foreign".parse().unwrap();
        assert!(matches!(read_record(&foreign, &name, &mut nar.as_slice()), Err(OutputError::OtherRecord { .. })));
        let nar = pack_archive(&name, &archive).nar;
        assert!(matches!(read_record(&namespace, &name, &mut nar.as_slice()), Err(OutputError::Record { .. })));
        assert_eq!(read_file_nar("it", &mut nar.as_slice(), 1 << 20).unwrap(), archive);
        assert!(matches!(read_file_nar("it", &mut nar.as_slice(), 4), Err(OutputError::Other { .. })));
        assert!(matches!(read_file_nar("it", &mut output.nar.as_slice(), 1 << 20), Err(OutputError::Other { .. })));
    }

    #[test]
    fn other_trees_are_refused() {
        let name = name(LINUX);
        let tree = write(|nar| {
            nar.begin_directory()?;
            nar.entry(b"demo_nif.so")?;
            nar.regular_bytes(true, b"library")?;
            nar.entry(b"priv")?;
            nar.symlink(b"/etc")?;
            nar.end_directory()
        });
        assert!(matches!(library_of_output(&name, &mut tree.as_slice()), Err(OutputError::Other { .. })));
        let nested = pack_output(&NifManifest::new(&name, b"library", needs()), b"library").nar;
        for length in [0, 8, nested.len() / 2, nested.len() - 1] {
            assert!(library_of_output(&name, &mut &nested[..length]).is_err(), "{length}");
        }
    }
}
