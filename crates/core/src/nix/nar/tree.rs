//! Trees on disk, into a NAR and out of it.
//!
//! What is unpacked comes from outside. Everything is made with calls that fail if the name is there, below a
//! destination that is made first, and names are plain and strictly ascending: so no link that the archive made is ever
//! followed, on any file system (one that takes two names for one fails).

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, Read, Write};
use std::path::{Path, PathBuf};

use camino::Utf8Path;

use super::reader::{Contents, Event, NarError, NarReader};
use super::writer::{NarWriteError, NarWriter};

/// Why a tree could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The archive is not one that we take.
    #[error("unpack {destination}")]
    Archive {
        /// Where it was to go.
        destination: PathBuf,
        /// What is wrong.
        #[source]
        source: NarError,
    },
    /// The archive could not be written.
    #[error("pack {path}")]
    Pack {
        /// The file or directory that was being packed.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: NarWriteError,
    },
    /// The system said no.
    #[error("{action} {path}")]
    System {
        /// What was to be done, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Neither file nor directory nor symbolic link.
    #[error("pack {path}: it is neither file nor directory nor symbolic link")]
    Special {
        /// What it is.
        path: PathBuf,
    },
    /// The system can't have a file of this name.
    #[error("make a file {name:?} in {directory}: this system has no such names")]
    Name {
        /// Where.
        directory: PathBuf,
        /// The name, as far as it is UTF-8.
        name: String,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    move |source| TreeError::System { action, path: path.to_owned(), source }
}

/// Writes the NAR of the file, link or directory at `path`. Links are not followed.
pub fn write_path(path: &Utf8Path, destination: impl Write) -> Result<(), TreeError> {
    let pack = |source| TreeError::Pack { path: path.as_std_path().to_owned(), source };
    let mut writer = NarWriter::new(destination);
    write_node(path.as_std_path(), &mut writer)?;
    writer.finish().map_err(pack)?;
    Ok(())
}

/// Calls itself for what is in a directory; the writer refuses to go too deep.
fn write_node<W: Write>(path: &Path, writer: &mut NarWriter<W>) -> Result<(), TreeError> {
    let pack = |source| TreeError::Pack { path: path.to_owned(), source };
    let kind = fs::symlink_metadata(path).map_err(failed("look at", path))?.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(failed("read the link", path))?;
        writer.symlink(bytes_of(target.as_os_str())).map_err(pack)
    } else if kind.is_dir() {
        writer.begin_directory().map_err(pack)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed("list", path))? {
            names.push(entry.map_err(failed("list", path))?.file_name());
        }
        names.sort_unstable_by(|one, two| bytes_of(one).cmp(bytes_of(two)));
        for name in names {
            writer.entry(bytes_of(&name)).map_err(pack)?;
            write_node(&path.join(&name), writer)?;
        }
        writer.end_directory().map_err(pack)
    } else if kind.is_file() {
        let mut file = File::open(path).map_err(failed("open", path))?;
        let metadata = file.metadata().map_err(failed("look at", path))?;
        writer.regular(is_executable(&metadata), metadata.len(), &mut file).map_err(pack)
    } else {
        Err(TreeError::Special { path: path.to_owned() })
    }
}

/// Makes the tree of an archive at `destination`, where nothing may be, and reads the archive to its end. If anything
/// fails, what was made is removed.
pub fn unpack<R: Read>(reader: &mut NarReader<R>, destination: &Utf8Path) -> Result<(), TreeError> {
    let mut unpacking = Unpacking { path: destination.as_std_path().to_owned(), depth: 0, made: None };
    let done = unpacking.run(reader, destination.as_std_path());
    if done.is_err() {
        // The first error is the one to tell.
        let _ = match unpacking.made {
            Some(Made::Directory) => fs::remove_dir_all(destination),
            Some(Made::File) => fs::remove_file(destination),
            None => Ok(()),
        };
    }
    done
}

/// What was made at the destination itself.
#[derive(Clone, Copy)]
enum Made {
    Directory,
    File,
}

struct Unpacking {
    /// Where the next node goes.
    path: PathBuf,
    /// Open directories.
    depth: usize,
    made: Option<Made>,
}

impl Unpacking {
    fn run<R: Read>(&mut self, reader: &mut NarReader<R>, destination: &Path) -> Result<(), TreeError> {
        let archive = |source| TreeError::Archive { destination: destination.to_owned(), source };
        while let Some(event) = reader.next_event().map_err(archive)? {
            match event {
                Event::Entry { name } => {
                    let plain = name_of(name).ok_or_else(|| TreeError::Name {
                        directory: self.path.clone(),
                        name: String::from_utf8_lossy(name).into_owned(),
                    })?;
                    self.path.push(plain);
                }
                Event::DirectoryStart => {
                    fs::create_dir(&self.path).map_err(failed("make the directory", &self.path))?;
                    self.made.get_or_insert(Made::Directory);
                    self.depth += 1;
                }
                Event::DirectoryEnd => {
                    self.depth -= 1;
                    self.leave_node();
                }
                Event::Symlink { target } => {
                    make_symlink(target, &self.path).map_err(failed("make the link", &self.path))?;
                    self.made.get_or_insert(Made::File);
                    self.leave_node();
                }
                Event::Regular { executable, mut contents, .. } => {
                    let mut file = create(&self.path, executable).map_err(failed("make", &self.path))?;
                    self.made.get_or_insert(Made::File);
                    copy(&mut contents, &mut file, &self.path)?;
                    self.leave_node();
                }
            }
        }
        Ok(())
    }

    /// The node at `path` is complete: back to its directory, if it is in one.
    fn leave_node(&mut self) {
        if self.depth > 0 {
            self.path.pop();
        }
    }
}

/// Writes from the reader's own buffer.
fn copy<R: Read>(contents: &mut Contents<'_, R>, file: &mut File, path: &Path) -> Result<(), TreeError> {
    loop {
        let bytes = contents.fill_buf().map_err(failed("read the contents of", path))?;
        if bytes.is_empty() {
            return Ok(());
        }
        file.write_all(bytes).map_err(failed("write", path))?;
        let length = bytes.len();
        contents.consume(length);
    }
}

#[cfg(unix)]
fn bytes_of(name: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(name)
}

/// Names that are not Unicode become ones that no reader takes for a name: they hold a zero byte.
#[cfg(not(unix))]
fn bytes_of(name: &OsStr) -> &[u8] {
    name.to_str().map_or(b"\0", str::as_bytes)
}

#[cfg(unix)]
fn name_of(name: &[u8]) -> Option<&OsStr> {
    Some(std::os::unix::ffi::OsStrExt::from_bytes(name))
}

/// On Windows a name with a backslash, a colon or a trailing dot is another place or another name.
#[cfg(not(unix))]
fn name_of(name: &[u8]) -> Option<&OsStr> {
    let name = std::str::from_utf8(name).ok()?;
    let plain = !name.contains(['\\', ':']) && !name.ends_with(['.', ' ']);
    plain.then(|| OsStr::new(name))
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

fn create(path: &Path, executable: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if executable { 0o777 } else { 0o666 });
    #[cfg(not(unix))]
    let _ = executable;
    options.open(path)
}

#[cfg(unix)]
fn make_symlink(target: &[u8], path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(target), path)
}

#[cfg(not(unix))]
fn make_symlink(_: &[u8], _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
