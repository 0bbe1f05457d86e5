//! Publishing when something is in the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nixcache_remote::NewPath;

use crate::server::{Memory, Reply, Then};
use crate::support::{SHORT, Sample, Watched, chain, options, publish_options};

/// The order in which things were written, by their endings.
fn written(server: &crate::server::Server) -> Vec<String> {
    let puts = server.requests().into_iter().filter(|request| request.method == "PUT");
    puts.map(|request| request.target).collect()
}

#[test]
fn a_nar_goes_before_its_narinfo_and_a_reference_before_what_refers_to_it() {
    let memory = Memory::default();
    let server = memory.serve();
    let leaf = Sample::new("leaf", 1 << 20);
    let middle = Sample::new("middle", 10).referring_to(&leaf);
    let top = Sample::new("top", 10).referring_to(&middle).referring_to(&leaf);
    let report = Watched::new(publish_options(&[&server.url()])).publish(&[&leaf, &middle, &top]);
    assert_eq!((report.published, report.failed.len()), (3, 0));
    let written = written(&server);
    let place = |name: &str| written.iter().position(|target| target.contains(name)).unwrap();
    let mut before = place("nix-cache-info");
    for sample in [&leaf, &middle, &top] {
        let narinfo = String::from_utf8(memory.get(&sample.narinfo_name()).unwrap()).unwrap();
        let nar = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap();
        assert!(before < place(nar) && place(nar) < place(&sample.narinfo_name()), "{written:?}");
        before = place(&sample.narinfo_name());
    }
}

#[test]
fn uploads_are_made_as_nix_makes_them() {
    let server = Memory::default().serve();
    Watched::new(publish_options(&[&server.url()])).publish(&[&Sample::new("sample", 1 << 20)]);
    for request in server.requests().iter().filter(|request| request.method == "PUT") {
        let expected = match request.target.rsplit('.').next().unwrap() {
            "narinfo" => "text/x-nix-narinfo",
            "zst" => "application/x-nix-nar",
            _ => "text/x-nix-cache-info",
        };
        assert_eq!(request.headers["content-type"], expected);
        assert_eq!(request.headers["content-length"], request.body.len().to_string());
    }
    assert_eq!(server.count("PUT", ".zst"), 1);
}

#[test]
fn a_cache_that_refuses_is_left_out_and_the_others_go_on() {
    for status in [401, 403] {
        let (refusing, taking) = (Memory::default(), Memory::default());
        let refusing = refusing.serve_with(move |request| (request.method == "PUT").then(|| Reply::status(status)));
        let taking = taking.serve();
        let watched = Watched::new(publish_options(&[&refusing.url(), &taking.url()]));
        let samples: Vec<_> = (0..10).map(|number| Sample::new(&format!("sample-{number}"), 100)).collect();
        let report = watched.publish(&samples.iter().collect::<Vec<_>>());
        assert_eq!((report.published, report.failed.len()), (10, 10));
        assert!(report.failed.iter().all(|(_, cache, _)| *cache == refusing.url()));
        assert_eq!(watched.left_out().len(), 1, "one warning");
    }
}

#[test]
fn a_cache_that_may_only_be_read_is_still_read() {
    let memory = Memory::default();
    let sample = Sample::new("sample", 100);
    sample.put_plain(&memory);
    let server = memory.serve_with(|request| (request.method == "PUT").then(|| Reply::status(403)));
    let mut options = options(&[&server.url()]);
    options.publish = options.caches.clone();
    let watched = Watched::new(options);
    assert_eq!(watched.publish(&[&Sample::new("other", 1)]).failed.len(), 1);
    assert_eq!(watched.left_out().len(), 1);
    crate::support::fetched(watched.fetch_one(&sample.path));
}

#[test]
fn a_dead_or_silent_cache_costs_one_warning() {
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://127.0.0.1:{}", hole.local_addr().unwrap().port());
    for url in ["http://127.0.0.1:1", silent.as_str()] {
        let mut options = publish_options(&[url]);
        options.network.patience = SHORT;
        let watched = Watched::new(options);
        let samples = [Sample::new("a", 1), Sample::new("b", 1)];
        let report = watched.publish(&[&samples[0], &samples[1]]);
        assert_eq!((report.published, report.already_there, report.failed.len()), (0, 0, 2));
        assert_eq!(watched.left_out().len(), 1);
    }
}

#[test]
fn a_cache_that_is_dead_for_reading_is_not_tried_for_writing() {
    let dead = "http://127.0.0.1:1";
    let mut options = options(&[dead]);
    options.publish = options.caches.clone();
    let watched = Watched::new(options);
    watched.fetch_one(&Sample::new("sample", 1).path);
    assert_eq!(watched.publish(&[&Sample::new("other", 1)]).failed.len(), 1);
    assert_eq!(watched.left_out().len(), 1, "not a second time");
}

#[test]
fn passing_failures_of_an_upload_are_tried_again() {
    let memory = Memory::default();
    let (puts, whole) = (AtomicUsize::new(0), memory.clone());
    // Every second upload fails, whatever it is; the others count.
    let server = memory.serve_with(move |request| {
        let fails = request.method == "PUT" && puts.fetch_add(1, Ordering::SeqCst) % 2 == 0;
        Some(if fails { Reply::status(503) } else { whole.answer(request) })
    });
    let watched = Watched::new(publish_options(&[&server.url()]));
    let sample = Sample::new("sample", 300_000);
    let report = watched.publish(&[&sample]);
    assert_eq!((report.published, report.failed.len()), (1, 0));
    let reader = Watched::of(&[&server.url()]);
    assert!(crate::support::fetched(reader.fetch_one(&sample.path)).0 == sample.nar);
}

#[test]
fn what_refers_to_a_failure_is_not_published() {
    let memory = Memory::default();
    let server = memory.serve();
    let broken = Sample::new("broken", 1);
    let top = Sample::new("top", 1).referring_to(&broken);
    let other = Sample::new("other", 1);
    let watched = Watched::new(publish_options(&[&server.url()]));
    let mut publishing = watched.remote.publishing();
    publishing.offer(NewPath {
        path: broken.path.clone(),
        references: BTreeSet::new(),
        by_content: false,
        pack: Box::new(|_| Err(std::io::Error::other("the artifact is gone"))),
    });
    publishing.offer(top.new_path());
    publishing.offer(other.new_path());
    let mut report = publishing.finish();
    assert_eq!(report.published, 1);
    report.failed.sort_by_key(|(path, ..)| path.name().clone());
    let failed: Vec<_> = report.failed.iter().map(|(_, _, error)| chain(error)).collect();
    assert_eq!(failed[0], "pack it: the artifact is gone");
    assert!(failed[1].contains("-broken, which it refers to"), "{failed:?}");
    assert!(memory.get(&top.narinfo_name()).is_none());
    assert!(watched.left_out().is_empty());
}

#[test]
fn a_panic_while_packing_harms_nothing_else() {
    let server = Memory::default().serve();
    let broken = Sample::new("broken", 1);
    let watched = Watched::new(publish_options(&[&server.url()]));
    let mut publishing = watched.remote.publishing();
    let pack = Box::new(|_: &mut dyn std::io::Write| panic!("on purpose"));
    publishing.offer(NewPath { path: broken.path.clone(), references: BTreeSet::new(), by_content: false, pack });
    publishing.offer(Sample::new("other", 1).new_path());
    let report = publishing.finish();
    assert_eq!((report.published, report.failed.len()), (1, 1));
}

#[test]
fn a_path_is_packed_once_and_only_if_it_is_missing() {
    let (first, second) = (Memory::default().serve(), Memory::default().serve());
    let sample = Sample::new("sample", 1000);
    let packed = Arc::new(AtomicUsize::new(0));
    let publish = || {
        let watched = Watched::new(publish_options(&[&first.url(), &second.url()]));
        let mut publishing = watched.remote.publishing();
        for _ in 0..3 {
            let (packed, nar) = (Arc::clone(&packed), sample.nar.clone());
            let pack = Box::new(move |destination: &mut dyn std::io::Write| {
                packed.fetch_add(1, Ordering::SeqCst);
                destination.write_all(&nar)
            });
            publishing.offer(NewPath {
                path: sample.path.clone(),
                references: BTreeSet::new(),
                by_content: false,
                pack,
            });
        }
        publishing.finish()
    };
    let report = publish();
    assert_eq!((report.published, report.already_there), (1, 0));
    assert_eq!(packed.load(Ordering::SeqCst), 1);
    let narinfo = |server: &crate::server::Server| {
        server.requests().into_iter().find(|request| request.is("PUT", &format!("/{}", sample.narinfo_name()))).unwrap()
    };
    let sizes = |server| String::from_utf8(narinfo(server).body).unwrap();
    assert_eq!(sizes(&first), sizes(&second));
    let report = publish();
    assert_eq!((report.published, report.already_there, report.bytes), (0, 1, 0));
    assert_eq!(packed.load(Ordering::SeqCst), 1);
}

#[test]
fn a_server_that_answers_in_bulk_is_not_asked_for_each() {
    let samples: Vec<_> = (0..50).map(|number| Sample::new(&format!("sample-{number}"), 100)).collect();
    let memory = Memory::default();
    let answers = memory.clone();
    // The first question waits until all are offered, so that the others are asked for together.
    let (all_offered, offered) = std::sync::mpsc::channel::<()>();
    let offered = std::sync::Mutex::new(offered);
    let server = memory.serve_with(move |request| {
        if request.method == "HEAD" {
            // Goes through at once when the other end has gone.
            let _ = offered.lock().unwrap().recv();
        }
        Some(match request.is("POST", "/api/v1/missing") {
            true => {
                let asked = String::from_utf8(request.body.clone()).unwrap();
                let missing = asked.replace("\"hashes\"", "\"missing\"").replacen('{', "{\"version\":1,", 1);
                Reply::with(200, &[], missing.as_bytes())
            }
            false => answers.answer(request),
        })
    });
    let watched = Watched::new(publish_options(&[&server.url()]));
    let mut publishing = watched.remote.publishing();
    samples.iter().for_each(|sample| publishing.offer(sample.new_path()));
    drop(all_offered);
    let report = publishing.finish();
    assert_eq!((report.published, report.failed.len()), (50, 0));
    let bulk = server.requests().iter().filter(|request| request.is("POST", "/api/v1/missing")).count();
    assert!((1..=13).contains(&bulk), "four paths or more in each question: {bulk}");
}

#[test]
fn a_server_that_does_not_answer_in_bulk_is_asked_for_each() {
    for reply in [Reply::status(404), Reply::status(405), Reply::with(200, &[], b"<html>hello</html>")] {
        let memory = Memory::default();
        let server = memory.serve_with(move |request| (request.method == "POST").then(|| reply.clone()));
        let samples: Vec<_> = (0..10).map(|number| Sample::new(&format!("sample-{number}"), 100)).collect();
        let watched = Watched::new(publish_options(&[&server.url()]));
        let report = watched.publish(&samples.iter().collect::<Vec<_>>());
        assert_eq!((report.published, report.failed.len()), (10, 0));
        assert!(server.count("POST", "/api/v1/missing") <= 1, "it isn't asked like this again");
    }
}

#[test]
fn a_cache_that_takes_nothing_is_not_waited_for_when_the_build_has_ended() {
    let memory = Memory::default();
    // It answers every question, and hangs on whatever is sent to it.
    let server = memory.serve_with(|request| (request.method == "PUT").then(|| Reply::raw("", Then::Hang)));
    let mut options = publish_options(&[&server.url()]);
    // Uploads may take minutes, as far as everything else goes.
    options.network.patience = Duration::from_secs(3);
    let watched = Watched::new(options);
    let samples: Vec<_> = (0..10).map(|number| Sample::new(&format!("sample-{number}"), 1000)).collect();
    let mut publishing = watched.remote.publishing();
    samples.iter().for_each(|sample| publishing.offer(sample.new_path()));
    publishing.build_ended();
    let report = publishing.finish();
    assert_eq!((report.published, report.failed.len()), (0, 10));
    assert_eq!(watched.left_out().len(), 1);
}

#[test]
fn a_cache_that_has_taken_something_is_waited_for() {
    let memory = Memory::default();
    let slow = Duration::from_secs(6);
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let server = memory.serve_with(move |request| {
        if request.method == "PUT" && request.target.ends_with(".narinfo") && counted.fetch_add(1, Ordering::SeqCst) > 0
        {
            std::thread::sleep(slow);
        }
        None
    });
    let mut options = publish_options(&[&server.url()]);
    options.network.patience = slow / 2;
    let watched = Watched::new(options);
    let (first, second) = (Sample::new("first", 1000), Sample::new("second", 1000));
    // The second one is sent when the first was taken.
    let mut publishing = watched.remote.publishing();
    publishing.offer(first.new_path());
    publishing.offer(second.referring_to(&first).new_path());
    while taken.load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    publishing.build_ended();
    let report = publishing.finish();
    assert_eq!((report.published, report.failed.len()), (2, 0), "{:?}", watched.events());
}

#[test]
fn a_cache_that_answers_slowly_is_alive() {
    let memory = Memory::default();
    // One question after the other, and all of them together take longer than anyone has patience.
    let one = std::sync::Mutex::new(());
    let server = memory.serve_with(move |request| {
        if request.method == "HEAD" {
            let _alone = one.lock().unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
        None
    });
    let mut options = publish_options(&[&server.url()]);
    options.network.patience = Duration::from_secs(4);
    options.network.narinfos_at_once = 3;
    let watched = Watched::new(options);
    let samples: Vec<_> = (0..20).map(|number| Sample::new(&format!("sample-{number}"), 10)).collect();
    let report = watched.publish(&samples.iter().collect::<Vec<_>>());
    assert_eq!((report.published, report.failed.len()), (20, 0), "{:?}", watched.events());
}

#[test]
fn a_cache_is_the_same_one_under_another_priority_and_login() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let read = [format!("http://127.0.0.1:{port}?priority=10"), format!("http://127.0.0.1:{port}")];
    let mut options = options(&[&read[0], &read[1]]);
    let written = [format!("http://user:sesame@127.0.0.1:{port}"), format!("http://127.0.0.1:{port}?priority=9")];
    options.publish = written.iter().map(|url| url.parse().unwrap()).collect();
    let watched = Watched::new(options);
    watched.fetch_one(&Sample::new("sample", 1).path);
    // Dead to read, it isn't tried to write, and there is one of it.
    assert_eq!(watched.publish(&[&Sample::new("other", 1)]).failed.len(), 1);
    assert_eq!(watched.events().len(), 1, "{:?}", watched.events());
}
