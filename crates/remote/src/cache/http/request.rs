//! One request: its attempts, its redirects, and who may see the credential.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Method, Response, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use url::Url;

use super::{Http, shown};
use crate::error::CacheError;

/// Redirects that are followed, one after the other.
const REDIRECTS: usize = 5;

/// How much of a file is sent at once.
const PIECE: usize = 128 * 1024;

/// Pieces that are decompressed before they can be sent.
const PIECES_AHEAD: usize = 4;

/// Who is told of the bytes that were sent.
type Told = mpsc::UnboundedSender<u64>;

/// What is asked for.
pub(crate) struct Request {
    pub(in crate::cache) method: Method,
    pub(in crate::cache) url: Url,
    /// Whether the credential stays away, wherever this goes: the URL itself is one.
    pub(in crate::cache) anonymous: bool,
    /// The MD5 of what is sent, in base64, for stores that check it.
    pub(in crate::cache) md5: Option<String>,
    /// Headers of one server's own.
    pub(in crate::cache) headers: Vec<(&'static str, HeaderValue)>,
    /// The first byte wanted, and the condition that makes it fit what came before.
    pub(in crate::cache) from: Option<(u64, Option<HeaderValue>)>,
    pub(in crate::cache) upload: Option<Upload>,
    pub(in crate::cache) media_type: Option<&'static str>,
    pub(in crate::cache) only_if_missing: bool,
}

/// What is sent. It can be sent again.
pub(in crate::cache) enum Upload {
    Bytes(Bytes),
    /// A file as it is, of `size` bytes.
    File {
        path: PathBuf,
        size: u64,
    },
    /// `before`, and then what is in a file that was compressed with zstd: `size` bytes. So it is the NAR itself.
    Decompressed {
        before: Bytes,
        path: PathBuf,
        size: u64,
    },
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            anonymous: false,
            md5: None,
            headers: Vec::new(),
            from: None,
            upload: None,
            media_type: None,
            only_if_missing: false,
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some((first, condition)) = &self.from {
            let range = HeaderValue::try_from(format!("bytes={first}-")).expect("digits are good in a header");
            headers.insert(header::RANGE, range);
            headers.extend(condition.clone().map(|condition| (header::IF_RANGE, condition)));
        }
        headers.extend(self.media_type.map(|media| (header::CONTENT_TYPE, HeaderValue::from_static(media))));
        if let Some(md5) = &self.md5 {
            let md5 = HeaderValue::try_from(md5).expect("base64 is good in a header");
            headers.insert("content-md5", md5);
        }
        headers.extend(self.headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.clone())));
        if self.only_if_missing {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        headers
    }
}

/// An error of the connection, without the URL, which can hold a token.
pub(in crate::cache) fn broken(url: &Url, error: reqwest::Error) -> CacheError {
    let connecting = error.is_connect();
    let (address, source) = (shown(url), error.without_url());
    if connecting { CacheError::Connect { address, source } } else { CacheError::Broken { address, source } }
}

/// Whether it can go better the next time. 501, 505 and 511 say that it can't.
fn is_passing(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 429 => true,
        501 | 505 | 511 => false,
        status => (500..600).contains(&status),
    }
}

impl Http {
    /// Makes a request, again if that can help.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, CacheError> {
        self.send_moving(request, &|_| ()).await
    }

    /// The same, and tells of the bytes that were sent.
    pub(in crate::cache) async fn send_moving(
        &self,
        request: &Request,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Response, CacheError> {
        let mut wait = self.options.backoff;
        for attempt in 1.. {
            let last = attempt >= self.options.attempts;
            let result = self.follow(request, moved).await;
            let pause = match &result {
                Ok(response) if is_passing(response.status()) => match retry_after(response) {
                    Some(asked) if asked > self.options.retry_after_limit => {
                        let (address, status) = (shown(&request.url), response.status().as_u16());
                        return Err(CacheError::Busy { address, status });
                    }
                    asked => asked.unwrap_or_else(|| jittered(wait)),
                },
                Err(CacheError::Broken { .. }) => jittered(wait),
                _ => return result,
            };
            if last {
                return result;
            }
            tokio::time::sleep(pause).await;
            wait *= 2;
        }
        unreachable!("the last attempt returns")
    }

    /// Makes a request where it leads.
    async fn follow(&self, request: &Request, moved: &(dyn Fn(u64) + Send + Sync)) -> Result<Response, CacheError> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS {
            let response = self.once(request, &url, moved).await?;
            let follows = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !follows || !matches!(request.method, Method::GET | Method::HEAD) {
                return Ok(response);
            }
            let refused = |reason| CacheError::Redirect { address: shown(&url), reason };
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let next = next.ok_or_else(|| refused("it doesn't say where to"))?;
            match next.scheme() {
                "https" => {}
                "http" if url.scheme() == "http" => {}
                "http" => return Err(refused("it leads from https to http")),
                _ => return Err(refused("it leads to something else than http and https")),
            }
            url = next;
        }
        Err(CacheError::Redirect { address: shown(&request.url), reason: "there are too many of them" })
    }

    async fn once(
        &self,
        request: &Request,
        url: &Url,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Response, CacheError> {
        let mut sent = self.client.request(request.method.clone(), clean(url)).headers(request.headers());
        if let Some(authorization) =
            self.authorization.as_ref().filter(|_| !request.anonymous && url.origin() == self.base.origin())
        {
            sent = sent.header(header::AUTHORIZATION, authorization.clone());
        }
        // The body lives as long as the connection wants, so it can't borrow `moved`: it tells us, and we tell on.
        let (told, mut telling) = mpsc::unbounded_channel();
        let (body, length) = match &request.upload {
            None => return sent.send().await.map_err(|error| broken(url, error)),
            Some(Upload::Bytes(bytes)) => {
                return sent.body(bytes.clone()).send().await.map_err(|error| broken(url, error));
            }
            Some(Upload::File { path, size }) => {
                let file = tokio::fs::File::open(path).await.map_err(|source| local(path, source))?;
                (file_pieces(file, *size, told), *size)
            }
            Some(Upload::Decompressed { before, path, size }) => {
                let file = std::fs::File::open(path).map_err(|source| local(path, source))?;
                (decompressed_pieces(before.clone(), file, told), before.len() as u64 + size)
            }
        };
        let sent = sent.header(header::CONTENT_LENGTH, length).body(Body::wrap_stream(body)).send();
        let mut sent = std::pin::pin!(sent);
        loop {
            tokio::select! {
                biased;
                Some(bytes) = telling.recv() => moved(bytes),
                answer = &mut sent => return answer.map_err(|error| broken(url, error)),
            }
        }
    }

    /// An error for every answer that is none.
    pub(crate) fn check(&self, response: &Response) -> Result<(), CacheError> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let address = shown(response.url());
        Err(match status {
            StatusCode::UNAUTHORIZED => CacheError::Unauthorized { address },
            StatusCode::FORBIDDEN => CacheError::Forbidden { address },
            _ => CacheError::Status { address, status: status.as_u16() },
        })
    }
}

fn local(path: &Path, source: std::io::Error) -> CacheError {
    CacheError::File { path: path.display().to_string(), source }
}

/// The pieces of a file. `told` of each when it is taken.
fn file_pieces(file: tokio::fs::File, size: u64, told: Told) -> BoxStream<'static, io::Result<Bytes>> {
    let pieces = stream::try_unfold((file.take(size), told), |(mut file, told)| async move {
        let mut piece = Vec::with_capacity(PIECE);
        (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        // Nobody listens any more when the answer came before the end of the body.
        let _ = told.send(piece.len() as u64);
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (file, told))))
    });
    pieces.boxed()
}

/// `before`, and what is in a compressed file. It is decompressed on a thread that may block, a few pieces ahead.
fn decompressed_pieces(before: Bytes, file: std::fs::File, told: Told) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut file = match zstd::stream::read::Decoder::new(file) {
            Ok(file) => file,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = io::Read::read_to_end(&mut io::Read::take(&mut file, PIECE as u64), &mut piece);
            let piece = match read {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(piece)),
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            // Whoever took the pieces has gone when the answer came before the end of the body.
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    let before = (!before.is_empty()).then_some(Ok(before));
    let pieces = stream::unfold((pieces, told), |(mut pieces, told)| async move {
        let piece = pieces.recv().await?;
        if let Ok(piece) = &piece {
            let _ = told.send(piece.len() as u64);
        }
        Some((piece, (pieces, told)))
    });
    stream::iter(before).chain(pieces).boxed()
}

/// A URL without user and password: `reqwest` would make a header of them, for whatever host a redirect names.
fn clean(url: &Url) -> Url {
    let mut url = url.clone();
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url
}

/// `Retry-After` in seconds. A date is taken as longer than anyone waits: we have no clock to compare it with.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(text.trim().parse().map_or(Duration::MAX, Duration::from_secs))
}

/// `wait`, give or take a half, so that many clients don't come back at once.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64())
}
