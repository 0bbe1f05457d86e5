//! Nix's formats against Nix itself: what we write Nix takes, what Nix writes we read, and both say the same of it.
//!
//! Each test has a Nix of its own, and no cache is known to it but the one in its scratch directory.

#![expect(clippy::unwrap_used, reason = "this file holds tests alone")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Output;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nix::nar::{unpack, write_path};
use nixcache_core::nix::*;
use nixcache_tests::Nix;

/// Fetches `path` from the cache in Nix's directory into the store `store`, trusting `key`.
fn fetch(nix: &Nix, store: &str, path: &StorePath, key: &str) -> Output {
    nix.substitute(store, &path.to_string(), &format!("file://{}", nix.path("cache")), key)
}

/// The tree of the documented vectors.
fn make_small(root: &Utf8Path) {
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("a.txt"), "hello\n").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("run"), "#!/bin/sh\necho hi\n").unwrap();
    fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../a.txt", root.join("sub/link")).unwrap();
}

/// A tree with names that sort differently by bytes than elsewhere, lengths around those where padding changes, a file
/// larger than any buffer, and permissions that an archive does not keep.
fn make_wide(root: &Utf8Path) {
    fs::create_dir_all(root.join("deep/deep/deep/deep/deep")).unwrap();
    fs::create_dir_all(root.join("none")).unwrap();
    for (index, name) in
        ["a", "B", "a.b", "a-b", "aa", "ä", "日本", " ", "~", ".hidden", "a\\b", "a\nb"].iter().enumerate()
    {
        fs::write(root.join(name), vec![b'x'; index]).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o600 + (index as u32 % 2) * 0o110)).unwrap();
    }
    for size in [1 << 18, (1 << 18) - 96, (1 << 18) + 1, 3_000_001] {
        let contents: Vec<u8> = (0..size).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(root.join(format!("deep/deep/deep/deep/deep/{size}")), contents).unwrap();
    }
    symlink("/nowhere/at all", root.join("deep/dangling")).unwrap();
    symlink("..", root.join("deep/up")).unwrap();
}

fn make_trees(nix: &Nix) -> [Utf8PathBuf; 3] {
    let [small, wide, file] = ["small", "wide", "file"].map(|name| nix.path(name));
    make_small(&small);
    make_wide(&wide);
    fs::write(&file, "hello\n").unwrap();
    [small, wide, file]
}

fn pack(path: &Utf8Path) -> Vec<u8> {
    let mut bytes = vec![];
    write_path(path, &mut bytes).unwrap();
    bytes
}

fn read_nar(bytes: &[u8]) -> NarReader<&[u8]> {
    NarReader::new(bytes, NarLimits::default())
}

fn secret_key() -> SecretKey {
    let seed: Vec<u8> = (0..32).collect();
    SecretKey::generate("nixcache-test-1".parse().unwrap(), &seed.try_into().unwrap())
}

/// Puts a tree into the cache in Nix's directory, as any producer would.
fn publish(nix: &Nix, tree: &Utf8Path, store_path: StorePath, references: BTreeSet<StorePath>) -> NarInfo {
    let cache = nix.path("cache");
    fs::create_dir_all(cache.join("nar")).unwrap();
    let info = CacheInfo { store_directory: StoreDirectory::default(), want_mass_query: true, priority: Some(40) };
    fs::write(cache.join("nix-cache-info"), info.to_string()).unwrap();
    let nar = pack(tree);
    let nar_hash = Sha256::of(&nar);
    let url = NarUrl::by_convention(&nar_hash, &Compression::None);
    fs::write(cache.join(url.as_str()), &nar).unwrap();
    let mut narinfo = NarInfo {
        store_path,
        url,
        compression: Compression::None,
        file_hash: Some(nar_hash),
        file_size: Some(nar.len() as u64),
        nar_hash,
        nar_size: nar.len() as u64,
        references,
        deriver: None,
        signatures: vec![],
        content_address: None,
    };
    narinfo.sign(&secret_key());
    put(nix, &narinfo);
    narinfo
}

fn put(nix: &Nix, narinfo: &NarInfo) {
    let name = format!("cache/{}.narinfo", narinfo.store_path.hash());
    fs::write(nix.path(&name), narinfo.to_string()).unwrap();
}

/// The two artifacts of the documented vectors: a unit, and a list that refers to it.
fn publish_artifacts(nix: &Nix) -> [NarInfo; 2] {
    let [unit, deps] = ["unit", "deps"].map(|name| nix.path(name));
    fs::create_dir_all(&unit).unwrap();
    fs::create_dir_all(&deps).unwrap();
    fs::write(unit.join("libserde-1a2b.rlib"), b"RLIB".repeat(100)).unwrap();
    fs::write(deps.join("manifest.json"), "{\"v\":1}\n").unwrap();
    let path = |key: &str, name: &str| StorePath::by_key(Sha256::of(key.as_bytes()).as_bytes(), name.parse().unwrap());
    let unit_path = path("cargo-nixcache/v1\ncrate serde 1.0.0", "cargo-serde-1.0.0");
    let deps_path = path("cargo-nixcache/v1\nbundle", "cargo-deps-demo");
    [
        publish(nix, &unit, unit_path.clone(), BTreeSet::new()),
        publish(nix, &deps, deps_path, BTreeSet::from([unit_path])),
    ]
}

#[test]
fn archives_are_the_same_bytes() {
    let Some(nix) = Nix::installed("archives_are_the_same_bytes") else { return };
    for tree in make_trees(&nix) {
        assert!(pack(&tree) == nix.run("nix-store", &["--dump", tree.as_str()]), "{tree}");
    }
}

#[test]
fn what_we_pack_nix_unpacks() {
    let Some(nix) = Nix::installed("what_we_pack_nix_unpacks") else { return };
    for tree in make_trees(&nix) {
        let archive = nix.path("archive.nar");
        fs::write(&archive, pack(&tree)).unwrap();
        let restored = format!("{tree}-restored");
        nix.run("sh", &["-c", &format!("nix-store --restore '{restored}' < '{archive}'")]);
        assert!(pack(Utf8Path::new(&restored)) == pack(&tree), "{tree}");
    }
}

#[test]
fn what_nix_packs_we_unpack() {
    let Some(nix) = Nix::installed("what_nix_packs_we_unpack") else { return };
    for tree in make_trees(&nix) {
        let archive = nix.run("nix-store", &["--dump", tree.as_str()]);
        let unpacked = Utf8PathBuf::from(format!("{tree}-unpacked"));
        unpack(&mut read_nar(&archive), &unpacked).unwrap();
        assert!(nix.run("nix-store", &["--dump", unpacked.as_str()]) == archive, "{tree}");
    }
}

#[test]
fn hashes_are_written_the_same() {
    let Some(nix) = Nix::installed("hashes_are_written_the_same") else { return };
    for tree in make_trees(&nix) {
        let hash = Sha256::of(&pack(&tree));
        let say = |notation: &str| nix.line("nix", &["hash", "path", notation, "--type", "sha256", tree.as_str()]);
        assert_eq!(say("--base32"), hash.to_nix32());
        assert_eq!(say("--base16"), hash.to_hex());
        assert_eq!(say("--sri"), hash.to_sri());
        assert_eq!(nix.line("nix", &["hash", "to-sri", &hash.to_string()]), hash.to_sri());
        assert_eq!(nix.line("nix", &["hash", "to-base32", &hash.to_sri()]), hash.to_nix32());
    }
}

#[test]
fn paths_by_content_are_the_same() {
    let Some(nix) = Nix::installed("paths_by_content_are_the_same") else { return };
    for tree in make_trees(&nix) {
        let store = nix.path("store");
        let arguments = ["--store", store.as_str(), "--add-fixed", "--recursive", "sha256", tree.as_str()];
        let name = tree.file_name().unwrap().parse().unwrap();
        let path = StorePath::by_content(&Sha256::of(&pack(&tree)), &BTreeSet::new(), false, name);
        assert_eq!(nix.line("nix-store", &arguments), path.to_string());
    }
}

#[test]
fn paths_by_content_with_references_are_the_same() {
    let Some(nix) = Nix::installed("paths_by_content_with_references_are_the_same") else { return };
    let [unit, deps] = publish_artifacts(&nix);
    let store = nix.path("store");
    let key = secret_key().public().to_string();
    assert!(fetch(&nix, "store", &deps.store_path, &key).status.success());
    let arguments = ["store", "make-content-addressed", "--recursive", "--json", "--store", store.as_str()];
    let answer = nix.run("nix", &[&arguments[..], &[&deps.store_path.to_string()]].concat());
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let rewritten =
        |path: &StorePath| answer["rewrites"][path.to_string()].as_str().unwrap().parse::<StorePath>().unwrap();

    let none = BTreeSet::new();
    let unit_path = StorePath::by_content(&unit.nar_hash, &none, false, unit.store_path.name().clone());
    let references = BTreeSet::from([unit_path.clone()]);
    let deps_path = StorePath::by_content(&deps.nar_hash, &references, false, deps.store_path.name().clone());
    assert_eq!(rewritten(&unit.store_path), unit_path);
    assert_eq!(rewritten(&deps.store_path), deps_path);
}

#[test]
fn keys_that_nix_makes_are_read() {
    let Some(nix) = Nix::installed("keys_that_nix_makes_are_read") else { return };
    nix.run("nix-store", &["--generate-binary-cache-key", "cache.example.org-1", "secret", "public"]);
    let secret = fs::read_to_string(nix.path("secret")).unwrap();
    let key = SecretKey::parse(&secret).expect("Nix's key is one");
    assert_eq!(key.public().to_string(), fs::read_to_string(nix.path("public")).unwrap());
    assert!(*key.to_file_text() == secret);
}

#[test]
fn nix_fetches_what_we_signed_with_what_it_refers_to() {
    let Some(nix) = Nix::installed("nix_fetches_what_we_signed_with_what_it_refers_to") else { return };
    let [unit, deps] = publish_artifacts(&nix);
    let key = secret_key().public().to_string();
    let output = fetch(&nix, "store", &deps.store_path, &key);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let store = nix.path("store");
    for narinfo in [&unit, &deps] {
        let fetched = Utf8PathBuf::from(format!("{store}{}", narinfo.store_path));
        assert_eq!(Sha256::of(&pack(&fetched)), narinfo.nar_hash);
        let path = narinfo.store_path.to_string();
        let verify =
            ["store", "verify", "--store", store.as_str(), "--sigs-needed", "1", "--trusted-public-keys", &key];
        nix.run("nix", &[&verify[..], &[&path]].concat());
    }
}

#[test]
fn nix_refuses_what_was_changed_as_we_do() {
    let Some(nix) = Nix::installed("nix_refuses_what_was_changed_as_we_do") else { return };
    let [good, _] = publish_artifacts(&nix);
    let key = secret_key().public();
    let trusted = TrustedKeys::from_iter([key.clone()]);
    type Change = fn(&mut NarInfo);
    let changes: [(&str, Change); 3] = [
        ("its size", |narinfo| narinfo.nar_size += 8),
        ("its references", |narinfo| {
            narinfo.references.insert(narinfo.store_path.clone());
        }),
        ("its signature", |narinfo| narinfo.signatures.clear()),
    ];
    for (index, (what, change)) in changes.into_iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        put(&nix, &changed);
        // Nix remembers what it was told of a path, so each case has its own home.
        fs::rename(nix.path("home"), nix.path(&format!("home-{index}"))).unwrap();
        fs::create_dir(nix.path("home")).unwrap();
        let output = fetch(&nix, &format!("store-{index}"), &changed.store_path, &key.to_string());
        assert!(!output.status.success(), "Nix took a narinfo with another {what}");
        assert!(trusted.verify(changed).is_err(), "we took a narinfo with another {what}");
    }
}

#[test]
fn nix_needs_no_key_for_what_is_named_by_its_content() {
    let Some(nix) = Nix::installed("nix_needs_no_key_for_what_is_named_by_its_content") else { return };
    let [mut narinfo, _] = publish_artifacts(&nix);
    narinfo.signatures.clear();
    narinfo.content_address = Some(ContentAddress::RecursiveSha256(narinfo.nar_hash));
    put(&nix, &narinfo);
    assert!(!fetch(&nix, "store", &narinfo.store_path, "").status.success(), "the path by key needs a signature");
    assert!(Verified::by_content(narinfo.clone()).is_err());

    let name = narinfo.store_path.name().clone();
    narinfo.store_path = StorePath::by_content(&narinfo.nar_hash, &BTreeSet::new(), false, name);
    put(&nix, &narinfo);
    let output = fetch(&nix, "store", &narinfo.store_path, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(Verified::by_content(narinfo).is_ok());
}

#[test]
fn caches_that_nix_writes_are_read() {
    let Some(nix) = Nix::installed("caches_that_nix_writes_are_read") else { return };
    let [tree, ..] = make_trees(&nix);
    nix.run("nix-store", &["--generate-binary-cache-key", "cache.example.org-1", "secret", "public"]);
    let store = nix.path("store");
    let add = ["--store", store.as_str(), "--add-fixed", "--recursive", "sha256", tree.as_str()];
    let path: StorePath = nix.line("nix-store", &add).parse().unwrap();
    let public: PublicKey = fs::read_to_string(nix.path("public")).unwrap().parse().unwrap();
    let trusted = TrustedKeys::from_iter([public]);
    for compression in ["none", "xz", "zstd"] {
        let cache = nix.path(compression);
        let options = format!("compression={compression}&write-nar-listing=true&secret-key={}", nix.path("secret"));
        let to = format!("file://{cache}?{options}");
        nix.run("nix", &["copy", "--store", store.as_str(), "--to", &to, &path.to_string()]);

        let info = CacheInfo::parse(&fs::read(cache.join("nix-cache-info")).unwrap()).unwrap();
        assert!(info.store_directory.is_default());
        let text = fs::read_to_string(cache.join(format!("{}.narinfo", path.hash()))).unwrap();
        let narinfo = NarInfo::parse(text.as_bytes(), Asked::Path(&path)).unwrap();
        assert_eq!(narinfo.to_string(), text);
        assert_eq!(narinfo.compression.to_string(), compression);
        let file = fs::read(cache.join(narinfo.url.as_str())).unwrap();
        assert_eq!((narinfo.file_size, narinfo.file_hash), (Some(file.len() as u64), Some(Sha256::of(&file))));
        let url = NarUrl::by_convention(&Sha256::of(&file), &narinfo.compression);
        assert_eq!(narinfo.url, url);
        let verified = trusted.verify(narinfo.clone()).unwrap();
        assert_eq!(verified, Verified::by_content(narinfo).unwrap());

        let nar = pack(&tree);
        assert_eq!((verified.nar_hash, verified.nar_size), (Sha256::of(&nar), nar.len() as u64));
        let listing = fs::read_to_string(cache.join(format!("{}.ls", path.hash()))).unwrap();
        assert_eq!(Listing::read(&mut read_nar(&nar)).unwrap().to_json(), listing);
    }
}
