//! Blobs as streams: what arrives from a cache goes in, what is published comes out, and neither is ever held
//! whole in memory. What isn't known to be right as a whole yet waits below `tmp/`, where nobody looks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};

use camino::Utf8PathBuf;

use super::blob::BlobRef;
use super::error::StoreError;
use super::lease::{Lease, with_parent};
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
    /// Reads what `content` holds, which must be `blob`: as long as that, and with that digest. The whole of it is read,
    /// also if the store, or `staged`, has the blob already. It becomes one of `staged`, and is not in the store yet.
    pub fn stage_stream(
        &self,
        staged: &mut StagedBlobs,
        blob: &BlobRef,
        content: &mut dyn Read,
    ) -> Result<(), StreamError> {
        self.check_writable()?;
        if staged.files.contains_key(blob) || self.has_blob(blob)? {
            return copy_checked(blob, content, &mut io::sink(), &|error| StreamError::Read {
                blob: *blob,
                source: error,
            });
        }
        let temporary = self.layout().temporary();
        // Before it is made, so that it goes whatever happens.
        staged.files.insert(*blob, temporary.clone());
        let failed = |error| StoreError::io("write", &temporary, error);
        let mut file = platform::create_new(&temporary, blob.executable).map_err(failed)?;
        copy_checked(blob, content, &mut file, &|error| StreamError::Store(failed(error)))?;
        platform::stamp(&temporary).map_err(|error| StreamError::Store(failed(error)))
    }

    /// Keeps what was staged: from now on it is in the store.
    pub fn keep_staged(&self, mut staged: StagedBlobs) -> Result<(), StoreError> {
        while let Some((blob, temporary)) = staged.files.first_key_value() {
            let path = self.layout().blob(blob);
            let added = with_parent(&path, || platform::publish_new(temporary, &path))
                .map_err(|error| StoreError::io("write", &path, error))?;
            staged.files.pop_first();
            self.count(&path, added);
        }
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

/// Blobs that lie ready beside the store, for when everything that they came with is known to be right. What isn't kept
/// goes with this.
#[derive(Debug, Default)]
pub struct StagedBlobs {
    /// Where each of them lies.
    files: BTreeMap<BlobRef, Utf8PathBuf>,
}

impl Drop for StagedBlobs {
    fn drop(&mut self) {
        // What can't be removed is rubbish that garbage collection finds.
        self.files.values().for_each(|path| drop(fs::remove_file(path)));
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
