//! Streams that must have a certain hash and length: nobody sees the end of one that hasn't.
//!
//! Put below a [`super::NarReader`], which reads to the end of its stream before it says that the archive is over, this
//! makes "the archive is over" mean "and it is the one that was signed".

use std::io::{self, Read};

use super::hash::{Sha256, Sha256Hasher};
use super::narinfo::NarInfo;
use super::signature::Verified;

/// Why a stream is not what was promised. Comes as the inner error of an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckedError {
    /// It goes on.
    #[error("read {expected}: it has more than {size} bytes")]
    Longer {
        /// The hash that was promised.
        expected: Sha256,
        /// The length that was promised.
        size: u64,
    },
    /// It ends too early.
    #[error("read {expected}: it has {found} bytes in place of {size}")]
    Shorter {
        /// The hash that was promised.
        expected: Sha256,
        /// The length that was promised.
        size: u64,
        /// Its length.
        found: u64,
    },
    /// It holds something else.
    #[error("read {expected}: it holds something else, with the hash {found}")]
    OtherHash {
        /// The hash that was promised.
        expected: Sha256,
        /// Its hash.
        found: Sha256,
    },
}

/// Reads a stream that must have a certain hash and length. It gives at most that many bytes, and its end only if
/// everything was right; else an error, again and again.
#[derive(Debug)]
pub struct CheckedReader<R> {
    source: R,
    expected: Sha256,
    size: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading(Sha256Hasher),
    Right,
    Wrong(CheckedError),
}

impl<R: Read> CheckedReader<R> {
    /// Reads from `source`, which must hold `size` bytes with this hash.
    pub fn new(source: R, expected: Sha256, size: u64) -> Self {
        Self { source, expected, size, state: State::Reading(Sha256Hasher::new()) }
    }

    /// Reads from `source`, which must hold the NAR, decompressed, that somebody trusted vouches for.
    pub fn of_nar(source: R, narinfo: &Verified<NarInfo>) -> Self {
        Self::new(source, narinfo.nar_hash, narinfo.nar_size)
    }

    /// Whether the whole stream was read, and was right.
    pub fn is_right(&self) -> bool {
        matches!(self.state, State::Right)
    }

    fn check(&self, hasher: &Sha256Hasher) -> Result<(), CheckedError> {
        let (expected, size, length) = (self.expected, self.size, hasher.length());
        if length < size {
            return Err(CheckedError::Shorter { expected, size, found: length });
        }
        match hasher.clone().finish() {
            hash if hash == expected => Ok(()),
            found => Err(CheckedError::OtherHash { expected, found }),
        }
    }
}

impl<R: Read> Read for CheckedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wrong = match &mut self.state {
            State::Right => return Ok(0),
            State::Wrong(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
            State::Reading(_) if buffer.is_empty() => return Ok(0),
            State::Reading(hasher) => match self.source.read(buffer)? {
                0 => None,
                length if length as u64 > self.size - hasher.length() => {
                    Some(CheckedError::Longer { expected: self.expected, size: self.size })
                }
                length => {
                    hasher.update(&buffer[..length]);
                    return Ok(length);
                }
            },
        };
        let wrong = match (&self.state, wrong) {
            (State::Reading(hasher), None) => self.check(hasher).err(),
            (_, wrong) => wrong,
        };
        self.state = wrong.map_or(State::Right, State::Wrong);
        self.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::nar::{NarError, NarLimits, NarReader, NarWriter};
    use super::*;

    fn read(bytes: &[u8], promised: &[u8]) -> Result<Vec<u8>, CheckedError> {
        let mut reader = CheckedReader::new(bytes, Sha256::of(promised), promised.len() as u64);
        let mut read = vec![];
        let result = reader.read_to_end(&mut read);
        assert_eq!(result.is_ok(), reader.is_right());
        match result {
            Ok(_) => Ok(read),
            Err(error) => {
                assert!(reader.read(&mut [0]).is_err(), "it stays wrong");
                assert!(read.len() <= promised.len());
                Err(error.into_inner().unwrap().downcast_ref::<CheckedError>().unwrap().clone())
            }
        }
    }

    #[test]
    fn what_was_promised_is_read() {
        for bytes in [&b""[..], b"x", &[7; 100_000]] {
            assert_eq!(read(bytes, bytes).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn anything_else_never_ends_well() {
        let expected = Sha256::of(b"hello");
        assert_eq!(read(b"hell", b"hello"), Err(CheckedError::Shorter { expected, size: 5, found: 4 }));
        assert_eq!(read(b"hello!", b"hello"), Err(CheckedError::Longer { expected, size: 5 }));
        assert_eq!(read(b"hallo", b"hello"), Err(CheckedError::OtherHash { expected, found: Sha256::of(b"hallo") }));
        assert_eq!(read(b"", b"hello"), Err(CheckedError::Shorter { expected, size: 5, found: 0 }));
        assert_eq!(read(b"x", b""), Err(CheckedError::Longer { expected: Sha256::of(b""), size: 0 }));
    }

    #[test]
    fn an_empty_buffer_proves_nothing() {
        let mut reader = CheckedReader::new(&b"hallo"[..], Sha256::of(b"hello"), 5);
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert!(!reader.is_right());
    }

    #[test]
    fn another_archive_than_the_promised_one_has_no_end() {
        let pack = |contents: &[u8]| {
            let mut writer = NarWriter::new(Vec::new());
            writer.regular_bytes(false, contents).unwrap();
            writer.finish().unwrap()
        };
        let (promised, other) = (pack(b"hello"), pack(b"hallo"));
        for (archive, right) in [(&promised, true), (&other, false)] {
            let source = CheckedReader::new(&archive[..], Sha256::of(&promised), promised.len() as u64);
            let mut reader = NarReader::new(source, NarLimits::default());
            assert!(reader.next_event().unwrap().is_some());
            match reader.next_event() {
                Ok(None) => assert!(right),
                Err(NarError::Read { .. }) => assert!(!right),
                other => panic!("{other:?}"),
            }
        }
    }
}
