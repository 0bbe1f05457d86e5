//! NAR: Nix's archive of a file, a symbolic link or a directory. One tree has one archive, so its hash names the tree.
//!
//! Reader and writer work on streams and hold one name for each open directory, whatever the archive holds. They
//! refuse the same things, so what we write can be read everywhere. Only names, contents, link targets and the
//! executable bit are kept: no times, no owners, no other permissions.

mod reader;
mod tree;
mod writer;

pub use reader::{Contents, Event, NarError, NarReader};
pub use tree::{TreeError, unpack, write_path};
pub use writer::{NarWriteError, NarWriter};

/// The first token of an archive.
const MAGIC: &[u8] = b"nix-archive-1";

/// How much is read or written at once.
const BUFFER: usize = 1 << 18;

/// The media type of an archive over HTTP.
pub const MEDIA_TYPE: &str = "application/x-nix-nar";

/// What a reader takes at most. Nix has no bounds of its own for most of this; these are wide for real trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarLimits {
    /// Bytes of the whole archive.
    pub total_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Names in all directories together.
    pub entries: u64,
    /// Directories inside each other, with the outermost.
    pub depth: usize,
    /// Bytes of a name.
    pub name: usize,
    /// Bytes of the target of a symbolic link.
    pub target: usize,
}

impl Default for NarLimits {
    fn default() -> Self {
        Self { total_bytes: 16 << 30, file_bytes: 8 << 30, entries: 1 << 18, depth: 64, name: 255, target: 4095 }
    }
}

/// The zero bytes that follow a token of `length` bytes.
fn padding(length: u64) -> usize {
    (length.wrapping_neg() % 8) as usize
}

/// Whether a directory may hold this name.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// Whether a symbolic link may point to this.
fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && !target.contains(&0)
}

#[cfg(test)]
mod tests;
