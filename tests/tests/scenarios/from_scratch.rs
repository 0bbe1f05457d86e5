//! What cargo alone sees in a build from scratch, and overlooks in a filled target directory or never had to ask: a hit
//! must be what a build from scratch is.

use nixcache_tests::{Machine, Workspace};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

/// The first state is a hit in another checkout; after the change, what comes out there is what it would be from
/// scratch, also when the store has what was built on the way.
#[track_caller]
fn seen(workspace: &Workspace, before: &str, change: impl FnOnce(&Workspace), after: &str) {
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), format!("{before}\n"));
    workspace.hit(&["build"]);
    let other = workspace.checkout("other/app");
    other.hit(&["build"]);
    change(&other);
    for _ in 0..2 {
        other.build(&["build"]);
        assert_eq!(other.run_output("debug/app"), format!("{after}\n"));
    }
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), format!("{before}\n"));
}

/// A program that prints what its build script made of `expression`, a `String`.
fn scripted(machine: &Machine, directives: &[&str], expression: &str) -> Workspace {
    let workspace = machine.workspace("first/app");
    let directives: String = directives.iter().map(|line| format!("    println!({line:?});\n")).collect();
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", env!(\"MADE\")) }\n");
    workspace.write(
        "build.rs",
        format!(
            "fn main() {{\n{directives}    let made: String = {expression};\n    \
             println!(\"cargo::rustc-env=MADE={{made}}\");\n}}\n"
        ),
    );
    workspace
}

const ITSELF: &str = "cargo::rerun-if-changed=build.rs";

#[test]
fn what_an_earlier_run_left_in_out_dir_is_in_no_hit() {
    let machine = Machine::new();
    let workspace = scripted(
        &machine,
        &["cargo::rerun-if-changed=version.txt"],
        "{ let kept = std::env::var(\"OUT_DIR\").unwrap() + \"/kept\";\n    \
         if !std::path::Path::new(&kept).exists() { std::fs::copy(\"version.txt\", &kept).unwrap(); }\n    \
         std::fs::read_to_string(kept).unwrap().trim().to_owned() }",
    );
    workspace.write("version.txt", "one");
    workspace.build(&["build"]);
    // In this directory the script keeps what it made, with cargo as with us.
    workspace.write("version.txt", "two");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "one\n");
    let other = workspace.checkout("other/app");
    other.build(&["build"]);
    assert_eq!(other.run_output("debug/app"), "two\n");
    other.hit(&["build"]);
}

#[test]
fn a_readme_that_appears_is_seen_by_who_asks_for_its_name() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"[{}]\", env!(\"CARGO_PKG_README\")) }\n");
    seen(
        &workspace,
        "[]",
        |other| {
            other.write("README.md", "about it");
        },
        "[README.md]",
    );
}

#[test]
fn a_run_follows_what_it_was_told_of_by_way_of_another() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    let package = |name: &str, manifest: &str, script: &str| {
        workspace.package(name, manifest, "");
        workspace.write(&format!("{name}/build.rs"), format!("fn main() {{ {script} }}\n"));
    };
    package(
        "deep",
        "links = \"deep\"\n",
        "println!(\"cargo::rerun-if-changed=text.txt\"); let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
         println!(\"cargo::metadata=root={out}\"); std::fs::copy(\"text.txt\", out + \"/text.txt\").unwrap();",
    );
    package(
        "middle",
        "links = \"middle\"\n[dependencies]\ndeep = { path = \"../deep\" }\n",
        "println!(\"cargo::rerun-if-changed=build.rs\");\n    \
         println!(\"cargo::metadata=root={}\", std::env::var(\"DEP_DEEP_ROOT\").unwrap());",
    );
    workspace.package(
        "",
        "[dependencies]\nmiddle = { path = \"middle\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", env!(\"TEXT\")) }\n",
    );
    workspace.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
         let text = std::fs::read_to_string(std::env::var(\"DEP_MIDDLE_ROOT\").unwrap() + \"/text.txt\").unwrap();\n    \
         println!(\"cargo::rustc-env=TEXT={}\", text.trim());\n}\n",
    );
    workspace.write("deep/text.txt", "one");
    seen(
        &workspace,
        "one",
        |other| {
            other.write("deep/text.txt", "two");
        },
        "two",
    );
}

#[test]
fn a_file_that_a_macro_reads_from_its_own_out_dir_is_an_input_of_who_expands_it() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("reads", "[lib]\nproc-macro = true\n", "");
    workspace.write(
        "reads/src/lib.rs",
        "use proc_macro::{Literal, TokenStream, TokenTree};\n\
         #[proc_macro]\npub fn text(_: TokenStream) -> TokenStream {\n    \
         let text = std::fs::read_to_string(concat!(env!(\"OUT_DIR\"), \"/text.txt\")).unwrap();\n    \
         TokenTree::from(Literal::string(text.trim())).into()\n}\n",
    );
    workspace.write(
        "reads/build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=text.txt\");\n    \
         std::fs::copy(\"text.txt\", std::env::var(\"OUT_DIR\").unwrap() + \"/text.txt\").unwrap();\n}\n",
    );
    workspace.package(
        "uses",
        "[dependencies]\nreads = { path = \"../reads\" }\n",
        "pub fn text() -> &'static str { reads::text!() }\n",
    );
    workspace.package(
        "",
        "[dependencies]\nuses = { path = \"uses\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", uses::text()) }\n",
    );
    // The macro holds its place, so all is in one directory.
    workspace.write("reads/text.txt", "one");
    workspace.build(&["build"]);
    workspace.write("reads/text.txt", "two");
    for _ in 0..2 {
        workspace.build(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), "two\n");
    }
    workspace.write("reads/text.txt", "one");
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one\n");
}

#[test]
fn a_library_by_its_whole_file_name_is_an_input() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package(
        "",
        "[workspace]\n",
        "unsafe extern \"C\" { fn number() -> i32; }\nfn main() { println!(\"{}\", unsafe { number() }) }\n",
    );
    workspace.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
         println!(\"cargo::rustc-link-search=native=lib\");\n    \
         println!(\"cargo::rustc-link-lib=static:+verbatim=native.bin\");\n}\n",
    );
    let install = |workspace: &Workspace, number: u32| {
        workspace.write("number.c", format!("int number(void) {{ return {number}; }}\n"));
        workspace.write("lib/native.bin", "");
        fs::remove_file(workspace.path("lib/native.bin")).unwrap();
        let script = "cc -c -o number.o number.c && ar rcD lib/native.bin number.o && rm number.o number.c";
        let made = Command::new("sh").args(["-ec", script]).current_dir(workspace.root()).status();
        assert!(made.unwrap().success());
    };
    install(&workspace, 1);
    seen(&workspace, "1", |other| install(other, 2), "2");
}

#[test]
fn what_lies_behind_links_of_a_git_dependency_is_an_input() {
    let machine = Machine::new();
    let shared = machine.root().join("shared.txt");
    fs::write(&shared, "one").unwrap();
    let library = machine.workspace("library");
    library.package("", "[package]\nname = \"library\"\nversion = \"0.1.0\"\nedition = \"2024\"\n", "");
    library.write("src/lib.rs", "pub const TEXT: &str = include_str!(\"../text.txt\");\n");
    symlink(&shared, library.path("text.txt")).unwrap();
    let commit = library.commit();
    let workspace = machine.workspace("first/app");
    workspace.write(".cargo/config.toml", "[net]\noffline = false\n");
    let url = format!("file://{}", library.root().display());
    workspace.package(
        "",
        &format!("[dependencies]\nlibrary = {{ git = {url:?}, rev = \"{commit}\" }}\n[workspace]\n"),
        "fn main() { println!(\"{}\", library::TEXT) }\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    fs::write(&shared, "two").unwrap();
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n");
    fs::write(&shared, "one").unwrap();
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one\n");
}

#[test]
fn variables_that_modules_of_a_script_read_are_inputs() {
    for (root, module) in [("build/main.rs", "build/helper.rs"), ("build.rs", "scripts/helper.rs")] {
        let machine = Machine::new();
        let workspace = machine.workspace("first/app");
        workspace.package(
            "",
            &format!(
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\nbuild = {root:?}\n[workspace]\n"
            ),
            "fn main() { println!(\"{}\", env!(\"MADE\")) }\n",
        );
        let file = if root == "build.rs" { module } else { "helper.rs" };
        workspace.write(
            root,
            format!(
                "#[path = {file:?}]\nmod helper;\nfn main() {{\n    \
                 println!(\"cargo::rerun-if-changed={root}\");\n    \
                 println!(\"cargo::rustc-env=MADE={{}}\", helper::flavour());\n}}\n"
            ),
        );
        workspace.write(module, "pub fn flavour() -> String { std::env::var(\"FLAVOUR\").unwrap_or_default() }\n");
        let sweet = workspace.with_env("FLAVOUR", "sweet");
        sweet.build(&["build"]);
        sweet.hit(&["build"]);
        let sour = workspace.with_env("FLAVOUR", "sour");
        sour.build(&["build"]);
        assert_eq!(sour.run_output("debug/app"), "sour\n", "{root}");
    }
}

#[test]
fn variables_with_names_of_cargos_are_inputs_where_cargo_does_not_set_them() {
    for name in ["DEP_MINE_KEY", "RUSTC_LINKER", "CARGO_FEATURE_MAGIC", "CARGO_CFG_MAGIC", "CARGO_CRATE_NAME"] {
        let machine = Machine::new();
        let expression = format!("std::env::var({name:?}).unwrap_or_default()");
        let workspace = scripted(&machine, &[&format!("cargo::rerun-if-env-changed={name}")], &expression);
        let one = workspace.with_env(name, "one");
        one.build(&["build"]);
        one.hit(&["build"]);
        let two = workspace.with_env(name, "two");
        two.build(&["build"]);
        assert_eq!(two.run_output("debug/app"), "two\n", "{name}");
    }
    for name in ["OUT_DIR", "CARGO_BIN_EXE_x", "CARGO_TARGET_TMPDIR"] {
        let machine = Machine::new();
        let workspace = machine.workspace("app");
        workspace.package(
            "",
            "[workspace]\n",
            &format!("fn main() {{ println!(\"{{}}\", option_env!({name:?}).unwrap_or(\"none\")) }}\n"),
        );
        for value in ["one", "two"] {
            let workspace = workspace.with_env(name, value);
            workspace.build(&["build"]);
            assert_eq!(workspace.run_output("debug/app"), format!("{value}\n"), "{name}");
        }
        workspace.build(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), "none\n", "{name}");
    }
}

#[test]
fn compilers_that_the_configuration_names_are_inputs_by_content() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    let compiler = machine.root().join("compiler");
    let write = |number: u32| {
        fs::write(&compiler, format!("#!/bin/sh\nexec cc -DNUMBER={number} \"$@\"\n")).unwrap();
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
    };
    workspace.package(
        "",
        "[workspace]\n",
        "unsafe extern \"C\" { fn number() -> i32; }\nfn main() { println!(\"{}\", unsafe { number() }) }\n",
    );
    workspace.write("number.c", "int number(void) { return NUMBER; }\n");
    workspace.write(".cargo/config.toml", format!("[env]\nCC = {:?}\n", compiler.to_str().unwrap()));
    workspace.write(
        "build.rs",
        "use std::process::Command;
fn main() {
    println!(\"cargo::rerun-if-changed=number.c\");
    println!(\"cargo::rerun-if-env-changed=CC\");
    let out = std::env::var(\"OUT_DIR\").unwrap();
    let object = format!(\"{out}/number.o\");
    let compiler = std::env::var(\"CC\").unwrap();
    assert!(Command::new(compiler).args([\"-c\", \"-o\", &object, \"number.c\"]).status().unwrap().success());
    assert!(Command::new(\"ar\").args([\"rcD\", &format!(\"{out}/libnumber.a\"), &object]).status().unwrap().success());
    println!(\"cargo::rustc-link-search=native={out}\");
    println!(\"cargo::rustc-link-lib=static=number\");
}
",
    );
    write(1);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    write(2);
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "2\n");
    write(1);
    workspace.hit(&["build"]);
}

#[test]
fn empty_directories_execute_bits_and_the_text_of_links_are_inputs() {
    let machine = Machine::new();
    let workspace = scripted(
        &machine,
        &["cargo::rerun-if-changed=data", "cargo::rerun-if-changed=run.sh"],
        "{ use std::os::unix::fs::PermissionsExt as _;\n    \
         format!(\"{} {:o} {:?}\", std::fs::read_dir(\"data\").unwrap().count(),\n    \
         std::fs::metadata(\"run.sh\").unwrap().permissions().mode() & 0o111, std::fs::read_link(\"data/link\").unwrap()) }",
    );
    workspace.write("one", "").write("two", "").write("run.sh", "").write("data/.keep", "");
    fs::remove_file(workspace.path("data/.keep")).unwrap();
    symlink("../one", workspace.path("data/link")).unwrap();
    let is = |printed: &str| {
        workspace.build(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), format!("{printed}\n"));
        workspace.hit(&["build"]);
    };
    is("1 0 \"../one\"");
    fs::create_dir(workspace.path("data/empty")).unwrap();
    is("2 0 \"../one\"");
    fs::set_permissions(workspace.path("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    is("2 111 \"../one\"");
    fs::remove_file(workspace.path("data/link")).unwrap();
    symlink("../two", workspace.path("data/link")).unwrap();
    is("2 111 \"../two\"");
}

#[test]
fn a_template_with_a_manifest_is_a_part_of_the_package_around_it() {
    let machine = Machine::new();
    let workspace =
        scripted(&machine, &[], "std::fs::read_to_string(\"template/Cargo.toml\").unwrap().trim().to_owned()");
    workspace.write("template/Cargo.toml", "one");
    seen(
        &workspace,
        "one",
        |other| {
            other.write("template/Cargo.toml", "two");
        },
        "two",
    );
}

#[test]
fn a_wrapper_that_is_only_called_like_a_cache_is_an_input() {
    let machine = Machine::new();
    let wrapper = machine.root().join("sccache.sh");
    let write = |flavour: &str| {
        fs::write(&wrapper, format!("#!/bin/sh\nexec \"$@\" --cfg {flavour}\n")).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let workspace = machine.workspace("app").with_env("RUSTC_WRAPPER", &wrapper);
    workspace.package("", "[workspace]\n", "#![allow(unexpected_cfgs)]\nfn main() { println!(\"{}\", cfg!(two)) }\n");
    write("one");
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "false\n");
    write("two");
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "true\n");
}

#[test]
fn a_pipe_among_the_files_holds_nobody_up() {
    let machine = Machine::new();
    for directives in [&["cargo::rerun-if-changed=data"][..], &[]] {
        let workspace = scripted(&machine, directives, "\"made\".to_owned()");
        workspace.write("data/file", "");
        let pipe = workspace.path("data/pipe");
        if !pipe.exists() {
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        }
        workspace.remove_target();
        let outcome = workspace.nixcache(&["build"]).prefix(&["timeout", "-s", "KILL", "300"]).succeed();
        assert_eq!(workspace.run_output("debug/app"), "made\n", "{outcome}");
    }
}

#[test]
fn clippy_s_configuration_above_the_directory_that_is_named_is_an_input() {
    let machine = Machine::new();
    let deep = machine.root().join("configuration/deep");
    fs::create_dir_all(&deep).unwrap();
    let workspace = machine.workspace("app").with_env("CLIPPY_CONF_DIR", &deep);
    workspace.package("", "[workspace]\n", "pub fn f(a: u8, b: u8, c: u8) -> u8 { a + b + c }\n");
    workspace.build(&["clippy"]);
    workspace.hit(&["clippy"]);
    fs::write(machine.root().join("configuration/clippy.toml"), "too-many-arguments-threshold = 2\n").unwrap();
    workspace.remove_target();
    let outcome = workspace.nixcache(&["clippy"]).succeed();
    assert!(outcome.stderr.contains("too many arguments"), "{outcome}");
}

#[test]
fn a_script_that_watches_itself_alone_is_a_hit_whatever_else_changes() {
    let machine = Machine::new();
    let workspace = scripted(&machine, &[ITSELF], "\"made\".to_owned()");
    workspace.build(&["build"]);
    workspace.write("notes.txt", "nobody reads it").write("template/Cargo.toml", "none");
    workspace.hit(&["build"]);
}
