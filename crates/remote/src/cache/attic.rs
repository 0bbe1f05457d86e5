//! `attic://`: read like any other server, written through the API of Attic.
//!
//! ```text
//! POST _api/v1/get-missing-paths   {"cache", "store_path_hashes": ["<hash>", …]} → {"missing_paths": ["<hash>", …]}
//! PUT  _api/v1/upload-path         the NAR itself, with its description in JSON
//!                                  → {"kind": "uploaded" | "deduplicated", …}
//! ```
//!
//! The description is the header `X-Attic-Nar-Info`, or, where it is long, the beginning of the body, whose length the
//! header `X-Attic-Nar-Info-Preamble-Size` says. The sources are Attic's own client and server. The server hashes what
//! it gets, compresses it as it likes, and signs it with its own key when it is fetched: what counts for a reader is
//! that key. It keeps our signatures and doesn't show them.
//!
//! Attic replaces what is there, so it is asked once more right before: first writer wins.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nixcache_core::nix::{CacheInfo, NarInfo, NarUrl, StorePath, StorePathHash};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::http::{Request, Upload, to_json};
use super::{Cache, Http, NarPieces, PackedPath, StandardCache, Stored, WritableCache};
use crate::cache_url::CacheUrl;
use crate::error::CacheError;

/// A longer description than this goes into the body, as Attic's client does it: servers bound their headers.
const HEADER: usize = 4 * 1024;

/// The largest answer that is read, besides lists of paths.
const ANSWER: usize = 64 * 1024;

/// Bytes in a list for one path.
const BYTES_A_PATH: usize = 48;

/// A cache at a server of Attic.
pub(crate) struct Attic {
    name: String,
    reading: StandardCache<Http>,
    api: Http,
}

#[derive(Serialize)]
struct MissingQuestion<'a> {
    cache: &'a str,
    store_path_hashes: Vec<String>,
}

#[derive(Deserialize)]
struct MissingAnswer {
    missing_paths: Vec<String>,
}

/// What the server is told of a NAR.
#[derive(Serialize)]
struct Description<'a> {
    cache: &'a str,
    store_path_hash: String,
    store_path: String,
    /// Names without the store directory. The server signs them in this order, which must be the sorted one.
    references: Vec<String>,
    system: Option<&'a str>,
    deriver: Option<&'a str>,
    sigs: Vec<String>,
    ca: Option<String>,
    nar_hash: String,
    nar_size: u64,
}

#[derive(Deserialize)]
struct UploadAnswer {
    #[expect(dead_code, reason = "that it is there is what tells an answer of Attic from any other page")]
    kind: serde_json::Value,
}

impl<'a> Description<'a> {
    fn new(cache: &'a str, narinfo: &NarInfo) -> Self {
        Self {
            cache,
            store_path_hash: narinfo.store_path.hash().to_string(),
            store_path: narinfo.store_path.to_string(),
            references: narinfo.references.iter().map(StorePath::base_name).collect(),
            system: None,
            deriver: None,
            sigs: narinfo.signatures.iter().map(ToString::to_string).collect(),
            ca: narinfo.content_address.as_ref().map(ToString::to_string),
            nar_hash: format!("sha256:{}", narinfo.nar_hash.to_hex()),
            nar_size: narinfo.nar_size,
        }
    }
}

impl Attic {
    pub(crate) fn new(name: String, reading: StandardCache<Http>, api: Http) -> Self {
        Self { name, reading, api }
    }

    async fn ask_missing(&self, hashes: &[StorePathHash]) -> Result<Vec<StorePathHash>, CacheError> {
        let store_path_hashes = hashes.iter().map(StorePathHash::to_string).collect();
        let question = MissingQuestion { cache: &self.name, store_path_hashes };
        let response = self.api.post_json(self.api.url("get-missing-paths")?, Some(&question)).await?;
        let limit = ANSWER + hashes.len() * BYTES_A_PATH;
        let answer: MissingAnswer = self.api.read_json(response, limit, &self.reading.url().to_string()).await?;
        Ok(hashes.iter().filter(|hash| answer.missing_paths.contains(&hash.to_string())).copied().collect())
    }

    async fn store_path(&self, path: &PackedPath, moved: &(dyn Fn(u64) + Send + Sync)) -> Result<Stored, CacheError> {
        // Another may have stored it since all were asked for.
        if self.ask_missing(&[*path.narinfo.store_path.hash()]).await?.is_empty() {
            return Ok(Stored::AlreadyThere);
        }
        moved(0);
        let description = to_json(&Description::new(&self.name, &path.narinfo));
        let mut request = Request::new(Method::PUT, self.api.url("upload-path")?);
        let before = if description.len() <= HEADER {
            let value = HeaderValue::from_maybe_shared(description).expect("names in JSON are plain characters");
            request.headers.push(("x-attic-nar-info", value));
            Bytes::new()
        } else {
            request.headers.push(("x-attic-nar-info-preamble-size", HeaderValue::from(description.len())));
            description
        };
        // What is packed here is packed with zstd.
        let (path, size) = (path.file.to_path_buf(), path.narinfo.nar_size);
        request.upload = Some(Upload::Decompressed { before, path, size });
        let response = self.api.send_moving(&request, moved).await?;
        self.api.check(&response)?;
        let _: UploadAnswer = self.api.read_json(response, ANSWER, &self.reading.url().to_string()).await?;
        Ok(Stored::New)
    }
}

impl Cache for Attic {
    fn url(&self) -> &CacheUrl {
        self.reading.url()
    }

    fn info(&self) -> BoxFuture<'_, Result<Option<CacheInfo>, CacheError>> {
        self.reading.info()
    }

    fn narinfo<'a>(&'a self, hash: &'a StorePathHash) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>> {
        self.reading.narinfo(hash)
    }

    fn nar<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarPieces>, CacheError>> {
        self.reading.nar(url)
    }
}

impl WritableCache for Attic {
    fn missing<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
    ) -> BoxFuture<'a, Result<Option<Vec<StorePathHash>>, CacheError>> {
        Box::pin(async move { self.ask_missing(hashes).await.map(Some) })
    }

    fn has<'a>(&'a self, hash: &'a StorePathHash) -> BoxFuture<'a, Result<bool, CacheError>> {
        Box::pin(async move { Ok(self.ask_missing(&[*hash]).await?.is_empty()) })
    }

    fn tells_what_is_sent(&self) -> bool {
        true
    }

    fn store<'a>(
        &'a self,
        path: &'a PackedPath,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Stored, CacheError>> {
        Box::pin(self.store_path(path, moved))
    }
}
