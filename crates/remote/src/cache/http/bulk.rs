//! One question about many paths, of a server that answers such: our own.
//!
//! ```text
//! POST api/v1/missing   {"hashes": ["<hash of a store path>", …]}
//!                     → {"version": 1, "missing": ["<hash>", …]}
//! ```
//!
//! A server that doesn't know this is asked for each path instead, and isn't asked like this again. What the answer
//! says is no more believed than that of a `HEAD`: whoever lies about what is missing is sent too much, or nothing.

use bytes::Bytes;
use nixcache_core::nix::StorePathHash;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::Http;
use super::request::{Request, Upload};
use crate::error::CacheError;

/// The version of answers that is understood.
const VERSION: u32 = 1;

/// Fewer paths than this are asked for one by one: that works everywhere.
const WORTH_IT: usize = 4;

/// Bytes in an answer for one path: 32 digits, quotes and a comma, and room for spaces.
const BYTES_A_PATH: usize = 48;

/// Bytes in an answer besides.
const BYTES: usize = 1024;

#[derive(Serialize)]
struct Question {
    hashes: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    version: u32,
    missing: Vec<String>,
}

impl Http {
    /// Which of these are missing, if the server can say.
    pub(super) async fn ask_missing(&self, hashes: &[StorePathHash]) -> Result<Option<Vec<StorePathHash>>, CacheError> {
        if hashes.len() < WORTH_IT || self.bulk.get() == Some(&false) {
            return Ok(None);
        }
        let question = Question { hashes: hashes.iter().map(StorePathHash::to_string).collect() };
        let body = serde_json::to_vec(&question).expect("a list of texts can always be written");
        let mut request = Request::new(Method::POST, self.url("api/v1/missing")?);
        request.upload = Some(Upload::Bytes(Bytes::from(body)));
        request.media_type = Some("application/json");
        let response = self.send(&request).await?;
        let missing = match response.status() {
            StatusCode::OK => {
                let bytes = self.whole(response, hashes.len() * BYTES_A_PATH + BYTES).await?;
                understood(&bytes, hashes)
            }
            // Whatever it means by that, one path at a time will tell.
            _ => None,
        };
        // The first answer counts; a later one can't be of another kind.
        let _ = self.bulk.set(missing.is_some());
        Ok(missing)
    }
}

/// The paths in an answer that were asked for. `None` if it is an answer of another kind.
fn understood(bytes: &[u8], hashes: &[StorePathHash]) -> Option<Vec<StorePathHash>> {
    let answer: Answer = serde_json::from_slice(bytes).ok().filter(|answer: &Answer| answer.version == VERSION)?;
    let missing: Vec<StorePathHash> = answer.missing.iter().map(|hash| hash.parse()).collect::<Result<_, _>>().ok()?;
    Some(hashes.iter().filter(|hash| missing.contains(hash)).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_taken_from_an_answer() {
        let hash = |byte| StorePathHash::from_bytes([byte; 20]);
        let text = |version, missing: &[u8]| {
            let missing: Vec<_> = missing.iter().map(|byte| format!("\"{}\"", hash(*byte))).collect();
            format!("{{\"version\": {version}, \"missing\": [{}], \"new\": 1}}", missing.join(", "))
        };
        let asked = [hash(1), hash(2), hash(3)];
        assert_eq!(understood(text(1, &[3, 1, 9]).as_bytes(), &asked), Some(vec![hash(1), hash(3)]));
        assert_eq!(understood(text(1, &[]).as_bytes(), &asked), Some(vec![]));
        assert_eq!(understood(text(2, &[1]).as_bytes(), &asked), None);
        assert_eq!(understood(b"<html>", &asked), None);
        assert_eq!(understood(b"{\"version\": 1, \"missing\": [\"../x\"]}", &asked), None);
    }
}
