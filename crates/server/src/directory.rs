//! What a directory can do faster than the store over it, or alone: read many small files in one turn, list millions of
//! files, and drop what was never finished. All of it blocks, and runs on threads for that.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use tokio::sync::mpsc;

use crate::storage::{FileFacts, StorageError};

/// Files that are listed in one piece.
const PIECE: usize = 1024;

/// An upload that was not written to for this long goes on no more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A file and its facts, or why it can't be listed.
type Listed = Result<(Path, FileFacts), StorageError>;

/// Reads a small file; `None` if there is none.
pub(crate) fn read(
    directory: &Utf8Path,
    path: &Path,
    limit: usize,
) -> Result<Option<(Bytes, FileFacts)>, StorageError> {
    let failed = |source| StorageError::Read { path: path.to_string(), source };
    let file = match fs::File::open(directory.join(path.as_ref())) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let facts = facts(&file.metadata().map_err(failed)?).map_err(failed)?;
    let size = usize::try_from(facts.size).ok().filter(|size| *size <= limit);
    let Some(size) = size else { return Err(StorageError::TooLarge { path: path.to_string(), size: facts.size }) };
    let mut bytes = Vec::with_capacity(size + 1);
    file.take(limit as u64).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some((bytes.into(), facts)))
}

fn facts(metadata: &fs::Metadata) -> std::io::Result<FileFacts> {
    Ok(FileFacts { size: metadata.len(), modified: metadata.modified()? })
}

/// All files below `prefix`, in no order. Files that are being written are not among them, and neither is what other
/// programs have put there under names that no URL can have.
pub(crate) fn list(directory: Utf8PathBuf, prefix: Path) -> BoxStream<'static, Listed> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || walk(&directory, prefix, &sender));
    stream::unfold(receiver, |mut pieces: mpsc::Receiver<Vec<Listed>>| async move {
        pieces.recv().await.map(|piece| (stream::iter(piece), pieces))
    })
    .flatten()
    .boxed()
}

fn walk(directory: &Utf8Path, prefix: Path, sender: &mpsc::Sender<Vec<Listed>>) {
    let mut piece = Vec::with_capacity(PIECE);
    let mut waiting = vec![prefix];
    while let Some(path) = waiting.pop() {
        let failed = |source| StorageError::Read { path: path.to_string(), source };
        let entries = match fs::read_dir(directory.join(path.as_ref())) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                piece.push(Err(failed(error)));
                break;
            }
        };
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?))) {
                Ok((name, metadata)) => {
                    let Some(name) = name.to_str().filter(|name| !is_unfinished(name)) else { continue };
                    let Ok(below) =
                        Path::parse(if path.as_ref().is_empty() { name.to_owned() } else { format!("{path}/{name}") })
                    else {
                        continue;
                    };
                    if metadata.is_dir() {
                        waiting.push(below);
                    } else if metadata.is_file() {
                        piece.push(facts(&metadata).map(|facts| (below, facts)).map_err(failed));
                    }
                }
                // It was dropped meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => piece.push(Err(failed(error))),
            }
            if piece.len() >= PIECE {
                // Who has gone away wants no more.
                if sender.blocking_send(std::mem::replace(&mut piece, Vec::with_capacity(PIECE))).is_err() {
                    return;
                }
            }
        }
    }
    let _ = sender.blocking_send(piece);
}

/// `<name>#<number>`: how the store names a file until it is complete.
fn is_unfinished(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Drops what servers that were killed have left anywhere: what is not complete and was not written to for a day.
pub(crate) fn drop_abandoned(directory: &Utf8Path, now: SystemTime) -> Result<(), StorageError> {
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let failed = |source| StorageError::Directory { path: directory.clone(), source };
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // Names that aren't UTF-8 are other programs' files.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                waiting.push(directory.join(name));
            } else if kind.is_file() && is_unfinished(&name) {
                let modified = entry.metadata().and_then(|metadata| metadata.modified());
                let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
                match age.filter(|age| *age > ABANDONED).map_or(Ok(()), |_| fs::remove_file(entry.path())) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_finished_is_dropped_wherever_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let old = SystemTime::now() - ABANDONED * 2;
        let put = |file: &str, modified| {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "x").unwrap();
            fs::File::options().write(true).open(root.join(file)).unwrap().set_modified(modified).unwrap();
        };
        let complete = ["a.narinfo", "nar/b.nar", "notes#", "notes#one", "#/c"];
        let abandoned =
            ["a.narinfo#1", "a.ls#22", "nar/b.nar#1", "nixcache/checked/b.nar#3", "nif/main/c.tar.gz#1", "#/c#1"];
        complete.iter().chain(&abandoned).for_each(|file| put(file, old));
        put("new.narinfo#1", SystemTime::now());
        drop_abandoned(root, SystemTime::now()).unwrap();
        for file in complete.iter().chain(&["new.narinfo#1"]) {
            assert!(root.join(file).is_file(), "{file}");
        }
        for file in abandoned {
            assert!(!root.join(file).exists(), "{file}");
        }
    }
}
