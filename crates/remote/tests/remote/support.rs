//! Paths to move, keys to sign with, and a remote that remembers what happened.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nixcache_core::nix::{Compression, NarInfo, NarUrl, NarWriter, SecretKey, Sha256, StorePath};
use nixcache_remote::{CacheUrl, NetworkOptions, NewPath, Outcome, PublishReport, Remote, RemoteEvent, RemoteOptions};

use crate::server::Memory;

/// Long enough to be never reached.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// Short, for what never comes.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) fn key() -> SecretKey {
    SecretKey::generate("test-1".parse().unwrap(), &[7; 32])
}

/// A path with a NAR.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) path: StorePath,
    pub(crate) references: BTreeSet<StorePath>,
    pub(crate) nar: Vec<u8>,
}

impl Sample {
    /// A directory with one file of `size` bytes that don't compress.
    pub(crate) fn new(name: &str, size: usize) -> Self {
        let key = Sha256::of(name.as_bytes());
        let mut state = u64::from_le_bytes(key.as_bytes()[..8].try_into().unwrap()) | 1;
        let contents: Vec<u8> = std::iter::repeat_with(|| {
            // xorshift64: the same bytes in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(size)
        .collect();
        Self::with(name, &contents)
    }

    pub(crate) fn with(name: &str, contents: &[u8]) -> Self {
        let key = Sha256::of(name.as_bytes());
        let path = StorePath::by_key(key.as_bytes(), name.parse().unwrap());
        Self { path, references: BTreeSet::new(), nar: nar(contents) }
    }

    /// A directory with one file, at the path that it makes.
    pub(crate) fn named_by_content(name: &str, contents: &[u8]) -> Self {
        let nar = nar(contents);
        let path = StorePath::by_content(&Sha256::of(&nar), &BTreeSet::new(), false, name.parse().unwrap());
        Self { path, references: BTreeSet::new(), nar }
    }

    pub(crate) fn referring_to(mut self, other: &Sample) -> Self {
        self.references.insert(other.path.clone());
        self
    }

    pub(crate) fn new_path(&self) -> NewPath {
        let nar = self.nar.clone();
        let pack = Box::new(move |destination: &mut dyn Write| destination.write_all(&nar));
        NewPath { path: self.path.clone(), references: self.references.clone(), by_content: false, pack }
    }

    pub(crate) fn narinfo_name(&self) -> String {
        format!("{}.narinfo", self.path.hash())
    }

    /// The narinfo of the NAR, stored as it is or compressed, signed by our key.
    pub(crate) fn narinfo(&self, compression: Compression, file: &[u8]) -> NarInfo {
        let mut narinfo = NarInfo {
            store_path: self.path.clone(),
            url: NarUrl::by_convention(&Sha256::of(file), &compression),
            compression,
            file_hash: Some(Sha256::of(file)),
            file_size: Some(file.len() as u64),
            nar_hash: Sha256::of(&self.nar),
            nar_size: self.nar.len() as u64,
            references: self.references.clone(),
            deriver: None,
            signatures: Vec::new(),
            content_address: None,
        };
        narinfo.sign(&key());
        narinfo
    }

    /// Puts the path into a cache: `file` is what is stored as its NAR.
    pub(crate) fn put(&self, memory: &Memory, compression: Compression, file: &[u8]) -> NarInfo {
        let narinfo = self.narinfo(compression, file);
        memory.put(narinfo.url.as_str(), file);
        memory.put(&self.narinfo_name(), narinfo.to_string());
        narinfo
    }

    /// Puts the path into a cache as it is, uncompressed.
    pub(crate) fn put_plain(&self, memory: &Memory) -> NarInfo {
        self.put(memory, Compression::None, &self.nar)
    }
}

pub(crate) fn nar(contents: &[u8]) -> Vec<u8> {
    let mut writer = NarWriter::new(Vec::new());
    writer.begin_directory().unwrap();
    writer.entry(b"file").unwrap();
    writer.regular_bytes(false, contents).unwrap();
    writer.end_directory().unwrap();
    writer.finish().unwrap()
}

/// A remote, and what it told.
pub(crate) struct Watched {
    pub(crate) remote: Remote,
    events: Arc<Mutex<Vec<RemoteEvent>>>,
}

/// Options for caches that answer: no time runs out, and nothing is waited for.
pub(crate) fn options(caches: &[&str]) -> RemoteOptions {
    RemoteOptions {
        caches: caches.iter().map(|url| url.parse::<CacheUrl>().unwrap()).collect(),
        trusted_keys: [key().public()].into_iter().collect(),
        secret_key: Some(key()),
        network: NetworkOptions {
            patience: LONG,
            request_limit: LONG,
            upload_patience: LONG,
            backoff: Duration::from_millis(1),
            retry_after_limit: Duration::from_secs(2),
            ..NetworkOptions::default()
        },
        ..RemoteOptions::default()
    }
}

pub(crate) fn publish_options(caches: &[&str]) -> RemoteOptions {
    let mut options = options(&[]);
    options.publish = caches.iter().map(|url| url.parse::<CacheUrl>().unwrap()).collect();
    options
}

impl Watched {
    pub(crate) fn new(options: RemoteOptions) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let remote = Remote::new(options, move |event| told.lock().unwrap().push(event)).unwrap();
        Self { remote, events }
    }

    pub(crate) fn of(caches: &[&str]) -> Self {
        Self::new(options(caches))
    }

    pub(crate) fn events(&self) -> Vec<RemoteEvent> {
        self.events.lock().unwrap().clone()
    }

    /// The caches that were left out, with the reason as people read it.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let events = self.events().into_iter();
        let left_out = events.filter_map(|event| match event {
            RemoteEvent::CacheLeftOut { error, .. } => Some(error.to_string()),
            _ => None,
        });
        left_out.collect()
    }

    /// Fetches the NARs of paths; by tag, which is the place in `paths`.
    pub(crate) fn fetch(&self, paths: &[StorePath]) -> Vec<Outcome<Vec<u8>>> {
        self.fetch_as(paths, false)
    }

    /// The same, with all of them announced before.
    pub(crate) fn fetch_announced(&self, paths: &[StorePath]) -> Vec<Outcome<Vec<u8>>> {
        self.fetch_as(paths, true)
    }

    fn fetch_as(&self, paths: &[StorePath], announced: bool) -> Vec<Outcome<Vec<u8>>> {
        let mut fetching = self.remote.fetching(|_, nar| {
            let mut bytes = Vec::new();
            nar.read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        if announced {
            fetching.announce(paths);
        }
        for (tag, path) in paths.iter().enumerate() {
            fetching.want(tag as u64, path.clone());
        }
        let mut outcomes: Vec<_> = std::iter::from_fn(|| fetching.next()).collect();
        assert_eq!(outcomes.len(), paths.len());
        outcomes.sort_by_key(|(tag, _)| *tag);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    pub(crate) fn fetch_one(&self, path: &StorePath) -> Outcome<Vec<u8>> {
        self.fetch(std::slice::from_ref(path)).remove(0)
    }

    pub(crate) fn publish_by_content(&self, sample: &Sample) -> PublishReport {
        let mut publishing = self.remote.publishing();
        publishing.offer(NewPath { by_content: true, ..sample.new_path() });
        publishing.finish()
    }

    pub(crate) fn publish(&self, samples: &[&Sample]) -> PublishReport {
        let mut publishing = self.remote.publishing();
        samples.iter().for_each(|sample| publishing.offer(sample.new_path()));
        publishing.finish()
    }
}

/// The NAR that was fetched, and the cache that it came from.
#[track_caller]
pub(crate) fn fetched(outcome: Outcome<Vec<u8>>) -> (Vec<u8>, String) {
    match outcome {
        Outcome::Fetched { value, cache, .. } => (value, cache),
        Outcome::Missing => panic!("it is missing"),
        Outcome::Failed(error) => panic!("it failed: {}", chain(&error)),
    }
}

/// Why it failed, with all causes.
#[track_caller]
pub(crate) fn failed<T>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Failed(error) => chain(&error),
        Outcome::Missing => panic!("it is missing"),
        Outcome::Fetched { .. } => panic!("it was fetched"),
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
