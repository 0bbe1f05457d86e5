//! The layout that most caches share: files with fixed names, wherever they are kept.
//!
//! ```text
//! nix-cache-info
//! <hash of the store path>.narinfo
//! nar/<hash of the file>.nar.zst
//! ```
//!
//! A narinfo is written last, so that what is visible is whole.

use std::path::Path;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nixcache_core::nix::{CacheInfo, NarUrl, StoreDirectory, StorePathHash, cache_info, nar, narinfo};
use tokio::sync::OnceCell;

use super::{Cache, ManyNarInfos, NarPieces, PackedPath, Stored, StoredFile, WritableCache};
use crate::cache_url::CacheUrl;
use crate::error::CacheError;

/// The file that says what a cache is.
const INFO: &str = "nix-cache-info";

/// What we write there: a little before the caches of others (Nix's own is 40), so that the nearer one is asked first.
const OUR_PRIORITY: u32 = 30;

/// Files with names, somewhere. Names are relative, of plain characters, with `/` between directories.
pub(crate) trait Files: Send + Sync {
    /// A small file, whole.
    fn get<'a>(&'a self, name: &'a str, limit: usize) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>>;

    /// A large file, in pieces. `url` is what a narinfo says.
    fn open<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarPieces>, CacheError>>;

    /// Whether a file is there, and its size if that can be known.
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Option<u64>>, CacheError>>;

    /// Those of many paths that have no narinfo, in one request; `None` if this kind of place can't say.
    fn missing_of<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
    ) -> BoxFuture<'a, Result<Option<Vec<StorePathHash>>, CacheError>> {
        let _ = hashes;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The narinfos of many paths; `None` if this kind of place can't be asked like that.
    fn narinfos_of<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Option<ManyNarInfos>, CacheError>> {
        let _ = (hashes, moved);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Makes a small file. False if there is one already, as far as this kind of place can tell; then it stays.
    fn create<'a>(
        &'a self,
        name: &'a str,
        bytes: Bytes,
        media_type: &'static str,
    ) -> BoxFuture<'a, Result<bool, CacheError>>;

    /// Whether making a large file tells of what was sent while it is being sent.
    fn tells_what_is_sent(&self) -> bool {
        false
    }

    /// Makes or replaces a large file.
    fn upload<'a>(
        &'a self,
        name: &'a str,
        file: &'a Path,
        size: u64,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), CacheError>>;
}

/// A cache of this layout.
pub(crate) struct StandardCache<F> {
    url: CacheUrl,
    files: F,
    /// Whether `nix-cache-info` is known to be there.
    described: OnceCell<()>,
}

impl<F: Files> StandardCache<F> {
    pub(crate) fn new(url: CacheUrl, files: F) -> Self {
        Self { url, files, described: OnceCell::new() }
    }

    async fn read_info(&self) -> Result<Option<CacheInfo>, CacheError> {
        let Some(bytes) = self.files.get(INFO, cache_info::SIZE_LIMIT).await? else { return Ok(None) };
        CacheInfo::parse(&bytes).map(Some).map_err(|source| CacheError::Info { source })
    }

    /// A directory or bucket without `nix-cache-info` becomes a cache with the first path.
    async fn describe(&self) -> Result<(), CacheError> {
        match self.read_info().await? {
            Some(info) if !info.store_directory.is_default() => {
                Err(CacheError::StoreDirectory { directory: info.store_directory })
            }
            Some(_) => Ok(()),
            None => {
                let info = CacheInfo {
                    store_directory: StoreDirectory::default(),
                    want_mass_query: true,
                    priority: Some(OUR_PRIORITY),
                };
                let bytes = Bytes::from(info.to_string());
                self.files.create(INFO, bytes, cache_info::MEDIA_TYPE).await.map(|_| ())
            }
        }
    }

    async fn store_path(&self, path: &PackedPath, moved: &(dyn Fn(u64) + Send + Sync)) -> Result<Stored, CacheError> {
        self.described.get_or_try_init(|| self.describe()).await?;
        moved(0);
        let name = narinfo_name(path.narinfo.store_path.hash());
        // Another may have stored it since all were asked for.
        if self.files.look(&name).await?.is_some() {
            return Ok(Stored::AlreadyThere);
        }
        moved(0);
        let nar = path.narinfo.url.as_str();
        // The name is the hash of the content, so a file of the right size is the right one; another size is left
        // of an upload that broke.
        let there = self.files.look(nar).await?;
        moved(0);
        if !matches!(there, Some(None)) && there != Some(Some(path.file_size)) {
            self.files.upload(nar, &path.file, path.file_size, moved).await?;
        }
        moved(0);
        let text = Bytes::from(path.narinfo.to_string());
        match self.files.create(&name, text, narinfo::MEDIA_TYPE).await? {
            true => Ok(Stored::New),
            false => Ok(Stored::AlreadyThere),
        }
    }
}

fn narinfo_name(hash: &StorePathHash) -> String {
    format!("{hash}.narinfo")
}

impl<F: Files> Cache for StandardCache<F> {
    fn url(&self) -> &CacheUrl {
        &self.url
    }

    fn info(&self) -> BoxFuture<'_, Result<Option<CacheInfo>, CacheError>> {
        Box::pin(self.read_info())
    }

    fn narinfo<'a>(&'a self, hash: &'a StorePathHash) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>> {
        Box::pin(async move {
            match self.files.get(&narinfo_name(hash), narinfo::SIZE_LIMIT).await {
                // Buckets whose files may not be listed say so of what isn't there. If nothing may be read, the
                // cache's description can't be either, and the cache is left out for that.
                Err(CacheError::Forbidden { .. }) => Ok(None),
                answer => answer,
            }
        })
    }

    fn narinfos<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Option<ManyNarInfos>, CacheError>> {
        self.files.narinfos_of(hashes, moved)
    }

    fn nar<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarPieces>, CacheError>> {
        self.files.open(url)
    }
}

impl<F: Files> WritableCache for StandardCache<F> {
    fn missing<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
    ) -> BoxFuture<'a, Result<Option<Vec<StorePathHash>>, CacheError>> {
        self.files.missing_of(hashes)
    }

    fn has<'a>(&'a self, hash: &'a StorePathHash) -> BoxFuture<'a, Result<bool, CacheError>> {
        Box::pin(async move { Ok(self.files.look(&narinfo_name(hash)).await?.is_some()) })
    }

    fn tells_what_is_sent(&self) -> bool {
        self.files.tells_what_is_sent()
    }

    fn store<'a>(
        &'a self,
        path: &'a PackedPath,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Stored, CacheError>> {
        Box::pin(self.store_path(path, moved))
    }

    fn store_file<'a>(
        &'a self,
        name: &'a str,
        bytes: Bytes,
        media_type: &'static str,
    ) -> BoxFuture<'a, Result<StoredFile, CacheError>> {
        Box::pin(async move {
            let there = |there: Option<Bytes>| match there {
                Some(there) if there == bytes => Some(StoredFile::Same),
                Some(_) => Some(StoredFile::Other),
                None => None,
            };
            // A larger file of this name is another one.
            let read = async || match self.files.get(name, bytes.len()).await {
                Err(CacheError::TooLarge { .. }) => Ok(Some(StoredFile::Other)),
                // Buckets whose files may not be listed say so of what isn't there.
                Err(CacheError::Forbidden { .. }) => Ok(None),
                answer => answer.map(there),
            };
            if let Some(found) = read().await? {
                return Ok(found);
            }
            match self.files.create(name, bytes.clone(), media_type).await {
                Ok(true) => Ok(StoredFile::New),
                // Another was first.
                Ok(false) => Ok(read().await?.unwrap_or(StoredFile::Other)),
                // A server of another kind, which takes store paths and nothing else.
                Err(CacheError::Status { status: 400 | 404 | 405 | 501, .. }) => Ok(StoredFile::Unsupported),
                Err(error) => Err(error),
            }
        })
    }
}

/// The name of a NAR where only plain relative names lead somewhere: not out of the cache, and not elsewhere.
pub(super) fn plain_name(url: &NarUrl) -> Result<&str, CacheError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.starts_with('.');
    let bytes_allowed = url.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+=".contains(&byte));
    if bytes_allowed && url.as_str().split('/').all(plain) {
        Ok(url.as_str())
    } else {
        Err(CacheError::Outside { url: url.clone() })
    }
}

/// The media type of every NAR, compressed or not.
pub(super) const NAR_MEDIA_TYPE: &str = nar::MEDIA_TYPE;
