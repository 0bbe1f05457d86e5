//! Servers over one S3 bucket: what one takes in the others serve, and none of them changes it. The bucket's store
//! knows `If-None-Match: *`, as S3 does, or passes over it, as Garage does.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::IF_NONE_MATCH;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nixcache_server::{Event, Location, Options, Server, Upstreams};
use serde_json::json;

use crate::client::request;
use crate::fixture::{Item, Running, files_below, key, noise, root};

/// An S3 server over a directory, with the bucket `caches`.
struct Bucket {
    directory: tempfile::TempDir,
    port: u16,
    /// What is written there takes half a minute.
    slow: Arc<Mutex<Option<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Bucket {
    fn new(knows_conditions: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("caches")).unwrap();
        let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
        if knows_conditions {
            builder.set_auth(s3s::auth::SimpleAuth::from_single("id", "secret"));
        }
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let slow = Arc::new(Mutex::new(None::<String>));
        let slowed = Arc::clone(&slow);
        runtime.spawn(async move {
            let builder = Arc::new(hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()));
            while let Ok((socket, _)) = listener.accept().await {
                let (builder, service) = (Arc::clone(&builder), service.clone());
                let slowed = Arc::clone(&slowed);
                let service = service_fn(move |mut request: Request<Incoming>| {
                    let service = service.clone();
                    let path = slowed.lock().unwrap().clone();
                    let is_slow =
                        request.method() == "PUT" && path.is_some_and(|path| request.uri().path().contains(&path));
                    if !knows_conditions {
                        // The condition is signed, so without it no signature would be right: this store checks none.
                        request.headers_mut().remove(IF_NONE_MATCH);
                        request.headers_mut().remove("authorization");
                    }
                    async move {
                        if is_slow {
                            tokio::time::sleep(Duration::from_secs(30)).await;
                        }
                        service.call(request.map(s3s::Body::from)).await
                    }
                });
                tokio::spawn(async move {
                    // An error means that the client went away.
                    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { directory, port, slow, _runtime: runtime }
    }

    fn location(&self) -> Location {
        format!("s3://caches?region=test-1&endpoint=127.0.0.1:{}&scheme=http", self.port).parse().unwrap()
    }

    fn settings(&self, secret: &str) -> Vec<(String, String)> {
        [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", secret)].map(|(a, b)| (a.into(), b.into())).into()
    }

    /// A server over the bucket.
    fn serve(&self, change: impl FnOnce(&mut Options)) -> Running {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Running::start(directory, &self.settings("secret"), |options| {
            options.location = self.location();
            change(options);
        })
    }

    /// A server that only collects garbage, and so waits for no uploads of its own that take long.
    fn collector(&self) -> Running {
        self.serve(|options| {
            options.retention.grace = Duration::ZERO;
            options.retention.size = Some(0);
            options.limits.request_time = Duration::from_millis(50);
        })
    }

    fn path(&self, file: &str) -> Utf8PathBuf {
        root(&self.directory).join("caches").join(file)
    }

    /// The files of the cache, without what the server knows of the store.
    fn files(&self) -> Vec<String> {
        let mut files = files_below(&self.path(""));
        files.retain(|file| file != "nixcache/probe");
        files
    }
}

macro_rules! with_and_without_conditions {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn with_conditions() {
                super::$name(&super::Bucket::new(true));
            }

            #[test]
            fn without_conditions() {
                super::$name(&super::Bucket::new(false));
            }
        }
    )*};
}

with_and_without_conditions! {
    what_one_server_takes_in_the_others_serve
    names_never_change
    only_what_is_pinned_stays
    uploads_wait_while_another_server_drops_files
    what_is_refused_leaves_nothing
}

fn what_one_server_takes_in_the_others_serve(bucket: &Bucket) {
    let servers = [bucket.serve(|_| {}), bucket.serve(|_| {})];
    // More than two parts, and not a whole number of them.
    let large = Item::new("large", &noise((20 << 20) + 7), &[]);
    let small = Item::new("small", b"small", &[&large]);
    let refused = servers[1].put(&small.path(), small.narinfo.to_string().as_bytes());
    assert_eq!(refused.status, 422, "{}", refused.text());
    servers[0].publish(&large);
    servers[1].publish(&small);
    for server in &servers {
        for item in [&large, &small] {
            assert_eq!(server.get(&item.path()).text(), item.narinfo.to_string());
            assert!(server.get(&item.nar_path()).body == item.file);
            let plain = server.get(&format!("/nar/{}.nar", item.narinfo.nar_hash.to_nix32()));
            assert!(plain.body == item.nar);
        }
        let part = server.get_with(&large.nar_path(), "Range", "bytes=9000000-9000009");
        assert_eq!((part.status, &part.body[..]), (206, &large.file[9_000_000..9_000_010]));
        let head = request(server.address, "HEAD", &large.nar_path(), &[], &[]);
        assert_eq!(head.header("content-length"), large.file.len().to_string());
        let other = Item::new("other", b"other", &[]);
        let hashes = [&large, &other].map(|item| item.narinfo.store_path.hash().to_string());
        let missing = server.send("POST", "/api/v1/missing", json!({ "hashes": hashes }).to_string().as_bytes());
        assert_eq!(missing.json()["missing"], json!([hashes[1]]));
    }
}

fn names_never_change(bucket: &Bucket) {
    let servers = [bucket.serve(|_| {}), bucket.serve(|_| {})];
    let first = Item::new("thing", b"first", &[]);
    let second = Item::new("thing", b"second", &[]);
    servers[0].publish(&first);
    for server in &servers {
        server.publish(&first);
        assert_eq!(server.put(&second.nar_path(), &second.file).status / 100, 2);
        let refused = server.put(&second.path(), second.narinfo.to_string().as_bytes());
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert_eq!(server.get(&first.path()).text(), first.narinfo.to_string());
        let refused = server.put(&first.nar_path(), &second.file);
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert!(server.get(&first.nar_path()).body == first.file);
    }
    // Within a server, no two at once either.
    let many: Vec<Item> = (0..8).map(|number| Item::new("raced", format!("{number}").as_bytes(), &[])).collect();
    for item in &many {
        servers[0].put(&item.nar_path(), &item.file);
    }
    let taken: Vec<u16> = std::thread::scope(|scope| {
        let put = |item: &Item| servers[0].put(&item.path(), item.narinfo.to_string().as_bytes()).status;
        let threads: Vec<_> = many.iter().map(|item| scope.spawn(move || put(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let count = |status| taken.iter().filter(|taken| **taken == status).count();
    assert_eq!((count(201), count(409)), (1, 7), "{taken:?}");
}

fn only_what_is_pinned_stays(bucket: &Bucket) {
    let (server, collector) = (bucket.serve(|_| {}), bucket.collector());
    let leaf = Item::new("leaf", b"leaf", &[]);
    let kept = Item::new("kept", b"kept", &[&leaf]);
    let dropped = Item::new("dropped", b"dropped", &[&leaf, &kept]);
    for item in [&leaf, &kept, &dropped] {
        server.publish(item);
    }
    assert_eq!(server.put("/api/v1/pins/release", kept.narinfo.store_path.to_string().as_bytes()).status, 200);
    let answer = collector.send("POST", "/api/v1/gc", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = answer.json();
    assert_eq!((&report["paths"], &report["dropped_paths"]), (&json!(3), &json!(1)));
    for (item, status) in [(&leaf, 200), (&kept, 200), (&dropped, 404)] {
        for path in [item.path(), item.nar_path()] {
            assert_eq!(server.get(&path).status, status, "{path}");
        }
    }
    assert_eq!(server.send("DELETE", "/api/v1/pins/release", b"").status, 200);
    assert_eq!(collector.send("POST", "/api/v1/gc", b"").json()["dropped_paths"], 2);
    assert!(bucket.files().is_empty(), "{:?}", bucket.files());
    // Uploads go on, and what was dropped can come again.
    server.publish(&leaf);
}

fn uploads_wait_while_another_server_drops_files(bucket: &Bucket) {
    let (server, collector) = (bucket.serve(|_| {}), bucket.collector());
    let item = Item::new("thing", b"x", &[]);
    assert_eq!(server.put(&item.nar_path(), &item.file).status, 201);
    let barrier = bucket.path("nixcache/barrier");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    std::fs::write(&barrier, format!("{} another\n", now + 1000)).unwrap();
    let refused = server.put(&item.path(), item.narinfo.to_string().as_bytes());
    assert_eq!((refused.status, refused.header("retry-after")), (503, "10"), "{}", refused.text());
    assert_eq!(collector.send("POST", "/api/v1/gc", b"").status, 503);
    assert!(barrier.exists(), "it is the other server's");
    // The other one died.
    std::fs::write(&barrier, format!("{} another\n", now - 1)).unwrap();
    server.publish(&item);
    assert_eq!(collector.send("POST", "/api/v1/gc", b"").json()["dropped_paths"], 1);
    assert!(!barrier.exists());
}

fn what_is_refused_leaves_nothing(bucket: &Bucket) {
    let server = bucket.serve(|_| {});
    let good = Item::new("good", &noise(12 << 20), &[]);
    let mut flipped = good.file.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for file in [&flipped[..], &good.file[..good.file.len() - 1], b""] {
        let refused = server.put(&good.nar_path(), file);
        assert_eq!(refused.status, 422, "{}", refused.text());
    }
    assert!(bucket.files().is_empty(), "{:?}", bucket.files());
    assert_eq!(server.get(&good.nar_path()).status, 404);
    server.publish(&good);
}

/// Whoever drops files waits for twice the time that an upload may take.
#[test]
fn nothing_keeps_files_from_being_dropped_for_longer_than_a_request_may_take() {
    let bucket = Bucket::new(true);
    let item = {
        let mut item = Item::new("thing", &noise(100_000), &[]);
        item.narinfo.sign(&key());
        item
    };
    let origin = Running::new();
    origin.publish(&item);
    let server = bucket.serve(|options| {
        options.limits.request_time = Duration::from_secs(5);
        let urls = vec![format!("http://{}", origin.address).parse().unwrap()];
        options.upstreams = Upstreams { urls, keys: [key().public()].into_iter().collect() };
    });
    let troubles = || {
        let events = server.events.lock().unwrap();
        events.iter().filter(|event| matches!(event, Event::Trouble(text) if text.contains("is not kept"))).count()
    };
    // The narinfo of what an upstream has.
    *bucket.slow.lock().unwrap() = Some(item.path());
    assert_eq!(server.get(&item.path()).status, 200);
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    let head = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", item.nar_path());
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    assert_eq!(troubles(), 1, "{:?}", server.events.lock().unwrap());
    *bucket.slow.lock().unwrap() = None;
    server.publish(&item);
    // A pin.
    *bucket.slow.lock().unwrap() = Some("/pins/".into());
    let answer = server.put("/api/v1/pins/x", item.narinfo.store_path.to_string().as_bytes());
    assert_eq!(answer.status, 503, "{}", answer.text());
}

#[test]
fn a_key_that_can_not_be_used_is_known_before_anyone_asks() {
    let bucket = Bucket::new(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (secret, good) in [("secret", true), ("wrong", false)] {
        let server = Server::new(Options::new(bucket.location()), &bucket.settings(secret)).unwrap();
        assert_eq!(runtime.block_on(server.check()).is_ok(), good, "{secret}");
    }
}
