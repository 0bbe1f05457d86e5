//! Kinds of targets: libraries without a hash in their names, examples, tests, benches, and what they overwrite.

use nixcache_tests::Machine;

#[test]
fn dynamic_libraries_of_members_are_restored_byte_for_byte() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package(
        "plugin",
        "[lib]\ncrate-type = [\"cdylib\", \"staticlib\"]\n",
        "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> i32 { 42 }\n",
    );
    workspace.package("shared", "[lib]\ncrate-type = [\"dylib\", \"rlib\"]\n", "pub fn shared() -> i32 { 1 }\n");
    workspace.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"plugin\", \"shared\"]\n");
    workspace.build(&["build"]);
    let cold = workspace.outputs("debug");
    for name in ["libplugin.so", "libplugin.a", "libshared.so", "libshared.rlib"] {
        assert!(cold.names().contains(&name), "{name} isn't built: {:?}", cold.names());
    }
    workspace.hit(&["build"]);
    workspace.outputs("debug").assert_same(&cold);
    let second = workspace.checkout("second/app");
    second.hit(&["build"]);
    second.outputs("debug").assert_same(&cold);
    second.edit("plugin/src/lib.rs", "42", "43");
    second.miss(&["build"], &["plugin 0.1.0"]);
    assert_ne!(
        std::fs::read(second.target().join("debug/libplugin.so")).unwrap(),
        std::fs::read(workspace.target().join("debug/libplugin.so")).unwrap()
    );
    workspace.hit(&["build"]);
    workspace.outputs("debug").assert_same(&cold);
}

#[test]
fn two_profiles_of_one_dynamic_library_do_not_overwrite_each_other_for_good() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package(
        "",
        "[lib]\ncrate-type = [\"cdylib\"]\n[features]\nother = []\n[workspace]\n",
        "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> i32 { if cfg!(feature = \"other\") { 2 } else { 1 } }\n",
    );
    workspace.nixcache(&["build"]).succeed();
    let plain = workspace.outputs("debug");
    workspace.nixcache(&["build", "--features", "other"]).succeed();
    let other = workspace.outputs("debug");
    for _ in 0..2 {
        workspace.nixcache(&["build"]).succeed();
        workspace.outputs("debug").assert_same(&plain);
        workspace.nixcache(&["build", "--features", "other"]).succeed();
        workspace.outputs("debug").assert_same(&other);
    }
}

fn with_all_targets(machine: &Machine) -> nixcache_tests::Workspace {
    let workspace = machine.workspace("first/app");
    workspace.package(
        "",
        "[dev-dependencies]\nitoa = \"1\"\n[workspace]\n",
        "fn main() { println!(\"{}\", app::one()) }\n",
    );
    workspace.write("src/lib.rs", "pub fn one() -> u32 { 1 }\n#[cfg(test)]\nmod tests { #[test] fn unit() {} }\n");
    workspace.write("src/bin/second.rs", "fn main() { println!(\"second\") }\n");
    workspace.write("examples/shown.rs", "fn main() { println!(\"{}\", app::one()) }\n");
    workspace
        .write("tests/whole.rs", "#[test] fn whole() { assert_eq!(itoa::Buffer::new().format(app::one()), \"1\") }\n");
    workspace.write("benches/speed.rs", "fn main() {}\n");
    workspace
}

#[test]
fn every_kind_of_target_is_restored() {
    let machine = Machine::new();
    let workspace = with_all_targets(&machine);
    let selections: &[&[&str]] = &[
        &["build", "--all-targets"],
        &["build", "--examples"],
        &["build", "--example", "shown"],
        &["build", "--bins"],
        &["build", "--lib"],
        &["build", "--tests"],
        &["build", "--benches"],
        &["test", "--no-run"],
        &["test", "--no-run", "--test", "whole"],
        &["bench", "--no-run"],
        &["check", "--all-targets"],
        &["clippy", "--all-targets"],
    ];
    let second = workspace.checkout("second/app");
    for selection in selections {
        workspace.build(selection);
        workspace.hit(selection);
        second.hit(selection);
    }
}

#[test]
fn restored_tests_run() {
    let machine = Machine::new();
    let workspace = with_all_targets(&machine);
    workspace.build(&["test"]);
    workspace.remove_target();
    let outcome = workspace.nixcache(&["test", "--lib", "--bins", "--tests"]).restores_everything();
    assert!(
        outcome.stdout.contains("test whole ... ok") && outcome.stdout.contains("test tests::unit ... ok"),
        "{outcome}"
    );
}

#[test]
fn a_changed_test_leaves_the_library() {
    let machine = Machine::new();
    let workspace = with_all_targets(&machine);
    workspace.build(&["test", "--no-run"]);
    workspace.hit(&["test", "--no-run"]);
    workspace.edit("tests/whole.rs", "\"1\"", "\"2\"");
    workspace.remove_target();
    let outcome = workspace.nixcache(&["test", "--no-run"]).succeed();
    assert!(outcome.compiled.iter().any(|call| call.starts_with("rustc whole")), "{outcome}");
    assert!(!outcome.compiled_crates().contains("itoa"), "{outcome}");
    assert!(workspace.nixcache(&["test"]).fail().stdout.contains("test whole ... FAILED"));
}

#[test]
fn run_passes_arguments_output_and_exit_code_on() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package(
        "",
        "[workspace]\n",
        "fn main() { for a in std::env::args().skip(1) { println!(\"{a}\") } std::process::exit(7) }\n",
    );
    workspace.build(&["build"]);
    workspace.remove_target();
    let outcome = workspace.nixcache(&["run", "--", "--summary", "two words"]).run();
    assert_eq!(outcome.stdout, "--summary\ntwo words\n", "{outcome}");
    assert_eq!(outcome.status.code(), Some(7), "{outcome}");
    assert_eq!(outcome.compiled, [""; 0], "{outcome}");
}

#[test]
fn a_target_that_is_not_tested_is_not_planned() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[lib]\ntest = false\ndoctest = false\n[workspace]\n", "pub fn one() {}\n");
    workspace.write("tests/whole.rs", "#[test] fn whole() { app::one() }\n");
    workspace.build(&["test", "--no-run"]);
    let warm = workspace.hit(&["test", "--no-run"]);
    assert_eq!(warm.units().planned, 2, "{warm}");
}

#[test]
fn a_package_whose_build_script_does_everything_is_restored() {
    let machine = Machine::new();
    let counter = crate::count::Counter::new(&machine);
    let workspace = machine.workspace("app");
    workspace.package("only-script", "links = \"only\"\n", "");
    workspace.write(
        "only-script/build.rs",
        format!(
            "fn main() {{\n{}    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
             println!(\"cargo::metadata=text=hello\");\n}}\n",
            counter.code()
        ),
    );
    workspace.package(
        "",
        "[dependencies]\nonly-script = { path = \"only-script\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", env!(\"TEXT\")) }\n",
    );
    workspace.write(
        "build.rs",
        "fn main() { println!(\"cargo::rustc-env=TEXT={}\", std::env::var(\"DEP_ONLY_TEXT\").unwrap()); \
         println!(\"cargo::rerun-if-changed=build.rs\"); }\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    assert_eq!((counter.count(), workspace.run_output("debug/app").as_str()), (1, "hello\n"));
}

#[test]
fn a_binary_that_a_test_run_overwrites_is_right_again_after_a_build() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package(
        "part",
        "[features]\nloud = []\n",
        "pub fn text() -> &'static str { if cfg!(feature = \"loud\") { \"LOUD\" } else { \"quiet\" } }\n",
    );
    workspace.package(
        "",
        "[dependencies]\npart = { path = \"part\" }\n\
         [dev-dependencies]\npart = { path = \"part\", features = [\"loud\"] }\n[workspace]\n",
        "fn main() { println!(\"{}\", part::text()) }\n",
    );
    workspace.write("tests/whole.rs", "#[test] fn whole() {}\n");
    for _ in 0..2 {
        workspace.nixcache(&["build"]).succeed();
        assert_eq!(workspace.run_output("debug/app"), "quiet\n");
        workspace.nixcache(&["test"]).succeed();
        assert_eq!(workspace.run_output("debug/app"), "LOUD\n");
    }
    workspace.remove_target();
    workspace.nixcache(&["test", "--no-run"]).restores_everything();
    workspace.nixcache(&["build"]).restores_everything();
    assert_eq!(workspace.run_output("debug/app"), "quiet\n");
}

#[test]
fn what_changes_a_restored_file_does_not_change_the_store() {
    let machine = Machine::new();
    let workspace = with_all_targets(&machine);
    workspace.build(&["build", "--all-targets"]);
    workspace.hit(&["build", "--all-targets"]);
    let cold = workspace.outputs("debug");
    // As `strip`, `patchelf` and careless scripts do: in place, in every program. (Nobody rewrites an rlib in place.)
    for name in cold.names().into_iter().filter(|name| !name.ends_with(".rlib")) {
        let path = workspace.target().join("debug").join(name);
        let file = std::fs::OpenOptions::new().append(true).open(&path);
        std::io::Write::write_all(&mut file.unwrap(), b"spoilt").unwrap();
    }
    workspace.hit(&["build", "--all-targets"]);
    workspace.outputs("debug").assert_same(&cold);
    workspace.nixcache(&["verify"]).succeed();
}
