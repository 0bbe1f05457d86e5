//! Other caches behind this one: what isn't here is asked for there, handed on, and kept once it was checked.
//!
//! Only a narinfo that one of the upstreams' keys has signed is believed. It is handed on with the URL that its NAR
//! gets here, and kept for good when the NAR has come: looked into like an upload, and what the narinfo says.
//!
//! An upstream that gives no answer is left out for a while (see `outage`).

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use nixcache_core::nix::{Asked, Compression, NarInfo, StorePathHash, TrustedKeys, Verified, nar, narinfo};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::bucket::http_client;
use crate::error::Refusal;
use crate::layout::{self, NarFile};
use crate::log::Sink;
use crate::options::{Limits, Upstreams};
use crate::outage::Outage;
use crate::server::Shared;
use crate::storage::StorageError;
use crate::upload::{compare, take_nar};
use crate::verify::Verifier;

/// How long all upstreams together may keep a client waiting for a narinfo, in times of one. Ours waits 2.5 s for a
/// sign of life.
const TOGETHER: u32 = 2;

/// How long an upstream may take to begin a NAR, in times of a narinfo: it may have to fetch it itself.
const BEGIN_NAR: u32 = 5;

/// How long an answer is waited for, beyond which nobody does any more, to see whether one comes at all.
const LATE: Duration = Duration::from_secs(10);

/// NARs that are fetched at once; others wait.
const FETCHES: usize = 16;

/// Pieces of a NAR that wait for a client.
const WAITING_PIECES: usize = 8;

/// The largest record.
const RECORD_LIMIT: usize = 2 << 20;

/// Why an upstream's answer isn't used.
#[derive(Debug, thiserror::Error)]
enum UpstreamError {
    #[error("ask it")]
    Request { source: reqwest::Error },
    #[error("ask it: it answers with {status}")]
    Status { status: u16 },
    #[error("it took too long")]
    Time,
    #[error("it was left out: it gave no answer a short while ago")]
    LeftOut,
    #[error("its narinfo is too large")]
    TooLarge,
    #[error("read its narinfo")]
    NarInfo { source: narinfo::NarInfoError },
    #[error("believe its narinfo")]
    Unverified { source: nixcache_core::nix::Unverified },
    #[error(
        "its NAR has a form that can't be kept: its file must have a hash, and be packed with zstd, xz or not at all"
    )]
    Form,
}

impl UpstreamError {
    /// Whether there was no answer. Some statuses say just that, for what is behind who answers, or ask to be left
    /// alone.
    fn is_silence(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Time => true,
            Self::Status { status } => matches!(status, 429 | 502..=504),
            _ => false,
        }
    }
}

/// Why a text is not the URL of a cache. It doesn't say which text: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use it as the URL of a cache: it must be http:// or https://, without user, query and fragment")]
pub struct UpstreamUrlError;

/// Where another cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl(Url);

impl FromStr for UpstreamUrl {
    type Err = UpstreamUrlError;

    fn from_str(text: &str) -> Result<Self, UpstreamUrlError> {
        let mut url = Url::parse(text).map_err(|_| UpstreamUrlError)?;
        let plain = url.username().is_empty() && url.password().is_none();
        let plain = plain && url.query().is_none() && url.fragment().is_none();
        if !plain || !matches!(url.scheme(), "http" | "https") {
            return Err(UpstreamUrlError);
        }
        // Names are joined to a directory.
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self(url))
    }
}

/// The caches behind this one.
pub(crate) struct Proxy {
    client: reqwest::Client,
    upstreams: Vec<Arc<Upstream>>,
    verifier: Verifier,
    fetches: Semaphore,
    /// How long one upstream may take for a narinfo.
    time: Duration,
}

/// One of them.
struct Upstream {
    base: Url,
    outage: Outage,
    sink: Sink,
}

/// What is known of a NAR that is not here yet.
#[derive(Serialize, Deserialize)]
struct Record {
    url: Url,
    /// As it is handed on.
    narinfo: String,
}

impl Proxy {
    /// `None` if there are no upstreams.
    pub(crate) fn new(upstreams: Upstreams, limits: &Limits, sink: &Sink) -> Result<Option<Self>, StorageError> {
        if upstreams.urls.is_empty() {
            return Ok(None);
        }
        let client = http_client(reqwest::redirect::Policy::limited(5))?;
        let fetches = Semaphore::new(FETCHES);
        let verifier = Verifier::new(upstreams.keys);
        let upstream = |UpstreamUrl(base)| {
            let outage = Outage::new(limits.upstream_pause);
            Arc::new(Upstream { base, outage, sink: sink.clone() })
        };
        let upstreams = upstreams.urls.into_iter().map(upstream).collect();
        Ok(Some(Self { client, upstreams, verifier, fetches, time: limits.upstream_time }))
    }

    /// The keys that upstreams are believed by.
    pub(crate) fn keys(&self) -> &TrustedKeys {
        self.verifier.keys()
    }

    /// The narinfo of the first upstream that has one which is to be believed. An upstream that fails is passed over,
    /// and the log says so.
    pub(crate) async fn narinfo(&self, shared: &Shared, hash: &StorePathHash) -> Result<Option<Bytes>, Refusal> {
        let deadline = Instant::now() + self.time * TOGETHER;
        for upstream in &self.upstreams {
            let base = &upstream.base;
            let Ok(asked) = timeout_at(deadline, self.ask(upstream, hash)).await else { break };
            let found = match asked {
                Ok(Some(text)) => self.believe(base, hash, &text).await,
                Ok(None) | Err(UpstreamError::LeftOut) => continue,
                Err(error) => Err(error),
            };
            let (file, url, mut narinfo) = match found {
                Ok(found) => found,
                Err(error) => {
                    // That it is left out was said.
                    if !error.is_silence() || !upstream.outage.is_left_out() {
                        shared.sink.trouble(&format!("{hash} is not taken from {}", shown(base)), &error);
                    }
                    continue;
                }
            };
            if let Some(key) = &shared.signing_key {
                narinfo.sign(key);
            }
            let text = narinfo.to_string();
            let record = Record { url, narinfo: text.clone() };
            let record = serde_json::to_vec(&record).expect("an URL and a text");
            shared.storage.put(&layout::upstream(&file), record.into()).await?;
            return Ok(Some(text.into()));
        }
        Ok(None)
    }

    /// Asks an upstream for a narinfo, unless it is left out. Whether it answers is found out even if who asked has no
    /// patience for that: else clients that soon leave would wait in vain again and again.
    async fn ask(&self, upstream: &Arc<Upstream>, hash: &StorePathHash) -> Result<Option<Bytes>, UpstreamError> {
        let began = Instant::now();
        if !upstream.outage.may_ask(began) {
            return Err(UpstreamError::LeftOut);
        }
        let url = upstream.base.join(&format!("{hash}.narinfo")).expect("a hash is a relative URL");
        let mut request = Box::pin(fetch_narinfo(self.client.clone(), url));
        let (upstream, time) = (Arc::clone(upstream), self.time);
        let (sender, answer) = oneshot::channel();
        tokio::spawn(async move {
            let (result, late) = match timeout(time, &mut request).await {
                Ok(result) => (result, None),
                Err(_) => (Err(UpstreamError::Time), Some(request)),
            };
            let begins_pause = upstream.note(began, &result);
            // Nobody may be there any more.
            let _ = sender.send(result);
            // One is enough to see whether it comes late, so these don't add up.
            if let Some(late) = late.filter(|_| begins_pause)
                && let Ok(result) = timeout(LATE, late).await
                && !result.is_err_and(|error| error.is_silence())
            {
                upstream.outage.answered_late(Instant::now());
            }
        });
        answer.await.unwrap_or(Err(UpstreamError::Time))
    }

    /// Reads what an upstream has answered. The result is as it is handed on.
    async fn believe(
        &self,
        base: &Url,
        hash: &StorePathHash,
        text: &[u8],
    ) -> Result<(NarFile, Url, NarInfo), UpstreamError> {
        let claim = NarInfo::parse(text, Asked::Hash(hash)).map_err(|source| UpstreamError::NarInfo { source })?;
        let verified = self.verifier.verify(claim).await.map_err(|source| UpstreamError::Unverified { source })?;
        let mut narinfo = Verified::into_inner(verified);
        let file = file_of(&narinfo).ok_or(UpstreamError::Form)?;
        let url = base.join(narinfo.url.as_str()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or(UpstreamError::Form)?;
        narinfo.url = format!("nar/{file}").parse().expect("the names of NAR files have no spaces");
        narinfo.file_hash = Some(file.hash);
        Ok((file, url, narinfo))
    }

    /// Begins to fetch a NAR, unless the upstream that it is at is left out.
    async fn begin_nar(&self, url: &Url) -> Result<reqwest::Response, UpstreamError> {
        let began = Instant::now();
        // A NAR can be elsewhere than its narinfo. Of such places nothing is remembered.
        let upstream = self.upstreams.iter().find(|upstream| upstream.base.origin() == url.origin());
        if upstream.is_some_and(|upstream| !upstream.outage.may_ask(began)) {
            return Err(UpstreamError::LeftOut);
        }
        let result = match timeout(self.time * BEGIN_NAR, self.client.get(url.clone()).send()).await {
            Ok(Ok(response)) if response.status().as_u16() == 200 => Ok(response),
            Ok(Ok(response)) => Err(UpstreamError::Status { status: response.status().as_u16() }),
            Ok(Err(source)) => Err(UpstreamError::Request { source: source.without_url() }),
            Err(_) => Err(UpstreamError::Time),
        };
        if let Some(upstream) = upstream {
            upstream.note(began, &result);
        }
        result
    }
}

impl Upstream {
    /// Notes how a request went that was begun at `began`. Tells whether the upstream is left out from now on.
    fn note<T>(&self, began: Instant, result: &Result<T, UpstreamError>) -> bool {
        match result {
            Err(error) if error.is_silence() => {
                let pause = self.outage.failed(began, Instant::now());
                if let Some(pause) = pause {
                    let what = format!("{} is left out for {} s", shown(&self.base), pause.as_secs_f32());
                    self.sink.trouble(&what, error);
                }
                pause.is_some()
            }
            _ => {
                self.outage.answered(Instant::now());
                false
            }
        }
    }
}

/// The text of a narinfo; `None` if there is none.
async fn fetch_narinfo(client: reqwest::Client, url: Url) -> Result<Option<Bytes>, UpstreamError> {
    let mut request = client.get(url.clone()).send().await;
    // A connection that was idle can end at the moment when it is used again, which says nothing of the upstream.
    if request.as_ref().is_err_and(|error| !error.is_connect()) {
        request = client.get(url).send().await;
    }
    let mut response = request.map_err(|source| UpstreamError::Request { source: source.without_url() })?;
    match response.status().as_u16() {
        200 => {}
        403 | 404 | 410 => return Ok(None),
        status => return Err(UpstreamError::Status { status }),
    }
    let mut text = BytesMut::new();
    loop {
        let piece = response.chunk().await;
        match piece.map_err(|source| UpstreamError::Request { source: source.without_url() })? {
            Some(piece) if text.len() + piece.len() <= narinfo::SIZE_LIMIT => text.extend_from_slice(&piece),
            Some(_) => return Err(UpstreamError::TooLarge),
            None => return Ok(Some(text.freeze())),
        }
    }
}

/// What the NAR is called here. What isn't compressed has the NAR's own hash.
fn file_of(narinfo: &NarInfo) -> Option<NarFile> {
    let hash = match narinfo.compression {
        Compression::None => Some(narinfo.nar_hash),
        _ => narinfo.file_hash,
    };
    let name = nixcache_core::nix::NarUrl::by_convention(&hash?, &narinfo.compression);
    NarFile::parse(name.as_str().strip_prefix("nar/")?)
}

/// An URL without what can be secret.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Fetches a NAR that an upstream has and hands it on while it comes. The last piece is held back until the check has
/// passed, so that no client gets the whole of a wrong one.
pub(crate) async fn nar(shared: &Arc<Shared>, file: &NarFile) -> Result<Response, Refusal> {
    let Some(proxy) = &shared.proxy else { return Err(Refusal::NotFound) };
    let read = shared.storage.read(&layout::upstream(file), RECORD_LIMIT).await?;
    let record: Option<Record> = read.and_then(|(record, _)| serde_json::from_slice(&record).ok());
    let record = record.ok_or(Refusal::NotFound)?;
    let narinfo = NarInfo::parse(record.narinfo.as_bytes(), Asked::Anything);
    let narinfo = narinfo.map_err(|source| Refusal::NarInfo { source })?;
    let size = narinfo.file_size;
    let response = proxy.begin_nar(&record.url).await.map_err(|error| {
        shared.sink.trouble(&format!("{} can't be fetched", shown(&record.url)), &error);
        Refusal::NotFound
    })?;
    let (client, pieces) = mpsc::channel(WAITING_PIECES);
    // If the client leaves, what was begun is still kept.
    tokio::spawn(keep(Arc::clone(shared), *file, narinfo, response, client));
    let body = Body::from_stream(futures_util::stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    }));
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(nar::MEDIA_TYPE));
    if let Some(size) = size {
        answer.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    }
    Ok(answer)
}

async fn keep(
    shared: Arc<Shared>,
    file: NarFile,
    narinfo: NarInfo,
    response: reqwest::Response,
    client: mpsc::Sender<std::io::Result<Bytes>>,
) {
    let proxy = shared.proxy.as_ref().expect("only a proxy fetches");
    let _turn = proxy.fetches.acquire().await.expect("the semaphore is never closed");
    let held: Arc<Mutex<Option<Bytes>>> = Arc::default();
    let (holding, sender, limit) = (Arc::clone(&held), client.clone(), shared.limits.file_bytes);
    let state = (response, 0u64);
    let pieces = futures_util::stream::try_unfold(state, move |(mut response, length)| {
        let (holding, sender) = (Arc::clone(&holding), sender.clone());
        async move {
            let piece = response.chunk().await.map_err(|_| Refusal::CutOff)?;
            let Some(piece) = piece else { return Ok(None) };
            let length = length + piece.len() as u64;
            if length > limit {
                return Err(Refusal::TooLarge { limit });
            }
            let before = holding.lock().unwrap_or_else(PoisonError::into_inner).replace(piece.clone());
            if let Some(before) = before {
                // A client that has left needs nothing; the rest is fetched all the same.
                let _ = sender.send(Ok(before)).await;
            }
            Ok(Some((piece, (response, length))))
        }
    });
    let kept = async {
        let found = take_nar(&shared, pieces.boxed(), &file, false).await?;
        let narinfo = compare(narinfo, &file, &found)?;
        let store = async {
            let _entered = shared.gate.enter(&shared.storage).await?;
            if shared.storage.facts(&file.path()).await?.is_none() {
                return Err(Refusal::MissingNar);
            }
            if file.packing != layout::Packing::Plain {
                shared.storage.put(&layout::plain(&found.nar_hash), file.to_string().into()).await?;
            }
            let path = layout::narinfo(narinfo.store_path.hash());
            shared.storage.put_new(&path, narinfo.to_string().into()).await?;
            Ok::<_, Refusal>(())
        };
        tokio::time::timeout(shared.limits.request_time, store).await.map_err(|_| Refusal::Time)?
    };
    match kept.await {
        Ok(()) => {
            let last = held.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(last) = last {
                let _ = client.send(Ok(last)).await;
            }
        }
        Err(error) => {
            shared.sink.trouble(&format!("nar/{file} of an upstream is not kept"), &error);
            let _ = client.send(Err(std::io::Error::other("the NAR is not what its narinfo says"))).await;
        }
    }
}
