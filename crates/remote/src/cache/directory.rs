//! `file://`: a cache in a directory of this machine, or of one that is mounted here.
//!
//! Files are made beside their places and renamed. A narinfo can't lead out of the directory.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::BoxFuture;
use nixcache_core::nix::NarUrl;
use tempfile::NamedTempFile;

use super::NarSource;
use super::layout::{Files, plain_name};
use crate::error::CacheError;

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
                let Some(file) = found(File::open(path))? else { return Ok(None) };
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

    fn open<'a>(&'a self, url: &'a NarUrl) -> BoxFuture<'a, Result<Option<NarSource>, CacheError>> {
        Box::pin(async move {
            let file = self.with(plain_name(url)?, |path| found(File::open(path))).await?;
            Ok(file.map(NarSource::File))
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
