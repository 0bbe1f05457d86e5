//! What clients get.

use nixcache_core::nix::{Compression, SecretKey};

use crate::client::request;
use crate::fixture::{Item, Running, key, nar, noise};

#[test]
fn the_cache_says_what_it_is() {
    let server = Running::with(|options| options.priority = 17);
    let answer = server.get("/nix-cache-info");
    assert_eq!(answer.text(), "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 17\n");
    assert_eq!(answer.header("content-type"), "text/x-nix-cache-info");
    assert_eq!(server.get("/healthz").text(), "ok\n");
}

#[test]
fn what_was_uploaded_is_served_with_headers_that_let_clients_keep_it() {
    let server = Running::new();
    let item = Item::new("thing", &noise(300_000), &[]);
    server.publish(&item);
    let narinfo = server.get(&item.path());
    assert_eq!(narinfo.text(), item.narinfo.to_string());
    assert_eq!(narinfo.header("content-type"), "text/x-nix-narinfo");
    // Garbage collection may drop it.
    assert_eq!(narinfo.header("cache-control"), "public, max-age=3600");
    let file = server.get(&item.nar_path());
    assert_eq!((file.status, &file.body), (200, &item.file));
    assert_eq!(file.header("content-type"), "application/x-nix-nar");
    assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(file.header("accept-ranges"), "bytes");
    for (path, whole) in [(item.path(), &narinfo), (item.nar_path(), &file)] {
        let head = request(server.address, "HEAD", &path, &[], &[]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-length", "content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), whole.header(name), "{name}");
        }
        let again = server.get_with(&path, "If-None-Match", whole.header("etag"));
        assert_eq!((again.status, again.body.len()), (304, 0));
        assert_eq!(again.header("etag"), whole.header("etag"));
        assert_eq!(server.get_with(&path, "If-None-Match", "\"other\"").status, 200);
    }
}

#[test]
fn parts_of_nars_are_served() {
    let server = Running::new();
    let item = Item::new("thing", &noise(600_000), &[]);
    server.publish(&item);
    let size = item.file.len();
    for (range, expected) in [
        ("bytes=0-0".to_owned(), 0..1),
        (format!("bytes={}-", size - 5), size - 5..size),
        ("bytes=-7".to_owned(), size - 7..size),
        ("bytes=262143-524288".to_owned(), 262_143..524_289),
    ] {
        let answer = server.get_with(&item.nar_path(), "Range", &range);
        assert_eq!(answer.status, 206, "{range}");
        assert!(answer.body == item.file[expected.clone()], "{range}");
        let span = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(answer.header("content-range"), span);
    }
    for range in ["bytes=0-0", "bytes=9999999-"] {
        let head = request(server.address, "HEAD", &item.nar_path(), &[("Range", range)], &[]);
        assert_eq!((head.status, head.header("content-length")), (200, size.to_string().as_str()), "{range}");
        assert!(head.headers("content-range").is_empty());
    }
    let answer = server.get_with(&item.nar_path(), "Range", &format!("bytes={size}-"));
    assert_eq!((answer.status, answer.header("content-range")), (416, format!("bytes */{size}").as_str()));
}

#[test]
fn plain_nars_are_made_from_packed_ones() {
    let server = Running::new();
    let contents = noise(700_000);
    let item = Item::new("thing", &contents, &[]);
    let path = format!("/nar/{}.nar", item.narinfo.nar_hash.to_nix32());
    server.put(&item.nar_path(), &item.file);
    assert_eq!(server.get(&path).status, 404, "nobody vouched for it yet");
    server.publish(&item);
    let answer = server.get(&path);
    assert_eq!(answer.status, 200);
    assert!(answer.body == item.nar);
    let head = request(server.address, "HEAD", &path, &[], &[]);
    assert_eq!((head.status, head.header("content-length")), (200, item.nar.len().to_string().as_str()));
    // A client that sends its NARs plain finds that this one is there, and its narinfo is taken for the packed one.
    let nar = nar(&contents);
    let twin = Item::packed("twin", nar.clone(), nar, Compression::None, &[]);
    assert_eq!(server.put(&twin.path(), twin.narinfo.to_string().as_bytes()).status, 201);
    let stored = server.get(&twin.path());
    assert!(stored.text().contains(&format!("URL: {}\n", item.narinfo.url)), "{}", stored.text());
    assert!(stored.text().contains("Compression: zstd\n"));
}

#[test]
fn listings_are_served_and_change_until_their_narinfo_is_there() {
    let server = Running::new();
    let item = Item::new("thing", b"x", &[]);
    let path = item.path().replace(".narinfo", ".ls");
    let [first, second] =
        [1, 2].map(|size| format!(r#"{{"version":1,"root":{{"type":"regular","size":{size},"narOffset":96}}}}"#));
    assert_eq!(server.put(&path, first.as_bytes()).status, 201);
    assert_eq!(server.put(&path, first.as_bytes()).status, 200);
    assert_eq!(server.put(&path, second.as_bytes()).status, 201);
    server.publish(&item);
    assert_eq!(server.put(&path, second.as_bytes()).status, 200);
    assert_eq!(server.put(&path, first.as_bytes()).status, 409);
    let answer = server.get(&path);
    assert_eq!((answer.text(), answer.header("content-type")), (second.as_str(), "application/json"));
    for bad in ["", "[]", "{}", r#"{"version":2,"root":{"type":"regular"}}"#, r#"{"version":1,"root":[]}"#] {
        assert_eq!(server.put("/vjjjypqlg1pgfwnjjbzxr8nd5x41laka.ls", bad.as_bytes()).status, 400, "{bad}");
    }
}

#[test]
fn what_is_not_there_is_not_found_and_not_kept() {
    let server = Running::new();
    for path in [
        "/vjjjypqlg1pgfwnjjbzxr8nd5x41laka.narinfo",
        "/vjjjypqlg1pgfwnjjbzxr8nd5x41laka.ls",
        "/nar/04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw.nar.zst",
        "/nar/04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw.nar",
        "/",
        "/nixcache/lock",
        "/nar/../nixcache/lock",
        "/nar/..%2fnixcache%2flock",
        "/%2e%2e/tokens.toml",
        "/..%2ftokens.toml",
        "//etc/passwd",
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.header("cache-control")), (404, "no-store"), "{path}");
    }
}

#[test]
fn the_servers_own_signature_is_one_that_clients_accept() {
    let server = Running::with(|options| options.signing.key = Some(key()));
    let item = Item::new("thing", b"x", &[]);
    server.publish(&item);
    let answer = server.get(&item.path());
    let narinfo =
        nixcache_core::nix::NarInfo::parse(&answer.body, nixcache_core::nix::Asked::Path(&item.narinfo.store_path))
            .unwrap();
    let trusted = nixcache_core::nix::TrustedKeys::from_iter([SecretKey::public(&key())]);
    assert!(trusted.verify(narinfo).is_ok());
    // The same upload again is the same narinfo.
    assert_eq!(server.put(&item.path(), item.narinfo.to_string().as_bytes()).status, 200);
}
