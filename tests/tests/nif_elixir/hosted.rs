//! NIFs by way of a bucket, of Cachix and of Attic: published on one machine, locked and fetched on another, which has
//! no compilers. Cachix and Attic are servers of the tests, under their real names.

use std::fs;

use nixcache_test_servers::{Attic, Cachix, S3Server};
use nixcache_tests::{Compilers, Machine, Workspace};

use crate::place::{archive_file, built, checkout, machine, make_key, nif};

/// What is said where RustlerPrecompiled can't fetch by an address.
const NO_ADDRESS: &str = "keeps nothing but store paths, so RustlerPrecompiled can't fetch from it by an address";

/// Publishes on one machine, and locks and fetches on another one. Gives the archive as it was fetched.
#[track_caller]
fn pass_on(
    url: &str,
    public_key: &str,
    publishing: &dyn Fn(Workspace) -> Workspace,
    fetching: &dyn Fn(Workspace) -> Workspace,
    has_addresses: bool,
) -> Vec<u8> {
    let first = publishing(checkout(&machine(), "app"))
        .with_env("NIXCACHE_PUBLISH", url)
        // Who signs himself believes himself; what the cache signs must be trusted.
        .with_env("NIXCACHE_TRUSTED_KEYS", public_key);
    let outcome = nif(&first, &["publish"]).succeed();
    assert!(outcome.stderr.contains("Published demo_nif 0.1.0"), "{outcome}");
    assert_eq!(outcome.stderr.contains(NO_ADDRESS), !has_addresses, "{outcome}");
    let library = fs::read(built(&first)).unwrap();
    let outcome = nif(&first, &["publish"]).compilers(Compilers::Fail).succeed();
    assert!(outcome.stderr.contains("Fresh demo_nif 0.1.0"), "{outcome}");
    first.edit("native/demo_nif/src/lib.rs", "one + other", "one - other");
    let outcome = nif(&first, &["publish"]).fail();
    assert!(outcome.stderr.contains("what is published never changes"), "{outcome}");

    let second = fetching(checkout(&Machine::new(), "project")).with_env("NIXCACHE_CACHES", url);
    let run = |arguments: &[&str]| second.nixcache(arguments).compilers(Compilers::Fail);
    run(&["nif", "lock"]).env("NIXCACHE_TRUSTED_KEYS", public_key).succeed();
    assert!(second.read("nixcache.lock").contains(&archive_file("0.1.0")), "{}", second.read("nixcache.lock"));
    // The lock is enough: nobody is trusted.
    run(&["nif", "fetch", "--locked"]).succeed();
    assert!(fs::read(second.path("priv/native/demo_nif.so")).unwrap() == library, "another library");
    run(&["nif", "fetch", "--locked", "--layout", "precompiled", "--out", "archives"]).succeed();
    fs::read(second.path("archives").join(archive_file("0.1.0"))).unwrap()
}

#[test]
fn by_way_of_a_bucket() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("team")).unwrap();
    let server = S3Server::new(directory.path());
    let (secret_key, public_key) = make_key(directory.path());
    let with_keys = |workspace: Workspace| workspace.with_variables(S3Server::VARIABLES);
    let publishing = |workspace| with_keys(workspace).with_env("NIXCACHE_SECRET_KEY_FILE", &secret_key);
    let archive = pass_on(&server.url("team"), &public_key, &publishing, &with_keys, true);
    // Where the bucket is served, RustlerPrecompiled finds it.
    let beside = directory.path().join("team/nif/main").join(archive_file("0.1.0"));
    assert!(fs::read(beside).unwrap() == archive);
}

#[test]
fn by_way_of_cachix() {
    for signs_itself in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let (secret_key, public_key) = make_key(directory.path());
        let mut cachix = Cachix::new("mine", "sesame");
        if signs_itself {
            cachix = cachix.signed_by(public_key.parse().unwrap());
        }
        let internet = cachix.internet();
        let in_network = |workspace: Workspace| workspace.with_variables(internet.variables(directory.path()));
        let publishing = |workspace: Workspace| {
            let workspace = in_network(workspace).with_env("CACHIX_AUTH_TOKEN", "sesame");
            // Without a key of ours, Cachix signs.
            if signs_itself { workspace.with_env("NIXCACHE_SECRET_KEY_FILE", &secret_key) } else { workspace }
        };
        pass_on("cachix://mine", &cachix.public_key().to_string(), &publishing, &in_network, false);
        assert_eq!(cachix.refused(), [""; 0]);
    }
}

#[test]
fn by_way_of_attic() {
    let directory = tempfile::tempdir().unwrap();
    let attic = Attic::new("team", "sesame");
    let internet = attic.internet();
    let with_token = |workspace: Workspace, token: &str| {
        let netrc = directory.path().join(format!("netrc-{token}"));
        fs::write(&netrc, format!("machine attic.example.org login anyone password {token}\n")).unwrap();
        workspace.with_variables(internet.variables(directory.path())).with_env("NETRC", netrc)
    };
    let publishing = |workspace| with_token(workspace, "sesame");
    let fetching = |workspace| with_token(workspace, "sesame-reader");
    let url = "attic://attic.example.org/team";
    pass_on(url, &attic.public_key().to_string(), &publishing, &fetching, false);
    assert_eq!(attic.refused(), [""; 0]);
    assert_eq!(attic.replaced(), 0);
}
