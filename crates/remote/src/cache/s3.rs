//! `s3://`: a cache in a bucket, with the same names that a directory has.
//!
//! Signatures, multipart uploads and repeated requests are those of the `object_store` crate; connections, proxies
//! and certificates are ours.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use nixcache_core::nix::NarUrl;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _,
    PutMode, PutMultipartOptions, PutOptions, RetryConfig, WriteMultipart,
};
use reqwest::Method;
use tokio::io::AsyncReadExt as _;

use super::NarPieces;
use super::again::{Again, Open, Opened};
use super::layout::{Files, NAR_MEDIA_TYPE, plain_name};
use crate::cache_url::Bucket;
use crate::credentials::AwsCredentials;
use crate::error::CacheError;
use crate::network::NetworkOptions;
use crate::remote::RemoteError;

/// The region of a bucket whose URL and user say nothing, as in Nix.
const DEFAULT_REGION: &str = "us-east-1";

/// How much goes in one part; smaller files go whole. S3 takes parts from 5 MiB up, and 10,000 of them.
const PART: usize = 8 << 20;

/// Parts of one file under way at once.
const PARTS_AT_ONCE: usize = 4;

/// Bytes of an answer that is no object. `object_store` takes them into memory, all of them.
const ANSWER_LIMIT: usize = 64 * 1024;

/// The objects of a bucket.
pub(crate) struct S3 {
    store: AmazonS3,
    again: Again,
}

/// Gives `object_store` our client.
#[derive(Clone, Debug)]
struct OurClient(reqwest::Client);

impl HttpConnector for OurClient {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for OurClient {
    fn call<'s, 'f>(&'s self, request: HttpRequest) -> BoxFuture<'f, Result<HttpResponse, HttpError>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let is_get = request.method() == Method::GET;
            let response = self.0.call(request).await?;
            // What is read of an object is bounded by who reads it.
            if is_get && response.status().is_success() {
                return Ok(response);
            }
            let (parts, body) = response.into_parts();
            let text = beginning(body.bytes_stream()).await?;
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(text)))
        })
    }
}

/// The beginning of an answer, as text.
async fn beginning(mut pieces: BoxStream<'static, Result<Bytes, HttpError>>) -> Result<String, HttpError> {
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        bytes.extend_from_slice(&piece[..piece.len().min(ANSWER_LIMIT - bytes.len())]);
        if bytes.len() == ANSWER_LIMIT {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl S3 {
    pub(crate) fn new(
        bucket: &Bucket,
        credentials: &AwsCredentials,
        client: reqwest::Client,
        options: &NetworkOptions,
    ) -> Result<Self, RemoteError> {
        let setup = |source| RemoteError::Bucket { bucket: bucket.name.clone(), source };
        let region = bucket.region.as_ref().or(credentials.region.as_ref());
        let endpoint = bucket.endpoint.as_ref().or(credentials.endpoint.as_ref());
        // Bucket names with dots don't fit the certificates of virtual hosts; other servers often have none.
        let path_style = bucket.path_style.unwrap_or(endpoint.is_some() || bucket.name.contains('.'));
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(region.map_or(DEFAULT_REGION, String::as_str))
            .with_virtual_hosted_style_request(!path_style)
            .with_allow_http(true)
            .with_http_connector(OurClient(client))
            .with_retry(RetryConfig {
                backoff: BackoffConfig { init_backoff: options.backoff, max_backoff: options.backoff * 4, base: 2.0 },
                max_retries: options.attempts.saturating_sub(1) as usize,
                retry_timeout: options.upload_patience,
            });
        let scheme = if bucket.plain_http { "http" } else { "https" };
        if let Some(endpoint) = endpoint {
            // Nix's parameter is a host; the variable of others is a URL.
            let (scheme, host) = endpoint.split_once("://").unwrap_or((scheme, endpoint));
            let host = host.trim_end_matches('/');
            let bucket_host = if path_style { String::new() } else { format!("{}.", bucket.name) };
            builder = builder.with_endpoint(format!("{scheme}://{bucket_host}{host}"));
        }
        match credentials.keys_for(bucket.profile.as_deref()) {
            Some(keys) => {
                builder = builder
                    .with_access_key_id(&keys.access_key_id)
                    .with_secret_access_key(keys.secret_access_key.expose());
                if let Some(token) = &keys.session_token {
                    builder = builder.with_token(token.expose());
                }
            }
            None if bucket.profile.is_some() => {
                return Err(RemoteError::Profile { profile: bucket.profile.clone().unwrap_or_default() });
            }
            // A public bucket. Asking the machine's cloud for a role would wait on every other machine.
            None => builder = builder.with_skip_signature(true),
        }
        Ok(Self { store: builder.build().map_err(setup)?, again: Again::new(options.second_after) })
    }

    /// Begins to read an object.
    async fn pieces(&self, key: &str) -> Result<Option<BoxStream<'static, Result<Bytes, CacheError>>>, CacheError> {
        let (store, path, key) = (self.store.clone(), path(key)?, key.to_owned());
        let open: Open = Arc::new(move |offset, if_match| {
            let (store, path, key) = (store.clone(), path.clone(), key.clone());
            let range = (offset > 0).then_some(GetRange::Offset(offset));
            Box::pin(async move {
                let options = GetOptions { if_match, range, ..GetOptions::default() };
                let Some(object) = found(&key, store.get_opts(&path, options).await)? else { return Ok(None) };
                let tag = object.meta.e_tag.clone();
                let pieces = object.into_stream().map(move |piece| piece.map_err(|error| failed(&key, error)));
                Ok(Some(Opened { tag, pieces: pieces.boxed() }))
            })
        });
        self.again.open(open).await
    }

    async fn read(&self, key: &str, limit: usize) -> Result<Option<Bytes>, CacheError> {
        let Some(mut pieces) = self.pieces(key).await? else { return Ok(None) };
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if bytes.len() + piece.len() > limit {
                return Err(CacheError::TooLarge { address: key.to_owned(), limit: limit as u64 });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes.freeze()))
    }

    async fn try_create(&self, name: &str, bytes: Bytes, media: &'static str) -> Result<bool, CacheError> {
        let key = path(name)?;
        let options = |mode| PutOptions { mode, attributes: media_type(media), ..PutOptions::default() };
        match self.store.put_opts(&key, bytes.clone().into(), options(PutMode::Create)).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            // A server without conditions: it was asked a moment ago whether the name is free.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                let put = self.store.put_opts(&key, bytes.into(), options(PutMode::Overwrite)).await;
                put.map(|_| true).map_err(|error| failed(name, error))
            }
            Err(error) => Err(failed(name, error)),
        }
    }

    async fn write(
        &self,
        key: &str,
        file: &Path,
        size: u64,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), CacheError> {
        let local = |source| CacheError::File { path: file.display().to_string(), source };
        let mut source = tokio::fs::File::open(file).await.map_err(local)?;
        let attributes = media_type(NAR_MEDIA_TYPE);
        if size <= PART as u64 {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).await.map_err(local)?;
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.store.put_opts(&path(key)?, bytes.into(), options).await.map_err(|error| failed(key, error))?;
            moved(size);
            return Ok(());
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let upload = self.store.put_multipart_opts(&path(key)?, options).await.map_err(|error| failed(key, error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let sent = async {
            loop {
                let mut piece = Vec::with_capacity(PART);
                let read = (&mut source).take(PART as u64).read_to_end(&mut piece).await.map_err(local)?;
                if read == 0 {
                    return Ok(());
                }
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| failed(key, error))?;
                moved(read as u64);
                upload.put(piece.into());
            }
        };
        match sent.await {
            Ok(()) => upload.finish().await.map(|_| ()).map_err(|error| failed(key, error)),
            Err(error) => {
                // What was sent costs money until it is given up. If that fails too, the first error says more.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }
}

fn path(key: &str) -> Result<object_store::path::Path, CacheError> {
    object_store::path::Path::parse(key).map_err(|error| failed(key, error.into()))
}

fn media_type(media_type: &'static str) -> Attributes {
    Attributes::from_iter([(Attribute::ContentType, media_type)])
}

fn failed(key: &str, error: Error) -> CacheError {
    match error {
        Error::PermissionDenied { .. } => CacheError::Forbidden { address: key.to_owned() },
        Error::Unauthenticated { .. } => CacheError::Unauthorized { address: key.to_owned() },
        source => CacheError::Bucket { key: key.to_owned(), source: source.into() },
    }
}

fn found<T>(key: &str, result: object_store::Result<T>) -> Result<Option<T>, CacheError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(key, error)),
    }
}

impl Files for S3 {
    fn get<'a>(&'a self, name: &'a str, limit: usize) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>> {
        Box::pin(self.read(name, limit))
    }

    fn open<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarPieces>, CacheError>> {
        Box::pin(async move { self.pieces(plain_name(url)?).await })
    }

    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Option<u64>>, CacheError>> {
        Box::pin(async move {
            match found(name, self.store.head(&path(name)?).await) {
                Ok(object) => Ok(object.map(|object| Some(object.size))),
                // A bucket that may be written but not listed says so of what isn't there.
                Err(CacheError::Forbidden { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn create<'a>(
        &'a self,
        name: &'a str,
        bytes: Bytes,
        media: &'static str,
    ) -> BoxFuture<'a, Result<bool, CacheError>> {
        Box::pin(async move {
            match self.try_create(name, bytes.clone(), media).await {
                // The connection broke, perhaps after the server had written it all: such a request is not repeated
                // by itself, as the second one could find what the first one wrote and take it for another's.
                Err(CacheError::Bucket { .. }) => match self.read(name, bytes.len()).await {
                    Ok(Some(there)) if there == bytes => Ok(true),
                    Ok(None) => self.try_create(name, bytes, media).await,
                    Ok(Some(_)) | Err(CacheError::TooLarge { .. }) => Ok(false),
                    Err(error) => Err(error),
                },
                created => created,
            }
        })
    }

    fn upload<'a>(
        &'a self,
        name: &'a str,
        file: &'a Path,
        size: u64,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        Box::pin(self.write(name, file, size, moved))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        let endless = stream::repeat_with(|| Ok(Bytes::from(vec![b'x'; 1000]))).boxed();
        assert_eq!(beginning(endless).await.unwrap().len(), ANSWER_LIMIT);
        let short = stream::iter([Ok(Bytes::from("<Error>\u{e4}")), Ok(Bytes::from_static(b"\xff"))]).boxed();
        assert_eq!(beginning(short).await.unwrap(), "<Error>\u{e4}\u{fffd}");
    }
}
