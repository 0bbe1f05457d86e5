//! What a person reads who gave something wrong: what is wrong, and what to do.

use super::place::Place;

/// The lines of an error that are ours.
fn ours(log: &str) -> &str {
    log.find("nixcache: ").map_or("", |at| &log[at..])
}

#[test]
fn what_is_wrong_with_a_workspace_is_said_with_the_remedy() {
    let Some(place) = Place::new("what_is_wrong_with_a_workspace_is_said_with_the_remedy") else { return };
    place.workspace();
    let build = "(lib.buildWorkspace { src = ./ws; members.ghost = { }; }).packages.app.drvPath";
    let error = place.evaluation_error(build);
    assert!(ours(&error).contains("`ghost`, which is no member"), "{error}");
    assert!(ours(&error).contains("app, library, other"), "{error}");

    let deps = "(lib.buildWorkspace { src = ./ws; }).deps.drvPath";
    let lock = std::fs::read_to_string(place.path("ws/Cargo.lock")).unwrap();
    std::fs::remove_file(place.path("ws/Cargo.lock")).unwrap();
    let error = place.evaluation_error(deps);
    assert!(
        ours(&error).contains("there is no Cargo.lock") && ours(&error).contains("git add -N Cargo.lock"),
        "{error}"
    );

    place.write(
        "ws/Cargo.lock",
        &lock.replace("https://github.com/rust-lang/crates.io-index", "https://example.com/index"),
    );
    let error = place.evaluation_error(deps);
    assert!(ours(&error).contains("which is not known") && ours(&error).contains("registryFromDownloadUrl"), "{error}");
    place.write("ws/Cargo.lock", &lock);

    place.edit("ws/Cargo.toml", "\"other\"", "\"other\", \"nowhere\"");
    let error = place.evaluation_error(deps);
    assert!(ours(&error).contains("the member `nowhere`") && ours(&error).contains("git add -N nowhere"), "{error}");
    place.edit("ws/Cargo.toml", ", \"nowhere\"", "");

    place.edit("ws/app/Cargo.toml", "../library", "../../outside");
    let error = place.evaluation_error(deps);
    assert!(ours(&error).contains("outside of") && ours(&error).contains("`src` that holds both"), "{error}");

    let error = place.evaluation_error("(lib.buildWorkspace { src = ./ws/library/src; }).deps.drvPath");
    assert!(ours(&error).contains("there is no Cargo.toml"), "{error}");
    let error = place.evaluation_error("(lib.mkDummySrc { src = lib.vendorCargoDeps { src = ./ws; }; }).drvPath");
    assert!(ours(&error).contains("`src` is the derivation"), "{error}");
}

#[test]
fn a_crate_that_is_not_what_the_lock_file_says_stops_the_build() {
    let Some(place) = Place::new("a_crate_that_is_not_what_the_lock_file_says_stops_the_build") else { return };
    place.workspace();
    place.publish("base", "1.0.0", "pub fn number() -> u32 { 666 }\n", &[]);
    let whole = "let lib = import ./lib.nix; in lib.vendorCargoDeps { src = ./ws; }";
    let log = place.fail("nix-build", &["--no-out-link", "--expr", whole]);
    assert!(ours(&log).contains("base 1.0.0 from file://") && ours(&log).contains("Cargo.lock says"), "{log}");
    assert!(ours(&log).contains("take it from version control again"), "{log}");
    assert!(!log.contains("hash mismatch"), "{log}");
}

#[test]
fn what_is_wrong_with_caches_and_outputs_is_said_with_the_remedy() {
    let Some(place) = Place::new("what_is_wrong_with_caches_and_outputs_is_said_with_the_remedy") else { return };
    let error = place.evaluation_error("lib.cacheConfig { url = \"https://cache.example\"; }");
    assert!(ours(&error).contains("`publicKey`") && ours(&error).contains("key public"), "{error}");
    let error = place.evaluation_error(
        "lib.cacheConfig { url = \"https://cache.example\"; publicKey = \"cache.example-1:short\"; }",
    );
    assert!(ours(&error).contains("is no public key"), "{error}");
    let error =
        place.evaluation_error("(lib.fetchOutput { path = \"/tmp/x\"; narHash = \"\"; caches = [ \"x\" ]; }).drvPath");
    assert!(ours(&error).contains("is no store path"), "{error}");
    let error = place.evaluation_error(
        "(lib.fetchOutput { path = \"/nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-x\"; narHash = \"\"; }).drvPath",
    );
    assert!(ours(&error).contains("nowhere to take") && ours(&error).contains("`caches"), "{error}");
}

#[test]
fn what_is_wrong_with_a_lock_of_units_is_said_with_the_remedy() {
    let Some(place) = Place::new("what_is_wrong_with_a_lock_of_units_is_said_with_the_remedy") else { return };
    let warm = |more: &str| {
        place.evaluation_error(&format!(
            "(lib.warmArtifacts {{ lock = ./nixcache.lock; caches = [ \"https://cache.example\" ]; {more} }}).list.drvPath"
        ))
    };
    let error = warm("");
    assert!(ours(&error).contains("there is no") && ours(&error).contains("cargo nixcache nix lock"), "{error}");
    place.write("nixcache.lock", "version = 2\n");
    let error = warm("");
    assert!(ours(&error).contains("is of version 2") && ours(&error).contains("from one release"), "{error}");
    place.write("nixcache.lock", "version = 1\n[units.riscv64-linux.build]\nrecords = []\n");
    let error = warm("system = \"x86_64-linux\";");
    assert!(ours(&error).contains("no units for x86_64-linux") && ours(&error).contains("riscv64-linux"), "{error}");
    let error = warm("system = \"riscv64-linux\"; selections = [ \"test\" ];");
    assert!(ours(&error).contains("no selection `test`") && ours(&error).contains("-- test"), "{error}");
    let nif =
        "(lib.fetchNif { lock = ./nixcache.lock; nif = \"demo\"; caches = [ \"https://cache.example\" ]; }).drvPath";
    place.write("nixcache.lock", "version = 1\n");
    let error = place.evaluation_error(nif);
    assert!(ours(&error).contains("no NIF `demo`") && ours(&error).contains("nif lock"), "{error}");
    place.write(
        "nixcache.lock",
        "version = 1\n[nif.demo]\n[[nif.demo.files]]\ntarget = \"other\"\nnif-version = \"2.15\"\n",
    );
    let error = place.evaluation_error(nif);
    assert!(ours(&error).contains("It has: other 2.15") && ours(&error).contains("nif lock"), "{error}");
}
