//! All servers of the world: a proxy that answers in their names, over TLS.

use std::ffi::OsString;
use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::{Handler, Reply, Request, Shared, read_request, serve};

/// Answers requests to a host.
type HostHandler = Arc<dyn Fn(&str, &Request) -> Reply + Send + Sync>;

/// A proxy for `https_proxy`, and a certificate for `SSL_CERT_FILE` that makes it all hosts that it plays.
pub struct Internet {
    port: u16,
    certificate: String,
    shared: Shared,
}

impl Internet {
    /// Plays `hosts`. The handler is told which one is asked.
    pub fn new(hosts: &[&str], handler: impl Fn(&str, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Shared::default();
        let internet =
            Self { port: listener.local_addr().unwrap().port(), certificate: made.cert.pem(), shared: shared.clone() };
        let handler: HostHandler = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (config, shared, names) = (Arc::clone(&config), shared.clone(), names.clone());
                let handler = Arc::clone(&handler);
                std::thread::spawn(move || {
                    // An error means that the client went away, which is its right.
                    let _ = connect(stream, config, &shared, &names, handler);
                });
            }
        });
        internet
    }

    /// The variables of a program in this network. The certificate is written into `directory`.
    pub fn variables(&self, directory: &Path) -> [(&'static str, OsString); 2] {
        let certificate = directory.join("certificate.pem");
        std::fs::write(&certificate, &self.certificate).unwrap();
        [("https_proxy", self.proxy().into()), ("SSL_CERT_FILE", certificate.into())]
    }

    /// The proxy.
    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What was asked of any host, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One connection to the proxy: where to, then TLS with that host.
fn connect(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    shared: &Shared,
    hosts: &[String],
    handler: HostHandler,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(request) = read_request(&mut stream)? else { return Ok(()) };
    let host = request.target.strip_suffix(":443").unwrap_or_default().to_owned();
    if request.method != "CONNECT" || !hosts.contains(&host) {
        stream.get_mut().write_all(b"HTTP/1.1 502 no such host\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    }
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let stream = StreamOwned::new(connection, stream.into_inner());
    let handler: Handler = Arc::new(move |request| match request.headers.get("host") == Some(&host) {
        true => handler(&host, request),
        false => Reply::status(421),
    });
    serve(Box::new(stream), &handler, shared)
}
