//! Nix's formats.

use std::io::Read as _;

use nixcache_core::nix::nar::Event;
use nixcache_core::nix::{
    Asked, CacheInfo, CheckedReader, Listing, NarInfo, NarLimits, NarReader, NarWriter, PublicKey, SecretKey, Sha256,
    Signature, StorePath, nix32,
};

/// Small enough that a reader that forgets them is seen.
const LIMITS: NarLimits =
    NarLimits { total_bytes: 1 << 20, file_bytes: 1 << 19, entries: 1 << 10, depth: 64, name: 255, target: 4095 };

/// A NAR: one tree has one archive, so writing what was read must give the same bytes.
pub fn nar(data: &[u8]) {
    let mut reader = NarReader::new(data, LIMITS);
    let mut writer = NarWriter::new(Vec::new());
    loop {
        let event = match reader.next_event() {
            Ok(event) => event,
            Err(_) => {
                assert!(reader.next_event().is_err(), "it reads on after an error");
                return;
            }
        };
        match event {
            None => break,
            Some(Event::DirectoryStart) => writer.begin_directory().unwrap(),
            Some(Event::Entry { name }) => {
                assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/'), "{name:?}");
                writer.entry(name).unwrap();
            }
            Some(Event::DirectoryEnd) => writer.end_directory().unwrap(),
            Some(Event::Symlink { target }) => writer.symlink(target).unwrap(),
            Some(Event::Regular { executable, size, offset, mut contents }) => {
                assert!(offset + size <= data.len() as u64 || size > 0);
                let mut bytes = Vec::new();
                if contents.read_to_end(&mut bytes).is_err() {
                    return;
                }
                assert_eq!(bytes.len() as u64, size);
                assert_eq!(bytes, data[offset as usize..(offset + size) as usize]);
                writer.regular_bytes(executable, &bytes).unwrap();
            }
        }
    }
    assert_eq!(writer.finish().unwrap(), data, "another archive has the same tree");
}

/// The listing of a NAR, which takes no other NARs than the reader.
pub fn listing(data: &[u8]) {
    if let Ok(listing) = Listing::read(&mut NarReader::new(data, LIMITS)) {
        let json: serde_json::Value = serde_json::from_str(&listing.to_json()).unwrap();
        assert_eq!(json["version"], 1);
    }
}

/// A NAR that must have a hash and a size: the first byte says by how much the size is wrong.
pub fn checked(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let off = u64::from(first % 4);
    let size = rest.len() as u64 + off;
    let mut reader = CheckedReader::new(rest, Sha256::of(rest), size);
    let mut read = Vec::new();
    let ended = reader.read_to_end(&mut read).is_ok();
    assert_eq!(ended && reader.is_right(), off == 0);
    // Another hash is never right.
    let mut reader = CheckedReader::new(rest, Sha256::of(data), rest.len() as u64);
    let ended = reader.read_to_end(&mut Vec::new()).is_ok();
    assert!(!(ended && reader.is_right()));
}

/// A narinfo: what is read can be written and read again, and says and signs the same.
pub fn narinfo(data: &[u8]) {
    let Ok(narinfo) = NarInfo::parse(data, Asked::Anything) else { return };
    assert!(narinfo.nar_size > 0);
    let text = narinfo.to_string();
    let again = NarInfo::parse(text.as_bytes(), Asked::Path(&narinfo.store_path)).unwrap();
    assert_eq!(again, narinfo, "{text}");
    assert_eq!(again.fingerprint(), narinfo.fingerprint());
    let other = StorePath::by_key(&[0; 32], "other".parse().unwrap());
    assert!(NarInfo::parse(text.as_bytes(), Asked::Path(&other)).is_err());
}

/// `nix-cache-info`.
pub fn cache_info(data: &[u8]) {
    if let Ok(info) = CacheInfo::parse(data) {
        assert_eq!(CacheInfo::parse(info.to_string().as_bytes()).unwrap(), info);
    }
}

/// Keys and signatures. A secret key that is read signs what its public key verifies.
pub fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
    }
    if let Ok(signature) = text.parse::<Signature>() {
        assert_eq!(signature.to_string().parse::<Signature>().unwrap(), signature);
    }
    if let Ok(key) = SecretKey::parse(text) {
        assert!(key.public().verifies(b"message", &key.sign(b"message")));
        assert!(!key.public().verifies(b"another", &key.sign(b"message")));
    }
}

/// Store paths.
pub fn store_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(path) = text.parse::<StorePath>() {
        assert_eq!(path.to_string(), text, "a path has one text");
    }
    if let Ok(path) = StorePath::from_base_name(text) {
        assert_eq!(path.base_name(), text);
        assert!(!text.contains('/') && !text.contains('\0'));
    }
}

/// Hashes in their notations.
pub fn hash(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(hash) = text.parse::<Sha256>() {
        for text in [hash.to_string(), hash.to_sri(), format!("sha256:{}", hash.to_hex())] {
            assert_eq!(text.parse::<Sha256>().unwrap(), hash, "{text}");
        }
    }
    for length in [0, 1, 20, 32] {
        if let Ok(bytes) = nix32::decode(text, length) {
            assert_eq!(bytes.len(), length);
            assert_eq!(nix32::encode(&bytes), text, "bytes have one text");
        }
    }
}

fn tree() -> Vec<u8> {
    let mut writer = NarWriter::new(Vec::new());
    writer.begin_directory().unwrap();
    writer.entry(b"a.txt").unwrap();
    writer.regular_bytes(false, b"hello\n").unwrap();
    writer.entry(b"empty").unwrap();
    writer.regular_bytes(false, b"").unwrap();
    writer.entry(b"run").unwrap();
    writer.regular_bytes(true, b"#!/bin/sh\necho hi\n").unwrap();
    writer.entry(b"sub").unwrap();
    writer.begin_directory().unwrap();
    writer.entry(b"link").unwrap();
    writer.symlink(b"../a.txt").unwrap();
    writer.end_directory().unwrap();
    writer.end_directory().unwrap();
    writer.finish().unwrap()
}

pub(crate) fn nar_seeds() -> Vec<Vec<u8>> {
    let mut file = NarWriter::new(Vec::new());
    file.regular_bytes(false, b"hello\n").unwrap();
    let mut link = NarWriter::new(Vec::new());
    link.symlink(b"/nix/store/x").unwrap();
    vec![tree(), file.finish().unwrap(), link.finish().unwrap()]
}

pub(crate) fn narinfo_seeds() -> Vec<Vec<u8>> {
    let text = "StorePath: /nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0\n\
        URL: nar/04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw.nar.zst\n\
        Compression: zstd\n\
        FileHash: sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw\n\
        FileSize: 120\n\
        NarHash: sha256:05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9\n\
        NarSize: 696\n\
        References: ry1s27ixrcxfcj0shn69cvavn2mpmz8w-cargo-deps-demo\n\
        Deriver: unknown-deriver\n\
        Sig: nixcache-test-1:GhJ6B++L9kL0zJj95PjEaGB9pAX1Ev7YBUhBNfO7ZsuOsaDzCh3Ad0zzngJycmvhSgWdCGf0JZhVujAFCbkmAg==\n\
        CA: fixed:r:sha256:05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9\n";
    let foreign = text.replace("Compression: zstd\n", "").replace("FileSize: 120\n", "").replace("nar/", "https://x/?");
    vec![text.into(), foreign.into(), text.replace("CA: ", "X-Other: ").into()]
}

pub(crate) fn cache_info_seeds() -> Vec<Vec<u8>> {
    vec![
        b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n".to_vec(),
        b"WantMassQuery: 0\nStoreDir: /gnu/store\n".to_vec(),
        b"StoreDir: /nix/store".to_vec(),
    ]
}

pub(crate) fn key_seeds() -> Vec<Vec<u8>> {
    let seed: Vec<u8> = (0..32).collect();
    let key = SecretKey::generate("nixcache-test-1".parse().unwrap(), &seed.try_into().unwrap());
    let signature = key.sign(b"message").to_string();
    vec![key.public().to_string().into(), key.to_file_text().as_bytes().to_vec(), signature.into()]
}

pub(crate) fn store_path_seeds() -> Vec<Vec<u8>> {
    let base = "vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0";
    vec![base.into(), format!("/nix/store/{base}").into(), format!("{base}.drv").into()]
}

pub(crate) fn hash_seeds() -> Vec<Vec<u8>> {
    let hash = Sha256::of(b"hello\n");
    vec![
        hash.to_string().into(),
        hash.to_sri().into(),
        format!("sha256:{}", hash.to_hex()).into(),
        hash.to_nix32().into(),
        b"07qy3lf1n6hr30bic58l2c91240g1q6h".to_vec(),
    ]
}
