//! Arguments by crane's names do what they do there.

use std::process::Command;

use super::place::Place;

/// The platform of this machine's toolchain.
pub(crate) fn host() -> String {
    let version = String::from_utf8(Command::new("rustc").arg("-vV").output().unwrap().stdout).unwrap();
    version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn arguments_of_cranes_names_are_honoured() {
    let Some(place) = Place::new("arguments_of_cranes_names_are_honoured") else { return };
    place.workspace();
    place.edit("ws/other/src/main.rs", "other {}\"", "{} {}\", env!(\"GREETING\")");
    place.edit(
        "ws/Cargo.toml",
        "[workspace.package]",
        "[profile.small]\ninherits = \"release\"\n\n[workspace.package]",
    );
    place.write(
        "all.nix",
        &format!(
            "{{ lib }}:
             let
               cargoVendorDir = lib.vendorCargoDeps {{ src = ./ws; }};
               common = {{
                 src = lib.cleanCargoSource ./ws;
                 pname = \"named\";
                 version = \"9.9\";
                 inherit cargoVendorDir;
                 cargoExtraArgs = \"--locked --package other\";
                 CARGO_PROFILE = \"small\";
                 CARGO_BUILD_TARGET = \"{}\";
                 env.GREETING = \"hello\";
               }};
               cargoArtifacts = lib.buildDepsOnly common;
             in
             {{
               inherit cargoArtifacts;
               package = lib.buildPackage (common // {{ inherit cargoArtifacts; }});
               installing = lib.buildPackage (common // {{ inherit cargoArtifacts; doCheck = false; doInstallCargoArtifacts = true; }});
               loose = lib.buildPackage (common // {{ inherit cargoArtifacts; strictDeps = false; }});
             }}\n",
            host()
        ),
    );
    let attribute = |name: &str| format!("(import ./all.nix {{ inherit lib; }}).{name}");
    let (_, log) = place.build(&attribute("cargoArtifacts"));
    assert!(log.contains("Compiling part v1.0.0") && log.contains("--profile small"), "{log}");
    let (package, log) = place.build(&attribute("package"));
    assert!(package.to_str().unwrap().ends_with("-named-9.9"), "{}", package.display());
    let output = Command::new(package.join("bin/other")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello 42\n");
    assert!(!package.join("bin/app").exists() && !package.join("target.tar.zst").exists());
    // The selection is the tests' too, and so are the profile and the platform: nothing is compiled for others.
    assert!(log.contains("test result: ok") && !log.contains("Compiling part") && !log.contains("library"), "{log}");

    let (installing, log) = place.build(&attribute("installing"));
    assert!(installing.join("target.tar.zst").is_file() && installing.join("bin/other").is_file());
    assert!(!log.contains("test result"), "{log}");
    assert_eq!(place.evaluate(&attribute("package.strictDeps")), true);
    assert_eq!(place.evaluate(&attribute("loose.strictDeps")), false);
}
