//! Pins: named lists of keys whose nodes, and all that they refer to, garbage collection keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

use super::error::StoreError;
use super::lease::Lease;
use crate::digest::Key;

/// The name of a pin, which is the name of its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinName(String);

impl FromStr for PinName {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fine = !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(allowed);
        if fine { Ok(Self(name.to_owned())) } else { Err(StoreError::PinName { name: name.to_owned() }) }
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Lease {
    /// Pins `keys` under `name`, in place of what the name had pinned.
    pub fn pin(&self, name: &PinName, keys: &BTreeSet<Key>) -> Result<(), StoreError> {
        self.check_writable()?;
        let (path, temporary) = (self.layout().pins().join(&name.0), self.layout().temporary());
        let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
        fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            StoreError::io("write", &path, error)
        })
    }

    /// Removes a pin, if there is one.
    pub fn unpin(&self, name: &PinName) -> Result<(), StoreError> {
        self.check_writable()?;
        let path = self.layout().pins().join(&name.0);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, error)),
            _ => Ok(()),
        }
    }
}

/// All pins. A file that can't be understood is an error: better no garbage collection than one that takes
/// what was pinned.
pub(super) fn read_all(layout: &super::layout::Layout) -> Result<BTreeMap<String, BTreeSet<Key>>, StoreError> {
    let directory = layout.pins();
    let failed = |error| StoreError::io("list", &directory, error);
    let mut pins = BTreeMap::new();
    for entry in directory.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let text = fs::read_to_string(path).map_err(|error| StoreError::io("read", path, error))?;
        let mut keys = BTreeSet::new();
        for (number, line) in (1..).zip(text.lines()) {
            let key = line.parse().map_err(|_| StoreError::DamagedPin { path: path.to_owned(), line: number })?;
            keys.insert(key);
        }
        pins.insert(entry.file_name().to_owned(), keys);
    }
    Ok(pins)
}
