//! The server as people run it, `cargo nixcache serve`, with Nix itself as its client: what Nix uploads it gets back,
//! signed and checked, and what it may not do it is told.
//!
//! Each test has a Nix of its own, and no cache is known to it but the server.

#![expect(clippy::unwrap_used, reason = "this file holds tests alone")]

use std::fs;
use std::process::Output;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nix::{CacheInfo, Compression, NarInfo, NarUrl, NarWriter, SecretKey, Sha256, StorePath};
use nixcache_tests::{CacheServer, Nix};

/// A scratch directory with a Nix of its own, and a server in it.
struct Place {
    nix: Nix,
}

impl Place {
    fn new(test: &str) -> Option<Self> {
        Nix::installed(test).map(|nix| Self { nix })
    }

    fn without_nix() -> Self {
        Self { nix: Nix::none() }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.nix.path(name)
    }

    fn nix(&self, tool: &str, arguments: &[&str]) -> Output {
        self.nix.try_run(tool, arguments)
    }

    #[track_caller]
    fn nix_succeeds(&self, tool: &str, arguments: &[&str]) -> String {
        self.nix.line(tool, arguments)
    }

    /// `cargo nixcache serve …` to its end.
    fn serve(&self, arguments: &[&str]) -> Output {
        CacheServer::command(self.path("").as_std_path(), arguments).output().unwrap()
    }

    /// A token that is new.
    fn token(&self, name: &str, scope: &str) -> String {
        CacheServer::token(self.path("").as_std_path(), name, scope)
    }

    /// A server on a free port, with the tokens, more `arguments`, and what is in `data`.
    fn start(&self, arguments: &[&str]) -> CacheServer {
        CacheServer::start(self.path("").as_std_path(), arguments)
    }

    /// Nix sends this token to servers of this machine.
    fn netrc(&self, token: &str) {
        fs::write(self.path("netrc"), format!("machine 127.0.0.1 login anyone password {token}\n")).unwrap();
    }

    /// Two paths by key in the store `a`, the second of which refers to the first. They come there from a cache in
    /// this directory, whose key no other store trusts.
    fn make_paths(&self) -> [String; 2] {
        let key = SecretKey::generate("origin-1".parse().unwrap(), &[5; 32]);
        let cache = self.path("origin");
        fs::create_dir_all(cache.join("nar")).unwrap();
        fs::write(cache.join("nix-cache-info"), CacheInfo::parse(b"").unwrap().to_string()).unwrap();
        let mut paths: Vec<StorePath> = Vec::new();
        for name in ["leaf", "top"] {
            let path = StorePath::by_key(Sha256::of(name.as_bytes()).as_bytes(), name.parse().unwrap());
            let contents =
                paths.iter().map(|path| format!("{path}\n")).chain([format!("{name}\n")]).collect::<String>();
            let mut writer = NarWriter::new(Vec::new());
            writer.regular_bytes(false, contents.as_bytes()).unwrap();
            let nar = writer.finish().unwrap();
            let mut narinfo = NarInfo {
                store_path: path.clone(),
                url: NarUrl::by_convention(&Sha256::of(&nar), &Compression::None),
                compression: Compression::None,
                file_hash: None,
                file_size: None,
                nar_hash: Sha256::of(&nar),
                nar_size: nar.len() as u64,
                references: paths.iter().cloned().collect(),
                deriver: None,
                signatures: Vec::new(),
                content_address: None,
            };
            narinfo.sign(&key);
            fs::write(cache.join(narinfo.url.as_str()), &nar).unwrap();
            fs::write(cache.join(format!("{}.narinfo", path.hash())), narinfo.to_string()).unwrap();
            paths.push(path);
        }
        let [store, top] = [self.path("a").into_string(), paths[1].to_string()];
        let (from, public) = (format!("file://{cache}"), key.public().to_string());
        let trust = ["--option", "substituters", &from, "--option", "trusted-public-keys", &public];
        self.nix_succeeds("nix-store", &[&["--store", &store, "-r", &top][..], &trust].concat());
        [paths[0].to_string(), top]
    }
}

#[test]
fn what_nix_uploads_nix_gets_back() {
    let Some(place) = Place::new("what_nix_uploads_nix_gets_back") else { return };
    let key = SecretKey::generate("served-1".parse().unwrap(), &[3; 32]);
    fs::write(place.path("secret"), key.to_file_text().as_str()).unwrap();
    let token = place.token("ci", "write");
    let server = place.start(&["--signing-key", place.path("secret").as_str()]);
    let [leaf, top] = place.make_paths();
    let (a, b, c) = (place.path("a"), place.path("b"), place.path("c"));
    let netrc = place.path("netrc");
    let copy = ["copy", "--netrc-file", netrc.as_str(), "--store", a.as_str(), "--to", server.url(), &top];

    let refused = place.nix("nix", &copy);
    assert!(!refused.status.success(), "without a token nothing is uploaded");
    place.netrc(&token);
    place.nix_succeeds("nix", &copy);
    // All of it is there: nothing is sent again.
    place.nix_succeeds("nix", &copy);

    // Other machines fetch. (This one would remember its narinfos as it sent them, without the server's signature.)
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    let public = key.public().to_string();
    let fetch = |store: &str, key: &str| {
        place.nix(
            "nix-store",
            &[
                "--store",
                store,
                "-r",
                &top,
                "--option",
                "substituters",
                server.url(),
                "--option",
                "trusted-public-keys",
                key,
            ],
        )
    };
    let other = SecretKey::generate("other-1".parse().unwrap(), &[4; 32]).public().to_string();
    assert!(!fetch(b.as_str(), &other).status.success(), "another key doesn't do");
    let fetched = fetch(b.as_str(), &public);
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let read = |store: &Utf8Path, path: &str| fs::read_to_string(store.join(&path[1..])).unwrap();
    assert_eq!(read(&b, &top), format!("{leaf}\ntop\n"));
    assert_eq!(read(&b, &leaf), "leaf\n");
    let option = ["--option", "trusted-public-keys", &public];
    place.nix_succeeds("nix", &[&["copy", "--store", c.as_str(), "--from", server.url(), &top][..], &option].concat());
    let verify = ["store", "verify", "--store", c.as_str(), "--recursive", "--sigs-needed", "1", &top];
    place.nix_succeeds("nix", &[&verify[..], &option].concat());

    // The cache's directory is a cache of its own.
    let files = format!("file://{}", place.path("data"));
    let info = place.nix_succeeds("nix", &["path-info", "--store", &files, "--recursive", &top]);
    assert_eq!(info.lines().count(), 2, "{info}");

    let log = server.stop();
    assert!(log.iter().any(|line| line.starts_with("PUT /") && line.ends_with(" ci")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains(&token)), "{log:?}");
}

#[test]
fn nix_uploads_in_other_compressions_and_fetches_listings() {
    let Some(place) = Place::new("nix_uploads_in_other_compressions_and_fetches_listings") else { return };
    let token = place.token("ci", "write");
    place.netrc(&token);
    let netrc = place.path("netrc");
    let store = place.path("a");
    let server = place.start(&[]);
    for (index, compression) in ["xz", "zstd", "none"].into_iter().enumerate() {
        let file = place.path(&format!("file-{compression}"));
        fs::write(&file, format!("{compression}\n").repeat(1000)).unwrap();
        let path = place.nix_succeeds("nix-store", &["--store", store.as_str(), "--add", file.as_str()]);
        let url = format!("{}?compression={compression}&write-nar-listing=true", server.url());
        place.nix_succeeds(
            "nix",
            &["copy", "--netrc-file", netrc.as_str(), "--store", store.as_str(), "--to", &url, &path],
        );
        let fetched = place.path(&format!("fetched-{index}"));
        place.nix_succeeds(
            "nix",
            &["copy", "--no-check-sigs", "--store", fetched.as_str(), "--from", server.url(), &path],
        );
        let listed = place.nix_succeeds("nix", &["store", "ls", "--json", "--store", server.url(), &path]);
        assert!(listed.contains("\"regular\""), "{listed}");
    }
}

#[test]
fn a_private_cache_gives_nix_nothing_without_a_token() {
    let Some(place) = Place::new("a_private_cache_gives_nix_nothing_without_a_token") else { return };
    let [write, read] = [place.token("ci", "write"), place.token("laptop", "read")];
    let netrc = place.path("netrc");
    let server = place.start(&["--private"]);
    let [leaf, _] = place.make_paths();
    let (a, b) = (place.path("a"), place.path("b"));
    let to = ["copy", "--netrc-file", netrc.as_str(), "--store", a.as_str(), "--to", server.url(), &leaf];
    let from = [
        "copy",
        "--no-check-sigs",
        "--netrc-file",
        netrc.as_str(),
        "--store",
        b.as_str(),
        "--from",
        server.url(),
        &leaf,
    ];
    place.netrc(&read);
    assert!(!place.nix("nix", &to).status.success(), "reading is not writing");
    place.netrc(&write);
    place.nix_succeeds("nix", &to);
    place.netrc("wrong");
    assert!(!place.nix("nix", &from).status.success());
    place.netrc(&read);
    place.nix_succeeds("nix", &from);
}

#[test]
fn tokens_and_garbage_are_looked_after_from_the_command_line() {
    let place = Place::without_nix();
    let token = place.token("ci", "write");
    assert!(token.len() > 40 && !token.contains(char::is_whitespace), "{token}");
    let tokens = place.path("tokens.toml");
    let option = ["--tokens", tokens.as_str()];
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text(&place.serve(&[&["token", "list"][..], &option].concat())), "write  ci\n");
    assert_eq!(place.serve(&[&["token", "add", "ci"][..], &option].concat()).status.code(), Some(78));
    assert!(place.serve(&[&["token", "remove", "ci"][..], &option].concat()).status.success());
    assert_eq!(place.serve(&[&["token", "remove", "ci"][..], &option].concat()).status.code(), Some(2));
    assert_eq!(text(&place.serve(&[&["token", "list"][..], &option].concat())), "");

    let data = place.path("data");
    let gc = ["gc", "--data", data.as_str(), "--keep-size", "1GiB", "--keep-time", "30d"];
    let server = place.start(&[]);
    let refused = place.serve(&gc);
    assert_eq!(refused.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another server"), "{refused:?}");
    server.stop();
    let output = place.serve(&gc);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("0 of 0 paths"), "{output:?}");

    for bad in [
        &["--data", "ftp://x"][..],
        &["--data", data.as_str(), "--private"],
        &["--data", data.as_str(), "--trusted-key", "nonsense"],
        &["--data", data.as_str(), "--signing-key", "missing"],
        &["--data", data.as_str(), "--keep-size", "much"],
        &[],
    ] {
        assert_eq!(place.serve(bad).status.code(), Some(2), "{bad:?}");
    }
}
