//! What a cache can do, whatever it is. Each kind has a room of its own.
//!
//! A cache moves files and nothing else: it believes nothing and verifies nothing. It waits for as long as its kind
//! has to; who asks it ([`crate::set`]) says when that is too long.

mod again;
mod attic;
mod cachix;
mod directory;
mod http;
mod layout;
mod s3;

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use nixcache_core::nix::{CacheInfo, NarInfo, NarUrl, StorePathHash};
use tempfile::TempPath;

use crate::cache_url::CacheUrl;
use crate::error::CacheError;

pub(crate) use attic::Attic;
pub(crate) use cachix::Cachix;
pub(crate) use directory::Directory;
pub(crate) use http::{Http, Request};
pub(crate) use layout::{Files, StandardCache};
pub(crate) use s3::S3;

/// A cache that can be read. A miss is `Ok(None)`.
pub trait Cache: Send + Sync {
    /// Where it is.
    fn url(&self) -> &CacheUrl;

    /// What it says of itself; `None` if it says nothing.
    fn info(&self) -> BoxFuture<'_, Result<Option<CacheInfo>, CacheError>>;

    /// The bytes of the narinfo of a path. Nobody has looked at them.
    fn narinfo<'a>(&'a self, hash: &'a StorePathHash) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>>;

    /// The bytes of the narinfos of many paths, in few requests. `None` if this cache isn't asked like that, so that
    /// nothing was sent. A path that isn't in the answer has to be asked for by itself. Tells `moved` the number of bytes as they come.
    fn narinfos<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Option<ManyNarInfos>, CacheError>> {
        let _ = (hashes, moved);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The file that a narinfo of this cache leads to, as it is stored: compressed.
    fn nar<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarPieces>, CacheError>>;
}

/// A cache that can be written too. First writer wins: what is there is never replaced.
pub trait WritableCache: Cache {
    /// Those of `hashes` that it doesn't have, in one request. `None` if this cache can't be asked like that.
    fn missing<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
    ) -> BoxFuture<'a, Result<Option<Vec<StorePathHash>>, CacheError>>;

    /// Whether it has a path.
    fn has<'a>(&'a self, hash: &'a StorePathHash) -> BoxFuture<'a, Result<bool, CacheError>>;

    /// Whether storing a path tells of what was sent while it is being sent, and not only when a large part is through.
    fn tells_what_is_sent(&self) -> bool {
        false
    }

    /// Stores a path: its NAR first, what makes it visible last. Tells `moved` the number of bytes as they are sent,
    /// and 0 when something else got ahead.
    fn store<'a>(
        &'a self,
        path: &'a PackedPath,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Stored, CacheError>>;

    /// Stores a small file beside the store paths, for clients that know its name and nothing of Nix. A file that is
    /// there stays. Not every kind of cache has such files.
    fn store_file<'a>(
        &'a self,
        name: &'a str,
        bytes: Bytes,
        media_type: &'static str,
    ) -> BoxFuture<'a, Result<StoredFile, CacheError>> {
        let _ = (name, bytes, media_type);
        Box::pin(std::future::ready(Ok(StoredFile::Unsupported)))
    }
}

/// What came of storing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredFile {
    /// It is there now, by us.
    New,
    /// The very same was there.
    Same,
    /// Another file of this name is there, and stays.
    Other,
    /// This cache has no such files.
    Unsupported,
}

/// What a cache says of many paths: the bytes of their narinfos, or that it has none.
pub type ManyNarInfos = HashMap<StorePathHash, Option<Bytes>>;

/// The file with a NAR, on its way here in pieces.
pub type NarPieces = BoxStream<'static, Result<Bytes, CacheError>>;

/// What came of storing a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is there now, by us.
    New,
    /// Another was first.
    AlreadyThere,
}

/// A path that is ready to be stored.
#[derive(Debug)]
pub struct PackedPath {
    /// What it is, signed. Its URL is the file's by convention.
    pub narinfo: NarInfo,
    /// The compressed NAR. Removed when this goes.
    pub file: TempPath,
    /// The length of the file in bytes.
    pub file_size: u64,
}
