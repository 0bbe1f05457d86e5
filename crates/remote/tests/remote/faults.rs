//! Servers and networks that fail: what it costs, what is told, and that the next cache is asked.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nixcache_core::nix::StorePath;
use nixcache_remote::{FetchError, Outcome, RemoteEvent, RemoteOptions};

use crate::server::{Memory, Reply, Request, Server, Then};
use crate::support::{SHORT, Sample, Watched, failed, fetched, options};

/// A cache with one path, uncompressed.
fn cache() -> (Memory, Sample) {
    let (memory, sample) = (Memory::default(), Sample::new("sample", 100_000));
    sample.put_plain(&memory);
    (memory, sample)
}

/// Options under which a silent cache is given up soon.
fn impatient(caches: &[&str]) -> RemoteOptions {
    let mut options = options(caches);
    options.network.patience = SHORT;
    options
}

/// Samples that no cache has, to ask for many things at once.
fn many() -> Vec<StorePath> {
    (0..30).map(|number| Sample::with(&format!("sample-{number}"), b"").path).collect()
}

/// None of these was asked for. (Requests for others can still be on their way when a cache is left out.)
#[track_caller]
fn assert_not_asked(server: &Server, paths: &[StorePath]) {
    for path in paths {
        assert_eq!(server.count("GET", &format!("{}.narinfo", path.hash())), 0, "{path}");
    }
}

/// Answers requests for narinfos with these, one after the other, then as usual.
fn narinfo_answers(memory: &Memory, answers: Vec<Reply>) -> Server {
    let next = AtomicUsize::new(0);
    memory.serve_with(move |request| {
        let asked = request.target.ends_with(".narinfo");
        asked.then(|| answers.get(next.fetch_add(1, Ordering::SeqCst)).cloned()).flatten()
    })
}

#[test]
fn what_a_server_does_not_have_is_a_miss() {
    for status in [404, 410, 403] {
        let (memory, sample) = cache();
        let server = narinfo_answers(&memory, vec![Reply::status(status)]);
        let watched = Watched::of(&[&server.url()]);
        assert!(matches!(watched.fetch_one(&sample.path), Outcome::Missing), "{status}");
        assert!(watched.events().is_empty(), "{status}: {:?}", watched.events());
        // A miss is not remembered.
        assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);
    }
}

#[test]
fn a_server_that_wants_a_credential_is_left_out() {
    for (status, target) in [(401, ".narinfo"), (403, "/nix-cache-info"), (401, "/nix-cache-info")] {
        let (memory, sample) = cache();
        let server = memory.serve_with(move |request| request.target.ends_with(target).then(|| Reply::status(status)));
        let watched = Watched::of(&[&server.url()]);
        assert!(failed(watched.fetch_one(&sample.path)).contains("left out"));
        let told = watched.left_out();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(&format!("({status})")), "{told:?}");
        watched.fetch(&many());
        assert_not_asked(&server, &many());
    }
}

#[test]
fn passing_failures_are_tried_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (memory, sample) = cache();
        let server = narinfo_answers(&memory, vec![Reply::status(status), Reply::status(status)]);
        let watched = Watched::of(&[&server.url()]);
        assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar, "{status}");
        assert!(watched.events().is_empty());
    }
}

#[test]
fn failures_that_stay_are_not() {
    for status in [400, 501, 505, 511, 418] {
        let (memory, sample) = cache();
        let server = narinfo_answers(&memory, vec![Reply::status(status)]);
        let watched = Watched::of(&[&server.url()]);
        let error = failed(watched.fetch_one(&sample.path));
        assert!(error.contains(&format!("status {status}")), "{error}");
        assert_eq!(server.count("GET", ".narinfo"), 1);
    }
}

#[test]
fn a_server_that_only_fails_is_left_out() {
    let server = Server::new(|_| Reply::status(500));
    let watched = Watched::of(&[&server.url()]);
    watched.fetch(&many());
    assert_eq!(watched.left_out().len(), 1);
    let late = Sample::new("late", 1);
    assert!(failed(watched.fetch_one(&late.path)).contains("left out"));
    assert_not_asked(&server, &[late.path]);
}

#[test]
fn retry_after_is_honoured_up_to_a_limit() {
    let (memory, sample) = cache();
    let server = narinfo_answers(&memory, vec![Reply::with(429, &[("Retry-After", "0")], b"")]);
    assert!(fetched(Watched::of(&[&server.url()]).fetch_one(&sample.path)).0 == sample.nar);

    for asked in ["3600", "Wed, 21 Oct 2065 07:28:00 GMT"] {
        let server = narinfo_answers(&memory, vec![Reply::with(503, &[("Retry-After", asked)], b"")]);
        let watched = Watched::of(&[&server.url()]);
        assert!(failed(watched.fetch_one(&sample.path)).contains("left out"));
        assert_eq!(watched.left_out().len(), 1);
        assert_eq!(server.count("GET", ".narinfo"), 1);
    }
}

#[test]
fn a_dead_port_is_left_out_and_the_next_cache_asked() {
    let (memory, sample) = cache();
    let server = memory.serve();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let watched = Watched::of(&[&format!("http://127.0.0.1:{port}"), &server.url()]);
    assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);
    watched.fetch(&many());
    assert_eq!(watched.left_out().len(), 1, "one warning");
}

#[test]
fn what_a_cache_that_is_left_out_has_is_not_known() {
    let (memory, sample) = cache();
    let server = memory.serve();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = format!("http://127.0.0.1:{port}");
    let nowhere = Sample::new("nowhere", 1);
    let watched = Watched::of(&[&dead, &server.url()]);
    // The first time it fails, and then it isn't asked: the answer is the same.
    for _ in 0..2 {
        let [here, there] = watched.fetch(&[sample.path.clone(), nowhere.path.clone()]).try_into().unwrap();
        assert!(fetched(here).0 == sample.nar);
        let Outcome::Failed(FetchError::NotAsked { caches }) = there else { panic!("{there:?}") };
        assert_eq!(caches, [dead.as_str()]);
        let [here, there] = watched.remote.look_up(&[sample.path.clone(), nowhere.path.clone()]).try_into().unwrap();
        assert!(here.unwrap().is_some_and(|found| found.cache == server.url()));
        assert!(matches!(there, Err(FetchError::NotAsked { .. })), "{there:?}");
    }
    let watched = Watched::of(&[&server.url()]);
    assert!(watched.remote.look_up(&[nowhere.path]).remove(0).unwrap().is_none());
}

#[test]
fn a_black_hole_is_left_out_and_the_next_cache_asked() {
    let (memory, sample) = cache();
    let server = memory.serve();
    // Takes connections, as far as the kernel does it alone, and never says a word.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let hole_url = format!("http://127.0.0.1:{}", hole.local_addr().unwrap().port());
    let mut options = options(&[&hole_url, &server.url()]);
    // Short for a test, and long enough for the good cache on a machine that is busy.
    options.network.patience = Duration::from_secs(4);
    let watched = Watched::new(options);
    let mut paths = many();
    paths.push(sample.path.clone());
    let outcome = watched.fetch(&paths).pop().unwrap();
    assert!(fetched(outcome).0 == sample.nar);
    let events = watched.events();
    assert!(matches!(&events[..], [RemoteEvent::CacheLeftOut { cache, .. }] if *cache == hole_url), "{events:?}");
}

#[test]
fn a_server_that_trickles_is_left_out() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    for (suffix, bytes) in [(".narinfo", "HTTP/1.1 200"), (".narinfo", head), (".nar", head)] {
        let (memory, sample) = cache();
        let server = memory.serve_with(move |request| request.is_get(suffix).then(|| Reply::raw(bytes, Then::Trickle)));
        let watched = Watched::new(impatient(&[&server.url()]));
        assert!(!matches!(watched.fetch_one(&sample.path), Outcome::Fetched { .. }));
        assert_eq!(watched.left_out().len(), 1, "{suffix} {bytes}");
    }
}

#[test]
fn a_server_that_stops_in_the_middle_is_left_out() {
    let (memory, sample) = cache();
    let stops = memory.clone();
    let server = memory.serve_with(move |request| {
        request.is_get(".nar").then(|| {
            let reply = stops.answer(request);
            Reply::raw(&reply.bytes[..50_000], Then::Hang)
        })
    });
    let watched = Watched::new(impatient(&[&server.url()]));
    assert!(!matches!(watched.fetch_one(&sample.path), Outcome::Fetched { .. }));
    assert_eq!(watched.left_out().len(), 1);
}

#[test]
fn one_request_that_hangs_is_given_up_alone() {
    let (memory, sample) = cache();
    let stuck = Sample::new("stuck", 10);
    let name = format!("/{}", stuck.narinfo_name());
    let server = memory.serve_with(move |request| (request.target == name).then(|| Reply::raw("", Then::Hang)));
    let mut options = options(&[&server.url()]);
    options.network.request_limit = Duration::from_secs(4);
    let watched = Watched::new(options);
    let error = failed(watched.fetch_one(&stuck.path));
    assert!(error.contains("wait longer"), "{error}");
    assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);
    assert!(watched.left_out().is_empty());
}

#[test]
fn a_connection_cut_at_any_stage_fails_clearly() {
    for (suffix, at) in
        [(".narinfo", 0), (".narinfo", 20), (".narinfo", 100), (".nar", 0), (".nar", 200), (".nar", 90_000)]
    {
        let (memory, sample) = cache();
        let whole = memory.clone();
        let server = memory.serve_with(move |request| request.is_get(suffix).then(|| whole.answer(request).cut(at)));
        let watched = Watched::of(&[&server.url()]);
        let error = failed(watched.fetch_one(&sample.path));
        assert!(error.contains(if suffix == ".nar" { "read the NAR" } else { "ask http" }), "{suffix} {at}: {error}");
        assert!(watched.left_out().is_empty());
    }
}

#[test]
fn a_cut_narinfo_is_asked_for_again() {
    let (memory, sample) = cache();
    let whole = memory.answer(&request(&format!("/{}", sample.narinfo_name())));
    let server = narinfo_answers(&memory, vec![whole.clone().cut(100), whole.cut(0)]);
    assert!(fetched(Watched::of(&[&server.url()]).fetch_one(&sample.path)).0 == sample.nar);
}

fn request(target: &str) -> Request {
    Request { method: "GET".into(), target: target.into(), headers: Default::default(), body: Vec::new() }
}

/// Cuts the first answer for a NAR after `at` bytes, and changes the second.
fn cut_once(memory: &Memory, at: usize, change: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Server {
    let (whole, asked) = (memory.clone(), AtomicUsize::new(0));
    memory.serve_with(move |request| {
        request.is_get(".nar").then(|| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => whole.answer(request).cut(at),
            _ => change(whole.answer(request)),
        })
    })
}

#[test]
fn a_long_transfer_goes_on_where_it_broke() {
    let (mut memory, sample) = cache();
    memory.ranges = true;
    let server = cut_once(&memory, 60_000, |reply| reply);
    let watched = Watched::of(&[&server.url()]);
    assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);
    let requests: Vec<_> = server.requests().into_iter().filter(|request| request.is_get(".nar")).collect();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].headers["range"].starts_with("bytes=59"), "{:?}", requests[1]);
    assert_eq!(requests[1].headers["if-range"], "\"1\"");
    assert!(watched.events().is_empty());
}

#[test]
fn a_transfer_goes_on_only_in_the_same_file() {
    type Change = fn(Reply) -> Reply;
    let changes: [Change; 3] = [
        |_| Reply::with(206, &[("ETag", "\"2\""), ("Content-Range", "bytes 59000-100000/100001")], b"other"),
        |_| Reply::with(206, &[("ETag", "\"1\""), ("Content-Range", "bytes 0-4/5")], b"other"),
        |_| Reply::with(200, &[("ETag", "\"1\"")], b"other"),
    ];
    for change in changes {
        let (mut memory, sample) = cache();
        memory.ranges = true;
        let server = cut_once(&memory, 60_000, change);
        let error = failed(Watched::of(&[&server.url()]).fetch_one(&sample.path));
        assert!(error.contains("read the NAR"), "{error}");
    }
}

#[test]
fn oversized_answers_are_refused() {
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(3));
    let header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    for answer in [huge, endless, header, headers] {
        let (memory, sample) = cache();
        let server = memory
            .serve_with(move |request| request.is_get(".narinfo").then(|| Reply::raw(answer.as_str(), Then::Close)));
        let error = failed(Watched::of(&[&server.url()]).fetch_one(&sample.path));
        assert!(error.contains("more than") || error.contains("exchange data"), "{error}");
    }
}

#[test]
fn an_encoding_that_was_not_asked_for_is_refused() {
    let (memory, sample) = cache();
    let server = narinfo_answers(&memory, vec![Reply::with(200, &[("Content-Encoding", "br")], b"x")]);
    let error = failed(Watched::of(&[&server.url()]).fetch_one(&sample.path));
    assert!(error.contains("encoding br"), "{error}");
}

#[test]
fn a_corrupt_cache_does_not_hide_a_good_one() {
    let (memory, sample) = cache();
    let good = memory.serve();
    let bad = memory.serve_with(|request| {
        request.is_get(".nar").then(|| Reply::with(200, &[], b"<html>sign in to the network</html>"))
    });
    let watched = Watched::of(&[&bad.url(), &good.url()]);
    let (nar, cache) = fetched(watched.fetch_one(&sample.path));
    assert!(nar == sample.nar);
    assert_eq!(cache, good.url());
    assert!(matches!(&watched.events()[..], [RemoteEvent::BadNar { cache, .. }] if *cache == bad.url()));
}

#[test]
fn the_first_cache_in_order_is_preferred() {
    let (memory, sample) = cache();
    let (first, second) = (memory.serve(), memory.serve());
    let preferred = |caches: &[&str]| fetched(Watched::of(caches).fetch_one(&sample.path)).1;
    assert_eq!(preferred(&[&first.url(), &second.url()]), first.url());
    let near = format!("{}?priority=10", second.url());
    assert_eq!(preferred(&[&first.url(), &near]), near);
}

#[test]
fn what_is_given_up_does_not_hold_anyone() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let watched = Watched::of(&[&format!("http://127.0.0.1:{}", hole.local_addr().unwrap().port())]);
    let mut fetching = watched.remote.fetching(|_, _| Ok(()));
    many().into_iter().enumerate().for_each(|(tag, path)| fetching.want(tag as u64, path));
    assert_eq!(fetching.under_way(), 30);
    // With a patience of minutes, this would not end.
    drop(fetching);
    drop(watched);
}

#[test]
fn giving_up_waits_for_the_readers_alone() {
    let (memory, sample) = cache();
    let whole = memory.clone();
    let server = memory.serve_with(move |request| {
        request.is_get(".nar").then(|| Reply::raw(&whole.answer(request).bytes[..50_000], Then::Hang))
    });
    let watched = Watched::of(&[&server.url()]);
    let (began, begun) = std::sync::mpsc::channel();
    let (ended, end) = std::sync::mpsc::channel();
    let mut fetching = watched.remote.fetching(move |_, nar| {
        began.send(()).unwrap();
        let result = std::io::copy(nar, &mut std::io::sink());
        ended.send(result.is_err()).unwrap();
        Ok(())
    });
    fetching.want(0, sample.path);
    begun.recv().unwrap();
    drop(fetching);
    assert_eq!(end.try_recv(), Ok(true), "the reader has come to its end, with an error");
}

/// A cache of which one NAR comes and all others stop in the middle; nobody is impatient with it.
fn stuck() -> (Server, Vec<StorePath>) {
    let memory = Memory::default();
    let samples: Vec<_> = (0..10).map(|number| Sample::new(&format!("sample-{number}"), 100_000)).collect();
    samples.iter().for_each(|sample| drop(sample.put_plain(&memory)));
    let (whole, asked) = (memory.clone(), AtomicUsize::new(0));
    let server = memory.serve_with(move |request| {
        let later = request.is_get(".nar") && asked.fetch_add(1, Ordering::SeqCst) > 0;
        later.then(|| Reply::raw(&whole.answer(request).bytes[..50_000], Then::Hang))
    });
    (server, samples.into_iter().map(|sample| sample.path).collect())
}

#[cfg(unix)]
#[test]
fn what_is_no_file_in_a_directory_is_not_waited_for() {
    let sample = Sample::new("sample", 1000);
    let narinfo = sample.narinfo(nixcache_core::nix::Compression::None, &sample.nar);
    for (pipe, error) in [(narinfo.url.as_str(), "read the NAR"), (&sample.narinfo_name(), "ask file")] {
        let cache = tempfile::tempdir().unwrap();
        std::fs::create_dir(cache.path().join("nar")).unwrap();
        std::fs::write(cache.path().join(sample.narinfo_name()), narinfo.to_string()).unwrap();
        let pipe = cache.path().join(pipe);
        let _ = std::fs::remove_file(&pipe);
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Somebody has it open to write, and never writes; who reads it would wait for ever.
        let writer = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
        let (path, url) = (sample.path.clone(), format!("file://{}", cache.path().to_str().unwrap()));
        let (said, says) = std::sync::mpsc::channel();
        std::thread::spawn(move || said.send(failed(Watched::of(&[&url]).fetch_one(&path))));
        let said = says.recv_timeout(Duration::from_secs(60)).expect("it comes to an end");
        assert!(said.contains(error) && said.contains("not a regular file"), "{said}");
        drop(writer);
    }
}

#[test]
fn what_is_not_worth_its_time_is_given_up() {
    let (server, paths) = stuck();
    let watched = Watched::of(&[&server.url()]);
    // The base is over while the others hang. Without it, this would take as long as they are patient.
    watched.remote.allow(nixcache_remote::Allowance::new(SHORT, u64::MAX));
    let mut fetching = watched.remote.fetching(|_, nar| Ok(std::io::copy(nar, &mut std::io::sink())?));
    paths.iter().enumerate().for_each(|(tag, path)| fetching.want(tag as u64, path.clone()));
    let outcomes: Vec<_> = std::iter::from_fn(|| fetching.next()).collect();
    assert_eq!(outcomes.len(), paths.len());
    let came = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Fetched { .. })).count();
    assert!(came <= 1, "one comes, if the machine isn't too busy");
    let ended = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(FetchError::Ended))).count();
    assert_eq!(came + ended, paths.len());
    assert_eq!(watched.events().len(), 1, "{:?}", watched.events());
    // That counts for whatever is wanted later, and nobody is asked.
    let late = Sample::new("late", 1).path;
    fetching.want(99, late.clone());
    assert!(matches!(fetching.next(), Some((99, Outcome::Failed(FetchError::Ended)))));
    assert!(fetching.next().is_none());
    drop(fetching);
    let mut again = watched.remote.fetching(|_, _| Ok(()));
    again.want(0, late.clone());
    assert!(matches!(again.next(), Some((0, Outcome::Failed(FetchError::Ended)))));
    assert_not_asked(&server, &[late]);
    assert_eq!(watched.events().len(), 1, "one warning");
}

#[test]
fn a_cache_that_gave_nothing_when_the_time_is_over_is_left_out() {
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("127.0.0.1:{}", hole.local_addr().unwrap().port());
    let http = format!("http://{address}");
    let bucket = format!("s3://bucket?scheme=http&endpoint={address}");
    // Announced or not, and whether or not that makes one question of them.
    for (url, announced) in [(&http, 0), (&http, 3), (&http, 30), (&bucket, 30)] {
        let mut options = options(&[url]);
        options.publish = options.caches.clone();
        let watched = Watched::new(options);
        watched.remote.allow(nixcache_remote::Allowance::new(SHORT, u64::MAX));
        let mut fetching = watched.remote.fetching(|_, _| Ok(()));
        fetching.announce(&many()[..announced]);
        many().into_iter().enumerate().for_each(|(tag, path)| fetching.want(tag as u64, path));
        let outcomes: Vec<_> = std::iter::from_fn(|| fetching.next()).collect();
        assert_eq!(outcomes.len(), many().len());
        drop(fetching);
        // Nobody waits for it a second time, whose patience is without end here.
        assert_eq!(watched.publish(&[&Sample::new("other", 1)]).failed.len(), 1);
        assert_eq!(watched.left_out().len(), 1, "{url} {announced}");
        assert_eq!(watched.events().len(), 1, "one warning: {url} {announced}");
    }
}

#[test]
fn what_nobody_waits_for_any_more_leaves_no_cache_out() {
    let memory = Memory::default();
    // It is alive, and hangs on some questions.
    let server = memory.serve_with(|request| request.is_get(".narinfo").then(|| Reply::raw("", Then::Hang)));
    let mut options = options(&[&server.url()]);
    let patience = Duration::from_secs(3);
    options.network.patience = patience;
    let watched = Watched::new(options);
    watched.remote.allow(nixcache_remote::Allowance::new(SHORT, u64::MAX));
    let mut fetching = watched.remote.fetching(|_, _| Ok(()));
    fetching.want(0, Sample::new("sample", 1).path);
    assert!(matches!(fetching.next(), Some((0, Outcome::Failed(FetchError::Ended)))));
    std::thread::sleep(patience + SHORT);
    let events = watched.events();
    assert!(matches!(&events[..], [RemoteEvent::FetchingEnded { .. }]), "one warning: {events:?}");
}
