//! The JSON documents in store paths: how much of one is read, and so how much may be written.
//!
//! A document is read before anybody knows whether its NAR is the one that was signed, by several threads at once. A
//! list of short texts takes some twenty times as much memory as its JSON has bytes, so what is bounded is the number of
//! things in lists too, before anything is made of them: eight documents of the worst kind take some 50 MB.

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest text. The record of a run with 500 files in `OUT_DIR` has 100 KB, the set of 1000 units 200 KB.
const MOST_BYTES: u64 = 2 << 20;

/// The most things in all lists. A file in `OUT_DIR` is one, a path that leads somewhere else three.
const MOST_THINGS: usize = 1 << 14;

/// How deep lists and objects may lie in each other, as in `serde_json`.
const DEEPEST: usize = 128;

/// Why a document is neither read nor written.
#[derive(Debug, thiserror::Error)]
pub enum TooLarge {
    /// It is too long.
    #[error("it has {bytes} bytes of JSON, more than the {MOST_BYTES} that are read")]
    Bytes {
        /// Its length.
        bytes: u64,
    },
    /// It lists too much.
    #[error("it lists more than the {MOST_THINGS} things that are read")]
    Things,
}

/// Why a document can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Reads a document that should have `size` bytes.
pub(super) fn read<T: DeserializeOwned>(size: u64, contents: &mut dyn Read) -> Result<T, DocumentError> {
    if size > MOST_BYTES {
        return Err(TooLarge::Bytes { bytes: size }.into());
    }
    // It grows with what comes, not with what is announced.
    let mut text = Vec::new();
    contents.take(size).read_to_end(&mut text).map_err(serde_json::Error::io)?;
    check(&text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Writes a document, if it can be read again.
pub(super) fn write(document: &impl Serialize) -> Result<Vec<u8>, TooLarge> {
    let text = serde_json::to_vec(document).expect("a document holds only texts, numbers and lists");
    check(&text)?;
    Ok(text)
}

impl From<TooLarge> for io::Error {
    fn from(error: TooLarge) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

fn check(text: &[u8]) -> Result<(), TooLarge> {
    if text.len() as u64 > MOST_BYTES {
        return Err(TooLarge::Bytes { bytes: text.len() as u64 });
    }
    if things(text) > MOST_THINGS { Err(TooLarge::Things) } else { Ok(()) }
}

/// How many things the lists of a JSON text hold, at the least as many as a parser will find.
fn things(text: &[u8]) -> usize {
    let (mut things, mut lists, mut in_text) = (0, Vec::new(), false);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_text => drop(bytes.next()),
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                let is_list = *byte == b'[';
                things += usize::from(is_list);
                lists.push(is_list);
                if lists.len() > DEEPEST {
                    // The parser ends there, too.
                    return things;
                }
            }
            b']' | b'}' => drop(lists.pop()),
            b',' => things += usize::from(lists.last() == Some(&true)),
            _ => {}
        }
    }
    things
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn in_lists(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.len() + items.iter().map(in_lists).sum::<usize>(),
            Value::Object(fields) => fields.values().map(in_lists).sum(),
            _ => 0,
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<u8>().prop_map(Value::from),
            "[\\[\\]{},:\"\\\\a]*".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec(("[\\[,\"a]*", inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_in_a_list_is_passed_over(value in any_value()) {
            let counted = things(value.to_string().as_bytes());
            prop_assert!(counted >= in_lists(&value), "{}", value);
            prop_assert!(things(&serde_json::to_vec_pretty(&value).unwrap()) == counted);
        }
    }

    #[test]
    fn what_is_too_large_is_neither_read_nor_written() {
        let list = |count: usize| vec!["a"; count];
        assert!(write(&list(MOST_THINGS)).is_ok());
        assert!(matches!(write(&list(MOST_THINGS + 1)), Err(TooLarge::Things)));
        assert!(matches!(write(&"a".repeat(MOST_BYTES as usize)), Err(TooLarge::Bytes { .. })));
        let text = serde_json::to_vec(&list(MOST_THINGS + 1)).unwrap();
        let refused = read::<Vec<String>>(text.len() as u64, &mut text.as_slice());
        assert!(matches!(refused, Err(DocumentError::TooLarge(TooLarge::Things))));
        let refused = read::<Vec<String>>(MOST_BYTES + 1, &mut io::repeat(b' '));
        assert!(matches!(refused, Err(DocumentError::TooLarge(TooLarge::Bytes { .. }))));
        assert!(write(&"a,[".repeat(MOST_THINGS)).is_ok(), "what stands in texts doesn't count");
    }
}
