//! Other caches behind this one: what isn't here is asked for there, handed on, and kept once it was checked.
//!
//! Only a narinfo that one of the upstreams' keys has signed is believed. It is handed on with the URL that its NAR
//! gets here, and kept for good when the NAR has come: looked into like an upload, and what the narinfo says.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Method, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use nixcache_core::nix::{Asked, Compression, NarInfo, StorePathHash, TrustedKeys, Verified, nar, narinfo};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use url::Url;

use crate::bucket::http_client;
use crate::error::Refusal;
use crate::layout::{self, NarFile};
use crate::options::Upstreams;
use crate::server::Shared;
use crate::storage::StorageError;
use crate::upload::{compare, take_nar};
use crate::verify::Verifier;

/// How long an upstream may take to answer with a narinfo. A client waits for it.
const NARINFO_TIME: Duration = Duration::from_secs(10);

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
    urls: Vec<UpstreamUrl>,
    verifier: Verifier,
    fetches: Semaphore,
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
    pub(crate) fn new(upstreams: Upstreams) -> Result<Option<Self>, StorageError> {
        if upstreams.urls.is_empty() {
            return Ok(None);
        }
        let client = http_client(reqwest::redirect::Policy::limited(5))?;
        let fetches = Semaphore::new(FETCHES);
        Ok(Some(Self { client, urls: upstreams.urls, verifier: Verifier::new(upstreams.keys), fetches }))
    }

    /// The keys that upstreams are believed by.
    pub(crate) fn keys(&self) -> &TrustedKeys {
        self.verifier.keys()
    }

    /// The narinfo of the first upstream that has one which is to be believed. An upstream that fails is left out,
    /// and the log says so.
    pub(crate) async fn narinfo(&self, shared: &Shared, hash: &StorePathHash) -> Result<Option<Bytes>, Refusal> {
        for UpstreamUrl(base) in &self.urls {
            let asked = tokio::time::timeout(NARINFO_TIME, self.ask(base, hash)).await;
            let found = match asked.unwrap_or(Err(UpstreamError::Time)) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    shared.sink.trouble(&format!("{hash} is not taken from {}", shown(base)), &error);
                    continue;
                }
            };
            let (file, url, mut narinfo) = found;
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

    async fn ask(&self, base: &Url, hash: &StorePathHash) -> Result<Option<(NarFile, Url, NarInfo)>, UpstreamError> {
        let url = base.join(&format!("{hash}.narinfo")).expect("a hash is a relative URL");
        let request = self.client.get(url.clone()).send().await;
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
                None => break,
            }
        }
        let claim = NarInfo::parse(&text, Asked::Hash(hash)).map_err(|source| UpstreamError::NarInfo { source })?;
        let verified = self.verifier.verify(claim).await.map_err(|source| UpstreamError::Unverified { source })?;
        let mut narinfo = Verified::into_inner(verified);
        let file = file_of(&narinfo).ok_or(UpstreamError::Form)?;
        let url = url.join(narinfo.url.as_str()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or(UpstreamError::Form)?;
        narinfo.url = format!("nar/{file}").parse().expect("the names of NAR files have no spaces");
        narinfo.file_hash = Some(file.hash);
        Ok(Some((file, url, narinfo)))
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
pub(crate) async fn nar(shared: &Arc<Shared>, method: &Method, file: &NarFile) -> Result<Response, Refusal> {
    let Some(proxy) = &shared.proxy else { return Err(Refusal::NotFound) };
    let read = shared.storage.read(&layout::upstream(file), RECORD_LIMIT).await?;
    let record: Option<Record> = read.and_then(|(record, _)| serde_json::from_slice(&record).ok());
    let record = record.ok_or(Refusal::NotFound)?;
    let narinfo = NarInfo::parse(record.narinfo.as_bytes(), Asked::Anything);
    let narinfo = narinfo.map_err(|source| Refusal::NarInfo { source })?;
    let size = narinfo.file_size;
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let request = proxy.client.get(record.url.clone()).send().await;
        let response = request.ok().filter(|response| response.status().as_u16() == 200);
        let Some(response) = response else {
            shared.sink.send(&crate::log::Event::Trouble(format!("{} can't be fetched", shown(&record.url))));
            return Err(Refusal::NotFound);
        };
        let (client, pieces) = mpsc::channel(WAITING_PIECES);
        // If the client leaves, what was begun is still kept.
        tokio::spawn(keep(Arc::clone(shared), *file, narinfo, response, client));
        Body::from_stream(futures_util::stream::unfold(pieces, |mut pieces| async move {
            pieces.recv().await.map(|piece| (piece, pieces))
        }))
    };
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
