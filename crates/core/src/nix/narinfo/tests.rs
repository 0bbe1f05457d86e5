use proptest::prelude::*;

use super::super::signature::TrustedKeys;
use super::super::store_path::StorePathName;
use super::*;

fn key() -> SecretKey {
    let seed: Vec<u8> = (0..32).collect();
    SecretKey::generate("nixcache-test-1".parse().unwrap(), &seed.try_into().unwrap())
}

/// In the form that Nix 2.8 writes; the signature was compared with Nix's.
const SERDE: &str = "\
StorePath: /nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0
URL: nar/05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9.nar
Compression: none
FileHash: sha256:05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9
FileSize: 696
NarHash: sha256:05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9
NarSize: 696
References: \n\
Sig: nixcache-test-1:GhJ6B++L9kL0zJj95PjEaGB9pAX1Ev7YBUhBNfO7ZsuOsaDzCh3Ad0zzngJycmvhSgWdCGf0JZhVujAFCbkmAg==
";

const DEPS: &str = "\
StorePath: /nix/store/ry1s27ixrcxfcj0shn69cvavn2mpmz8w-cargo-deps-demo
URL: nar/0mxl0ls1211k833fnnpbi46klizyffvhv0snndba2iqrkha5g4zm.nar.zst
Compression: zstd
FileSize: 200
NarHash: sha256:0mxl0ls1211k833fnnpbi46klizyffvhv0snndba2iqrkha5g4zm
NarSize: 296
References: vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0
Deriver: vjjjypqlg1pgfwnjjbzxr8nd5x41laka-x.drv
Sig: nixcache-test-1:4Ace7aw5M9PVNdFHw7bIKB2r4ZRkqk71XJImVjYs0IkYjQDP2oz3G5rBk2vrsHnn/hWoOMFEHnTYdv2l11yUCQ==
CA: fixed:r:sha256:0mxl0ls1211k833fnnpbi46klizyffvhv0snndba2iqrkha5g4zm
";

fn parse(text: &str) -> Result<NarInfo, NarInfoError> {
    NarInfo::parse(text.as_bytes(), Asked::Anything)
}

#[test]
fn the_text_is_as_nix_writes_it() {
    for text in [SERDE, DEPS] {
        assert_eq!(parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn what_is_signed_is_what_nix_signs() {
    let deps = parse(DEPS).unwrap();
    assert_eq!(
        deps.fingerprint(),
        "1;/nix/store/ry1s27ixrcxfcj0shn69cvavn2mpmz8w-cargo-deps-demo;\
         sha256:0mxl0ls1211k833fnnpbi46klizyffvhv0snndba2iqrkha5g4zm;296;\
         /nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0"
    );
    for text in [SERDE, DEPS] {
        let expected = parse(text).unwrap();
        let mut signed = expected.clone();
        signed.signatures.clear();
        signed.sign(&key());
        assert_eq!(signed, expected);
        signed.sign(&key());
        assert_eq!(signed, expected, "signing again changes nothing");
        assert!(TrustedKeys::from_iter([key().public()]).verify(signed).is_ok());
    }
}

#[test]
fn references_are_signed_in_the_order_of_their_texts() {
    let base_name = |first: &str| format!("{first}jjjypqlg1pgfwnjjbzxr8nd5x41laka-x");
    let references = ["z", "0", "b", "9"].map(base_name).join(" ");
    let narinfo = parse(&DEPS.replace("vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0", &references)).unwrap();
    let sorted = ["0", "9", "b", "z"].map(|first| format!("/nix/store/{}", base_name(first))).join(",");
    assert!(narinfo.fingerprint().ends_with(&sorted), "{}", narinfo.fingerprint());
}

#[test]
fn what_other_caches_write_is_read() {
    let hex = "1f6aa3c4041976367935c13e6624b3b9d13a7ef61446964f08f52787d6b5dfea";
    let serde = parse(SERDE).unwrap();
    let with = |from: &str, to: &str| parse(&SERDE.replace(from, to)).unwrap();

    let url = "https://cache.example.org/nar/x.nar.xz?hash=vjjjypqlg1pgfwnjjbzxr8nd5x41laka&n=1";
    assert_eq!(with("nar/05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9.nar", url).url.as_str(), url);
    let hash = with(
        "FileHash: sha256:05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9",
        &format!("FileHash: sha256:{hex}"),
    );
    assert_eq!(hash.file_hash.unwrap().to_hex(), hex);
    assert_eq!(with("Compression: none\n", "").compression, Compression::Bzip2);
    assert_eq!(with("none", "br").compression.to_string(), "br");
    assert_eq!(with("References: \n", "").references.len(), 0);
    assert_eq!(with("FileSize: 696", "FileSize: 0").file_size, None);
    for extra in
        ["Deriver: unknown-deriver\n", "Deriver: \n", "System: x86_64-linux\n", "New: a: b\nNew: c\n", "CA: \n"]
    {
        assert_eq!(parse(&format!("{extra}{SERDE}")).unwrap(), serde, "{extra:?}");
    }
    let unordered: String = SERDE.lines().rev().map(|line| format!("{line}\n")).collect();
    assert_eq!(parse(&unordered).unwrap(), serde);
}

#[test]
fn a_narinfo_must_be_about_what_was_asked_for() {
    let serde = parse(SERDE).unwrap().store_path;
    let deps = parse(DEPS).unwrap().store_path;
    let other_name = StorePath::new(*serde.hash(), "other".parse::<StorePathName>().unwrap());
    let read = |asked: Asked<'_>| NarInfo::parse(SERDE.as_bytes(), asked).map(|narinfo| narinfo.store_path);
    assert_eq!(read(Asked::Path(&serde)), Ok(serde.clone()));
    assert_eq!(read(Asked::Hash(serde.hash())), Ok(serde.clone()));
    for asked in [Asked::Path(&deps), Asked::Path(&other_name), Asked::Hash(deps.hash())] {
        assert!(matches!(read(asked), Err(NarInfoError::OtherPath { found, .. }) if found == serde), "{asked:?}");
    }
}

#[test]
fn what_is_needed_must_be_there() {
    for field in ["StorePath", "URL", "NarHash", "NarSize"] {
        let without: String = SERDE
            .lines()
            .filter(|line| !line.starts_with(&format!("{field}:")))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(parse(&without), Err(NarInfoError::Missing { field }));
    }
}

#[test]
fn nothing_may_be_there_twice() {
    for line in DEPS.lines().filter(|line| !line.starts_with("Sig")) {
        let twice = format!("{DEPS}{line}\n");
        assert!(matches!(parse(&twice), Err(NarInfoError::Twice { .. })), "{line}");
    }
}

#[test]
fn a_file_that_was_cut_off_is_refused() {
    assert_eq!(parse(SERDE.trim_end()), Err(NarInfoError::CutOff));
    assert_eq!(parse(""), Err(NarInfoError::CutOff));
}

#[test]
fn carriage_returns_and_other_control_characters_are_refused() {
    assert_eq!(parse(&SERDE.replace('\n', "\r\n")), Err(NarInfoError::Line { line: 1 }));
    assert_eq!(parse(&SERDE.replace("none", "no\0ne")), Err(NarInfoError::Line { line: 3 }));
    assert_eq!(parse(&SERDE.replace("none", "none\u{85}Sig: x:y")), Err(NarInfoError::Line { line: 3 }));
}

#[test]
fn lines_that_are_no_fields_are_refused() {
    for line in ["", "<html>", "References:", "Deriver:x", " "] {
        assert_eq!(parse(&format!("{line}\n{SERDE}")), Err(NarInfoError::Line { line: 1 }), "{line:?}");
    }
}

#[test]
fn sizes_are_plain_numbers() {
    for size in ["0", "-1", "+1", "1.0", "0x10", "", " 1", "18446744073709551616"] {
        let text = SERDE.replace("NarSize: 696", &format!("NarSize: {size}"));
        assert_eq!(parse(&text), Err(NarInfoError::Size { field: "NarSize" }), "{size:?}");
    }
}

#[test]
fn values_that_lead_elsewhere_are_refused() {
    for (from, to) in [
        ("/nix/store/vjj", "/nix/store/../vjj"),
        ("/nix/store/vjj", "/gnu/store/vjj"),
        ("cargo-serde-1.0.0\n", "cargo-serde-1.0.0/lib\n"),
        ("References: ", "References: /nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-x"),
        ("References: ", "References: vjjjypqlg1pgfwnjjbzxr8nd5x41laka-x\tx"),
        ("URL: nar/", "URL: nar/ "),
        ("NarHash: sha256:", "NarHash: sha512:"),
        ("NarHash: sha256:05y", "NarHash: sha256:z5y"),
    ] {
        assert!(SERDE.contains(from));
        assert!(parse(&SERDE.replace(from, to)).is_err(), "{to:?}");
    }
    assert!(parse(&format!("{SERDE}CA: fixed:r:sha256:x\n")).is_err());
}

#[test]
fn signatures_of_another_kind_are_passed_over() {
    let serde = parse(SERDE).unwrap();
    for other in ["other-1:ml-dsa:AAAA", "other-1:AAAA", "nixcache-test-1:AAAA", "none", ":", "a b:c"] {
        assert_eq!(parse(&format!("Sig: {other}\n{SERDE}")).unwrap(), serde, "{other}");
        // They vouch for nothing.
        let alone = SERDE
            .lines()
            .map(|line| if line.starts_with("Sig: ") { format!("Sig: {other}\n") } else { format!("{line}\n") });
        assert!(parse(&alone.collect::<String>()).unwrap().signatures.is_empty(), "{other}");
    }
}

#[test]
fn files_that_are_no_text_or_too_large_are_refused() {
    assert_eq!(NarInfo::parse(b"StorePath: \xff\n", Asked::Anything), Err(NarInfoError::NotText));
    let filling = format!("X: {}\n", "x".repeat(SIZE_LIMIT - SERDE.len() - 4));
    assert!(parse(&format!("{filling}{SERDE}")).is_ok());
    assert_eq!(parse(&format!("X{filling}{SERDE}")), Err(NarInfoError::TooLarge));
}

#[test]
fn nars_are_where_other_tools_look_for_them() {
    let hash = Sha256::of(b"");
    let place = |compression: &str| NarUrl::by_convention(&hash, &compression.parse().unwrap()).to_string();
    for (compression, suffix) in
        [("none", ""), ("zstd", ".zst"), ("xz", ".xz"), ("gzip", ".gz"), ("", ".bz2"), ("br", ".br")]
    {
        assert_eq!(place(compression), format!("nar/{}.nar{suffix}", hash.to_nix32()));
    }
}

fn any_path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[a-z0-9+_?=][a-z0-9+_?=.-]{0,20}").prop_map(|(hash, name)| {
        StorePath::new(StorePathHash::from_bytes(hash), name.parse().expect("such names are allowed"))
    })
}

prop_compose! {
    fn any_narinfo()(
        store_path in any_path(),
        url in "[!-~]{1,60}",
        compression in "none|bzip2|gzip|xz|zstd|br",
        (file_hash, file_size) in (any::<Option<[u8; 32]>>(), proptest::option::of(1..u64::MAX)),
        nar_hash: [u8; 32],
        nar_size in 1..u64::MAX,
        references in proptest::collection::btree_set(any_path(), 0..5),
        deriver in proptest::option::of(any_path()),
        signatures in proptest::collection::vec(("[a-z0-9.-]{1,10}", any::<[u8; 32]>(), any::<[u8; 32]>()), 0..3),
        content_address in proptest::option::of("text:sha256:[0-9a-z]{52}|fixed:md5:[0-9a-f]{32}"),
    ) -> NarInfo {
        NarInfo {
            store_path,
            url: url.parse().unwrap(),
            compression: compression.parse().unwrap(),
            file_hash: file_hash.map(Sha256::from_bytes),
            file_size,
            nar_hash: Sha256::from_bytes(nar_hash),
            nar_size,
            references,
            deriver,
            signatures: signatures.into_iter().map(|(name, one, two)| {
                Signature::new(name.parse().unwrap(), [one, two].concat().try_into().unwrap())
            }).collect(),
            content_address: content_address.map(|address| address.parse().unwrap()),
        }
    }
}

proptest! {
    #[test]
    fn a_narinfo_survives(narinfo in any_narinfo()) {
        prop_assert_eq!(parse(&narinfo.to_string()), Ok(narinfo));
    }

    #[test]
    fn a_changed_byte_is_an_error_or_another_narinfo(narinfo in any_narinfo(), position: proptest::sample::Index, bit in 0_u8..8) {
        // Fields that say the same as no field: without references, and bzip2, which is Nix's default.
        prop_assume!(!narinfo.references.is_empty() && narinfo.compression != Compression::Bzip2);
        let mut bytes = narinfo.to_string().into_bytes();
        bytes[position.index(narinfo.to_string().len())] ^= 1 << bit;
        prop_assert_ne!(NarInfo::parse(&bytes, Asked::Anything), Ok(narinfo));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = NarInfo::parse(&bytes, Asked::Anything);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_byte_never_changes_what_is_believed(mut narinfo in any_narinfo(), position: proptest::sample::Index, bit in 0_u8..8) {
        narinfo.sign(&key());
        let mut bytes = narinfo.to_string().into_bytes();
        bytes[position.index(narinfo.to_string().len())] ^= 1 << bit;
        if let Ok(changed) = NarInfo::parse(&bytes, Asked::Path(&narinfo.store_path))
            && let Ok(believed) = TrustedKeys::from_iter([key().public()]).verify(changed)
        {
            prop_assert_eq!(believed.fingerprint(), narinfo.fingerprint());
        }
    }
}
