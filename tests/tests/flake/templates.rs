//! What a new user begins with: the templates, and what the guide says to do with them.

use std::process::Command;

use super::place::Place;

/// A place where a user has begun with a template, and the arguments that put this repository's flake and the stand-in
/// in the place of its inputs.
fn begun(test: &str, template: &str) -> Option<(Place, Vec<String>)> {
    let place = Place::new(test)?;
    let (nixcache, inputs) = place.flake("nixcache/");
    let nixpkgs = format!("path:{}", place.path("stand-in").display());
    let own = ["--override-input", "nixcache", &nixcache, "--override-input", "nixpkgs", &nixpkgs];
    let arguments = own.into_iter().map(str::to_owned).chain(inputs).collect();
    nixcache_tests::copy_tree(&place.path("flake/nix/templates").join(template), &place.path("user"), &[]);
    Some((place, arguments))
}

#[test]
fn the_template_of_a_workspace_builds_and_passes_its_checks() {
    let begun = begun("the_template_of_a_workspace_builds_and_passes_its_checks", "workspace");
    let Some((place, more)) = begun else { return };
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let flake = format!("path:{}", place.path("user").display());
    let link = place.path("result");
    place.succeed("nix", &[&["build", "--out-link", link.to_str().unwrap(), &flake][..], &more].concat());
    let output = Command::new(link.join("bin/app")).output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
    place.succeed("nix", &[&["flake", "check", &flake][..], &more].concat());
    // A check that fails is one that was run.
    let main = std::fs::read_to_string(place.path("user/crates/app/src/main.rs")).unwrap();
    place.write("user/crates/app/src/main.rs", &format!("{main}\n#[test]\nfn fails() {{\n    panic!();\n}}\n"));
    let log = place.fail("nix", &[&["flake", "check", &flake][..], &more].concat());
    assert!(log.contains("app-test"), "{log}");
}

#[test]
fn the_template_of_a_nif_evaluates() {
    let begun = begun("the_template_of_a_nif_evaluates", "nif");
    let Some((place, more)) = begun else { return };
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let package = format!("path:{}#packages.x86_64-linux.default.drvPath", place.path("user").display());
    let (path, _) = place.succeed("nix", &[&["eval", "--raw", &package][..], &more].concat());
    assert!(path.ends_with("-nif-demo_nif-0.1.0.drv"), "{path}");
}
