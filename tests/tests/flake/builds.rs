//! What is built, and what is not built again.

use std::process::Command;

use super::place::{Place, lock};

/// In cargo's own default profile: the fastest to build.
const WORKSPACE: &str = "(lib.buildWorkspace { src = ./ws; CARGO_PROFILE = \"\"; })";

fn run(path: &std::path::Path) -> String {
    let output = Command::new(path).output().unwrap();
    assert!(output.status.success(), "{}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_edit_rebuilds_the_member_and_its_dependents_alone() {
    let Some(place) = Place::new("an_edit_rebuilds_the_member_and_its_dependents_alone") else { return };
    place.workspace();
    let (_, log) = place.build(&format!("{WORKSPACE}.deps"));
    assert!(log.contains("Compiling part v1.0.0"), "{log}");

    let (app, log) = place.build(&format!("{WORKSPACE}.packages.app"));
    assert_eq!(run(&app.join("bin/app")), "42 library 40\n");
    assert!(!log.contains("Compiling part") && !log.contains("Compiling base"), "{log}");
    // The library's own derivation has compiled it, and handed it on.
    assert_eq!(log.matches("Compiling library v0.1.0").count(), 1, "{log}");
    let (other, log) = place.build(&format!("{WORKSPACE}.packages.other"));
    assert_eq!(run(&other.join("bin/other")), "other 42\n");
    assert!(!log.contains("Compiling part") && !log.contains("library"), "{log}");

    let expression = format!("{WORKSPACE}.packages // {{ deps = {WORKSPACE}.deps; }}");
    let before = place.derivations(&expression);
    place.edit("ws/library/src/lib.rs", "library {}", "books {}");
    let after = place.derivations(&expression);
    let changed: Vec<&str> =
        before.iter().filter(|(name, drv)| after[*name] != **drv).map(|(name, _)| name.as_str()).collect();
    assert_eq!(changed, ["app", "library"]);
    let (app, log) = place.build(&format!("{WORKSPACE}.packages.app"));
    assert_eq!(run(&app.join("bin/app")), "42 books 40\n");
    assert!(!log.contains("Compiling part") && !log.contains("Compiling base"), "{log}");

    // A new test file changes its member, and a file that is nobody's changes nothing.
    place.write("ws/app/tests/more.rs", "#[test]\nfn more() {}\n");
    place.write("ws/README.md", "Read me.\n");
    let later = place.derivations(&expression);
    let changed: Vec<&str> =
        after.iter().filter(|(name, drv)| later[*name] != **drv).map(|(name, _)| name.as_str()).collect();
    assert_eq!(changed, ["app"]);
}

#[test]
fn a_release_builds_no_dependency_again() {
    let Some(place) = Place::new("a_release_builds_no_dependency_again") else { return };
    place.workspace();
    let deps = format!("{WORKSPACE}.deps.drvPath");
    let before = place.evaluate(&deps);
    let text = std::fs::read_to_string(place.path("ws/Cargo.lock")).unwrap();
    let crates = &text[text.find("[[package]]\nname = \"base\"").unwrap()..];
    place.write("ws/Cargo.lock", &lock("0.1.7", crates));
    place.edit("ws/Cargo.toml", "0.1.0", "0.1.7");
    assert_eq!(place.evaluate(&deps), before);
    let (app, _) = place.build(&format!("{WORKSPACE}.packages.app"));
    assert_eq!(run(&app.join("bin/app")), "42 library 40\n");
}

#[test]
fn functions_of_cranes_names_build_what_they_say() {
    let Some(place) = Place::new("functions_of_cranes_names_build_what_they_say") else { return };
    place.workspace();
    place.write(
        "all.nix",
        "{ lib }:
         let
           common = { src = lib.cleanCargoSource ./ws; pname = \"all\"; version = \"1\"; CARGO_PROFILE = \"\"; };
           cargoArtifacts = lib.buildDepsOnly common;
           on = common // { inherit cargoArtifacts; };
         in
         {
           inherit cargoArtifacts;
           package = lib.buildPackage on;
           build = lib.cargoBuild on;
           further = lib.cargoTest (on // { cargoArtifacts = lib.cargoBuild on; });
           clippy = lib.cargoClippy (on // { cargoClippyExtraArgs = \"-- -D warnings\"; });
           doc = lib.cargoDoc on;
           fmt = lib.cargoFmt on;
         }\n",
    );
    let attribute = |name: &str| format!("(import ./all.nix {{ inherit lib; }}).{name}");
    let (_, log) = place.build(&attribute("cargoArtifacts"));
    assert!(log.contains("Compiling part"), "{log}");
    let (package, log) = place.build(&attribute("package"));
    assert!(!log.contains("Compiling part"), "{log}");
    assert_eq!(run(&package.join("bin/other")), "other 42\n");
    let contents: Vec<_> = std::fs::read_dir(&package).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(contents, ["bin"]);
    // The second archive goes on where the first one ended.
    let (build, _) = place.build(&attribute("build"));
    assert!(build.join("target.tar.zst.prev").is_symlink());
    let (_, log) = place.build(&attribute("further"));
    assert!(log.contains("test tests::adds ... ok"), "{log}");
    assert!(!log.contains("Compiling part"), "{log}");
    let (_, log) = place.build(&attribute("clippy"));
    assert!(log.contains("Checking app") && !log.contains("Checking part"), "{log}");
    let (doc, _) = place.build(&attribute("doc"));
    assert!(doc.join("share/doc/library/index.html").is_file());
    place.build(&attribute("fmt"));
}

#[test]
fn checks_run_on_top_of_what_members_compiled() {
    let Some(place) = Place::new("checks_run_on_top_of_what_members_compiled") else { return };
    place.workspace();
    let (_, log) = place.build(&format!("{WORKSPACE}.checks.app-test"));
    assert!(log.contains("test tests::adds ... ok"), "{log}");
    assert_eq!(log.matches("Compiling library v0.1.0").count(), 1, "{log}");
    place.build(&format!("{WORKSPACE}.checks.library-clippy"));
    place.edit("ws/app/src/main.rs", "42", "43");
    let whole = format!("let lib = import ./lib.nix; in {WORKSPACE}.checks.app-test");
    let log = place.fail("nix-build", &["--no-out-link", "--expr", &whole]);
    assert!(log.contains("test tests::adds ... FAILED"), "{log}");
}

#[test]
fn a_patched_package_is_a_dependency_with_its_sources() {
    let Some(place) = Place::new("a_patched_package_is_a_dependency_with_its_sources") else { return };
    place.workspace();
    place.edit(
        "ws/Cargo.toml",
        "[workspace.package]",
        "[patch.crates-io]\nbase = { path = \"vendor/base\" }\n\n[workspace.package]",
    );
    place.write("ws/vendor/base/Cargo.toml", "[package]\nname = \"base\"\nversion = \"1.0.0\"\nedition = \"2024\"\n");
    place.write("ws/vendor/base/src/lib.rs", "pub fn number() -> u32 { 1 }\n");
    let text = std::fs::read_to_string(place.path("ws/Cargo.lock")).unwrap();
    let base = text.find("[[package]]\nname = \"base\"").unwrap();
    let part = text.find("[[package]]\nname = \"part\"").unwrap();
    place.write(
        "ws/Cargo.lock",
        &format!("{}[[package]]\nname = \"base\"\nversion = \"1.0.0\"\n\n{}", &text[..base], &text[part..]),
    );
    let (_, log) = place.build(&format!("{WORKSPACE}.deps"));
    assert!(log.contains("Compiling base v1.0.0"), "{log}");
    let (app, log) = place.build(&format!("{WORKSPACE}.packages.app"));
    assert_eq!(run(&app.join("bin/app")), "3 library 1\n");
    assert!(!log.contains("Compiling base") && !log.contains("Compiling part"), "{log}");
    // Its sources are a part of the dependencies, and only its.
    let deps = format!("{WORKSPACE}.deps.drvPath");
    let before = place.evaluate(&deps);
    place.edit("ws/vendor/base/src/lib.rs", "1", "2");
    assert_ne!(place.evaluate(&deps), before);
}

#[test]
fn a_nif_has_its_library_where_erlang_looks() {
    let Some(place) = Place::new("a_nif_has_its_library_where_erlang_looks") else { return };
    let lock = "version = 4\n\n[[package]]\nname = \"demo_nif\"\nversion = \"0.1.0\"\n";
    place.write("nif/Cargo.lock", lock);
    place.write(
        "nif/Cargo.toml",
        "[package]\nname = \"demo_nif\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n",
    );
    place.write("nif/src/lib.rs", "#[unsafe(no_mangle)]\npub extern \"C\" fn nif_init() -> usize { 0 }\n");
    let (nif, _) = place.build("lib.buildNif { src = ./nif; }");
    assert!(nif.join("priv/native/demo_nif.so").is_file());
    assert!(nif.join("lib/libdemo_nif.so").is_file());
    place.write("nif/src/lib.rs", "pub fn nothing() {}\n");
    let whole = "let lib = import ./lib.nix; in lib.buildNif { src = ./nif; }";
    let log = place.fail("nix-build", &["--no-out-link", "--expr", whole]);
    assert!(log.contains("has no nif_init"), "{log}");
}

#[test]
fn the_post_build_hook_fails_no_build_and_forgets_no_path() {
    let Some(place) = Place::new("the_post_build_hook_fails_no_build_and_forgets_no_path") else { return };
    let calls = place.path("calls");
    place.write(
        "nix-stand-in/bin/nix",
        &format!(
            "#!/bin/sh\n[ -e {down} ] && exit 1\ncase \"$*\" in *copy*) for path; do :; done; echo \"$path\" >>{calls} ;; esac\n",
            down = place.path("down").display(),
            calls = calls.display()
        ),
    );
    let stand_in = place.path("nix-stand-in/bin/nix");
    std::fs::set_permissions(&stand_in, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let queue = place.path("queue/paths");
    let (hook, _) = place.build(&format!(
        "lib.postBuildHook {{ to = \"https://cache.example\"; secretKeyFile = \"/etc/nix/key\"; queue = \"{}\"; nix = \"{}\"; }}",
        queue.display(),
        place.path("nix-stand-in").display()
    ));
    let built = |paths: &str| {
        let status = Command::new(&hook).env("OUT_PATHS", paths).status().unwrap();
        assert!(status.success());
        // What runs in the background holds this lock until it is done.
        let lock = place.path("queue/paths.lock");
        while !lock.exists() {
            std::thread::yield_now();
        }
        assert!(Command::new("flock").arg(&lock).arg("true").status().unwrap().success());
    };
    let (one, two) = (place.path("lib.nix"), place.path("nix/lib.nix"));
    place.write("down", "");
    built(one.to_str().unwrap());
    assert!(!calls.exists());
    std::fs::remove_file(place.path("down")).unwrap();
    built(two.to_str().unwrap());
    // The process may have begun after the lock was looked at.
    let mut copied = String::new();
    while copied.lines().count() < 2 {
        copied = std::fs::read_to_string(&calls).unwrap_or_default();
        std::thread::yield_now();
    }
    let mut copied: Vec<&str> = copied.lines().collect();
    copied.sort_unstable();
    let mut expected = vec![one.to_str().unwrap(), two.to_str().unwrap()];
    expected.sort_unstable();
    assert_eq!(copied, expected);
}
