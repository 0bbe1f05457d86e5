//! `cachix://`: read like any other server, written through the API of Cachix.
//!
//! ```text
//! POST cache/<name>/narinfo                                    ["<hash>", …] → the missing ones
//! POST cache/<name>/multipart-nar?compression=zst              → {narId, uploadId}
//! POST cache/<name>/multipart-nar/<narId>?uploadId&partNumber  {contentMD5} → {uploadUrl}; the part is PUT there
//! POST cache/<name>/multipart-nar/<narId>/complete?uploadId    {parts, narInfoCreate}
//! POST cache/<name>/multipart-nar/<narId>/abort?uploadId       when something went wrong
//! ```
//!
//! The source is Cachix's own client. The parts go to a bucket under signed URLs, which never see the token. Nothing
//! is visible before `complete`, and what is there is not replaced.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use md5::{Digest as _, Md5};
use nixcache_core::nix::{CacheInfo, NarInfo, NarUrl, StorePath, StorePathHash};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::http::{Request, Upload};
use super::{Cache, Http, NarPieces, PackedPath, StandardCache, Stored, WritableCache};
use crate::cache_url::CacheUrl;
use crate::error::CacheError;

/// How much goes in one part. They have 5 MiB or more, but for the last.
const PART: u64 = 16 << 20;

/// The largest answer that is read, besides lists of paths.
const ANSWER: usize = 64 * 1024;

/// Bytes in a list for one path.
const BYTES_A_PATH: usize = 48;

/// A cache at Cachix.
pub(crate) struct Cachix {
    name: String,
    reading: StandardCache<Http>,
    api: Http,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    nar_id: String,
    upload_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartQuestion<'a> {
    #[serde(rename = "contentMD5")]
    content_md5: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartAnswer {
    upload_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    part_number: u32,
    e_tag: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Complete<'a> {
    parts: Vec<Part>,
    nar_info_create: NarInfoCreate<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NarInfoCreate<'a> {
    c_store_hash: String,
    c_store_suffix: &'a str,
    c_nar_hash: String,
    c_nar_size: u64,
    c_file_hash: String,
    c_file_size: u64,
    c_references: Vec<String>,
    c_deriver: &'static str,
    c_sig: Option<String>,
}

impl<'a> NarInfoCreate<'a> {
    fn new(narinfo: &'a NarInfo, file_size: u64) -> Self {
        Self {
            c_store_hash: narinfo.store_path.hash().to_string(),
            c_store_suffix: narinfo.store_path.name().as_str(),
            c_nar_hash: narinfo.nar_hash.to_string(),
            c_nar_size: narinfo.nar_size,
            c_file_hash: narinfo.file_hash.as_ref().map(|hash| hash.to_hex()).unwrap_or_default(),
            c_file_size: file_size,
            c_references: narinfo.references.iter().map(StorePath::base_name).collect(),
            c_deriver: "unknown-deriver",
            // Without one, Cachix signs with the key of the cache.
            c_sig: narinfo.signatures.first().map(|signature| BASE64.encode(signature.as_bytes())),
        }
    }
}

impl Cachix {
    pub(crate) fn new(name: String, reading: StandardCache<Http>, api: Http) -> Self {
        Self { name, reading, api }
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, CacheError> {
        let mut url = self.api.url("cache/")?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&self.name).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        url: Url,
        body: Option<&impl Serialize>,
        limit: usize,
    ) -> Result<T, CacheError> {
        let response = self.api.post_json(url, body).await?;
        self.api.read_json(response, limit, &self.name).await
    }

    async fn ask_missing(&self, hashes: &[StorePathHash]) -> Result<Vec<StorePathHash>, CacheError> {
        let asked: Vec<_> = hashes.iter().map(StorePathHash::to_string).collect();
        let limit = ANSWER + hashes.len() * BYTES_A_PATH;
        let missing: Vec<String> = self.ask(self.url(&["narinfo"], &[])?, Some(&asked), limit).await?;
        Ok(hashes.iter().filter(|hash| missing.contains(&hash.to_string())).copied().collect())
    }

    async fn store_path(&self, path: &PackedPath, moved: &(dyn Fn(u64) + Send + Sync)) -> Result<Stored, CacheError> {
        let begin = self.url(&["multipart-nar"], &[("compression", "zst")])?;
        let begun: Begun = self.ask(begin, None::<&()>, ANSWER).await?;
        moved(0);
        let stored = self.send_and_complete(path, &begun, moved).await;
        if stored.is_err() {
            let abort = self.url(&["multipart-nar", &begun.nar_id, "abort"], &[("uploadId", &begun.upload_id)])?;
            // If that fails too, the first error says more, and Cachix drops what is never completed.
            let _ = self.api.post_json(abort, None::<&()>).await;
        }
        stored
    }

    async fn send_and_complete(
        &self,
        path: &PackedPath,
        begun: &Begun,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Stored, CacheError> {
        let local = |source| CacheError::File { path: path.file.display().to_string(), source };
        let mut file = tokio::fs::File::open(&path.file).await.map_err(local)?;
        let mut parts = Vec::new();
        for part_number in 1.. {
            let mut bytes = Vec::new();
            (&mut file).take(PART).read_to_end(&mut bytes).await.map_err(local)?;
            if bytes.is_empty() {
                break;
            }
            let size = bytes.len() as u64;
            let e_tag = self.send_part(begun, part_number, bytes.into()).await?;
            moved(size);
            parts.push(Part { part_number, e_tag });
        }
        let complete = self.url(&["multipart-nar", &begun.nar_id, "complete"], &[("uploadId", &begun.upload_id)])?;
        let nar_info_create = NarInfoCreate::new(&path.narinfo, path.file_size);
        self.api.post_json(complete, Some(&Complete { parts, nar_info_create })).await?;
        Ok(Stored::New)
    }

    /// Sends a part to where Cachix says. The answer is its tag.
    async fn send_part(&self, begun: &Begun, number: u32, bytes: Bytes) -> Result<String, CacheError> {
        let md5 = BASE64.encode(Md5::digest(&bytes));
        let number = number.to_string();
        let query = [("uploadId", begun.upload_id.as_str()), ("partNumber", &number)];
        let place = self.url(&["multipart-nar", &begun.nar_id], &query)?;
        let answer: PartAnswer = self.ask(place, Some(&PartQuestion { content_md5: &md5 }), ANSWER).await?;
        let mut request = Request::new(Method::PUT, self.api.url(&answer.upload_url)?);
        request.upload = Some(Upload::Bytes(bytes));
        request.md5 = Some(md5);
        request.anonymous = true;
        let response = self.api.send(&request).await?;
        self.api.check(&response)?;
        let tag = response.headers().get(reqwest::header::ETAG).and_then(|tag| tag.to_str().ok());
        tag.map(str::to_owned).ok_or_else(|| CacheError::Tag { address: self.name.clone() })
    }
}

impl Cache for Cachix {
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

impl WritableCache for Cachix {
    fn missing<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
    ) -> BoxFuture<'a, Result<Option<Vec<StorePathHash>>, CacheError>> {
        Box::pin(async move { self.ask_missing(hashes).await.map(Some) })
    }

    fn has<'a>(&'a self, hash: &'a StorePathHash) -> BoxFuture<'a, Result<bool, CacheError>> {
        Box::pin(async move { Ok(self.ask_missing(&[*hash]).await?.is_empty()) })
    }

    fn store<'a>(
        &'a self,
        path: &'a PackedPath,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Stored, CacheError>> {
        Box::pin(self.store_path(path, moved))
    }
}
