//! The client of a bucket, and of other caches: `object_store`'s for S3, over an HTTP client that trusts what the machine
//! trusts.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector};

use crate::location::Bucket;
use crate::storage::StorageError;

/// Opens a bucket. `settings` are those of `AWS_*` variables.
pub(crate) fn open_bucket(bucket: &Bucket, settings: &[(String, String)]) -> Result<AmazonS3, StorageError> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in settings {
        // Variables that mean nothing to the client are other programs'.
        if let Ok(key) = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()) {
            builder = builder.with_config(key, value);
        }
    }
    builder = builder
        .with_bucket_name(&bucket.name)
        .with_virtual_hosted_style_request(bucket.virtual_hosted)
        .with_allow_http(bucket.plain_http)
        .with_http_connector(Connector(http_client(reqwest::redirect::Policy::none())?));
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &bucket.endpoint {
        let scheme = if bucket.plain_http { "http" } else { "https" };
        let whole = endpoint.contains("://");
        builder = builder.with_endpoint(if whole { endpoint.clone() } else { format!("{scheme}://{endpoint}") });
    }
    builder.build().map_err(|source| StorageError::Bucket { bucket: bucket.name.clone(), source })
}

/// Gives the store our client in place of its own, which would bring another TLS provider.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// An HTTP client that trusts what the machine trusts.
pub(crate) fn http_client(redirects: reqwest::redirect::Policy) -> Result<reqwest::Client, StorageError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring can do all versions that rustls has");
    let config = match rustls_platform_verifier::Verifier::new(provider) {
        Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth(),
        // A machine without certificates can still use plain HTTP; over TLS it trusts nobody.
        Err(_) => builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
    };
    reqwest::Client::builder()
        .user_agent(concat!("cargo-nixcache/", env!("CARGO_PKG_VERSION")))
        .redirect(redirects)
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        // Else a connection on which nothing gets through any more is used again and again.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .tls_backend_preconfigured(config)
        .build()
        .map_err(|source| StorageError::Client { source })
}
