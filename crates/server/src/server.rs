//! The server: what all requests share, and the loop that takes connections and ends them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use nixcache_core::nix::CacheInfo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tower::Service as _;

use crate::access::Access;
use crate::collect::{CollectError, CollectReport, collect};
use crate::gate::Gate;
use crate::log::{Event, Sink};
use crate::metrics::Metrics;
use crate::options::{Limits, Options, Retention, Signing};
use crate::routes::router;
use crate::storage::{Storage, StorageError};
use crate::token::TokenError;
use crate::upstream::Proxy;

/// The most headers of a request.
const HEADERS: usize = 64;

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
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) storage: Storage,
    pub(crate) access: Access,
    pub(crate) signing: Signing,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
    pub(crate) cache_info: CacheInfo,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Gate,
    pub(crate) uploads: Semaphore,
    pub(crate) collecting: Mutex<()>,
    pub(crate) sink: Sink,
}

/// A binary cache server.
pub struct Server {
    shared: Arc<Shared>,
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
        let proxy = Proxy::new(options.upstreams).map_err(|source| ServeError::Storage { source })?;
        let cache_info = CacheInfo {
            store_directory: nixcache_core::nix::StoreDirectory::default(),
            want_mass_query: true,
            priority: Some(options.priority),
        };
        let shared = Shared {
            storage,
            access,
            signing: options.signing,
            proxy,
            retention: options.retention,
            uploads: Semaphore::new(options.limits.uploads),
            limits: options.limits,
            cache_info,
            metrics: Metrics::default(),
            gate: Gate::default(),
            collecting: Mutex::new(()),
            sink: options.sink,
        };
        Ok(Self { shared: Arc::new(shared), collect_every: options.collect_every })
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
        let router = router(&self.shared);
        let graceful = GracefulShutdown::new();
        let limits = self.shared.limits.clone();
        let connections = Arc::new(Semaphore::new(limits.connections));
        let collecting = self.collect_every.map(|every| tokio::spawn(collect_often(Arc::clone(&self.shared), every)));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = async {
                let permit = Arc::clone(&connections).acquire_owned().await.expect("the semaphore is never closed");
                (listener.accept().await, permit)
            };
            let (stream, permit) = tokio::select! {
                () = &mut shutdown => break,
                (accepted, permit) = accepted => match accepted {
                    Ok((stream, _)) => (stream, permit),
                    Err(_) => {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            prepare(&stream, &limits);
            let router = router.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                router.clone().call(request.map(Body::new))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_time)
                .max_headers(HEADERS)
                .max_header_size(limits.header_bytes)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move {
                shared.metrics.connections.add(1);
                // What goes wrong on a connection is the client's affair: it left, or sent no HTTP.
                let _ = connection.await;
                shared.metrics.connections.subtract(1);
                drop(permit);
            });
        }
        drop(listener);
        if let Some(collecting) = collecting {
            collecting.abort();
        }
        if tokio::time::timeout(limits.shutdown_time, graceful.shutdown()).await.is_err() {
            self.shared.sink.send(&Event::Note("some requests did not end in time".into()));
        }
    }
}

/// Sends small answers at once, and ends connections whose other side takes nothing any more.
fn prepare(stream: &TcpStream, limits: &Limits) {
    // If the system can't do it, the connection works all the same.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let time = u32::try_from(limits.idle_time.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, time);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = limits;
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
