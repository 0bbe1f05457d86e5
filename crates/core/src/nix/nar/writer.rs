//! Writes a NAR as a stream, from events in the order of the archive. Wrong order, wrong names and contents of
//! another length than announced are errors, so that an archive that was finished is a valid one.

use std::io::{self, Read, Write};

use super::{BUFFER, MAGIC, NarLimits, is_name, is_target, padding};

/// Why a NAR could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NarWriteError {
    /// The destination failed.
    #[error("write a NAR")]
    Write {
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// The contents of a file could not be read.
    #[error("read the contents of a file for a NAR")]
    Contents {
        /// What the stream says.
        #[source]
        source: io::Error,
    },
    /// The contents of a file are longer or shorter than announced: it was changed meanwhile.
    #[error("write a file to a NAR: it does not have {announced} bytes, as announced")]
    Length {
        /// The length that was announced.
        announced: u64,
    },
    /// A name that no directory may hold.
    #[error("write the name {name:?} to a NAR: it is not allowed")]
    Name {
        /// The name, as far as it is UTF-8.
        name: String,
    },
    /// A name that was there already, or belongs before the one before it.
    #[error("write the name {name:?} to a NAR: it is out of order")]
    Order {
        /// The name, as far as it is UTF-8.
        name: String,
    },
    /// The target of a symbolic link is empty, too long, or holds a zero byte.
    #[error("write a symbolic link to a NAR: its target is not allowed")]
    Target,
    /// More directories inside each other than readers take.
    #[error("write a directory to a NAR: it is too deep")]
    Depth,
    /// The events don't make a tree, or come after an error.
    #[error("write {event} to a NAR: it has no place here")]
    Misplaced {
        /// What was to be written.
        event: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A node must follow.
    Node,
    /// An entry or the end of a directory must follow.
    Directory,
    /// The archive is complete.
    End,
    Failed,
}

/// Writes a NAR: one node, which is a file, a link, or a directory from its beginning to its end, with an entry before
/// each node in it.
#[derive(Debug)]
pub struct NarWriter<W: Write> {
    destination: W,
    buffer: Box<[u8]>,
    filled: usize,
    state: State,
    limits: NarLimits,
    /// The last name in each open directory; empty before the first.
    names: Vec<Vec<u8>>,
}

impl<W: Write> NarWriter<W> {
    /// Writes to `destination`, which needs no buffer of its own.
    pub fn new(destination: W) -> Self {
        let mut writer = Self {
            destination,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            state: State::Node,
            limits: NarLimits::default(),
            names: Vec::new(),
        };
        // The buffer is empty and larger than this, so that nothing is written yet.
        writer.buffer[..8].copy_from_slice(&(MAGIC.len() as u64).to_le_bytes());
        writer.buffer[8..8 + MAGIC.len()].copy_from_slice(MAGIC);
        writer.filled = 8 + MAGIC.len() + padding(MAGIC.len() as u64);
        writer
    }

    /// Begins a directory.
    pub fn begin_directory(&mut self) -> Result<(), NarWriteError> {
        self.event(State::Node, "a directory", |writer| {
            if writer.names.len() >= writer.limits.depth {
                return Err(NarWriteError::Depth);
            }
            writer.tokens(&[b"(", b"type", b"directory"])?;
            writer.names.push(Vec::new());
            Ok(State::Directory)
        })
    }

    /// Names the node that follows. Names come in the order of their bytes.
    pub fn entry(&mut self, name: &[u8]) -> Result<(), NarWriteError> {
        self.event(State::Directory, "an entry", |writer| {
            let text = || String::from_utf8_lossy(name).into_owned();
            if !is_name(name) || name.len() > writer.limits.name {
                return Err(NarWriteError::Name { name: text() });
            }
            let last = writer.names.last_mut().expect("this state is only reached in a directory");
            if last.as_slice() >= name {
                return Err(NarWriteError::Order { name: text() });
            }
            last.clear();
            last.extend_from_slice(name);
            writer.tokens(&[b"entry", b"(", b"name", name, b"node"])?;
            Ok(State::Node)
        })
    }

    /// Ends the directory that was begun last.
    pub fn end_directory(&mut self) -> Result<(), NarWriteError> {
        self.event(State::Directory, "the end of a directory", |writer| {
            writer.names.pop();
            writer.close_node()
        })
    }

    /// Writes a symbolic link.
    pub fn symlink(&mut self, target: &[u8]) -> Result<(), NarWriteError> {
        self.event(State::Node, "a symbolic link", |writer| {
            if !is_target(target) || target.len() > writer.limits.target {
                return Err(NarWriteError::Target);
            }
            writer.tokens(&[b"(", b"type", b"symlink", b"target", target])?;
            writer.close_node()
        })
    }

    /// Writes a file of `size` bytes, which `contents` must hold: no fewer, and no more.
    pub fn regular(
        &mut self,
        executable: bool,
        size: u64,
        contents: &mut (impl Read + ?Sized),
    ) -> Result<(), NarWriteError> {
        self.event(State::Node, "a file", |writer| {
            writer.begin_file(executable, size)?;
            writer.copy(size, contents)?;
            writer.bytes(&[0; 8][..padding(size)])?;
            writer.close_node()
        })
    }

    /// Writes a file whose contents are in memory.
    pub fn regular_bytes(&mut self, executable: bool, contents: &[u8]) -> Result<(), NarWriteError> {
        self.event(State::Node, "a file", |writer| {
            writer.begin_file(executable, contents.len() as u64)?;
            writer.bytes(contents)?;
            writer.bytes(&[0; 8][..padding(contents.len() as u64)])?;
            writer.close_node()
        })
    }

    /// Ends the archive, which must be complete, and gives the destination back.
    pub fn finish(mut self) -> Result<W, NarWriteError> {
        self.event(State::End, "the end", |writer| {
            writer.flush_buffer()?;
            writer.destination.flush().map_err(|source| NarWriteError::Write { source })?;
            Ok(State::End)
        })?;
        Ok(self.destination)
    }

    /// Does one event, if it has its place here. After an error nothing has.
    fn event(
        &mut self,
        place: State,
        event: &'static str,
        write: impl FnOnce(&mut Self) -> Result<State, NarWriteError>,
    ) -> Result<(), NarWriteError> {
        let fits = self.state == place;
        self.state = State::Failed;
        if !fits {
            return Err(NarWriteError::Misplaced { event });
        }
        self.state = write(self)?;
        Ok(())
    }

    fn begin_file(&mut self, executable: bool, size: u64) -> Result<(), NarWriteError> {
        self.tokens(&[b"(", b"type", b"regular"])?;
        if executable {
            self.tokens(&[b"executable", b""])?;
        }
        self.tokens(&[b"contents"])?;
        self.bytes(&size.to_le_bytes())
    }

    fn close_node(&mut self) -> Result<State, NarWriteError> {
        self.tokens(&[b")"])?;
        if self.names.is_empty() {
            return Ok(State::End);
        }
        self.tokens(&[b")"])?;
        Ok(State::Directory)
    }

    fn tokens(&mut self, tokens: &[&[u8]]) -> Result<(), NarWriteError> {
        for token in tokens {
            let length = token.len() as u64;
            self.bytes(&length.to_le_bytes())?;
            self.bytes(token)?;
            self.bytes(&[0; 8][..padding(length)])?;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), NarWriteError> {
        if bytes.len() > self.buffer.len() - self.filled {
            self.flush_buffer()?;
        }
        if bytes.len() > self.buffer.len() {
            return self.destination.write_all(bytes).map_err(|source| NarWriteError::Write { source });
        }
        self.buffer[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Copies exactly `size` bytes, straight into the buffer.
    fn copy(&mut self, size: u64, contents: &mut (impl Read + ?Sized)) -> Result<(), NarWriteError> {
        let mut left = size;
        while left > 0 {
            if self.filled == self.buffer.len() {
                self.flush_buffer()?;
            }
            let room = self.buffer.len() - self.filled;
            let room = room.min(usize::try_from(left).unwrap_or(room));
            match read(contents, &mut self.buffer[self.filled..self.filled + room])? {
                0 => return Err(NarWriteError::Length { announced: size }),
                length => {
                    self.filled += length;
                    left -= length as u64;
                }
            }
        }
        match read(contents, &mut [0])? {
            0 => Ok(()),
            _ => Err(NarWriteError::Length { announced: size }),
        }
    }

    fn flush_buffer(&mut self) -> Result<(), NarWriteError> {
        let filled = std::mem::take(&mut self.filled);
        self.destination.write_all(&self.buffer[..filled]).map_err(|source| NarWriteError::Write { source })
    }
}

fn read(contents: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> Result<usize, NarWriteError> {
    loop {
        match contents.read(buffer) {
            Ok(length) => return Ok(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(NarWriteError::Contents { source }),
        }
    }
}
