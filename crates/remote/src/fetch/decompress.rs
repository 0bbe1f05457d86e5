//! Decompression of NARs: what can be read.

use std::io::{BufRead, Read};
use std::sync::Arc;

use nixcache_core::nix::Compression;

use super::checked::read_error;
use super::decoders::Decoders;
use super::{Failure, TransferError};

/// Whether such a file can be read here.
pub(super) fn is_supported(compression: &Compression) -> bool {
    matches!(compression, Compression::None | Compression::Zstd)
}

/// Gives the NAR in a file, which should have `size` bytes, to `take`.
pub(super) fn decompress<T>(
    compression: &Compression,
    mut file: impl BufRead,
    size: u64,
    decoders: &Arc<Decoders>,
    take: impl FnOnce(&mut dyn Read) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let broken = |source| Failure::Transfer(TransferError::Decompress { source });
    match compression {
        Compression::None => take(&mut file),
        Compression::Zstd => {
            let mut decoder = decoders.take(&mut file, size).map_err(|error| Failure::Transfer(read_error(error)))?;
            let window_log_max = decoder.window_log_max();
            let context = decoder.context.as_mut().expect("it is there until it is dropped");
            let mut decoder = zstd::stream::read::Decoder::with_context(file, context);
            decoder.window_log_max(window_log_max).map_err(broken)?;
            take(&mut decoder)
        }
        other => Err(broken(std::io::Error::new(
            std::io::ErrorKind::Unsupported,
            format!("the compression {other} is not read here"),
        ))),
    }
}
