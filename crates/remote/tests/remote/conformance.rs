//! What every kind of cache can do, written once and run over each.

use nixcache_core::environment::Environment;
use nixcache_remote::{AwsKeys, Netrc, Outcome, Proxies, RemoteOptions, Secret, StoredFile};

use crate::server::{Attic, Cachix, Internet, Memory, Reply, Request, S3Server, Server};
use crate::support::{Sample, Watched, chain, failed, fetched, key, options, publish_options};

/// A cache of some kind, with a way to look into it behind its back.
struct Place {
    url: String,
    kind: Kind,
}

enum Kind {
    Directory(tempfile::TempDir),
    Http { memory: Memory, _server: Server },
    Bucket { root: tempfile::TempDir, _server: S3Server },
    Cachix { cachix: Cachix, internet: Internet },
    Attic { attic: Attic, internet: Internet },
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
        Self { url: server.url("bucket"), kind: Kind::Bucket { root, _server: server } }
    }

    fn cachix() -> Self {
        let cachix = Cachix::new("mine", "token").signed_by(key().public());
        let internet = cachix.internet();
        Self { url: "cachix://mine".to_owned(), kind: Kind::Cachix { cachix, internet } }
    }

    fn attic() -> Self {
        let attic = Attic::new("team", "token");
        let internet = attic.internet();
        Self { url: "attic://attic.example.org/team".to_owned(), kind: Kind::Attic { attic, internet } }
    }

    fn with_keys(&self, mut options: RemoteOptions) -> Watched {
        match &self.kind {
            Kind::Bucket { .. } => {
                let (id, secret) = (S3Server::ACCESS_KEY.into(), Secret::new(S3Server::SECRET_KEY));
                let keys = AwsKeys { access_key_id: id, secret_access_key: secret, session_token: None };
                options.credentials.aws.keys = Some(keys);
            }
            Kind::Cachix { internet, .. } => {
                options.credentials.cachix = Some(Secret::new("token"));
                through(&mut options, internet);
            }
            Kind::Attic { attic, internet } => {
                options.credentials.netrc = Netrc::parse("machine attic.example.org login me password token");
                options.trusted_keys = [attic.public_key()].into_iter().collect();
                through(&mut options, internet);
            }
            Kind::Directory(_) | Kind::Http { .. } => {}
        }
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
            Kind::Cachix { cachix, .. } => body(&cachix.answer(&get(&format!("/{name}")))),
            Kind::Attic { attic, .. } => body(&attic.answer(&get(&format!("/team/{name}")))),
        }
    }

    /// Where files can be put behind the back of whoever serves them.
    fn write(&self, name: &str, bytes: &[u8]) {
        let root = match &self.kind {
            Kind::Http { memory, .. } => return memory.put(name, bytes),
            Kind::Directory(directory) => directory.path().join("cache"),
            Kind::Bucket { root, .. } => root.path().join("bucket"),
            Kind::Cachix { .. } | Kind::Attic { .. } => unreachable!("files can't be put there"),
        };
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn narinfo(&self, sample: &Sample) -> String {
        String::from_utf8(self.read(&sample.narinfo_name()).unwrap()).unwrap()
    }

    /// Those that speak an API say what they didn't like.
    fn refused(&self) -> Vec<String> {
        match &self.kind {
            Kind::Cachix { cachix, .. } => cachix.refused(),
            Kind::Attic { attic, .. } => attic.refused(),
            _ => Vec::new(),
        }
    }
}

/// The options of somebody whose network is this one.
fn through(options: &mut RemoteOptions, internet: &Internet) {
    let mut environment = Environment::default();
    environment.set("https_proxy", internet.proxy());
    options.network.proxies = Proxies::from_environment(&environment);
    options.network.certificates = Some(internet.certificate().as_bytes().to_vec());
}

fn get(target: &str) -> Request {
    let headers = [("authorization".to_owned(), "Bearer token".to_owned())].into_iter().collect();
    Request { method: "GET".to_owned(), target: target.to_owned(), headers, body: Vec::new() }
}

fn body(reply: &Reply) -> Option<Vec<u8>> {
    let head = reply.bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    reply.bytes.starts_with(b"HTTP/1.1 200 ").then(|| reply.bytes[head + 4..].to_vec())
}

macro_rules! for_kinds {
    ($kinds:tt: $($name:ident)*) => {$(for_kinds! { @ $kinds $name })*};
    (@ [$($kind:ident)*] $name:ident) => {
        mod $name {$(
            #[test]
            fn $kind() {
                let place = super::Place::$kind();
                super::$name(&place);
                assert_eq!(place.refused(), [""; 0]);
            }
        )*}
    };
}

for_kinds! {
    [directory http bucket cachix attic]:
    what_is_published_can_be_fetched
    announced_paths_come_as_others_do
    the_first_writer_wins
    an_empty_cache_has_nothing
}

// Cachix is not told that a path is named by its content, and can't say it.
for_kinds! {
    [directory http bucket attic]:
    what_its_content_names_needs_no_key
}

// Hosted caches look after their files themselves.
for_kinds! {
    [directory http bucket]:
    a_broken_upload_is_repaired
    another_store_directory_is_left_out
    a_file_beside_the_paths_keeps_its_bytes
}

fn a_file_beside_the_paths_keeps_its_bytes(place: &Place) {
    let store = |bytes: &[u8]| {
        let stored = place.writer().remote.store_file("nif/main/x.so.tar.gz", bytes, "application/gzip");
        let [(_, stored)] = &stored[..] else { panic!("one cache, one answer") };
        *stored.as_ref().unwrap()
    };
    assert_eq!(store(b"archive"), StoredFile::New);
    assert_eq!(store(b"archive"), StoredFile::Same);
    for other in [&b"another"[..], b"a longer archive", b"short"] {
        assert_eq!(store(other), StoredFile::Other);
    }
    assert_eq!(place.read("nif/main/x.so.tar.gz").unwrap(), b"archive");
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
    if !matches!(place.kind, Kind::Cachix { .. } | Kind::Attic { .. }) {
        assert_eq!(place.read("nix-cache-info").unwrap(), b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n");
    }
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
    let found: Vec<_> = found.into_iter().map(|found| found.unwrap()).collect();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(found[2].as_ref().unwrap().narinfo.references, zeros.references);
    assert!(reader.events().is_empty(), "{:?}", reader.events());
}

fn announced_paths_come_as_others_do(place: &Place) {
    let samples: Vec<_> = (0..10).map(|number| Sample::new(&format!("sample-{number}"), 100 + number)).collect();
    let missing: Vec<_> = (0..3).map(|number| Sample::new(&format!("missing-{number}"), 1)).collect();
    place.writer().publish(&samples.iter().collect::<Vec<_>>());
    let reader = place.reader();
    let paths: Vec<_> = samples.iter().chain(&missing).map(|sample| sample.path.clone()).collect();
    let mut outcomes = reader.fetch_announced(&paths);
    assert!(outcomes.drain(samples.len()..).all(|outcome| matches!(outcome, Outcome::Missing)));
    for (sample, outcome) in samples.iter().zip(outcomes) {
        assert!(fetched(outcome).0 == sample.nar, "{}", sample.path);
    }
    assert!(reader.events().is_empty(), "{:?}", reader.events());
}

fn what_its_content_names_needs_no_key(place: &Place) {
    let sample = Sample::named_by_content("app-1.0.0", b"program");
    // Whoever offers something else under that name is not believed.
    let mut lying = Sample::with("other", b"another program");
    lying.path = sample.path.clone();
    let report = place.writer().publish_by_content(&lying);
    assert_eq!((report.published, report.failed.len()), (0, 1));
    assert!(chain(&report.failed[0].2).contains("its content is not the one"), "{}", chain(&report.failed[0].2));

    assert_eq!(place.writer().publish_by_content(&sample).published, 1);
    let narinfo = place.narinfo(&sample);
    assert!(narinfo.contains("\nCA: fixed:r:sha256:") && narinfo.contains("\nSig: "), "{narinfo}");
    let mut options = options(&[&place.url]);
    options.trusted_keys = Default::default();
    let stranger = place.with_keys(options);
    assert!(fetched(stranger.fetch_one(&sample.path)).0 == sample.nar);
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
    assert!(failed(reader.fetch_one(&sample.path)).contains("left out"));
    assert_eq!(reader.left_out(), ["use the cache: its paths lie in /gnu/store"]);
    let writer = place.writer();
    let report = writer.publish(&[&Sample::with("other", b"content")]);
    assert_eq!((report.published, report.failed.len()), (0, 1));
    assert_eq!(writer.left_out(), ["use the cache: its paths lie in /gnu/store"]);
}
