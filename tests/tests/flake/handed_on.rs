//! What one derivation hands on to another: all that it added, whatever times the files have.

use super::place::Place;

/// A script that writes a file with a time of long ago, as one that copies it from an archive may.
const SCRIPT: &str = "fn main() {
    let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap()).join(\"generated.rs\");
    std::fs::write(&out, \"pub const NUMBER: u32 = 7;\\n\").unwrap();
    let file = std::fs::File::options().write(true).open(&out).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
}
";

fn with_script(place: &Place) {
    place.workspace();
    place.write("ws/library/build.rs", SCRIPT);
    place.write(
        "ws/library/src/lib.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/generated.rs\"));\n\n\
         pub fn text() -> String {\n    format!(\"library {} {NUMBER}\", base::number())\n}\n",
    );
}

#[test]
fn a_member_hands_on_files_with_times_of_long_ago() {
    let Some(place) = Place::new("a_member_hands_on_files_with_times_of_long_ago") else { return };
    with_script(&place);
    let (app, log) =
        place.build("(lib.buildWorkspace { src = ./ws; CARGO_PROFILE = \"\"; doCheck = false; }).packages.app");
    let output = std::process::Command::new(app.join("bin/app")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "42 library 40 7\n");
    assert_eq!(log.matches("Compiling library v0.1.0").count(), 1, "{log}");
}

#[test]
fn an_archive_that_goes_on_from_another_has_files_with_times_of_long_ago() {
    let test = "an_archive_that_goes_on_from_another_has_files_with_times_of_long_ago";
    let Some(place) = Place::new(test) else { return };
    with_script(&place);
    place.write(
        "all.nix",
        "{ lib }:
         let
           common = { src = ./ws; pname = \"all\"; version = \"1\"; CARGO_PROFILE = \"\"; doCheck = false; };
           once = lib.cargoBuild (common // { cargoArtifacts = lib.buildDepsOnly common; });
         in
         { inherit once; twice = lib.cargoBuild (common // { cargoArtifacts = once; }); }\n",
    );
    let (once, log) = place.build("(import ./all.nix { inherit lib; }).once");
    assert!(once.join("target.tar.zst.prev").is_symlink());
    assert!(log.contains("Compiling library v0.1.0"), "{log}");
    let (_, log) = place.build("(import ./all.nix { inherit lib; }).twice");
    assert!(log.contains("Finished") && !log.contains("Compiling"), "{log}");
}
