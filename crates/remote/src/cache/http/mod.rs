//! `http://` and `https://`: a cache behind a server, read as Nix reads it and written as `nix copy` writes it.

mod body;
mod bulk;
mod json;
mod request;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use nixcache_core::nix::{NarUrl, StorePathHash};
use reqwest::header::HeaderValue;
use reqwest::{Method, Response, StatusCode};
use url::Url;

use self::body::Resumable;
pub(crate) use self::json::to_json;
pub(crate) use self::request::Request;
pub(super) use self::request::Upload;
use super::layout::{Files, NAR_MEDIA_TYPE};
use super::{ManyNarInfos, NarPieces};
use crate::error::CacheError;
use crate::network::NetworkOptions;

/// The files below a URL.
#[derive(Clone)]
pub(crate) struct Http {
    /// Ends in a slash.
    base: Url,
    /// For the origin of `base` alone.
    authorization: Option<HeaderValue>,
    client: reqwest::Client,
    options: NetworkOptions,
    /// Whether the server answers questions about many paths. Unknown until it was asked one.
    bulk: Arc<OnceLock<bool>>,
}

/// An address as it may be shown: without user, password and query, which can hold a token.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs without a host can't be changed like this, and those hold neither.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.into()
}

impl Http {
    pub(crate) fn new(
        base: Url,
        authorization: Option<HeaderValue>,
        client: reqwest::Client,
        options: NetworkOptions,
    ) -> Self {
        Self { base, authorization, client, options, bulk: Arc::default() }
    }

    /// The same for a hosted cache, whose interface is known: it is never asked about many paths at once.
    pub(crate) fn one_by_one(self) -> Self {
        let _ = self.bulk.set(false);
        self
    }

    pub(crate) fn url(&self, name: &str) -> Result<Url, CacheError> {
        let outside = || CacheError::Redirect { address: shown(&self.base), reason: "it leads nowhere" };
        let url = self.base.join(name).map_err(|_| outside())?;
        let safe = match url.scheme() {
            "https" => true,
            // From a cache over TLS nothing leads to one without.
            "http" => self.base.scheme() == "http",
            _ => false,
        };
        if safe { Ok(url) } else { Err(outside()) }
    }

    pub(crate) async fn whole(&self, response: Response, limit: usize) -> Result<Bytes, CacheError> {
        self.whole_moving(response, limit, &|_| ()).await
    }

    /// The same, and tells of the bytes that came.
    async fn whole_moving(
        &self,
        response: Response,
        limit: usize,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Bytes, CacheError> {
        let url = response.url().clone();
        plain_encoding(&response)?;
        let too_large = || CacheError::TooLarge { address: shown(&url), limit: limit as u64 };
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut response = response;
        let mut bytes = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| request::broken(&url, error))? {
            if bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            moved(piece.len() as u64);
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }
}

/// Encodings were not asked for, and a NAR is compressed already.
fn plain_encoding(response: &Response) -> Result<(), CacheError> {
    match response.headers().get(reqwest::header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(CacheError::Encoding {
            address: shown(response.url()),
            encoding: String::from_utf8_lossy(encoding.as_bytes()).chars().take(40).collect(),
        }),
        _ => Ok(()),
    }
}

fn is_missing(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

impl Files for Http {
    fn get<'a>(&'a self, name: &'a str, limit: usize) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>> {
        Box::pin(async move {
            let url = self.url(name)?;
            let mut attempts = self.options.attempts;
            loop {
                attempts -= 1;
                let response = self.send(&Request::new(Method::GET, url.clone())).await?;
                if is_missing(response.status()) {
                    return Ok(None);
                }
                self.check(&response)?;
                match self.whole(response, limit).await {
                    Err(CacheError::Broken { .. }) if attempts > 0 => {}
                    bytes => return bytes.map(Some),
                }
            }
        })
    }

    fn open<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarPieces>, CacheError>> {
        Box::pin(async move {
            // Relative or absolute, as narinfos of hosted caches have it. The credential stays here in any case.
            let url = self.url(url.as_str())?;
            let response = self.send(&Request::new(Method::GET, url.clone())).await?;
            if is_missing(response.status()) {
                return Ok(None);
            }
            self.check(&response)?;
            plain_encoding(&response)?;
            Ok(Some(Resumable::new(self.clone(), url, response).into_pieces()))
        })
    }

    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Option<u64>>, CacheError>> {
        Box::pin(async move {
            let response = self.send(&Request::new(Method::HEAD, self.url(name)?)).await?;
            // A server that may be written to says 403 of what it doesn't show, as it does to readers.
            if is_missing(response.status()) || response.status() == StatusCode::FORBIDDEN {
                return Ok(None);
            }
            self.check(&response)?;
            // Not `content_length()`, which is that of the body: a HEAD has none.
            let length = response.headers().get(reqwest::header::CONTENT_LENGTH);
            Ok(Some(length.and_then(|length| length.to_str().ok()?.parse().ok())))
        })
    }

    fn missing_of<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
    ) -> BoxFuture<'a, Result<Option<Vec<StorePathHash>>, CacheError>> {
        Box::pin(self.ask_missing(hashes))
    }

    fn narinfos_of<'a>(
        &'a self,
        hashes: &'a [StorePathHash],
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<Option<ManyNarInfos>, CacheError>> {
        Box::pin(self.ask_narinfos(hashes, moved))
    }

    fn create<'a>(
        &'a self,
        name: &'a str,
        bytes: Bytes,
        media_type: &'static str,
    ) -> BoxFuture<'a, Result<bool, CacheError>> {
        Box::pin(async move {
            let mut request = Request::new(Method::PUT, self.url(name)?);
            request.upload = Some(Upload::Bytes(bytes));
            request.media_type = Some(media_type);
            request.only_if_missing = true;
            let response = self.send(&request).await?;
            // 409 is what a server says that keeps what it has; 412 one that looked at our condition.
            if matches!(response.status(), StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT) {
                return Ok(false);
            }
            self.check(&response).map(|()| true)
        })
    }

    fn tells_what_is_sent(&self) -> bool {
        true
    }

    fn upload<'a>(
        &'a self,
        name: &'a str,
        file: &'a Path,
        size: u64,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(async move {
            let mut request = Request::new(Method::PUT, self.url(name)?);
            request.upload = Some(Upload::File { path: file.to_owned(), size });
            request.media_type = Some(NAR_MEDIA_TYPE);
            let response = self.send_moving(&request, moved).await?;
            self.check(&response)
        })
    }
}
