//! The caches of a build, for a caller that is not asynchronous: a small runtime, and what all requests share.

use std::collections::BTreeMap;
use std::sync::Arc;

use nixcache_core::nix::{NarInfo, SecretKey, Sha256, StorePath, StorePathHash, TrustedKeys, Verified};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use url::Url;

use crate::allowance::{Allowance, Budget};
use crate::cache::{Attic, Cache, Cachix, Directory, Http, S3, StandardCache, WritableCache};
use crate::cache_url::{CacheUrl, Place};
use crate::credentials::Credentials;
use crate::event::{Listener, RemoteEvent};
use crate::fetch::{Decoders, FetchError};
use crate::network::{self, NetworkOptions};
use crate::publish::Publisher;
use crate::set::{Answer, Answers, Member, Trust, Wanted};
use crate::turns::Turns;

/// Threads for the network. Decompression and unpacking have threads of their own.
const THREADS: usize = 2;

/// What a build fetches from and publishes to.
#[derive(Default)]
pub struct RemoteOptions {
    /// The caches to fetch from, the best first. [`CacheUrl::priority`] comes before this order.
    pub caches: Vec<CacheUrl>,
    /// The caches to publish to.
    pub publish: Vec<CacheUrl>,
    /// Whose signatures count.
    pub trusted_keys: TrustedKeys,
    /// Paths whose content is known already, from a lock file for example. For these no signature counts, and none is
    /// needed.
    pub pinned: BTreeMap<StorePath, Pinned>,
    /// Signs what is published. Without it nothing is signed here: a server may do it.
    pub secret_key: Option<SecretKey>,
    /// What to prove who we are with.
    pub credentials: Credentials,
    /// Limits, proxies and certificates.
    pub network: NetworkOptions,
}

/// What is known of a path's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The hash of its NAR.
    pub nar_hash: Sha256,
    /// The size of its NAR. Without it, it is the cache's word, and how much is read is bounded by how much comes.
    pub nar_size: Option<u64>,
}

/// Why the caches of a build can't be used at all. A cache that is down is not among it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The threads for the network can't be started.
    #[error("start the threads for the network")]
    Threads {
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client can't be made.
    #[error("set up the HTTP client")]
    Client {
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The URL of a proxy is none. It is not told: it can hold a password.
    #[error("read the URL of a proxy from http_proxy, https_proxy or all_proxy")]
    Proxy,
    /// The file of certificates has none, or a broken one.
    #[error("read the certificates in place of the machine's: they are not certificates in PEM")]
    Certificates,
    /// A bucket can't be set up.
    #[error("set up the bucket {bucket}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// Why not.
        #[source]
        source: object_store::Error,
    },
    /// A bucket's URL names a profile that there are no keys for.
    #[error("find the keys of the profile {profile}, which the URL of a bucket names")]
    Profile {
        /// The profile.
        profile: String,
    },
    /// The API of Cachix is not an HTTP URL.
    #[error("use the API of Cachix: its URL must begin with https:// or http://")]
    CachixApi,
}

/// What all requests of a build share.
pub(crate) struct Shared {
    members: Vec<Arc<Member>>,
    pub(crate) publishers: Vec<Arc<Publisher>>,
    trust: Arc<Trust>,
    pub(crate) secret_key: Option<SecretKey>,
    listener: Listener,
    /// NARs that may be fetched at once.
    pub(crate) nars: Arc<Turns>,
    pub(crate) decoders: Arc<Decoders>,
    pub(crate) network: NetworkOptions,
    pub(crate) budget: Budget,
}

impl Shared {
    pub(crate) fn ask(&self, path: &StorePath, wanted: &Wanted) -> Answers {
        Answers::ask(&self.members, path, Arc::clone(&self.trust), Arc::clone(&self.listener), wanted)
    }

    /// Says which paths will be asked for.
    pub(crate) fn announce(&self, hashes: &[StorePathHash]) {
        self.members.iter().for_each(|member| member.announce(hashes));
    }

    /// Ends all fetching: it is not worth its time any more. A cache that has given nothing at all is left out, so that
    /// nobody waits for it again.
    pub(crate) fn end_fetching(&self) {
        if self.budget.spend() {
            let after = self.budget.elapsed();
            let silent = self.members.iter().filter(|member| member.guard.leave_out_if_silent(after)).count();
            if silent == 0 {
                self.tell(RemoteEvent::FetchingEnded { after });
            }
        }
    }

    pub(crate) fn tell(&self, event: RemoteEvent) {
        (self.listener)(event);
    }
}

/// The caches of a build.
pub struct Remote {
    shared: Arc<Shared>,
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
}

/// A path that a cache has, and that somebody trusted vouches for.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is vouched for.
    pub narinfo: Verified<NarInfo>,
    /// The cache, as it is shown.
    pub cache: String,
}

impl Remote {
    /// Sets the caches up. None of them is asked yet.
    pub fn new(
        options: RemoteOptions,
        events: impl Fn(RemoteEvent) + Send + Sync + 'static,
    ) -> Result<Self, RemoteError> {
        let mut options = options;
        options.caches.sort_by_key(CacheUrl::priority);
        let urls = options.caches.iter().chain(&options.publish);
        let opener = Opener::new(urls, &options.credentials, &options.network)?;
        let listener: Listener = Arc::new(events);
        let mut members: Vec<Arc<Member>> = Vec::new();
        let mut publishers: Vec<Arc<Publisher>> = Vec::new();
        for url in &options.caches {
            if !members.iter().any(|member| member.is_at(url)) {
                let cache = opener.open(url)?;
                members.push(Arc::new(Member::new(cache, Arc::clone(&listener), &options.network)));
            }
        }
        for url in &options.publish {
            if !publishers.iter().any(|publisher| publisher.is_at(url)) {
                let read_too = members.iter().find(|member| member.is_at(url)).cloned();
                let cache = opener.open_writable(url)?;
                let publisher = Publisher::new(cache, read_too, Arc::clone(&listener), &options.network);
                publishers.push(Arc::new(publisher));
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("nixcache-remote")
            .enable_all()
            .build()
            .map_err(|source| RemoteError::Threads { source })?;
        let shared = Shared {
            members,
            publishers,
            trust: Arc::new(Trust { keys: options.trusted_keys, pinned: options.pinned }),
            secret_key: options.secret_key,
            listener,
            nars: Turns::new(options.network.nars_at_once),
            decoders: Arc::default(),
            network: options.network,
            budget: Budget::default(),
        };
        Ok(Self { shared: Arc::new(shared), runtime: Some(runtime) })
    }

    /// Looks for paths, all at once: what a cache has of them that can be believed. Nothing is fetched.
    ///
    /// `None` is said of a path only if every cache was asked, and none has it. Where a cache failed or was left out,
    /// and no other has the path, there is an error: it would be wrong to take the path for missing.
    pub fn look_up(&self, paths: &[StorePath]) -> Vec<Result<Option<Found>, FetchError>> {
        let hashes: Vec<_> = paths.iter().map(|path| *path.hash()).collect();
        self.shared.announce(&hashes);
        let (_until_the_end, wanted) = watch::channel(false);
        let asked = paths.iter().map(|path| async {
            let mut answers = self.shared.ask(path, &wanted);
            match answers.next().await {
                Some(Answer { member, narinfo, .. }) => Ok(Some(Found { narinfo, cache: member.guard.shown.clone() })),
                None => answers.end().map_or(Ok(None), Err),
            }
        });
        self.handle().block_on(futures_util::future::join_all(asked))
    }

    /// Bounds the time of all fetching by what it is worth. Without this it takes as long as it takes. The first
    /// allowance counts.
    pub fn allow(&self, allowance: Allowance) {
        self.shared.budget.set(allowance);
    }

    /// Whether there is any cache to fetch from.
    pub fn can_fetch(&self) -> bool {
        !self.shared.members.is_empty()
    }

    /// Whether there is a cache to fetch from that was not left out.
    pub fn is_any_usable(&self) -> bool {
        self.shared.members.iter().any(|member| !member.guard.is_left_out())
    }

    /// Whether there is any cache to publish to.
    pub fn can_publish(&self) -> bool {
        !self.shared.publishers.is_empty()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("it is there until it is dropped").handle()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Not waited for: a name that can't be resolved would hold a thread, and with it the end of the build.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes caches of URLs.
pub(crate) struct Opener<'a> {
    client: Option<reqwest::Client>,
    credentials: &'a Credentials,
    network: &'a NetworkOptions,
}

impl<'a> Opener<'a> {
    /// Ready for all of `urls`.
    pub(crate) fn new<'u>(
        urls: impl IntoIterator<Item = &'u CacheUrl>,
        credentials: &'a Credentials,
        network: &'a NetworkOptions,
    ) -> Result<Self, RemoteError> {
        let client = match urls.into_iter().any(CacheUrl::is_remote) {
            true => Some(network::client(network)?),
            false => None,
        };
        Ok(Self { client, credentials, network })
    }

    fn client(&self) -> reqwest::Client {
        self.client.clone().expect("it is made when a cache is remote")
    }

    pub(crate) fn open(&self, url: &CacheUrl) -> Result<Arc<dyn Cache>, RemoteError> {
        Ok(match &url.place {
            Place::File(root) => Arc::new(self.standard(url, Directory::new(root.clone()))),
            Place::S3(bucket) => {
                let files = S3::new(bucket, &self.credentials.aws, self.client(), self.network)?;
                Arc::new(self.standard(url, files))
            }
            Place::Http { .. } => Arc::new(self.standard(url, self.http(url))),
            Place::Cachix { .. } | Place::Attic { .. } => Arc::new(self.standard(url, self.http(url).one_by_one())),
        })
    }

    fn open_writable(&self, url: &CacheUrl) -> Result<Arc<dyn WritableCache>, RemoteError> {
        Ok(match &url.place {
            Place::File(root) => Arc::new(self.standard(url, Directory::new(root.clone()))),
            Place::S3(bucket) => {
                let files = S3::new(bucket, &self.credentials.aws, self.client(), self.network)?;
                Arc::new(self.standard(url, files))
            }
            Place::Http { .. } => Arc::new(self.standard(url, self.http(url))),
            Place::Cachix { name } => {
                Arc::new(Cachix::new(name.clone(), self.standard(url, self.http(url)), self.cachix_api(url)?))
            }
            Place::Attic { cache, .. } => {
                Arc::new(Attic::new(cache.clone(), self.standard(url, self.http(url)), self.attic_api(url)))
            }
        })
    }

    fn standard<F: crate::cache::Files>(&self, url: &CacheUrl, files: F) -> StandardCache<F> {
        StandardCache::new(url.clone(), files)
    }

    /// The API of Cachix, with what it is to know of us for the cache at `url`.
    pub(crate) fn cachix_api(&self, url: &CacheUrl) -> Result<Http, RemoteError> {
        let api = match &self.network.cachix_api {
            Some(api) => api.http_base(),
            None => Url::parse("https://cachix.org/api/v1/").ok(),
        };
        let api = api.ok_or_else(|| RemoteError::CachixApi)?;
        let authorization = self.credentials.cachix_authorization(url);
        Ok(Http::new(api, authorization, self.client(), self.network.clone()))
    }

    /// The API of the server that the cache at `url`, one of Attic's, is on.
    pub(crate) fn attic_api(&self, url: &CacheUrl) -> Http {
        let cache = url.http_base().expect("these kinds of cache have an address");
        let api = cache.join("../_api/v1/").expect("a relative address can always be followed");
        // The same server, so the same credential.
        Http::new(api, self.credentials.authorization(url, &cache), self.client(), self.network.clone())
    }

    pub(crate) fn http(&self, url: &CacheUrl) -> Http {
        let base = url.http_base().expect("these kinds of cache have an address");
        let authorization = self.credentials.authorization(url, &base);
        Http::new(base, authorization, self.client(), self.network.clone())
    }
}
