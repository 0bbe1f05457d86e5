//! Properties of the node format and of hashing.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::node;
use super::*;

fn blob() -> impl Strategy<Value = BlobRef> {
    (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(digest, size, executable)| BlobRef {
        digest: ContentDigest::from_bytes(digest),
        size,
        executable,
    })
}

#[test]
fn the_format_is_this() {
    let blob = BlobRef { digest: ContentDigest::from_bytes([0xab; 32]), size: 7, executable: true };
    let node = NewNode {
        key: Key::from_bytes([1; 32]),
        kind: "unit",
        label: "serde 1.0.0 lib",
        blobs: &[blob],
        nodes: &[Key::from_bytes([2; 32])],
        payload: b"payload\n",
    };
    // A change here is a new format: stores that exist would be misread.
    let header = format!(
        "{{\"key\":\"{}\",\"kind\":\"unit\",\"label\":\"serde 1.0.0 lib\",\
         \"blobs\":[{{\"digest\":\"{}\",\"size\":7,\"executable\":true}}],\"nodes\":[\"{}\"]}}",
        "01".repeat(32),
        "ab".repeat(32),
        "02".repeat(32),
    );
    let body = format!("{header}\npayload\n");
    let expected = format!("cargo-nixcache node 1 {}\n{body}", ContentDigest::of(body.as_bytes()));
    assert_eq!(String::from_utf8(node::encode(&node)).unwrap(), expected);
}

proptest! {
    #[test]
    fn nodes_round_trip_and_any_change_is_seen(
        key in any::<[u8; 32]>(),
        kind in ".*",
        label in ".*",
        blobs in vec(blob(), 0..4),
        nodes in vec(any::<[u8; 32]>().prop_map(Key::from_bytes), 0..4),
        payload in vec(any::<u8>(), 0..200),
        place in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let key = Key::from_bytes(key);
        let new = NewNode { key, kind: &kind, label: &label, blobs: &blobs, nodes: &nodes, payload: &payload };
        let mut bytes = node::encode(&new);
        let read = node::decode(&key, &bytes).unwrap();
        prop_assert_eq!(
            (&read.kind, &read.label, &read.blobs, &read.nodes, &read.payload),
            (&kind, &label, &blobs, &nodes, &payload)
        );
        prop_assert!(node::decode(&super::key("another"), &bytes).is_err());
        let place = place.index(bytes.len());
        prop_assert!(node::decode(&key, &bytes[..place]).is_err());
        bytes[place] ^= change;
        prop_assert!(node::decode(&key, &bytes).is_err());
    }

    #[test]
    fn rubbish_is_refused(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(node::decode(&key("a"), &bytes).is_err());
        let mut tailored = format!("cargo-nixcache node 1 {}\n", ContentDigest::of(&bytes)).into_bytes();
        tailored.extend_from_slice(&bytes);
        prop_assert!(node::decode(&key("a"), &tailored).is_err());
    }

    #[test]
    fn names_of_pins_round_trip(name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}") {
        prop_assert_eq!(name.parse::<PinName>().unwrap().to_string(), name);
    }
}

#[test]
fn scanning_sees_every_byte_and_every_pattern_whole() {
    let scratch = Scratch::new();
    let (chunk, overlap) = (1 << 20, 15);
    for size in [0, 1, 100, chunk - 1, chunk, chunk + 1, chunk + 2, 2 * chunk + 2, 3 * chunk + 77] {
        let content: Vec<u8> =
            (0..size as u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).take(size).collect();
        let path = scratch.file("file", &content);
        let (mut rebuilt, mut windows) = (Vec::new(), 0);
        let hashed = hash_and_scan(&path, overlap, |ScanChunk { offset, bytes }| {
            let offset = offset as usize;
            assert!(offset <= rebuilt.len() && bytes.len() <= chunk + 1 + overlap);
            assert_eq!(rebuilt[offset..], bytes[..rebuilt.len() - offset]);
            // Each window of `overlap + 1` bytes is whole in exactly one chunk.
            windows += bytes.len().saturating_sub(overlap);
            rebuilt.truncate(offset);
            rebuilt.extend_from_slice(bytes);
        })
        .unwrap();
        assert_eq!(rebuilt, content);
        assert_eq!(windows, size.saturating_sub(overlap), "{size}");
        assert_eq!((hashed.digest, hashed.size), (ContentDigest::of(&content), size as u64));
        assert_eq!(hash_file(&path).unwrap(), hashed);
    }
    assert!(matches!(hash_file(&scratch.path("")), Err(StoreError::NotAFile { .. })));
}
