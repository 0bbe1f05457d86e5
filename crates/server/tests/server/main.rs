//! The server on loopback, asked over plain sockets, so that also what no client library would send can be sent.

#![expect(clippy::unwrap_used, reason = "these files hold tests alone")]

mod access;
mod buckets;
mod client;
mod downloads;
mod fixture;
mod garbage;
mod hostile;
mod lookups;
mod nifs;
mod tls;
mod uploads;
mod upstreams;
