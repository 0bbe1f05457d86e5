//! The server's own interface, version 1: many narinfos in one request, pins, garbage collection. JSON in and out;
//! `docs/server.md` describes it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use nixcache_core::nix::{StorePath, StorePathHash, narinfo};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::collect::{CollectError, collect, read_pins};
use crate::download::note_use;
use crate::error::Refusal;
use crate::layout;
use crate::server::Shared;
use crate::upload::read_body;

/// The version in every answer.
const VERSION: u32 = 1;

/// Files that are looked for at once, for one request.
const AT_ONCE: usize = 32;

/// Bytes in a request for one store path: 32 digits, quotes, a comma, and room for spaces.
const BYTES_A_PATH: usize = 48;

#[derive(Deserialize)]
struct Asked {
    hashes: Vec<String>,
}

#[derive(Default, Serialize)]
struct Narinfos {
    version: u32,
    narinfos: std::collections::BTreeMap<String, String>,
    missing: Vec<String>,
    left: Vec<String>,
}

#[derive(Serialize)]
struct Missing {
    version: u32,
    missing: Vec<String>,
}

async fn asked(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Vec<StorePathHash>, Refusal> {
    let limit = shared.limits.lookup_paths;
    let bytes = read_body(shared, headers, body, limit * BYTES_A_PATH + 1024).await?;
    let what = "the body must be {\"hashes\": [\"<hash of a store path>\", …]}";
    let asked: Asked = serde_json::from_slice(&bytes).map_err(|_| Refusal::Format { what })?;
    if asked.hashes.len() > limit {
        return Err(Refusal::Format { what: "too many paths are asked for at once" });
    }
    let hashes: Result<Vec<_>, _> = asked.hashes.iter().map(|hash| hash.parse()).collect();
    hashes.map_err(|_| Refusal::Format { what: "what is asked for must be hashes of store paths" })
}

/// `POST /api/v1/narinfos`: the narinfos of all these paths. What doesn't fit into the answer is `left`.
pub(crate) async fn narinfos(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let hashes = asked(&shared, &headers, body).await?;
    let mut answer = Narinfos { version: VERSION, ..Narinfos::default() };
    let mut bytes = 0;
    let deadline = Instant::now() + UPSTREAMS;
    let mut found = futures_util::stream::iter(hashes)
        .map(|hash| {
            let shared = &shared;
            async move { (hash, one_of_many(shared, &hash, deadline).await) }
        })
        .buffered(AT_ONCE);
    while let Some((hash, found)) = found.next().await {
        let name = hash.to_string();
        // What is beyond the bound is read in vain, a few files at most; then the loop ends.
        let text = match found? {
            Known::Here(text) => text,
            Known::Nowhere => {
                answer.missing.push(name);
                continue;
            }
            Known::NotYet => {
                answer.left.push(name);
                continue;
            }
        };
        let text = String::from_utf8(text.into()).map_err(|_| Refusal::Format { what: "a narinfo is not UTF-8" })?;
        if bytes + text.len() > shared.limits.lookup_bytes && bytes > 0 {
            answer.left.push(name);
            continue;
        }
        bytes += text.len();
        answer.narinfos.insert(name, text);
    }
    Ok(Json(answer).into_response())
}

/// How long caches behind this one may keep the answer about many paths waiting. Whoever asks has little patience with
/// one answer, and can ask for what is left by itself.
const UPSTREAMS: Duration = Duration::from_millis(500);

/// What is known of one path among many.
enum Known {
    Here(Bytes),
    Nowhere,
    NotYet,
}

/// A narinfo, as it is given when it is asked for by itself: from here, or from a cache behind this one.
async fn one_of_many(shared: &Shared, hash: &StorePathHash, deadline: Instant) -> Result<Known, Refusal> {
    let path = layout::narinfo(hash);
    let Some((text, facts)) = shared.storage.read(&path, narinfo::SIZE_LIMIT).await? else {
        shared.metrics.narinfo_misses.add(1);
        let Some(proxy) = &shared.proxy else { return Ok(Known::Nowhere) };
        if Instant::now() >= deadline {
            return Ok(Known::NotYet);
        }
        return match tokio::time::timeout_at(deadline, proxy.narinfo(shared, hash)).await {
            Ok(found) => Ok(found?.map_or(Known::Nowhere, Known::Here)),
            Err(_) => Ok(Known::NotYet),
        };
    };
    shared.metrics.narinfo_hits.add(1);
    note_use(shared, &path, &facts).await;
    Ok(Known::Here(text))
}

/// `POST /api/v1/missing`: which of these paths are not here.
pub(crate) async fn missing(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let hashes = asked(&shared, &headers, body).await?;
    let storage = &shared.storage;
    let mut answer = Missing { version: VERSION, missing: Vec::new() };
    let mut found = futures_util::stream::iter(hashes)
        .map(|hash| async move { (hash, storage.facts(&layout::narinfo(&hash)).await) })
        .buffered(AT_ONCE);
    while let Some((hash, found)) = found.next().await {
        if found?.is_none() {
            answer.missing.push(hash.to_string());
        }
    }
    Ok(Json(answer).into_response())
}

/// `GET /api/v1/public-keys`: the keys that vouch for what is here. With a key of its own, the server signs all that it
/// takes; without one, those count that uploads and upstreams must be signed by. Nobody need believe it: `cargo
/// nixcache use` shows them to the user.
pub(crate) async fn public_keys(State(shared): State<Arc<Shared>>) -> Response {
    #[derive(Serialize)]
    struct PublicKeys {
        version: u32,
        public_keys: Vec<String>,
    }
    let public_keys = match &shared.signing_key {
        Some(key) => vec![key.public().to_string()],
        None => {
            let upstreams = shared.proxy.iter().flat_map(|proxy| proxy.keys().iter());
            let keys: std::collections::BTreeSet<_> =
                shared.verifier.keys().iter().chain(upstreams).map(ToString::to_string).collect();
            keys.into_iter().collect()
        }
    };
    Json(PublicKeys { version: VERSION, public_keys }).into_response()
}

/// `GET /api/v1/pins`
pub(crate) async fn pins(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    #[derive(Serialize)]
    struct Pins {
        version: u32,
        pins: std::collections::BTreeMap<String, String>,
    }
    let pins = read_pins(&shared).await?.into_iter().map(|(name, path)| (name, path.base_name())).collect();
    Ok(Json(Pins { version: VERSION, pins }).into_response())
}

/// `PUT /api/v1/pins/<name>`: keeps the store path in the body, `<hash>-<name>`, with all that it refers to. Another
/// path under the same name is no longer kept.
pub(crate) async fn put_pin(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let file = layout::pin(&name).ok_or(Refusal::NotFound)?;
    let bytes = read_body(&shared, &headers, body, 4096).await?;
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    let text = text.map(|text| text.strip_prefix("/nix/store/").unwrap_or(text));
    let path = text.and_then(|text| StorePath::from_base_name(text).ok());
    let path = path.ok_or(Refusal::Format { what: "the body must be a store path" })?;
    let pin = async {
        // While this holds, the path can't be dropped between being found and being pinned.
        let _entered = shared.gate.enter(&shared.storage).await?;
        if shared.storage.facts(&layout::narinfo(path.hash())).await?.is_none() {
            return Err(Refusal::NotFound);
        }
        shared.storage.put(&file, Bytes::from(format!("{}\n", path.base_name()))).await?;
        Ok(StatusCode::OK.into_response())
    };
    tokio::time::timeout(shared.limits.request_time, pin).await.map_err(|_| Refusal::Time)?
}

/// `DELETE /api/v1/pins/<name>`
pub(crate) async fn delete_pin(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let file = layout::pin(&name).ok_or(Refusal::NotFound)?;
    shared.storage.delete(&file).await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /api/v1/gc` and, to see what it would do, `POST /api/v1/gc?dry-run`. It goes on if the client leaves.
pub(crate) async fn gc(State(shared): State<Arc<Shared>>, uri: axum::http::Uri) -> Response {
    let dry_run = match uri.query() {
        None | Some("") => false,
        Some("dry-run" | "dry-run=1" | "dry-run=true") => true,
        Some(_) => return Refusal::Format { what: "the only parameter is dry-run" }.into_response(),
    };
    let collecting = Arc::clone(&shared);
    let done = tokio::spawn(async move { collect(&collecting, dry_run).await }).await;
    match done {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(CollectError::Storage { source })) => Refusal::Storage { source }.into_response(),
        Ok(Err(CollectError::Running)) => Refusal::Collecting.into_response(),
        Ok(Err(CollectError::Time)) | Err(_) => Refusal::Time.into_response(),
    }
}

/// `/metrics`
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let mut response = Response::new(Body::from(shared.metrics.to_text()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `/healthz`: whether the store answers.
pub(crate) async fn health(State(shared): State<Arc<Shared>>) -> Result<&'static str, Refusal> {
    // Whether there is such a file doesn't matter, only that it can be said.
    shared.storage.facts(&layout::barrier()).await?;
    Ok("ok\n")
}
