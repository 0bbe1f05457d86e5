//! An S3 server over a directory.

use std::path::Path;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// An S3 server over a directory, in which each directory is a bucket.
pub struct S3Server {
    /// Where it listens on loopback.
    pub port: u16,
    _runtime: tokio::runtime::Runtime,
}

/// When a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Before the server has done what it was asked for.
    Before,
    /// When it has done it, before it says so.
    After,
    /// Not at all: the server says nothing for ever.
    Never,
}

impl S3Server {
    /// The key that it takes.
    pub const ACCESS_KEY: &str = "id";
    /// Its secret.
    pub const SECRET_KEY: &str = "secret";

    /// The variables of a program that knows them.
    pub const VARIABLES: [(&str, &str); 2] =
        [("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY)];

    /// A server over the directory at `root`. It checks signatures.
    pub fn new(root: &Path) -> Self {
        Self::breaking(root, |_, _| None)
    }

    /// One with public buckets: it takes requests that nobody has signed, and no others.
    pub fn public(root: &Path) -> Self {
        Self::serve(s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap()), |_, _| None)
    }

    /// The same, which breaks the connections of the requests for which `due` says so, by method and path.
    pub fn breaking(root: &Path, due: impl Fn(&str, &str) -> Option<Break> + Send + Sync + 'static) -> Self {
        let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(s3s::auth::SimpleAuth::from_single(Self::ACCESS_KEY, Self::SECRET_KEY));
        Self::serve(builder, due)
    }

    fn serve(
        builder: s3s::service::S3ServiceBuilder,
        due: impl Fn(&str, &str) -> Option<Break> + Send + Sync + 'static,
    ) -> Self {
        let (service, due) = (builder.build(), Arc::new(due));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            let builder = Arc::new(hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()));
            while let Ok((socket, _)) = listener.accept().await {
                let (builder, service, due) = (Arc::clone(&builder), service.clone(), Arc::clone(&due));
                let service = service_fn(move |request: Request<Incoming>| {
                    let due = due(request.method().as_str(), request.uri().path());
                    let service = service.clone();
                    async move {
                        if due == Some(Break::Before) {
                            return Err(std::io::Error::other("broken before"));
                        }
                        if due == Some(Break::Never) {
                            return std::future::pending().await;
                        }
                        let answer = service.call(request.map(s3s::Body::from)).await;
                        if due == Some(Break::After) {
                            return Err(std::io::Error::other("broken after"));
                        }
                        answer.map_err(|error| std::io::Error::other(format!("{error:?}")))
                    }
                });
                tokio::spawn(async move {
                    // An error means that the client went away, or that it was to break.
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { port, _runtime: runtime }
    }

    /// The URL of a bucket, which is a directory below the server's.
    pub fn url(&self, bucket: &str) -> String {
        format!("s3://{bucket}?endpoint=127.0.0.1:{}&scheme=http&region=eu-test-1", self.port)
    }
}
