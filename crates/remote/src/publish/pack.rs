//! From a NAR to the file that a cache holds: hashed, compressed, hashed again, described and signed.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};

use nixcache_core::nix::{Compression, ContentAddress, HashingWriter, NarInfo, NarUrl, SecretKey, Sha256, StorePath};
use tempfile::NamedTempFile;
use zstd::stream::write::Encoder;

use super::WriteNar;
use crate::cache::PackedPath;
use crate::network::NetworkOptions;

/// Fast, and within a few per cent of the higher levels on object code.
const LEVEL: i32 = 3;

/// 32 MiB: what a file holds twice (an rlib has its rmeta in it) is found this far, and readers need this much memory.
/// Of 152 NARs of one large build, 1.8 GB, 128 MiB would save 0.5 %; 16 MiB would cost 4 % more, 8 MiB 8 %.
const WINDOW_LOG: u32 = 25;

/// A NAR up to this size is collected before it is compressed, so that the file says how long it is: its readers
/// then need no more memory than that, in place of a whole window.
const COLLECTED: usize = 4 << 20;

/// What is known of a path before it is packed.
pub(super) struct Described {
    pub(super) path: StorePath,
    pub(super) references: BTreeSet<StorePath>,
    pub(super) by_content: bool,
}

/// Packs a path into a temporary file.
pub(super) fn pack(
    Described { path, references, by_content }: Described,
    write: WriteNar,
    key: Option<&SecretKey>,
    options: &NetworkOptions,
) -> io::Result<PackedPath> {
    let file = match &options.temporary_directory {
        Some(directory) => NamedTempFile::new_in(directory)?,
        None => NamedTempFile::new()?,
    };
    let file = HashingWriter::new(BufWriter::with_capacity(1 << 17, file));
    let mut nar = HashingWriter::new(Compressor::Collecting { file, bytes: Vec::new() });
    write(&mut nar)?;
    let (compressor, nar) = nar.into_parts();
    let (file, hasher) = compressor.finish()?.into_parts();
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    let (file_size, file_hash): (u64, Sha256) = (hasher.length(), hasher.finish());
    if nar.length() == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the NAR is empty"));
    }
    let nar_size = nar.length();
    let nar_hash = nar.finish();
    if by_content && path != StorePath::by_content(&nar_hash, &references, false, path.name().clone()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its content is not the one that its name says"));
    }
    let compression = Compression::Zstd;
    let mut narinfo = NarInfo {
        store_path: path,
        url: NarUrl::by_convention(&file_hash, &compression),
        compression,
        file_hash: Some(file_hash),
        file_size: Some(file_size),
        nar_size,
        nar_hash,
        references,
        deriver: None,
        signatures: Vec::new(),
        content_address: by_content.then_some(ContentAddress::RecursiveSha256(nar_hash)),
    };
    key.into_iter().for_each(|key| narinfo.sign(key));
    Ok(PackedPath { narinfo, file: file.into_temp_path(), file_size })
}

/// Where the compressed bytes go.
type Destination = HashingWriter<BufWriter<NamedTempFile>>;

/// Compresses; looks at the size first, if it is small.
enum Compressor {
    Collecting {
        file: Destination,
        bytes: Vec<u8>,
    },
    Streaming(Encoder<'static, Destination>),
    /// An error came up in between.
    Broken,
}

fn encoder(file: Destination, size: Option<u64>) -> io::Result<Encoder<'static, Destination>> {
    let mut encoder = Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    match size {
        Some(_) => encoder.set_pledged_src_size(size)?,
        None => encoder.window_log(WINDOW_LOG)?,
    }
    encoder.long_distance_matching(true)?;
    Ok(encoder)
}

impl Compressor {
    fn finish(self) -> io::Result<Destination> {
        match self {
            Self::Collecting { file, bytes } => {
                let mut encoder = encoder(file, Some(bytes.len() as u64))?;
                encoder.write_all(&bytes)?;
                encoder.finish()
            }
            Self::Streaming(encoder) => encoder.finish(),
            Self::Broken => Err(io::Error::other("an earlier error was passed over")),
        }
    }
}

impl Write for Compressor {
    fn write(&mut self, new: &[u8]) -> io::Result<usize> {
        match self {
            Self::Collecting { bytes, .. } if bytes.len() + new.len() <= COLLECTED => {
                bytes.extend_from_slice(new);
                Ok(new.len())
            }
            Self::Collecting { .. } => {
                let Self::Collecting { file, bytes } = std::mem::replace(self, Self::Broken) else {
                    unreachable!("it was looked at just now")
                };
                let mut encoder = encoder(file, None)?;
                encoder.write_all(&bytes)?;
                let written = encoder.write(new)?;
                *self = Self::Streaming(encoder);
                Ok(written)
            }
            Self::Streaming(encoder) => encoder.write(new),
            Self::Broken => Err(io::Error::other("an earlier error was passed over")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // The frame is written at the end: to flush in between would only make it longer.
        Ok(())
    }
}
