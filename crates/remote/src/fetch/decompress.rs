//! Decompression of NARs: what can be read.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use nixcache_core::nix::Compression;

use super::checked::read_error;
use super::decoders::{Decoder, Decoders};
use super::{Failure, TransferError};

/// Whether such a file can be read here.
pub(super) fn is_supported(compression: &Compression) -> bool {
    matches!(compression, Compression::None | Compression::Zstd)
}

/// What is needed to read a file, whether or not it has come yet.
pub(super) enum Decompressor {
    Plain,
    Zstd(Decoder),
}

impl Decompressor {
    /// Waits for what a file with a NAR of `size` bytes needs, if its window is at most `largest`.
    pub(super) async fn reserve(
        compression: &Compression,
        size: u64,
        largest: u64,
        decoders: &Arc<Decoders>,
    ) -> Result<Self, Failure> {
        match compression {
            Compression::None => Ok(Self::Plain),
            Compression::Zstd => Ok(Self::Zstd(decoders.reserve(size.min(largest)).await)),
            other => Err(broken(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the compression {other} is not read here"),
            ))),
        }
    }

    /// Gives the NAR in a file, which should have `size` bytes, to `take`. See [`Decoder::fit`] for a file that needs
    /// more than was reserved.
    pub(super) fn decompress<T>(
        self,
        mut file: impl BufRead,
        size: u64,
        take: impl FnOnce(&mut dyn Read) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match self {
            Self::Plain => take(&mut file),
            Self::Zstd(mut decoder) => {
                decoder.fit(&mut file, size).map_err(|error| Failure::Transfer(read_error(error)))?;
                let window_log_max = decoder.window_log_max();
                let context = decoder.context.as_mut().expect("it is there until it is dropped");
                let mut decoder = zstd::stream::read::Decoder::with_context(file, context);
                decoder.window_log_max(window_log_max).map_err(broken)?;
                take(&mut decoder)
            }
        }
    }
}

fn broken(source: io::Error) -> Failure {
    Failure::Transfer(TransferError::Decompress { source })
}

#[cfg(test)]
mod tests {
    use super::super::decoders::EXPECTED;
    use super::*;

    fn decompress<T>(
        file: &[u8],
        size: u64,
        decoders: &Arc<Decoders>,
        take: impl FnOnce(&mut dyn Read) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let reserved = Decompressor::reserve(&Compression::Zstd, size, EXPECTED, decoders);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(reserved)?.decompress(file, size, take)
    }

    fn read(file: &[u8], size: u64, decoders: &Arc<Decoders>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(file, size, decoders, |nar| {
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
        let stopped = decompress(file.as_slice(), size, &decoders, |nar| {
            nar.read_exact(&mut [0; 10]).map_err(|error| Failure::Transfer(read_error(error)))
        });
        assert!(stopped.is_ok());
        assert_eq!(read(&file, size, &decoders).as_deref(), Some(content.as_slice()));
    }
}
