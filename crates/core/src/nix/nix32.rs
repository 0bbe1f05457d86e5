//! Nix's base-32: the notation of store path hashes and of SHA-256 in narinfo files.
//!
//! The bytes are one little-endian number, written from its highest digit down, in an alphabet without `e`, `o`, `t`
//! and `u`. The reader is strict: one text for each value, so a hash can be compared as text.

/// The digits, in order of value (and of ASCII, so texts sort like the numbers they stand for).
const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Why a text is not a value in nix32.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nix32Error {
    /// The text is too long or too short.
    #[error("read nix32: it has {found} characters, {expected} are needed")]
    Length {
        /// The number of characters that the value needs.
        expected: usize,
        /// The number of bytes of the text.
        found: usize,
    },
    /// A character that is no digit.
    #[error("read nix32: byte {position} is not a digit")]
    Digit {
        /// Its place in the text.
        position: usize,
    },
    /// The first digit holds bits that the value has no room for.
    #[error("read nix32: the first digit is too large")]
    Overflow,
}

/// The number of characters for `length` bytes.
pub const fn encoded_length(length: usize) -> usize {
    (length * 8).div_ceil(5)
}

/// Writes `bytes` in nix32.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |position: usize| {
        let (byte, shift) = (position * 5 / 8, position * 5 % 8);
        let low = u16::from(bytes[byte]);
        let high = bytes.get(byte + 1).copied().map_or(0, u16::from);
        char::from(ALPHABET[usize::from(((high << 8 | low) >> shift) & 31)])
    };
    (0..encoded_length(bytes.len())).rev().map(digit).collect()
}

/// Reads `text`, which must stand for exactly `expected_length` bytes.
pub fn decode(text: &str, expected_length: usize) -> Result<Vec<u8>, Nix32Error> {
    let expected = encoded_length(expected_length);
    if text.len() != expected {
        return Err(Nix32Error::Length { expected, found: text.len() });
    }
    let mut bytes = vec![0; expected_length];
    for (index, character) in text.bytes().enumerate() {
        let value = ALPHABET.binary_search(&character).map_err(|_| Nix32Error::Digit { position: index })?;
        let position = expected - 1 - index;
        let (byte, shift) = (position * 5 / 8, position * 5 % 8);
        // A digit is below 32, so its value shifted by at most 7 fits into 12 bits.
        let [low, high] = ((value as u16) << shift).to_le_bytes();
        bytes[byte] |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high != 0 => return Err(Nix32Error::Overflow),
            None => {}
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checked against Nix 2.8.
    const COUNTING: &str = "07qy3lf1n6hr30bic58l2c91240g1q6hq2qa1440f1h50h1h4080";

    fn counting() -> Vec<u8> {
        (0..32).collect()
    }

    #[test]
    fn the_bytes_0_to_31_are_written_as_nix_writes_them() {
        assert_eq!(encode(&counting()), COUNTING);
        assert_eq!(decode(COUNTING, 32), Ok(counting()));
    }

    #[test]
    fn nothing_is_the_empty_text() {
        assert_eq!(encode(&[]), "");
        assert_eq!(decode("", 0), Ok(vec![]));
    }

    #[test]
    fn a_text_of_another_length_is_refused() {
        assert_eq!(decode(&COUNTING[1..], 32), Err(Nix32Error::Length { expected: 52, found: 51 }));
        assert_eq!(decode(&format!("{COUNTING}0"), 32), Err(Nix32Error::Length { expected: 52, found: 53 }));
        assert_eq!(decode(COUNTING, 20), Err(Nix32Error::Length { expected: 32, found: 52 }));
    }

    #[test]
    fn a_character_outside_the_alphabet_is_refused() {
        for wrong in ["e", "o", "t", "u", "A", "-", " ", "\0"] {
            let text = format!("{}{wrong}", &COUNTING[..51]);
            assert_eq!(decode(&text, 32), Err(Nix32Error::Digit { position: 51 }), "{wrong:?}");
        }
        let text = format!("{}é", &COUNTING[..50]);
        assert_eq!(decode(&text, 32), Err(Nix32Error::Digit { position: 50 }));
    }

    #[test]
    fn a_first_digit_without_room_is_refused() {
        // 32 bytes are 256 bits, 52 digits are 260: four bits must be zero.
        for first in "2z".chars() {
            assert_eq!(decode(&format!("{first}{}", &COUNTING[1..]), 32), Err(Nix32Error::Overflow));
        }
        assert!(decode(&format!("1{}", &COUNTING[1..]), 32).is_ok());
    }

    proptest! {
        #[test]
        fn bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), encoded_length(bytes.len()));
            prop_assert_eq!(decode(&text, bytes.len()), Ok(bytes));
        }

        #[test]
        fn a_text_that_is_read_is_the_text_that_is_written(text in "[0-9a-z]{52}") {
            if let Ok(bytes) = decode(&text, 32) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
