//! Blobs as streams: what arrives from a cache goes in, what is published comes out, and neither is ever held
//! whole in memory.

use std::fs::File;
use std::io::{self, Read, Write};

use super::blob::BlobRef;
use super::error::StoreError;
use super::lease::Lease;
use super::platform;
use crate::digest::ContentDigest;

/// How much is read at once.
const BUFFER: usize = 1 << 18;

/// Why a stream did not become a blob.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The stream broke off, or whoever gives it found something wrong with it.
    #[error("read the content of the blob {blob}")]
    Read {
        /// The blob that was expected.
        blob: BlobRef,
        /// What the stream says.
        #[source]
        source: io::Error,
    },
    /// The stream holds something else.
    #[error("keep the blob {blob}: other content came under its name")]
    OtherContent {
        /// The blob that was expected.
        blob: BlobRef,
    },
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Lease {
    /// Keeps what `content` holds, which must be `blob`: as long as that, and with that digest. The whole of it is
    /// read, also if the store has the blob already. Nothing is visible before the digest is known to be right.
    pub fn insert_stream(&self, blob: &BlobRef, content: &mut dyn Read) -> Result<(), StreamError> {
        self.check_writable()?;
        if self.has_blob(blob)? {
            return copy_checked(blob, content, &mut io::sink(), &|error| StreamError::Read {
                blob: *blob,
                source: error,
            });
        }
        let path = self.layout().blob(blob);
        let added = self.write_new(&path, |temporary| {
            let failed = |error| StoreError::io("write", temporary, error);
            let mut file = platform::create_new(temporary, blob.executable).map_err(failed)?;
            copy_checked(blob, content, &mut file, &|error| StreamError::Store(failed(error)))?;
            platform::stamp(temporary).map_err(|error| StreamError::Store(failed(error)))
        })?;
        self.count(&path, added);
        Ok(())
    }

    /// Opens a blob for reading, from its beginning. Its content is as it was when it was kept, as far as its length
    /// and stamp tell; whoever publishes it checks the digest on the way.
    pub fn open_blob(&self, blob: &BlobRef) -> Result<File, StoreError> {
        if !self.has_blob(blob)? {
            return Err(StoreError::MissingBlob { blob: *blob });
        }
        let path = self.layout().blob(blob);
        File::open(&path).map_err(|error| StoreError::io("open", &path, error))
    }
}

/// Copies `content`, which must be `blob`, to `to`; `write_failed` says what an error of `to` is.
fn copy_checked(
    blob: &BlobRef,
    content: &mut dyn Read,
    to: &mut dyn Write,
    write_failed: &dyn Fn(io::Error) -> StreamError,
) -> Result<(), StreamError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER.min(usize::try_from(blob.size).unwrap_or(BUFFER) + 1)];
    let mut size = 0;
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(StreamError::Read { blob: *blob, source }),
        };
        size += read as u64;
        if size > blob.size {
            return Err(StreamError::OtherContent { blob: *blob });
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(write_failed)?;
    }
    let digest = ContentDigest::from_bytes(*hasher.finalize().as_bytes());
    if size == blob.size && digest == blob.digest { Ok(()) } else { Err(StreamError::OtherContent { blob: *blob }) }
}
