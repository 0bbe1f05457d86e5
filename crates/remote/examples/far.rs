//! A server that is far away, for measurements: what a longer way costs, and what look-ups over it take.
//!
//! ```text
//! far proxy ADDRESS MILLISECONDS                    passes on to ADDRESS; says where it listens
//! far look-up URL PUBLIC-KEY DIRECTORY COUNT        looks up paths of the cache in DIRECTORY; says the seconds
//! far fetch URL PUBLIC-KEY DIRECTORY COUNT TARGET   fetches them into TARGET; says the seconds
//! ```
//!
//! The proxy adds a round trip of so many milliseconds to each question and its answer, and another one to each new
//! connection, as a longer way would. It limits no speed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own, which says what it measured")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use nixcache_core::nix::nar::unpack;
use nixcache_core::nix::{NarLimits, NarReader, PublicKey, StorePath};
use nixcache_remote::{Outcome, Remote, RemoteOptions};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["proxy", address, milliseconds] => proxy(address, Duration::from_millis(milliseconds.parse()?)),
        ["look-up", url, key, directory, count] => look_up(url, key, directory, count.parse()?),
        ["fetch", url, key, directory, count, target] => fetch(url, key, directory, count.parse()?, target.into()),
        _ => Err("usage: see the beginning of its source".into()),
    }
}

fn proxy(address: &str, round_trip: Duration) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    for client in listener.incoming() {
        let (client, server) = (client?, TcpStream::connect(address)?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        // What is sent at once has to wait for the connection first.
        let connected = Instant::now() + round_trip;
        pass_on(client.try_clone()?, server.try_clone()?, round_trip / 2, connected);
        pass_on(server, client, round_trip / 2, connected);
    }
    Ok(())
}

/// Passes pieces on, each so much later than it came.
fn pass_on(mut from: TcpStream, mut to: TcpStream, delay: Duration, connected: Instant) {
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut piece = vec![0; 256 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            let arrives = Instant::now().max(connected) + delay;
            if sender.send((arrives, piece[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (arrives, piece) in pieces {
            std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        // The other side may have gone already.
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// The paths of the cache in a directory.
fn paths(directory: &str, count: usize) -> Result<Vec<StorePath>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "narinfo") && paths.len() < count {
            let text = std::fs::read_to_string(&path)?;
            let first = text.lines().find_map(|line| line.strip_prefix("StorePath: "));
            paths.push(first.ok_or("a narinfo without a path")?.parse()?);
        }
    }
    Ok(paths)
}

fn remote(url: &str, key: &str) -> Result<Remote> {
    let options = RemoteOptions {
        caches: vec![url.parse()?],
        trusted_keys: [key.parse::<PublicKey>()?].into_iter().collect(),
        ..RemoteOptions::default()
    };
    Ok(Remote::new(options, |event| eprintln!("{event:?}"))?)
}

fn look_up(url: &str, key: &str, directory: &str, count: usize) -> Result<()> {
    let paths = paths(directory, count)?;
    let began = Instant::now();
    let mut found = 0;
    for answer in remote(url, key)?.look_up(&paths) {
        found += usize::from(answer?.is_some());
    }
    println!("{:.3} {found}", began.elapsed().as_secs_f64());
    Ok(())
}

fn fetch(url: &str, key: &str, directory: &str, count: usize, target: Utf8PathBuf) -> Result<()> {
    let paths = paths(directory, count)?;
    std::fs::create_dir(&target)?;
    let began = Instant::now();
    let remote = remote(url, key)?;
    let mut fetching = remote.fetching(move |path, nar| {
        let place = target.join(path.tag.to_string());
        Ok(unpack(&mut NarReader::new(nar, NarLimits::default()), &place)?)
    });
    fetching.announce(&paths);
    for (tag, path) in paths.into_iter().enumerate() {
        fetching.want(tag as u64, path);
    }
    let mut fetched = 0;
    while let Some((_, outcome)) = fetching.next() {
        match outcome {
            Outcome::Fetched { .. } => fetched += 1,
            other => return Err(format!("{other:?}").into()),
        }
    }
    println!("{:.3} {fetched}", began.elapsed().as_secs_f64());
    Ok(())
}
