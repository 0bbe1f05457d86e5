//! `use`: what a user is shown and asked, what is written, and that nothing else extends trust.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use nixcache_tests::{CacheServer, Machine, Outcome, Workspace};

use super::caches::{app, fetched, make_key};

/// A cache in a directory with everything that the workspace needs, and the key that has signed it.
struct Filled {
    directory: tempfile::TempDir,
    public_key: String,
}

impl Filled {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let secret_key = directory.path().join("secret-key");
        let public_key = make_key(&secret_key, "test-1");
        let filled = Self { directory, public_key };
        let workspace = app(&Machine::new());
        let workspace = workspace.with_env("NIXCACHE_PUBLISH", filled.url());
        workspace.with_env("NIXCACHE_SECRET_KEY_FILE", secret_key).build(&["build"]);
        filled
    }

    fn url(&self) -> String {
        format!("file://{}", self.directory.path().join("cache").display())
    }
}

fn user_file(workspace: &Workspace) -> PathBuf {
    workspace.machine().root().join("home/.config/cargo-nixcache/config.toml")
}

#[track_caller]
fn refused(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.status.code(), Some(code), "{outcome}");
    words.iter().for_each(|word| assert!(outcome.stderr.contains(word), "{word}: {outcome}"));
}

#[test]
fn a_cache_is_used_once_its_key_is_agreed_to() {
    let filled = Filled::new();
    let workspace = app(&Machine::new());
    let url = filled.url();
    let named = ["use", url.as_str(), "--trusted-key", filled.public_key.as_str()];
    // A directory doesn't say whose it is.
    refused(&workspace.nixcache(&["use", &url, "--yes"]).fail(), 75, &["--trusted-key NAME:BASE64"]);
    // Nobody is there to be asked.
    refused(&workspace.nixcache(&named).fail(), 77, &[&url, &filled.public_key, "no terminal", "--yes"]);
    let shown = workspace.nixcache(&[&named[..], &["--dry-run"]].concat()).succeed();
    assert!(shown.stdout.contains(&format!("+ caches = [\"{url}\"]")), "{shown}");
    assert!(!user_file(&workspace).exists(), "nothing was written so far");

    let text = "# mine\nstore-size = '1GiB' # enough\n\n[members]\nremap-paths = true\n";
    fs::create_dir_all(user_file(&workspace).parent().unwrap()).unwrap();
    fs::write(user_file(&workspace), text).unwrap();
    fs::set_permissions(user_file(&workspace), fs::Permissions::from_mode(0o604)).unwrap();
    workspace.nixcache(&[&named[..], &["--yes"]].concat()).succeed();
    let written = fs::read_to_string(user_file(&workspace)).unwrap();
    let lists = format!("caches = [\"{url}\"]\ntrusted-keys = [\"{}\"]\n", filled.public_key);
    assert_eq!(written, text.replace("# enough\n", &format!("# enough\n{lists}")));
    assert_eq!(fs::metadata(user_file(&workspace)).unwrap().permissions().mode() & 0o777, 0o604);
    // Again: there is nothing to ask and nothing to write.
    workspace.nixcache(&named).succeed();
    assert_eq!(fs::read_to_string(user_file(&workspace)).unwrap(), written);

    assert!(fetched(&workspace.nixcache(&["build"]).restores_everything()) > 0);

    // Another key under a name that is trusted.
    let forged = make_key(&filled.directory.path().join("forged"), "test-1");
    let forged = workspace.nixcache(&["use", "file:///elsewhere", "--trusted-key", &forged, "--yes"]).fail();
    refused(&forged, 75, &["ANOTHER KEY NAMED test-1", &filled.public_key]);
    assert_eq!(fs::read_to_string(user_file(&workspace)).unwrap(), written);
}

#[test]
fn a_workspace_proposes_and_the_user_decides() {
    let filled = Filled::new();
    let workspace = app(&Machine::new());
    let lists = format!("caches = ['{}']\ntrusted-keys = ['{}']\n", filled.url(), filled.public_key);
    workspace.write("nixcache.toml", lists);
    let outcome = workspace.build(&["build"]);
    assert_eq!(fetched(&outcome), 0, "{outcome}");
    let command = outcome.stderr.lines().find_map(|line| line.split_once("to trust and use it: ")).unwrap().1;
    let words: Vec<&str> = command.strip_prefix("cargo nixcache ").unwrap().split(' ').collect();
    workspace.nixcache(&[&words[..], &["--yes"]].concat()).succeed();
    workspace.remove_target();
    fs::remove_dir_all(workspace.machine().store()).unwrap();
    let outcome = workspace.nixcache(&["build"]).restores_everything();
    assert!(fetched(&outcome) > 0, "{outcome}");
    assert!(!outcome.stderr.contains("use it"), "{outcome}");
}

#[test]
fn our_server_says_which_key_is_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let secret_key = directory.path().join("secret-key");
    let public_key = make_key(&secret_key, "server-1");
    let token = CacheServer::token(directory.path(), "ci", "write");
    let options = ["--private", "--signing-key", secret_key.to_str().unwrap()];
    let server = CacheServer::start(directory.path(), &options);
    let first = app(&Machine::new());
    let publisher = directory.path().join("publisher-key");
    make_key(&publisher, "publisher-1");
    let url = server.url().to_owned();
    let netrc = directory.path().join("netrc");
    fs::write(&netrc, format!("machine 127.0.0.1 login ci password {token}\n")).unwrap();
    let publishing = first.with_env("NIXCACHE_PUBLISH", &url).with_env("NIXCACHE_SECRET_KEY_FILE", publisher);
    publishing.with_env("NETRC", &netrc).build(&["build"]);

    let workspace = app(&Machine::new());
    refused(&workspace.nixcache(&["use", &url, "--yes"]).fail(), 76, &["(401)", "netrc"]);
    // A password would be written down.
    let login = server.url_with(&token);
    let outcome = workspace.nixcache(&["use", &login, "--yes"]).fail();
    refused(&outcome, 2, &["netrc"]);
    assert!(!outcome.stderr.contains(&token) && !outcome.stdout.contains(&token));

    let workspace = workspace.with_env("NETRC", &netrc);
    let outcome = workspace.nixcache(&["use", &url, "--yes", "--nix", "--publish"]).succeed();
    assert!(outcome.stderr.contains(&public_key), "{outcome}");
    assert!(outcome.stderr.contains("key generate"), "publishing there needs a key: {outcome}");
    let nix_conf = workspace.machine().root().join("home/.config/nix/nix.conf");
    let expected = format!("extra-substituters = {url}\nextra-trusted-public-keys = {public_key}\n");
    assert_eq!(fs::read_to_string(&nix_conf).unwrap(), expected);
    workspace.nixcache(&["use", &url, "--nix", "--publish"]).succeed();
    assert_eq!(fs::read_to_string(&nix_conf).unwrap(), expected);
    let fetching = workspace.nixcache(&["--no-publish", "build"]).restores_everything();
    assert!(fetched(&fetching) > 0, "{fetching}");
}

#[test]
fn what_is_no_cache_is_not_used() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let key = make_key(&machine.root().join("key"), "test-1");
    for (url, code, word) in [
        ("http://127.0.0.1:9", 76, "connect to"),
        ("gopher://x", 2, "gopher:// is not known"),
        ("attic://host", 2, "attic:// is followed by"),
    ] {
        refused(&workspace.nixcache(&["use", url, "--trusted-key", &key, "--yes"]).fail(), code, &[word]);
    }
    assert!(!user_file(&workspace).exists());
    // Unless it need not be asked.
    workspace.nixcache(&["--offline", "use", "http://127.0.0.1:9", "--trusted-key", &key, "--yes"]).succeed();
    assert!(user_file(&workspace).exists());
}

#[test]
fn on_a_terminal_the_answer_counts() {
    const NAME: &str = "use_cache::on_a_terminal_the_answer_counts";
    if Command::new("script").arg("--version").output().is_err() {
        return nixcache_tests::skipped(NAME, "script, of Debian's bsdutils");
    }
    let machine = Machine::new();
    let workspace = app(&machine);
    let key = make_key(&machine.root().join("key"), "test-1");
    let command = format!("cargo nixcache use file:///srv/cache --trusted-key {key}");
    for (answer, code) in [("n", 77), ("", 77), ("y", 0)] {
        let answered = format!("printf '{answer}\\n' | script --quiet --return --command \"$0\" /dev/null");
        let outcome = workspace.cargo(&[]).prefix(&["sh", "-c", &answered, &command]).run();
        assert_eq!(outcome.status.code(), Some(code), "{outcome}");
        assert!(outcome.stdout.contains("[y/N]"), "{outcome}");
        assert_eq!(user_file(&workspace).exists(), code == 0, "{outcome}");
    }
}
