//! The commands that look after the tool itself: `config`, `doctor`, `completions`, `man`. And the settings that
//! `config` shows: where they may be given, and which of them counts.

use nixcache_tests::{CacheServer, Machine, Workspace};
use std::fs;
use std::process::Command;

use super::caches::make_key;

fn app(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"7\") }\n");
    workspace
}

/// What `config` says of a setting: its value, and where it is from.
fn setting(workspace: &Workspace, options: &[&str], key: &str) -> (String, String) {
    let arguments = [&["nixcache"], options, &["config", "--json"]].concat();
    let outcome = workspace.cargo(&arguments).succeed();
    let config: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let setting = &config["settings"][key];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
    (text(&setting["value"]), text(&setting["from"]))
}

#[test]
fn flags_count_more_than_variables_than_the_workspace_than_the_user() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let size = |workspace: &Workspace, options: &[&str]| setting(workspace, options, "store-size");
    let said = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    assert_eq!(size(&workspace, &[]), said("20.00 GiB", "default"));

    let user = machine.root().join("home/.config/cargo-nixcache/config.toml");
    fs::create_dir_all(user.parent().unwrap()).unwrap();
    fs::write(&user, "store-size = '1GiB'\n").unwrap();
    assert_eq!(size(&workspace, &[]), said("1.00 GiB", user.to_str().unwrap()));

    let manifest = workspace.path("Cargo.toml");
    workspace.edit("Cargo.toml", "[workspace]\n", "[workspace]\n[workspace.metadata.nixcache]\nstore-size = '2GiB'\n");
    let table = format!("{} [workspace.metadata.nixcache]", manifest.display());
    assert_eq!(size(&workspace, &[]), said("2.00 GiB", &table));

    workspace.write("nixcache.toml", "store-size = '3GiB'\n");
    assert_eq!(size(&workspace, &[]), said("3.00 GiB", workspace.path("nixcache.toml").to_str().unwrap()));

    let with_variable = workspace.with_env("NIXCACHE_STORE_SIZE", "4GiB");
    assert_eq!(size(&with_variable, &[]), said("4.00 GiB", "NIXCACHE_STORE_SIZE"));
    assert_eq!(size(&with_variable, &["--store-size", "5GiB"]), said("5.00 GiB", "--store-size"));
}

#[test]
fn a_members_directory_has_the_settings_of_its_workspace() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.write("Cargo.toml", "[workspace]\nmembers = [\"one\"]\nresolver = \"3\"\n");
    workspace.package("one", "", "fn main() {}\n");
    workspace.write("nixcache.toml", "store-size = '3GiB'\n");
    // One that is beside a member is none of the workspace's.
    workspace.write("one/nixcache.toml", "store-size = '1GiB'\n");
    let outcome = workspace.cargo(&["nixcache", "config"]).directory("one").succeed();
    let is_that_of_the_workspace = |line: &str| line.starts_with("store-size ") && line.contains(" 3.00 GiB ");
    assert!(outcome.stdout.lines().any(is_that_of_the_workspace), "{outcome}");
    // So has a workspace that is named: what is wrong in its file is told.
    workspace.write("nixcache.toml", "stroe = 'x'\n");
    let manifest = workspace.path("one/Cargo.toml");
    let elsewhere = machine.workspace("elsewhere");
    elsewhere.write("nothing", "");
    let refused = elsewhere.cargo(&["nixcache", "build", "--manifest-path", manifest.to_str().unwrap()]).fail();
    assert!(refused.stderr.contains(workspace.path("nixcache.toml").to_str().unwrap()), "{refused}");
}

#[test]
fn a_workspace_does_not_say_where_to_write() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let file = machine.root().join("home/.profile");
    fs::write(&file, "precious").unwrap();
    for (key, value) in [("summary", file.to_str().unwrap()), ("store", "store")] {
        workspace.write("nixcache.toml", format!("{key} = '{value}'\n"));
        for arguments in [&["nixcache", "build"][..], &["nixcache", "--dry-run", "build"]] {
            let outcome = workspace.cargo(arguments).fail();
            assert_eq!(outcome.status.code(), Some(2), "{outcome}");
            assert!(outcome.stderr.contains("nixcache.toml") && outcome.stderr.contains(key), "{outcome}");
        }
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(!workspace.path("store").exists());
}

#[test]
fn a_setting_that_is_not_known_is_refused_by_name() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.write("nixcache.toml", "stroe = 'x'\n");
    let outcome = workspace.cargo(&["nixcache", "build"]).fail();
    assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("nixcache.toml") && outcome.stderr.contains("stroe"), "{outcome}");
}

#[test]
fn the_doctor_finds_a_healthy_place_healthy() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let outcome = workspace.cargo(&["nixcache", "doctor"]).succeed();
    for check in ["rustc", "cargo", "layout", "recorder", "wrapper", "workspace", "size", "store", "links"] {
        let is_fine = |line: &str| line.starts_with(&format!("ok       {check} "));
        assert!(outcome.stdout.lines().any(is_fine), "{check}\n{outcome}");
    }
    let left: Vec<_> = fs::read_dir(workspace.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with(".cargo-nixcache")), "{left:?}");
}

#[test]
fn the_doctor_names_what_stops_caching_and_what_changes_it() {
    let machine = Machine::new();
    let workspace = app(&machine);
    // A file where the store should be.
    workspace.write("in-the-way", "");
    let store = workspace.path("in-the-way/store");
    let outcome = workspace.cargo(&["nixcache", "--store", store.to_str().unwrap(), "doctor"]).fail();
    assert_eq!(outcome.status.code(), Some(74), "{outcome}");
    assert!(outcome.stdout.lines().any(|line| line.starts_with("problem  ")), "{outcome}");
    let wrapped = workspace.with_env("RUSTC_WRAPPER", "/usr/bin/env");
    let outcome = wrapped.cargo(&["nixcache", "doctor"]).succeed();
    let is_named = |line: &str| line.starts_with("note     wrapper    /usr/bin/env");
    assert!(outcome.stdout.lines().any(is_named), "{outcome}");
}

#[test]
fn the_doctor_asks_the_caches() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let directory = tempfile::tempdir().unwrap();
    let [server_key, own_key] = ["server-key", "own-key"].map(|name| directory.path().join(name));
    let public_key = make_key(&server_key, "server-1");
    let server = CacheServer::start(directory.path(), &["--signing-key", server_key.to_str().unwrap()]);
    let says = |workspace: &Workspace, verdict: &str, words: &[&str]| {
        let outcome = workspace.cargo(&["nixcache", "doctor"]).run();
        assert_eq!(outcome.status.code(), Some(if verdict == "problem" { 74 } else { 0 }), "{outcome}");
        let is_said = |line: &str| line.starts_with(verdict) && words.iter().all(|word| line.contains(word));
        assert!(outcome.stdout.lines().any(is_said), "{verdict} {words:?}\n{outcome}");
    };
    let with_cache = workspace.with_env("NIXCACHE_CACHES", server.url());
    says(&with_cache, "problem", &["no key is trusted"]);
    let trusting = with_cache.with_env("NIXCACHE_TRUSTED_KEYS", &public_key);
    says(&trusting, "ok", &[server.url(), "server-1 is trusted"]);
    let mistaken = with_cache.with_env("NIXCACHE_TRUSTED_KEYS", make_key(&own_key, "server-1"));
    says(&mistaken, "note", &[server.url(), "server-1, which isn't trusted"]);

    let publishing = trusting.with_env("NIXCACHE_PUBLISH", format!("file://{}/new", directory.path().display()));
    says(&publishing, "problem", &["publish", "no secret key is set"]);
    let publishing = publishing.with_env("NIXCACHE_SECRET_KEY_FILE", &own_key);
    says(&publishing, "ok", &["publish", "signed by server-1"]);
    says(&publishing.with_env("NIXCACHE_OFFLINE", "1"), "note", &["`offline` is set"]);

    let missing = trusting.with_env("NIXCACHE_CACHES", "file:///nowhere/at/all");
    says(&missing, "problem", &["file:///nowhere/at/all", "no such directory"]);
    let url = server.url().to_owned();
    server.stop();
    says(&trusting, "problem", &[&url]);
}

#[test]
fn bash_completes_our_part_and_leaves_cargo_its_own() {
    let machine = Machine::new();
    let script = app(&machine).cargo(&["nixcache", "completions", "bash"]).succeed().stdout;
    let script_file = machine.root().join("completions.bash");
    fs::write(&script_file, script).unwrap();
    let complete = |words: &str, current: &str| {
        // It is loaded twice, as it is by a shell that reads its start-up file again.
        let line = format!(
            "_cargo() {{ COMPREPLY=(cargos-own); }}; complete -F _cargo cargo; source \"$1\"; source \"$1\"; \
             COMP_WORDS=({words}); COMP_CWORD={current}; \
             _cargo_nixcache_handover cargo \"${{COMP_WORDS[COMP_CWORD]}}\" x; echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &line, "bash"]).arg(&script_file).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete("cargo nixcache doc", "2"), "doctor");
    assert_eq!(complete("cargo nixcache --store-s", "2"), "--store-size");
    assert_eq!(complete("cargo nixcache gc --al", "3"), "--all");
    assert_eq!(complete("cargo bu", "1"), "cargos-own");
}

#[test]
fn the_scripts_and_the_page_name_every_command() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let help = workspace.cargo(&["nixcache", "--help"]).succeed().stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"doctor") && commands.len() > 8, "{commands:?}");
    for arguments in [&["completions", "bash"], &["completions", "zsh"], &["completions", "fish"], &["man", ""]] {
        let arguments: Vec<&str> = arguments.iter().copied().filter(|argument| !argument.is_empty()).collect();
        let text = workspace.cargo(&[&["nixcache"], arguments.as_slice()].concat()).succeed().stdout;
        for command in &commands {
            assert!(text.contains(command), "{arguments:?} does not name {command}");
        }
    }
}
