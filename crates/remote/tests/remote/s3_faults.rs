//! A bucket whose store breaks the connection after it has done, or before it does, what it was asked for, or never
//! answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nixcache_remote::{AwsKeys, Secret};

use crate::server::{Break, S3Server};
use crate::support::{Sample, Watched, fetched, options, publish_options};

/// What is still to break, by the ending of the name that is written.
type Breaks = Arc<Mutex<BTreeMap<&'static str, Break>>>;

/// A bucket whose store breaks what it is told to, once.
struct Bucket {
    url: String,
    breaks: Breaks,
    _directory: tempfile::TempDir,
    _server: S3Server,
}

impl Bucket {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("caches")).unwrap();
        let breaks = Breaks::default();
        let breaking = Arc::clone(&breaks);
        let server =
            S3Server::breaking(directory.path(), move |method, path| take(&mut breaking.lock().unwrap(), method, path));
        Self { url: server.url("caches"), breaks, _directory: directory, _server: server }
    }

    fn watched(&self, mut options: nixcache_remote::RemoteOptions) -> Watched {
        options.credentials.aws.keys =
            Some(AwsKeys { access_key_id: "id".into(), secret_access_key: Secret::new("secret"), session_token: None });
        Watched::new(options)
    }
}

/// What writes breaks; what reads gets no answer.
fn take(breaks: &mut BTreeMap<&'static str, Break>, method: &str, path: &str) -> Option<Break> {
    let is_due = |when: Break| method == if when == Break::Never { "GET" } else { "PUT" };
    let ending =
        breaks.iter().find(|(ending, when)| path.ends_with(**ending) && is_due(**when)).map(|(ending, _)| *ending)?;
    breaks.remove(ending)
}

#[test]
fn what_breaks_once_is_published_all_the_same() {
    for when in [Break::Before, Break::After] {
        for ending in [".narinfo", ".nar.zst", "nix-cache-info"] {
            let bucket = Bucket::new();
            bucket.breaks.lock().unwrap().insert(ending, when);
            // Small, whole; and in parts.
            for sample in [Sample::new("small", 100), Sample::new("large", 20 << 20)] {
                bucket.watched(publish_options(&[&bucket.url])).publish(&[&sample]);
                let reader = bucket.watched(options(&[&bucket.url]));
                assert!(fetched(reader.fetch_one(&sample.path)).0 == sample.nar, "{ending} {when:?}");
            }
            assert!(bucket.breaks.lock().unwrap().is_empty(), "it did break: {ending} {when:?}");
        }
    }
}

#[test]
fn what_gets_no_answer_is_asked_for_again() {
    for ending in [".narinfo", ".nar.zst", "nix-cache-info"] {
        let bucket = Bucket::new();
        let sample = Sample::new("sample", 20 << 20);
        bucket.watched(publish_options(&[&bucket.url])).publish(&[&sample]);
        bucket.breaks.lock().unwrap().insert(ending, Break::Never);
        let mut options = options(&[&bucket.url]);
        options.network.second_after = Duration::from_millis(20);
        let reader = bucket.watched(options);
        assert!(fetched(reader.fetch_one(&sample.path)).0 == sample.nar, "{ending}");
        assert!(bucket.breaks.lock().unwrap().is_empty(), "it did get no answer: {ending}");
        assert!(reader.events().is_empty(), "{:?}", reader.events());
    }
}

#[test]
fn what_a_store_says_is_shown_once_and_obeyed_by_no_terminal() {
    let body = format!("<Error>\u{1b}[2J\r\nwarning: \u{202e}{}</Error>", "long ".repeat(100_000));
    let server = crate::server::Server::new(move |_| crate::server::Reply::with(500, &[], body.as_bytes()));
    let url = format!("s3://bucket?scheme=http&endpoint=127.0.0.1:{}", server.port);
    let watched = Watched::new(options(&[&url]));
    let said = crate::support::failed(watched.fetch_one(&Sample::new("sample", 1).path));
    assert!(said.contains("<Error>") && said.contains("500"), "{said}");
    assert_eq!(said.matches("<Error>").count(), 1, "{said}");
    assert!(said.len() < 1000 && !said.chars().any(|c| c.is_control() || c == '\u{202e}'), "{said:?}");
}
