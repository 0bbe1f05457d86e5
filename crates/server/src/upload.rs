//! Takes files in. Nothing is visible before it was checked: a NAR is what its name says and decompresses to a NAR; a
//! narinfo belongs to its path, says the truth of its NAR, has its references here or at an upstream, and is signed as
//! it must be.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use nixcache_core::nix::{
    Asked, CacheInfo, ContentAddress, NarInfo, StorePath, StorePathHash, Verified, cache_info, narinfo,
};
use tokio::time::Instant;

use crate::check::{CheckError, Found, Pieces, check};
use crate::download::packed_file;
use crate::error::Refusal;
use crate::layout::{self, NarFile, Packing};
use crate::options::Limits;
use crate::server::Shared;

/// Pieces of a NAR that wait to be looked into.
const WAITING_PIECES: usize = 16;

/// References that are looked for at once.
const REFERENCES_AT_ONCE: usize = 16;

/// A body, bounded in size and time. It may stand still for a while, but not again and again: a body that comes byte by
/// byte would hold its turn for ever.
struct Input {
    stream: BodyDataStream,
    left: u64,
    limit: u64,
    idle: Duration,
    rate: u64,
    waited: Duration,
}

impl Input {
    fn new(headers: &HeaderMap, body: Body, limit: u64, limits: &Limits) -> Result<Self, Refusal> {
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Refusal::Encoded);
        }
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced > limit) {
            return Err(Refusal::TooLarge { limit });
        }
        let (idle, rate) = (limits.idle_time, limits.body_rate);
        Ok(Self { stream: body.into_data_stream(), left: limit, limit, idle, rate, waited: Duration::ZERO })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        // Only waiting counts: the time that the store takes is not the client's.
        let came = Duration::from_secs((self.limit - self.left) / self.rate.max(1));
        let left = (self.idle + came).saturating_sub(self.waited).min(self.idle);
        let began = Instant::now();
        let piece = tokio::time::timeout(left, self.stream.next()).await.map_err(|_| Refusal::Slow)?;
        self.waited += began.elapsed();
        let Some(piece) = piece.transpose().map_err(|_| Refusal::CutOff)? else { return Ok(None) };
        let left = self.left.checked_sub(piece.len() as u64);
        self.left = left.ok_or(Refusal::TooLarge { limit: self.limit })?;
        Ok(Some(piece))
    }

    async fn all(mut self) -> Result<Bytes, Refusal> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }
}

/// Reads a small body whole.
pub(crate) async fn read_body(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Bytes, Refusal> {
    let read = Input::new(headers, body, limit as u64, &shared.limits)?.all();
    tokio::time::timeout(shared.limits.request_time, read).await.map_err(|_| Refusal::Slow)?
}

/// `PUT nix-cache-info`: a client may say what is so already.
pub(crate) async fn cache_info(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    let bytes = read_body(shared, headers, body, cache_info::SIZE_LIMIT).await?;
    let what = "this is not a nix-cache-info";
    let sent = CacheInfo::parse(&bytes).map_err(|_| Refusal::Format { what })?;
    if sent.store_directory == shared.cache_info.store_directory {
        Ok(StatusCode::OK.into_response())
    } else {
        Err(Refusal::Exists)
    }
}

/// `PUT <hash>.ls`. A listing is for people; it is only looked at for its form. It can be replaced until its narinfo
/// is there.
pub(crate) async fn listing(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
    hash: &StorePathHash,
) -> Result<Response, Refusal> {
    #[derive(serde::Deserialize)]
    struct Form {
        version: u32,
        root: serde_json::Map<String, serde_json::Value>,
    }
    let bytes = read_body(shared, headers, body, shared.limits.listing_bytes).await?;
    let form: Option<Form> = serde_json::from_slice(&bytes).ok();
    if !form.is_some_and(|form| form.version == 1 && form.root.contains_key("type")) {
        return Err(Refusal::Format { what: "this is not a listing of version 1" });
    }
    let path = layout::listing(hash);
    if shared.storage.put_new(&path, bytes.clone()).await? {
        return Ok(StatusCode::CREATED.into_response());
    }
    let same = shared.storage.read(&path, shared.limits.listing_bytes).await?.is_some_and(|(old, _)| old == bytes);
    if same {
        return Ok(StatusCode::OK.into_response());
    }
    if shared.storage.facts(&layout::narinfo(hash)).await?.is_some() {
        return Err(Refusal::Exists);
    }
    shared.storage.put(&path, bytes).await?;
    Ok(StatusCode::CREATED.into_response())
}

/// `PUT nar/<name>`
pub(crate) async fn nar(shared: &Shared, headers: &HeaderMap, body: Body, file: &NarFile) -> Result<Response, Refusal> {
    let input = Input::new(headers, body, shared.limits.file_bytes, &shared.limits)?;
    let _turn = shared.turns(1).await?;
    let already = shared.storage.facts(&file.path()).await?.is_some();
    let pieces = futures_util::stream::try_unfold(input, |mut input| async move {
        let piece = input.next().await?;
        Ok(piece.map(|piece| (piece, input)))
    });
    match take_nar(shared, pieces.boxed(), file, already).await {
        Ok(found) if already => {
            // Somebody counts on it: it is not left over from an old upload.
            shared.storage.touch(&file.path()).await;
            shared.storage.put(&layout::checked(file), found.to_record()).await?;
            Ok(StatusCode::OK.into_response())
        }
        Ok(found) => {
            shared.metrics.nars_stored.add(1);
            shared.metrics.nar_bytes_stored.add(found.file_size);
            Ok(StatusCode::CREATED.into_response())
        }
        Err(refusal) => {
            shared.metrics.nars_refused.add(1);
            // The name says the content, so other content under a name that is taken is a conflict.
            let other = matches!(refusal, Refusal::Check { source: CheckError::Name });
            Err(if already && other { Refusal::Exists } else { refusal })
        }
    }
}

/// Reads a NAR to its end, looks into it and writes it at once. Nothing stays unless all of it is good.
pub(crate) async fn take_nar(
    shared: &Shared,
    mut input: BoxStream<'_, Result<Bytes, Refusal>>,
    file: &NarFile,
    already: bool,
) -> Result<Found, Refusal> {
    let (sender, pieces) = Pieces::channel(WAITING_PIECES);
    let (packing, nar_bytes) = (file.packing, shared.limits.nar_bytes);
    let checking = tokio::task::spawn_blocking(move || check(pieces, packing, nar_bytes));
    let mut upload = (!already).then(|| shared.storage.begin(file.path()));
    let transfer = async {
        while let Some(piece) = input.try_next().await? {
            if let Some(upload) = &mut upload {
                upload.write(&piece).await?;
            }
            // Where the check has ended early, its own error is the one to tell.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        Ok::<_, Refusal>(())
    };
    let transferred = transfer.await;
    drop(sender);
    let checked = checking.await.map_err(|_| Refusal::Time)?;
    let found = match transferred.and_then(|()| checked.map_err(|source| Refusal::Check { source })) {
        Ok(found) if found.file_hash == file.hash => Ok(found),
        Ok(_) => Err(Refusal::Check { source: CheckError::Name }),
        Err(refusal) => Err(refusal),
    };
    let Some(upload) = upload else { return found };
    match found {
        Ok(found) => {
            upload.finish().await?;
            shared.storage.put(&layout::checked(file), found.to_record()).await?;
            Ok(found)
        }
        Err(refusal) => {
            if let Err(error) = upload.abort().await {
                shared.sink.trouble("parts of an upload that was refused stay", &error);
            }
            Err(refusal)
        }
    }
}

/// `PUT <hash>.narinfo`
pub(crate) async fn narinfo(
    shared: &Shared,
    headers: &HeaderMap,
    body: Body,
    hash: &StorePathHash,
) -> Result<Response, Refusal> {
    let bytes = read_body(shared, headers, body, narinfo::SIZE_LIMIT).await?;
    let claim = NarInfo::parse(&bytes, Asked::Hash(hash)).map_err(|source| Refusal::NarInfo { source })?;
    let found = nar_of(shared, &claim).await?;
    let checks = async {
        let elsewhere = references_elsewhere(shared, &claim).await?;
        // From here until the narinfo is visible, nothing that it needs can be dropped.
        let _entered = shared.gate.enter(&shared.storage).await?;
        take_narinfo(shared, claim, found, &elsewhere).await
    };
    tokio::time::timeout(shared.limits.request_time, checks).await.map_err(|_| Refusal::Time)?
}

async fn take_narinfo(
    shared: &Shared,
    claim: NarInfo,
    (file, found): (NarFile, Found),
    elsewhere: &HashSet<StorePath>,
) -> Result<Response, Refusal> {
    let mut narinfo = compare(claim, &file, &found)?;
    let there = shared.storage.facts(&file.path()).await?.is_some_and(|facts| facts.size == found.file_size);
    if !there {
        return Err(Refusal::MissingNar);
    }
    let here = references(&narinfo).filter(|reference| !elsewhere.contains(*reference));
    if let Some((first, others)) = missing(shared, here).await?.split_first() {
        return Err(Refusal::MissingReferences { first: first.clone(), count: 1 + others.len() });
    }
    if !shared.verifier.keys().is_empty() {
        let verified = shared.verifier.verify(narinfo).await;
        narinfo = verified.map_err(|source| Refusal::Unverified { source })?.into_inner();
    }
    if let Some(key) = &shared.signing_key {
        narinfo.sign(key);
    }
    if file.packing != Packing::Plain {
        let name = Bytes::from(file.to_string());
        shared.storage.put(&layout::plain(&found.nar_hash), name).await?;
    }
    let text = Bytes::from(narinfo.to_string());
    let path = layout::narinfo(narinfo.store_path.hash());
    if shared.storage.put_new(&path, text.clone()).await? {
        shared.metrics.narinfos_stored.add(1);
        return Ok(StatusCode::CREATED.into_response());
    }
    match shared.storage.read(&path, narinfo::SIZE_LIMIT).await? {
        Some((old, _)) if old == text => Ok(StatusCode::OK.into_response()),
        _ => Err(Refusal::Exists),
    }
}

/// The NAR that a narinfo names, and what is known of it. Where a plain NAR is named that is there in packed form,
/// that form is taken: where a NAR is and how it is packed is not signed.
async fn nar_of(shared: &Shared, claim: &NarInfo) -> Result<(NarFile, Found), Refusal> {
    let file = claim.url.as_str().strip_prefix("nar/").and_then(NarFile::parse).ok_or(Refusal::Url)?;
    if claim.compression != file.packing.compression() {
        return Err(Refusal::Mismatch { field: "Compression" });
    }
    let Some(facts) = shared.storage.facts(&file.path()).await? else {
        let packed = match file.packing {
            Packing::Plain => packed_file(shared, &file.hash).await?,
            _ => None,
        };
        return packed.ok_or(Refusal::MissingNar);
    };
    let record = shared.storage.read(&layout::checked(&file), 4096).await?;
    let found = record.and_then(|(record, _)| Found::from_record(&record, file.hash));
    if let Some(found) = found.filter(|found| found.file_size == facts.size) {
        return Ok((file, found));
    }
    // The file came here by other ways, or its server ended before the record was written.
    let _turn = shared.turns(1).await?;
    let mut stream = shared.storage.stream(&file.path(), 0..facts.size).await?.ok_or(Refusal::MissingNar)?;
    let (sender, pieces) = Pieces::channel(WAITING_PIECES);
    let nar_bytes = shared.limits.nar_bytes;
    let checking = tokio::task::spawn_blocking(move || check(pieces, file.packing, nar_bytes));
    while let Some(piece) = stream.try_next().await? {
        // If the check has ended early, the rest goes nowhere.
        if sender.send(piece).await.is_err() {
            break;
        }
    }
    drop(sender);
    let found = checking.await.map_err(|_| Refusal::Time)?.map_err(|source| Refusal::Check { source })?;
    if found.file_hash != file.hash {
        return Err(Refusal::Check { source: CheckError::Name });
    }
    shared.storage.put(&layout::checked(&file), found.to_record()).await?;
    Ok((file, found))
}

/// Whether the narinfo says the truth of its NAR. What it left open is filled in.
pub(crate) fn compare(mut claim: NarInfo, file: &NarFile, found: &Found) -> Result<NarInfo, Refusal> {
    let mismatch = |field| Err(Refusal::Mismatch { field });
    let names_this_file = claim.url.as_str().strip_prefix("nar/") == Some(file.to_string().as_str());
    if names_this_file && claim.file_hash.is_some_and(|hash| hash != found.file_hash) {
        return mismatch("FileHash");
    }
    if names_this_file && claim.file_size.is_some_and(|size| size != found.file_size) {
        return mismatch("FileSize");
    }
    if claim.nar_hash != found.nar_hash {
        return mismatch("NarHash");
    }
    if claim.nar_size != found.nar_size {
        return mismatch("NarSize");
    }
    claim.url = format!("nar/{file}").parse().expect("the names of NAR files have no spaces");
    claim.compression = file.packing.compression();
    claim.file_hash = Some(found.file_hash);
    claim.file_size = Some(found.file_size);
    match claim.content_address {
        // It is believed without a signature, so it must be true.
        Some(ContentAddress::RecursiveSha256(_)) => {
            let verified = Verified::by_content(claim);
            verified.map(Verified::into_inner).map_err(|source| Refusal::Unverified { source })
        }
        _ => Ok(claim),
    }
}

/// What a narinfo refers to besides itself.
fn references(narinfo: &NarInfo) -> impl Iterator<Item = &StorePath> {
    narinfo.references.iter().filter(|reference| **reference != narinfo.store_path)
}

/// Those of these paths that are not here.
async fn missing(shared: &Shared, paths: impl Iterator<Item = &StorePath>) -> Result<Vec<StorePath>, Refusal> {
    let look = |path: StorePath| {
        let storage = shared.storage.clone();
        async move {
            let facts = storage.facts(&layout::narinfo(path.hash())).await?;
            Ok::<_, Refusal>(facts.is_none().then_some(path))
        }
    };
    // The futures are made before the stream: as a closure in it, the compiler can't tell that they may be sent.
    let looks: Vec<_> = paths.cloned().map(look).collect();
    let looked = futures_util::stream::iter(looks).buffered(REFERENCES_AT_ONCE);
    let missing: Vec<Option<StorePath>> = looked.try_collect().await?;
    Ok(missing.into_iter().flatten().collect())
}

/// The references that are not here but at an upstream, with a narinfo that is handed on: who asks for them is told
/// that they are there, and doesn't upload them. Upstreams can be slow, so this comes before garbage collection has to
/// wait: it has no say about what isn't here.
async fn references_elsewhere(shared: &Shared, claim: &NarInfo) -> Result<HashSet<StorePath>, Refusal> {
    let Some(proxy) = &shared.proxy else { return Ok(HashSet::new()) };
    let ask = |path: StorePath| async move {
        let found = proxy.narinfo(shared, path.hash()).await?;
        Ok::<_, Refusal>(found.map(|_| path))
    };
    let asks: Vec<_> = missing(shared, references(claim)).await?.into_iter().map(ask).collect();
    let asked = futures_util::stream::iter(asks).buffered(REFERENCES_AT_ONCE);
    let found: Vec<Option<StorePath>> = asked.try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
