//! Sets travel whole, and nothing that looks like one is taken for one.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::digest::KeyHasher;

fn key(name: &str) -> Key {
    KeyHasher::new("set-test/1").field("name", name).key()
}

fn output() -> OutputPath {
    OutputPath::new(None, "app-1.0.0".parse().unwrap(), Sha256::of(b"nar"), 3)
}

fn unit(package: &str, records: &[&str]) -> SetUnit {
    SetUnit {
        package: package.to_owned(),
        version: "1.0.0".to_owned(),
        inputs: key(package),
        records: records.iter().map(|record| key(record)).collect(),
    }
}

fn set() -> SetManifest {
    SetManifest {
        key: key("set"),
        label: "package app 1.0.0".to_owned(),
        sets: [store_path(&key("deps"), "deps", "1")].into(),
        outputs: [output()].into(),
        units: [unit("app", &["a", "b"]), unit("serde", &["c"])].into(),
    }
}

fn packed(set: &SetManifest) -> Vec<u8> {
    let mut nar = Vec::new();
    set.write(&mut nar).unwrap();
    nar
}

/// A NAR with a manifest that somebody else wrote.
fn forged(name: &str, text: &[u8], executable: bool) -> Vec<u8> {
    let mut nar = NarWriter::new(Vec::new());
    nar.begin_directory().unwrap();
    nar.entry(name.as_bytes()).unwrap();
    nar.regular_bytes(executable, text).unwrap();
    nar.end_directory().unwrap();
    nar.finish().unwrap()
}

fn read(nar: &[u8]) -> Result<SetManifest, SetError> {
    SetManifest::read(&key("set"), &mut &nar[..])
}

fn document() -> Value {
    let nar = packed(&set());
    let start = nar.windows(2).position(|window| window == b"{\"").unwrap();
    let mut stream = serde_json::Deserializer::from_slice(&nar[start..]).into_iter();
    stream.next().unwrap().unwrap()
}

#[test]
fn a_set_travels_whole() {
    let set = set();
    assert_eq!(read(&packed(&set)).unwrap(), set);
    let references = set.references();
    assert_eq!(references.len(), 5);
    assert!(references.contains(&store_path(&key("b"), "app", "1.0.0")));
    assert!(references.contains(&output().path));
}

#[test]
fn the_format_is_as_documented() {
    let expected = json!({
        "schema": 1,
        "key": key("set"),
        "label": "package app 1.0.0",
        "sets": [store_path(&key("deps"), "deps", "1").to_string()],
        "outputs": [{
            "platform": null,
            "path": output().path.to_string(),
            "nar-hash": Sha256::of(b"nar").to_string(),
            "nar-size": 3,
        }],
        "units": [
            {"package": "app", "version": "1.0.0", "inputs": key("app"), "records": [key("a"), key("b")]},
            {"package": "serde", "version": "1.0.0", "inputs": key("serde"), "records": [key("c")]},
        ],
    });
    assert_eq!(document(), expected);
}

#[test]
fn a_set_of_another_key_is_refused() {
    let error = SetManifest::read(&key("other"), &mut &packed(&set())[..]).unwrap_err();
    assert!(matches!(error, SetError::OtherKey { .. }), "{error}");
}

#[test]
fn what_is_not_in_order_is_refused() {
    type Change = fn(&mut Value);
    let unit = |package: &str, records: Value| json!({"package": package, "version": "1", "inputs": key("x"), "records": records});
    let changes: [(&str, Change); 6] = [
        ("units in another order", |document| document["units"].as_array_mut().unwrap().reverse()),
        ("a unit twice", |document| {
            let unit = document["units"][0].clone();
            document["units"].as_array_mut().unwrap().insert(0, unit);
        }),
        ("another path of an output", |document| {
            document["outputs"][0]["path"] = json!(store_path(&key("x"), "app", "1.0.0").to_string());
        }),
        ("a path out of the store", |document| document["sets"][0] = json!("/nix/store/../../etc/passwd")),
        ("a set that is no path", |document| document["sets"][0] = json!("cargo-deps-app")),
        ("a long label", |document| document["label"] = json!("x".repeat(LONGEST + 1))),
    ];
    for (what, change) in changes {
        let mut document = document();
        change(&mut document);
        let error = read(&forged(NAME, document.to_string().as_bytes(), false)).unwrap_err();
        assert!(matches!(error, SetError::Order { .. }), "{what}: {error}");
    }
    let many: Vec<Key> = (0..MOST_RECORDS + 1).map(|number| key(&number.to_string())).collect();
    for bad in [unit("", json!([key("a")])), unit("app", json!([])), unit("app", json!(many))] {
        let mut document = document();
        document["units"] = json!([bad]);
        let error = read(&forged(NAME, document.to_string().as_bytes(), false)).unwrap_err();
        assert!(matches!(error, SetError::Order { .. }), "{bad}: {error}");
    }
}

#[test]
fn manifests_of_another_form_are_refused() {
    let with = |field: &str, value: Value| {
        let mut document = document();
        document[field] = value;
        document.to_string().into_bytes()
    };
    let mut lacking = document();
    lacking.as_object_mut().unwrap().remove("units");
    let all = [
        with("schema", json!(2)),
        with("more", json!(1)),
        with("key", json!("x")),
        lacking.to_string().into_bytes(),
        b"[]".to_vec(),
        Vec::new(),
        b"{\"schema\": 1".to_vec(),
    ];
    for text in all {
        let error = read(&forged(NAME, &text, false)).unwrap_err();
        assert!(matches!(error, SetError::Manifest { .. }), "{error}");
    }
}

#[test]
fn a_set_of_the_largest_kind_travels_and_a_bomb_does_not() {
    let units = (0..MOST_REFERENCES).map(|n| unit(&format!("a-package-with-a-long-name-{n}"), &[&n.to_string()]));
    let large = SetManifest { units: units.collect(), sets: [].into(), outputs: [].into(), ..set() };
    assert_eq!(read(&packed(&large)).unwrap(), large);
    let with = |field: &str, value: Value| {
        let mut document = document();
        document[field] = value;
        read(&forged(NAME, document.to_string().as_bytes(), false)).unwrap_err()
    };
    let units = vec![json!({"package": "a", "version": "1", "inputs": key("a"), "records": [""]}); 10_000];
    for error in [
        with("sets", json!(vec![""; 1 << 18])),
        with("units", json!(units)),
        with("label", json!(" ".repeat(2 << 20))),
        with("more", json!(vec![json!([[]]); 1 << 16])),
    ] {
        assert!(matches!(error, SetError::TooLarge { .. }), "{error}");
    }
    let many = (0..20_000).map(|n| store_path(&key(&n.to_string()), "a", "1")).collect();
    SetManifest { sets: many, ..set() }.write(&mut Vec::new()).unwrap_err();
}

#[test]
fn archives_with_other_files_are_refused() {
    let text = document().to_string().into_bytes();
    let mut two = NarWriter::new(Vec::new());
    two.begin_directory().unwrap();
    for name in [NAME, "z"] {
        two.entry(name.as_bytes()).unwrap();
        two.regular_bytes(false, &text).unwrap();
    }
    two.end_directory().unwrap();
    let mut link = NarWriter::new(Vec::new());
    link.begin_directory().unwrap();
    link.entry(NAME.as_bytes()).unwrap();
    link.symlink(b"/etc/passwd").unwrap();
    link.end_directory().unwrap();
    let mut file = NarWriter::new(Vec::new());
    file.regular_bytes(false, &text).unwrap();
    let mut empty = NarWriter::new(Vec::new());
    empty.begin_directory().unwrap();
    empty.end_directory().unwrap();
    let all = [
        forged("other.json", &text, false),
        forged(NAME, &text, true),
        two.finish().unwrap(),
        link.finish().unwrap(),
        file.finish().unwrap(),
        empty.finish().unwrap(),
    ];
    for nar in all {
        let error = read(&nar).unwrap_err();
        assert!(matches!(error, SetError::Files { .. }), "{error}");
    }
    let whole = packed(&set());
    let error = read(&whole[..whole.len() - 8]).unwrap_err();
    assert!(matches!(error, SetError::Nar { .. }), "{error}");
}

fn any_key() -> impl Strategy<Value = Key> {
    any::<[u8; 32]>().prop_map(Key::from_bytes)
}

fn any_unit() -> impl Strategy<Value = SetUnit> {
    ("[a-z][a-z0-9_-]{0,20}", "[0-9]{1,3}\\.[0-9]\\.[0-9]", any_key(), vec(any_key(), 1..4))
        .prop_map(|(package, version, inputs, records)| SetUnit { package, version, inputs, records })
}

fn any_output() -> impl Strategy<Value = OutputPath> {
    (proptest::option::of("[a-z0-9-]{1,20}"), "[a-z]{1,9}", any::<[u8; 32]>(), 1..u64::MAX).prop_map(
        |(platform, name, hash, size)| OutputPath::new(platform, name.parse().unwrap(), Sha256::from_bytes(hash), size),
    )
}

proptest! {
    #[test]
    fn every_set_comes_back(
        units in btree_set(any_unit(), 0..20),
        outputs in btree_set(any_output(), 0..4),
        sets in btree_set(any_key(), 0..4),
        label in ".{0,40}",
    ) {
        let sets = sets.iter().map(|key| store_path(key, "deps", "1")).collect();
        let set = SetManifest { key: key("set"), label, sets, outputs, units };
        prop_assert_eq!(read(&packed(&set)).unwrap(), set);
    }

    #[test]
    fn what_was_damaged_is_another_set_or_none(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let before = packed(&set());
        let mut nar = before.clone();
        let at = at.index(nar.len());
        nar[at] = byte;
        // It may still be a set, but then one that is in order.
        if let Ok(set) = read(&nar) {
            prop_assert!(packed(&set).len() == nar.len());
        }
    }
}
