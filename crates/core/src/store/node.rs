//! The format of a node file, and nothing else: bytes in, bytes out.
//!
//! ```text
//! cargo-nixcache node 1 <blake3 of all that follows this line, hexadecimal>\n
//! {"key":…,"kind":…,"label":…,"blobs":[…],"nodes":[…]}\n            JSON on one line
//! payload                                                           opaque, to the end
//! ```
//!
//! The key is inside, so that a file that got another's name is seen; the references are inside, so that
//! garbage collection needs to know no payload.

use serde::{Deserialize, Serialize};

use super::blob::BlobRef;
use crate::digest::{ContentDigest, Key};

const MAGIC: &str = "cargo-nixcache node 1 ";

/// Longer header lines are refused: a unit with a million files is none.
const HEADER_LIMIT: usize = 256 << 20;

/// A record to be kept.
#[derive(Clone, Copy, Debug)]
pub struct NewNode<'a> {
    /// Its key.
    pub key: Key,
    /// What sort of record it is, such as `unit`: statistics are by kind.
    pub kind: &'a str,
    /// How people name it, such as `serde 1.0.0 lib`.
    pub label: &'a str,
    /// The blobs that must stay as long as the node.
    pub blobs: &'a [BlobRef],
    /// The nodes that are used whenever this one is.
    pub nodes: &'a [Key],
    /// The record itself.
    pub payload: &'a [u8],
}

/// A record that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its key.
    pub key: Key,
    /// What sort of record it is.
    pub kind: String,
    /// How people name it.
    pub label: String,
    /// The blobs that it refers to.
    pub blobs: Vec<BlobRef>,
    /// The nodes that it refers to.
    pub nodes: Vec<Key>,
    /// The record itself.
    pub payload: Vec<u8>,
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    key: Key,
    kind: &'a str,
    label: &'a str,
    blobs: &'a [BlobRef],
    nodes: &'a [Key],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderIn {
    key: Key,
    kind: String,
    label: String,
    blobs: Vec<BlobRef>,
    nodes: Vec<Key>,
}

/// The bytes of a node's file.
pub(super) fn encode(node: &NewNode<'_>) -> Vec<u8> {
    let NewNode { key, kind, label, blobs, nodes, payload } = *node;
    let mut body = serde_json::to_vec(&HeaderOut { key, kind, label, blobs, nodes })
        .expect("a header holds only texts and numbers, which JSON can hold");
    body.push(b'\n');
    body.extend_from_slice(payload);
    let mut bytes = format!("{MAGIC}{}\n", ContentDigest::of(&body)).into_bytes();
    bytes.append(&mut body);
    bytes
}

/// The node in `bytes`, which are to be those of `key`. The error says what does not fit.
pub(super) fn decode(key: &Key, bytes: &[u8]) -> Result<Node, String> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or("it does not begin as a node")?;
    let (digest, body) = rest.split_at_checked(64).ok_or("it ends too early")?;
    let digest: ContentDigest =
        std::str::from_utf8(digest).ok().and_then(|digest| digest.parse().ok()).ok_or("it bears no digest")?;
    let body = body.strip_prefix(b"\n").ok_or("it bears no digest")?;
    if ContentDigest::of(body) != digest {
        return Err("its content is another".to_owned());
    }
    let end = memchr::memchr(b'\n', body).filter(|end| *end <= HEADER_LIMIT).ok_or("it has no header")?;
    let header: HeaderIn = serde_json::from_slice(&body[..end]).map_err(|error| format!("its header: {error}"))?;
    if header.key != *key {
        return Err(format!("it is the node {}", header.key));
    }
    let HeaderIn { key, kind, label, blobs, nodes } = header;
    Ok(Node { key, kind, label, blobs, nodes, payload: body[end + 1..].to_vec() })
}
