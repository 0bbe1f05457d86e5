//! Questions and answers in JSON, as the APIs of hosted caches have them.

use bytes::Bytes;
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::{Http, Request, Upload};
use crate::error::CacheError;

/// A value as JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("texts and numbers can always be written").into()
}

impl Http {
    /// Posts a value, or nothing. The answer is a success.
    pub(crate) async fn post_json(&self, url: Url, body: Option<&impl Serialize>) -> Result<Response, CacheError> {
        let mut request = Request::new(Method::POST, url);
        request.upload = Some(Upload::Bytes(body.map(to_json).unwrap_or_default()));
        request.media_type = Some("application/json");
        let response = self.send(&request).await?;
        self.check(&response)?;
        Ok(response)
    }

    /// Reads an answer of `limit` bytes at the most. `cache` is who gave it, as it is shown.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        response: Response,
        limit: usize,
        cache: &str,
    ) -> Result<T, CacheError> {
        let bytes = self.whole(response, limit).await?;
        serde_json::from_slice(&bytes).map_err(|source| CacheError::Answer { address: cache.to_owned(), source })
    }
}
