//! What the servers of hosted caches share: JSON, queries, checks of what is uploaded, narinfos as they serve them.

use std::collections::BTreeMap;

use nixcache_core::nix::{
    Compression, ContentAddress, Listing, NarInfo, NarLimits, NarReader, SecretKey, Sha256, StorePath,
};
use serde_json::Value;

use crate::{Reply, Request};

/// A path as a hosted cache keeps it.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) path: StorePath,
    pub(crate) references: Vec<StorePath>,
    pub(crate) nar_hash: Sha256,
    pub(crate) nar_size: u64,
    /// The NAR, packed with zstd.
    pub(crate) file: Vec<u8>,
    /// What names its content. Attic shows what it was told; Cachix isn't told.
    pub(crate) content_address: Option<ContentAddress>,
}

impl Kept {
    /// Its narinfo, signed by `key`.
    pub(crate) fn narinfo(&self, url: &str, key: &SecretKey) -> NarInfo {
        let mut narinfo = NarInfo {
            store_path: self.path.clone(),
            url: url.parse().unwrap(),
            compression: Compression::Zstd,
            file_hash: Some(Sha256::of(&self.file)),
            file_size: Some(self.file.len() as u64),
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references: self.references.iter().cloned().collect(),
            deriver: None,
            signatures: Vec::new(),
            content_address: self.content_address.clone(),
        };
        narinfo.sign(key);
        narinfo
    }
}

/// Why something is refused.
pub(crate) type Refused = String;

/// An error unless it is so.
pub(crate) fn demand(is_so: bool, what: impl Into<String>) -> Result<(), Refused> {
    if is_so { Ok(()) } else { Err(what.into()) }
}

/// The object's fields, which must be these and no others.
pub(crate) fn fields<'a>(value: &'a Value, names: &[&str]) -> Result<&'a serde_json::Map<String, Value>, Refused> {
    let object = value.as_object().ok_or("not an object")?;
    let mut names = names.to_vec();
    names.sort_unstable();
    let mut found: Vec<_> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    demand(found == names, format!("fields {found:?}, not {names:?}"))?;
    Ok(object)
}

pub(crate) fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, Refused> {
    value.as_str().ok_or_else(|| format!("{what} is no text"))
}

/// The references in a list of names without the store directory, which must be sorted.
pub(crate) fn references(value: &Value) -> Result<Vec<StorePath>, Refused> {
    let names = value.as_array().ok_or("the references are no list")?;
    let names: Vec<&str> = names.iter().map(|name| text(name, "a reference")).collect::<Result<_, _>>()?;
    demand(names.is_sorted(), "the references are not sorted")?;
    names.iter().map(|name| StorePath::from_base_name(name).map_err(|error| error.to_string())).collect()
}

/// Whether it is a whole NAR with this hash and size.
pub(crate) fn check_nar(nar: &[u8], hash: Sha256, size: u64) -> Result<(), Refused> {
    demand(Sha256::of(nar) == hash && nar.len() as u64 == size, "Bad NAR Hash or Size")?;
    Listing::read(&mut NarReader::new(nar, NarLimits::default())).map(drop).map_err(|error| error.to_string())
}

/// The parameters of a request.
pub(crate) fn query(request: &Request) -> BTreeMap<String, String> {
    let pairs = request.target.split_once('?').map_or("", |(_, query)| query).split('&');
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace("%20", " ").replace('+', " "))).collect()
}

/// The path of a request.
pub(crate) fn path(request: &Request) -> &str {
    request.target.split('?').next().unwrap_or_default()
}

/// The JSON that was sent, which must be said to be such.
pub(crate) fn sent_json(request: &Request) -> Result<Value, Refused> {
    let kind = request.headers.get("content-type").map(String::as_str);
    demand(kind == Some("application/json"), format!("Content-Type {kind:?}"))?;
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}

/// An answer in JSON.
pub(crate) fn json_reply(status: u16, value: &Value) -> Reply {
    Reply::with(status, &[("Content-Type", "application/json")], value.to_string().as_bytes())
}
