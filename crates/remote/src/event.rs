//! What happens on the way, for whoever draws it. The library itself prints nothing.

use std::sync::Arc;

use nixcache_core::nix::narinfo::NarInfoError;
use nixcache_core::nix::{Compression, StorePath, Unverified};

use crate::error::CacheError;
use crate::fetch::TransferError;

/// Something that the user may want to know. Caches are given as their URLs are shown: without anything secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RemoteEvent {
    /// A cache is left out for the rest of the build. Once for each cache.
    CacheLeftOut {
        /// The cache.
        cache: String,
        /// Why.
        error: Arc<CacheError>,
    },
    /// Fetching took longer than it was worth, and was ended: what hasn't come is built. Once at the most.
    FetchingEnded {
        /// How long it took.
        after: std::time::Duration,
    },
    /// A narinfo is not believed, and the cache's answer taken as a miss. Loud if [`Unverified::is_tampering`].
    NotTrusted {
        /// The cache.
        cache: String,
        /// The path asked for.
        path: StorePath,
        /// Why.
        error: Unverified,
    },
    /// What a cache gave as a narinfo is none, or one for another path. Loud.
    BadNarInfo {
        /// The cache.
        cache: String,
        /// The path asked for.
        path: StorePath,
        /// Why.
        error: NarInfoError,
    },
    /// A NAR could not be had from this cache, or is not what was signed. Loud if [`TransferError::is_tampering`].
    BadNar {
        /// The cache.
        cache: String,
        /// The path asked for.
        path: StorePath,
        /// Why.
        error: Arc<TransferError>,
    },
    /// A NAR is as it was signed, but not what it should be: it could not be unpacked. The next cache is asked.
    NotUnpacked {
        /// The cache.
        cache: String,
        /// The path asked for.
        path: StorePath,
        /// Why.
        error: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A path is there, but compressed in a way that is not read here. Taken as a miss.
    UnsupportedCompression {
        /// The cache.
        cache: String,
        /// The path asked for.
        path: StorePath,
        /// How it is compressed.
        compression: Compression,
    },
}

/// Who is told.
pub(crate) type Listener = Arc<dyn Fn(RemoteEvent) + Send + Sync>;
