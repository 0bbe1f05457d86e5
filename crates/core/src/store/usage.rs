//! An approximate figure of how large the store is, so that a build need not scan it to know.
//!
//! The file `usage` is a list of numbers, one a line, whose sum is the allocated bytes. Each lease that added
//! something appends a line; garbage collection replaces the file by one exact line. A killed build's line is
//! missing until then.

use std::fs;
use std::io::{self, Write};

use super::error::StoreError;
use super::layout::Layout;

/// Appends `bytes`. One short append is not torn on a local file system, and a torn line is passed over.
pub(super) fn add(layout: &Layout, bytes: u64) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(layout.usage())?;
    file.write_all(format!("{bytes}\n").as_bytes())
}

/// The sum; 0 where nothing was written down.
pub(super) fn read(layout: &Layout) -> Result<u64, StoreError> {
    let path = layout.usage();
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| line.trim().parse::<u64>().ok())
            .fold(0, u64::saturating_add)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::io("read", &path, error)),
    }
}

/// Replaces the figure by an exact one.
pub(super) fn replace(layout: &Layout, bytes: u64) -> Result<(), StoreError> {
    let (path, temporary) = (layout.usage(), layout.temporary());
    fs::write(&temporary, format!("{bytes}\n")).and_then(|()| fs::rename(&temporary, &path)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        StoreError::io("write", &path, error)
    })
}
