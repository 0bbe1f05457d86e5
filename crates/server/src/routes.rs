//! The routes, and what is done around every request: access, the log line, the counters.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};

use crate::access::needed;
use crate::error::{Cause, Refusal};
use crate::layout::{NarFile, RootFile};
use crate::log::{Event, RequestLine, printable};
use crate::server::Shared;
use crate::{api, download, nif, upload};

/// All routes.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/nix-cache-info", get(get_cache_info).put(put_cache_info))
        .route("/{name}", get(get_root).put(put_root))
        .route("/nar/{name}", get(get_nar).put(put_nar))
        .route("/nif/{namespace}/{file}", get(nif::get).put(nif::put))
        .route("/api/v1/narinfos", post(api::narinfos))
        .route("/api/v1/missing", post(api::missing))
        .route("/api/v1/public-keys", get(api::public_keys))
        .route("/api/v1/pins", get(api::pins))
        .route("/api/v1/pins/{name}", put(api::put_pin).delete(api::delete_pin))
        .route("/api/v1/gc", post(api::gc))
        .route("/metrics", get(api::metrics))
        .route("/healthz", get(api::health))
        .fallback(async || Refusal::NotFound)
        .layer(middleware::from_fn_with_state(Arc::clone(shared), observe))
        .with_state(Arc::clone(shared))
}

async fn get_cache_info(State(shared): State<Arc<Shared>>, method: Method, headers: HeaderMap) -> Response {
    download::cache_info(&shared, &method, &headers)
}

async fn put_cache_info(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    upload::cache_info(&shared, &headers, body).await
}

async fn get_root(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    match RootFile::parse(&name).ok_or(Refusal::NotFound)? {
        RootFile::NarInfo(hash) => download::narinfo(&shared, &method, &headers, &hash).await,
        RootFile::Listing(hash) => download::listing(&shared, &method, &headers, &hash).await,
    }
}

async fn put_root(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    match RootFile::parse(&name).ok_or(Refusal::NotFound)? {
        RootFile::NarInfo(hash) => upload::narinfo(&shared, &headers, body, &hash).await,
        RootFile::Listing(hash) => upload::listing(&shared, &headers, body, &hash).await,
    }
}

async fn get_nar(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let file = NarFile::parse(&name).ok_or(Refusal::NotFound)?;
    download::nar(&shared, &method, &headers, &file).await
}

async fn put_nar(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let file = NarFile::parse(&name).ok_or(Refusal::Url)?;
    upload::nar(&shared, &headers, body, &file).await
}

/// Lets a request through if it may do what it wants, and notes how it went.
async fn observe(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let path = printable(request.uri().path());
    let (token, response) = match shared.access.check(request.headers(), needed(&method, request.uri().path())) {
        Ok(token) => (token, next.run(request).await),
        Err(refusal) => (None, refusal.into_response()),
    };
    if let Some(Cause(error)) = response.extensions().get::<Cause>() {
        shared.sink.trouble(&format!("{method} {path} failed"), error.as_ref());
    }
    let time = began.elapsed();
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bytes = length.or_else(|| axum::body::HttpBody::size_hint(response.body()).exact());
    let status = response.status().as_u16();
    shared.metrics.answered(status);
    shared.metrics.answer_bytes.add(bytes.filter(|_| method != Method::HEAD).unwrap_or_default());
    shared.metrics.answer_microseconds.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    let (method, token) = (method.to_string(), token.map(|name| name.to_string()));
    shared.sink.send(&Event::Request(RequestLine { method, path, status, bytes, time, token }));
    response
}
