//! Nix's formats on the wire: NAR archives, narinfo files, signatures, store paths and the cache's own description.
//!
//! Everything that comes from outside is read here, by readers that are bounded in memory and refuse what they do not
//! understand. Nothing here knows of units, of the local store or of the network: bytes go in, checked values come
//! out. The sources are the manual and the code of Nix; `docs/formats.md` has the drawings and the limits.

pub mod cache_info;
pub mod checked;
pub mod hash;
pub mod listing;
pub mod nar;
pub mod narinfo;
pub mod nix32;
pub mod signature;
pub mod store_path;

pub use cache_info::CacheInfo;
pub use checked::CheckedReader;
pub use hash::{HashingReader, HashingWriter, Sha256, Sha256Hasher};
pub use listing::Listing;
pub use nar::{NarLimits, NarReader, NarWriter};
pub use narinfo::{Asked, Compression, ContentAddress, NarInfo, NarUrl};
pub use signature::{KeyName, PublicKey, SecretKey, Signature, TrustedKeys, Unverified, Verified};
pub use store_path::{StoreDirectory, StorePath, StorePathHash, StorePathName};
