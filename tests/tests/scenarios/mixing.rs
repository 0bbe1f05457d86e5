//! Target directories that plain cargo has filled, wholly or in part: nothing is mixed, and both stay fresh.

use nixcache_tests::{Machine, Workspace};

/// A library whose metadata holds the path it was generated in (unless a wrapper maps it), and two users of it.
fn workspace(machine: &Machine, name: &str) -> Workspace {
    let workspace = machine.workspace(name);
    workspace.package(
        "codes",
        "",
        "include!(concat!(env!(\"OUT_DIR\"), \"/codes.rs\"));\npub fn twice<T: Clone>(x: T) -> (T, T) { (x.clone(), x) }\n",
    );
    workspace.write(
        "codes/build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
         std::fs::write(format!(\"{out}/codes.rs\"), \"#[derive(Clone)] pub struct Code(pub u32);\").unwrap();\n}\n",
    );
    workspace.package(
        "user",
        "[dependencies]\ncodes = { path = \"../codes\" }\n",
        "pub fn user() -> u32 { let (a, b) = codes::twice(codes::Code(1)); a.0 + b.0 }\n",
    );
    workspace.package(
        "",
        "[dependencies]\nuser = { path = \"user\" }\ncodes = { path = \"codes\" }\nitoa = \"1\"\n[workspace]\nmembers = [\"user\", \"codes\"]\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(user::user() + codes::Code(1).0)) }\n",
    );
    workspace
}

#[test]
fn a_half_filled_target_directory_with_other_outputs_is_never_mixed() {
    let machine = Machine::new();
    let first = workspace(&machine, "first/app");
    first.build(&["build"]);
    for half in [&["-p", "codes"][..], &["-p", "user"], &["-p", "itoa"], &["-p", "user", "-p", "codes"]] {
        let second = first.checkout(&format!("half-{}/app", half.join("-")));
        second.cargo(&[&["build"], half].concat()).succeed();
        let outcome = second.nixcache(&["build"]).succeed();
        assert_eq!(second.run_output("debug/app"), "3\n", "{outcome}");
        second.assert_nothing_to_do(&["build"]);
        // And what was put there can be compiled against.
        second.edit("src/main.rs", "codes::Code(1)", "codes::Code(2)");
        second.nixcache(&["build"]).succeed();
        assert_eq!(second.run_output("debug/app"), "4\n");
        second.edit("user/src/lib.rs", "codes::Code(1)", "codes::Code(2)");
        second.cargo(&["build"]).succeed();
        assert_eq!(second.run_output("debug/app"), "6\n");
    }
}

#[test]
fn what_plain_cargo_built_is_not_believed_under_another_key() {
    let machine = Machine::new();
    let first = workspace(&machine, "first/app");
    first.cargo(&["build", "-p", "codes"]).succeed();
    first.nixcache(&["build"]).succeed();
    let second = first.checkout("second/app");
    second.nixcache(&["build"]).succeed();
    assert_eq!(second.run_output("debug/app"), "3\n");
    first.hit(&["build"]);
}

#[test]
fn a_target_directory_full_from_plain_cargo_needs_nothing() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "app");
    workspace.cargo(&["build"]).succeed();
    let outcome = workspace.nixcache(&["build"]).succeed();
    outcome.assert_fresh();
    workspace.assert_nothing_to_do(&["build"]);
}

#[test]
fn cleaning_one_package_restores_that_one() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "app");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    for package in ["itoa", "codes", "user", "app"] {
        workspace.cargo(&["clean", "-p", package]).succeed();
        let outcome = workspace.nixcache(&["build"]).restores_everything();
        assert!(outcome.units().fresh > 0, "cleaning {package} left the rest\n{outcome}");
        assert_eq!(workspace.run_output("debug/app"), "3\n");
        workspace.assert_nothing_to_do(&["build"]);
    }
}

#[test]
fn alternating_with_plain_cargo_stays_fresh_for_both() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "app");
    workspace.build(&["build"]);
    for round in 0..3 {
        workspace.assert_nothing_to_do(&["build"]);
        workspace.nixcache(&["build"]).succeed().assert_fresh();
        workspace.edit("src/main.rs", "user::user()", "1 + user::user()");
        if round % 2 == 0 {
            workspace.cargo(&["build"]).succeed();
            workspace.nixcache(&["build"]).succeed().assert_fresh();
        } else {
            workspace.nixcache(&["build"]).builds(&["app 0.1.0"]);
        }
        assert_eq!(workspace.run_output("debug/app"), format!("{}\n", 4 + round));
    }
}

#[test]
fn restoring_into_another_checkout_leaves_the_first_one_fresh() {
    let machine = Machine::new();
    let first = workspace(&machine, "first/app");
    first.build(&["build"]);
    first.hit(&["build"]);
    let second = first.checkout("second/app");
    second.hit(&["build"]);
    second.cargo(&["clean", "-p", "codes"]).succeed();
    second.nixcache(&["build"]).succeed();
    second.cargo(&["clean", "-p", "itoa"]).succeed();
    second.nixcache(&["build"]).succeed();
    // Linked files are one file: a time that is set in one checkout is seen in all of them.
    first.assert_nothing_to_do(&["build"]);
    second.assert_nothing_to_do(&["build"]);
}

#[test]
fn a_spoilt_file_in_the_target_directory_is_not_taken_into_the_store() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "app");
    workspace.build(&["build"]);
    let binary = workspace.target().join("debug/app");
    let good = std::fs::read(&binary).unwrap();
    std::fs::remove_file(&binary).unwrap();
    std::fs::write(&binary, "spoilt").unwrap();
    let _ = workspace.nixcache(&["build"]).run();
    workspace.hit(&["build"]);
    assert_eq!(std::fs::read(&binary).unwrap(), good);
}
