//! TLS: with our own client, over both versions of HTTP, with a certificate that is renewed, and with clients that
//! never begin or never go on.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use nixcache_remote::{CacheUrl, FetchError, NewPath, Outcome, Remote, RemoteEvent, RemoteOptions};
use nixcache_server::{Location, Options, Server, TlsFiles};
use reqwest::{StatusCode, Version};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::fixture::{Item, Running, key, noise, root};

/// A certificate for `localhost` that is its own authority, and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn write(&self, files: &TlsFiles) {
        std::fs::write(&files.certificate, &self.certificate).unwrap();
        std::fs::write(&files.key, &self.key).unwrap();
    }
}

/// A server with TLS, and a runtime for clients.
struct Secure {
    server: Running,
    files: TlsFiles,
    pair: Pair,
    runtime: tokio::runtime::Runtime,
}

impl Secure {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let path = |name: &str| -> Utf8PathBuf { root(&directory).join(name) };
        let files = TlsFiles { certificate: path("certificate.pem"), key: path("key.pem") };
        let pair = Pair::new();
        pair.write(&files);
        let tls = files.clone();
        let server = Running::in_directory(directory, |options| {
            options.tls = Some(tls);
            change(options);
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { server, files, pair, runtime }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.address.port())
    }

    fn get(&self, client: &reqwest::Client, path: &str) -> reqwest::Result<reqwest::Response> {
        self.runtime.block_on(client.get(self.url(path)).send())
    }

    /// Waits until only so many connections are open. They end by themselves, or this test never does.
    fn wait_for_connections(&self, count: usize) {
        let client = trusting(&self.pair.certificate, &["http/1.1"]);
        let wanted = format!("nixcache_connections {count}\n");
        loop {
            let answer = self.get(&client, "/metrics").unwrap();
            let text = self.runtime.block_on(answer.text()).unwrap();
            if text.contains(&wanted) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A client that trusts this certificate, and speaks these protocols.
fn trusting(certificate: &str, protocols: &[&str]) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
}

#[test]
fn our_client_publishes_and_fetches() {
    let secure = Secure::new();
    let token = secure.server.token.clone();
    let with_token = secure.url("").replace("https://", &format!("https://ci:{token}@"));
    let remote = |caches: &[&str], publish: &[&str], certificate: &str| {
        let urls = |urls: &[&str]| urls.iter().map(|url| url.parse::<CacheUrl>().unwrap()).collect();
        let mut options = RemoteOptions { caches: urls(caches), publish: urls(publish), ..RemoteOptions::default() };
        options.trusted_keys = [key().public()].into_iter().collect();
        options.secret_key = Some(key());
        options.network.certificates = Some(certificate.as_bytes().to_vec());
        // What is slow here is the machine.
        options.network.patience = Duration::from_secs(300);
        options.network.request_limit = Duration::from_secs(300);
        options.network.upload_patience = Duration::from_secs(300);
        Remote::new(options, |event| {
            if let RemoteEvent::CacheLeftOut { error, .. } = event {
                assert!(error.to_string().starts_with("connect to"), "{error}");
            }
        })
        .unwrap()
    };
    let items = [Item::new("large", &noise(10 << 20), &[]), Item::new("small", b"small", &[])];
    let publisher = remote(&[], &[&with_token], &secure.pair.certificate);
    let mut sending = publisher.publishing();
    for item in &items {
        let nar = item.nar.clone();
        let pack = Box::new(move |destination: &mut dyn std::io::Write| destination.write_all(&nar));
        sending.offer(NewPath {
            path: item.narinfo.store_path.clone(),
            references: BTreeSet::new(),
            by_content: false,
            pack,
        });
    }
    let report = sending.finish();
    assert_eq!(secure.server.files().iter().filter(|file| file.ends_with(".narinfo")).count(), 2, "{report:?}");

    let url = secure.url("");
    let other = Pair::new();
    for (certificate, trusted) in [(&secure.pair.certificate, true), (&other.certificate, false)] {
        let remote = remote(&[&url], &[], certificate);
        let mut fetching = remote.fetching(|_, nar| {
            let mut bytes = Vec::new();
            nar.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        for (tag, item) in items.iter().enumerate() {
            fetching.want(tag as u64, item.narinfo.store_path.clone());
        }
        for _ in &items {
            let (tag, outcome) = fetching.next().unwrap();
            match outcome {
                Outcome::Fetched { value, .. } => assert!(trusted && value == items[tag as usize].nar),
                // Who can't be believed to be the cache is not asked.
                Outcome::Failed(FetchError::NotAsked { .. }) => assert!(!trusted),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn http_2_is_spoken_with_those_who_can() {
    let secure = Secure::new();
    let certificate = &secure.pair.certificate;
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["h2"], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let client = trusting(certificate, protocols);
        let answer = secure.get(&client, "/nix-cache-info").unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, version), "{protocols:?}");
    }
}

#[test]
fn many_requests_share_a_connection_of_http_2() {
    let secure = Secure::new();
    let items: Vec<Item> =
        (0..250).map(|number| Item::new(&format!("thing-{number}"), &noise(20_000 + number), &[])).collect();
    let client = trusting(&secure.pair.certificate, &["h2"]);
    let authorization = format!("Bearer {}", secure.server.token);
    let put = |path: String, body: Vec<u8>| {
        let request = client.put(secure.url(&path)).header("authorization", &authorization).body(body);
        async move { request.send().await.unwrap().status() }
    };
    let get = |path: String| {
        let request = client.get(secure.url(&path));
        async move { request.send().await.unwrap().bytes().await.unwrap() }
    };
    secure.runtime.block_on(async {
        let nars = items.iter().map(|item| put(item.nar_path(), item.file.clone()));
        let nars = futures_util::future::join_all(nars).await;
        assert!(nars.iter().all(|status| *status == StatusCode::CREATED), "{nars:?}");
        let narinfos = items.iter().map(|item| put(item.path(), item.narinfo.to_string().into_bytes()));
        let narinfos = futures_util::future::join_all(narinfos).await;
        assert!(narinfos.iter().all(|status| *status == StatusCode::CREATED), "{narinfos:?}");
        let files = futures_util::future::join_all(items.iter().map(|item| get(item.nar_path()))).await;
        assert!(files.iter().zip(&items).all(|(file, item)| file[..] == item.file));
    });
}

#[test]
fn a_renewed_certificate_counts_without_a_restart() {
    let secure = Secure::new();
    let [old, new] = [&secure.pair, &Pair::new()];
    // A connection for each request, as only new ones are shown the new certificate.
    let get = |pair: &Pair| secure.get(&trusting(&pair.certificate, &[]), "/healthz").is_ok();
    assert!(get(old) && !get(new));
    let noted = |text: &str| {
        let said = |event: &nixcache_server::Event| format!("{event:?}").contains(text);
        secure.server.events.lock().unwrap().iter().any(said)
    };
    // Half of it is no use yet.
    std::fs::write(&secure.files.certificate, &new.certificate).unwrap();
    while !noted("the certificate stays as it was") {
        assert!(get(old));
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::write(&secure.files.key, &new.key).unwrap();
    while !noted("is in use now") {
        secure.get(&trusting(&old.certificate, &[]), "/healthz").ok();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(get(new) && !get(old));
}

#[test]
fn certificates_that_can_not_be_used_are_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| root(&directory).join(name);
    let (one, other) = (Pair::new(), Pair::new());
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        path(name)
    };
    let certificate = write("certificate", &one.certificate);
    let key = write("key", &one.key);
    let [other_key, empty, broken] = [
        write("other", &other.key),
        write("empty", ""),
        write("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ];
    let start = |certificate: &Utf8PathBuf, key: &Utf8PathBuf| {
        let mut options = Options::new(Location::Directory(path("data")));
        options.tls = Some(TlsFiles { certificate: certificate.clone(), key: key.clone() });
        Server::new(options, &[]).map(|_| ())
    };
    start(&certificate, &key).unwrap();
    let bad = [
        (&path("missing"), &key),
        (&certificate, &path("missing")),
        (&empty, &key),
        (&certificate, &empty),
        (&broken, &key),
        (&certificate, &other_key),
        (&key, &certificate),
    ];
    for (certificate, key) in bad {
        let error = start(certificate, key).unwrap_err();
        assert_eq!(error.to_string(), "set up TLS", "{certificate} {key}");
    }
}

#[test]
fn who_does_not_begin_tls_keeps_nobody_out_for_long() {
    let secure = Secure::with(|options| {
        options.limits.connections = 2;
        options.limits.header_time = Duration::from_millis(100);
    });
    let silent: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(secure.server.address).unwrap()).collect();
    let mut plain = TcpStream::connect(secure.server.address).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let client = trusting(&secure.pair.certificate, &["h2"]);
    assert_eq!(secure.get(&client, "/healthz").unwrap().status(), StatusCode::OK);
    // What is sent back is no HTTP, and there is not much of it.
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut answer);
    assert!(!answer.starts_with(b"HTTP") && answer.len() < 100, "{answer:?}");
    drop(silent);
}

#[test]
fn connections_on_which_nothing_moves_are_ended() {
    let secure = Secure::with(|options| {
        options.limits.header_time = Duration::from_millis(500);
        options.limits.idle_time = Duration::from_millis(500);
    });
    let item = Item::new("large", &noise(16 << 20), &[]);
    let authorization = format!("Bearer {}", secure.server.token);
    let client = trusting(&secure.pair.certificate, &["h2"]);
    let put = client.put(secure.url(&item.nar_path())).header("authorization", &authorization);
    assert_eq!(secure.runtime.block_on(put.body(item.file.clone()).send()).unwrap().status(), StatusCode::CREATED);
    // Nobody asks for anything.
    secure.wait_for_connections(1);
    // Somebody asks, and takes nothing of what comes.
    for protocols in [["h2"], ["http/1.1"]] {
        let client = trusting(&secure.pair.certificate, &protocols);
        let mut answer = secure.get(&client, &item.nar_path()).unwrap();
        secure.wait_for_connections(1);
        let rest = secure.runtime.block_on(async {
            let mut bytes = 0;
            while let Some(piece) = answer.chunk().await? {
                bytes += piece.len();
            }
            Ok::<_, reqwest::Error>(bytes)
        });
        assert!(rest.is_err(), "{protocols:?}: {rest:?}");
    }
}

#[test]
fn large_headers_are_refused_over_http_2_too() {
    let secure = Secure::new();
    let client = trusting(&secure.pair.certificate, &["h2"]);
    let long = "x".repeat(100_000);
    let sent = secure.runtime.block_on(client.get(secure.url("/healthz")).header("x-long", long).send());
    assert!(sent.is_err() || sent.is_ok_and(|answer| answer.status().as_u16() == 431));
    assert_eq!(secure.get(&client, "/healthz").unwrap().status(), StatusCode::OK);
}

#[test]
fn a_server_that_stops_ends_what_it_has_begun() {
    let mut secure = Secure::new();
    let client = trusting(&secure.pair.certificate, &["h2"]);
    let item = Item::new("large", &noise(4 << 20), &[]);
    let authorization = format!("Bearer {}", secure.server.token);
    let put = client.put(secure.url(&item.nar_path())).header("authorization", &authorization);
    secure.runtime.block_on(put.body(item.file.clone()).send()).unwrap();
    let answer = secure.get(&client, &item.nar_path()).unwrap();
    secure.server.stop();
    let rest = secure.runtime.block_on(answer.bytes());
    assert!(rest.as_ref().is_ok_and(|rest| *rest == item.file), "{:?}", rest.map(|rest| rest.len()));
    secure.server.join();
}
