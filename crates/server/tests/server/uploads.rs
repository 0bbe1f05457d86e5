//! What the server takes in, and what it refuses.

use std::collections::BTreeSet;

use nixcache_core::nix::{Compression, ContentAddress, NarInfo, SecretKey, Sha256, StorePath};

use crate::fixture::{Item, Running, key, nar, noise};

fn put_narinfo(server: &Running, item: &Item) -> (u16, String) {
    let answer = server.put(&item.path(), item.narinfo.to_string().as_bytes());
    (answer.status, answer.text().to_owned())
}

#[test]
fn the_same_again_is_fine_and_other_content_is_a_conflict() {
    let server = Running::new();
    let item = Item::new("thing", b"x", &[]);
    assert_eq!(server.put(&item.nar_path(), &item.file).status, 201);
    assert_eq!(server.put(&item.nar_path(), &item.file).status, 200);
    assert_eq!(put_narinfo(&server, &item).0, 201);
    assert_eq!(put_narinfo(&server, &item).0, 200);
    let mut other = Item::new("thing", b"y", &[]);
    assert_eq!(server.put(&item.nar_path(), &other.file).status, 409);
    assert_eq!(server.put(&other.nar_path(), &other.file).status, 201);
    assert_eq!(put_narinfo(&server, &other).0, 409);
    other.narinfo = item.narinfo.clone();
    other.narinfo.sign(&key());
    assert_eq!(put_narinfo(&server, &other).0, 409);
    assert_eq!(server.get(&item.path()).text(), item.narinfo.to_string());
}

#[test]
fn every_packing_that_clients_use_is_taken() {
    let server = Running::new();
    let nar = nar(&noise(100_000));
    for (name, compression, file) in [
        ("plain", Compression::None, nar.clone()),
        ("xz", Compression::Xz, liblzma::encode_all(&nar[..], 1).unwrap()),
        ("zstd", Compression::Zstd, zstd::encode_all(&nar[..], 1).unwrap()),
    ] {
        let item = Item::packed(name, nar.clone(), file, compression, &[]);
        server.publish(&item);
        assert!(server.get(&item.nar_path()).body == item.file, "{name}");
    }
}

#[test]
fn large_nars_come_in_several_parts() {
    let server = Running::new();
    let item = Item::new("large", &noise(20 << 20), &[]);
    server.publish(&item);
    assert!(server.get(&item.nar_path()).body == item.file);
}

#[test]
fn a_narinfo_must_say_the_truth_of_its_nar() {
    type Change = fn(&mut NarInfo);
    let changes: [(&str, u16, Change); 7] = [
        ("NarHash", 422, |narinfo| narinfo.nar_hash = Sha256::of(b"other")),
        ("NarSize", 422, |narinfo| narinfo.nar_size += 8),
        ("FileHash", 422, |narinfo| narinfo.file_hash = Some(Sha256::of(b"other"))),
        ("FileSize", 422, |narinfo| narinfo.file_size = Some(1)),
        ("Compression", 422, |narinfo| narinfo.compression = Compression::Xz),
        ("by its content", 403, |narinfo| {
            narinfo.content_address = Some(ContentAddress::RecursiveSha256(narinfo.nar_hash));
        }),
        ("by its content", 403, |narinfo| {
            narinfo.content_address = Some(ContentAddress::RecursiveSha256(Sha256::of(b"other")));
        }),
    ];
    let server = Running::new();
    let good = Item::new("thing", &noise(1000), &[]);
    assert_eq!(server.put(&good.nar_path(), &good.file).status, 201);
    for (what, status, change) in changes {
        let mut item = good.clone();
        change(&mut item.narinfo);
        let (answered, text) = put_narinfo(&server, &item);
        assert_eq!(answered, status, "{what}: {text}");
        assert!(text.contains(what), "{what}: {text}");
    }
    assert_eq!(server.get(&good.path()).status, 404);
    // What may be left out is filled in.
    let mut short = good.clone();
    (short.narinfo.file_hash, short.narinfo.file_size) = (None, None);
    assert_eq!(put_narinfo(&server, &short).0, 201);
    assert_eq!(server.get(&good.path()).text(), good.narinfo.to_string());
}

#[test]
fn a_narinfo_names_a_nar_that_is_here() {
    let server = Running::new();
    let good = Item::new("thing", b"x", &[]);
    assert_eq!(put_narinfo(&server, &good).0, 422);
    for url in ["nar/x.nar.zst", "../x", "https://example.org/x.nar", "nar/../../tokens.toml", "file:///etc/passwd"] {
        let mut item = good.clone();
        item.narinfo.url = url.parse().unwrap();
        assert_eq!(put_narinfo(&server, &item).0, 400, "{url}");
    }
}

#[test]
fn a_narinfo_belongs_to_its_path() {
    let server = Running::new();
    let [good, other] = ["good", "other"].map(|name| Item::new(name, name.as_bytes(), &[]));
    server.publish(&other);
    assert_eq!(server.put(&good.path(), other.narinfo.to_string().as_bytes()).status, 400);
    let text = other.narinfo.to_string();
    for bad in ["", "StorePath: x\n", text.trim_end(), &text.replace('\n', "\r\n"), &format!("{text}{text}")] {
        assert_eq!(server.put(&other.path(), bad.as_bytes()).status, 400, "{bad}");
    }
}

#[test]
fn references_come_first() {
    let server = Running::new();
    let leaf = Item::new("leaf", b"leaf", &[]);
    let mut top = Item::new("top", b"top", &[&leaf]);
    // A path may refer to itself.
    top.narinfo.references.insert(top.narinfo.store_path.clone());
    assert_eq!(server.put(&top.nar_path(), &top.file).status, 201);
    let (status, text) = put_narinfo(&server, &top);
    assert_eq!(status, 422);
    assert!(text.contains(&leaf.narinfo.store_path.to_string()), "{text}");
    server.publish(&leaf);
    assert_eq!(put_narinfo(&server, &top).0, 201);
}

#[test]
fn paths_that_are_named_by_their_content_are_checked_without_a_key() {
    let server = Running::new();
    let mut item = Item::new("thing", b"x", &[]);
    let name = "thing".parse().unwrap();
    item.narinfo.store_path = StorePath::by_content(&item.narinfo.nar_hash, &BTreeSet::new(), false, name);
    item.narinfo.content_address = Some(ContentAddress::RecursiveSha256(item.narinfo.nar_hash));
    server.publish(&item);
    assert!(server.get(&item.path()).text().ends_with(&format!("CA: fixed:r:{}\n", item.narinfo.nar_hash)));
}

#[test]
fn only_what_a_trusted_key_has_signed_is_taken_where_that_is_asked_for() {
    let server =
        Running::with(|options| options.signing.trusted_keys = [SecretKey::public(&key())].into_iter().collect());
    let good = Item::new("thing", b"x", &[]);
    assert_eq!(server.put(&good.nar_path(), &good.file).status, 201);
    let (status, text) = put_narinfo(&server, &good);
    assert!(status == 403 && text.contains("no signature"), "{text}");
    let other_key = SecretKey::generate("nixcache-test-1".parse().unwrap(), &[7; 32]);
    let mut forged = good.clone();
    forged.narinfo.sign(&other_key);
    assert_eq!(put_narinfo(&server, &forged).0, 403);
    let mut signed = good.clone();
    signed.narinfo.sign(&key());
    assert_eq!(put_narinfo(&server, &signed).0, 201);
}

#[test]
fn files_that_came_by_other_ways_are_looked_into_when_they_are_named() {
    let server = Running::new();
    let [good, bad] = ["good", "bad"].map(|name| Item::new(name, name.as_bytes(), &[]));
    std::fs::write(server.data().join(&good.nar_path()[1..]), &good.file).unwrap();
    std::fs::write(server.data().join(&bad.nar_path()[1..]), &good.file).unwrap();
    assert_eq!(put_narinfo(&server, &good).0, 201);
    assert_eq!(put_narinfo(&server, &bad).0, 422);
}

#[test]
fn a_cache_info_is_taken_if_it_says_what_is_so() {
    let server = Running::new();
    assert_eq!(server.put("/nix-cache-info", b"StoreDir: /nix/store\n").status, 200);
    assert_eq!(server.put("/nix-cache-info", b"StoreDir: /gnu/store\n").status, 409);
    assert_eq!(server.put("/nix-cache-info", b"nonsense").status, 400);
}
