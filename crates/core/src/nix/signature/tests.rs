use proptest::prelude::*;

use super::super::hash::Sha256;
use super::super::narinfo::{Compression, NarUrl};
use super::super::store_path::StorePathName;
use super::*;

fn secret_key(name: &str, first: u8) -> SecretKey {
    let seed: Vec<u8> = (first..first + 32).collect();
    SecretKey::generate(name.parse().unwrap(), &seed.try_into().unwrap())
}

fn key() -> SecretKey {
    secret_key("nixcache-test-1", 0)
}

fn trusting(key: &SecretKey) -> TrustedKeys {
    TrustedKeys::from_iter([key.public()])
}

const PUBLIC: &str = "nixcache-test-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

fn name(text: &str) -> StorePathName {
    text.parse().unwrap()
}

fn narinfo() -> NarInfo {
    let nar_hash = "sha256:05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9".parse().unwrap();
    let key = Sha256::of(b"cargo-nixcache/v1\ncrate serde 1.0.0");
    NarInfo {
        store_path: StorePath::by_key(key.as_bytes(), name("cargo-serde-1.0.0")),
        url: "nar/x.nar".parse().unwrap(),
        compression: Compression::None,
        file_hash: None,
        file_size: None,
        nar_hash,
        nar_size: 696,
        references: Default::default(),
        deriver: None,
        signatures: vec![],
        content_address: None,
    }
}

fn by_content() -> NarInfo {
    let mut narinfo = narinfo();
    narinfo.content_address = Some(ContentAddress::RecursiveSha256(narinfo.nar_hash));
    narinfo.store_path = "/nix/store/rgy3mk635ha257gr8x39pdr7bkpf84ma-cargo-serde-1.0.0".parse().unwrap();
    narinfo
}

#[test]
fn the_public_key_of_a_seed_is_the_one_that_nix_makes() {
    assert_eq!(key().public().to_string(), PUBLIC);
    assert_eq!(PUBLIC.parse(), Ok(key().public()));
}

#[test]
fn a_secret_key_survives_its_file() {
    let text = key().to_file_text();
    let seed: Vec<u8> = (0..32).collect();
    let (_, base64) = text.split_once(':').unwrap();
    assert!(BASE64.decode(base64).unwrap().starts_with(&seed));
    for text in [text.to_string(), format!("{}\n", *text)] {
        let read = SecretKey::parse(&text).unwrap();
        assert_eq!(read.public(), key().public());
        assert_eq!(read.sign(b"x"), key().sign(b"x"));
    }
}

#[test]
fn a_secret_key_whose_halves_do_not_belong_together_is_refused() {
    let mut bytes = BASE64.decode(key().to_file_text().split_once(':').unwrap().1).unwrap();
    bytes[0] ^= 1;
    let error = SecretKey::parse(&format!("k:{}", BASE64.encode(bytes))).err();
    assert_eq!(error, Some(KeyError::Halves { name: "k".parse().unwrap() }));
}

#[test]
fn what_is_no_key_is_refused_and_not_repeated() {
    let secret = key().to_file_text().to_string();
    assert_eq!("".parse::<PublicKey>(), Err(KeyError::Form));
    assert_eq!(secret.replace(':', "").parse::<PublicKey>(), Err(KeyError::Form));
    assert_eq!(":AAAA".parse::<PublicKey>(), Err(KeyError::Name));
    assert_eq!("a b:AAAA".parse::<PublicKey>(), Err(KeyError::Name));
    // A secret key where a public one belongs: the message must not show it.
    let error = secret.parse::<PublicKey>().unwrap_err().to_string();
    assert!(!error.contains("AAEC") && error.contains("nixcache-test-1"), "{error}");
    for text in ["k:", "k:AAAA", "k:%", &format!("{PUBLIC}\n"), &PUBLIC.replace('=', ""), &format!("k:{PUBLIC}")] {
        assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
    }
}

#[test]
fn a_key_that_verifies_anything_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    for weak in [[0; 32], identity] {
        let text = format!("weak:{}", BASE64.encode(weak));
        assert_eq!(text.parse::<PublicKey>(), Err(KeyError::NoKey { name: "weak".parse().unwrap() }));
    }
}

#[test]
fn a_second_signature_made_of_a_good_one_is_refused() {
    let good = key().sign(b"message");
    // The order of the group, little-endian: adding it to the second half gives a signature that lax verifiers take.
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (mut bytes, mut carry) = (good.bytes, 0_u16);
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + add;
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    assert!(key().public().verifies(b"message", &good));
    assert!(!key().public().verifies(b"message", &Signature::new(good.key_name.clone(), bytes)));
    assert!(!key().public().verifies(b"massage", &good));
}

#[test]
fn a_narinfo_of_a_trusted_key_is_believed() {
    let mut signed = narinfo();
    signed.sign(&key());
    assert_eq!(trusting(&key()).verify(signed.clone()).unwrap().into_inner(), signed);
}

#[test]
fn signatures_that_nobody_trusted_made_do_no_harm_beside_a_good_one() {
    let mut signed = narinfo();
    signed.sign(&secret_key("other-1", 100));
    signed.signatures.push(Signature::new("nixcache-test-1".parse().unwrap(), [7; 64]));
    let good = key().sign(signed.fingerprint().as_bytes());
    signed.signatures.push(good);
    assert!(trusting(&key()).verify(signed).is_ok());
}

#[test]
fn of_many_signatures_under_a_trusted_name_the_first_are_looked_at() {
    let bad = Signature::new(key().name().clone(), [7; 64]);
    let strange = Signature::new("other-1".parse().unwrap(), [7; 64]);
    let good = key().sign(narinfo().fingerprint().as_bytes());
    for (before, is_believed) in [(0, true), (15, true), (16, false), (10_000, false)] {
        let mut signed = narinfo();
        // Those of others cost nothing, and don't count.
        signed.signatures = vec![strange.clone(); 1000];
        signed.signatures.extend(vec![bad.clone(); before]);
        signed.signatures.push(good.clone());
        let verified = trusting(&key()).verify(signed);
        assert_eq!(verified.is_ok(), is_believed, "{before}");
        assert!(verified.err().is_none_or(|error| error.is_tampering()), "{before}");
    }
}

#[test]
fn a_narinfo_without_signature_is_not_believed() {
    let error = trusting(&key()).verify(narinfo()).unwrap_err();
    assert_eq!(error, Unverified::Unsigned { path: narinfo().store_path });
    assert!(!error.is_tampering());
}

#[test]
fn a_narinfo_of_others_is_not_believed() {
    let mut signed = narinfo();
    signed.sign(&key());
    for trusted in [TrustedKeys::default(), trusting(&secret_key("other-1", 1))] {
        let error = trusted.verify(signed.clone()).unwrap_err();
        let keys = vec![key().name().clone()];
        assert_eq!(error, Unverified::UnknownKeys { path: narinfo().store_path, keys });
        assert!(!error.is_tampering());
    }
}

#[test]
fn a_wrong_signature_under_a_trusted_name_is_loud() {
    let mut signed = narinfo();
    signed.sign(&secret_key("nixcache-test-1", 1));
    let error = trusting(&key()).verify(signed.clone()).unwrap_err();
    assert_eq!(error, Unverified::BadSignature { path: narinfo().store_path, key: key().name().clone() });
    assert!(error.is_tampering());
    // Also when somebody unknown signed it too.
    signed.sign(&secret_key("other-1", 100));
    assert!(trusting(&key()).verify(signed).unwrap_err().is_tampering());
}

#[test]
fn whatever_is_signed_cannot_be_changed() {
    let mut signed = narinfo();
    signed.references = BTreeSetOf::from([by_content().store_path]);
    signed.sign(&key());
    type Change = fn(&mut NarInfo);
    let changes: [(&str, Change); 4] = [
        ("path", |narinfo| narinfo.store_path = by_content().store_path),
        ("hash", |narinfo| narinfo.nar_hash = Sha256::of(b"")),
        ("size", |narinfo| narinfo.nar_size += 1),
        ("references", |narinfo| narinfo.references.clear()),
    ];
    for (what, change) in changes {
        let mut changed = signed.clone();
        change(&mut changed);
        assert!(trusting(&key()).verify(changed).unwrap_err().is_tampering(), "{what}");
    }
}

type BTreeSetOf = std::collections::BTreeSet<StorePath>;

#[test]
fn what_is_not_signed_can_be_changed() {
    let mut signed = narinfo();
    signed.sign(&key());
    signed.url = NarUrl::by_convention(&Sha256::of(b""), &Compression::Zstd);
    signed.compression = Compression::Zstd;
    assert!(trusting(&key()).verify(signed).is_ok());
}

#[test]
fn two_keys_of_one_name_are_both_trusted() {
    let mut trusted = trusting(&key());
    trusted.insert(secret_key("nixcache-test-1", 1).public());
    trusted.insert(key().public());
    assert_eq!(trusted.iter().count(), 2);
    for seed in [0, 1] {
        let mut signed = narinfo();
        signed.sign(&secret_key("nixcache-test-1", seed));
        assert!(trusted.verify(signed).is_ok());
    }
}

#[test]
fn content_vouches_for_a_path_that_is_named_by_it() {
    assert!(Verified::by_content(by_content()).is_ok());
    let mut to_itself = by_content();
    let others = BTreeSetOf::from([narinfo().store_path]);
    to_itself.store_path = StorePath::by_content(&to_itself.nar_hash, &others, true, name("x"));
    to_itself.references = others;
    to_itself.references.insert(to_itself.store_path.clone());
    assert!(Verified::by_content(to_itself.clone()).is_ok());
    to_itself.references.remove(&to_itself.store_path);
    assert!(Verified::by_content(to_itself).unwrap_err().is_tampering());
}

#[test]
fn content_does_not_vouch_for_another_path() {
    let mut claim = narinfo();
    claim.content_address = Some(ContentAddress::RecursiveSha256(claim.nar_hash));
    let content_path = by_content().store_path;
    let error = Verified::by_content(claim.clone()).unwrap_err();
    assert_eq!(error, Unverified::OtherContent { path: claim.store_path, content_path });
    assert!(error.is_tampering());
}

#[test]
fn a_content_address_that_is_not_checked_vouches_for_nothing() {
    let other: fn(&NarInfo) -> Option<ContentAddress> = |_| Some(ContentAddress::RecursiveSha256(Sha256::of(b"")));
    let flat: fn(&NarInfo) -> Option<ContentAddress> =
        |narinfo| Some(format!("fixed:{}", narinfo.nar_hash).parse().unwrap());
    for address in [|_: &NarInfo| None, other, flat] {
        let mut claim = by_content();
        claim.content_address = address(&claim);
        let path = claim.store_path.clone();
        assert_eq!(Verified::by_content(claim), Err(Unverified::NoContentAddress { path }));
    }
}

#[test]
fn a_key_has_a_name_that_looks_like_nothing_else() {
    let base64 = key().public().to_string().split_once(':').unwrap().1.to_owned();
    for name in ["team#1", "te\u{200b}am-1", "te\u{ad}am", "\u{202e}team", "te\u{3164}am", "tëam", "t\u{435}am"] {
        let refused = format!("{name}:{base64}").parse::<PublicKey>().unwrap_err();
        assert_eq!(refused, KeyError::NotPlain { name: name.to_owned() });
        assert!(refused.to_string().is_ascii(), "{refused}");
        let secret = SecretKey::generate(name.parse().unwrap(), &[7; 32]).to_file_text();
        assert!(matches!(SecretKey::parse(&secret), Err(KeyError::NotPlain { .. })));
        // Somebody's signature beside the one that counts does no harm.
        let signature = format!("{name}:{}", BASE64.encode([1; 64]));
        assert_eq!(signature.parse::<Signature>().unwrap().to_string(), signature);
    }
    assert!(format!("cache.example.org-1_(a)@b/c+d=:{base64}").parse::<PublicKey>().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn keys_and_signatures_survive(seed: [u8; 32], name in "[a-zA-Z0-9._-]{1,40}", message: Vec<u8>) {
        let key = SecretKey::generate(name.parse().unwrap(), &seed);
        prop_assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        let signature = key.sign(&message);
        prop_assert_eq!(signature.to_string().parse(), Ok(signature.clone()));
        prop_assert!(key.public().verifies(&message, &signature));
        prop_assert!(SecretKey::parse(&key.to_file_text()).is_ok());
    }

    #[test]
    fn no_changed_signature_verifies(position in 0_usize..64, bit in 0_u8..8) {
        let mut signature = key().sign(b"message");
        signature.bytes[position] ^= 1 << bit;
        prop_assert!(!key().public().verifies(b"message", &signature));
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC*:?[A-Za-z0-9+/=]{0,120}") {
        let _ = (text.parse::<PublicKey>(), text.parse::<Signature>(), SecretKey::parse(&text).err());
    }
}
