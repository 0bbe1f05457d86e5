//! Clients that send too much, too little, too slowly, or something else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nixcache_core::nix::Compression;

use crate::client::{read_answer, request};
use crate::fixture::{Item, Running, nar, noise};

fn packed(nar: &[u8], file: Vec<u8>) -> Item {
    Item::packed("bad", nar.to_vec(), file, Compression::Zstd, &[])
}

#[test]
fn files_that_are_not_what_they_say_leave_nothing() {
    let server = Running::with(|options| options.limits.nar_bytes = 1 << 20);
    let good = Item::new("good", &noise(5000), &[]);
    let bomb = nar(&vec![0; 8 << 20]);
    let mut trailing = good.file.clone();
    trailing.extend_from_slice(b"more");
    let mut flipped = good.file.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        ("empty", packed(&[], Vec::new())),
        ("no zstd", packed(&[], noise(100))),
        ("no NAR", packed(&[], zstd::encode_all(&b"hello"[..], 1).unwrap())),
        ("cut off", packed(&[], good.file[..good.file.len() - 1].to_vec())),
        ("half a NAR", packed(&[], zstd::encode_all(&good.nar[..good.nar.len() / 2], 1).unwrap())),
        ("trailing", packed(&[], trailing)),
        ("flipped", packed(&[], flipped.clone())),
        ("bomb", packed(&[], zstd::encode_all(&bomb[..], 1).unwrap())),
    ];
    for (what, item) in cases {
        let answer = server.put(&item.nar_path(), &item.file);
        assert_eq!(answer.status, 422, "{what}: {}", answer.text());
        assert_eq!(server.get(&item.nar_path()).status, 404, "{what}");
    }
    // A good NAR under the name of another one.
    let other = Item::new("other", b"other", &[]);
    assert_eq!(server.put(&other.nar_path(), &good.file).status, 422);
    assert_eq!(server.put(&other.nar_path(), &flipped).status, 422);
    assert!(server.files().is_empty(), "{:?}", server.files());
}

#[test]
fn large_bodies_are_refused_before_they_are_read_and_when_they_are_not_announced() {
    let server = Running::with(|options| options.limits.file_bytes = 1000);
    let item = Item::new("large", &noise(5000), &[]);
    assert_eq!(server.put(&item.nar_path(), &item.file).status, 413);
    let narinfo = vec![b'x'; (1 << 20) + 1];
    assert_eq!(server.put(&item.path(), &narinfo).status, 413);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        item.nar_path(),
        server.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("{:x}\r\n", item.file.len());
    let _ = stream.write_all(&[chunk.as_bytes(), &item.file, b"\r\n0\r\n\r\n"].concat());
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 413);
    assert!(server.files().is_empty(), "{:?}", server.files());
}

#[test]
fn a_refusal_comes_before_the_body_for_clients_that_ask_first() {
    let server = Running::new();
    let item = Item::new("thing", &noise(5000), &[]);
    for (token, first_line) in [("wrong", "HTTP/1.1 401"), (server.token.as_str(), "HTTP/1.1 100")] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            item.nar_path(),
            item.file.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(std::str::from_utf8(&start).unwrap(), first_line);
    }
}

#[test]
fn uploads_that_are_cut_off_leave_nothing() {
    let server = Running::new();
    // More than one part, so that something was written already.
    let item = Item::new("thing", &noise(12 << 20), &[]);
    for sent in [0, 1, item.file.len() / 2, item.file.len() - 1] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
            item.nar_path(),
            server.token,
            item.file.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&item.file[..sent]).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    // The server may still be at it; the end of a server is the end of its uploads.
    let data = server.data();
    let directory = server.join();
    let left: Vec<_> = data.join("nar").read_dir_utf8().unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    drop(directory);
}

#[test]
fn a_body_that_stands_still_is_refused() {
    let server = Running::with(|options| options.limits.idle_time = Duration::from_millis(100));
    let item = Item::new("thing", b"x", &[]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 1000\r\n\r\nhalf",
        item.path(),
        server.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 408);
}

/// Begins an upload of a NAR that is to have 100,000 bytes.
fn begin_upload(server: &Running, item: &Item) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100000\r\n\r\n",
        item.nar_path(),
        server.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A frame that is passed over, so that nothing is wrong with it before its end.
    stream.write_all(&[0x50, 0x2a, 0x4d, 0x18]).unwrap();
    stream.write_all(&90_000u32.to_le_bytes()).unwrap();
    stream
}

#[test]
fn a_body_that_comes_byte_by_byte_is_refused() {
    let server = Running::with(|options| {
        options.limits.idle_time = Duration::from_secs(1);
        options.limits.body_rate = 10_000;
    });
    let stream = begin_upload(&server, &Item::new("thing", b"x", &[]));
    let mut answers = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        let answer = scope.spawn(move || read_answer(&mut answers, false));
        // Never still for as long as is allowed, and at this rate at it for hours. It is ended after a minute.
        for _ in 0..1200 {
            if answer.is_finished() || (&stream).write_all(&[0]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert_eq!(answer.join().unwrap().expect("the server answers").status, 408);
    });
}

#[test]
fn uploads_do_not_wait_for_their_turn_for_ever() {
    let server = Running::with(|options| {
        options.limits.uploads = 1;
        options.limits.turn_time = Duration::from_millis(200);
    });
    let slow = Item::new("slow", b"slow", &[]);
    let upload = begin_upload(&server, &slow);
    let item = Item::new("thing", b"x", &[]);
    // The slow one has no turn yet, perhaps.
    let refused = (0..1000).map(|_| server.put(&item.nar_path(), &item.file)).find(|answer| answer.status == 503);
    assert_eq!(refused.expect("another upload has the turn").header("retry-after"), "1");
    drop(upload);
    while server.put(&item.nar_path(), &item.file).status == 503 {}
    server.publish(&item);
}

#[test]
fn headers_that_never_end_end_the_connection() {
    let server = Running::with(|options| options.limits.header_time = Duration::from_millis(100));
    for start in ["", "GET /nix-cache-info HTTP/1.1\r\nHost:"] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        let answer = read_answer(&mut stream, false);
        assert!(answer.is_none_or(|answer| answer.status == 408), "{start}");
    }
    let long = "x".repeat(100_000);
    let answer = server.get_with("/nix-cache-info", "X-Long", &long);
    assert_eq!(answer.status, 431);
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("X-Many", "x"), 500).collect();
    assert_eq!(request(server.address, "GET", "/nix-cache-info", &many, &[]).status, 431);
}

#[test]
fn one_client_with_all_connections_does_not_keep_others_out_for_long() {
    let server = Running::with(|options| {
        options.limits.connections = 2;
        options.limits.header_time = Duration::from_millis(100);
    });
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    assert_eq!(server.get("/healthz").status, 200);
    drop(idle);
}

#[test]
fn bodies_in_another_encoding_are_refused() {
    let server = Running::new();
    let item = Item::new("thing", b"x", &[]);
    let authorization = format!("Bearer {}", server.token);
    let headers = [("Authorization", authorization.as_str()), ("Content-Encoding", "zstd")];
    assert_eq!(request(server.address, "PUT", &item.nar_path(), &headers, &item.file).status, 415);
}

#[test]
fn other_methods_and_names_are_refused() {
    let server = Running::new();
    let path = "/vjjjypqlg1pgfwnjjbzxr8nd5x41laka.narinfo";
    for method in ["DELETE", "POST", "PATCH"] {
        assert_eq!(server.send(method, path, b"").status, 405, "{method}");
    }
    for path in ["/x.narinfo", "/nixcache/lock", "/log/x", "/nar/../../x", "/realisations/x.doi"] {
        let answer = server.put(path, b"x");
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    assert!(server.files().is_empty());
}

/// Sends a GET and gives the connection, on which the answer comes. Nobody waits for it longer than half a minute.
fn ask(server: &Running, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn clients_of_plain_nars_leave_threads_for_others() {
    let server = Running::with_threads(24, |options| options.limits.request_time = Duration::from_secs(1));
    let item = Item::new("thing", &noise(8 << 20), &[]);
    server.publish(&item);
    let path = format!("/nar/{}.nar", item.narinfo.nar_hash.to_nix32());
    // They take nothing of what comes.
    let many: Vec<TcpStream> = (0..60).map(|_| ask(&server, &path)).collect();
    for _ in 0..5 {
        let answer = read_answer(&mut ask(&server, "/healthz"), false);
        assert_eq!(answer.expect("the server answers").status, 200);
    }
    let late = read_answer(&mut ask(&server, &path), false).expect("the server answers");
    assert_eq!((late.status, late.header("retry-after")), (503, "1"));
    drop(many);
    let plain = || read_answer(&mut ask(&server, &path), false).expect("the server answers");
    let freed = (0..30).map(|_| plain()).find(|answer| answer.status == 200);
    assert!(freed.expect("the others have left").body == item.nar);
}

#[test]
fn a_request_that_runs_ends_before_the_server_does() {
    let mut server = Running::new();
    let item = Item::new("thing", &noise(500_000), &[]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        item.nar_path(),
        server.token,
        item.file.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server says that it reads: the request runs.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    stream.write_all(&item.file[..1000]).unwrap();
    server.stop();
    // It takes no more connections, at the latest when the port is closed.
    while TcpStream::connect(server.address).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    stream.write_all(&item.file[1000..]).unwrap();
    assert_eq!(read_answer(&mut stream, false).unwrap().status, 201);
    assert!(server.data().join(&item.nar_path()[1..]).is_file());
}
