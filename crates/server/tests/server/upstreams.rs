//! Other caches behind this one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use nixcache_core::nix::Compression;
use nixcache_server::{Event, UpstreamUrl, Upstreams};

use crate::fixture::{Item, Running, key, nar, noise};

fn behind(origins: &[&Running]) -> Running {
    let urls = origins.iter().map(|origin| format!("http://{}", origin.address).parse().unwrap()).collect();
    Running::with(|options| options.upstreams = Upstreams { urls, keys: [key().public()].into_iter().collect() })
}

fn troubles(server: &Running) -> Vec<String> {
    let events = server.events.lock().unwrap();
    events.iter().filter_map(|event| if let Event::Trouble(text) = event { Some(text.clone()) } else { None }).collect()
}

fn signed(mut item: Item) -> Item {
    item.narinfo.sign(&key());
    item
}

/// Waits until the server keeps the narinfo, which is after the client has its NAR.
fn wait_until_kept(server: &Running, item: &Item) {
    while !server.data().join(&item.path()[1..]).is_file() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn what_an_upstream_has_is_handed_on_and_kept() {
    let (empty, origin) = (Running::new(), Running::new());
    let leaf = signed(Item::new("leaf", &noise(900_000), &[]));
    let plain_nar = nar(b"plain");
    let top = signed(Item::packed("top", plain_nar.clone(), plain_nar, Compression::None, &[&leaf]));
    origin.publish(&leaf);
    origin.publish(&top);
    let server = behind(&[&empty, &origin]);
    assert_eq!(server.get(&leaf.nar_path()).status, 404, "nobody vouched for it here");
    for item in [&top, &leaf] {
        assert_eq!(server.get(&item.path()).text(), item.narinfo.to_string());
        assert!(!server.data().join(&item.path()[1..]).is_file(), "its NAR is not here yet");
        assert_eq!(server.send("HEAD", &item.nar_path(), b"").header("content-length"), item.file.len().to_string());
        assert!(server.get(&item.nar_path()).body == item.file);
        wait_until_kept(&server, item);
    }
    let late = signed(Item::new("late", b"late", &[]));
    origin.publish(&late);
    let hash = late.narinfo.store_path.hash().to_string();
    let question = serde_json::json!({ "hashes": [hash] }).to_string();
    let answer = server.send("POST", "/api/v1/narinfos", question.as_bytes()).json();
    assert_eq!(answer["narinfos"][&hash], late.narinfo.to_string(), "it is handed on among many too");
    drop(origin);
    for item in [&top, &leaf] {
        assert_eq!(server.get(&item.path()).text(), item.narinfo.to_string());
        assert!(server.get(&item.nar_path()).body == item.file);
    }
    assert!(troubles(&server).is_empty(), "{:?}", troubles(&server));
    assert_eq!(server.get("/vjjjypqlg1pgfwnjjbzxr8nd5x41laka.narinfo").status, 404);
    assert_eq!(troubles(&server).len(), 1, "the origin is gone");
}

#[test]
fn what_no_trusted_key_has_signed_is_not_handed_on() {
    let origin = Running::new();
    let unsigned = Item::new("unsigned", b"x", &[]);
    origin.publish(&unsigned);
    let server = behind(&[&origin]);
    assert_eq!(server.get(&unsigned.path()).status, 404);
    assert!(troubles(&server)[0].contains("no signature"), "{:?}", troubles(&server));
    assert!(server.files().is_empty(), "{:?}", server.files());
}

#[test]
fn a_nar_that_is_not_what_was_signed_is_cut_off_and_not_kept() {
    let origin = Running::new();
    let item = signed(Item::new("thing", &noise(500_000), &[]));
    origin.publish(&item);
    let mut changed = item.file.clone();
    changed[250_000] ^= 1;
    std::fs::write(origin.data().join(&item.nar_path()[1..]), &changed).unwrap();
    let server = behind(&[&origin]);
    assert_eq!(server.get(&item.path()).status, 200);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", item.nar_path());
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let start = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(bytes.len() - start < item.file.len(), "the client notices");
    let kept: Vec<String> = server.files().into_iter().filter(|file| !file.starts_with("nixcache/upstream/")).collect();
    assert!(kept.is_empty(), "{kept:?}");
    assert!(troubles(&server)[0].contains("is not kept"), "{:?}", troubles(&server));
}

#[test]
fn upstreams_are_plain_urls() {
    assert!("https://cache.example.org/team".parse::<UpstreamUrl>().is_ok());
    for bad in ["", "cache", "file:///x", "s3://x", "https://user:secret@x", "https://x?y", "https://x#y"] {
        assert!(bad.parse::<UpstreamUrl>().is_err(), "{bad}");
    }
}
