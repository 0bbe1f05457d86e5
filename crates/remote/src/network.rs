//! How the network is used: limits of time and number, proxies, certificates; and the one HTTP client.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use nixcache_core::environment::Environment;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::cache_url::CacheUrl;
use crate::remote::RemoteError;

/// The largest headers of an answer over HTTP/2. (HTTP/1.1 has its own bounds in `hyper`: 100 of them, 400 KiB.)
const HEADERS_LIMIT: u32 = 64 * 1024;

/// What one answer over HTTP/2 may be ahead of its reader: with 20 ms there and back, 200 MB/s.
const STREAM_WINDOW: u32 = 4 << 20;

/// Limits, proxies and certificates. The default is good for a build.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// A cache that gives nothing for this long while it is being waited for is left out: 2.5 s.
    pub patience: Duration,
    /// The longest that one small file may take, and one NAR may stand still, while others come: 10 s.
    pub request_limit: Duration,
    /// When a bucket gives nothing of an object for this long, it is asked again: 1 s. Another of its machines may
    /// answer.
    pub second_after: Duration,
    /// How long a server may take to answer an upload, when all of it was sent: 15 s. It may want to look inside.
    pub upload_patience: Duration,
    /// How often a request is made in all, if it may go better the next time: 3.
    pub attempts: u32,
    /// The wait before the second attempt, give or take a half; it doubles each time: 100 ms.
    pub backoff: Duration,
    /// The longest `Retry-After` that is waited for: 1 s. If a server asks for more, it is left out.
    pub retry_after_limit: Duration,
    /// Requests that may fail one after the other until the cache is left out: 4.
    pub errors_allowed: u32,
    /// Narinfos asked for at once, of each cache: 64.
    pub narinfos_at_once: usize,
    /// NARs fetched at once, of all caches: 8.
    pub nars_at_once: usize,
    /// Paths sent at once, to each cache: 4.
    pub uploads_at_once: usize,
    /// Proxies.
    pub proxies: Proxies,
    /// The API that paths are published to Cachix with: `https://cachix.org/api/v1` if it isn't given. The token for
    /// Cachix goes there.
    pub cachix_api: Option<CacheUrl>,
    /// Where files are made on their way to a cache. The machine's place for such files if it isn't given.
    pub temporary_directory: Option<Utf8PathBuf>,
    /// Certificates in PEM, in place of those that the machine trusts.
    pub certificates: Option<Vec<u8>>,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(2500),
            request_limit: Duration::from_secs(10),
            second_after: Duration::from_secs(1),
            upload_patience: Duration::from_secs(15),
            attempts: 3,
            backoff: Duration::from_millis(100),
            retry_after_limit: Duration::from_secs(1),
            errors_allowed: 4,
            narinfos_at_once: 64,
            nars_at_once: 8,
            uploads_at_once: 4,
            proxies: Proxies::default(),
            cachix_api: None,
            temporary_directory: None,
            certificates: None,
        }
    }
}

/// The proxies of the common variables. They may hold a password: `Debug` doesn't show them.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    none_for: Option<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies").field("none_for", &self.none_for).finish_non_exhaustive()
    }
}

impl Proxies {
    /// Takes `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in lower or upper case. `HTTP_PROXY` in upper
    /// case is not taken, as by curl: a web server's child could have it from a request.
    pub fn from_environment(environment: &Environment) -> Self {
        let get = |name: &str| environment.get_str(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let either = |name: &str| get(name).or_else(|| get(&name.to_ascii_uppercase()));
        let all = either("all_proxy");
        Self {
            http: get("http_proxy").or_else(|| all.clone()),
            https: either("https_proxy").or(all),
            none_for: either("no_proxy"),
        }
    }
}

/// The file of certificates that the environment names: Nix's variable, or that of OpenSSL. The caller reads it.
pub fn certificate_file(environment: &Environment) -> Option<&str> {
    let get = |name| environment.get_str(name).filter(|value| !value.is_empty());
    get("NIX_SSL_CERT_FILE").or_else(|| get("SSL_CERT_FILE"))
}

/// The one client: connections are shared between the caches of a host.
pub(crate) fn client(options: &NetworkOptions) -> Result<reqwest::Client, RemoteError> {
    let setup = |source| RemoteError::Client { source };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("cargo-nixcache/", env!("CARGO_PKG_VERSION")))
        // Redirects are followed by our own rules: a credential stays with its origin.
        .redirect(reqwest::redirect::Policy::none())
        // Requests are repeated by our own rules too.
        .retry(reqwest::retry::never())
        .referer(false)
        // Windows that grow by themselves are as large for an answer as for its connection: one that is read slowly would
        // take everything from the others. So the connection has room for all NARs, twice as some can be asked for
        // again, beside what is small. What waits here is bounded by the number of answers, not by this.
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(connection_window(options.nars_at_once))
        .http2_max_header_list_size(HEADERS_LIMIT)
        .tls_backend_preconfigured(tls(options)?)
        .no_proxy();
    let none_for = options.proxies.none_for.as_deref().and_then(reqwest::NoProxy::from_string);
    let proxies = [
        options.proxies.http.as_deref().map(reqwest::Proxy::http),
        options.proxies.https.as_deref().map(reqwest::Proxy::https),
    ];
    for proxy in proxies.into_iter().flatten() {
        // The error would hold the URL, and with it a password.
        let proxy = proxy.map_err(|_| RemoteError::Proxy)?;
        builder = builder.proxy(proxy.no_proxy(none_for.clone()));
    }
    builder.build().map_err(setup)
}

fn connection_window(nars_at_once: usize) -> u32 {
    // What the protocol allows.
    const MOST: u32 = (1 << 31) - 1;
    let answers = u32::try_from(nars_at_once).unwrap_or(MOST).saturating_mul(2).saturating_add(1);
    STREAM_WINDOW.saturating_mul(answers).min(MOST)
}

fn tls(options: &NetworkOptions) -> Result<rustls::ClientConfig, RemoteError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring can do all versions that rustls has");
    let mut roots = rustls::RootCertStore::empty();
    let mut config = match &options.certificates {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| RemoteError::Certificates)?;
                roots.add(certificate).map_err(|_| RemoteError::Certificates)?;
            }
            if roots.is_empty() {
                return Err(RemoteError::Certificates);
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => match rustls_platform_verifier::Verifier::new(provider) {
            Ok(verifier) => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
            }
            // A machine without certificates can still use plain HTTP; over TLS it trusts nobody.
            Err(_) => builder.with_root_certificates(roots).with_no_client_auth(),
        },
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
