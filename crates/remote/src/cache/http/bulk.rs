//! One question about many paths, of a server that answers such: our own (`docs/server.md`).
//!
//! ```text
//! POST api/v1/missing   {"hashes": ["<hash of a store path>", …]}
//!                     → {"version": 1, "missing": ["<hash>", …]}
//! POST api/v1/narinfos  {"hashes": ["<hash of a store path>", …]}
//!                     → {"version": 1, "narinfos": {"<hash>": "<text>"}, "missing": ["<hash>", …], "left": ["<hash>", …]}
//! ```
//!
//! A server that doesn't know this is asked for each path instead, and isn't asked like this again. What the answers
//! say is no more believed than that of a `HEAD` or a `GET`: whoever lies about what is missing is sent too much, or
//! nothing, and a narinfo counts by its signature, whichever way it came.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bytes::Bytes;
use nixcache_core::nix::{StorePathHash, narinfo};
use reqwest::{Method, StatusCode};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::super::ManyNarInfos;
use super::Http;
use super::request::{Request, Upload};
use crate::error::CacheError;

/// The version of answers that is understood.
const VERSION: u32 = 1;

/// Fewer paths than this are asked for one by one: that works everywhere. (Of a server that has answered such a question
/// before, two are worth one.)
const WORTH_IT: usize = 4;

/// Bytes in an answer for one path: 32 digits, quotes and a comma, and room for spaces.
const BYTES_A_PATH: usize = 48;

/// Bytes in an answer besides.
const BYTES: usize = 1024;

/// Bytes in all answers with narinfos to one question: what our own server gives in one answer, and room for what makes
/// JSON of it.
const NARINFO_BYTES: usize = 24 << 20;

/// How often is asked for what was left of an answer.
const ROUNDS: usize = 16;

/// Entries in a list of an answer. No question has as many paths.
const ENTRIES: usize = 1024;

#[derive(Serialize)]
struct Question {
    hashes: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    version: u32,
    #[serde(deserialize_with = "hashes")]
    missing: Vec<String>,
}

#[derive(Deserialize)]
struct NarInfoAnswer {
    version: u32,
    #[serde(deserialize_with = "texts")]
    narinfos: BTreeMap<String, String>,
    #[serde(deserialize_with = "hashes")]
    missing: Vec<String>,
    #[serde(deserialize_with = "hashes")]
    left: Vec<String>,
}

/// A list of hashes that is no longer than it can be: many small entries take more memory than their bytes.
fn hashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Hashes;

    impl<'de> Visitor<'de> for Hashes {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {ENTRIES} hashes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut hashes = Vec::new();
            while let Some(hash) = list.next_element()? {
                if hashes.len() == ENTRIES {
                    return Err(A::Error::invalid_length(ENTRIES + 1, &self));
                }
                hashes.push(hash);
            }
            Ok(hashes)
        }
    }

    deserializer.deserialize_seq(Hashes)
}

/// The texts of narinfos, without those that are larger than such a file can be.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Texts;

    impl<'de> Visitor<'de> for Texts {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {ENTRIES} narinfos by hash")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let (mut texts, mut entries) = (BTreeMap::new(), 0);
            while let Some((hash, text)) = list.next_entry::<String, String>()? {
                if entries == ENTRIES {
                    return Err(A::Error::invalid_length(ENTRIES + 1, &self));
                }
                entries += 1;
                if text.len() <= narinfo::SIZE_LIMIT {
                    texts.insert(hash, text);
                }
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_map(Texts)
}

impl Http {
    /// The narinfos of these, if the server gives them: none, if it answers something else. `None` if it isn't asked.
    pub(super) async fn ask_narinfos(
        &self,
        hashes: &[StorePathHash],
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Option<ManyNarInfos>, CacheError> {
        let few = if self.bulk.get() == Some(&true) { 2 } else { WORTH_IT };
        if hashes.len() < few || self.bulk.get() == Some(&false) {
            return Ok(None);
        }
        let mut found = ManyNarInfos::new();
        let (mut left, mut room) = (hashes.to_vec(), NARINFO_BYTES);
        for _ in 0..ROUNDS {
            if left.is_empty() {
                break;
            }
            let response = self.send(&self.question("api/v1/narinfos", &left)?).await?;
            let answer = match response.status() {
                // An answer that breaks off, or is more than it should be, is none: each path can still be asked for.
                StatusCode::OK => match self.whole_moving(response, room, moved).await {
                    Ok(bytes) => {
                        room -= bytes.len();
                        understood_narinfos(&bytes, &left)
                    }
                    Err(_) => None,
                },
                _ => None,
            };
            let _ = self.bulk.set(answer.as_ref().is_some_and(|(answered, _)| !answered.is_empty()));
            let Some((answered, rest)) = answer else { break };
            // A server that gives nothing more is not asked for ever.
            let is_progress = !answered.is_empty();
            found.extend(answered);
            left = if is_progress { rest } else { Vec::new() };
        }
        Ok(Some(found))
    }

    fn question(&self, name: &str, hashes: &[StorePathHash]) -> Result<Request, CacheError> {
        let question = Question { hashes: hashes.iter().map(StorePathHash::to_string).collect() };
        let body = serde_json::to_vec(&question).expect("a list of texts can always be written");
        let mut request = Request::new(Method::POST, self.url(name)?);
        request.upload = Some(Upload::Bytes(Bytes::from(body)));
        request.media_type = Some("application/json");
        Ok(request)
    }

    /// Which of these are missing, if the server can say.
    pub(super) async fn ask_missing(&self, hashes: &[StorePathHash]) -> Result<Option<Vec<StorePathHash>>, CacheError> {
        if hashes.len() < WORTH_IT || self.bulk.get() == Some(&false) {
            return Ok(None);
        }
        let response = self.send(&self.question("api/v1/missing", hashes)?).await?;
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

/// What an answer says of the paths that were asked for, and which of them are to be asked for again. `None` if it is
/// an answer of another kind.
fn understood_narinfos(bytes: &[u8], hashes: &[StorePathHash]) -> Option<(ManyNarInfos, Vec<StorePathHash>)> {
    let answer = serde_json::from_slice(bytes).ok().filter(|answer: &NarInfoAnswer| answer.version == VERSION)?;
    let mut said: HashMap<String, Option<Bytes>> = answer.missing.into_iter().map(|hash| (hash, None)).collect();
    said.extend(answer.narinfos.into_iter().map(|(hash, text)| (hash, Some(Bytes::from(text)))));
    let (mut found, mut left) = (ManyNarInfos::new(), Vec::new());
    for hash in hashes {
        let name = hash.to_string();
        match said.remove(&name) {
            Some(answer) => drop(found.insert(*hash, answer)),
            None if answer.left.contains(&name) => left.push(*hash),
            None => {}
        }
    }
    Some((found, left))
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

    #[test]
    fn narinfos_are_taken_for_what_was_asked_for_alone() {
        let hash = |byte| StorePathHash::from_bytes([byte; 20]);
        let asked = [hash(1), hash(2), hash(3), hash(4)];
        let answer = |version: u32| {
            serde_json::json!({
                "version": version,
                "narinfos": {hash(1).to_string(): "one", hash(9).to_string(): "nine", "../x": "x"},
                "missing": [hash(2).to_string(), hash(8).to_string()],
                "left": [hash(3).to_string(), hash(7).to_string()],
                "new": [],
            })
            .to_string()
        };
        let (found, left) = understood_narinfos(answer(1).as_bytes(), &asked).unwrap();
        let expected = ManyNarInfos::from([(hash(1), Some(Bytes::from("one"))), (hash(2), None)]);
        // Of the last one nothing was said.
        assert_eq!((found, left), (expected, vec![hash(3)]));
        // A text that is too large for a narinfo is not kept, and lists without end are no answer.
        let large = "x".repeat(narinfo::SIZE_LIMIT + 1);
        let large = answer(1).replace("\"one\"", &format!("\"{large}\""));
        assert_eq!(understood_narinfos(large.as_bytes(), &asked).unwrap().0, ManyNarInfos::from([(hash(2), None)]));
        let many = answer(1).replace("\"left\":[", &format!("\"left\":[{}", "\"\",".repeat(2000)));
        assert!(many.len() > 4000 && understood_narinfos(many.as_bytes(), &asked).is_none());
        let many: String = (0..2000).map(|number| format!("\"{number}\":\"\",")).collect();
        let many = answer(1).replace("\"narinfos\":{", &format!("\"narinfos\":{{{many}"));
        assert!(many.len() > 4000 && understood_narinfos(many.as_bytes(), &asked).is_none());
        assert!(understood_narinfos(answer(2).as_bytes(), &asked).is_none());
        assert!(understood_narinfos(b"{\"version\": 1}", &asked).is_none());
        assert!(understood_narinfos(b"<html>", &asked).is_none());
    }
}
