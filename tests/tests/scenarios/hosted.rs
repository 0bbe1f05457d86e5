//! From one machine to another by way of a bucket, of Cachix and of Attic: the first builds and publishes, the second,
//! empty, agrees to use the cache, fetches and builds without any compiler.
//!
//! Cachix and Attic are servers of the tests that take nothing that the real ones wouldn't, reached under their real
//! names and over TLS: there is no setting for tests in between.

use std::fs;

use nixcache_test_servers::{Attic, Cachix, S3Server};
use nixcache_tests::{Machine, Workspace};

use super::caches::{app, fetched, make_key};

/// Builds on one machine, which publishes to `url`, and fetches on another one, which uses it.
#[track_caller]
fn pass_on(
    url: &str,
    publishing: &dyn Fn(Workspace) -> Workspace,
    fetching: &dyn Fn(Workspace) -> Workspace,
    use_it: &[&str],
) {
    let (first, second) = (Machine::new(), Machine::new());
    let workspace = publishing(app(&first)).with_env("NIXCACHE_PUBLISH", url);
    let cold = workspace.build(&["build"]);
    assert!(!cold.stderr.contains("warning: nixcache"), "{cold}");
    assert!(cold.summary().json["bytes"]["published"].as_u64().unwrap() > 0, "{cold}");
    // Everything is there, so that nothing is sent the second time.
    let again = workspace.nixcache(&["push"]).succeed();
    assert!(!again.stderr.contains("Published"), "{again}");

    let workspace = fetching(app(&second));
    workspace.nixcache(&[&["use", url, "--yes"], use_it].concat()).succeed();
    let warm = workspace.nixcache(&["build"]).restores_everything();
    assert!(fetched(&warm) > 0, "{warm}");
    assert!(!warm.stderr.contains("warning: nixcache"), "{warm}");
    assert_eq!(workspace.run_output("debug/app"), "hello 7\n");
    workspace.assert_nothing_to_do(&["build"]);
}

#[test]
fn by_way_of_a_bucket() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("team")).unwrap();
    let server = S3Server::new(directory.path());
    let secret_key = directory.path().join("secret-key");
    let public_key = make_key(&secret_key, "test-1");
    let with_keys = |workspace: Workspace| workspace.with_variables(S3Server::VARIABLES);
    let publishing = |workspace| with_keys(workspace).with_env("NIXCACHE_SECRET_KEY_FILE", &secret_key);
    pass_on(&server.url("team"), &publishing, &with_keys, &["--trusted-key", &public_key]);
}

#[test]
fn by_way_of_cachix() {
    for signs_itself in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let secret_key = directory.path().join("secret-key");
        let public_key = make_key(&secret_key, "mine-1");
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
        pass_on("cachix://mine", &publishing, &in_network, &[]);
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
    pass_on("attic://attic.example.org/team", &publishing, &fetching, &[]);
    assert_eq!(attic.refused(), [""; 0]);
    assert_eq!(attic.replaced(), 0);
}
