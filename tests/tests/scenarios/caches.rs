//! Caches: one machine publishes, another one fetches, and nobody is believed who is not trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nixcache_tests::{CacheServer, Machine, Outcome, Workspace, walk};

/// A cache in a directory, and the key that signs what is published to it.
pub(crate) struct Cache {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) public_key: String,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = Self { directory, public_key: String::new() };
        cache.public_key = make_key(&cache.key_file(), "test-1");
        cache
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("secret-key")
    }

    /// The workspace as one that publishes.
    pub(crate) fn publishing(&self, workspace: &Workspace) -> Workspace {
        workspace.with_env("NIXCACHE_PUBLISH", self.url()).with_env("NIXCACHE_SECRET_KEY_FILE", self.key_file())
    }

    /// The workspace as one that fetches, and trusts `key`.
    pub(crate) fn fetching(&self, workspace: &Workspace, key: &str) -> Workspace {
        workspace.with_env("NIXCACHE_CACHES", self.url()).with_env("NIXCACHE_TRUSTED_KEYS", key)
    }

    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        walk(&self.path()).into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }
}

/// Makes a key on a machine of its own; gives the public one.
pub(crate) fn make_key(file: &Path, name: &str) -> String {
    let machine = Machine::new();
    let anywhere = machine.workspace("anywhere").with_env("NIXCACHE_SECRET_KEY_FILE", file);
    anywhere.write("nothing", "");
    anywhere.nixcache(&["key", "generate", name]).succeed().stdout.trim().to_owned()
}

/// A workspace with everything that makes a unit: a build script that reads a variable and writes code, a proc macro,
/// a library from the registry, a program.
pub(crate) fn app(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package(
        "macros",
        "[lib]\nproc-macro = true\n",
        "#[proc_macro]\npub fn seven(_: proc_macro::TokenStream) -> proc_macro::TokenStream { \"7\".parse().unwrap() }\n",
    );
    workspace.package(
        "",
        "[dependencies]\nitoa = \"1\"\nmacros = { path = \"macros\" }\n[workspace]\n",
        "include!(concat!(env!(\"OUT_DIR\"), \"/greeting.rs\"));\n\
         fn main() { println!(\"{} {}\", GREETING, itoa::Buffer::new().format(macros::seven!())) }\n",
    );
    workspace.write(
        "build.rs",
        "fn main() {\n\
         println!(\"cargo:rerun-if-env-changed=GREETING\");\n\
         let greeting = std::env::var(\"GREETING\").unwrap_or_else(|_| \"hello\".into());\n\
         let path = std::path::Path::new(&std::env::var_os(\"OUT_DIR\").unwrap()).join(\"greeting.rs\");\n\
         std::fs::write(path, format!(\"const GREETING: &str = {greeting:?};\")).unwrap();\n}\n",
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace
}

pub(crate) fn fetched(outcome: &Outcome) -> u64 {
    outcome.summary().json["bytes"]["fetched"].as_u64().unwrap()
}

#[test]
fn what_one_machine_publishes_another_one_fetches() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    let publishing = cache.publishing(&app(&first));
    let cold = publishing.build(&["build"]);
    assert!(cold.summary().json["bytes"]["published"].as_u64().unwrap() > 0, "{cold}");
    assert!(cold.stderr.contains("Published"), "{cold}");

    let workspace = app(&second);
    let fetching = cache.fetching(&workspace, &cache.public_key);
    let warm = fetching.nixcache(&["build"]).restores_everything();
    assert!(fetched(&warm) > 0, "{warm}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    assert_eq!(
        fs::read(workspace.target().join("debug/app")).unwrap(),
        fs::read(publishing.target().join("debug/app")).unwrap()
    );
    workspace.assert_nothing_to_do(&["build"]);

    // Now the store has it, and nobody is asked.
    workspace.remove_target();
    fs::remove_dir_all(cache.path()).unwrap();
    assert_eq!(fetched(&fetching.nixcache(&["build"]).restores_everything()), 0);
}

#[test]
fn what_the_cache_lacks_is_built_and_the_rest_fetched() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    let workspace = app(&second);
    // Another value of a variable that only a build script knows of.
    let fetching = cache.fetching(&workspace, &cache.public_key).with_env("GREETING", "good day");
    let outcome = fetching.nixcache(&["build"]).builds(&["app 0.1.0"]);
    assert!(fetched(&outcome) > 0, "{outcome}");
    assert_eq!(workspace.run_output("debug/app"), "good day 7\n");
    workspace.with_env("GREETING", "good day").assert_nothing_to_do(&["build"]);
}

#[test]
fn nothing_is_believed_that_no_trusted_key_has_signed() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    let workspace = app(&second);
    let other = make_key(&cache.directory.path().join("other"), "other-1");
    // Another key under the same name, which is how somebody would try it.
    let forged = make_key(&cache.directory.path().join("forged"), "test-1");
    for key in [other.as_str(), forged.as_str(), ""] {
        workspace.remove_target();
        let _ = fs::remove_dir_all(second.store());
        let outcome = cache.fetching(&workspace, key).build(&["build"]);
        assert_eq!(fetched(&outcome), 0, "{outcome}");
        assert_eq!(outcome.units().restored, 0, "{outcome}");
        // One warning, which says what is wrong; for a key that isn't trusted, what to do.
        let said = match key {
            key if key == forged => "wrong signature",
            _ => "is not trusted",
        };
        assert!(outcome.stderr.contains(said), "{outcome}");
        if key != forged {
            assert_eq!(outcome.stderr.matches("warning").count(), 1, "{outcome}");
            assert!(outcome.stderr.contains(&format!("cargo nixcache use {}", cache.url())), "{outcome}");
        }
    }
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
}

#[test]
fn a_nar_that_was_changed_is_refused_aloud_and_built() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    let nars = cache.files("zst");
    assert!(!nars.is_empty());
    for nar in &nars {
        // What the writer of a cache could do: another content, well compressed, under the old narinfo.
        let other = nars.iter().find(|other| *other != nar).unwrap();
        fs::copy(other, nar.with_extension("swapped")).unwrap();
    }
    for nar in &nars {
        fs::rename(nar.with_extension("swapped"), nar).unwrap();
    }
    let workspace = app(&second);
    let outcome = cache.fetching(&workspace, &cache.public_key).build(&["build"]);
    assert_eq!(outcome.units().restored, 0, "{outcome}");
    assert!(outcome.stderr.contains("warning"), "{outcome}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    workspace.nixcache(&["verify"]).succeed();
}

#[test]
fn of_a_nar_with_more_than_was_signed_nothing_stays() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    // A frame of zstd with seven bytes: the archive ends where it did, and more comes.
    let frame = b"\x28\xb5\x2f\xfd\x20\x07\x39\x00\x00garbage";
    for nar in cache.files("zst") {
        fs::write(&nar, [&fs::read(&nar).unwrap()[..], frame].concat()).unwrap();
    }
    let workspace = app(&second);
    let stored = || ["blobs", "nodes", "tmp"].map(|directory| walk(&second.store().join("v1").join(directory)));
    // What is known of the machine is kept in any case.
    workspace.with_env("NIXCACHE_CACHES", "file:///nonexistent/cache").nixcache(&["pull"]).succeed();
    let before = stored();
    let outcome = cache.fetching(&workspace, &cache.public_key).nixcache(&["pull"]).succeed();
    assert!(outcome.stderr.contains("that were signed"), "{outcome}");
    assert_eq!(stored(), before);
}

#[test]
fn a_nar_that_was_cut_short_is_built() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    for nar in cache.files("zst") {
        let bytes = fs::read(&nar).unwrap();
        fs::write(&nar, &bytes[..bytes.len() / 2]).unwrap();
    }
    let workspace = app(&second);
    let outcome = cache.fetching(&workspace, &cache.public_key).build(&["build"]);
    assert_eq!(outcome.units().restored, 0, "{outcome}");
    assert!(outcome.stderr.contains("warning"), "{outcome}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    workspace.nixcache(&["verify"]).succeed();
}

#[test]
fn what_can_not_be_used_of_a_cache_is_said_once() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    let workspace = app(&second);
    let change = |line: &str, to: &str| {
        for narinfo in cache.files("narinfo") {
            let text = fs::read_to_string(&narinfo).unwrap();
            let changed = text.lines().map(|old| if old.starts_with(line) { to } else { old });
            let lines: Vec<_> = changed.filter(|line| !line.is_empty()).collect();
            fs::write(&narinfo, lines.join("\n") + "\n").unwrap();
        }
    };
    for (line, to, said) in [
        ("Compression: ", "Compression: xz", "its compression xz is not one that can be read"),
        ("Sig: ", "", "it has no signature"),
    ] {
        change(line, to);
        let outcome = cache.fetching(&workspace, &cache.public_key).nixcache(&["pull"]).succeed();
        assert_eq!(outcome.stderr.matches("warning").count(), 1, "{outcome}");
        assert!(outcome.stderr.contains(said), "{outcome}");
    }
}

#[test]
fn passwords_in_our_variables_reach_neither_help_nor_build_scripts() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() {}\n");
    let script = "fn main() {\n\
        let all: Vec<String> = std::env::vars().map(|(name, value)| format!(\"{name}={value}\")).collect();\n\
        std::fs::write(std::env::var(\"OUT_DIR\").unwrap() + \"/all\", all.join(\"\\n\")).unwrap();\n}\n";
    workspace.write("build.rs", script);
    let secret = "http://user:sesame@127.0.0.1:9";
    let cache = Cache::new();
    let workspace = workspace.with_env("NIXCACHE_CACHES", secret).with_env("NIXCACHE_PUBLISH", secret);
    let workspace = workspace.with_env("NIXCACHE_SECRET_KEY_FILE", cache.key_file());
    for words in [&["--help"][..], &["serve", "--help"], &["config"], &["build"]] {
        let outcome = workspace.nixcache(words).succeed();
        assert!(!outcome.stdout.contains("sesame") && !outcome.stderr.contains("sesame"), "{outcome}");
    }
    let written: Vec<_> = walk(&workspace.target())
        .into_iter()
        .filter(|path| path.ends_with("out/all"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert!(!written.is_empty() && written.iter().all(|text| text.contains("OUT_DIR=")));
    assert!(written.iter().all(|text| !text.contains("sesame")), "{written:?}");
}

#[test]
fn a_workspace_brings_no_caches_and_no_trust() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    let workspace = app(&second);
    let lists = format!("caches = ['{}']\ntrusted-keys = ['{}']\n", cache.url(), cache.public_key);
    workspace.write("nixcache.toml", &lists);
    let outcome = workspace.build(&["build", "--verbose"]);
    assert_eq!(outcome.units().restored, 0, "{outcome}");
    assert!(outcome.stderr.contains(&cache.url()), "it says what is proposed: {outcome}");
    // Neither does it count beside what the user says.
    workspace.remove_target();
    fs::remove_dir_all(second.store()).unwrap();
    let outcome = workspace.with_env("NIXCACHE_CACHES", cache.url()).build(&["build"]);
    assert_eq!(outcome.units().restored, 0, "{outcome}");
    // The user's own file does.
    workspace.remove_target();
    fs::remove_dir_all(second.store()).unwrap();
    let user = second.root().join("home/.config/cargo-nixcache/config.toml");
    fs::create_dir_all(user.parent().unwrap()).unwrap();
    fs::write(&user, lists).unwrap();
    workspace.nixcache(&["build"]).restores_everything();
}

#[test]
fn a_cache_that_is_not_there_costs_a_warning_at_the_most() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let nowhere = workspace
        .with_env("NIXCACHE_CACHES", "http://127.0.0.1:9 file:///nonexistent/cache")
        .with_env("NIXCACHE_TRUSTED_KEYS", make_key(&machine.root().join("key"), "test-1"));
    let outcome = nowhere.build(&["build"]);
    assert!(outcome.stderr.contains("http://127.0.0.1:9"), "{outcome}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    // Offline, nobody is even asked.
    workspace.remove_target();
    fs::remove_dir_all(machine.store()).unwrap();
    let outcome = nowhere.cargo(&["nixcache", "--offline", "build"]).succeed();
    assert!(!outcome.stderr.contains("http://127.0.0.1:9"), "{outcome}");
}

#[test]
fn a_lock_file_is_not_made_shorter_by_a_cache_that_is_not_there() {
    let cache = Cache::new();
    let machine = Machine::new();
    let publishing = cache.publishing(&app(&machine));
    publishing.build(&["build"]);
    let lock = |caches: &str| {
        let workspace = publishing.with_env("NIXCACHE_PUBLISH", "").with_env("NIXCACHE_CACHES", caches);
        workspace.nixcache(&["nix", "lock"])
    };
    // One cache that has everything is enough.
    lock(&format!("http://127.0.0.1:9 {}", cache.url())).succeed();
    let whole = publishing.read("nixcache.lock");
    assert!(whole.contains("-cargo-itoa-1."), "{whole}");
    // Without it, nobody knows.
    let outcome = lock("http://127.0.0.1:9").fail();
    assert_eq!(outcome.status.code(), Some(76));
    assert!(outcome.stderr.contains("http://127.0.0.1:9, left out before"), "{outcome}");
    assert_eq!(publishing.read("nixcache.lock"), whole);
    // Somebody else published them first, and they came out another way.
    for file in cache.files("narinfo") {
        let narinfo = fs::read_to_string(&file).unwrap();
        let (before, hash) = narinfo.split_once("NarHash: ").unwrap();
        let (_, after) = hash.split_once('\n').unwrap();
        fs::write(&file, format!("{before}NarHash: sha256:{}\n{after}", "0".repeat(52))).unwrap();
    }
    let outcome = lock(&cache.url()).fail();
    assert!(outcome.stderr.contains("no cache has them with this content"), "{outcome}");
    assert_ne!(outcome.status.code(), Some(76));
}

#[test]
fn a_store_is_pushed_and_pulled_without_building() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    let workspace = app(&first);
    workspace.build(&["build"]);
    let publishing = cache.publishing(&workspace);
    publishing.nixcache(&["push"]).succeed();
    let published = cache.files("narinfo").len();
    assert!(published > 0);
    // Again: everything is there.
    let again = publishing.nixcache(&["push"]).succeed();
    assert!(!again.stderr.contains("Published"), "{again}");
    assert_eq!(cache.files("narinfo").len(), published);

    let workspace = app(&second);
    let fetching = cache.fetching(&workspace, &cache.public_key);
    fetching.nixcache(&["pull"]).succeed();
    assert!(!workspace.target().join("debug/app").exists());
    fs::remove_dir_all(cache.path()).unwrap();
    workspace.nixcache(&["build"]).restores_everything();
    // Without a cache there is nowhere to push to.
    assert_eq!(workspace.nixcache(&["push"]).fail().status.code(), Some(76));
}

#[test]
fn what_caches_have_is_seen_without_being_fetched() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    let workspace = app(&second);
    let fetching = cache.fetching(&workspace, &cache.public_key);
    for arguments in [&["plan"][..], &["--dry-run", "build"]] {
        let shown = fetching.nixcache(arguments).succeed();
        let states: Vec<&str> = shown.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let units = states.iter().filter(|state| **state != "artifact");
        assert!(units.clone().count() > 4 && units.clone().all(|state| *state == "cache"), "{shown}");
        assert!(shown.stdout.contains(&cache.url()) && shown.stdout.contains("deps of app"), "{shown}");
    }
    let shown = fetching.nixcache(&["plan", "--json"]).succeed();
    let plan: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    for unit in plan["units"].as_array().unwrap() {
        assert_eq!((unit["state"].as_str(), unit["from"].as_str()), (Some("cache"), Some(&*cache.url())), "{shown}");
    }
    let shown = fetching.nixcache(&["why", "itoa"]).succeed();
    assert!(shown.stdout.contains(&format!("in the cache {}", cache.url())), "{shown}");
    // Nothing of it was kept: without the cache nothing is at hand.
    let shown = workspace.nixcache(&["plan"]).succeed();
    assert!(shown.stdout.contains("missing") && !shown.stdout.contains("store "), "{shown}");
    // What differs here is not said to be in the cache.
    workspace.edit("src/main.rs", "println!", "print!");
    let shown = fetching.nixcache(&["plan"]).succeed();
    let of = |unit: &str| shown.stdout.lines().find(|line| line.contains(unit)).unwrap_or_default();
    assert!(of("app 0.1.0 bin").starts_with("missing") && of("itoa").starts_with("cache"), "{shown}");
    // Nor is what nobody trusted has signed.
    let shown = cache.fetching(&workspace, "other-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=").nixcache(&["plan"]);
    let shown = shown.succeed();
    assert!(!shown.stdout.contains("cache "), "{shown}");
}

#[test]
fn whoever_cannot_sign_fetches_all_the_same() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    cache.publishing(&app(&first)).build(&["build"]);
    let workspace = app(&second);
    let fetching = cache.fetching(&workspace, &cache.public_key).with_env("NIXCACHE_PUBLISH", cache.url());
    let warm = fetching.nixcache(&["build"]).restores_everything();
    assert!(warm.stderr.contains("nothing is published"), "{warm}");
    // Nor does it keep from fetching alone, which says nothing of it.
    let third = app(&Machine::new());
    let pulled = cache.fetching(&third, &cache.public_key).with_env("NIXCACHE_PUBLISH", cache.url());
    let pulled = pulled.nixcache(&["pull"]).succeed();
    assert!(pulled.stderr.contains("; 0 units are left to build") && !pulled.stderr.contains("sign"), "{pulled}");
    // To publish it is needed.
    assert_eq!(fetching.nixcache(&["push"]).fail().status.code(), Some(76));
}

#[test]
fn pulling_from_caches_that_do_not_answer_fails() {
    let machine = Machine::new();
    let workspace = app(&machine).with_env("NIXCACHE_CACHES", "http://127.0.0.1:1");
    let failed = workspace.nixcache(&["pull"]).fail();
    assert_eq!(failed.status.code(), Some(76), "{failed}");
    // A setting that leaves no cache is named.
    for setting in ["offline", "no-fetch"] {
        let failed = workspace.nixcache(&[&format!("--{setting}"), "pull"]).fail();
        assert!(failed.status.code() == Some(76) && failed.stderr.contains(&format!("`{setting}`")), "{failed}");
        let variable = format!("NIXCACHE_{}", setting.to_uppercase().replace('-', "_"));
        let failed = workspace.with_env(&variable, "1").nixcache(&["pull"]).fail();
        assert!(failed.stderr.contains(&format!("`{setting}`")), "{failed}");
    }
}

#[test]
fn a_key_is_made_once_and_only_its_owner_can_read_it() {
    let machine = Machine::new();
    let workspace = machine.workspace("anywhere");
    workspace.write("nothing", "");
    let made = workspace.nixcache(&["key", "generate", "team-1"]).succeed();
    assert!(made.stdout.starts_with("team-1:"), "{made}");
    let file = machine.root().join("home/.config/cargo-nixcache/secret-key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&file).unwrap();
    assert!(!made.stdout.contains(&secret) && !made.stderr.contains(&secret), "{made}");
    // What it signed must stay valid.
    let again = workspace.nixcache(&["key", "generate", "team-1"]).fail();
    assert_eq!(again.status.code(), Some(75), "{again}");
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(workspace.nixcache(&["key", "public"]).succeed().stdout, made.stdout);
}

#[test]
fn our_own_server_is_a_cache_that_is_read_and_written() {
    let cache = Cache::new();
    let token = CacheServer::token(cache.directory.path(), "ci", "write");
    let server = CacheServer::start(cache.directory.path(), &[]);
    let (first, second) = (Machine::new(), Machine::new());
    let publishing = |workspace: &Workspace, password: &str| {
        workspace
            .with_env("NIXCACHE_PUBLISH", server.url_with(password))
            .with_env("NIXCACHE_SECRET_KEY_FILE", cache.key_file())
    };
    let workspace = app(&first);
    // With a token that is none, the build goes on, and the token is not shown.
    let refused = publishing(&workspace, "not-the-token").build(&["build", "--verbose"]);
    assert!(refused.stderr.contains("warning"), "{refused}");
    assert!(!refused.to_string().contains("not-the-token"), "{refused}");
    // What is in place is published too.
    let published = publishing(&workspace, &token).build(&["build", "--verbose"]);
    assert!(published.stderr.contains("Published"), "{published}");
    assert!(!published.to_string().contains(&token), "{published}");

    let workspace = app(&second);
    let fetching =
        workspace.with_env("NIXCACHE_CACHES", server.url()).with_env("NIXCACHE_TRUSTED_KEYS", &cache.public_key);
    let warm = fetching.nixcache(&["build"]).restores_everything();
    assert!(fetched(&warm) > 0, "{warm}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    workspace.assert_nothing_to_do(&["build"]);
}

#[test]
fn a_store_that_only_fetches_stays_within_its_size() {
    let cache = Cache::new();
    let (first, second) = (Machine::new(), Machine::new());
    let publishing = cache.publishing(&app(&first)).with_env("CARGO_INCREMENTAL", "0");
    let fetching = cache.fetching(&app(&second), &cache.public_key).with_env("NIXCACHE_STORE_SIZE", "1MiB");
    for (number, command) in ["build", "pull"].into_iter().enumerate() {
        for workspace in [&publishing, &fetching] {
            workspace.write("src/main.rs", format!("fn main() {{ println!(\"{number}\") }}\n"));
            workspace.remove_target();
        }
        publishing.build(&["build"]);
        fetching.nixcache(&[command]).succeed();
        let size: u64 = walk(&second.store().join("v1")).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(size < 2 << 20, "{command} leaves {size} bytes");
    }
}
