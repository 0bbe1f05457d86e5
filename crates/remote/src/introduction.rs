//! What a cache says of itself to somebody who wants to use it: that it is one, and which keys sign what it holds.
//!
//! ```text
//! our server   GET api/v1/public-keys                    → {"version": 1, "public_keys": ["<name>:<base64>", …]}
//! Cachix       GET cache/<name>          (its API)       → {"publicSigningKeys": ["<name>:<base64>", …], …}
//! Attic        GET cache-config/<name>   (its API)       → {"public_key": "<name>:<base64>", …}
//! ```
//!
//! Directories, buckets and other servers don't say. An answer proves nothing: it is shown to the user, who decides.

use std::time::Duration;

use nixcache_core::nix::signature::KeyError;
use nixcache_core::nix::{CacheInfo, PublicKey};
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::cache::{Http, Request};
use crate::cache_url::{CacheUrl, Place};
use crate::credentials::Credentials;
use crate::error::CacheError;
use crate::network::NetworkOptions;
use crate::remote::{Opener, RemoteError};

/// The largest answer that is read.
const ANSWER: usize = 64 * 1024;

/// More keys than this nobody looks through.
const KEYS: usize = 16;

/// The version of our own server's answer that is understood.
const VERSION: u32 = 1;

/// What a cache says of itself.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// Its description. Servers have one; a directory or bucket that nothing was published to has none yet.
    pub info: Option<CacheInfo>,
    /// The keys that sign what it holds, if this kind of cache says so.
    pub keys: Vec<PublicKey>,
}

/// Why a cache could not be asked for its keys.
#[derive(Debug, thiserror::Error)]
pub enum IntroductionError {
    /// The network, or this kind of cache, can't be used.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The cache could not be asked.
    #[error("ask {cache}")]
    Cache {
        /// The cache.
        cache: String,
        /// Why not.
        #[source]
        source: CacheError,
    },
    /// There is something else than a cache.
    #[error("use {cache}: there is no binary cache, as it has no nix-cache-info")]
    NoCache {
        /// The cache.
        cache: String,
    },
    /// It is for another store directory.
    #[error("use {cache}")]
    StoreDirectory {
        /// The cache.
        cache: String,
        /// Which one.
        #[source]
        source: CacheError,
    },
    /// What it gives as a key is none.
    #[error("read the keys of {cache}")]
    Key {
        /// The cache.
        cache: String,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// It gives more keys than anybody would look through.
    #[error("read the keys of {cache}: there are more than {KEYS}")]
    TooMany {
        /// The cache.
        cache: String,
    },
}

#[derive(Deserialize)]
struct OurAnswer {
    version: u32,
    public_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CachixAnswer {
    public_signing_keys: Vec<String>,
}

#[derive(Deserialize)]
struct AtticAnswer {
    public_key: Option<String>,
}

/// Asks the cache at `url` what it is and which keys sign what it holds. Blocks.
pub fn introduce(
    url: &CacheUrl,
    credentials: &Credentials,
    network: &NetworkOptions,
) -> Result<Introduction, IntroductionError> {
    let opener = Opener::new([url], credentials, network)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RemoteError::Threads { source })?;
    let introduction = runtime.block_on(ask(url, &opener, network.request_limit));
    // Not waited for: a name that can't be resolved would hold a thread.
    runtime.shutdown_background();
    introduction
}

async fn ask(url: &CacheUrl, opener: &Opener<'_>, limit: Duration) -> Result<Introduction, IntroductionError> {
    let name = || url.to_string();
    let failed = |source| IntroductionError::Cache { cache: name(), source };
    let late = |_| failed(CacheError::TimedOut { after: limit });
    let cache = opener.open(url)?;
    let info = timeout(limit, cache.info()).await.map_err(late)?.map_err(failed)?;
    match &info {
        Some(info) if !info.store_directory.is_default() => {
            let source = CacheError::StoreDirectory { directory: info.store_directory.clone() };
            return Err(IntroductionError::StoreDirectory { cache: name(), source });
        }
        None if !matches!(url.place, Place::File(_) | Place::S3(_)) => {
            return Err(IntroductionError::NoCache { cache: name() });
        }
        _ => {}
    }
    let keys = timeout(limit, keys(url, opener)).await.map_err(late)??;
    if keys.len() > KEYS {
        return Err(IntroductionError::TooMany { cache: name() });
    }
    let read = |key: &String| key.parse().map_err(|source| IntroductionError::Key { cache: name(), source });
    Ok(Introduction { info, keys: keys.iter().map(read).collect::<Result<_, _>>()? })
}

/// The keys as the cache writes them. None if this kind of cache, or this one, says nothing.
async fn keys(url: &CacheUrl, opener: &Opener<'_>) -> Result<Vec<String>, IntroductionError> {
    let failed = |source| IntroductionError::Cache { cache: url.to_string(), source };
    Ok(match &url.place {
        Place::File(_) | Place::S3(_) => Vec::new(),
        Place::Http { .. } => {
            // Another server may answer anything to what it doesn't know, a page for people for instance.
            let answer = get(&opener.http(url), "api/v1/public-keys").await;
            let answer: Option<OurAnswer> = match answer {
                Err(CacheError::Status { .. } | CacheError::Forbidden { .. } | CacheError::Answer { .. }) => None,
                answer => answer.map_err(failed)?,
            };
            answer.filter(|answer| answer.version == VERSION).map(|answer| answer.public_keys).unwrap_or_default()
        }
        Place::Cachix { name } => {
            let answer: Option<CachixAnswer> =
                get(&opener.cachix_api(url)?, &format!("cache/{name}")).await.map_err(failed)?;
            answer.map(|answer| answer.public_signing_keys).unwrap_or_default()
        }
        Place::Attic { cache, .. } => {
            let answer: Option<AtticAnswer> =
                get(&opener.attic_api(url), &format!("cache-config/{cache}")).await.map_err(failed)?;
            answer.and_then(|answer| answer.public_key).into_iter().collect()
        }
    })
}

/// A small answer in JSON; `None` if there is nothing.
async fn get<T: DeserializeOwned>(http: &Http, name: &str) -> Result<Option<T>, CacheError> {
    let url = http.url(name)?;
    let address = url.to_string();
    let response = http.send(&Request::new(Method::GET, url)).await?;
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    http.check(&response)?;
    let bytes = http.whole(response, ANSWER).await?;
    serde_json::from_slice(&bytes).map(Some).map_err(|source| CacheError::Answer { address, source })
}
