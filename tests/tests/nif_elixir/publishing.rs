//! `nif publish` and `nif lock`: names keep their bytes, in every kind of cache.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use nixcache_tests::{Compilers, binary_directory, copy_tree, repository, skipped};

use crate::place::{Server, archive_file, built, checkout, machine, make_key, nif};

/// The exit code for NIFs that are refused or can't be had.
const NIF: i32 = 79;

#[test]
fn a_published_name_keeps_its_bytes() {
    let machine = machine();
    let workspace = checkout(&machine, "app");
    let server = Server::new();
    let directory = machine.root().join("cache");
    let publishing = server.publishing(&workspace);
    let publishing = publishing.with_env("NIXCACHE_PUBLISH", format!("{} file://{}", server.url, directory.display()));
    let outcome = nif(&publishing, &["publish"]).succeed();
    assert_eq!(outcome.stderr.matches("Published demo_nif 0.1.0").count(), 2, "{outcome}");
    let archive = server.path("data/nif/main").join(archive_file("0.1.0"));
    let before = fs::read(&archive).unwrap();
    assert!(before == fs::read(directory.join("nif/main").join(archive_file("0.1.0"))).unwrap());
    // A web server before the directory would serve RustlerPrecompiled; Nix and we find the rest by the record.
    assert!(directory.join("nix-cache-info").is_file());

    // The same again is no work, and no error.
    let outcome = nif(&publishing, &["publish"]).compilers(Compilers::Fail).succeed();
    assert_eq!(outcome.stderr.matches("Fresh demo_nif 0.1.0").count(), 2, "{outcome}");

    workspace.edit("native/demo_nif/src/lib.rs", "one + other", "one - other");
    let outcome = nif(&publishing, &["publish"]).fail();
    assert_eq!(outcome.status.code(), Some(NIF), "{outcome}");
    assert!(outcome.stderr.contains("what is published never changes"), "{outcome}");
    // Also where nothing but the archive is left of it.
    for file in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "narinfo") {
            fs::remove_file(file).unwrap();
        }
    }
    let alone = publishing.with_env("NIXCACHE_PUBLISH", format!("file://{}", directory.display()));
    let outcome = nif(&alone, &["publish"]).fail();
    assert!(outcome.stderr.contains("what is published never changes"), "{outcome}");
    assert!(fs::read(&archive).unwrap() == before);

    // With the sources in its version it is another name, and the next one that is locked.
    let outcome = nif(&publishing, &["publish", "--source-version"]).succeed();
    assert!(outcome.stderr.contains("Published demo_nif 0.1.0-s"), "{outcome}");
    let reading = workspace
        .with_env("NIXCACHE_CACHES", &server.url)
        .with_env("NETRC", server.netrc(&server.reader))
        .with_env("NIXCACHE_TRUSTED_KEYS", &server.public_key);
    reading.nixcache(&["nif", "lock", "--source-version"]).compilers(Compilers::Fail).succeed();
    let lock = workspace.read("nixcache.lock");
    assert!(
        lock.contains("version = \"0.1.0-s") && lock.contains("manifest = \"native/demo_nif/Cargo.toml\""),
        "{lock}"
    );
    reading.nixcache(&["nif", "fetch", "--locked"]).succeed();
    workspace.edit("native/tally/src/lib.rs", "Counts words", "Counts the words");
    let outcome = reading.nixcache(&["nif", "fetch", "--locked"]).fail();
    assert!(outcome.stderr.contains("nixcache.lock: it has demo_nif 0.1.0-s"), "{outcome}");
}

#[test]
fn a_lock_is_made_of_what_trusted_keys_have_signed() {
    let machine = machine();
    let workspace = checkout(&machine, "app");
    let server = Server::new();
    nif(&server.publishing(&workspace), &["publish"]).succeed();
    let reading = workspace.with_env("NIXCACHE_CACHES", &server.url).with_env("NETRC", server.netrc(&server.reader));
    let lock = |key: &str, arguments: &[&str]| {
        let call = reading.nixcache(&[&["nif", "lock"], arguments].concat());
        call.env("NIXCACHE_TRUSTED_KEYS", key).compilers(Compilers::Fail)
    };
    let outcome = lock("", &[]).fail();
    assert!(outcome.stderr.contains("not trusted"), "{outcome}");
    assert!(!workspace.path("nixcache.lock").exists());
    lock(&server.public_key, &[]).succeed();
    let text = workspace.read("nixcache.lock");
    assert!(text.contains(&archive_file("0.1.0")), "{text}");
    // Without sources, by name.
    fs::remove_dir_all(workspace.path("native")).unwrap();
    fs::remove_file(workspace.path("nixcache.lock")).unwrap();
    lock(&server.public_key, &["demo_nif@0.1.0"]).succeed();
    assert_eq!(workspace.read("nixcache.lock"), text.replace("manifest = \"native/demo_nif/Cargo.toml\"\n", ""));
    let outcome = lock(&server.public_key, &["demo_nif@0.9.0"]).fail();
    assert!(outcome.stderr.contains("no cache has it"), "{outcome}");
    let outcome = lock(&server.public_key, &["demo_nif@0.1.0", "--namespace", "others"]).fail();
    assert!(outcome.stderr.contains("in the namespace others: no cache has it"), "{outcome}");
}

#[test]
fn a_lock_is_not_written_while_a_cache_cannot_be_asked() {
    let machine = machine();
    let workspace = checkout(&machine, "app");
    let directory = format!("file://{}", machine.root().join("cache").display());
    let (secret_key, public_key) = make_key(machine.root());
    let publishing =
        workspace.with_env("NIXCACHE_PUBLISH", &directory).with_env("NIXCACHE_SECRET_KEY_FILE", secret_key);
    nif(&publishing, &["publish"]).succeed();
    let reading = workspace.with_env("NIXCACHE_TRUSTED_KEYS", public_key);
    let lock = |caches: &str| reading.nixcache(&["nif", "lock"]).env("NIXCACHE_CACHES", caches);
    lock(&directory).succeed();
    let before = workspace.read("nixcache.lock");
    fs::remove_file(workspace.path("nixcache.lock")).unwrap();
    // One that is down, and one that takes connections and never answers: what they have, nobody knows.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    for other in ["http://127.0.0.1:1", &silent] {
        let outcome = lock(&format!("{directory} {other}")).fail();
        assert!(outcome.stderr.contains("error: get the record of demo_nif"), "{other}: {outcome}");
        assert!(!workspace.path("nixcache.lock").exists(), "{other}");
    }
    lock(&directory).succeed();
    assert_eq!(workspace.read("nixcache.lock"), before);
}

#[test]
fn nix_fetches_a_nif_by_its_content_alone() {
    let machine = machine();
    let test = "nix_fetches_a_nif_by_its_content_alone";
    if Command::new("nix-store").arg("--version").output().is_err() {
        return skipped(test, "nix-store, of Debian's nix-bin");
    }
    let workspace = checkout(&machine, "app");
    let server = Server::new();
    let cache = format!("file://{}", machine.root().join("cache").display());
    let publishing = server.publishing(&workspace).with_env("NIXCACHE_PUBLISH", &cache);
    nif(&publishing, &["publish", "--lock", "--lock-file", "../nixcache.lock"]).succeed();
    let lock = workspace.read("nixcache.lock");
    let value = |key: &str| {
        let line = lock.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.unwrap().trim_end_matches('"').to_owned()
    };
    let (output, archive) = (value("path"), value("archive-path"));
    let root = machine.root().join("nix");
    // No key is trusted: the names say what is in the paths.
    let fetched = Command::new("nix-store")
        .arg("--store")
        .arg(&root)
        .args(["-r", &output, &archive, "--option", "substituters", &cache])
        .args(["--option", "trusted-public-keys", ""])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", machine.root().join("home"))
        .env("NIX_CONF_DIR", machine.root())
        .env("NIX_CONFIG", "sandbox = false\nbuild-users-group =\n")
        .output()
        .unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let path = |store_path: &str| root.join(store_path.trim_start_matches('/'));
    let library = fs::read(built(&workspace)).unwrap();
    for file in ["priv/native/demo_nif.so", "priv/native/libdemo_nif.so", "lib/libdemo_nif.so"] {
        assert!(fs::read(path(&output).join(file)).unwrap() == library, "{file}");
    }
    let beside = machine.root().join("cache/nif/main").join(archive_file("0.1.0"));
    assert!(fs::read(path(&archive)).unwrap() == fs::read(beside).unwrap());
    let _ = Command::new("chmod").arg("-R").arg("u+w").arg(&root).status();

    // By the flake helper: the output, and a directory for RustlerPrecompiled's global cache.
    let place = machine.root().join("flake");
    copy_tree(&repository().join("nix"), &place.join("nix"), &[]);
    copy_tree(&repository().join("tests/nix/stand-in"), &place.join("stand-in"), &[]);
    let program = binary_directory().join("cargo-nixcache");
    let host = format!("{{ path = \"/usr/local/bin:/usr/bin:/bin\"; cargo-nixcache = \"{}\"; }}\n", program.display());
    fs::write(place.join("stand-in/host.nix"), host).unwrap();
    fs::write(place.join("nixcache.lock"), &lock).unwrap();
    let build = |layout: &str| {
        let expression = format!(
            "(import ./nix/lib.nix {{ pkgs = import ./stand-in {{ }}; }}).fetchNif {{ lock = ./nixcache.lock; \
             nif = \"demo_nif\"; caches = [ \"{cache}\" ]; {layout} }}"
        );
        let built = Command::new("nix-build")
            .args(["--no-out-link", "--expr", &expression])
            .current_dir(&place)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", machine.root().join("home"))
            .env("NIX_STORE_DIR", place.join("store"))
            .env("NIX_STATE_DIR", place.join("state"))
            .env("NIX_LOG_DIR", place.join("log"))
            .env("NIX_CONF_DIR", &place)
            .env("NIX_CONFIG", "sandbox = false\nbuild-users-group =\nsubstituters =\n")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())
    };
    assert!(fs::read(build("").join("priv/native/demo_nif.so")).unwrap() == library);
    let archives = build("layout = \"precompiled\";");
    let beside = machine.root().join("cache/nif/main").join(archive_file("0.1.0"));
    assert!(fs::read(archives.join(archive_file("0.1.0"))).unwrap() == fs::read(beside).unwrap());
    assert_eq!(fs::read_dir(&archives).unwrap().count(), 1);
    let _ = Command::new("chmod").arg("-R").arg("u+w").arg(&place).status();
}
