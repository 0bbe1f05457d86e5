//! A long body that goes on where it broke.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::request::{Request, broken};
use super::{Http, plain_encoding, shown};
use crate::error::CacheError;

/// The body of a response, and what is needed to ask for the rest of it.
pub(super) struct Resumable {
    http: Http,
    /// Where the request began: a redirect can lead to a URL that is good for a short time only.
    url: Url,
    response: Response,
    /// The whole length, if the server said.
    length: Option<u64>,
    /// Whether the server can send a part, and how to make sure that it is a part of the same file.
    resumes: bool,
    tag: Option<HeaderValue>,
    received: u64,
    attempts: u32,
}

impl Resumable {
    pub(super) fn new(http: Http, url: Url, response: Response) -> Self {
        let headers = response.headers();
        let resumes = headers.get(header::ACCEPT_RANGES).is_some_and(|unit| unit == "bytes");
        // A weak tag doesn't promise the same bytes, and is not allowed in the condition.
        let tag = headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned();
        let (length, attempts) = (response.content_length(), http.options.attempts);
        Self { http, url, response, length, resumes, tag, received: 0, attempts }
    }

    /// The pieces, up to the announced length.
    pub(super) fn into_pieces(self) -> BoxStream<'static, Result<Bytes, CacheError>> {
        let pieces =
            stream::try_unfold(self, |mut body| async move { Ok(body.next().await?.map(|piece| (piece, body))) });
        pieces.boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, CacheError> {
        loop {
            let error = match self.response.chunk().await {
                Ok(Some(piece)) => {
                    self.received += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Ok(None) => match self.length {
                    Some(expected) if self.received < expected => {
                        CacheError::Cut { address: shown(&self.url), received: self.received, expected }
                    }
                    _ => return Ok(None),
                },
                Err(error) => broken(&self.url, error),
            };
            if !self.resumes || self.attempts <= 1 {
                return Err(error);
            }
            self.attempts -= 1;
            self.resume(error).await?;
        }
    }

    /// Asks for the rest; with the error that made it necessary if there is no such thing.
    async fn resume(&mut self, error: CacheError) -> Result<(), CacheError> {
        let mut request = Request::new(Method::GET, self.url.clone());
        request.from = Some((self.received, self.tag.clone()));
        let response = self.http.send(&request).await?;
        let same_tag = self.tag.is_none() || response.headers().get(header::ETAG) == self.tag.as_ref();
        if response.status() != StatusCode::PARTIAL_CONTENT || !same_tag || !self.fits(&response) {
            return Err(error);
        }
        plain_encoding(&response)?;
        self.response = response;
        Ok(())
    }

    /// Whether `Content-Range: bytes <first>-<last>/<length>` begins where we are, in a file of the same length.
    fn fits(&self, response: &Response) -> bool {
        let Some(range) = response.headers().get(header::CONTENT_RANGE) else { return false };
        let Some(range) = range.to_str().ok().and_then(|range| range.strip_prefix("bytes ")) else { return false };
        let Some((part, length)) = range.split_once('/') else { return false };
        let first = part.split_once('-').and_then(|(first, _)| first.parse::<u64>().ok());
        let same_length = match self.length {
            Some(expected) => length.parse() == Ok(expected),
            None => true,
        };
        first == Some(self.received) && same_length
    }
}
