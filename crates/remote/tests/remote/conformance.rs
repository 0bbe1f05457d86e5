//! What every kind of cache can do, written once and run over each.

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use nixcache_remote::{AwsKeys, Outcome, RemoteOptions, Secret};

use crate::server::{Memory, Server};
use crate::support::{Sample, Watched, chain, fetched, options, publish_options};

/// A cache of some kind, with a way to look into it behind its back.
struct Place {
    url: String,
    kind: Kind,
}

enum Kind {
    Directory(tempfile::TempDir),
    Http { memory: Memory, _server: Server },
    Bucket { root: tempfile::TempDir, _server: S3Server },
}

impl Place {
    fn directory() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}/cache", directory.path().to_str().unwrap());
        Self { url, kind: Kind::Directory(directory) }
    }

    fn http() -> Self {
        let memory = Memory { ranges: true, ..Memory::default() };
        let server = memory.serve();
        Self { url: server.url(), kind: Kind::Http { memory, _server: server } }
    }

    fn bucket() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        let server = S3Server::new(root.path());
        let url = format!("s3://bucket?endpoint=127.0.0.1:{}&scheme=http&region=eu-test-1", server.port);
        Self { url, kind: Kind::Bucket { root, _server: server } }
    }

    fn with_keys(&self, mut options: RemoteOptions) -> Watched {
        options.credentials.aws.keys =
            Some(AwsKeys { access_key_id: "id".into(), secret_access_key: Secret::new("secret"), session_token: None });
        Watched::new(options)
    }

    fn reader(&self) -> Watched {
        self.with_keys(options(&[&self.url]))
    }

    fn writer(&self) -> Watched {
        self.with_keys(publish_options(&[&self.url]))
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Directory(directory) => std::fs::read(directory.path().join("cache").join(name)).ok(),
            Kind::Http { memory, .. } => memory.get(name),
            Kind::Bucket { root, .. } => std::fs::read(root.path().join("bucket").join(name)).ok(),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let root = match &self.kind {
            Kind::Http { memory, .. } => return memory.put(name, bytes),
            Kind::Directory(directory) => directory.path().join("cache"),
            Kind::Bucket { root, .. } => root.path().join("bucket"),
        };
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn narinfo(&self, sample: &Sample) -> String {
        String::from_utf8(self.read(&sample.narinfo_name()).unwrap()).unwrap()
    }
}

/// An S3 server over a directory, which checks signatures.
struct S3Server {
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl S3Server {
    fn new(root: &std::path::Path) -> Self {
        let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(s3s::auth::SimpleAuth::from_single("id", "secret"));
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
}

macro_rules! for_every_kind {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn directory() {
                super::$name(&super::Place::directory());
            }

            #[test]
            fn http() {
                super::$name(&super::Place::http());
            }

            #[test]
            fn bucket() {
                super::$name(&super::Place::bucket());
            }
        }
    )*};
}

for_every_kind! {
    what_is_published_can_be_fetched
    the_first_writer_wins
    a_broken_upload_is_repaired
    an_empty_cache_has_nothing
    another_store_directory_is_left_out
}

fn what_is_published_can_be_fetched(place: &Place) {
    let leaf = Sample::new("leaf", 100);
    // Larger than one part of a multipart upload, and than what is collected before it is compressed.
    let large = Sample::new("large", 9 << 20).referring_to(&leaf);
    let zeros = Sample::with("zeros", &vec![0; 5 << 20]).referring_to(&leaf).referring_to(&large);
    let samples = [&leaf, &large, &zeros];

    let report = place.writer().publish(&samples);
    assert!(report.failed.is_empty(), "{}", chain(&report.failed[0].2));
    assert_eq!((report.published, report.already_there), (3, 0));
    assert!(report.bytes > 9 << 20);
    assert_eq!(place.read("nix-cache-info").unwrap(), b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n",);
    let narinfo = place.narinfo(&zeros);
    assert!(narinfo.contains("Compression: zstd\n") && narinfo.contains("URL: nar/"), "{narinfo}");

    // Again, by another: nothing is sent.
    let report = place.writer().publish(&samples);
    assert_eq!((report.published, report.already_there, report.bytes), (0, 3, 0));

    let reader = place.reader();
    let missing = Sample::new("missing", 1);
    let paths: Vec<_> = samples.iter().chain([&&missing]).map(|sample| sample.path.clone()).collect();
    let mut outcomes = reader.fetch(&paths);
    assert!(matches!(outcomes.pop(), Some(Outcome::Missing)));
    for (sample, outcome) in samples.iter().zip(outcomes) {
        let (nar, cache) = fetched(outcome);
        assert!(nar == sample.nar, "{}", sample.path);
        assert!(place.url.contains(cache.split('?').next().unwrap()), "{cache}");
    }
    let found = reader.remote.look_up(&paths);
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(found[2].as_ref().unwrap().narinfo.references, zeros.references);
    assert!(reader.events().is_empty(), "{:?}", reader.events());
}

fn the_first_writer_wins(place: &Place) {
    let first = Sample::with("name", b"first");
    let second = Sample::with("name", b"second");
    assert_eq!(place.writer().publish(&[&first]).published, 1);
    let before = place.narinfo(&first);
    let report = place.writer().publish(&[&second]);
    assert_eq!((report.published, report.already_there, report.failed.len()), (0, 1, 0));
    assert_eq!(place.narinfo(&first), before);
    assert!(fetched(place.reader().fetch_one(&first.path)).0 == first.nar);
}

fn a_broken_upload_is_repaired(place: &Place) {
    let sample = Sample::new("sample", 5000);
    // What a publisher leaves that lost its connection: part of a NAR under its name, and no narinfo.
    let elsewhere = Place::directory();
    elsewhere.writer().publish(&[&sample]);
    let narinfo = elsewhere.narinfo(&sample);
    let name = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
    place.write(name, &elsewhere.read(name).unwrap()[..1000]);

    assert_eq!(place.writer().publish(&[&sample]).published, 1);
    assert_eq!(place.read(name), elsewhere.read(name));
    assert!(fetched(place.reader().fetch_one(&sample.path)).0 == sample.nar);
}

fn an_empty_cache_has_nothing(place: &Place) {
    let reader = place.reader();
    assert!(matches!(reader.fetch_one(&Sample::new("sample", 1).path), Outcome::Missing));
    assert!(reader.events().is_empty(), "{:?}", reader.events());
}

fn another_store_directory_is_left_out(place: &Place) {
    let sample = Sample::with("sample", b"content");
    place.writer().publish(&[&sample]);
    place.write("nix-cache-info", b"StoreDir: /gnu/store\n");
    let reader = place.reader();
    assert!(matches!(reader.fetch_one(&sample.path), Outcome::Missing));
    assert_eq!(reader.left_out(), ["use the cache: its paths lie in /gnu/store"]);
    let writer = place.writer();
    let report = writer.publish(&[&Sample::with("other", b"content")]);
    assert_eq!((report.published, report.failed.len()), (0, 1));
    assert_eq!(writer.left_out(), ["use the cache: its paths lie in /gnu/store"]);
}
