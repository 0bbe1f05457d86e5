//! An S3 server over a directory.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};

/// An S3 server over a directory, in which each directory is a bucket. It checks signatures.
pub struct S3Server {
    /// Where it listens on loopback.
    pub port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl S3Server {
    /// The key that it takes.
    pub const ACCESS_KEY: &str = "id";
    /// Its secret.
    pub const SECRET_KEY: &str = "secret";

    /// A server over the directory at `root`.
    pub fn new(root: &Path) -> Self {
        let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(s3s::auth::SimpleAuth::from_single(Self::ACCESS_KEY, Self::SECRET_KEY));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            let builder = Arc::new(hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()));
            while let Ok((socket, _)) = listener.accept().await {
                let (builder, service) = (Arc::clone(&builder), service.clone());
                tokio::spawn(async move {
                    // An error means that the client went away.
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
