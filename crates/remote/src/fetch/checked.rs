//! A NAR that must have the size and the hash that were signed.

use std::io::{self, Read};

use nixcache_core::nix::{Sha256, Sha256Hasher};

use super::TransferError;
use crate::error::CacheError;

/// How much is read at once of what nobody wanted.
const REST: usize = 64 * 1024;

/// Reads a NAR and never more than its size; remembers what was wrong.
pub(super) struct CheckedNar<R> {
    source: R,
    hasher: Sha256Hasher,
    size: u64,
    hash: Sha256,
    /// Whether the end of the source was seen, where it should be.
    ended: bool,
    failure: Option<TransferError>,
}

impl<R: Read> CheckedNar<R> {
    pub(super) fn new(source: R, size: u64, hash: Sha256) -> Self {
        Self { source, hasher: Sha256Hasher::new(), size, hash, ended: false, failure: None }
    }

    /// Reads what is left, and says whether it is the NAR that was signed.
    pub(super) fn finish(mut self) -> Result<(), TransferError> {
        let mut rest = vec![0; REST];
        while self.failure.is_none() && !self.ended {
            // An error is remembered.
            let _ = self.read(&mut rest);
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.hasher.finish() {
            found if found == self.hash => Ok(()),
            found => Err(TransferError::WrongHash { expected: self.hash, found }),
        }
    }

    fn fail(&mut self, failure: TransferError) -> io::Error {
        let error = io::Error::new(io::ErrorKind::InvalidData, failure.to_string());
        self.failure = Some(failure);
        error
    }
}

impl<R: Read> Read for CheckedNar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the NAR has failed already"));
        }
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let left = self.size - self.hasher.length();
        let mut one_more = [0];
        // At the end one byte more is asked for, to see that there is none.
        let room = match usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len())) {
            0 => &mut one_more[..],
            room => &mut buffer[..room],
        };
        loop {
            return match self.source.read(room) {
                Ok(0) if left == 0 => {
                    self.ended = true;
                    Ok(0)
                }
                Ok(0) => {
                    let received = self.hasher.length();
                    Err(self.fail(TransferError::TooShort { expected: self.size, received }))
                }
                Ok(_) if left == 0 => Err(self.fail(TransferError::TooLong { expected: self.size })),
                Ok(read) => {
                    self.hasher.update(&room[..read]);
                    Ok(read)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(self.fail(read_error(error))),
            };
        }
    }
}

/// What an error of the source says: that the cache failed, or that what came can't be decompressed.
pub(super) fn read_error(error: io::Error) -> TransferError {
    match error.downcast::<CacheError>() {
        Ok(source) => TransferError::Cache { source },
        Err(source) => TransferError::Decompress { source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8], size: u64, hash: Sha256) -> (Vec<u8>, Result<(), TransferError>) {
        let mut nar = CheckedNar::new(bytes, size, hash);
        let mut read = Vec::new();
        let result = nar.read_to_end(&mut read).is_ok();
        let end = nar.finish();
        assert!(result || end.is_err());
        (read, end)
    }

    #[test]
    fn only_the_signed_bytes_pass() {
        let hash = Sha256::of(b"archive");
        assert!(matches!(checked(b"archive", 7, hash), (read, Ok(())) if read == b"archive"));
        assert!(matches!(checked(b"archivE", 7, hash), (_, Err(TransferError::WrongHash { .. }))));
        let (read, end) = checked(b"archive and more", 7, hash);
        assert_eq!(read, b"archive", "what comes after is never given");
        assert!(matches!(end, Err(TransferError::TooLong { expected: 7 })));
        assert!(matches!(checked(b"arch", 7, hash).1, Err(TransferError::TooShort { expected: 7, received: 4 })));
    }

    #[test]
    fn what_nobody_read_is_checked_too() {
        let nar = |bytes: &'static [u8]| CheckedNar::new(bytes, 7, Sha256::of(b"archive"));
        assert!(nar(b"archive").finish().is_ok());
        assert!(matches!(nar(b"archivE").finish(), Err(TransferError::WrongHash { .. })));
        assert!(matches!(nar(b"archive+").finish(), Err(TransferError::TooLong { .. })));
    }
}
