//! TLS: the server's certificate and key, which may be renewed while it runs.
//!
//! The two files are looked at when a client connects, at most once in a second. Files that can't be used, as when
//! only one of the two was replaced yet, change nothing.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::log::{Event, Sink};

/// How long a certificate is good without a look at its files.
const FRESH: Duration = Duration::from_secs(1);

/// Where the server's certificate and key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to one that clients know.
    pub certificate: Utf8PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: Utf8PathBuf,
}

/// Why a certificate and a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or holds nothing of the kind.
    #[error("read the {what} in {path}")]
    Read {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// They don't belong together, or are of a kind that isn't known.
    #[error("use the certificate in {path} with its key")]
    Pair {
        /// The file of the certificate.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
}

/// What is needed to speak TLS.
pub(crate) struct Tls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    looked: Mutex<Looked>,
    sink: Sink,
}

/// When the files were looked at, and what their times were then.
struct Looked {
    at: Instant,
    modified: Modified,
}

/// When certificate and key were written.
type Modified = [Option<SystemTime>; 2];

/// The certificate that clients are shown.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    pub(crate) fn new(files: TlsFiles, sink: &Sink) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let modified = modified(&files);
        let current = Arc::new(Current(RwLock::new(Arc::new(load(&files, &provider)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring can do all versions that rustls has")
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let looked = Mutex::new(Looked { at: Instant::now(), modified });
        Ok(Self { files, provider, config: Arc::new(config), current, looked, sink: sink.clone() })
    }

    /// The configuration for a connection, with the certificate as it is now.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.look();
        Arc::clone(&self.config)
    }

    fn look(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.at.elapsed() < FRESH {
            return;
        }
        looked.at = Instant::now();
        let modified = modified(&self.files);
        if modified == looked.modified {
            return;
        }
        // Whatever comes of it, it is told once.
        looked.modified = modified;
        match load(&self.files, &self.provider) {
            Ok(new) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                self.sink.send(&Event::Note(format!("the certificate in {} is in use now", self.files.certificate)));
            }
            Err(error) => self.sink.trouble("the certificate stays as it was", &error),
        }
    }
}

fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let read = |what, path: &Utf8Path, source| TlsError::Read { what, path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| read("certificate", &files.certificate, source))?;
    if certificates.is_empty() {
        return Err(read("certificate", &files.certificate, rustls::pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| read("key", &files.key, source))?;
    CertifiedKey::from_der(certificates, key, provider)
        .map_err(|source| TlsError::Pair { path: files.certificate.clone(), source })
}

fn modified(files: &TlsFiles) -> Modified {
    let time = |path: &Utf8Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [time(&files.certificate), time(&files.key)]
}
