//! NAR listings: the `.ls` files beside narinfo files, from which tools show what a path holds without fetching it.
//!
//! JSON, version 1, as Nix 2 writes it: `{"version":1,"root":{"type":"directory","entries":{…}}}`. Only written.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Serialize;

use super::nar::{Event, NarError, NarReader};

/// The version of the format.
const VERSION: u32 = 1;

/// Why an archive can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The archive is not one that we take.
    #[error("list a NAR")]
    Archive {
        /// What is wrong.
        #[source]
        source: NarError,
    },
    /// JSON has no way to write a name or target that is not UTF-8.
    #[error("list a NAR: {text:?} is not UTF-8")]
    NotText {
        /// The name or target, as far as it is.
        text: String,
    },
}

/// What a NAR holds, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    version: u32,
    root: ListingNode,
}

/// A file, link or directory in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ListingNode {
    /// A file.
    Regular {
        /// Its length in bytes.
        size: u64,
        /// Whether it may be executed.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
        /// Where in the NAR its contents begin.
        #[serde(rename = "narOffset")]
        nar_offset: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points to.
        target: String,
    },
    /// A directory.
    Directory {
        /// What is in it, by name.
        entries: BTreeMap<String, ListingNode>,
    },
}

impl Listing {
    /// Reads an archive to its end, and lists it.
    pub fn read<R: Read>(reader: &mut NarReader<R>) -> Result<Self, ListingError> {
        let mut open: Vec<(String, BTreeMap<String, ListingNode>)> = Vec::new();
        let mut name = String::new();
        let mut root = None;
        while let Some(event) = reader.next_event().map_err(|source| ListingError::Archive { source })? {
            let node = match event {
                Event::Entry { name: bytes } => {
                    name = text(bytes)?;
                    continue;
                }
                Event::DirectoryStart => {
                    open.push((std::mem::take(&mut name), BTreeMap::new()));
                    continue;
                }
                Event::DirectoryEnd => {
                    let (own_name, entries) = open.pop().expect("the reader ends only directories that it began");
                    name = own_name;
                    ListingNode::Directory { entries }
                }
                Event::Symlink { target } => ListingNode::Symlink { target: text(target)? },
                Event::Regular { executable, size, offset, .. } => {
                    ListingNode::Regular { size, executable, nar_offset: offset }
                }
            };
            match open.last_mut() {
                Some((_, entries)) => {
                    entries.insert(std::mem::take(&mut name), node);
                }
                None => root = Some(node),
            }
        }
        let root = root.expect("the reader ends without error only after a node");
        Ok(Self { version: VERSION, root })
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names are texts, and numbers are whole")
    }

    /// The outermost node.
    pub fn root(&self) -> &ListingNode {
        &self.root
    }
}

fn text(bytes: &[u8]) -> Result<String, ListingError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(ListingError::NotText { text: String::from_utf8_lossy(bytes).into_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::nar::{NarLimits, NarWriter};
    use super::*;

    fn list(write: impl FnOnce(&mut NarWriter<Vec<u8>>)) -> Result<Listing, ListingError> {
        let mut writer = NarWriter::new(Vec::new());
        write(&mut writer);
        let bytes = writer.finish().unwrap();
        Listing::read(&mut NarReader::new(&bytes[..], NarLimits::default()))
    }

    #[test]
    fn a_tree_is_listed_as_nix_lists_it() {
        let listing = list(|writer| {
            writer.begin_directory().unwrap();
            writer.entry(b"a.txt").unwrap();
            writer.regular_bytes(false, b"hello\n").unwrap();
            writer.entry(b"run").unwrap();
            writer.regular_bytes(true, b"#!/bin/sh\necho hi\n").unwrap();
            writer.entry(b"sub").unwrap();
            writer.begin_directory().unwrap();
            writer.entry(b"link").unwrap();
            writer.symlink(b"../a.txt").unwrap();
            writer.end_directory().unwrap();
            writer.end_directory().unwrap();
        });
        assert_eq!(
            listing.unwrap().to_json(),
            r#"{"version":1,"root":{"type":"directory","entries":{"#.to_owned()
                + r#""a.txt":{"type":"regular","size":6,"narOffset":232},"#
                + r#""run":{"type":"regular","size":18,"executable":true,"narOffset":456},"#
                + r#""sub":{"type":"directory","entries":{"link":{"type":"symlink","target":"../a.txt"}}}}}}"#
        );
    }

    #[test]
    fn a_file_alone_is_listed() {
        let listing = list(|writer| writer.regular_bytes(false, b"hello\n").unwrap()).unwrap();
        assert_eq!(listing.root(), &ListingNode::Regular { size: 6, executable: false, nar_offset: 96 });
    }

    #[test]
    fn names_that_are_no_text_are_refused() {
        let listing = list(|writer| {
            writer.begin_directory().unwrap();
            writer.entry(b"\xff").unwrap();
            writer.symlink(b"x").unwrap();
            writer.end_directory().unwrap();
        });
        assert!(matches!(listing, Err(ListingError::NotText { .. })));
    }
}
