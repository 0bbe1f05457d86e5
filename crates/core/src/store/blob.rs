//! Blobs: file content by its digest. Kept from files or bytes, and placed into target directories.
//!
//! Invariant: a blob's name appears only when the file behind it is complete and bears the fixed stamp. A
//! blob whose stamp or size is off was written to through one of its links, or lost in a power failure; it
//! is hashed again, and dropped if it is not what its name says.

use std::fmt;
use std::fs;
use std::io;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::facts::FileFacts;
use super::hash::{HashedFile, hash_file};
use super::lease::{Lease, with_parent};
use super::platform::{self, CopiedHow};
use crate::digest::ContentDigest;

/// Names a blob, and says how long it is: a blob of another length is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// The blake3 digest of the content.
    pub digest: ContentDigest,
    /// The length in bytes.
    pub size: u64,
    /// Whether the file is executable. The same content with and without it is two blobs, since hard links
    /// share their mode.
    pub executable: bool,
}

impl fmt::Display for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.digest, if self.executable { ".x" } else { "" })
    }
}

/// Whether a file may share its inode with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// By hard link, if the platform, file system and mode allow it, else as [`Placement::Copy`]. Only for
    /// files that everybody replaces rather than rewrites in place.
    Link,
    /// As a clone of the file system, or byte by byte. Never shares an inode.
    Copy,
}

/// How a blob got to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlacedHow {
    /// By hard link.
    Linked,
    /// As a clone.
    Cloned,
    /// Byte by byte.
    Copied,
}

/// How a file got into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertedHow {
    /// The caller's file is now the blob.
    Linked,
    /// The store has a clone.
    Cloned,
    /// The store has a copy.
    Copied,
    /// The store had the blob.
    AlreadyThere {
        /// Whether the caller's file is (now) a link to it.
        linked: bool,
    },
}

/// A file that is now in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsertedBlob {
    /// The blob.
    pub blob: BlobRef,
    /// How it got there.
    pub how: InsertedHow,
    /// The facts of the caller's file afterwards: stamp and inode may be others now.
    pub facts: FileFacts,
}

/// A blob that is what its name says, as far as its length and stamp tell.
#[derive(Clone, Copy, Debug)]
struct SoundBlob {
    facts: FileFacts,
    /// Whether its stamp and mode are what a target directory needs.
    linkable: bool,
}

impl Lease {
    /// Keeps the file at `path`. `known` spares a read if the file's facts are still those.
    ///
    /// With [`Placement::Link`] the caller's file gets the fixed stamp, and where possible becomes a link to
    /// the blob, also if the store had the blob already; with [`Placement::Copy`] it is not touched. Nobody
    /// else may put that stamp on a file: it says that the content is what the store takes it for.
    pub fn insert_file(
        &self,
        path: &Utf8Path,
        known: Option<&HashedFile>,
        placement: Placement,
        executable: bool,
    ) -> Result<InsertedBlob, StoreError> {
        self.check_writable()?;
        let read = |error| StoreError::io("read", path, error);
        let metadata = fs::symlink_metadata(path).map_err(read)?;
        if !metadata.is_file() {
            return Err(StoreError::NotAFile { path: path.to_owned() });
        }
        let before = FileFacts::of_metadata(&metadata);
        let hashed = match known {
            Some(known) if known.facts == before => *known,
            Some(known) => {
                // A link elsewhere changes the facts and not the content, so only the content decides.
                let hashed = hash_file(path)?;
                if (hashed.digest, hashed.size) != (known.digest, known.size) {
                    return Err(StoreError::Changed { path: path.to_owned() });
                }
                hashed
            }
            None => hash_file(path)?,
        };
        let blob = BlobRef { digest: hashed.digest, size: hashed.size, executable };
        let may_link = placement == Placement::Link
            && platform::HARD_LINKS
            && !self.store.inner.options.no_links
            && platform::mode_fits(&metadata, executable);
        if FileFacts::of_path(path).map_err(read)? != hashed.facts {
            return Err(StoreError::Changed { path: path.to_owned() });
        }
        let existing = match self.sound_blob(&blob) {
            Ok(existing) => existing,
            Err(StoreError::DamagedBlob { .. }) => None,
            Err(error) => return Err(error),
        };
        if placement == Placement::Link {
            if existing.is_none_or(|existing| !existing.facts.same_file(&before)) {
                self.drop_other_names(&metadata)?;
            }
            if !platform::has_fixed_mtime(&hashed.facts) {
                platform::stamp(path).map_err(|error| StoreError::io("set the time of", path, error))?;
            }
        }
        let how = match existing {
            Some(existing) => self.deduplicate(path, &blob, &existing, may_link)?,
            None => self.add_file(path, &hashed, &blob, may_link)?,
        };
        let facts = FileFacts::of_path(path).map_err(read)?;
        Ok(InsertedBlob { blob, how, facts })
    }

    /// Keeps `bytes`.
    pub fn insert_bytes(&self, bytes: &[u8], executable: bool) -> Result<BlobRef, StoreError> {
        self.check_writable()?;
        let blob = BlobRef { digest: ContentDigest::of(bytes), size: bytes.len() as u64, executable };
        match self.sound_blob(&blob) {
            Ok(Some(_)) => return Ok(blob),
            Ok(None) | Err(StoreError::DamagedBlob { .. }) => {}
            Err(error) => return Err(error),
        }
        let path = self.layout().blob(&blob);
        let added = self.write_new(&path, |temporary| {
            let written = platform::create_new(temporary, executable)
                .and_then(|mut file| io::Write::write_all(&mut file, bytes))
                .and_then(|()| platform::stamp(temporary));
            written.map_err(|error| StoreError::io("write", temporary, error))
        })?;
        self.count(&path, added);
        Ok(blob)
    }

    /// Whether the store holds the blob, and it is sound as far as its length and stamp tell. Costs one
    /// system call, unless the stamp is off: then the blob is hashed, and dropped if it is damaged.
    pub fn has_blob(&self, blob: &BlobRef) -> Result<bool, StoreError> {
        match self.sound_blob(blob) {
            Ok(sound) => Ok(sound.is_some()),
            Err(StoreError::DamagedBlob { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The content of a blob, checked against its digest. Meant for small ones.
    pub fn read_blob(&self, blob: &BlobRef) -> Result<Vec<u8>, StoreError> {
        let path = self.layout().blob(blob);
        match fs::read(&path) {
            Ok(bytes) if ContentDigest::of(&bytes) == blob.digest => Ok(bytes),
            Ok(_) => Err(self.drop_damaged(blob, "its content is another")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::MissingBlob { blob: *blob }),
            Err(error) => Err(StoreError::io("read", &path, error)),
        }
    }

    /// Puts a blob at `destination`, whose directory exists, in place of what is there. It bears the fixed
    /// stamp. A link replaces an existing file in two steps, a copy in one. Where nothing is there, a copy is
    /// written in place, which spares a rename, and a kill can leave a part of it, without the stamp: what
    /// makes cargo believe a unit, its hash file, must be written by other means, and last.
    pub fn materialise(
        &self,
        blob: &BlobRef,
        destination: &Utf8Path,
        placement: Placement,
    ) -> Result<PlacedHow, StoreError> {
        let source = self.layout().blob(blob);
        let sound = self.sound_blob(blob)?.ok_or(StoreError::MissingBlob { blob: *blob })?;
        if placement == Placement::Link && sound.linkable && platform::HARD_LINKS && !self.store.inner.options.no_links
        {
            let mut linked = fs::hard_link(&source, destination);
            if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                fs::remove_file(destination).map_err(|error| StoreError::io("replace", destination, error))?;
                linked = fs::hard_link(&source, destination);
            }
            match linked {
                Ok(()) => return Ok(PlacedHow::Linked),
                Err(error) if platform::link_is_refused(&error) => {}
                Err(error) => return Err(StoreError::io("link", destination, error)),
            }
        }
        self.copy_out(blob, &source, destination)
    }

    /// Removes a blob that is known to be bad. Returns the error to report.
    pub(super) fn drop_damaged(&self, blob: &BlobRef, why: &str) -> StoreError {
        if self.is_writable() {
            // If it can't be removed, the next reader finds the same damage.
            let _ = fs::remove_file(self.layout().blob(blob));
        }
        StoreError::DamagedBlob { blob: *blob, why: why.to_owned() }
    }

    /// Looks at a blob's length and stamp. If the stamp is off, only the content decides.
    fn sound_blob(&self, blob: &BlobRef) -> Result<Option<SoundBlob>, StoreError> {
        let path = self.layout().blob(blob);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let mut sound = SoundBlob {
            facts: FileFacts::of_metadata(&metadata),
            linkable: platform::mode_fits(&metadata, blob.executable),
        };
        if sound.facts.size != blob.size {
            return Err(self.drop_damaged(blob, "its length is another"));
        }
        if !platform::has_fixed_mtime(&sound.facts) {
            match hash_file(&path) {
                Ok(file) if file.digest == blob.digest => {}
                Ok(_) => return Err(self.drop_damaged(blob, "it was written to, and its content is another")),
                Err(StoreError::Changed { .. }) => return Err(self.drop_damaged(blob, "it is being written to")),
                Err(error) => return Err(error),
            }
            // Somebody else's file can't be stamped; then it is not linked, since the link would carry the
            // wrong time into a target directory.
            sound.linkable &= self.is_writable() && platform::stamp(&path).is_ok();
        }
        Ok(Some(sound))
    }

    /// Drops every blob that is the very file with `metadata`, which is about to be stamped under the name
    /// that its content has now. It can only have got there by being rewritten in place through a link, and
    /// the stamp would hide that.
    fn drop_other_names(&self, metadata: &fs::Metadata) -> Result<(), StoreError> {
        if !platform::may_have_links(metadata) {
            return Ok(());
        }
        let inode = FileFacts::of_metadata(metadata).inode;
        for name in self.blobs_of_inode(inode)? {
            let path = self.layout().blobs().join(name);
            // The look-up table may be older than the file.
            if FileFacts::of_path(&path).is_ok_and(|facts| facts.same_file(&FileFacts::of_metadata(metadata))) {
                fs::remove_file(&path).map_err(|error| StoreError::io("remove", &path, error))?;
            }
        }
        Ok(())
    }

    fn add_file(
        &self,
        path: &Utf8Path,
        hashed: &HashedFile,
        blob: &BlobRef,
        may_link: bool,
    ) -> Result<InsertedHow, StoreError> {
        let to = self.layout().blob(blob);
        if may_link {
            if blob.executable && !self.store.inner.options.no_sync {
                // Linkers write through a mapping of a file whose length is set first. After a loss of power
                // such a file can have the right length and no content; other files are then too short.
                let synced = fs::File::open(path).and_then(|file| file.sync_data());
                synced.map_err(|error| StoreError::io("write", path, error))?;
            }
            match with_parent(&to, || fs::hard_link(path, &to)) {
                Ok(()) => {
                    self.linked(hashed.facts.inode, &to);
                    self.count(&to, true);
                    return Ok(InsertedHow::Linked);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Ok(InsertedHow::AlreadyThere { linked: false });
                }
                Err(error) if platform::link_is_refused(&error) => {}
                Err(error) => return Err(StoreError::io("write", &to, error)),
            }
        }
        let mut how = CopiedHow::Copied;
        let added = self.write_new(&to, |temporary| {
            let failed = |error| StoreError::io("write", temporary, error);
            how = platform::copy_new(path, temporary, blob.executable, blob.size, &self.store.inner.try_clone)
                .map_err(failed)?;
            // The file may have changed since it was hashed, and only the copy is what will be used.
            let now = FileFacts::of_path(path).map_err(|error| StoreError::io("read", path, error))?;
            if now != hashed.facts {
                let copy = hash_file(temporary)?;
                if (copy.digest, copy.size) != (blob.digest, blob.size) {
                    return Err(StoreError::Changed { path: path.to_owned() });
                }
            }
            Ok(())
        })?;
        self.count(&to, added);
        Ok(match how {
            _ if !added => InsertedHow::AlreadyThere { linked: false },
            CopiedHow::Cloned => InsertedHow::Cloned,
            CopiedHow::Copied => InsertedHow::Copied,
        })
    }

    /// The store has the blob; makes the caller's file a link to it, if that is allowed.
    fn deduplicate(
        &self,
        path: &Utf8Path,
        blob: &BlobRef,
        existing: &SoundBlob,
        may_link: bool,
    ) -> Result<InsertedHow, StoreError> {
        let facts = FileFacts::of_path(path).map_err(|error| StoreError::io("read", path, error))?;
        if facts.same_file(&existing.facts) {
            return Ok(InsertedHow::AlreadyThere { linked: true });
        }
        if !may_link || !existing.linkable {
            return Ok(InsertedHow::AlreadyThere { linked: false });
        }
        let temporary = self.layout().temporary_beside(path);
        let linked = fs::hard_link(self.layout().blob(blob), &temporary)
            .and_then(|()| fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary))));
        match linked {
            Ok(()) => Ok(InsertedHow::AlreadyThere { linked: true }),
            // The file stays as it is, which is as good, only not shared.
            Err(_) => Ok(InsertedHow::AlreadyThere { linked: false }),
        }
    }

    fn copy_out(&self, blob: &BlobRef, source: &Utf8Path, destination: &Utf8Path) -> Result<PlacedHow, StoreError> {
        let clones = &self.store.inner.try_clone;
        let mut placed = platform::copy_new(source, destination, blob.executable, blob.size, clones);
        let mut path = destination.to_owned();
        if placed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            // The store's own directory for temporary files is swept after a kill, a target directory is not.
            path = if self.is_writable() && self.on_same_device(destination) {
                self.layout().temporary()
            } else {
                self.layout().temporary_beside(destination)
            };
            placed = platform::copy_new(source, &path, blob.executable, blob.size, clones);
        }
        let how = placed.map_err(|error| StoreError::io("write", destination, error))?;
        let finish = || {
            // The blob may have been truncated through a link since its length was looked at.
            let whole = fs::symlink_metadata(&path)?.len() == blob.size;
            if !whole {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob changed meanwhile"));
            }
            if path == destination { Ok(()) } else { fs::rename(&path, destination) }
        };
        finish().map_err(|error| {
            let _ = fs::remove_file(&path);
            StoreError::io("write", destination, error)
        })?;
        Ok(match how {
            CopiedHow::Cloned => PlacedHow::Cloned,
            CopiedHow::Copied => PlacedHow::Copied,
        })
    }

    fn on_same_device(&self, destination: &Utf8Path) -> bool {
        let device = |path: &Utf8Path| FileFacts::of_path(path).map(|facts| facts.device).ok();
        let here = device(&self.layout().temporary_directory());
        here.is_some_and(|here| here != 0) && destination.parent().and_then(device) == here
    }

    pub(super) fn count(&self, path: &Utf8Path, added: bool) {
        if added && let Ok(metadata) = fs::symlink_metadata(path) {
            self.grew_by(platform::allocated_size(&metadata));
        }
    }
}
