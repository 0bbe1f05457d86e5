//! Libraries and archives on this machine: in the store, and where programs look for them.
//!
//! A virtual machine may have a library mapped, and dies if its bytes change. So no file is ever written to: a new one
//! is made beside it and takes its name. Who has the old one open keeps it.

use std::io::{BufReader, Write as _};
use std::time::SystemTime;

use camino::Utf8Path;
use nixcache_core::nif::LockedPath;
use nixcache_core::nix::{Sha256, Sha256Hasher};
use nixcache_core::store::{Lease, NewNode, StoreError};

use super::NifError;
use crate::replace::directory_of;

/// The kind of the records in the store.
const KIND: &str = "nif";

/// What the store holds of a path; `None` if it has nothing, or something that is not what was locked.
pub(super) fn kept(lease: &Lease, path: &LockedPath, hash: &Sha256) -> Result<Option<Vec<u8>>, StoreError> {
    let key = path.key();
    let node = match lease.get_node(&key) {
        Ok(Some(node)) => node,
        // A damaged record was dropped, and is as good as none.
        Ok(None) | Err(StoreError::DamagedNode { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(blob) = node.blobs.first().filter(|_| node.kind == KIND) else { return Ok(None) };
    match lease.read_blob(blob) {
        Ok(bytes) if Sha256::of(&bytes) == *hash => {
            // When it was used last decides how long it stays. A store that can't be written doesn't remember.
            let _ = lease.touch(&[key], SystemTime::now());
            Ok(Some(bytes))
        }
        Ok(_) | Err(StoreError::DamagedBlob { .. } | StoreError::MissingBlob { .. }) => {
            // It could never be used, and would be in the way of what can.
            let _ = lease.remove_node(&key);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Keeps what a path is for, if the store can be written.
pub(super) fn keep(lease: &Lease, path: &LockedPath, label: &str, bytes: &[u8]) -> Result<(), StoreError> {
    if !lease.is_writable() {
        return Ok(());
    }
    let blob = lease.insert_bytes(bytes, false)?;
    let payload = path.path.to_string();
    let node = NewNode { key: path.key(), kind: KIND, label, blobs: &[blob], nodes: &[], payload: payload.as_bytes() };
    lease.put_node(&node).map(|_| ())
}

/// Whether the file at `path` has this content. Read in pieces: libraries can be large.
pub(super) fn is_there(path: &Utf8Path, hash: &Sha256, size: u64) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == size) {
        return false;
    }
    let mut hasher = Sha256Hasher::new();
    let copied = std::io::copy(&mut BufReader::with_capacity(1 << 18, file), &mut hasher);
    copied.is_ok() && hasher.finish() == *hash
}

/// Puts a file in its place, at once or not at all.
pub(super) fn replace(path: &Utf8Path, bytes: &[u8], executable: bool) -> Result<(), NifError> {
    let failed = |path: &Utf8Path| {
        let path = path.to_owned();
        move |source| NifError::File { path, source }
    };
    let directory = directory_of(path);
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".nixcache-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if executable { 0o755 } else { 0o644 };
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = executable;
    let mut file = builder.tempfile_in(directory).map_err(failed(directory))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_data()).map_err(failed(path))?;
    file.persist(path).map_err(|error| NifError::File { path: path.to_owned(), source: error.error })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_never_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("priv/native/x.so");
        replace(&path, b"one", true).unwrap();
        let mut open = std::fs::File::open(&path).unwrap();
        replace(&path, b"other", true).unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), std::fs::read(&path).unwrap().as_slice()), ("one", &b"other"[..]));
        assert!(is_there(&path, &Sha256::of(b"other"), 5));
        assert!(!is_there(&path, &Sha256::of(b"one"), 5) && !is_there(&path, &Sha256::of(b"one"), 3));
        assert_eq!(path.parent().unwrap().read_dir_utf8().unwrap().count(), 1, "nothing else is left");
    }
}
