//! What a server is started with: where its files are, who may do what, and its limits.

use std::time::Duration;

use camino::Utf8PathBuf;
use nixcache_core::nix::{SecretKey, TrustedKeys};

use crate::location::Location;
use crate::log::Sink;
use crate::tls::TlsFiles;
use crate::upstream::UpstreamUrl;

/// Bounds of everything that comes from outside. The defaults are wide for real use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a NAR's file, as it is uploaded: 8 GiB.
    pub file_bytes: u64,
    /// Bytes of a NAR, decompressed: 16 GiB.
    pub nar_bytes: u64,
    /// Bytes of a listing: 16 MiB.
    pub listing_bytes: usize,
    /// Bytes of a NIF's archive: 256 MiB. It is held in memory while it is looked into, what is in it is not. Each
    /// 32 MiB count as one of `uploads`.
    pub archive_bytes: usize,
    /// Store paths in one bulk look-up: 10,000.
    pub lookup_paths: usize,
    /// Bytes of narinfos in one answer to a bulk look-up: 16 MiB. The rest must be asked for again.
    pub lookup_bytes: usize,
    /// Connections at once, and requests at once: 512. Others wait. (Over HTTP/2 a connection can have 100 requests.)
    pub connections: usize,
    /// NARs that are taken in at once; others wait: 8. Each needs about 20 MiB of memory.
    pub uploads: usize,
    /// NARs that are unpacked for clients at once; others wait: 16. Each takes a thread, and up to 64 MiB of memory; those
    /// that can need more count twice.
    pub unpacks: usize,
    /// How long a client may take to begin TLS and for the headers of a request, or keep a connection open without one:
    /// 30 s.
    pub header_time: Duration,
    /// How long a body may stand still, in either direction: 60 s.
    pub idle_time: Duration,
    /// Bytes a second that a body which comes in must have on the whole, after `idle_time`: 4 KiB. A line of 256 kbit/s
    /// gives that to eight NARs at once.
    pub body_rate: u64,
    /// How long an upload waits for its turn: 4 min. Nix gives up after 5.
    pub turn_time: Duration,
    /// How long anything may take that isn't the body of a NAR: 60 s.
    pub request_time: Duration,
    /// How long a cache behind this one may take for a narinfo: 1 s. All together have twice that.
    pub upstream_time: Duration,
    /// How long one that gave no answer is left out: 10 s at first, and as much longer with each failure, up to 1 min.
    pub upstream_pause: Duration,
    /// How long running requests may take to end when the server is told to stop: 60 s.
    pub shutdown_time: Duration,
    /// Bytes of a request's headers: 32 KiB.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 8 << 30,
            nar_bytes: 16 << 30,
            listing_bytes: 16 << 20,
            archive_bytes: 256 << 20,
            lookup_paths: 10_000,
            lookup_bytes: 16 << 20,
            connections: 512,
            uploads: 8,
            unpacks: 16,
            header_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(60),
            body_rate: 4 << 10,
            turn_time: Duration::from_secs(4 * 60),
            request_time: Duration::from_secs(60),
            upstream_time: Duration::from_secs(1),
            upstream_pause: Duration::from_secs(10),
            shutdown_time: Duration::from_secs(60),
            header_bytes: 32 << 10,
        }
    }
}

/// What garbage collection keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The size that NARs may have together, in bytes; above it, what was not used for longest goes.
    pub size: Option<u64>,
    /// What was not used for longer goes.
    pub age: Option<Duration>,
    /// What is younger always stays, for uploads are under way whose last narinfo is not there yet: 1 day.
    pub grace: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { size: None, age: None, grace: Duration::from_secs(24 * 60 * 60) }
    }
}

/// What uploads need in the way of signatures.
#[derive(Default)]
pub struct Signing {
    /// If there are any, only narinfos that one of these has signed are taken.
    pub trusted_keys: TrustedKeys,
    /// Signs every narinfo that is uploaded.
    pub key: Option<SecretKey>,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key.as_ref().map(SecretKey::name);
        f.debug_struct("Signing").field("trusted_keys", &self.trusted_keys).field("key", &key).finish()
    }
}

/// Other caches that are asked for what isn't here.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    /// Where they are. The first that has a path gives it.
    pub urls: Vec<UpstreamUrl>,
    /// Only what one of these has signed is taken from them.
    pub keys: TrustedKeys,
}

/// What a server is started with.
#[derive(Debug)]
pub struct Options {
    /// Where the files are.
    pub location: Location,
    /// The certificate and key for TLS. Without them it is plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Who may upload. Without it, nobody.
    pub tokens: Option<Utf8PathBuf>,
    /// Whether reading needs a token too.
    pub private: bool,
    /// The cache's priority among others; lower ones are asked first. Nix's own cache has 40.
    pub priority: u32,
    /// What uploads need in the way of signatures.
    pub signing: Signing,
    /// Other caches that are asked for what isn't here.
    pub upstreams: Upstreams,
    /// What garbage collection keeps.
    pub retention: Retention,
    /// How often garbage is collected; without it, only when an administrator asks.
    pub collect_every: Option<Duration>,
    /// Bounds of everything that comes from outside.
    pub limits: Limits,
    /// Where the lines about requests and troubles go.
    pub sink: Sink,
}

impl Options {
    /// The options of a public cache at `location` to which nobody may upload.
    pub fn new(location: Location) -> Self {
        Self {
            location,
            tls: None,
            tokens: None,
            private: false,
            priority: 30,
            signing: Signing::default(),
            upstreams: Upstreams::default(),
            retention: Retention::default(),
            collect_every: None,
            limits: Limits::default(),
            sink: Sink::default(),
        }
    }
}
