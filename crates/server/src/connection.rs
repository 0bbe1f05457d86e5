//! One connection: TLS if it is wanted, then HTTP/1.1 or, over TLS, HTTP/2; and its end, when nothing moves on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use crate::lingering::Lingering;
use crate::options::Limits;
use crate::tls::Tls;

/// The most headers of a request over HTTP/1.1. Over HTTP/2 their size alone is bounded.
const HEADERS: usize = 64;

/// Requests at once on one connection of HTTP/2. Clients ask for 64 narinfos at a time.
const STREAMS: u32 = 100;

/// How much of one upload over HTTP/2 may be under way; and of all uploads of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How much of one answer over HTTP/2 waits for its client.
const SEND_BUFFER: usize = 256 << 10;

/// What all connections have in common.
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Tls>,
    /// Requests at once, on all connections. One connection of HTTP/1.1 has one request, so only HTTP/2 comes so far.
    pub(crate) requests: Arc<Semaphore>,
}

impl Connections {
    pub(crate) fn new(router: Router, limits: Limits, tls: Option<Tls>) -> Self {
        let requests = Arc::new(Semaphore::new(limits.connections));
        Self { router, limits, tls, requests }
    }

    /// Serves what comes on `stream` until it ends. What goes wrong is the client's affair: it left, or sent no HTTP.
    pub(crate) async fn serve(&self, stream: TcpStream, ending: watch::Receiver<()>) {
        prepare(&stream, &self.limits);
        let stream = Lingering::new(stream, ending.clone());
        let Some(tls) = &self.tls else { return self.http1(stream, ending).await };
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let Ok(Ok(stream)) = tokio::time::timeout(self.limits.header_time, handshake).await else { return };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream, ending).await;
        } else {
            self.http1(stream, ending).await;
        }
    }

    async fn http1(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, ending: watch::Receiver<()>) {
        let activity = Arc::new(Activity::new());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_headers(HEADERS)
            .max_header_size(self.limits.header_bytes)
            .serve_connection(TokioIo::new(stream), service(&self.router, &activity, None));
        self.watch(connection, &activity, ending).await;
    }

    async fn http2(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, ending: watch::Receiver<()>) {
        let activity = Arc::new(Activity::new());
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            // A client that doesn't answer has gone.
            .keep_alive_interval(self.limits.header_time)
            .keep_alive_timeout(self.limits.header_time)
            .serve_connection(TokioIo::new(stream), service(&self.router, &activity, Some(&self.requests)));
        self.watch(connection, &activity, ending).await;
    }

    /// Runs a connection to its end, which comes when the server is told to stop, when nobody asks for anything, or
    /// when nobody takes what was asked for.
    async fn watch(&self, connection: impl GracefulConnection, activity: &Activity, mut ending: watch::Receiver<()>) {
        let (idle, still) = (self.limits.header_time, self.limits.idle_time);
        let mut connection = std::pin::pin!(connection);
        let mut ticks = tokio::time::interval(idle.min(still).max(Duration::from_millis(4)) / 4);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                _ = connection.as_mut() => return,
                _ = ending.changed(), if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = ticks.tick() => match activity.state() {
                    State::Idle if activity.since() > idle * 2 => return,
                    // A client that is just about to ask hears of it, and connects again.
                    State::Idle if activity.since() > idle && !told => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    State::Sending if activity.since() > still => return,
                    _ => {}
                },
            }
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

/// Answers the requests of a connection, and notes what is going on there.
fn service(
    router: &Router,
    activity: &Arc<Activity>,
    requests: Option<&Arc<Semaphore>>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = hyper::Response<Answer>,
    Error = std::convert::Infallible,
    Future = impl Future<Output = Result<hyper::Response<Answer>, std::convert::Infallible>> + Send + use<>,
> + use<> {
    let (router, activity, requests) = (router.clone(), Arc::clone(activity), requests.cloned());
    hyper::service::service_fn(move |request: Request<Incoming>| {
        let (mut router, running) = (router.clone(), Running::new(&activity));
        let requests = requests.clone();
        async move {
            let permit = match requests {
                Some(requests) => Some(requests.acquire_owned().await.expect("the semaphore is never closed")),
                None => None,
            };
            let response = router.call(request.map(Body::new)).await?;
            running.0.sending.fetch_add(1, Ordering::Relaxed);
            running.0.moved();
            Ok(response.map(|body| Answer { body, running, _permit: permit }))
        }
    })
}

/// What goes on on a connection.
struct Activity {
    began: Instant,
    /// Milliseconds from the beginning to when something was last asked for, or taken by the client.
    last: AtomicU64,
    /// Requests that aren't answered to their end.
    running: AtomicUsize,
    /// Those of them whose answer is on its way.
    sending: AtomicUsize,
}

enum State {
    /// There is no request.
    Idle,
    /// All answers are on their way, so the client should take something now and then.
    Sending,
    /// Something is still being done, which has limits of its own.
    Working,
}

impl Activity {
    fn new() -> Self {
        let (last, running, sending) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        Self { began: Instant::now(), last, running, sending }
    }

    fn moved(&self) {
        self.last.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn since(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    fn state(&self) -> State {
        let (running, sending) = (self.running.load(Ordering::Relaxed), self.sending.load(Ordering::Relaxed));
        match running {
            0 => State::Idle,
            _ if running == sending => State::Sending,
            _ => State::Working,
        }
    }
}

/// A request, until it is answered to its end or given up.
struct Running(Arc<Activity>);

impl Running {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        activity.moved();
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.moved();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer. It is asked for more when the client has taken what there was.
struct Answer {
    body: Body,
    running: Running,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.running.0.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.running.0.moved();
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
