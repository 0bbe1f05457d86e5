//! NIFs: libraries that Erlang's virtual machine loads, built from Rust with rustler, and handed around as files.
//!
//! ```text
//! member ─► cargo ─► library ─► inspected ─► output   /nix/store/…  priv/native/<crate>.so, by content
//!                                       └──► archive  <crate>-v…-nif-….so.tar.gz, as RustlerPrecompiled wants it
//!                                       └──► record   what was published under a name: signed, never changed
//!                              nixcache.lock ◄── records ─► libraries are fetched by it, without Rust and without Nix
//! ```
//!
//! Everything here is pure: bytes and texts in, bytes and texts out. The formats are drawn in `docs/formats.md`.

mod archive;
mod checksums;
mod inspect;
mod lock;
mod members;
mod name;
mod output;
mod source;
mod symbols;

pub use archive::{ArchiveError, check_archive, read_archive, write_archive};
pub use checksums::{ModuleName, ModuleNameError, checksum_file};
pub use inspect::{InspectError, Inspection, Limits, inspect};
pub use lock::{LOCK_FILE, LOCK_HEAD, LockError, LockedFile, LockedNif, LockedPath, NixcacheLock};
pub use members::{MemberError, NifFeatures, NifMember, find_members};
pub use name::{
    NativeFiles, NifCrate, NifName, NifNameError, NifNamespace, NifPlatform, NifRelease, NifTarget, NifVariant,
    NifVersion,
};
pub use output::{
    ContentPath, LIBRARY_LIMIT, NifManifest, NifRecord, OutputError, RecordedArchive, RecordedPath, library_of_output,
    pack_archive, pack_output, pack_record, read_file_nar, read_record,
};
pub use source::{SourceError, source_digest, source_directories};
