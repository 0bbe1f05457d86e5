//! The files of the cache, in a directory or in a bucket. What is written becomes visible at once or not at all, and
//! a new file never takes the place of another unless the caller says so.

use std::io::Read as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use camino::Utf8PathBuf;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    GetOptions, GetResultPayload, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::bucket::open_bucket;
use crate::directory;
use crate::location::Location;

/// How much of a file is read at once.
const READ: usize = 256 << 10;

/// How much of an upload is kept until it is written. S3 takes no smaller parts than 5 MiB, and 10,000 of them.
const PART: usize = 8 << 20;

/// Small files of a bucket that are read at once.
const READS_AT_ONCE: usize = 32;

/// Why the cache's files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The directory can't be made or opened.
    #[error("open the directory {path}")]
    Directory {
        /// The directory.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Another server uses the directory.
    #[error("use the directory {path}: another server uses it")]
    Locked {
        /// The directory.
        path: Utf8PathBuf,
    },
    /// The bucket can't be used.
    #[error("open the bucket {bucket}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// What is wrong.
        #[source]
        source: object_store::Error,
    },
    /// The HTTP client for buckets can't be made.
    #[error("set up TLS")]
    Client {
        /// What is wrong.
        #[source]
        source: reqwest::Error,
    },
    /// A file can't be read, written, listed or dropped.
    #[error("{action} {path}")]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file, from the cache's root.
        path: String,
        /// What is wrong.
        #[source]
        source: object_store::Error,
    },
    /// Files can't be dropped.
    #[error("drop files")]
    Drop {
        /// What is wrong; it names the file.
        #[source]
        source: object_store::Error,
    },
    /// A file ended early, or could not be read further.
    #[error("read {path}")]
    Read {
        /// The file, from the cache's root.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A small file is not small.
    #[error("read {path}: it has {size} bytes")]
    TooLarge {
        /// The file, from the cache's root.
        path: String,
        /// Its size.
        size: u64,
    },
}

/// The size of a file, and when it was written, or used last if [`Storage::touch`] works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileFacts {
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

impl From<&ObjectMeta> for FileFacts {
    fn from(meta: &ObjectMeta) -> Self {
        Self { size: meta.size, modified: meta.last_modified.into() }
    }
}

/// The files of a cache.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    store: Arc<dyn ObjectStore>,
    directory: Option<Utf8PathBuf>,
    creation: Arc<Creation>,
    /// Holds the directory's lock as long as anyone uses it.
    _lock: Option<Arc<std::fs::File>>,
}

/// How a file is made that must not be there yet.
#[derive(Debug, Default)]
struct Creation {
    /// Whether the store refuses to make what is there (`If-None-Match: *`). Some don't know that condition, refuse it
    /// or, as Garage, pass over it.
    refuses: OnceCell<bool>,
    /// Nobody else in this server makes the same file meanwhile.
    turns: Turns,
}

/// Locks for files, chosen by their names.
#[derive(Debug)]
struct Turns([Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    async fn take(&self, path: &Path) -> MutexGuard<'_, ()> {
        let sum = path.as_ref().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.0[sum % self.0.len()].lock().await
    }
}

impl Storage {
    /// Opens the directory, which is made if it isn't there, or the bucket. `settings` are those of `AWS_*`
    /// variables.
    pub(crate) fn open(location: &Location, settings: &[(String, String)]) -> Result<Self, StorageError> {
        match location {
            Location::Directory(path) => Self::open_directory(path),
            Location::Bucket(bucket) => {
                let store = Arc::new(open_bucket(bucket, settings)?);
                Ok(Self { store, directory: None, creation: Arc::default(), _lock: None })
            }
        }
    }

    fn open_directory(path: &Utf8PathBuf) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Directory { path: path.clone(), source };
        std::fs::create_dir_all(path.join("nar")).map_err(failed)?;
        std::fs::create_dir_all(path.join(crate::layout::OWN)).map_err(failed)?;
        let lock = std::fs::File::create(path.join(crate::layout::OWN).join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(StorageError::Locked { path: path.clone() }),
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let store = LocalFileSystem::new_with_prefix(path)
            .map_err(|error| StorageError::Directory { path: path.clone(), source: error.into() })?
            .with_fsync(true);
        let creation = Creation { refuses: OnceCell::new_with(Some(true)), turns: Turns::default() };
        let (store, creation) = (Arc::new(store), Arc::new(creation));
        Ok(Self { store, directory: Some(path.clone()), creation, _lock: Some(Arc::new(lock)) })
    }

    /// Whether other servers can use the same files.
    pub(crate) fn is_shared(&self) -> bool {
        self.directory.is_none()
    }

    /// Reads a small file; `None` if there is none.
    pub(crate) async fn read(&self, path: &Path, limit: usize) -> Result<Option<(Bytes, FileFacts)>, StorageError> {
        if let Some(directory) = &self.directory {
            let (directory, file) = (directory.clone(), path.clone());
            // One turn on the threads for what blocks, where the store would take two.
            let read = tokio::task::spawn_blocking(move || directory::read(&directory, &file, limit)).await;
            return read
                .unwrap_or_else(|error| Err(StorageError::Read { path: path.to_string(), source: error.into() }));
        }
        let failed = |source| file_error("read", path, source);
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let facts = FileFacts::from(&found.meta);
        if facts.size > limit as u64 {
            return Err(StorageError::TooLarge { path: path.to_string(), size: facts.size });
        }
        Ok(Some((found.bytes().await.map_err(failed)?, facts)))
    }

    /// The facts of a file; `None` if there is none.
    pub(crate) async fn facts(&self, path: &Path) -> Result<Option<FileFacts>, StorageError> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(FileFacts::from(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(file_error("look at", path, source)),
        }
    }

    /// Writes a small file unless there is one already. Tells whether it was written.
    ///
    /// In a bucket whose store doesn't [refuse](Self::refuses_to_overwrite) by itself, another server that makes the
    /// same file at the same moment may not be seen.
    pub(crate) async fn put_new(&self, path: &Path, bytes: Bytes) -> Result<bool, StorageError> {
        // Some stores look first and write then, which is not enough when two come at once.
        let _turn = if self.is_shared() { Some(self.creation.turns.take(path).await) } else { None };
        if !self.refuses_to_overwrite().await? {
            if self.facts(path).await?.is_some() {
                return Ok(false);
            }
            self.put(path, bytes).await?;
            return Ok(true);
        }
        self.create(path, bytes).await.map_err(|source| file_error("write", path, source))
    }

    async fn create(&self, path: &Path, bytes: Bytes) -> object_store::Result<bool> {
        match self.store.put_opts(path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(source) => Err(source),
        }
    }

    /// Whether the store refuses to make a file that is there. Found out with a file of our own, once.
    pub(crate) async fn refuses_to_overwrite(&self) -> Result<bool, StorageError> {
        let probe = crate::layout::probe();
        let find_out = async || {
            self.put(&probe, Bytes::from_static(b"may this be overwritten?\n")).await?;
            match self.create(&probe, Bytes::from_static(b"it may\n")).await {
                Ok(created) => Ok(!created),
                Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => Ok(false),
                Err(source) => Err(file_error("write", &probe, source)),
            }
        };
        self.creation.refuses.get_or_try_init(find_out).await.copied()
    }

    /// Writes a small file, in place of another.
    pub(crate) async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), StorageError> {
        self.store.put(path, bytes.into()).await.map(|_| ()).map_err(|source| file_error("write", path, source))
    }

    /// Begins a file of any size. It becomes visible when it is finished.
    pub(crate) fn begin(&self, path: Path) -> Upload {
        Upload { store: Arc::clone(&self.store), path, buffer: BytesMut::new(), parts: None }
    }

    /// Reads a part of a file as a stream; `None` if there is no such file.
    pub(crate) async fn stream(
        &self,
        path: &Path,
        range: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, StorageError>>>, StorageError> {
        let options = GetOptions::new().with_range(Some(range.clone()));
        let found = match self.store.get_opts(path, options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(file_error("read", path, source)),
        };
        let path = path.clone();
        Ok(Some(match found.payload {
            GetResultPayload::File(file, _) => file_stream(file, found.range, path),
            GetResultPayload::Stream(stream) => stream.map_err(move |source| file_error("read", &path, source)).boxed(),
        }))
    }

    /// Drops a file; that there is none is no error.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), StorageError> {
        self.delete_all(vec![path.clone()]).await
    }

    /// Drops files, in no order, several at once.
    pub(crate) async fn delete_all(&self, paths: Vec<Path>) -> Result<(), StorageError> {
        let paths = stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut dropped = self.store.delete_stream(paths);
        while let Some(dropped) = dropped.next().await {
            match dropped {
                Err(error) if !is_gone(&error) => return Err(StorageError::Drop { source: error }),
                _ => {}
            }
        }
        Ok(())
    }

    /// All files below `prefix`, in no order. Files that are being written are not among them.
    pub(crate) fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<(Path, FileFacts), StorageError>> {
        let path = prefix.cloned().unwrap_or_default();
        if let Some(directory) = &self.directory {
            return directory::list(directory.clone(), path);
        }
        self.store
            .list(prefix)
            .map(move |file| match file {
                Ok(meta) => Ok((meta.location.clone(), FileFacts::from(&meta))),
                Err(source) => Err(file_error("list", &path, source)),
            })
            .boxed()
    }

    /// Reads small files, many at once; `None` for those that there aren't.
    pub(crate) async fn read_all(&self, paths: Vec<Path>, limit: usize) -> Vec<Result<Option<Bytes>, StorageError>> {
        let Some(directory) = self.directory.clone() else {
            let read = |path: Path| async move { Ok(self.read(&path, limit).await?.map(|(bytes, _)| bytes)) };
            let reads: Vec<_> = paths.into_iter().map(read).collect();
            return stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        };
        let read = move || {
            let read = |path: &Path| Ok(directory::read(&directory, path, limit)?.map(|(bytes, _)| bytes));
            paths.iter().map(read).collect()
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read,
            Err(error) => vec![Err(StorageError::Read { path: "narinfos".into(), source: error.into() })],
        }
    }

    /// Notes that a file is in use, for garbage collection. Buckets can't; there, the time of writing counts.
    pub(crate) async fn touch(&self, path: &Path) {
        let Some(directory) = &self.directory else { return };
        let file = directory.join(path.as_ref());
        let touched = tokio::task::spawn_blocking(move || {
            std::fs::File::options().write(true).open(file)?.set_modified(SystemTime::now())
        });
        // The file may be gone, or not ours to touch: then it counts as used when it was written.
        let _ = touched.await;
    }

    /// Drops what servers that were killed have left in a directory: what was not written to for a day.
    pub(crate) async fn drop_abandoned(&self, now: SystemTime) -> Result<(), StorageError> {
        let Some(directory) = self.directory.clone() else { return Ok(()) };
        let failed = |source| StorageError::Read { path: "the directory".into(), source };
        let dropped = tokio::task::spawn_blocking(move || directory::drop_abandoned(&directory, now)).await;
        dropped.unwrap_or_else(|error| Err(failed(error.into())))
    }
}

/// Whether a file was dropped while the files were listed. The store doesn't always say it in the same way.
fn is_gone(error: &object_store::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return true;
        }
        source = error.source();
    }
    matches!(error, object_store::Error::NotFound { .. })
}

fn file_error(action: &'static str, path: &Path, source: object_store::Error) -> StorageError {
    StorageError::File { action, path: path.to_string(), source }
}

/// Reads `range` of a file in pieces, on the threads for what blocks.
fn file_stream(file: std::fs::File, range: Range<u64>, path: Path) -> BoxStream<'static, Result<Bytes, StorageError>> {
    let start = move |mut file: std::fs::File, at: u64| {
        use std::io::Seek as _;
        if at > 0 {
            file.seek(std::io::SeekFrom::Start(at))?;
        }
        Ok::<_, std::io::Error>(file)
    };
    let state = (Some(file), range.start, range.end);
    stream::try_unfold(state, move |(file, at, end)| {
        let path = path.clone();
        async move {
            let Some(file) = file.filter(|_| at < end) else { return Ok(None) };
            let read = tokio::task::spawn_blocking(move || {
                // The position of the file is ours alone: after the first piece it is where it should be.
                let mut file = if at == range.start { start(file, at)? } else { file };
                let length = READ.min(usize::try_from(end - at).unwrap_or(READ));
                let mut buffer = vec![0; length];
                file.read_exact(&mut buffer)?;
                Ok((file, Bytes::from(buffer)))
            });
            match read.await {
                Ok(Ok((file, bytes))) => {
                    let next = at + bytes.len() as u64;
                    Ok(Some((bytes, (Some(file), next, end))))
                }
                Ok(Err(source)) => Err(StorageError::Read { path: path.to_string(), source }),
                Err(error) => Err(StorageError::Read { path: path.to_string(), source: error.into() }),
            }
        }
    })
    .boxed()
}

/// A file that is being written. Dropped before it is finished, it leaves nothing.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    buffer: BytesMut,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    /// Adds bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PART { self.write_part().await } else { Ok(()) }
    }

    async fn write_part(&mut self) -> Result<(), StorageError> {
        let failed = |source| file_error("write", &self.path, source);
        let part = self.buffer.split().freeze();
        if self.parts.is_none() {
            self.parts = Some(self.store.put_multipart(&self.path).await.map_err(failed)?);
        }
        let parts = self.parts.as_mut().expect("it was made above");
        parts.put_part(PutPayload::from(part)).await.map_err(|source| file_error("write", &self.path, source))
    }

    /// Makes the file visible, in place of another of this name.
    pub(crate) async fn finish(mut self) -> Result<(), StorageError> {
        if self.parts.is_some() && !self.buffer.is_empty() {
            self.write_part().await?;
        }
        let failed = |source| file_error("write", &self.path, source);
        match &mut self.parts {
            None => self.store.put(&self.path, self.buffer.split().freeze().into()).await.map_err(failed)?,
            Some(parts) => parts.complete().await.map_err(failed)?,
        };
        Ok(())
    }

    /// Drops what was written. A bucket keeps parts for ever unless it is told.
    pub(crate) async fn abort(mut self) -> Result<(), StorageError> {
        match &mut self.parts {
            Some(parts) => parts.abort().await.map_err(|source| file_error("drop", &self.path, source)),
            None => Ok(()),
        }
    }
}
