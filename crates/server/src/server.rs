//! The server: what all requests share, and the loop that takes connections and ends them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use nixcache_core::nix::{CacheInfo, SecretKey};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};

use crate::access::Access;
use crate::collect::{CollectError, CollectReport, collect};
use crate::connection::Connections;
use crate::error::Refusal;
use crate::gate::Gate;
use crate::log::{Event, Sink};
use crate::metrics::Metrics;
use crate::options::{Limits, Options, Retention};
use crate::routes::router;
use crate::storage::{Storage, StorageError};
use crate::tls::{Tls, TlsError};
use crate::token::TokenError;
use crate::upstream::Proxy;
use crate::verify::Verifier;

/// How long to wait when no connection can be taken, as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a server can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The cache's files can't be used.
    #[error("open the cache's files")]
    Storage {
        /// What is wrong.
        #[source]
        source: StorageError,
    },
    /// The tokens can't be used.
    #[error("read the tokens")]
    Tokens {
        /// What is wrong.
        #[source]
        source: TokenError,
    },
    /// The certificate or its key can't be used.
    #[error("set up TLS")]
    Tls {
        /// What is wrong.
        #[source]
        source: TlsError,
    },
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) storage: Storage,
    pub(crate) access: Access,
    /// Of uploads, if they must be signed.
    pub(crate) verifier: Verifier,
    /// Signs every narinfo that is uploaded.
    pub(crate) signing_key: Option<SecretKey>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
    pub(crate) cache_info: CacheInfo,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Gate,
    pub(crate) uploads: Semaphore,
    pub(crate) unpacks: Arc<Semaphore>,
    pub(crate) collecting: Mutex<()>,
    pub(crate) sink: Sink,
}

impl Shared {
    /// Waits for turns to take something in. As long as there are none, nothing is read of the body.
    pub(crate) async fn turns(&self, turns: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let turns = self.uploads.acquire_many(u32::try_from(turns).unwrap_or(u32::MAX));
        let turns = tokio::time::timeout(self.limits.turn_time, turns).await.map_err(|_| Refusal::Busy)?;
        Ok(turns.expect("the semaphore is never closed"))
    }
}

/// A binary cache server.
pub struct Server {
    shared: Arc<Shared>,
    tls: Option<Tls>,
    collect_every: Option<Duration>,
}

impl Server {
    /// Opens the cache's files and the tokens. `bucket_settings` are the `AWS_*` variables of the environment: keys,
    /// region and so on; they matter for buckets alone.
    pub fn new(options: Options, bucket_settings: &[(String, String)]) -> Result<Self, ServeError> {
        let storage =
            Storage::open(&options.location, bucket_settings).map_err(|source| ServeError::Storage { source })?;
        let access = Access::new(options.private, options.tokens.as_deref(), &options.sink)
            .map_err(|source| ServeError::Tokens { source })?;
        let proxy = Proxy::new(options.upstreams, &options.limits, &options.sink)
            .map_err(|source| ServeError::Storage { source })?;
        let tls = options.tls.map(|files| Tls::new(files, &options.sink)).transpose();
        let tls = tls.map_err(|source| ServeError::Tls { source })?;
        let cache_info = CacheInfo {
            store_directory: nixcache_core::nix::StoreDirectory::default(),
            want_mass_query: true,
            priority: Some(options.priority),
        };
        let shared = Shared {
            storage,
            access,
            verifier: Verifier::new(options.signing.trusted_keys),
            signing_key: options.signing.key,
            proxy,
            retention: options.retention,
            uploads: Semaphore::new(options.limits.uploads),
            unpacks: Arc::new(Semaphore::new(options.limits.unpacks)),
            limits: options.limits,
            cache_info,
            metrics: Metrics::default(),
            gate: Gate::default(),
            collecting: Mutex::new(()),
            sink: options.sink,
        };
        Ok(Self { shared: Arc::new(shared), tls, collect_every: options.collect_every })
    }

    /// Finds out whether the cache's files can be used, as far as that isn't known yet: a bucket was not asked for
    /// anything so far.
    pub async fn check(&self) -> Result<(), ServeError> {
        let refuses = self.shared.storage.refuses_to_overwrite().await;
        if !refuses.map_err(|source| ServeError::Storage { source })? {
            let what = "the bucket's store does not know `If-None-Match: *`: this server sees to it that files never \
                        change, but of two servers that take the same name at the same moment the last one wins";
            self.shared.sink.send(&Event::Note(what.into()));
        }
        Ok(())
    }

    /// Collects garbage.
    pub async fn collect(&self, dry_run: bool) -> Result<CollectReport, CollectError> {
        collect(&self.shared, dry_run).await
    }

    /// Serves what connects to `listener` until `shutdown` is done. Then no more connections are taken, requests that
    /// are running end, and those that don't within the time of the limits are cut off.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let limits = self.shared.limits.clone();
        let connections = Arc::new(Connections::new(router(&self.shared), limits.clone(), self.tls));
        let (end, ending) = watch::channel(());
        let places = Arc::new(Semaphore::new(limits.connections));
        let collecting = self.collect_every.map(|every| tokio::spawn(collect_often(Arc::clone(&self.shared), every)));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                (listener.accept().await, place)
            };
            let (stream, place) = tokio::select! {
                () = &mut shutdown => break,
                (accepted, place) = accepted => match accepted {
                    Ok((stream, _)) => (stream, place),
                    Err(_) => {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let (connections, ending) = (Arc::clone(&connections), ending.clone());
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                shared.metrics.connections.add(1);
                connections.serve(stream, ending).await;
                shared.metrics.connections.subtract(1);
                drop(place);
            });
        }
        drop((listener, ending));
        if let Some(collecting) = collecting {
            collecting.abort();
        }
        // Nobody listens if there is no connection.
        let _ = end.send(());
        if tokio::time::timeout(limits.shutdown_time, end.closed()).await.is_err() {
            self.shared.sink.send(&Event::Note("some requests did not end in time".into()));
        }
    }
}

/// Collects garbage again and again. The first time after one interval.
async fn collect_often(shared: Arc<Shared>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        // A task of its own, so that the end of the server doesn't cut it off in the middle.
        let collecting = Arc::clone(&shared);
        match tokio::spawn(async move { collect(&collecting, false).await }).await {
            Ok(Ok(report)) => {
                let (paths, before, after) = (report.dropped_paths, report.bytes_before, report.bytes_after);
                let text = format!("collected garbage: {paths} paths, {before} → {after} bytes");
                shared.sink.send(&Event::Note(text));
            }
            Ok(Err(error)) => shared.sink.trouble("garbage was not collected", &error),
            Err(error) => shared.sink.trouble("garbage was not collected", &error),
        }
    }
}
