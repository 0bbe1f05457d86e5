//! Caches: one machine publishes, another one fetches, and nobody is believed who is not trusted.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nixcache_tests::{Machine, Outcome, Workspace, binary_directory, skipped, walk};

/// A cache in a directory, and the key that signs what is published to it.
struct Cache {
    directory: tempfile::TempDir,
    public_key: String,
}

impl Cache {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = Self { directory, public_key: String::new() };
        cache.public_key = make_key(&cache.key_file(), "test-1");
        cache
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    fn key_file(&self) -> PathBuf {
        self.directory.path().join("secret-key")
    }

    /// The workspace as one that publishes.
    fn publishing(&self, workspace: &Workspace) -> Workspace {
        workspace.with_env("NIXCACHE_PUBLISH", self.url()).with_env("NIXCACHE_SECRET_KEY_FILE", self.key_file())
    }

    /// The workspace as one that fetches, and trusts `key`.
    fn fetching(&self, workspace: &Workspace, key: &str) -> Workspace {
        workspace.with_env("NIXCACHE_CACHES", self.url()).with_env("NIXCACHE_TRUSTED_KEYS", key)
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        walk(&self.path()).into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }
}

/// Makes a key on a machine of its own; gives the public one.
pub(super) fn make_key(file: &Path, name: &str) -> String {
    let machine = Machine::new();
    let anywhere = machine.workspace("anywhere").with_env("NIXCACHE_SECRET_KEY_FILE", file);
    anywhere.write("nothing", "");
    anywhere.nixcache(&["key", "generate", name]).succeed().stdout.trim().to_owned()
}

/// A workspace with everything that makes a unit: a build script that reads a variable and writes code, a proc macro,
/// a library from the registry, a program.
pub(super) fn app(machine: &Machine) -> Workspace {
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

pub(super) fn fetched(outcome: &Outcome) -> u64 {
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
        assert_eq!(outcome.stderr.contains("signature"), key == forged, "{outcome}");
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
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    workspace.nixcache(&["verify"]).succeed();
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

/// `cargo nixcache serve` on a free port, which ends with the test.
pub(super) struct Server {
    process: Child,
    pub(super) address: String,
    pub(super) token: String,
}

impl Server {
    fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    /// The same with more options.
    pub(super) fn start_with(directory: &Path, options: &[&str]) -> Self {
        let tokens = directory.join("tokens.toml");
        let serve = || {
            let mut command = Command::new(binary_directory().join("cargo-nixcache"));
            command.args(["nixcache", "serve"]).env_clear().env("HOME", directory);
            command
        };
        let made = serve().args(["token", "add", "ci", "--scope", "write", "--tokens"]).arg(&tokens).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let mut command = serve();
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(directory.join("data"));
        command.args(options);
        let mut process = command.arg("--tokens").arg(&tokens).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let first = lines.next().expect("the server says where it is").unwrap();
        let address = first.split_whitespace().last().unwrap().trim_start_matches("http://").to_owned();
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        Self { process, address, token }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen otherwise.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn our_own_server_is_a_cache_that_is_read_and_written() {
    let cache = Cache::new();
    let server = Server::start(cache.directory.path());
    let (first, second) = (Machine::new(), Machine::new());
    let publishing = |workspace: &Workspace, password: &str| {
        let url = format!("http://ci:{password}@{}", server.address);
        workspace.with_env("NIXCACHE_PUBLISH", url).with_env("NIXCACHE_SECRET_KEY_FILE", cache.key_file())
    };
    let workspace = app(&first);
    // With a token that is none, the build goes on, and the token is not shown.
    let refused = publishing(&workspace, "not-the-token").build(&["build", "--verbose"]);
    assert!(refused.stderr.contains("warning"), "{refused}");
    assert!(!refused.to_string().contains("not-the-token"), "{refused}");
    // What is in place is published too.
    let published = publishing(&workspace, &server.token).build(&["build", "--verbose"]);
    assert!(published.stderr.contains("Published"), "{published}");
    assert!(!published.to_string().contains(&server.token), "{published}");

    let workspace = app(&second);
    let fetching = workspace
        .with_env("NIXCACHE_CACHES", format!("http://{}", server.address))
        .with_env("NIXCACHE_TRUSTED_KEYS", &cache.public_key);
    let warm = fetching.nixcache(&["build"]).restores_everything();
    assert!(fetched(&warm) > 0, "{warm}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    workspace.assert_nothing_to_do(&["build"]);
}

#[test]
fn nix_substitutes_what_was_published() {
    const NAME: &str = "caches::nix_substitutes_what_was_published";
    if Command::new("nix-store").arg("--version").output().is_err() {
        return skipped(NAME, "nix-store, of Debian's nix-bin");
    }
    let cache = Cache::new();
    let machine = Machine::new();
    cache.publishing(&app(&machine)).build(&["build"]);
    let directory = tempfile::tempdir().unwrap();
    let nix = |arguments: &[&str]| {
        let mut command = Command::new("nix-store");
        for name in ["NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR", "HOME"] {
            command.env(name, directory.path().join(name));
        }
        command.env("NIX_CONFIG", "sandbox = false\nbuild-users-group =\nnarinfo-cache-negative-ttl = 0\n");
        command.arg("--store").arg(directory.path().join("store")).args(arguments).output().unwrap()
    };
    let mut itoa = None;
    for narinfo in cache.files("narinfo") {
        let text = fs::read_to_string(&narinfo).unwrap();
        let path = text.lines().find_map(|line| line.strip_prefix("StorePath: ")).unwrap().to_owned();
        let url = cache.url();
        let options = |key| {
            ["-r", path.as_str(), "--option", "substituters", url.as_str(), "--option", "trusted-public-keys", key]
        };
        let refused = nix(&options("test-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="));
        assert!(!refused.status.success(), "a key that is not ours");
        let output = nix(&options(&cache.public_key));
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        if path.contains("-cargo-itoa-") {
            itoa = Some(path);
        }
    }
    let unpacked = directory.path().join("store").join(&itoa.expect("itoa was published")[1..]);
    assert!(unpacked.join("artifact.json").is_file());
    let files = fs::read_dir(unpacked.join("files")).unwrap().count();
    assert!(files >= 1, "its library is there");
    let verified = nix(&["--verify", "--check-contents"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
