//! From a NAR to a record of the store.

use std::collections::BTreeMap;
use std::io::Read;

use crate::artifact::{ArtifactFile, UnitArtifact};
use crate::digest::Key;
use crate::nix::nar::{Event, NarError, NarLimits, NarReader};
use crate::session::trie::Node;
use crate::store::{BlobRef, Lease, NewNode, PutNode, StagedBlobs, StoreError, StreamError};

use super::document::{self, DocumentError, TooLarge};
use super::manifest::{FILES, Manifest, NAME, SCHEMA};

/// Why a NAR is not the record that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no NAR that we take.
    #[error("unpack {key}")]
    Nar {
        /// The key that was asked for.
        key: Key,
        /// What is wrong.
        #[source]
        source: NarError,
    },
    /// Its manifest is larger than that of any unit that is published.
    #[error("unpack {key}: its manifest is too large")]
    TooLarge {
        /// The key that was asked for.
        key: Key,
        /// In which way.
        #[source]
        source: TooLarge,
    },
    /// Its manifest is missing, or of another form.
    #[error("unpack {key}: its manifest is not one that this version knows")]
    Manifest {
        /// The key that was asked for.
        key: Key,
        /// What is wrong, where it is more than that.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// It is the record of another key.
    #[error("unpack {key}: it is the record of {found}")]
    OtherKey {
        /// The key that was asked for.
        key: Key,
        /// The key that it bears.
        found: Key,
    },
    /// Its manifest contradicts itself: a path leads out of its directory, or the output is not that of its files.
    #[error("unpack {key}: its manifest contradicts itself")]
    Contradiction {
        /// The key that was asked for.
        key: Key,
    },
    /// It holds another file than the manifest says, or lacks one.
    #[error("unpack {key}: {path:?} is not what the manifest says")]
    Files {
        /// The key that was asked for.
        key: Key,
        /// The path in the NAR.
        path: String,
    },
    /// A file's content is not what the manifest says, or the store could not take it.
    #[error("unpack {key}")]
    Content {
        /// The key that was asked for.
        key: Key,
        /// What is wrong.
        #[source]
        source: StreamError,
    },
}

/// A record that was read whole, and whose files lie ready beside the store. Neither is in the store before it is kept;
/// if it isn't, nothing is left of it.
#[derive(Debug)]
pub struct Unpacked {
    key: Key,
    label: String,
    node: Node,
    files: StagedBlobs,
}

impl Unpacked {
    /// The record.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Puts the files into the store, and makes the record visible. Whoever calls this knows that the NAR it came from is
    /// one that a trusted key has signed. A record that is there already stays.
    pub fn keep(self, lease: &Lease) -> Result<PutNode, StoreError> {
        lease.keep_staged(self.files)?;
        let payload = serde_json::to_vec(&self.node).expect("a record holds only texts, numbers and lists");
        let (kind, blobs): (_, Vec<BlobRef>) = match &self.node {
            Node::Artifact(artifact) => ("unit", artifact.files.iter().map(|file| file.blob).collect()),
            Node::Names(_) => ("names", Vec::new()),
        };
        let node = NewNode { key: self.key, kind, label: &self.label, blobs: &blobs, nodes: &[], payload: &payload };
        lease.put_node(&node)
    }
}

/// Reads the record `key` from a NAR, and puts its files beside the store: whether the NAR is the one that was signed is
/// known when all of it was read. All of `nar` is read.
pub fn unpack(lease: &Lease, key: &Key, nar: &mut dyn Read) -> Result<Unpacked, UnpackError> {
    let mut staged = StagedBlobs::default();
    let mut reader = Reader { key: *key, nar: NarReader::new(nar, NarLimits::default()) };
    reader.begin_directory("")?;
    let Some(name) = reader.entry("")?.filter(|name| name == NAME) else {
        return Err(UnpackError::Manifest { key: *key, source: None });
    };
    let manifest = reader.manifest(&name)?;
    match &manifest.node {
        Node::Names(_) => {}
        Node::Artifact(artifact) => {
            if !is_consistent(artifact) {
                return Err(UnpackError::Contradiction { key: *key });
            }
            match reader.entry("")? {
                Some(name) if name == FILES => reader.files(lease, &mut staged, &artifact.files)?,
                other => return Err(reader.other(other.as_deref().unwrap_or(FILES))),
            }
        }
    }
    if let Some(name) = reader.entry("")? {
        return Err(reader.other(&name));
    }
    reader.end()?;
    Ok(Unpacked { key: manifest.key, label: manifest.label, node: manifest.node, files: staged })
}

/// Whether the paths stay inside, and the digest that dependents are pinned to is that of the files.
fn is_consistent(artifact: &UnitArtifact) -> bool {
    let output = UnitArtifact::output_digest(
        artifact.hash,
        &artifact.files,
        &artifact.directories,
        &artifact.links,
        artifact.run.as_ref(),
    );
    artifact.is_well_formed() && output == artifact.output
}

struct Reader<'a> {
    key: Key,
    nar: NarReader<&'a mut dyn Read>,
}

impl Reader<'_> {
    fn other(&self, path: &str) -> UnpackError {
        UnpackError::Files { key: self.key, path: path.to_owned() }
    }

    fn nar(&self, source: NarError) -> UnpackError {
        UnpackError::Nar { key: self.key, source }
    }

    fn begin_directory(&mut self, path: &str) -> Result<(), UnpackError> {
        let key = self.key;
        match self.nar.next_event() {
            Ok(Some(Event::DirectoryStart)) => Ok(()),
            Ok(_) => Err(self.other(path)),
            Err(source) => Err(UnpackError::Nar { key, source }),
        }
    }

    /// The next name in the directory `path`; `None` at its end.
    fn entry(&mut self, path: &str) -> Result<Option<String>, UnpackError> {
        let key = self.key;
        match self.nar.next_event() {
            Ok(Some(Event::Entry { name })) => match std::str::from_utf8(name) {
                Ok(name) => Ok(Some(name.to_owned())),
                Err(_) => Err(UnpackError::Files { key, path: String::from_utf8_lossy(name).into_owned() }),
            },
            Ok(Some(Event::DirectoryEnd)) => Ok(None),
            Ok(_) => Err(self.other(path)),
            Err(source) => Err(UnpackError::Nar { key, source }),
        }
    }

    fn manifest(&mut self, name: &str) -> Result<Manifest, UnpackError> {
        let key = self.key;
        let event = self.nar.next_event().map_err(|source| UnpackError::Nar { key, source })?;
        let Some(Event::Regular { executable: false, size, mut contents, .. }) = event else {
            return Err(self.other(name));
        };
        let manifest: Manifest = document::read(size, &mut contents).map_err(|error| match error {
            DocumentError::TooLarge(source) => UnpackError::TooLarge { key, source },
            DocumentError::Json(source) => UnpackError::Manifest { key, source: Some(source) },
        })?;
        if manifest.schema != SCHEMA {
            return Err(UnpackError::Manifest { key, source: None });
        }
        if manifest.key != key {
            return Err(UnpackError::OtherKey { key, found: manifest.key });
        }
        Ok(manifest)
    }

    /// Reads the tree of files, which must be those of the manifest, each exactly once.
    fn files(&mut self, lease: &Lease, staged: &mut StagedBlobs, files: &[ArtifactFile]) -> Result<(), UnpackError> {
        let mut expected: BTreeMap<&str, BlobRef> = files.iter().map(|file| (file.path.as_str(), file.blob)).collect();
        self.begin_directory(FILES)?;
        let mut open: Vec<String> = Vec::new();
        loop {
            let Some(name) = self.entry(FILES)? else {
                match open.pop() {
                    Some(_) => continue,
                    None => break,
                }
            };
            let path = open.iter().map(String::as_str).chain([name.as_str()]).collect::<Vec<_>>().join("/");
            let key = self.key;
            match self.nar.next_event().map_err(|source| UnpackError::Nar { key, source })? {
                Some(Event::DirectoryStart) => open.push(name),
                Some(Event::Regular { executable, size, mut contents, .. }) => {
                    let blob = expected.remove(path.as_str());
                    let Some(blob) = blob.filter(|blob| blob.executable == executable && blob.size == size) else {
                        return Err(self.other(&path));
                    };
                    let read = lease.stage_stream(staged, &blob, &mut contents);
                    read.map_err(|source| UnpackError::Content { key, source })?;
                }
                _ => return Err(self.other(&path)),
            }
        }
        match expected.into_keys().next() {
            Some(missing) => Err(self.other(missing)),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), UnpackError> {
        match self.nar.next_event() {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(self.other("")),
            Err(source) => Err(self.nar(source)),
        }
    }
}
