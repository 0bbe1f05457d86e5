//! A bucket whose store breaks the connection after it has done, or before it does, what it was asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

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
        let server = S3Server::breaking(directory.path(), move |method, path| {
            (method == "PUT").then(|| take(&mut breaking.lock().unwrap(), path)).flatten()
        });
        Self { url: server.url("caches"), breaks, _directory: directory, _server: server }
    }

    fn watched(&self, mut options: nixcache_remote::RemoteOptions) -> Watched {
        options.credentials.aws.keys =
            Some(AwsKeys { access_key_id: "id".into(), secret_access_key: Secret::new("secret"), session_token: None });
        Watched::new(options)
    }
}

fn take(breaks: &mut BTreeMap<&'static str, Break>, path: &str) -> Option<Break> {
    let ending = breaks.keys().copied().find(|ending| path.ends_with(ending))?;
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
