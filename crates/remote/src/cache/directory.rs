//! `file://`: a cache in a directory of this machine, or of one that is mounted here.
//!
//! Files are made beside their places and renamed. A narinfo can't lead out of the directory.
//!
//! A directory can be a mount that hangs, and what is in it can be a pipe that nobody writes to. So only regular files
//! are read, and always on a thread that nobody waits for without end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use nixcache_core::nix::NarUrl;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::NarPieces;
use super::layout::{Files, plain_name};
use crate::error::CacheError;

/// How much of a file is read at once.
const PIECE: u64 = 128 * 1024;

/// Pieces that are read before they are wanted.
const PIECES_AHEAD: usize = 4;

/// The files below a directory.
pub(crate) struct Directory {
    root: Utf8PathBuf,
}

impl Directory {
    pub(crate) fn new(root: Utf8PathBuf) -> Self {
        Self { root }
    }

    /// Does something with the file `name` on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        name: &str,
        act: impl FnOnce(&Utf8Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, CacheError> {
        let path = self.root.join(name);
        let shown = path.to_string();
        let result = tokio::task::spawn_blocking(move || act(&path)).await;
        // A panic there would be a defect of ours; as an error it stops one path, not the build.
        let result = result.unwrap_or_else(|_| Err(io::Error::other("the thread that used it ended")));
        result.map_err(|source| CacheError::File { path: shown, source })
    }
}

/// `None` for what isn't there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a regular file to read. What is none is refused without waiting for anybody to open its other end.
fn open(path: &Utf8Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// What is in a file, read a few pieces ahead on a thread that may block. `path` is how the file is shown. Whoever
/// drops the pieces doesn't wait for the thread, which ends with the piece that it is reading.
fn pieces(file: File, path: String) -> NarPieces {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = Vec::with_capacity(PIECE as usize);
            let piece = match (&file).take(PIECE).read_to_end(&mut piece) {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(piece)),
                Err(source) => Err(CacheError::File { path: path.clone(), source }),
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) }).boxed()
}

/// A new file beside `path`, readable for all who may read the directory: a cache is often shared between users.
fn temporary(path: &Utf8Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().expect("a file of the cache is in a directory");
    std::fs::create_dir_all(directory)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".new-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o644));
    }
    builder.tempfile_in(directory)
}

impl Files for Directory {
    fn get<'a>(&'a self, name: &'a str, limit: usize) -> BoxFuture<'a, Result<Option<Bytes>, CacheError>> {
        Box::pin(async move {
            let read = self.with(name, move |path| {
                let Some(file) = found(open(path))? else { return Ok(None) };
                let mut bytes = Vec::new();
                file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            });
            match read.await? {
                Some(bytes) if bytes.len() > limit => {
                    Err(CacheError::TooLarge { address: self.root.join(name).into(), limit: limit as u64 })
                }
                bytes => Ok(bytes.map(Bytes::from)),
            }
        })
    }

    fn open<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarPieces>, CacheError>> {
        Box::pin(async move {
            let name = plain_name(url)?;
            let file = self.with(name, |path| found(open(path))).await?;
            Ok(file.map(|file| pieces(file, self.root.join(name).into_string())))
        })
    }

    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Option<u64>>, CacheError>> {
        Box::pin(async move {
            let metadata = self.with(name, |path| found(std::fs::metadata(path))).await?;
            Ok(metadata.map(|metadata| Some(metadata.len())))
        })
    }

    fn create<'a>(
        &'a self,
        name: &'a str,
        bytes: Bytes,
        _media_type: &'static str,
    ) -> BoxFuture<'a, Result<bool, CacheError>> {
        Box::pin(self.with(name, move |path| {
            let mut file = temporary(path)?;
            file.write_all(&bytes)?;
            match file.persist_noclobber(path) {
                Ok(_) => Ok(true),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.error),
            }
        }))
    }

    fn upload<'a>(
        &'a self,
        name: &'a str,
        file: &'a Path,
        size: u64,
        moved: &'a (dyn Fn(u64) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), CacheError>> {
        let source = file.to_owned();
        Box::pin(async move {
            self.with(name, move |path| {
                let mut destination = temporary(path)?;
                io::copy(&mut File::open(source)?, &mut destination)?;
                destination.persist(path).map(|_| ()).map_err(|error| error.error)
            })
            .await?;
            moved(size);
            Ok(())
        })
    }
}
