//! What is published, with Nix itself as the client: it substitutes units, sets and outputs, from a directory, from
//! our server and from a bucket, checks all of it, and fetches an output without any key, in pure evaluation too.
//!
//! Everything is done with the Nix of this machine and with a recent one, where there is one.

#![expect(clippy::unwrap_used, reason = "this file holds tests alone")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nixcache_core::nix::{Asked, NarInfo, SecretKey, StorePath};
use nixcache_test_servers::S3Server;
use nixcache_tests::{CacheServer, Machine, Nix, Workspace, skipped, walk};

/// A workspace with a member, a library from elsewhere, a program and a C library, published to a server in `nix`'s
/// directory and to the directory `cache` there. Gives all narinfos.
fn publish(nix: &Nix, machine: &Machine, key: &SecretKey) -> Vec<NarInfo> {
    let directory = nix.path("");
    fs::write(nix.path("secret"), key.to_file_text().as_str()).unwrap();
    let token = CacheServer::token(directory.as_std_path(), "ci", "write");
    let server = CacheServer::start(directory.as_std_path(), &[]);
    let workspace = app(machine)
        .with_env("NIXCACHE_PUBLISH", format!("{} file://{}", server.url_with(&token), nix.path("cache")))
        .with_env("NIXCACHE_SECRET_KEY_FILE", nix.path("secret"));
    workspace.build(&["build"]);
    server.stop();
    let narinfos = walk(nix.path("cache").as_std_path()).into_iter();
    let narinfos = narinfos.filter(|file| file.extension().is_some_and(|extension| extension == "narinfo"));
    narinfos.map(|file| NarInfo::parse(&fs::read(file).unwrap(), Asked::Anything).unwrap()).collect()
}

fn app(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package(
        "seven",
        "[lib]\ncrate-type = [\"rlib\", \"cdylib\"]\n",
        "#[unsafe(no_mangle)]\npub extern \"C\" fn seven() -> i32 { 7 }\n",
    );
    workspace.package(
        "",
        "[dependencies]\nitoa = \"1\"\nseven = { path = \"seven\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(seven::seven())) }\n",
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace
}

fn key() -> SecretKey {
    SecretKey::generate("sets-1".parse().unwrap(), &[9; 32])
}

fn by_path<'a>(narinfos: &'a [NarInfo], path: &StorePath) -> &'a NarInfo {
    narinfos.iter().find(|narinfo| narinfo.store_path == *path).unwrap_or_else(|| panic!("no {path}"))
}

fn find<'a>(narinfos: &'a [NarInfo], name: &str) -> &'a NarInfo {
    narinfos.iter().find(|narinfo| narinfo.store_path.name().as_str() == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Runs a program in a store of the scratch directory.
fn program_output(nix: &Nix, store: &str, path: &str) -> String {
    let program = nix.path(store).join(&path[1..]).join("bin/app");
    assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o111, 0o111, "it can be run");
    String::from_utf8(Command::new(program).output().unwrap().stdout).unwrap()
}

#[test]
fn nix_substitutes_units_sets_and_outputs() {
    for nix in Nix::all("nix_substitutes_units_sets_and_outputs") {
        let key = key();
        let public = key.public().to_string();
        let narinfos = publish(&nix, &Machine::new(), &key);
        let server = CacheServer::start(nix.path("").as_std_path(), &[]);
        let directory = format!("file://{}", nix.path("cache"));
        // The directory as a public bucket.
        let s3 = S3Server::public(nix.path("").as_std_path());
        let bucket = s3.url("cache");
        let mut places = vec![("directory", directory.as_str()), ("server", server.url())];
        match nix.can_read_s3() {
            true => places.push(("bucket", &bucket)),
            false => skipped("nix_substitutes_units_sets_and_outputs", "a Nix that was built with S3, for a bucket"),
        }
        let mut all = narinfos.iter().map(|narinfo| narinfo.store_path.name().as_str());
        let unit = all.find(|name| name.starts_with("cargo-itoa-")).unwrap();
        let names = [unit, "cargo-deps-app", "cargo-package-app-0.1.0", "app-0.1.0"];
        for (place, cache) in places {
            for name in names {
                nix.forget();
                let narinfo = find(&narinfos, name);
                let (store, path) = (format!("{place}-{name}"), narinfo.store_path.to_string());
                let output = nix.substitute(&store, &path, cache, &public);
                assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
                let root = nix.path(&store);
                // All that it refers to came with it.
                let mut open = vec![narinfo];
                let mut number = 0;
                while let Some(narinfo) = open.pop() {
                    assert!(root.join(&narinfo.store_path.to_string()[1..]).exists(), "{}", narinfo.store_path);
                    number += 1;
                    open.extend(narinfo.references.iter().map(|path| by_path(&narinfos, path)));
                    assert!(number < 1000);
                }
                let verify = ["store", "verify", "--recursive", "--store", root.as_str(), "--sigs-needed", "1"];
                nix.run("nix", &[&verify[..], &["--trusted-public-keys", &public, &path]].concat());
                nix.run("nix-store", &["--store", root.as_str(), "--verify", "--check-contents"]);
                // A stranger's key is not enough, except for what its content names.
                nix.forget();
                let stranger = SecretKey::generate("sets-1".parse().unwrap(), &[8; 32]).public().to_string();
                let refused = nix.substitute(&format!("{store}-refused"), &path, cache, &stranger);
                assert_eq!(refused.status.success(), name == "app-0.1.0", "{name}");
            }
        }
        let path = find(&narinfos, "app-0.1.0").store_path.to_string();
        assert_eq!(program_output(&nix, "server-app-0.1.0", &path), "7\n");
        // The member's library is an output of its own.
        let path = find(&narinfos, "seven-0.1.0").store_path.to_string();
        assert!(find(&narinfos, "cargo-package-seven-0.1.0").references.iter().any(|other| other.to_string() == path));
    }
}

#[test]
fn nix_copies_a_whole_package_from_cache_to_cache() {
    for nix in Nix::all("nix_copies_a_whole_package_from_cache_to_cache") {
        let key = key();
        let narinfos = publish(&nix, &Machine::new(), &key);
        let path = find(&narinfos, "cargo-package-app-0.1.0").store_path.to_string();
        let server = CacheServer::start(nix.path("").as_std_path(), &[]);
        let to = format!("file://{}", nix.path("copied"));
        nix.run("nix", &["copy", "--from", server.url(), "--to", &to, &path]);
        let info = nix.line("nix", &["path-info", "--recursive", "--store", &to, &path]);
        assert_eq!(info.lines().count(), narinfos.len(), "{info}");

        // What was copied is a cache that builds without compiling.
        let machine = Machine::new();
        let workspace = app(&machine);
        let fetching =
            workspace.with_env("NIXCACHE_CACHES", &to).with_env("NIXCACHE_TRUSTED_KEYS", key.public().to_string());
        let outcome = fetching.nixcache(&["build", "--verbose"]).succeed();
        // Nix packs with xz unless it is told otherwise, which is not read here.
        assert!(outcome.stderr.contains("compression xz"), "{outcome}");
        fs::remove_dir_all(nix.path("copied")).unwrap();
        let zstd = format!("{to}?compression=zstd");
        nix.run("nix", &["copy", "--from", server.url(), "--to", &zstd, &path]);
        workspace.remove_target();
        fs::remove_dir_all(machine.store()).unwrap();
        fetching.nixcache(&["build"]).restores_everything();
    }
}

#[test]
fn an_output_is_fetched_in_pure_evaluation_without_a_key() {
    for nix in Nix::all("an_output_is_fetched_in_pure_evaluation_without_a_key") {
        let nix = nix.with_features("fetch-closure").with_own_root();
        let narinfos = publish(&nix, &Machine::new(), &key());
        let output = find(&narinfos, "app-0.1.0");
        let path = output.store_path.to_string();
        let server = CacheServer::start(nix.path("").as_std_path(), &[]);
        let url = server.url();

        // A fixed-output derivation, whose path is the one that the content names.
        let expression = format!(
            "derivation {{ name = \"app-0.1.0\"; system = \"builtin\"; builder = \"builtin:fetchurl\"; \
             outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\"; outputHash = \"{}\"; \
             url = \"{url}/nar/{}.nar\"; unpack = true; }}",
            output.nar_hash.to_sri(),
            output.nar_hash.to_nix32(),
        );
        let pure = ["--option", "pure-eval", "true"];
        let found =
            nix.line("nix", &[&["eval", "--raw", "--expr", &format!("({expression}).outPath")][..], &pure].concat());
        assert_eq!(found, path);
        nix.run("nix", &[&["build", "--no-link", "--expr", &expression][..], &pure].concat());
        assert_eq!(program_output(&nix, "", &path), "7\n");

        // `fetchClosure`, from a server alone.
        let expression = format!("builtins.fetchClosure {{ fromStore = \"{url}\"; fromPath = {path}; }}");
        let store = nix.path("closure");
        let evaluate = ["eval", "--raw", "--store", store.as_str(), "--expr", &expression];
        let found = nix.line("nix", &[&evaluate[..], &pure, &["--option", "trusted-public-keys", ""]].concat());
        assert_eq!(found, path);
        assert_eq!(program_output(&nix, "closure", &path), "7\n");
    }
}
