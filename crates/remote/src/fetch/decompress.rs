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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8], size: u64, decoders: &Arc<Decoders>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(&Compression::Zstd, file, size, decoders, |nar| {
            let failed = |error| Failure::Transfer(read_error(error));
            nar.read_to_end(&mut bytes).map_err(failed).map(drop)
        })
        .ok()
        .map(|()| bytes)
    }

    #[test]
    fn a_file_after_one_that_was_cut_off_is_read() {
        let decoders = Arc::default();
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let size = content.len() as u64;
        let file = zstd::encode_all(content.as_slice(), 3).unwrap();
        for cut in [file.len() / 2, 20, 7] {
            assert_eq!(read(&file[..cut], size, &decoders), None);
            assert_eq!(read(&file, size, &decoders).as_deref(), Some(content.as_slice()));
        }
        // And after one that somebody stopped reading.
        let stopped = decompress(&Compression::Zstd, file.as_slice(), size, &decoders, |nar| {
            nar.read_exact(&mut [0; 10]).map_err(|error| Failure::Transfer(read_error(error)))
        });
        assert!(stopped.is_ok());
        assert_eq!(read(&file, size, &decoders).as_deref(), Some(content.as_slice()));
    }
}
