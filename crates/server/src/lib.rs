//! The binary cache server: what `nix copy`, substituters and `cargo nixcache` need of an HTTP binary cache, over a
//! directory or an S3 bucket.
//!
//! What is in the store is also a valid cache of its own (`file://`, `s3://`): `nix-cache-info`, `<hash>.narinfo`,
//! `<hash>.ls` and `nar/`. Beside them lies `nixcache/`, which holds what the server alone needs. A server keeps
//! nothing in memory that another one couldn't find in the store or out by itself, so several can share a bucket.
//!
//! Nothing here prints or reads the environment; the subcommand passes in what is needed. `docs/server.md` describes
//! how to run it, and the endpoints.

mod access;
mod api;
mod bucket;
mod check;
mod collect;
mod connection;
mod directory;
mod download;
mod error;
mod gate;
mod layout;
mod lingering;
mod location;
mod log;
mod metrics;
mod nif;
mod options;
mod outage;
mod retention;
mod routes;
mod server;
mod storage;
mod tls;
mod token;
mod upload;
mod upstream;
mod verify;

pub use collect::{CollectError, CollectReport};
pub use location::{Bucket, Location, LocationError};
pub use log::{Event, RequestLine, Sink};
pub use options::{Limits, Options, Retention, Signing, Upstreams};
pub use server::{ServeError, Server};
pub use storage::StorageError;
pub use tls::{TlsError, TlsFiles};
pub use token::{Owner, Scope, Token, TokenError, TokenFile, TokenName};
pub use upstream::{UpstreamUrl, UpstreamUrlError};
