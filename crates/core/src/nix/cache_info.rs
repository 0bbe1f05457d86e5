//! `nix-cache-info`: what a cache says of itself. The first file that a client asks for.

use std::fmt;

use super::store_path::{StoreDirectory, StorePathError};

/// The largest file that is read.
pub const SIZE_LIMIT: usize = 64 * 1024;

/// The media type of the file over HTTP.
pub const MEDIA_TYPE: &str = "text/x-nix-cache-info";

/// Why a file is not a `nix-cache-info`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheInfoError {
    /// The file is larger than such a file can sensibly be.
    #[error("read nix-cache-info: it has more than {SIZE_LIMIT} bytes")]
    TooLarge,
    /// The file is not UTF-8.
    #[error("read nix-cache-info: it is not UTF-8")]
    NotText,
    /// A line has no colon.
    #[error("read nix-cache-info: line {line} is not of the form `name: value`")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
    /// A field is there twice.
    #[error("read nix-cache-info: {field} is there twice")]
    Twice {
        /// Its name.
        field: &'static str,
    },
    /// The value of a field is no number.
    #[error("read nix-cache-info: {field} is not a number")]
    Number {
        /// Its name.
        field: &'static str,
    },
    /// The store directory is none.
    #[error("read nix-cache-info: StoreDir is no directory")]
    StoreDirectory {
        /// What is wrong with it.
        #[source]
        source: StorePathError,
    },
}

/// What a cache says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// Where its paths lie. Nix takes `/nix/store` when the file doesn't say.
    pub store_directory: StoreDirectory,
    /// Whether it wants to be asked for many paths at once, as when a user asks what is there. False unless it says so.
    pub want_mass_query: bool,
    /// Caches with lower numbers are asked first. Nix takes 50 when the file doesn't say.
    pub priority: Option<u32>,
}

impl CacheInfo {
    /// Reads the file. Unknown fields are passed over, as Nix does.
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheInfoError> {
        if bytes.len() > SIZE_LIMIT {
            return Err(CacheInfoError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| CacheInfoError::NotText)?;
        let (mut store_directory, mut want_mass_query, mut priority) = (None, None, None);
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let (field, value) = line.split_once(':').ok_or(CacheInfoError::Line { line: index + 1 })?;
            let value = value.trim();
            match field {
                "StoreDir" => {
                    let directory = value.parse().map_err(|source| CacheInfoError::StoreDirectory { source })?;
                    set(&mut store_directory, directory, "StoreDir")?;
                }
                "WantMassQuery" => set(&mut want_mass_query, value == "1", "WantMassQuery")?,
                "Priority" => {
                    let number = value.parse().map_err(|_| CacheInfoError::Number { field: "Priority" })?;
                    set(&mut priority, number, "Priority")?;
                }
                _ => {}
            }
        }
        Ok(Self {
            store_directory: store_directory.unwrap_or_default(),
            want_mass_query: want_mass_query.unwrap_or_default(),
            priority,
        })
    }
}

fn set<T>(place: &mut Option<T>, value: T, field: &'static str) -> Result<(), CacheInfoError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(CacheInfoError::Twice { field }),
    }
}

impl fmt::Display for CacheInfo {
    /// The file's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StoreDir: {}", self.store_directory)?;
        writeln!(f, "WantMassQuery: {}", u8::from(self.want_mass_query))?;
        self.priority.iter().try_for_each(|priority| writeln!(f, "Priority: {priority}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(want_mass_query: bool, priority: Option<u32>) -> CacheInfo {
        CacheInfo { store_directory: StoreDirectory::default(), want_mass_query, priority }
    }

    #[test]
    fn the_text_is_as_nix_writes_it() {
        let text = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n";
        assert_eq!(info(true, Some(41)).to_string(), text);
        assert_eq!(CacheInfo::parse(text.as_bytes()), Ok(info(true, Some(41))));
    }

    #[test]
    fn what_is_missing_is_as_nix_takes_it() {
        assert_eq!(CacheInfo::parse(b""), Ok(info(false, None)));
        assert_eq!(CacheInfo::parse(b"StoreDir:/nix/store\r\nNew: 1\n\nWantMassQuery: 0"), Ok(info(false, None)));
    }

    #[test]
    fn another_store_directory_is_told_apart() {
        assert!(!CacheInfo::parse(b"StoreDir: /gnu/store\n").unwrap().store_directory.is_default());
    }

    #[test]
    fn nonsense_is_refused() {
        let parse = |text: &str| CacheInfo::parse(text.as_bytes()).unwrap_err();
        assert_eq!(parse("<html>"), CacheInfoError::Line { line: 1 });
        assert_eq!(parse("Priority: 1\nPriority: 2\n"), CacheInfoError::Twice { field: "Priority" });
        assert_eq!(parse("Priority: -1\n"), CacheInfoError::Number { field: "Priority" });
        assert!(matches!(parse("StoreDir: store\n"), CacheInfoError::StoreDirectory { .. }));
        assert_eq!(CacheInfo::parse(b"\xff:\n"), Err(CacheInfoError::NotText));
        assert_eq!(parse(&"\n".repeat(SIZE_LIMIT + 1)), CacheInfoError::TooLarge);
    }

    proptest! {
        #[test]
        fn it_survives(want_mass_query: bool, priority: Option<u32>) {
            let info = info(want_mass_query, priority);
            prop_assert_eq!(CacheInfo::parse(info.to_string().as_bytes()), Ok(info));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = CacheInfo::parse(&bytes);
        }
    }
}
