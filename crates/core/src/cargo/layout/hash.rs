//! The 16 hexadecimal digits in cargo's file and directory names. Not a cache key: see the glossary.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cargo hash: 64 bits, written as the hexadecimal digits of the little-endian bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CargoHash([u8; 8]);

/// Why a text is not a cargo hash.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a cargo hash of 16 lower-case hexadecimal digits")]
pub struct CargoHashError {
    text: String,
}

impl CargoHash {
    /// The hash with this value, as cargo's hasher returns it.
    pub fn from_u64(value: u64) -> Self {
        Self(value.to_le_bytes())
    }

    /// Its value.
    pub fn to_u64(self) -> u64 {
        u64::from_le_bytes(self.0)
    }

    /// The hash at the end of `text`, and what stands before the `-` in front of it.
    pub(crate) fn split_suffix(text: &str) -> Option<(&str, Self)> {
        let (before, hash) = text.rsplit_once('-')?;
        Some((before, hash.parse().ok()?))
    }
}

impl fmt::Display for CargoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CargoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CargoHash({self})")
    }
}

impl FromStr for CargoHash {
    type Err = CargoHashError;

    fn from_str(text: &str) -> Result<Self, CargoHashError> {
        let error = || CargoHashError { text: text.to_owned() };
        if text.len() != 16 {
            return Err(error());
        }
        let mut bytes = [0; 8];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0]).zip(nibble(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(error)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for CargoHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CargoHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips(value: u64) {
            let hash = CargoHash::from_u64(value);
            prop_assert_eq!(hash.to_string().parse::<CargoHash>().unwrap(), hash);
            prop_assert_eq!(hash.to_u64(), value);
        }
    }

    #[test]
    fn only_sixteen_lower_case_digits_are_a_hash() {
        for text in ["", "1b0ebca5d5ae1ed", "1B0EBCA5D5AE1ED9", "1b0ebca5d5ae1ed99", "1b0ebca5d5ae1edg", "éééééééé"]
        {
            assert!(text.parse::<CargoHash>().is_err(), "{text}");
        }
        assert_eq!(CargoHash::split_suffix("a-b-1b0ebca5d5ae1ed9").unwrap().0, "a-b");
    }
}
