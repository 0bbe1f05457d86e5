//! Caches from outside: one suite for all kinds of cache, and servers that fail in every way.
//!
//! All servers are on loopback. Where a test needs time to run out, the time is short and nothing else can happen;
//! where it must not, the time is long.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod announced;
mod attic;
mod cachix;
mod conformance;
mod content;
mod faults;
mod proxy;
mod publishing;
mod s3_faults;
mod support;
mod tls;
mod trust;

use nixcache_test_servers as server;
