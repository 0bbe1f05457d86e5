//! Binary caches for cargo nixcache: directories, servers and buckets, read and written side by side.
//!
//! Store paths come in and go out as NARs; what is in them nobody here knows. The crate is the asynchronous edge: it
//! has the only runtime, behind a [`Remote`] whose methods block. It prints nothing and reads no environment: what it
//! is to know is in [`RemoteOptions`], and what happens is told as [`RemoteEvent`]s.
//!
//! ```text
//! Remote ─► Fetching ─► set ─┐
//!      └──► Publishing ──────┴─► Guard (breaker) ─► Cache: layout ─► directory │ http │ s3
//!                                                       cachix │ attic
//! ```
//!
//! A cache is never trusted: `docs/caches.md` says what is checked, and what each error means.

mod allowance;
mod breaker;
mod cache;
mod cache_url;
mod credentials;
mod error;
mod event;
mod fetch;
mod introduction;
mod netrc;
mod network;
mod publish;
mod remote;
mod secret;
mod set;
mod turns;

pub use allowance::Allowance;
pub use cache::{Cache, ManyNarInfos, NarPieces, PackedPath, Stored, StoredFile, WritableCache};
pub use cache_url::{CacheUrl, CacheUrlError};
pub use credentials::{AwsCredentials, AwsKeys, Credentials};
pub use error::{BucketError, CacheError};
pub use event::RemoteEvent;
pub use fetch::{FetchError, FetchedPath, Fetching, Outcome, TransferError};
pub use introduction::{Introduction, IntroductionError, introduce};
pub use netrc::Netrc;
pub use network::{NetworkOptions, Proxies, certificate_file};
pub use publish::{NewPath, PublishError, PublishReport, Publishing, WriteNar};
pub use remote::{Found, Pinned, Remote, RemoteError, RemoteOptions};
pub use secret::Secret;
