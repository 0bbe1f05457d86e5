//! TLS: whom it trusts, HTTP/2 where it is offered, and no way back to plain HTTP.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nixcache_core::nix::Compression;
use nixcache_remote::{Outcome, RemoteOptions};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::server::Memory;
use crate::support::{Sample, Watched, failed, fetched, options};

/// A server with a certificate of its own for `localhost`.
struct TlsServer {
    url: String,
    certificate: String,
    versions: Arc<Mutex<Vec<Version>>>,
    /// How many NARs were asked for.
    nars: Arc<Mutex<usize>>,
    _runtime: tokio::runtime::Runtime,
}

impl TlsServer {
    /// Serves `memory`; redirects what ends in `.nar` to `elsewhere`, if that is given.
    fn new(memory: &Memory, protocols: &[&str], elsewhere: Option<String>) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let versions = Arc::new(Mutex::new(Vec::new()));
        let nars = Arc::new(Mutex::new(0));
        let (memory, seen, counted) = (memory.clone(), Arc::clone(&versions), Arc::clone(&nars));
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, memory) = (acceptor.clone(), memory.clone());
                let (seen, counted, elsewhere) = (Arc::clone(&seen), Arc::clone(&counted), elsewhere.clone());
                tokio::spawn(async move {
                    // The client ends the handshake with a server that it doesn't trust.
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = service_fn(|request: Request<Incoming>| {
                        *counted.lock().unwrap() += usize::from(request.uri().path().contains(".nar."));
                        std::future::ready(answer(&request, &memory, &seen, elsewhere.as_deref()))
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, certificate: made.cert.pem(), versions, nars, _runtime: runtime }
    }

    fn options(&self, certificates: Option<&str>) -> RemoteOptions {
        let mut options = options(&[&self.url]);
        options.network.certificates = certificates.map(|pem| pem.as_bytes().to_vec());
        options
    }
}

fn answer(
    request: &Request<Incoming>,
    memory: &Memory,
    seen: &Mutex<Vec<Version>>,
    elsewhere: Option<&str>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.lock().unwrap().push(request.version());
    let path = request.uri().path();
    let response = match (elsewhere, memory.get(path.trim_start_matches('/'))) {
        (Some(elsewhere), _) if path.ends_with(".nar") => {
            Response::builder().status(302).header("Location", format!("{elsewhere}{path}")).body(Full::default())
        }
        (_, Some(bytes)) => Response::builder().body(Full::from(bytes)),
        (_, None) => Response::builder().status(404).body(Full::default()),
    };
    Ok(response.unwrap())
}

fn cache() -> (Memory, Sample) {
    let (memory, sample) = (Memory::default(), Sample::new("sample", 300_000));
    sample.put_plain(&memory);
    (memory, sample)
}

#[test]
fn a_server_is_trusted_by_the_certificates_that_are_given() {
    let (memory, sample) = cache();
    let server = TlsServer::new(&memory, &["h2", "http/1.1"], None);
    let watched = Watched::new(server.options(Some(&server.certificate)));
    assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);

    let other = TlsServer::new(&memory, &[], None);
    for certificates in [None, Some(other.certificate.as_str())] {
        let watched = Watched::new(server.options(certificates));
        assert!(failed(watched.fetch_one(&sample.path)).contains("left out"));
        // The narinfo and nix-cache-info are asked for at once; whichever fails first is the reason.
        let told = watched.left_out();
        assert!(told.len() == 1 && told[0].starts_with(&format!("connect to {}/", server.url)), "{told:?}");
    }
}

#[test]
fn http_2_is_spoken_where_it_is_offered() {
    let (memory, sample) = cache();
    for (protocols, version) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)]
    {
        let server = TlsServer::new(&memory, protocols, None);
        let watched = Watched::new(server.options(Some(&server.certificate)));
        assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);
        assert!(server.versions.lock().unwrap().iter().all(|seen| *seen == version), "{protocols:?}");
    }
}

/// `nar` with a window of 2 to the power of `window_log`, and not a word of how long it is.
fn zstd(nar: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(nar).unwrap();
    encoder.finish().unwrap()
}

/// Fetches so many paths with the NAR of `size` bytes over one connection. Their windows don't fit into memory together,
/// so some wait; if that kept the others from being read, the cache would be left out as a silent one. The answer is
/// how often the NAR was asked for.
fn fetch_many(count: usize, size: usize, window_log: u32) -> usize {
    let memory = Memory::default();
    let one = Sample::new("one", size);
    let file = zstd(&one.nar, window_log);
    let samples: Vec<Sample> =
        (0..count).map(|n| Sample { path: Sample::with(&n.to_string(), b"").path, ..one.clone() }).collect();
    samples.iter().for_each(|sample| drop(sample.put(&memory, Compression::Zstd, &file)));
    let server = TlsServer::new(&memory, &["h2"], None);
    let mut options = server.options(Some(&server.certificate));
    options.network.patience = Duration::from_secs(5);
    let watched = Watched::new(options);
    let mut fetching = watched.remote.fetching(|_, nar| Ok(std::io::copy(nar, &mut std::io::sink())?));
    samples.iter().for_each(|sample| fetching.want(0, sample.path.clone()));
    while let Some((_, outcome)) = fetching.next() {
        assert!(matches!(outcome, Outcome::Fetched { .. }), "{}: {:?}", failed(outcome), watched.left_out());
    }
    let asked = server.nars.lock().unwrap();
    *asked
}

#[test]
fn nars_that_wait_for_memory_do_not_starve_the_others_of_their_connection() {
    assert_eq!(fetch_many(16, 15_000_000, 25), 16);
}

#[test]
fn a_nar_with_a_window_that_nobody_expected_is_asked_for_again_when_there_is_room() {
    assert_eq!(fetch_many(4, 40_000_000, 27), 8);
}

#[test]
fn nothing_leads_from_tls_to_plain_http() {
    let (memory, sample) = cache();
    let plain = memory.serve();
    let server = TlsServer::new(&memory, &["h2"], Some(plain.url()));
    let error = failed(Watched::new(server.options(Some(&server.certificate))).fetch_one(&sample.path));
    assert!(error.contains("from https to http"), "{error}");

    let mut narinfo = sample.narinfo(nixcache_core::nix::Compression::None, &sample.nar);
    narinfo.url = format!("{}/{}", plain.url(), narinfo.url).parse().unwrap();
    memory.put(&sample.narinfo_name(), narinfo.to_string());
    let server = TlsServer::new(&memory, &["h2"], None);
    failed(Watched::new(server.options(Some(&server.certificate))).fetch_one(&sample.path));
    assert!(plain.requests().is_empty());
}

#[test]
fn what_holds_no_certificates_is_refused() {
    for pem in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut options = options(&["https://cache.invalid"]);
        options.network.certificates = Some(pem.as_bytes().to_vec());
        let error = nixcache_remote::Remote::new(options, |_| ()).err().unwrap();
        assert!(error.to_string().contains("not certificates in PEM"), "{pem:?}: {error}");
    }
}
