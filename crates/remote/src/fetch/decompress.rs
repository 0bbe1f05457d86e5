//! Decompression of NARs: what can be read, and with how much memory.

use std::io::{BufRead, Read};

use nixcache_core::nix::Compression;

use super::TransferError;

/// The largest window of a zstd frame: 128 MiB, which is what other readers take too.
const WINDOW_LOG_LIMIT: u32 = 27;

/// Whether such a file can be read here.
pub(super) fn is_supported(compression: &Compression) -> bool {
    matches!(compression, Compression::None | Compression::Zstd)
}

/// The NAR in a file.
pub(super) fn decompress<'a>(
    compression: &Compression,
    file: impl BufRead + 'a,
) -> Result<Box<dyn Read + 'a>, TransferError> {
    let broken = |source| TransferError::Decompress { source };
    match compression {
        Compression::None => Ok(Box::new(file)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file).map_err(broken)?;
            decoder.window_log_max(WINDOW_LOG_LIMIT).map_err(broken)?;
            Ok(Box::new(decoder))
        }
        other => Err(broken(std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            format!("the compression {other} is not read here"),
        ))),
    }
}
