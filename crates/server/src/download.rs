//! Serves files: whole, in part, or not again when the client has them. HEAD gives the same headers without a body.

use std::io::Read as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use nixcache_core::nix::{Sha256, StorePathHash, cache_info, nar, narinfo};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::check::{Found, Pieces, decoder};
use crate::error::Refusal;
use crate::layout::{self, NarFile, Packing};
use crate::server::Shared;
use crate::storage::FileFacts;
use crate::upstream;

/// A narinfo that was last used longer ago is marked as used.
const USE_GRAIN: Duration = Duration::from_secs(12 * 60 * 60);

/// How much of a NAR is decompressed at once.
const PIECE: usize = 256 << 10;

/// The memory that unpacking a NAR takes, as far as turns are counted. What can need more, up to the largest window of
/// zstd, counts as two. A window never holds more than the NAR.
const BYTES_OF_A_TURN: u64 = 64 << 20;

/// What a narinfo says never changes, but it can go, and come back with another NAR; until then a cache on the way would
/// send clients for a NAR that is gone. And what is asked for here again counts as used. Nix keeps narinfos for 30 days
/// whatever this says; caches on the way need but ask whether theirs is still good.
const AN_HOUR: &str = "max-age=3600";

/// What never changes is kept for a year.
pub(crate) const FOR_EVER: &str = "max-age=31536000, immutable";

/// `nix-cache-info`
pub(crate) fn cache_info(shared: &Shared, method: &Method, headers: &HeaderMap) -> Response {
    let bytes = Bytes::from(shared.cache_info.to_string());
    small(shared, method, headers, bytes, cache_info::MEDIA_TYPE, AN_HOUR)
}

/// `<hash>.narinfo`
pub(crate) async fn narinfo(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    hash: &StorePathHash,
) -> Result<Response, Refusal> {
    let path = layout::narinfo(hash);
    let Some((bytes, facts)) = shared.storage.read(&path, narinfo::SIZE_LIMIT).await? else {
        shared.metrics.narinfo_misses.add(1);
        let Some(proxy) = &shared.proxy else { return Err(Refusal::NotFound) };
        let bytes = proxy.narinfo(shared, hash).await?.ok_or(Refusal::NotFound)?;
        // It can still get a size that it lacks, when its NAR has come.
        return Ok(small(shared, method, headers, bytes, narinfo::MEDIA_TYPE, AN_HOUR));
    };
    shared.metrics.narinfo_hits.add(1);
    note_use(shared, &path, &facts).await;
    Ok(small(shared, method, headers, bytes, narinfo::MEDIA_TYPE, AN_HOUR))
}

/// Marks a narinfo as used, which garbage collection goes by.
pub(crate) async fn note_use(shared: &Shared, path: &object_store::path::Path, facts: &FileFacts) {
    if SystemTime::now().duration_since(facts.modified).is_ok_and(|unused| unused > USE_GRAIN) {
        shared.storage.touch(path).await;
    }
}

/// `<hash>.ls`
pub(crate) async fn listing(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    hash: &StorePathHash,
) -> Result<Response, Refusal> {
    let read = shared.storage.read(&layout::listing(hash), shared.limits.listing_bytes).await?;
    let (bytes, _) = read.ok_or(Refusal::NotFound)?;
    // Until its narinfo is there, a listing can be replaced.
    Ok(small(shared, method, headers, bytes, "application/json", AN_HOUR))
}

/// `nar/<name>`
pub(crate) async fn nar(
    shared: &Arc<Shared>,
    method: &Method,
    headers: &HeaderMap,
    file: &NarFile,
) -> Result<Response, Refusal> {
    let Some(facts) = shared.storage.facts(&file.path()).await? else {
        if file.packing == Packing::Plain {
            match plain_nar(shared, method, headers, &file.hash).await {
                Err(Refusal::NotFound) => {}
                answer => return answer,
            }
        }
        // Who asks whether a NAR is there wants to upload it if it isn't. What an upstream has is not here for a narinfo
        // that names it: it may be of another path, or the upstream may have nothing any more.
        if method == Method::HEAD {
            return Err(Refusal::NotFound);
        }
        return upstream::nar(shared, file).await;
    };
    let size = facts.size;
    let tag = format!("\"{}\"", file.hash.to_nix32());
    if is_known(headers, &tag) {
        return Ok(not_modified(shared, &tag, FOR_EVER));
    }
    let wanted = match wanted_range(method, headers, &tag, size) {
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
        Wanted::Nothing => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            response.headers_mut().insert(header::CONTENT_RANGE, text(&format!("bytes */{size}")));
            return Ok(response);
        }
    };
    let range = wanted.clone().unwrap_or(0..size);
    let body = if method == Method::HEAD || range.is_empty() {
        Body::empty()
    } else {
        let stream = shared.storage.stream(&file.path(), range.clone()).await?.ok_or(Refusal::NotFound)?;
        Body::from_stream(stream)
    };
    let mut response = Response::new(body);
    if wanted.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let span = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, text(&span));
    }
    describe(shared, &mut response, nar::MEDIA_TYPE, &tag, FOR_EVER);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response.headers_mut().insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    Ok(response)
}

/// `nar/<NAR hash>.nar` where the NAR is there in packed form: it is decompressed on the way. For clients that can't,
/// such as `builtin:fetchurl` with `unpack`.
async fn plain_nar(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    nar_hash: &Sha256,
) -> Result<Response, Refusal> {
    let (file, found) = packed_file(shared, nar_hash).await?.ok_or(Refusal::NotFound)?;
    let tag = format!("\"{}\"", nar_hash.to_nix32());
    if is_known(headers, &tag) {
        return Ok(not_modified(shared, &tag, FOR_EVER));
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let turn = turn_to_unpack(shared, found.nar_size).await?;
        let mut stream = shared.storage.stream(&file.path(), 0..found.file_size).await?.ok_or(Refusal::NotFound)?;
        let (packed_sender, packed) = Pieces::channel(4);
        let (plain_sender, plain) = mpsc::channel(4);
        let client = plain_sender.clone();
        tokio::spawn(async move {
            let feed = async {
                // An error here ends the packed file early, which the decoder notices.
                while let Some(Ok(piece)) = stream.next().await {
                    if packed_sender.send(piece).await.is_err() {
                        return;
                    }
                }
            };
            // What waits for pieces of the file must not outlive the client.
            tokio::select! {
                () = feed => {}
                () = client.closed() => {}
            }
        });
        tokio::task::spawn_blocking(move || {
            unpack(packed, file.packing, &plain_sender);
            drop(turn);
        });
        Body::from_stream(futures_util::stream::unfold(plain, |mut plain| async move {
            plain.recv().await.map(|piece| (piece, plain))
        }))
    };
    let mut response = Response::new(body);
    describe(shared, &mut response, nar::MEDIA_TYPE, &tag, FOR_EVER);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    response.headers_mut().insert(header::CONTENT_LENGTH, found.nar_size.into());
    Ok(response)
}

/// Waits until a NAR of this size may be unpacked. Each that is unpacked holds a thread of those for what blocks, and
/// waits for pieces that are read on the same threads: there must never be so many that all are taken.
async fn turn_to_unpack(shared: &Shared, nar_size: u64) -> Result<OwnedSemaphorePermit, Refusal> {
    let turns = if nar_size > BYTES_OF_A_TURN { 2.min(shared.limits.unpacks) } else { 1 };
    let turns = Arc::clone(&shared.unpacks).acquire_many_owned(u32::try_from(turns).unwrap_or(u32::MAX));
    let turn = tokio::time::timeout(shared.limits.request_time, turns).await.map_err(|_| Refusal::Busy)?;
    Ok(turn.expect("the semaphore is never closed"))
}

fn unpack(packed: Pieces, packing: Packing, plain: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut decoder = match decoder(packed, packing) {
        Ok(decoder) => decoder,
        Err(error) => {
            let _ = plain.blocking_send(Err(error));
            return;
        }
    };
    loop {
        let mut buffer = vec![0; PIECE];
        let piece = match decoder.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                buffer.truncate(length);
                Ok(Bytes::from(buffer))
            }
            Err(error) => Err(error),
        };
        let last = piece.is_err();
        // A client that has gone away wants no more.
        if plain.blocking_send(piece).is_err() || last {
            return;
        }
    }
}

/// The packed file of a NAR, if there is one.
pub(crate) async fn packed_file(shared: &Shared, nar_hash: &Sha256) -> Result<Option<(NarFile, Found)>, Refusal> {
    let Some((name, _)) = shared.storage.read(&layout::plain(nar_hash), 256).await? else { return Ok(None) };
    let Some(file) = std::str::from_utf8(&name).ok().and_then(NarFile::parse) else { return Ok(None) };
    let Some((record, _)) = shared.storage.read(&layout::checked(&file), 4096).await? else { return Ok(None) };
    let found = Found::from_record(&record, file.hash).filter(|found| &found.nar_hash == nar_hash);
    let Some(found) = found else { return Ok(None) };
    let there = shared.storage.facts(&file.path()).await?.is_some_and(|facts| facts.size == found.file_size);
    Ok(there.then_some((file, found)))
}

pub(crate) fn small(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    bytes: Bytes,
    media_type: &'static str,
    caching: &'static str,
) -> Response {
    let tag = format!("\"{}\"", Sha256::of(&bytes).to_nix32());
    if is_known(headers, &tag) {
        return not_modified(shared, &tag, caching);
    }
    let length = bytes.len() as u64;
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(bytes) };
    let mut response = Response::new(body);
    describe(shared, &mut response, media_type, &tag, caching);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

pub(crate) fn describe(shared: &Shared, response: &mut Response, media_type: &'static str, tag: &str, caching: &str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::ETAG, text(tag));
    // What needs a token is not for shared caches on the way.
    let whose = if shared.access.is_private() { "private" } else { "public" };
    headers.insert(header::CACHE_CONTROL, text(&format!("{whose}, {caching}")));
}

pub(crate) fn not_modified(shared: &Shared, tag: &str, caching: &str) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    let whose = if shared.access.is_private() { "private" } else { "public" };
    response.headers_mut().insert(header::ETAG, text(tag));
    response.headers_mut().insert(header::CACHE_CONTROL, text(&format!("{whose}, {caching}")));
    response
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("only digits, letters and marks are put together here")
}

/// Whether `If-None-Match` names this tag.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// What part of a file is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// A part that isn't there.
    Nothing,
}

/// Reads `Range`, which means something with GET alone (RFC 9110, 14.2). Several parts at once, other units and what can't
/// be read give the whole file, as the standard allows.
fn wanted_range(method: &Method, headers: &HeaderMap, tag: &str, size: u64) -> Wanted {
    if method != Method::GET {
        return Wanted::All;
    }
    let unchanged = headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == tag.as_bytes());
    let value = headers.get(header::RANGE).filter(|_| unchanged).and_then(|value| value.to_str().ok());
    let Some((first, last)) = value.and_then(|value| value.strip_prefix("bytes=")?.split_once('-')) else {
        return Wanted::All;
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            None => Wanted::All,
            Some(0) => Wanted::Nothing,
            Some(_) if size == 0 => Wanted::Nothing,
            Some(length) => Wanted::Part(size.saturating_sub(length)..size),
        },
        (first, last) => {
            let (Some(first), last) = (number(first), if last.is_empty() { Some(u64::MAX) } else { number(last) })
            else {
                return Wanted::All;
            };
            match last {
                None => Wanted::All,
                Some(last) if last < first => Wanted::All,
                Some(_) if first >= size => Wanted::Nothing,
                Some(last) => Wanted::Part(first..last.saturating_add(1).min(size)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let range = |value: &str| wanted_range(&Method::GET, &headers(header::RANGE, value), "\"t\"", 100);
        assert_eq!(range("bytes=0-0"), Wanted::Part(0..1));
        assert_eq!(range("bytes=10-"), Wanted::Part(10..100));
        assert_eq!(range("bytes=10-1000"), Wanted::Part(10..100));
        assert_eq!(range("bytes=-10"), Wanted::Part(90..100));
        assert_eq!(range("bytes=-1000"), Wanted::Part(0..100));
        assert_eq!(range("bytes=0-18446744073709551615"), Wanted::Part(0..100));
        for nothing in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(range(nothing), Wanted::Nothing, "{nothing}");
        }
        for all in ["bytes=", "bytes=-", "bytes=x-y", "bytes=5-4", "bytes=0-1,5-6", "lines=0-1", "bytes=+1-2"] {
            assert_eq!(range(all), Wanted::All, "{all}");
        }
        let mut other = headers(header::RANGE, "bytes=0-0");
        other.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted_range(&Method::GET, &other, "\"t\"", 100), Wanted::All);
    }

    #[test]
    fn known_tags_are_found_in_lists() {
        for known in ["\"t\"", "W/\"t\"", "\"a\", \"t\"", "*"] {
            assert!(is_known(&headers(header::IF_NONE_MATCH, known), "\"t\""), "{known}");
        }
        for other in ["t", "\"tt\"", ""] {
            assert!(!is_known(&headers(header::IF_NONE_MATCH, other), "\"t\""), "{other}");
        }
    }
}
