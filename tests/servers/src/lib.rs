//! Caches that tests talk to on loopback: a server that misbehaves as it is told, an S3 server over a directory, and
//! servers that speak the APIs of Cachix and Attic and refuse what the real ones refuse.
//!
//! The hosted ones are reached under their real names, over TLS, through [`Internet`]: a proxy that plays all servers
//! of the world. So what is tested is what users run, with no setting for tests.

#![allow(clippy::unwrap_used, reason = "this crate is only used by tests")]

mod attic;
mod cachix;
mod hosted;
mod internet;
mod s3;
mod server;

pub use attic::Attic;
pub use cachix::{Cachix, Upload};
pub use internet::Internet;
pub use s3::{Break, S3Server};
pub use server::{Memory, Reply, Request, Server, Then};
