//! The NixOS module in `examples/server`, evaluated by Nix with a stand-in for nixpkgs' module system; and what it
//! defines, started as systemd would.

#![expect(clippy::unwrap_used, reason = "this file holds tests alone")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use nixcache_tests::{binary_directory, repository, skipped};
use serde_json::Value;

/// Evaluates the module with these settings of `services.nixcache`.
fn evaluate(settings: &str) -> Output {
    let home = tempfile::tempdir().unwrap();
    let root = repository();
    let expression = format!(
        "import {}/tests/data/nixos.nix {{ module = {}/examples/server/module.nix; settings = {settings}; }}",
        root.display(),
        root.display()
    );
    Command::new("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--expr", &expression])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(["HOME", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR"].map(|name| (name, home.path())))
        .env("NIX_STORE_DIR", home.path().join("store"))
        .env("NIX_REMOTE", "dummy://")
        .output()
        .unwrap()
}

#[track_caller]
fn evaluated(settings: &str) -> Value {
    let output = evaluate(settings);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn has_nix(test: &str) -> bool {
    let there = Command::new("nix-instantiate").arg("--version").output().is_ok();
    if !there {
        skipped(test, "nix-instantiate, of Debian's nix-bin");
    }
    there
}

const PACKAGE: &str = "package = { outPath = \"/nix/store/package\"; };";

fn service(value: &Value) -> &Value {
    &value["configuration"]["systemd"]["services"]["nixcache"]
}

#[test]
fn the_module_defines_a_service() {
    if !has_nix("the_module_defines_a_service") {
        return;
    }
    assert_eq!(evaluated("{ }")["configuration"], serde_json::json!({}), "nothing unless it is enabled");
    let value = evaluated(&format!("{{ enable = true; {PACKAGE} }}"));
    assert_eq!(value["refused"], serde_json::json!([]));
    let unit = service(&value);
    assert_eq!(unit["serviceConfig"]["ExecStart"], "/nix/store/package/bin/cargo-nixcache nixcache serve");
    assert_eq!(
        unit["environment"],
        serde_json::json!({
            "NIXCACHE_SERVE_LISTEN": "127.0.0.1:8080",
            "NIXCACHE_SERVE_DATA": "/var/lib/nixcache/data",
            "NIXCACHE_SERVE_PRIORITY": "30",
            "NIXCACHE_SERVE_TOKENS": "/var/lib/nixcache/tokens.toml",
            "NIXCACHE_SERVE_GC_EVERY": "1d",
        })
    );
    for (name, wanted) in [("NoNewPrivileges", Value::Bool(true)), ("ProtectSystem", "strict".into())] {
        assert_eq!(unit["serviceConfig"][name], wanted);
    }
    assert_eq!(value["configuration"]["users"]["users"]["nixcache"]["group"], "nixcache");
}

#[test]
fn secrets_and_buckets_reach_the_service_and_not_the_store() {
    if !has_nix("secrets_and_buckets_reach_the_service_and_not_the_store") {
        return;
    }
    let value = evaluated(&format!(
        "{{ enable = true; {PACKAGE} dataDir = null; signingKeyFile = \"/run/keys/secret\"; publicReading = false;
            s3 = {{ bucket = \"caches\"; region = \"eu-1\"; endpoint = \"s3.example.org:9000\"; scheme = \"http\";
                    environmentFile = \"/run/keys/aws\"; }};
            tls = {{ certificate = \"/run/100%.pem\"; key = \"/run/key.pem\"; }};
            extraArgs = [ \"--upstream\" \"https://a.example.org/it's\" ]; }}"
    ));
    let unit = service(&value);
    let environment = &unit["environment"];
    assert_eq!(environment["NIXCACHE_SERVE_DATA"], "s3://caches?region=eu-1&endpoint=s3.example.org:9000&scheme=http");
    assert_eq!(environment["NIXCACHE_SERVE_SIGNING_KEY"], "%d/signing-key");
    assert_eq!(environment["NIXCACHE_SERVE_PRIVATE"], "true");
    assert_eq!(environment["NIXCACHE_SERVE_TLS_CERTIFICATE"], "/run/100%%.pem", "% is systemd's");
    let unit = &unit["serviceConfig"];
    assert_eq!(unit["LoadCredential"], serde_json::json!(["signing-key:/run/keys/secret"]));
    assert_eq!(unit["EnvironmentFile"], "/run/keys/aws");
    let start = "/nix/store/package/bin/cargo-nixcache nixcache serve --upstream 'https://a.example.org/it'\\''s'";
    assert_eq!(unit["ExecStart"], start);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    if !has_nix("settings_that_make_no_sense_are_refused") {
        return;
    }
    for (settings, refusal) in [
        ("dataDir = null;", "set one of dataDir and s3"),
        ("s3 = { bucket = \"caches\"; };", "set one of dataDir and s3"),
        ("publicReading = false; tokensFile = null;", "needs tokensFile"),
    ] {
        let value = evaluated(&format!("{{ enable = true; {PACKAGE} {settings} }}"));
        assert!(value["refused"][0].as_str().is_some_and(|text| text.contains(refusal)), "{value}");
    }
    for (settings, complaint) in [
        ("enable = true;", "package is not set"),
        (&format!("enable = true; {PACKAGE} listen = 8080;"), "listen is not of the type str"),
        (&format!("enable = true; {PACKAGE} token = \"x\";"), "no option token"),
        (&format!("enable = true; {PACKAGE} s3 = {{ name = \"x\"; }};"), "no option name"),
    ] {
        let output = evaluate(&format!("{{ {settings} }}"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(complaint), "{text}");
    }
}

#[test]
fn the_server_takes_what_the_module_gives_it() {
    if !has_nix("the_server_takes_what_the_module_gives_it") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let value = evaluated(&format!(
        "{{ enable = true; {PACKAGE} listen = \"127.0.0.1:0\"; dataDir = {:?}; tokensFile = {:?}; keepSize = \"1GiB\";
            keepTime = \"90d\"; publicReading = false; priority = 7;
            trustedKeys = [ \"a:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\" \
                            \"b:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\" ];
            extraArgs = [ \"--no-access-log\" ]; }}",
        path("data"),
        path("tokens.toml")
    ));
    let unit = service(&value);
    let environment: BTreeMap<String, String> = serde_json::from_value(unit["environment"].clone()).unwrap();
    let start = unit["serviceConfig"]["ExecStart"].as_str().unwrap();
    let arguments = start.strip_prefix("/nix/store/package/bin/cargo-nixcache ").unwrap().split(' ');
    let mut server = Command::new(binary_directory().join("cargo-nixcache"))
        .args(arguments)
        .env_clear()
        .env("HOME", directory.path())
        .envs(environment)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = BufReader::new(server.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(first.contains("Serving http://127.0.0.1:"), "{first}");
    assert!(directory.path().join("data/nar").is_dir());
}
