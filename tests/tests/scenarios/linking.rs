//! What only the linker reads: libraries, scripts and programs that arguments, code and variables lead to. Each changes
//! the number that the program prints.

use nixcache_tests::{Machine, Workspace, contains_bytes};
use std::process::Command;

const ASKS: &str = "unsafe extern \"C\" { fn number() -> i32; }\nfn main() { println!(\"{}\", unsafe { number() }) }\n";

/// A program of one crate that asks a C library.
fn app(machine: &Machine, source: &str) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", source);
    workspace
}

/// Writes a static library, below the workspace, whose function gives `number`.
fn install(workspace: &Workspace, library: &str, number: u32) {
    workspace.write("number.c", format!("int number(void) {{ return {number}; }}\n"));
    let library = workspace.path(library);
    std::fs::create_dir_all(library.parent().unwrap()).unwrap();
    let object = workspace.path("number.o");
    let compiled = Command::new("cc").arg("-c").arg("-o").arg(&object).arg(workspace.path("number.c")).status();
    assert!(compiled.unwrap().success());
    let _ = std::fs::remove_file(&library);
    assert!(Command::new("ar").arg("rcD").arg(&library).arg(&object).status().unwrap().success());
    std::fs::remove_file(object).unwrap();
    std::fs::remove_file(workspace.path("number.c")).unwrap();
}

/// The first state is a hit, the second a miss, and each gives its own number.
#[track_caller]
fn follows(workspace: &Workspace, change: impl Fn(u32)) {
    let program = |number: u32| assert_eq!(workspace.run_output("debug/app"), format!("{number}\n"));
    change(1);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    program(1);
    change(2);
    workspace.miss(&["build"], &["app 0.1.0"]);
    program(2);
    change(1);
    workspace.hit(&["build"]);
    program(1);
}

#[test]
fn a_library_that_code_names_and_a_variable_finds_is_an_input() {
    let machine = Machine::new();
    let workspace = app(&machine, &format!("#[link(name = \"foo5\")]\n{ASKS}"));
    let workspace = workspace.with_env("LIBRARY_PATH", workspace.path("native"));
    follows(&workspace, |number| install(&workspace, "native/libfoo5.a", number));
    // What the configuration sets counts as well.
    let workspace = app(&Machine::new(), &format!("#[link(name = \"foo5\")]\n{ASKS}"));
    workspace.write(".cargo/config.toml", "[env]\nLIBRARY_PATH = { value = \"native\", relative = true }\n");
    follows(&workspace, |number| install(&workspace, "native/libfoo5.a", number));
}

#[test]
fn a_library_that_linker_arguments_name_is_an_input() {
    for flags in ["-Clink-arg=-Lnative -Clink-arg=-lfoo5", "-C link-args=-Wl,-Lnative,--library=foo5"] {
        let machine = Machine::new();
        let workspace = app(&machine, ASKS).with_env("RUSTFLAGS", flags);
        follows(&workspace, |number| install(&workspace, "native/libfoo5.a", number));
    }
}

#[test]
fn a_library_in_the_linker_arguments_of_a_build_script_is_an_input() {
    let machine = Machine::new();
    let workspace = app(&machine, ASKS);
    workspace.write(
        "build.rs",
        "fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    println!(\"cargo::rustc-link-arg=-Lnative\");
    println!(\"cargo::rustc-link-arg=-lfoo5\");
}
",
    );
    follows(&workspace, |number| install(&workspace, "native/libfoo5.a", number));
}

#[test]
fn what_a_linker_script_includes_is_an_input() {
    let machine = Machine::new();
    let workspace = app(&machine, ASKS).with_env("RUSTFLAGS", "-Clink-arg=link.x");
    workspace.write("link.x", "/* INCLUDE nothing.x */\nINCLUDE memory.x\n");
    install(&workspace, "native/one.a", 1);
    install(&workspace, "native/two.a", 2);
    let include = |library: &str| {
        workspace.write("memory.x", format!("INPUT( native/{library}.a )\n"));
    };
    follows(&workspace, |number| include(if number == 1 { "one" } else { "two" }));
    include("one");
    install(&workspace, "native/one.a", 3);
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "3\n");
}

#[test]
fn a_linker_at_a_relative_path_is_an_input_by_content() {
    for flags in ["-Clinker=./linker", "-C linker=./linker"] {
        let machine = Machine::new();
        let workspace = app(&machine, ASKS).with_env("RUSTFLAGS", flags);
        install(&workspace, "native/1.a", 1);
        install(&workspace, "native/2.a", 2);
        let script = |number: u32| {
            workspace.write("linker", format!("#!/bin/sh\nexec cc \"$@\" native/{number}.a\n"));
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(workspace.path("linker"), mode).unwrap();
        };
        follows(&workspace, script);
        // In another checkout its own script counts.
        let other = workspace.checkout("other/app").with_env("RUSTFLAGS", flags);
        other.hit(&["build"]);
        install(&other, "native/3.a", 3);
        other.edit("linker", "1.a", "3.a");
        other.miss(&["build"], &["app 0.1.0"]);
        assert_eq!(other.run_output("debug/app"), "3\n");
    }
}

#[test]
fn a_library_below_the_target_directory_that_no_build_script_made_is_an_input() {
    let machine = Machine::new();
    let workspace = app(&machine, &format!("#[link(name = \"foo5\", kind = \"static\")]\n{ASKS}"))
        .with_env("RUSTFLAGS", "-Lnative=target/native");
    let build = |number: u32| {
        workspace.remove_target();
        install(&workspace, "target/native/libfoo5.a", number);
        workspace.nixcache(&["build"])
    };
    build(1).succeed();
    build(1).restores_everything();
    build(2).builds(&["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "2\n");
    build(1).restores_everything();
    assert_eq!(workspace.run_output("debug/app"), "1\n");
}

#[test]
fn a_library_that_a_build_script_made_is_pinned_by_its_run_from_any_distance() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("number-sys", "links = \"number\"\n", "unsafe extern \"C\" { pub fn number() -> i32; }\n");
    workspace.write("number-sys/number.c", "int number(void) { return 1; }\n");
    workspace.write(
        "number-sys/build.rs",
        "fn main() {
    println!(\"cargo::rerun-if-changed=number.c\");
    let out = std::env::var(\"OUT_DIR\").unwrap();
    let run = |program: &str, arguments: &[&str]| {
        assert!(std::process::Command::new(program).args(arguments).status().unwrap().success());
    };
    run(\"cc\", &[\"-c\", \"-o\", &format!(\"{out}/number.o\"), \"number.c\"]);
    run(\"ar\", &[\"rcD\", &format!(\"{out}/libnumber.a\"), &format!(\"{out}/number.o\")]);
    println!(\"cargo::rustc-link-search=native={out}\");
    println!(\"cargo::rustc-link-lib=dylib=number\");
}
",
    );
    let dependency = |name: &str| format!("[dependencies]\n{name} = {{ path = \"../{name}\" }}\n");
    workspace.package(
        "middle",
        &dependency("number-sys"),
        "pub fn number() -> i32 { unsafe { number_sys::number() } }\n",
    );
    workspace.package(
        "",
        "[dependencies]\nmiddle = { path = \"middle\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", 1 * middle::number()) }\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    // The run is restored, and what is linked anew finds its library where it was put.
    workspace.edit("src/main.rs", "1 *", "10 *");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "10\n");
    workspace.hit(&["build"]);
    workspace.checkout("other/app").hit(&["build"]);
    workspace.edit("number-sys/number.c", "return 1", "return 2");
    workspace.remove_target();
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "20\n");
}

/// No argument names the C library, and with this feature it is in the program.
#[test]
fn a_c_library_that_is_linked_statically_is_an_input() {
    let is_input = |flags: &str| {
        let machine = Machine::new();
        let workspace = machine.workspace("app").with_env("RUSTFLAGS", flags);
        workspace.package("", "[workspace]\n", "fn main() {}\n");
        workspace.build(&["build"]);
        contains_bytes(machine.store(), "\"kind\":\"static\",\"name\":\"c\"").is_some()
    };
    assert!(is_input("-C target-feature=+crt-static") && !is_input(""));
}
