//! Reads a NAR as a stream of events, and takes nothing for granted: no length is believed before it is compared
//! with a limit, and memory is only taken for bytes that have come.

use std::io::{self, BufRead, BufReader, Read};

use super::{BUFFER, MAGIC, NarLimits, is_name, is_target, padding};

/// The longest of the words that the format is made of.
const LONGEST_WORD: usize = 13;

/// Why bytes are not a NAR that we take.
#[derive(Debug, thiserror::Error)]
pub enum NarError {
    /// The stream failed.
    #[error("read a NAR at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the stream says.
        #[source]
        source: io::Error,
    },
    /// The stream ended in the middle.
    #[error("read a NAR at byte {offset}: it ends too early")]
    Truncated {
        /// Where the token begins that is incomplete.
        offset: u64,
    },
    /// Something else stands where the format has one of a few words.
    #[error("read a NAR at byte {offset}: {expected} is missing")]
    Unexpected {
        /// Where.
        offset: u64,
        /// What should be there.
        expected: &'static str,
    },
    /// The bytes that fill a token up are not zero.
    #[error("read a NAR at byte {offset}: the padding is not zero")]
    Padding {
        /// Where.
        offset: u64,
    },
    /// A name that could lead out of its directory, or that no file can have.
    #[error("read a NAR at byte {offset}: the name {name:?} is not allowed")]
    Name {
        /// Where.
        offset: u64,
        /// The name, as far as it is UTF-8.
        name: String,
    },
    /// A name that is there twice, or not in the order of bytes.
    #[error("read a NAR at byte {offset}: the name {name:?} is out of order")]
    Order {
        /// Where.
        offset: u64,
        /// The name, as far as it is UTF-8.
        name: String,
    },
    /// The target of a symbolic link is empty or holds a zero byte.
    #[error("read a NAR at byte {offset}: the target of a symbolic link is not allowed")]
    Target {
        /// Where.
        offset: u64,
    },
    /// Something is larger than it may be.
    #[error("read a NAR at byte {offset}: more than {limit} {what}")]
    Limit {
        /// Where.
        offset: u64,
        /// What there is too much of.
        what: &'static str,
        /// How much may be.
        limit: u64,
    },
    /// The archive is complete, and the stream goes on.
    #[error("read a NAR at byte {offset}: something follows the archive")]
    Trailing {
        /// Where the archive ends.
        offset: u64,
    },
    /// Reading had failed before.
    #[error("read on in a NAR after an error")]
    AfterError,
}

/// What comes next in an archive. An archive is one node; a node is a file, a link, or a directory from its start to
/// its end with an entry before each node in it.
#[derive(Debug)]
pub enum Event<'a, R> {
    /// A directory begins.
    DirectoryStart,
    /// The name of the next node in the directory.
    Entry {
        /// The name: never empty, `.` or `..`, and without `/` and zero bytes.
        name: &'a [u8],
    },
    /// The directory that began last ends.
    DirectoryEnd,
    /// A symbolic link.
    Symlink {
        /// Where it points to: not empty, and without zero bytes. It can be any place.
        target: &'a [u8],
    },
    /// A file.
    Regular {
        /// Whether it may be executed.
        executable: bool,
        /// The length of its contents.
        size: u64,
        /// Where in the archive its contents begin.
        offset: u64,
        /// The contents. What isn't read of them is passed over.
        contents: Contents<'a, R>,
    },
}

impl<R> Event<'_, R> {
    /// The name, if this is an entry and its name is UTF-8.
    pub fn utf8_name(&self) -> Option<&str> {
        match self {
            Self::Entry { name } => std::str::from_utf8(name).ok(),
            _ => None,
        }
    }
}

/// What comes next, without what it borrows.
enum Step {
    DirectoryStart,
    Entry,
    DirectoryEnd,
    Symlink,
    Regular { executable: bool, size: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte.
    Start,
    /// A node must follow.
    Node,
    /// An entry or the end of a directory must follow.
    Directory,
    /// In the contents of a file.
    Contents {
        size: u64,
        left: u64,
    },
    /// After the last node.
    End,
    Done,
    Failed,
}

/// Reads a NAR. [`NarReader::next_event`] must be called until it gives `None`: only then is the archive known to be
/// complete, and nothing to follow it.
#[derive(Debug)]
pub struct NarReader<R> {
    source: BufReader<R>,
    limits: NarLimits,
    state: State,
    offset: u64,
    entries: u64,
    /// The last name in each open directory; empty before the first.
    names: Vec<Vec<u8>>,
    target: Vec<u8>,
}

impl<R: Read> NarReader<R> {
    /// Reads from `source`, which needs no buffer of its own.
    pub fn new(source: R, limits: NarLimits) -> Self {
        Self {
            source: BufReader::with_capacity(BUFFER, source),
            limits,
            state: State::Start,
            offset: 0,
            entries: 0,
            names: Vec::new(),
            target: Vec::new(),
        }
    }

    /// What comes next; `None` at the end of the archive, when nothing follows it.
    pub fn next_event(&mut self) -> Result<Option<Event<'_, R>>, NarError> {
        let step = self.step().inspect_err(|_| self.state = State::Failed)?;
        let Some(step) = step else { return Ok(None) };
        let offset = self.offset;
        Ok(Some(match step {
            Step::DirectoryStart => Event::DirectoryStart,
            Step::Entry => Event::Entry { name: self.names.last().map_or(&[], Vec::as_slice) },
            Step::DirectoryEnd => Event::DirectoryEnd,
            Step::Symlink => Event::Symlink { target: &self.target },
            Step::Regular { executable, size } => {
                Event::Regular { executable, size, offset, contents: Contents { reader: self } }
            }
        }))
    }

    /// The source. What was read of it in advance is lost: for use after the end of the archive.
    pub fn into_inner(self) -> R {
        self.source.into_inner()
    }

    fn step(&mut self) -> Result<Option<Step>, NarError> {
        if let State::Contents { size, .. } = self.state {
            self.pass_over_contents()?;
            self.skip_padding(size)?;
            self.expect(b")", "`)`")?;
            self.close_node()?;
        }
        match self.state {
            State::Start => {
                self.expect(MAGIC, "`nix-archive-1`")?;
                self.read_node().map(Some)
            }
            State::Node => self.read_node().map(Some),
            State::Directory => self.read_in_directory().map(Some),
            State::End => {
                let rest = fill(&mut self.source).map_err(|source| NarError::Read { offset: self.offset, source })?;
                if !rest.is_empty() {
                    return Err(NarError::Trailing { offset: self.offset });
                }
                self.state = State::Done;
                Ok(None)
            }
            State::Done => Ok(None),
            State::Contents { .. } | State::Failed => Err(NarError::AfterError),
        }
    }

    fn read_node(&mut self) -> Result<Step, NarError> {
        const KINDS: &str = "`regular`, `symlink` or `directory`";
        self.expect(b"(", "`(`")?;
        self.expect(b"type", "`type`")?;
        let offset = self.offset;
        match self.word(KINDS)?.as_bytes() {
            b"regular" => self.read_regular(),
            b"symlink" => {
                self.expect(b"target", "`target`")?;
                let (offset, mut target) = (self.offset, std::mem::take(&mut self.target));
                self.read_token(&mut target, self.limits.target, "bytes in the target of a symbolic link")?;
                self.target = target;
                if !is_target(&self.target) {
                    return Err(NarError::Target { offset });
                }
                self.expect(b")", "`)`")?;
                self.close_node()?;
                Ok(Step::Symlink)
            }
            b"directory" => {
                if self.names.len() >= self.limits.depth {
                    return Err(self.limit(offset, "directories inside each other", self.limits.depth as u64));
                }
                self.names.push(Vec::new());
                self.state = State::Directory;
                Ok(Step::DirectoryStart)
            }
            _ => Err(NarError::Unexpected { offset, expected: KINDS }),
        }
    }

    fn read_regular(&mut self) -> Result<Step, NarError> {
        const NEXT: &str = "`executable` or `contents`";
        let offset = self.offset;
        let executable = match self.word(NEXT)?.as_bytes() {
            b"executable" => {
                self.expect(b"", "an empty token")?;
                self.expect(b"contents", "`contents`")?;
                true
            }
            b"contents" => false,
            _ => return Err(NarError::Unexpected { offset, expected: NEXT }),
        };
        let size = self.length(self.limits.file_bytes, "bytes in a file")?;
        // The padding and the closing token come on top; they are counted when they are read.
        let (offset, total) = (self.offset, self.limits.total_bytes);
        if size > total.saturating_sub(offset) {
            return Err(self.limit(offset, "bytes", total));
        }
        self.state = State::Contents { size, left: size };
        Ok(Step::Regular { executable, size })
    }

    fn read_in_directory(&mut self) -> Result<Step, NarError> {
        const NEXT: &str = "`entry` or `)`";
        let offset = self.offset;
        match self.word(NEXT)?.as_bytes() {
            b")" => {
                self.names.pop();
                self.close_node()?;
                Ok(Step::DirectoryEnd)
            }
            b"entry" => {
                self.entries += 1;
                if self.entries > self.limits.entries {
                    return Err(self.limit(offset, "entries", self.limits.entries));
                }
                self.expect(b"(", "`(`")?;
                self.expect(b"name", "`name`")?;
                self.read_name()?;
                self.expect(b"node", "`node`")?;
                self.state = State::Node;
                Ok(Step::Entry)
            }
            _ => Err(NarError::Unexpected { offset, expected: NEXT }),
        }
    }

    fn read_name(&mut self) -> Result<(), NarError> {
        let offset = self.offset;
        let mut name = Vec::new();
        self.read_token(&mut name, self.limits.name, "bytes in a name")?;
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        if !is_name(&name) {
            return Err(NarError::Name { offset, name: text(&name) });
        }
        let last = self.names.last_mut().expect("an entry is read in an open directory");
        // Before the first name the last one is empty, and no name is.
        if *last >= name {
            return Err(NarError::Order { offset, name: text(&name) });
        }
        *last = name;
        Ok(())
    }

    /// After a node: the entry that it is in is closed, or the archive is at its end.
    fn close_node(&mut self) -> Result<(), NarError> {
        if self.names.is_empty() {
            self.state = State::End;
        } else {
            self.expect(b")", "`)`")?;
            self.state = State::Directory;
        }
        Ok(())
    }

    fn pass_over_contents(&mut self) -> Result<(), NarError> {
        let offset = self.offset;
        let mut contents = Contents { reader: self };
        loop {
            let length = match contents.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(bytes) => bytes.len(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(NarError::Truncated { offset });
                }
                Err(source) => return Err(NarError::Read { offset, source }),
            };
            contents.consume(length);
        }
    }

    fn limit(&self, offset: u64, what: &'static str, limit: u64) -> NarError {
        NarError::Limit { offset, what, limit }
    }

    /// Reads the length of a token, which may be `limit` at most.
    fn length(&mut self, limit: u64, what: &'static str) -> Result<u64, NarError> {
        let offset = self.offset;
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes)?;
        let length = u64::from_le_bytes(bytes);
        if length > limit { Err(self.limit(offset, what, limit)) } else { Ok(length) }
    }

    /// Reads a token whole.
    fn read_token(&mut self, token: &mut Vec<u8>, limit: usize, what: &'static str) -> Result<(), NarError> {
        let length = self.length(limit as u64, what)?;
        token.clear();
        token.resize(usize::try_from(length).expect("a length within a limit that is a usize"), 0);
        self.read_exact(token)?;
        self.skip_padding(length)
    }

    /// Reads one of the words of the format.
    fn word(&mut self, expected: &'static str) -> Result<Word, NarError> {
        let offset = self.offset;
        let mut length = [0; 8];
        self.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut word = Word { bytes: [0; LONGEST_WORD], length: 0 };
        match usize::try_from(length) {
            Ok(length) if length <= LONGEST_WORD => word.length = length,
            _ => return Err(NarError::Unexpected { offset, expected }),
        }
        let length_read = word.length;
        self.read_exact(&mut word.bytes[..length_read])?;
        self.skip_padding(length)?;
        Ok(word)
    }

    fn expect(&mut self, word: &[u8], expected: &'static str) -> Result<(), NarError> {
        let offset = self.offset;
        if self.word(expected)?.as_bytes() == word { Ok(()) } else { Err(NarError::Unexpected { offset, expected }) }
    }

    fn skip_padding(&mut self, length: u64) -> Result<(), NarError> {
        let offset = self.offset;
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..padding(length)];
        self.read_exact(bytes)?;
        if bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(NarError::Padding { offset }) }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), NarError> {
        let offset = self.offset;
        if bytes.len() as u64 > self.limits.total_bytes.saturating_sub(offset) {
            return Err(self.limit(offset, "bytes", self.limits.total_bytes));
        }
        match self.source.read_exact(bytes) {
            Ok(()) => {
                self.offset += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(NarError::Truncated { offset }),
            Err(source) => Err(NarError::Read { offset, source }),
        }
    }
}

/// One of the words of the format.
struct Word {
    bytes: [u8; LONGEST_WORD],
    length: usize,
}

impl Word {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Fills the buffer of `source` if it is empty, and passes over interruptions.
fn fill<R: Read>(source: &mut BufReader<R>) -> io::Result<&[u8]> {
    loop {
        match source.fill_buf() {
            Ok(_) => return Ok(source.buffer()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The contents of a file in an archive. A stream that ends too early is an error here, never a shorter file.
#[derive(Debug)]
pub struct Contents<'a, R> {
    reader: &'a mut NarReader<R>,
}

impl<R> Contents<'_, R> {
    fn left(&self) -> u64 {
        match self.reader.state {
            State::Contents { left, .. } => left,
            _ => 0,
        }
    }

    fn take(&mut self, length: usize) {
        if let State::Contents { left, .. } = &mut self.reader.state {
            *left -= length as u64;
            self.reader.offset += length as u64;
        }
    }
}

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left()).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let length = self.reader.source.read(&mut buffer[..room])?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.take(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Contents<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = self.left();
        if left == 0 {
            return Ok(&[]);
        }
        let bytes = fill(&mut self.reader.source)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, length: usize) {
        let length = length.min(usize::try_from(self.left()).unwrap_or(usize::MAX));
        self.reader.source.consume(length);
        self.take(length);
    }
}
