//! What build scripts make: generated code, metadata for dependents, C libraries, and what they find on the system.

use crate::count::Counter;
use nixcache_tests::{Machine, Workspace, skipped};
use std::path::Path;
use std::process::Command;

#[test]
fn generated_code_is_restored_in_another_checkout_and_follows_its_source() {
    let machine = Machine::new();
    let counter = Counter::new(&machine);
    let workspace = machine.workspace("first/app");
    workspace.package(
        "codes",
        "",
        "include!(concat!(env!(\"OUT_DIR\"), \"/codes.rs\"));\npub fn generic<T: Default>() -> T { T::default() }\n",
    );
    workspace.write("codes/codes.txt", "7").write(
        "codes/build.rs",
        format!(
            "fn main() {{\n    println!(\"cargo::rerun-if-changed=codes.txt\");\n{}    \
             let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
             let code = std::fs::read_to_string(\"codes.txt\").unwrap();\n    \
             std::fs::write(format!(\"{{out}}/codes.rs\"), format!(\"pub fn code() -> u32 {{{{ {{code}} }}}}\")).unwrap();\n\
             }}\n",
            counter.code()
        ),
    );
    workspace.package(
        "",
        "[dependencies]\ncodes = { path = \"codes\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", codes::code() + codes::generic::<u32>()) }\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let second = workspace.checkout("second/app");
    second.hit(&["build"]);
    assert_eq!((counter.count(), second.run_output("debug/app").as_str()), (1, "7\n"));
    // What was restored can be compiled against.
    second.edit("src/main.rs", "codes::code()", "1 + codes::code()");
    second.nixcache(&["build"]).builds(&["app 0.1.0"]);
    assert_eq!((counter.count(), second.run_output("debug/app").as_str()), (1, "8\n"));
    second.write("codes/codes.txt", "9");
    second.miss(&["build"], &["app 0.1.0", "codes 0.1.0"]);
    assert_eq!((counter.count(), second.run_output("debug/app").as_str()), (2, "10\n"));
}

#[test]
fn a_directory_for_generated_code_that_is_baked_in_is_a_hit_only_where_it_is() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", env!(\"OUT_DIR\")) }\n");
    workspace.write("build.rs", "fn main() { println!(\"cargo::rerun-if-changed=build.rs\"); }\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let second = workspace.checkout("second/app");
    second.nixcache(&["build"]).succeed();
    let printed = second.run_output("debug/app");
    assert!(Path::new(printed.trim()).starts_with(second.target()), "the other checkout's path: {printed}");
}

#[test]
fn a_manifest_directory_that_is_baked_in_is_a_hit_only_where_it_is() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", env!(\"CARGO_MANIFEST_DIR\")) }\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let second = workspace.checkout("second/app");
    second.nixcache(&["build"]).succeed();
    assert_eq!(Path::new(second.run_output("debug/app").trim()), second.root());
    workspace.hit(&["build"]);
    assert_eq!(Path::new(workspace.run_output("debug/app").trim()), workspace.root());
}

/// Optimised, a comparison with a path of this length is one with numbers: the path itself is nowhere in the program.
const CUT_TO_PIECES: usize = 28;

#[test]
fn a_place_that_generated_code_compares_with_is_a_hit_only_there() {
    let machine = Machine::new();
    let directory = tempfile::Builder::new().prefix("n").rand_bytes(4).tempdir().unwrap();
    let checkout = |name: &str| {
        let mut path = directory.path().join(name).to_str().unwrap().to_owned();
        path.extend(std::iter::repeat_n('x', CUT_TO_PIECES.saturating_sub(path.len())));
        machine.workspace(&path).with_target(machine.root().join("target"))
    };
    let (first, second) = (checkout("a"), checkout("b"));
    for workspace in [&first, &second] {
        workspace.package(
            "",
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
            "include!(concat!(env!(\"OUT_DIR\"), \"/place.rs\"));
fn main() { println!(\"{}\", std::env::current_dir().unwrap().to_str() == Some(PLACE)) }
",
        );
        workspace.write(
            "build.rs",
            "fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    let variable = |name| std::env::var(name).unwrap();
    let code = format!(\"const PLACE: &str = {:?};\", variable(\"CARGO_MANIFEST_DIR\"));
    std::fs::write(variable(\"OUT_DIR\") + \"/place.rs\", code).unwrap();
}
",
        );
    }
    let is_at_home = |workspace: &Workspace| {
        let program = workspace.target().join("release/app");
        let output = Command::new(program).current_dir(workspace.root()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    first.build(&["build", "--release"]);
    first.hit(&["build", "--release"]);
    assert_eq!(is_at_home(&first), "true\n");
    let elsewhere = second.build(&["build", "--release"]);
    assert_eq!(is_at_home(&second), "true\n", "{elsewhere}");
}

#[test]
fn a_program_that_a_script_starts_by_name_is_an_input() {
    let machine = Machine::new();
    let tools = machine.root().join("tools");
    let write = |text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::create_dir_all(&tools).unwrap();
        std::fs::write(tools.join("generate"), format!("#!/bin/sh\necho {text}\n")).unwrap();
        std::fs::set_permissions(tools.join("generate"), std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("one");
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", env!(\"MADE\")) }\n");
    workspace.write(
        "build.rs",
        "use std::process::Command;
fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    let made = Command::new(\"generate\").output().unwrap();
    println!(\"cargo::rustc-env=MADE={}\", String::from_utf8(made.stdout).unwrap().trim());
}
",
    );
    let workspace = workspace.with_path(&tools);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    write("two");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n");
    write("one");
    workspace.hit(&["build"]);
}

#[test]
fn what_cargo_passes_over_in_a_scripts_output_is_passed_over_after_a_hit() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{:?} one\", option_env!(\"PLACE\")) }\n");
    workspace.write(
        "build.rs",
        "use std::io::Write as _;
fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    std::io::stdout().write_all(b\"cargo::rustc-env=PLACE=\\xff\\n\").unwrap();
}
",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.edit("src/main.rs", "one", "two");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "None two\n");
}

#[test]
fn what_looks_like_a_placeholder_in_a_scripts_output_stays_what_it_is() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{} one\", env!(\"PLACE\")) }\n");
    workspace.write(
        "build.rs",
        "fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    println!(\"cargo::rustc-env=PLACE=@nixcache{{workspace}}@\");
}
",
    );
    workspace.nixcache(&["build"]).succeed();
    workspace.remove_target();
    workspace.nixcache(&["build"]).succeed();
    workspace.edit("src/main.rs", "one", "two");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "@nixcache{workspace}@ two\n");
}

#[test]
fn metadata_of_a_links_package_reaches_its_dependents() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("engine-sys", "links = \"engine\"\n", "pub fn nothing() {}\n");
    workspace.write(
        "engine-sys/build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=version.txt\");\n    \
         println!(\"cargo::metadata=version={}\", std::fs::read_to_string(\"version.txt\").unwrap());\n}\n",
    );
    workspace.write("engine-sys/version.txt", "one");
    workspace.package(
        "",
        "[dependencies]\nengine-sys = { path = \"engine-sys\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", env!(\"ENGINE\")) }\n",
    );
    workspace.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
         println!(\"cargo::rustc-env=ENGINE={}\", std::env::var(\"DEP_ENGINE_VERSION\").unwrap());\n}\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write("engine-sys/version.txt", "two");
    let outcome = workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n", "{outcome}");
    workspace.hit(&["build"]);
}

#[test]
fn a_c_library_follows_its_sources_headers_and_flags() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package(
        "",
        "[build-dependencies]\ncc = \"1\"\n[workspace]\n",
        "unsafe extern \"C\" { fn answer() -> i32; }\nfn main() { println!(\"{}\", unsafe { answer() }) }\n",
    );
    workspace.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=c\");\n    \
         cc::Build::new().file(\"c/answer.c\").compile(\"answer\");\n}\n",
    );
    workspace.write("c/answer.h", "#define ANSWER 42\n");
    workspace.write(
        "c/answer.c",
        "#include \"answer.h\"\n#ifndef EXTRA\n#define EXTRA 0\n#endif\nint answer(void) { return ANSWER + EXTRA; }\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.checkout("other/app").hit(&["build"]);
    workspace.edit("c/answer.h", "42", "43");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "43\n");
    workspace.edit("c/answer.c", "ANSWER +", "10 + ANSWER +");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "53\n");
    let flags = workspace.with_env("CFLAGS", "-DEXTRA=100");
    flags.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(flags.run_output("debug/app"), "153\n");
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "53\n");
}

/// Installs a shared library that pkg-config can find, whose function gives `value`.
fn install_greeting(machine: &Machine, value: u32) -> String {
    let prefix = machine.root().join("prefix");
    std::fs::create_dir_all(prefix.join("pkgconfig")).unwrap();
    let source = prefix.join("greeting.c");
    std::fs::write(&source, format!("int greeting(void) {{ return {value}; }}\n")).unwrap();
    let library = prefix.join("libgreeting.so");
    let _ = std::fs::remove_file(&library);
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(compiled.success());
    let text = format!(
        "Name: greeting\nDescription: a test\nVersion: 1.0\nLibs: -L{prefix} -lgreeting\nCflags: -I{prefix}\n",
        prefix = prefix.display()
    );
    std::fs::write(prefix.join("pkgconfig/greeting.pc"), text).unwrap();
    prefix.join("pkgconfig").to_str().unwrap().to_owned()
}

fn greeting_app(machine: &Machine) -> Workspace {
    let search = install_greeting(machine, 1);
    let workspace = machine.workspace("app").with_env("PKG_CONFIG_PATH", search);
    workspace.package(
        "",
        "[build-dependencies]\npkg-config = \"0.3\"\n[workspace]\n",
        "unsafe extern \"C\" { fn greeting() -> i32; }\nfn main() { println!(\"{}\", unsafe { greeting() }) }\n",
    );
    workspace.write("build.rs", "fn main() { pkg_config::probe_library(\"greeting\").unwrap(); }\n");
    workspace
}

fn has_pkg_config(test: &str) -> bool {
    let there = Command::new("pkg-config").arg("--version").output().is_ok();
    if !there {
        skipped(test, "pkg-config");
    }
    there
}

#[test]
fn a_system_library_is_an_input_by_content() {
    if !has_pkg_config("a_system_library_is_an_input_by_content") {
        return;
    }
    let machine = Machine::new();
    let workspace = greeting_app(&machine);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    install_greeting(&machine, 2);
    workspace.miss(&["build"], &["app 0.1.0"]);
    install_greeting(&machine, 1);
    workspace.hit(&["build"]);
}

#[test]
fn a_system_library_that_is_gone_is_never_a_hit() {
    if !has_pkg_config("a_system_library_that_is_gone_is_never_a_hit") {
        return;
    }
    let machine = Machine::new();
    let workspace = greeting_app(&machine);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    std::fs::remove_dir_all(machine.root().join("prefix")).unwrap();
    workspace.remove_target();
    workspace.nixcache(&["build"]).fail();
}

#[test]
fn the_warnings_of_a_restored_unit_are_shown_again() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() { let unused = 1; }\n");
    workspace.write(
        "build.rs",
        "fn main() { println!(\"cargo::warning=from the script\"); println!(\"cargo::rerun-if-changed=build.rs\"); }\n",
    );
    let cold = workspace.build(&["build"]);
    assert!(cold.stderr.contains("unused variable") && cold.stderr.contains("from the script"), "{cold}");
    let warm = workspace.hit(&["build"]);
    assert!(warm.stderr.contains("unused variable") && warm.stderr.contains("from the script"), "{warm}");
    assert!(!warm.stderr.contains("first/app"), "{warm}");
}

/// As the scripts of pyo3 do, which take the first of several names that they find.
#[test]
fn an_interpreter_that_a_script_asks_what_to_build_for_is_an_input() {
    let machine = Machine::new();
    let programs = machine.root().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let python = |version: &str| {
        let path = programs.join("python3");
        std::fs::write(&path, format!("#!/bin/sh\necho {version}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    python("3.11");
    let workspace = machine.workspace("app").with_path(&programs);
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", env!(\"PYTHON\")) }\n");
    workspace.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
         let found = [\"python3\", \"python\"].iter().find_map(|name| std::process::Command::new(name).output().ok());\n    \
         let version = String::from_utf8(found.unwrap().stdout).unwrap();\n    \
         println!(\"cargo::rustc-env=PYTHON={}\", version.trim());\n}\n",
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    python("3.12");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "3.12\n");
}
