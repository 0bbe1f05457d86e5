//! Other caches behind this one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nixcache_core::nix::Compression;
use nixcache_remote::{NewPath, Remote, RemoteOptions};
use nixcache_server::{Event, UpstreamUrl, Upstreams};
use serde_json::json;

use crate::fixture::{Item, Running, key, nar, noise};

fn behind(origins: &[&Running]) -> Running {
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    Running::with(|options| options.upstreams = at(&addresses))
}

fn at(addresses: &[SocketAddr]) -> Upstreams {
    let urls = addresses.iter().map(|address| format!("http://{address}").parse().unwrap()).collect();
    Upstreams { urls, keys: [key().public()].into_iter().collect() }
}

/// Stands before a server. While it is silent, it takes connections and requests and says nothing.
struct Silent {
    address: SocketAddr,
    is_silent: Arc<AtomicBool>,
    /// Connections that it took while it was silent.
    asked: Arc<AtomicUsize>,
}

impl Silent {
    fn before(server: &Running) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, target) = (listener.local_addr().unwrap(), server.address);
        let (is_silent, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (silent, count) = (Arc::clone(&is_silent), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for client in listener.incoming() {
                let client = client.unwrap();
                if silent.load(Ordering::SeqCst) {
                    count.fetch_add(1, Ordering::SeqCst);
                    held.push(client);
                    continue;
                }
                std::thread::spawn(move || {
                    let (mut from, mut server) = (client, TcpStream::connect(target).unwrap());
                    let (mut back, mut to) = (server.try_clone().unwrap(), from.try_clone().unwrap());
                    std::thread::spawn(move || std::io::copy(&mut back, &mut to));
                    let _ = std::io::copy(&mut from, &mut server);
                });
            }
        });
        Self { address, is_silent, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// What it gives, and how long that took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = work();
    (result, began.elapsed())
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
        let answer = server.get(&item.nar_path());
        assert_eq!(answer.header("content-length"), item.file.len().to_string());
        assert!(answer.body == item.file);
        wait_until_kept(&server, item);
    }
    let late = signed(Item::new("late", b"late", &[]));
    origin.publish(&late);
    let hash = late.narinfo.store_path.hash().to_string();
    let question = json!({ "hashes": [hash] }).to_string();
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
fn an_upstream_that_says_nothing_costs_one_wait() {
    let (origin, other) = (Running::new(), Running::new());
    let silent = Silent::before(&origin);
    let [theirs, ours, others] = ["theirs", "ours", "others"].map(|name| signed(Item::new(name, name.as_bytes(), &[])));
    origin.publish(&theirs);
    other.publish(&others);
    let server = Running::with(|options| options.upstreams = at(&[silent.address, other.address]));
    let (answer, time) = timed(|| server.send("HEAD", &others.path(), b""));
    assert_eq!(answer.status, 200, "the next one is asked");
    assert!(time < Duration::from_millis(2400), "our client waits 2.5 s: {time:?}");
    let (statuses, time) = timed(|| {
        server.publish(&ours);
        [&ours, &others, &theirs].map(|item| server.get(&item.path()).status)
    });
    assert_eq!(statuses, [200, 200, 404]);
    assert!(time < Duration::from_secs(2), "it was not waited for again: {time:?}");
    assert_eq!(silent.asked(), 1);
    let troubles = troubles(&server);
    assert!(troubles.len() == 1 && troubles[0].contains("is left out for 10 s"), "{troubles:?}");
}

#[test]
fn look_ups_of_many_paths_do_not_wait_for_silence_again_and_again() {
    let origin = Running::new();
    let silent = Silent::before(&origin);
    let server = Running::with(|options| options.upstreams = at(&[silent.address]));
    let hashes: Vec<String> = (0..200)
        .map(|number| Item::new(&format!("thing-{number}"), b"x", &[]).narinfo.store_path.hash().to_string())
        .collect();
    let question = json!({ "hashes": hashes }).to_string();
    // Nobody waits for an answer for as long as it takes to see that there is none: that is seen all the same.
    let (rounds, time) = timed(|| {
        let ask = |_: &usize| server.send("POST", "/api/v1/narinfos", question.as_bytes()).json()["left"] == json!([]);
        (1..100).find(ask)
    });
    assert!(time < Duration::from_millis(2400), "{time:?}");
    assert!(rounds.is_some_and(|rounds| rounds > 1), "{rounds:?}");
    assert!(silent.asked() < hashes.len(), "what is left is not asked for");
}

#[test]
fn an_upstream_that_answers_again_is_used_again() {
    let origin = Running::new();
    let silent = Silent::before(&origin);
    let item = signed(Item::new("thing", &noise(10_000), &[]));
    origin.publish(&item);
    let server = Running::with(|options| {
        options.upstreams = at(&[silent.address]);
        options.limits.upstream_time = Duration::from_millis(300);
        options.limits.upstream_pause = Duration::from_millis(300);
    });
    assert_eq!(server.get(&item.path()).status, 404);
    silent.is_silent.store(false, Ordering::SeqCst);
    let patience = Instant::now() + Duration::from_secs(60);
    while server.get(&item.path()).status != 200 {
        assert!(Instant::now() < patience, "{:?}", troubles(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.get("/vjjjypqlg1pgfwnjjbzxr8nd5x41laka.narinfo").status, 404);
    assert_eq!(server.get(&item.path()).status, 200, "that it hasn't something is no failure");
    assert!(server.get(&item.nar_path()).body == item.file);
}

#[test]
fn a_nar_is_not_waited_for_where_nothing_answers() {
    let origin = Running::new();
    let silent = Silent::before(&origin);
    silent.is_silent.store(false, Ordering::SeqCst);
    let item = signed(Item::new("thing", &noise(10_000), &[]));
    origin.publish(&item);
    let server = Running::with(|options| {
        options.upstreams = at(&[silent.address]);
        options.limits.upstream_time = Duration::from_millis(300);
    });
    assert_eq!(server.get(&item.path()).status, 200);
    silent.is_silent.store(true, Ordering::SeqCst);
    // What still goes through the connection that is there ends with the origin.
    drop(origin);
    let (answers, time) = timed(|| [(); 5].map(|()| server.get(&item.nar_path()).status));
    assert_eq!(answers, [404; 5]);
    assert!(time < Duration::from_millis(2900), "{time:?}");
}

#[test]
fn what_an_upstream_has_counts_as_there_for_what_refers_to_it() {
    let origin = Running::new();
    let leaf = signed(Item::new("leaf", b"leaf", &[]));
    let unsigned = Item::new("unsigned", b"unsigned", &[]);
    origin.publish(&leaf);
    origin.publish(&unsigned);
    let server = Running::with(|options| {
        options.upstreams = at(&[origin.address]);
        options.retention.grace = Duration::ZERO;
        options.retention.size = Some(0);
    });
    for (name, reference) in [("on-unsigned", &unsigned), ("on-nothing", &Item::new("nowhere", b"x", &[]))] {
        let top = Item::new(name, name.as_bytes(), &[&leaf, reference]);
        assert_eq!(server.put(&top.nar_path(), &top.file).status, 201);
        let answer = server.put(&top.path(), top.narinfo.to_string().as_bytes());
        assert_eq!(answer.status, 422);
        assert!(answer.text().starts_with("1 of its references"), "{}", answer.text());
        assert!(answer.text().contains(&reference.narinfo.store_path.to_string()), "{}", answer.text());
    }
    assert_eq!(server.send("HEAD", &leaf.path(), b"").status, 200, "who wants to upload it is told that it is there");
    let top = Item::new("top", b"top", &[&leaf]);
    server.publish(&top);
    assert_eq!(server.put("/api/v1/pins/top", top.narinfo.store_path.to_string().as_bytes()).status, 200);
    server.send("POST", "/api/v1/gc", b"");
    assert_eq!(server.get(&leaf.path()).status, 200, "it is asked for where it is");
    assert!(server.get(&leaf.nar_path()).body == leaf.file);
    wait_until_kept(&server, &leaf);
    drop(origin);
    assert_eq!(server.send("POST", "/api/v1/gc", b"").json()["dropped_paths"], 0);
    assert!(server.get(&leaf.nar_path()).body == leaf.file, "what is pinned refers to it");
    assert_eq!(server.send("DELETE", "/api/v1/pins/top", b"").status, 200);
    assert_eq!(server.send("POST", "/api/v1/gc", b"").json()["dropped_paths"], 2);
}

#[test]
fn our_client_publishes_a_set_of_what_an_upstream_has() {
    let origin = Running::new();
    let leaf = signed(Item::new("leaf", b"leaf", &[]));
    origin.publish(&leaf);
    let server = behind(&[&origin]);
    let url = format!("http://ci:{}@{}", server.token, server.address).parse().unwrap();
    let mut options = RemoteOptions { publish: vec![url], secret_key: Some(key()), ..RemoteOptions::default() };
    // What is slow here is the machine.
    options.network.patience = Duration::from_secs(300);
    options.network.request_limit = Duration::from_secs(300);
    options.network.upload_patience = Duration::from_secs(300);
    let remote = Remote::new(options, |_| {}).unwrap();
    let mut sending = remote.publishing();
    for item in [&leaf, &Item::new("set", b"set", &[&leaf])] {
        let nar = item.nar.clone();
        sending.offer(NewPath {
            path: item.narinfo.store_path.clone(),
            references: item.narinfo.references.clone(),
            by_content: false,
            pack: Box::new(move |destination| destination.write_all(&nar)),
        });
    }
    let report = sending.finish();
    assert_eq!((report.published, report.already_there), (1, 1), "{report:?}");
    assert!(!server.data().join(&leaf.path()[1..]).is_file());
}

#[test]
fn a_nar_of_an_upstream_is_not_there_for_who_wants_to_upload_it() {
    let origin = Running::new();
    let theirs = signed(Item::new("theirs", b"same", &[]));
    let ours = Item::new("ours", b"same", &[]);
    origin.publish(&theirs);
    let server = behind(&[&origin]);
    assert_eq!(server.get(&theirs.path()).status, 200);
    assert_eq!(server.send("HEAD", &ours.nar_path(), b"").status, 404);
    assert_eq!(server.put(&ours.path(), ours.narinfo.to_string().as_bytes()).status, 422);
    server.publish(&ours);
    assert_eq!(server.send("HEAD", &ours.nar_path(), b"").status, 200);
}

#[test]
fn upstreams_are_plain_urls() {
    assert!("https://cache.example.org/team".parse::<UpstreamUrl>().is_ok());
    for bad in ["", "cache", "file:///x", "s3://x", "https://user:secret@x", "https://x?y", "https://x#y"] {
        assert!(bad.parse::<UpstreamUrl>().is_err(), "{bad}");
    }
}
