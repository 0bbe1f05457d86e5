//! Profiles, overrides, flags, targets and linkers: every road by which they reach rustc is an input.

use nixcache_tests::{Machine, Workspace};
use std::path::Path;

const BOTH: &[&str] = &["app 0.1.0", "part 0.1.0"];

/// A binary with a library, and a base build of it in the store.
fn base(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package("part", "", "pub fn add(a: u32, b: u32) -> u32 { a.wrapping_add(b) }\n");
    workspace.package(
        "",
        "[dependencies]\npart = { path = \"part\" }\n[workspace]\n",
        "fn main() { println!(\"{} {}\", part::add(1, 2), cfg!(debug_assertions)) }\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace
}

fn host() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn every_setting_of_a_profile_is_an_input() {
    let settings = [
        "opt-level = 1",
        "debug = 0",
        "debug-assertions = false",
        "overflow-checks = false",
        "panic = \"abort\"",
        "codegen-units = 3",
        "lto = \"thin\"",
        "split-debuginfo = \"unpacked\"",
        "rpath = true",
    ];
    let machine = Machine::new();
    let workspace = base(&machine);
    let manifest = workspace.read("Cargo.toml");
    for setting in settings {
        workspace.write("Cargo.toml", format!("{manifest}[profile.dev]\n{setting}\n"));
        let outcome = workspace.build(&["build"]);
        assert!(outcome.built_packages().contains("app 0.1.0"), "{setting} is no input\n{outcome}");
        workspace.hit(&["build"]);
    }
    workspace.write("Cargo.toml", format!("{manifest}[profile.release]\nopt-level = 1\n"));
    workspace.hit(&["build"]);
}

#[test]
fn tests_and_benchmarks_use_what_was_built() {
    let machine = Machine::new();
    let workspace = base(&machine);
    workspace.miss(&["test", "--no-run"], &["app 0.1.0"]);
    workspace.hit(&["test", "--no-run"]);
    workspace.build(&["build", "--release"]);
    workspace.miss(&["bench", "--no-run"], &["app 0.1.0"]);
    workspace.hit(&["bench", "--no-run"]);
}

#[test]
fn what_a_profile_inherits_from_is_an_input_of_build_scripts() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    // Alike in all that rustc is told, so that only `PROFILE` tells them apart.
    let profile = "[profile.own]\ninherits = \"dev\"\nopt-level = 1\ndebug = 0\ndebug-assertions = true\noverflow-checks = true\nincremental = false\nstrip = \"none\"\n";
    workspace.package("", &format!("[workspace]\n{profile}"), "fn main() { println!(\"{}\", env!(\"FOUND\")) }\n");
    workspace.write(
        "build.rs",
        "fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    println!(\"cargo::rustc-env=FOUND={}\", std::env::var(\"PROFILE\").unwrap());
}
",
    );
    let command = ["build", "--profile", "own"];
    for (parent, found) in [("dev", "debug\n"), ("release", "release\n"), ("dev", "debug\n")] {
        let text = workspace.read("Cargo.toml");
        let other = if parent == "dev" { "release" } else { "dev" };
        workspace
            .write("Cargo.toml", text.replace(&format!("inherits = \"{other}\""), &format!("inherits = \"{parent}\"")));
        workspace.build(&command);
        assert_eq!(workspace.run_output("own/app"), found);
    }
    workspace.hit(&command);
}

#[test]
fn stripping_changes_the_binary_alone() {
    let machine = Machine::new();
    let workspace = base(&machine);
    workspace.write("Cargo.toml", workspace.read("Cargo.toml") + "[profile.dev]\nstrip = \"symbols\"\n");
    let outcome = workspace.build(&["build"]);
    assert!(outcome.built_packages().contains("app 0.1.0"), "{outcome}");
    workspace.hit(&["build"]);
}

#[test]
fn a_profile_by_file_variable_and_flag_is_the_same_profile() {
    let machine = Machine::new();
    let workspace = base(&machine);
    let manifest = workspace.read("Cargo.toml");
    workspace.write("Cargo.toml", format!("{manifest}[profile.dev]\nopt-level = 1\n"));
    workspace.miss(&["build"], BOTH);
    workspace.write("Cargo.toml", &manifest);
    workspace.with_env("CARGO_PROFILE_DEV_OPT_LEVEL", "1").hit(&["build"]);
    workspace.hit(&["build", "--config", "profile.dev.opt-level=1"]);
    workspace.write(".cargo/config.toml", "[profile.dev]\nopt-level = 1\n");
    workspace.hit(&["build"]);
    workspace.write(".cargo/config.toml", "");
    workspace.hit(&["build"]);
}

#[test]
fn release_and_custom_profiles_have_units_of_their_own() {
    let machine = Machine::new();
    let workspace = base(&machine);
    workspace.miss(&["build", "--release"], BOTH);
    assert_eq!(workspace.run_output("release/app"), "3 false\n");
    workspace.hit(&["build", "--release"]);
    workspace.hit(&["build", "-r"]);
    workspace.hit(&["build", "--profile", "release"]);
    workspace.write(
        "Cargo.toml",
        workspace.read("Cargo.toml") + "[profile.careful]\ninherits = \"release\"\ndebug-assertions = true\n",
    );
    workspace.miss(&["build", "--profile", "careful"], BOTH);
    assert_eq!(workspace.run_output("careful/app"), "3 true\n");
    workspace.hit(&["build", "--profile", "careful"]);
    workspace.hit(&["build"]);
}

#[test]
fn an_override_of_one_package_leaves_the_others() {
    let machine = Machine::new();
    let workspace = base(&machine);
    workspace.package("leaf", "", "pub fn leaf() {}\n");
    workspace.edit("Cargo.toml", "[dependencies]\n", "[dependencies]\nleaf = { path = \"leaf\" }\n");
    workspace.build(&["build"]);
    let manifest = workspace.read("Cargo.toml");
    workspace.write("Cargo.toml", format!("{manifest}[profile.dev.package.part]\nopt-level = 2\n"));
    let outcome = workspace.build(&["build"]);
    assert!(outcome.built_packages().contains("part 0.1.0"), "{outcome}");
    assert!(!outcome.built_packages().contains("leaf 0.1.0"), "{outcome}");
    workspace.hit(&["build"]);
    workspace.write("Cargo.toml", manifest);
    workspace.hit(&["build"]);
}

#[test]
fn an_override_for_build_scripts_leaves_the_rest() {
    let machine = Machine::new();
    let workspace = base(&machine);
    workspace.write("part/build.rs", "fn main() { println!(\"cargo::rerun-if-changed=build.rs\"); }\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let manifest = workspace.read("Cargo.toml");
    workspace.write("Cargo.toml", format!("{manifest}[profile.dev.build-override]\nopt-level = 2\n"));
    let outcome = workspace.build(&["build"]);
    assert!(outcome.compiled_crates().contains("build_script_build"), "{outcome}");
    workspace.hit(&["build"]);
}

#[test]
fn flags_reach_the_key_by_every_road() {
    let machine = Machine::new();
    let workspace = base(&machine);
    let host = host();
    let upper = host.to_uppercase().replace('-', "_");
    let flag = "--cfg=flagged";
    let (table, by_cfg) = (format!("[target.{host}]"), "[target.'cfg(unix)']");
    let in_file = |text: String| {
        workspace.write(".cargo/config.toml", text);
        workspace.clone()
    };
    let line = format!("rustflags = [\"{flag}\"]\n");
    workspace.with_env("RUSTFLAGS", flag).miss(&["build"], BOTH);
    workspace.with_env("RUSTFLAGS", flag).hit(&["build"]);
    workspace.with_env("CARGO_ENCODED_RUSTFLAGS", flag).hit(&["build"]);
    workspace.with_env("CARGO_BUILD_RUSTFLAGS", flag).hit(&["build"]);
    workspace.with_env(&format!("CARGO_TARGET_{upper}_RUSTFLAGS"), flag).hit(&["build"]);
    workspace.hit(&["build", "--config", &format!("build.rustflags=[\"{flag}\"]")]);
    in_file(format!("[build]\n{line}")).hit(&["build"]);
    in_file(format!("{table}\n{line}")).hit(&["build"]);
    in_file(format!("{by_cfg}\n{line}")).hit(&["build"]);
    // The variable wins over the files.
    in_file(format!("[build]\n{line}")).with_env("RUSTFLAGS", "--cfg=other").miss(&["build"], BOTH);
    in_file(String::new()).hit(&["build"]);
}

#[test]
fn a_target_has_units_of_its_own() {
    let machine = Machine::new();
    let workspace = base(&machine);
    let host = host();
    workspace.build(&["build", "--target", &host]);
    workspace.hit(&["build", "--target", &host]);
    assert_eq!(workspace.run_output(&format!("{host}/debug/app")), "3 true\n");
    workspace.with_env("CARGO_BUILD_TARGET", &host).hit(&["build"]);
    workspace.hit(&["build"]);
}

#[test]
fn code_for_this_processor_is_kept_apart() {
    let machine = Machine::new();
    let workspace = base(&machine);
    let native = workspace.with_env("RUSTFLAGS", "-Ctarget-cpu=native");
    native.miss(&["build"], BOTH);
    native.hit(&["build"]);
    workspace.with_env("RUSTFLAGS", "-Ctarget-cpu=x86-64-v2").miss(&["build"], BOTH);
    workspace.hit(&["build"]);
}

#[test]
fn a_linker_is_an_input_of_what_is_linked_by_content() {
    let machine = Machine::new();
    let workspace = base(&machine);
    let linker = machine.root().join("linker");
    let write = |text: &str| {
        std::fs::write(&linker, text).unwrap();
        std::fs::set_permissions(&linker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("#!/bin/sh\nexec cc \"$@\"\n");
    let variable = format!("CARGO_TARGET_{}_LINKER", host().to_uppercase().replace('-', "_"));
    let workspace = workspace.with_env(&variable, &linker);
    let outcome = workspace.build(&["build"]);
    assert!(outcome.built_packages().contains("app 0.1.0"), "{outcome}");
    workspace.hit(&["build"]);
    write("#!/bin/sh\nexec cc -Wl,--build-id=none \"$@\"\n");
    let outcome = workspace.build(&["build"]);
    assert!(outcome.built_packages().contains("app 0.1.0"), "another linker at the same path\n{outcome}");
    workspace.hit(&["build"]);
}

#[test]
fn a_linker_behind_a_compiler_cache_is_an_input_of_what_is_linked() {
    let machine = Machine::new();
    let [caches, programs] = ["caches", "programs"].map(|name| machine.root().join(name));
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    let compiler = programs.join("cc");
    write(&caches.join("ccache"), &format!("#!/bin/sh\nexec {} \"$@\"\n", compiler.display()));
    std::os::unix::fs::symlink("ccache", caches.join("cc")).unwrap();
    write(&compiler, "#!/bin/sh\nexec /usr/bin/cc \"$@\"\n");
    let workspace = base(&machine).with_path(&programs).with_path(&caches);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    write(&compiler, "#!/bin/sh\nexec /usr/bin/cc -Wl,--build-id=none \"$@\"\n");
    let outcome = workspace.build(&["build"]);
    assert!(outcome.built_packages().contains("app 0.1.0"), "another compiler behind the cache\n{outcome}");
    workspace.hit(&["build"]);
}

#[test]
fn a_macro_that_is_restored_for_the_host_is_new_to_what_was_built_for_a_target() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.write("Cargo.toml", "[workspace]\nmembers = [\"answer\", \"app\"]\nresolver = \"3\"\n");
    workspace.package("answer", "[lib]\nproc-macro = true\n", "");
    let main = "fn main() { println!(\"{}\", answer::answer!()) }\n";
    workspace.package("app", "[dependencies]\nanswer = { path = \"../answer\" }\n", main);
    let version = |number: u32| {
        let head = "#[proc_macro]\npub fn answer(_: proc_macro::TokenStream) -> proc_macro::TokenStream";
        workspace.write("answer/src/lib.rs", format!("{head} {{ \"{number}\".parse().unwrap() }}\n"));
    };
    version(2);
    workspace.build(&["build", "--package", "answer"]);
    workspace.remove_target();
    let target = host();
    let for_target = ["build", "--target", &target];
    version(1);
    workspace.build(&for_target);
    version(2);
    workspace.nixcache(&["build", "--package", "answer"]).succeed();
    workspace.cargo(&for_target).succeed();
    assert_eq!(workspace.run_output(&format!("{target}/debug/app")), "2\n");
}
