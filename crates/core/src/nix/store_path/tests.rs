use proptest::prelude::*;

use super::*;

fn name(text: &str) -> StorePathName {
    text.parse().unwrap()
}

fn by_key(key: &str, of: &str) -> StorePath {
    StorePath::by_key(Sha256::of(key.as_bytes()).as_bytes(), name(of))
}

fn nar_hash(nix32: &str) -> Sha256 {
    format!("sha256:{nix32}").parse().unwrap()
}

#[test]
fn a_path_by_key_is_the_one_that_nix_makes() {
    assert_eq!(
        Sha256::of(b"cargo-nixcache/v1\ncrate serde 1.0.0").to_hex(),
        "253afbae2d45a5f006912cb53c92a02afc59dc7c9358a327dbfea0d64a962e6f"
    );
    assert_eq!(
        by_key("cargo-nixcache/v1\ncrate serde 1.0.0", "cargo-serde-1.0.0").to_string(),
        "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0"
    );
    assert_eq!(
        by_key("cargo-nixcache/v1\nbundle", "cargo-deps-demo").base_name(),
        "ry1s27ixrcxfcj0shn69cvavn2mpmz8w-cargo-deps-demo"
    );
}

#[test]
fn a_path_by_content_is_the_one_that_nix_makes() {
    let none = BTreeSet::new();
    let tree: Sha256 = "sha256:1f6aa3c4041976367935c13e6624b3b9d13a7ef61446964f08f52787d6b5dfea".parse().unwrap();
    let path = StorePath::by_content(&tree, &none, false, name("t"));
    assert_eq!(path.base_name(), "c4scc4jfksdz8kbz2f9c6x2469jy2ykv-t");

    let serde = nar_hash("05ygi6f6nhb0zd4zlyiaqnz3s08kc87s7yi3rbjd5bmw749h2ci9");
    let serde = StorePath::by_content(&serde, &none, false, name("cargo-serde-1.0.0"));
    assert_eq!(serde.base_name(), "rgy3mk635ha257gr8x39pdr7bkpf84ma-cargo-serde-1.0.0");

    let deps = nar_hash("0mxl0ls1211k833fnnpbi46klizyffvhv0snndba2iqrkha5g4zm");
    let by_key = by_key("cargo-nixcache/v1\ncrate serde 1.0.0", "cargo-serde-1.0.0");
    let path = |reference: StorePath, to_itself| {
        StorePath::by_content(&deps, &BTreeSet::from([reference]), to_itself, name("cargo-deps-demo"))
    };
    assert_eq!(path(serde.clone(), false).base_name(), "cddbjf16xn3n8mhsrz42qz5b8v7cm2nw-cargo-deps-demo");
    assert_ne!(path(serde.clone(), true), path(serde.clone(), false));
    assert_ne!(path(by_key, false), path(serde, false));
}

#[test]
fn names_are_what_nix_allows() {
    for allowed in ["a", "0", "cargo-serde-1.0.0", "A+z_?=", ".a", "...", "...-x", "-", "a-.", &"x".repeat(211)] {
        assert_eq!(allowed.parse::<StorePathName>().map(|name| name.to_string()).as_deref(), Ok(allowed));
    }
    for refused in ["", ".", "..", ".-a", "..-a", ".-", "a/b", "a b", "a\n", "ä", "a\0", "~", &"x".repeat(212)] {
        assert!(refused.parse::<StorePathName>().is_err(), "{refused:?}");
    }
}

#[test]
fn what_is_no_store_path_is_refused() {
    let good = "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-cargo-serde-1.0.0";
    assert!(good.parse::<StorePath>().is_ok());
    for bad in [
        "",
        "/nix/store",
        "/nix/store/",
        "/nix/storevjjjypqlg1pgfwnjjbzxr8nd5x41laka-x",
        "/gnu/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-x",
        "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka",
        "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-",
        "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41lak-x",
        "/nix/store/ejjjypqlg1pgfwnjjbzxr8nd5x41laka-x",
        "/nix/store/VJJJYPQLG1PGFWNJJBZXR8ND5X41LAKA-x",
        "/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laké-x",
        "vjjjypqlg1pgfwnjjbzxr8nd5x41laka-x",
        &format!("{good}/"),
        &format!("{good}/lib"),
        &format!("{good}\n"),
        &format!(" {good}"),
        &good.replace("/nix", "//nix"),
    ] {
        assert!(bad.parse::<StorePath>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_store_directory_is_a_plain_absolute_path() {
    assert!(StoreDirectory::default().is_default());
    assert!("/nix/store".parse::<StoreDirectory>().unwrap().is_default());
    assert!(!"/srv/my store".parse::<StoreDirectory>().unwrap().is_default());
    for bad in ["", "/", "nix/store", "/nix/store/", "/nix//store", "/nix/./store", "/nix/../store", "/a\nb"] {
        assert!(bad.parse::<StoreDirectory>().is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn paths_survive(hash: [u8; 20], name in "[A-Za-z0-9+_?=][A-Za-z0-9+_?=.-]{0,60}") {
        let path = StorePath::new(StorePathHash::from_bytes(hash), name.parse().unwrap());
        prop_assert_eq!(path.to_string().parse(), Ok(path.clone()));
        prop_assert_eq!(StorePath::from_base_name(&path.base_name()), Ok(path.clone()));
        prop_assert_eq!(path.hash().to_string().parse(), Ok(*path.hash()));
    }

    #[test]
    fn paths_sort_as_their_texts(mut first: [u8; 20], second: [u8; 20], equal: bool, names in ["[ab-]{1,3}", "[ab-]{1,3}"]) {
        if equal {
            first = second;
        }
        let [one, two] = [(first, &names[0]), (second, &names[1])]
            .map(|(hash, name)| StorePath::new(StorePathHash::from_bytes(hash), name.parse().unwrap()));
        prop_assert_eq!(one.cmp(&two), one.to_string().cmp(&two.to_string()));
    }
}
