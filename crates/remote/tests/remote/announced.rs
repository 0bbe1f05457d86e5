//! Paths that are announced: asked for together where the server can, one by one where it can't, and believed neither
//! way without a signature.

use nixcache_core::nix::StorePath;
use nixcache_remote::Outcome;
use serde_json::{Value, json};

use crate::server::{Memory, Reply, Request, Server, Then};
use crate::support::{SHORT, Sample, Watched, failed, fetched, options};

const QUESTION: &str = "/api/v1/narinfos";

/// Samples in a cache.
fn cache(count: usize) -> (Memory, Vec<Sample>) {
    let memory = Memory::default();
    let samples: Vec<_> = (0..count).map(|number| Sample::new(&format!("sample-{number}"), 50)).collect();
    samples.iter().for_each(|sample| drop(sample.put_plain(&memory)));
    (memory, samples)
}

/// What a server that knows the question says, as our own does.
fn answer(memory: &Memory, request: &Request, most: usize) -> Value {
    let question: Value = serde_json::from_slice(&request.body).unwrap();
    let (mut narinfos, mut missing, mut left) = (serde_json::Map::new(), Vec::new(), Vec::new());
    for hash in question["hashes"].as_array().unwrap() {
        let hash = hash.as_str().unwrap();
        match memory.get(&format!("{hash}.narinfo")) {
            None => missing.push(hash),
            Some(_) if narinfos.len() == most => left.push(hash),
            Some(text) => drop(narinfos.insert(hash.to_owned(), json!(String::from_utf8(text).unwrap()))),
        }
    }
    json!({ "version": 1, "narinfos": narinfos, "missing": missing, "left": left })
}

/// A server that answers the question in this way.
fn serve(memory: &Memory, reply: impl Fn(&Memory, &Request) -> Reply + Send + Sync + 'static) -> Server {
    let own = memory.clone();
    memory.serve_with(move |request| request.is("POST", QUESTION).then(|| reply(&own, request)))
}

fn honest(most: usize) -> impl Fn(&Memory, &Request) -> Reply {
    move |memory, request| Reply::with(200, &[], answer(memory, request, most).to_string().as_bytes())
}

fn paths(samples: &[Sample]) -> Vec<StorePath> {
    samples.iter().map(|sample| sample.path.clone()).collect()
}

#[track_caller]
fn assert_all_come(server: &Server, samples: &[Sample]) -> Watched {
    let watched = Watched::of(&[&server.url()]);
    for (sample, outcome) in samples.iter().zip(watched.fetch_announced(&paths(samples))) {
        assert!(fetched(outcome).0 == sample.nar, "{}", sample.path);
    }
    watched
}

#[test]
fn a_server_that_knows_the_question_is_asked_once() {
    let (memory, samples) = cache(100);
    let server = serve(&memory, honest(usize::MAX));
    let watched = assert_all_come(&server, &samples);
    assert_eq!((server.count("POST", QUESTION), server.count("GET", ".narinfo")), (1, 0));
    // What was answered counts once: later it may be there.
    let late = Sample::new("late", 1);
    let four: Vec<_> = samples[..3].iter().chain([&late]).cloned().collect();
    assert!(matches!(watched.fetch_announced(&paths(&four))[3], Outcome::Missing));
    late.put_plain(&memory);
    assert!(fetched(watched.fetch_one(&late.path)).0 == late.nar);
}

#[test]
fn many_paths_are_asked_for_in_several_questions() {
    let (memory, samples) = cache(600);
    let server = serve(&memory, honest(usize::MAX));
    assert_all_come(&server, &samples);
    assert_eq!((server.count("POST", QUESTION), server.count("GET", ".narinfo")), (3, 0));
}

#[test]
fn what_is_left_of_an_answer_is_asked_for_again() {
    let (memory, samples) = cache(10);
    let server = serve(&memory, honest(4));
    assert_all_come(&server, &samples);
    assert_eq!((server.count("POST", QUESTION), server.count("GET", ".narinfo")), (3, 0));
    // Not for ever.
    let server = serve(&memory, honest(0));
    assert_all_come(&server, &samples);
    assert_eq!((server.count("POST", QUESTION), server.count("GET", ".narinfo")), (1, 10));
}

#[test]
fn answers_to_one_question_are_bounded_together() {
    let (memory, samples) = cache(60);
    // One path an answer: it is asked again, but not sixty times.
    let server = serve(&memory, honest(1));
    assert_all_come(&server, &samples);
    let asked = server.count("POST", QUESTION);
    assert!((2..=20).contains(&asked), "{asked}");
    // Much in each of them: less often.
    let server = serve(&memory, |memory, request| {
        let mut answer = answer(memory, request, 1);
        answer["more"] = Value::from("x".repeat(7 << 20));
        Reply::with(200, &[], answer.to_string().as_bytes())
    });
    assert_all_come(&server, &samples);
    assert_eq!(server.count("POST", QUESTION), 4);
}

#[test]
fn few_paths_and_those_that_nobody_wants_are_no_question() {
    let (memory, samples) = cache(3);
    let server = serve(&memory, honest(usize::MAX));
    assert_all_come(&server, &samples);
    assert_eq!((server.count("POST", QUESTION), server.count("GET", ".narinfo")), (0, 3));
    let watched = Watched::of(&[&server.url()]);
    watched.remote.fetching(|_, _| Ok(())).announce(&paths(&cache(10).1));
    assert_eq!(server.count("POST", QUESTION), 0);
}

#[test]
fn a_server_without_an_answer_is_asked_for_each_path() {
    let (memory, samples) = cache(10);
    type Answer = fn(&Memory, &Request) -> Reply;
    let answers: [(&str, Answer); 11] = [
        ("it is not there", |_, _| Reply::status(404)),
        ("not allowed", |_, _| Reply::status(405)),
        ("a credential", |_, _| Reply::status(401)),
        ("forbidden", |_, _| Reply::status(403)),
        ("not implemented", |_, _| Reply::status(501)),
        ("a page", |_, _| Reply::with(200, &[], b"<html>")),
        ("nothing", |_, _| Reply::with(200, &[], b"")),
        ("another version", |_, _| Reply::with(200, &[], br#"{"version":2,"narinfos":{},"missing":[],"left":[]}"#)),
        ("nothing of what was asked", |_, _| {
            Reply::with(200, &[], br#"{"version":1,"narinfos":{"x":"y"},"missing":["z"],"left":[]}"#)
        }),
        ("too much", |_, _| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", Then::Close)),
        ("half of it", |memory, request| {
            let whole = honest(usize::MAX)(memory, request);
            let half = whole.bytes.len() / 2;
            whole.cut(half)
        }),
    ];
    for (what, reply) in answers {
        let server = serve(&memory, reply);
        let watched = assert_all_come(&server, &samples);
        assert_eq!((server.count("POST", QUESTION), server.count("GET", ".narinfo")), (1, 10), "{what}");
        // And isn't asked like this again.
        watched.fetch_announced(&paths(&samples));
        assert_eq!(server.count("POST", QUESTION), 1, "{what}");
        assert!(watched.events().is_empty(), "{what}: {:?}", watched.events());
    }
}

#[test]
fn an_answer_without_end_is_given_up() {
    let (memory, samples) = cache(10);
    let server = serve(&memory, |_, _| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        bytes.resize(25 << 20, b' ');
        Reply::raw(bytes, Then::Close)
    });
    assert_all_come(&server, &samples);
    assert_eq!(server.count("GET", ".narinfo"), 10);
}

#[test]
fn nothing_is_believed_because_it_came_with_others() {
    let (memory, samples) = cache(6);
    let server = serve(&memory, |memory, request| {
        let mut answer = answer(memory, request, usize::MAX);
        let narinfos = answer["narinfos"].as_object_mut().unwrap();
        let names: Vec<String> = narinfos.keys().cloned().collect();
        // The narinfo of another path, one that was changed, and one that is none.
        narinfos[&names[0]] = narinfos[&names[1]].clone();
        let changed = narinfos[&names[2]].as_str().unwrap().replace("NarSize: ", "NarSize: 1");
        narinfos[&names[2]] = json!(changed);
        narinfos[&names[3]] = json!("StorePath: nonsense");
        Reply::with(200, &[], answer.to_string().as_bytes())
    });
    let watched = Watched::of(&[&server.url()]);
    let outcomes = watched.fetch_announced(&paths(&samples));
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count(), 3);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Fetched { .. })).count(), 3);
    assert_eq!(watched.events().len(), 3, "{:?}", watched.events());
}

#[test]
fn a_server_that_is_silent_is_left_out_once() {
    let (memory, samples) = cache(10);
    let server = serve(&memory, |_, _| Reply::raw(b"", Then::Hang));
    let mut options = options(&[&server.url()]);
    options.network.patience = SHORT;
    let watched = Watched::new(options);
    assert!(watched.fetch_announced(&paths(&samples)).into_iter().map(failed).all(|error| error.contains("left out")));
    assert_eq!(watched.left_out().len(), 1);
    assert_eq!(server.count("GET", ".narinfo"), 0);
}
