//! Sets: one look-up names what a whole build needs. They are hints, so what they say wrongly costs a fetch in vain, and
//! never a wrong hit.

use std::collections::BTreeSet;
use std::fs;

use nixcache_core::digest::Key;
use nixcache_core::exchange::{SetManifest, SetUnit};
use nixcache_core::nix::{Compression, NarInfo, NarUrl, SecretKey, Sha256, StorePath};
use nixcache_tests::{CacheServer, LocalRegistry, Machine, Outcome, Workspace};
use serde_json::Value;

use crate::caches::{Cache, app, fetched};

/// How many crates there are, each of which needs the one before it: so many levels.
const DEPTH: usize = 9;

/// The crates `link-0` … in a registry, and two versions of the first.
fn registry(machine: &Machine) -> LocalRegistry {
    let registry = LocalRegistry::new(machine);
    registry
        .publish("link-0", "1.0.0", "pub fn value() -> u32 { 1 }\n")
        .publish("link-0", "1.0.1", "pub fn value() -> u32 { 2 }\n")
        .publish("aside", "1.0.0", "pub fn value() -> u32 { 100 }\n");
    for number in 1..DEPTH {
        let below = format!("link-{}", number - 1);
        let source = format!("pub fn value() -> u32 {{ link_{}::value() + 1 }}\n", number - 1);
        registry.publish_with(&format!("link-{number}"), "1.0.0", &source, &[(&below, "1")]);
    }
    registry
}

/// A program on top of them.
fn tower(machine: &Machine, registry: &LocalRegistry) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.write(".cargo/config.toml", registry.replacing_crates_io());
    let (top, name) = (format!("link-{}", DEPTH - 1), format!("link_{}", DEPTH - 1));
    workspace.package(
        "",
        &format!("[dependencies]\n{top} = \"1\"\naside = \"1\"\n[workspace]\n"),
        &format!("fn main() {{ println!(\"{{}}\", {name}::value() + aside::value()) }}\n"),
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace.cargo(&["update", "-p", "link-0", "--precise", "1.0.0"]).succeed();
    workspace
}

/// The plan as `plan --json` shows it.
fn plan(workspace: &Workspace) -> Value {
    serde_json::from_str(&workspace.nixcache(&["plan", "--json", "build"]).succeed().stdout).unwrap()
}

fn names(cache: &Cache) -> BTreeSet<String> {
    let path = |file| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().find_map(|line| line.strip_prefix("StorePath: /nix/store/")).unwrap()[33..].to_owned()
    };
    cache.files("narinfo").into_iter().map(path).collect()
}

/// The requests of one kind in the log of a server.
fn requests<'a>(log: &'a [String], method: &str, ending: &str) -> Vec<&'a String> {
    let is = |line: &&String| {
        let mut words = line.split_whitespace();
        words.next() == Some(method) && words.next().is_some_and(|path| path.ends_with(ending))
    };
    log.iter().filter(is).collect()
}

/// Puts a set under its name, signed with the key of the cache, in place of the one that is there.
fn replace_set(cache: &Cache, set: &SetManifest, path: &StorePath) {
    let mut nar = Vec::new();
    set.write(&mut nar).unwrap();
    let hash = Sha256::of(&nar);
    let url = NarUrl::by_convention(&hash, &Compression::None);
    fs::write(cache.path().join(url.as_str()), &nar).unwrap();
    let mut narinfo = NarInfo {
        store_path: path.clone(),
        url,
        compression: Compression::None,
        file_hash: None,
        file_size: None,
        nar_hash: hash,
        nar_size: nar.len() as u64,
        references: set.references(),
        deriver: None,
        signatures: Vec::new(),
        content_address: None,
    };
    narinfo.sign(&SecretKey::parse(&fs::read_to_string(cache.key_file()).unwrap()).unwrap());
    fs::write(cache.path().join(format!("{}.narinfo", path.hash())), narinfo.to_string()).unwrap();
}

/// The set of the deps in a plan: its key, its path, and what it could hold.
fn deps(plan: &Value) -> (Key, StorePath, Vec<SetUnit>) {
    let set = &plan["sets"][0];
    let key = |value: &Value| value.as_str().unwrap().parse::<Key>().unwrap();
    let units = set["units"].as_array().unwrap().iter().map(|index| {
        let unit = &plan["units"][index.as_u64().unwrap() as usize];
        let mut words = unit["unit"].as_str().unwrap().split(' ');
        SetUnit {
            package: words.next().unwrap().to_owned(),
            version: words.next().unwrap().to_owned(),
            inputs: key(&unit["inputs"]),
            records: vec![key(&unit["key"])],
        }
    });
    (key(&set["key"]), set["path"].as_str().unwrap().parse().unwrap(), units.collect())
}

fn manifest(key: Key, units: impl IntoIterator<Item = SetUnit>) -> SetManifest {
    let units = units.into_iter().collect();
    SetManifest { key, label: "a set".to_owned(), sets: BTreeSet::new(), outputs: BTreeSet::new(), units }
}

#[test]
fn one_look_up_names_what_all_levels_need() {
    let cache = Cache::new();
    let directory = cache.directory.path();
    let (first, second) = (Machine::new(), Machine::new());
    let registry = registry(&first);
    let token = CacheServer::token(directory, "ci", "write");
    let server = CacheServer::start(directory, &[]);
    let published = tower(&first, &registry)
        .with_env("NIXCACHE_PUBLISH", server.url_with(&token))
        .with_env("NIXCACHE_SECRET_KEY_FILE", cache.key_file());
    published.build(&["build"]);
    server.stop();

    let server = CacheServer::start(directory, &[]);
    let workspace = tower(&second, &registry);
    let fetching =
        workspace.with_env("NIXCACHE_CACHES", server.url()).with_env("NIXCACHE_TRUSTED_KEYS", &cache.public_key);
    fetching.nixcache(&["build"]).restores_everything();
    assert_eq!(workspace.run_output("debug/app"), format!("{}\n", DEPTH + 100));
    workspace.assert_nothing_to_do(&["build"]);
    let log = server.stop();
    // The sets together with the first level, and then what each of the two sets names.
    let questions = requests(&log, "POST", "/api/v1/narinfos").len();
    assert!((2..=3).contains(&questions), "{log:#?}");
    assert_eq!(requests(&log, "GET", ".narinfo"), [""; 0], "{log:#?}");

    // The store has it all now: nobody is asked, and no set either.
    let server = CacheServer::start(directory, &[]);
    workspace.remove_target();
    let fetching = fetching.with_env("NIXCACHE_CACHES", server.url());
    fetching.nixcache(&["build"]).restores_everything();
    let log = server.stop();
    assert_eq!((requests(&log, "POST", "").len(), requests(&log, "GET", "").len()), (0, 0), "{log:#?}");
}

#[test]
fn a_set_goes_with_all_that_is_in_it() {
    let cache = Cache::new();
    let machine = Machine::new();
    let registry = registry(&machine);
    let workspace = tower(&machine, &registry);
    // The deps alone first: nothing of the program.
    cache.publishing(&workspace).cargo(&["nixcache", "deps", "build"]).succeed();
    let found = names(&cache);
    assert!(found.contains("cargo-deps-app"), "{found:?}");
    assert!(!found.iter().any(|name| name.contains("package") || name.contains("cargo-app")), "{found:?}");
    // Then the rest.
    cache.publishing(&workspace).build(&["build"]);
    let found = names(&cache);
    for name in ["cargo-deps-app", "cargo-package-app-0.1.0", "app-0.1.0", "cargo-app-0.1.0", "cargo-link-3-1.0.0"] {
        assert!(found.contains(name), "{name}: {found:?}");
    }
    // What is published by hand is the same.
    let other = Cache::new();
    other.publishing(&workspace).nixcache(&["push"]).succeed();
    assert_eq!(names(&other), found);
}

#[test]
fn a_build_that_fails_publishes_no_set_of_what_it_lacks() {
    let cache = Cache::new();
    let machine = Machine::new();
    let registry = registry(&machine);
    let workspace = tower(&machine, &registry);
    workspace.write("src/main.rs", "fn main() { nonsense }\n");
    cache.publishing(&workspace).nixcache(&["build"]).fail();
    let found = names(&cache);
    assert!(found.contains("cargo-deps-app"), "{found:?}");
    assert!(!found.iter().any(|name| name.contains("package")), "{found:?}");
}

/// Both machines have built or fetched the same; the second one from a cache that `spoil` has changed.
fn with_spoilt_cache(spoil: impl FnOnce(&Cache, &Value), then: impl FnOnce(&Workspace, Outcome)) {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    let registry = registry(&first);
    let published = tower(&first, &registry);
    cache.publishing(&published).build(&["build"]);
    spoil(&cache, &plan(&published));
    let workspace = tower(&second, &registry);
    let outcome = cache.fetching(&workspace, &cache.public_key).nixcache(&["build", "--verbose"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), format!("{}\n", DEPTH + 100));
    workspace.assert_nothing_to_do(&["build"]);
    workspace.nixcache(&["verify"]).succeed();
    then(&workspace, outcome);
}

#[test]
fn a_set_that_lies_changes_nothing() {
    // Every unit is said to have the records of another one.
    let lie = |cache: &Cache, plan: &Value| {
        let (key, path, units) = deps(plan);
        let swapped = units
            .iter()
            .zip(units.iter().rev())
            .map(|(unit, other)| SetUnit { records: other.records.clone(), ..unit.clone() });
        replace_set(cache, &manifest(key, swapped), &path);
    };
    with_spoilt_cache(lie, |_, outcome| outcome.assert_all_restored());
}

#[test]
fn a_set_that_names_what_is_nowhere_changes_nothing() {
    let lie = |cache: &Cache, plan: &Value| {
        let (key, path, units) = deps(plan);
        let made_up = |number: usize| Key::from_bytes([number as u8; 32]);
        let units: Vec<_> = units
            .into_iter()
            .enumerate()
            .map(|(number, unit)| SetUnit { records: vec![made_up(number), made_up(100 + number)], ..unit })
            .collect();
        // And of units that nobody plans here.
        let strange = (0..2000).map(|number: u32| SetUnit {
            package: format!("strange-{number}"),
            version: "1.0.0".to_owned(),
            inputs: Key::from_bytes([200; 32]),
            records: vec![Key::from_bytes([number as u8; 32])],
        });
        replace_set(cache, &manifest(key, units.into_iter().chain(strange)), &path);
    };
    with_spoilt_cache(lie, |_, outcome| outcome.assert_all_restored());
}

#[test]
fn a_set_that_is_none_changes_nothing() {
    let spoil = |cache: &Cache, plan: &Value| {
        let (key, path, units) = deps(plan);
        // Another set under this name.
        let other = Key::from_bytes([7; 32]);
        assert_ne!(key, other);
        replace_set(cache, &manifest(other, units), &path);
    };
    let told = |_: &Workspace, outcome: Outcome| {
        outcome.assert_all_restored();
        assert!(outcome.stderr.contains("it is the set 0707"), "{outcome}");
    };
    with_spoilt_cache(spoil, told);
}

#[test]
fn what_a_set_names_and_the_cache_lost_is_built() {
    let spoil = |cache: &Cache, _: &Value| {
        let lost = cache
            .files("narinfo")
            .into_iter()
            .find(|file| fs::read_to_string(file).unwrap().lines().next().unwrap().ends_with("-cargo-link-5-1.0.0"));
        fs::remove_file(lost.unwrap()).unwrap();
    };
    // What was built again is the same, so that what is above it is a hit all the same, if it is asked for in time.
    with_spoilt_cache(spoil, |_, outcome| {
        assert!(outcome.built_packages().contains("link-5 1.0.0"), "{outcome}");
        assert!(!outcome.built_packages().contains("link-4 1.0.0"), "{outcome}");
        assert!(!outcome.built_packages().contains("aside 1.0.0"), "{outcome}");
    });
}

#[test]
fn a_set_made_with_other_values_costs_no_artifacts() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first).with_env("GREETING", "good day")).build(&["build"]);
    let before = cache.files("narinfo").len();
    // The program of the other greeting is not fetched: its names lead elsewhere here.
    let workspace = app(&second);
    let outcome = cache.fetching(&workspace, &cache.public_key).nixcache(&["build"]).builds(&["app 0.1.0"]);
    assert!(fetched(&outcome) > 0, "{outcome}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    let listed = workspace.nixcache(&["list"]).succeed().stdout;
    assert!(!listed.contains("good day"), "{listed}");
    // The first writer's set stays.
    cache.publishing(&workspace).nixcache(&["push"]).succeed();
    assert!(cache.files("narinfo").len() > before);
    assert_eq!(names(&cache).iter().filter(|name| name.contains("cargo-package-app")).count(), 1);
}

#[test]
fn after_a_bump_what_is_unchanged_comes_level_by_level() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    let registry = registry(&first);
    cache.publishing(&tower(&first, &registry)).build(&["build"]);
    let workspace = tower(&second, &registry);
    workspace.cargo(&["update", "-p", "link-0", "--precise", "1.0.1"]).succeed();
    let mut built = vec!["app 0.1.0".to_owned(), "link-0 1.0.1".to_owned()];
    built.extend((1..DEPTH).map(|number| format!("link-{number} 1.0.0")));
    let built: Vec<&str> = built.iter().map(String::as_str).collect();
    let outcome = cache.fetching(&workspace, &cache.public_key).nixcache(&["build"]).builds(&built);
    assert!(fetched(&outcome) > 0, "{outcome}");
    assert_eq!(workspace.run_output("debug/app"), format!("{}\n", DEPTH + 101));
}

#[test]
fn an_edit_leaves_the_deps_to_their_set() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    let registry = registry(&first);
    cache.publishing(&tower(&first, &registry)).build(&["build"]);
    let before = plan(&tower(&second, &registry));
    let workspace = tower(&second, &registry);
    workspace.edit("src/main.rs", "println!(\"", "println!(\"edited ");
    let after = plan(&workspace);
    assert_eq!(after["sets"][0]["path"], before["sets"][0]["path"]);
    assert_ne!(after["sets"][1]["path"], before["sets"][1]["path"]);
    cache.fetching(&workspace, &cache.public_key).nixcache(&["build"]).builds(&["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), format!("edited {}\n", DEPTH + 100));
}

#[test]
fn an_output_is_the_same_whoever_builds_it() {
    let outputs = |machine: &Machine, name: &str| {
        let workspace = machine.workspace(name);
        workspace.package(
            "",
            "[lib]\ncrate-type = [\"rlib\", \"cdylib\"]\n[[bin]]\nname = \"my-app\"\npath = \"src/main.rs\"\n[workspace]\n",
            "fn main() { println!(\"{}\", file!()) }\n",
        );
        workspace.write("src/lib.rs", "#[unsafe(no_mangle)]\npub extern \"C\" fn seven() -> i32 { 7 }\n");
        workspace.cargo(&["generate-lockfile"]).succeed();
        assert!(plan(&workspace)["sets"][0]["outputs"].is_null(), "nothing is known before it is built");
        workspace.build(&["build"]);
        plan(&workspace)["sets"][0]["outputs"].clone()
    };
    let (first, second) = (Machine::new(), Machine::new());
    let found = outputs(&first, "app");
    assert_eq!(found, outputs(&second, "app"));
    let output = &found[0];
    assert!(output["path"].as_str().unwrap().ends_with("-app-0.1.0"), "{found}");
    let library = if cfg!(target_os = "macos") { "lib/libapp.dylib" } else { "lib/libapp.so" };
    assert_eq!(output["files"], serde_json::json!(["bin/my-app", library]));
}
