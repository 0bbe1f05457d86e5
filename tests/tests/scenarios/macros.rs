//! What nobody names: files that a macro finds in a directory or reads behind rustc's back, and the other place of a
//! module.

use nixcache_tests::{Compilers, Machine, Workspace};

/// A program that prints the files of a directory, which a macro lists and includes, as crates that embed assets do.
/// The directory is relative to the package `app`.
fn embedding(machine: &Machine, directory: &str) -> Workspace {
    let workspace = machine.workspace("first");
    workspace.write("Cargo.toml", "[workspace]\nmembers = [\"app\", \"embed\"]\nresolver = \"3\"\n");
    workspace.package("embed", "[lib]\nproc-macro = true\n", "");
    workspace.write(
        "embed/src/lib.rs",
        "use proc_macro::TokenStream;\n\
         #[proc_macro]\npub fn embed(directory: TokenStream) -> TokenStream {\n    \
         let directory = directory.to_string().trim_matches('\"').to_owned();\n    \
         let root = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n    \
         let mut files: Vec<_> = std::fs::read_dir(format!(\"{root}/{directory}\")).unwrap()\n        \
         .map(|entry| entry.unwrap().path()).collect();\n    \
         files.sort();\n    \
         let texts: String = files.iter().map(|file| format!(\"include_str!({file:?}),\")).collect();\n    \
         format!(\"[{texts}].concat()\").parse().unwrap()\n}\n",
    );
    workspace.package(
        "app",
        "[dependencies]\nembed = { path = \"../embed\" }\n",
        &format!("fn main() {{ println!(\"{{}}\", {{ let texts: String = embed::embed!({directory:?}); texts }}) }}\n"),
    );
    workspace.write(&format!("app/{directory}/a.txt"), "one ").write("app/README.md", "about");
    workspace
}

#[test]
fn a_file_more_in_a_directory_that_a_macro_lists_is_seen() {
    for directory in ["assets", "../web/dist"] {
        let machine = Machine::new();
        let workspace = embedding(&machine, directory);
        // What is embedded is often made by another tool, and ignored.
        workspace.write(".gitignore", "target\ndist\n").commit();
        workspace.build(&["build"]);
        workspace.hit(&["build"]);
        let second = workspace.checkout("second");
        second.hit(&["build"]);
        second.write(&format!("app/{directory}/b.txt"), "two ");
        second.miss(&["build"], &["app 0.1.0"]);
        assert_eq!(second.run_output("debug/app"), "one two \n", "{directory}");
        workspace.hit(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), "one \n");
        // Beside the manifest, what is for people alone is not listed.
        workspace.write("app/README.md", "about it").write("app/LICENSE-MIT", "terms");
        workspace.hit(&["build"]);
    }
}

#[test]
fn what_a_macro_could_list_is_cargos_to_judge_in_a_filled_target_directory() {
    let machine = Machine::new();
    let workspace = embedding(&machine, "assets");
    workspace.build(&["build"]);
    workspace.write("app/notes/plan.txt", "nobody reads it");
    workspace.nixcache(&["build"]).compilers(Compilers::Fail).succeed().assert_fresh();
}

#[test]
fn a_file_that_a_macro_reads_unseen_is_an_input() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("reads", "[lib]\nproc-macro = true\n", "");
    workspace.write(
        "reads/src/lib.rs",
        "use proc_macro::{Literal, TokenStream, TokenTree};\n\
         #[proc_macro]\npub fn page(_: TokenStream) -> TokenStream {\n    \
         let root = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n    \
         let text = std::fs::read_to_string(format!(\"{root}/page.txt\")).unwrap();\n    \
         TokenTree::from(Literal::string(text.trim())).into()\n}\n",
    );
    workspace.write("page.txt", "one\n").write("README.md", "about");
    workspace.package(
        "",
        "[dependencies]\nreads = { path = \"reads\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", reads::page!()) }\n",
    );
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let second = workspace.checkout("second/app");
    second.hit(&["build"]);
    second.write("page.txt", "two\n");
    second.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(second.run_output("debug/app"), "two\n");
    second.write("README.md", "about it");
    second.hit(&["build"]);
}

#[test]
fn a_second_file_of_a_module_is_the_error_that_it_is_with_cargo() {
    for (file, other) in [("src/part.rs", "src/part/mod.rs"), ("src/part/mod.rs", "src/part.rs")] {
        let machine = Machine::new();
        let workspace = machine.workspace("first/app");
        workspace.package("", "[workspace]\n", "mod part;\nfn main() { println!(\"{}\", part::TEXT) }\n");
        workspace.write(file, "pub const TEXT: &str = \"one\";\n");
        workspace.build(&["build"]);
        workspace.hit(&["build"]);
        let second = workspace.checkout("second/app");
        second.hit(&["build"]);
        second.write(other, "pub const TEXT: &str = \"two\";\n");
        second.remove_target();
        let outcome = second.nixcache(&["build"]).fail();
        assert!(outcome.stderr.contains("E0761"), "{outcome}");
        std::fs::remove_file(second.path(file)).unwrap();
        second.nixcache(&["build"]).succeed();
        assert_eq!(second.run_output("debug/app"), "two\n");
    }
}

#[test]
fn a_file_that_is_removed_while_the_macro_s_user_is_compiled_is_missed() {
    let machine = Machine::new();
    let workspace = embedding(&machine, "assets");
    // As if somebody had removed it at that moment.
    workspace.edit(
        "embed/src/lib.rs",
        "files.sort();",
        "files.sort(); let _ = std::fs::remove_file(format!(\"{root}/{directory}/../sql/gone\"));",
    );
    workspace.write("app/sql/gone", "");
    let second = workspace.checkout("second");
    workspace.build(&["build"]);
    std::fs::remove_file(second.path("app/sql/gone")).unwrap();
    second.miss(&["build"], &["app 0.1.0"]);
}

#[test]
fn a_package_that_says_that_its_macros_read_nothing_is_believed() {
    let machine = Machine::new();
    let workspace = embedding(&machine, "assets");
    workspace.build(&["build"]);
    workspace.write("app/notes.txt", "nobody reads it");
    workspace.miss(&["build"], &["app 0.1.0"]);
    workspace.write("app/Cargo.toml", workspace.read("app/Cargo.toml") + "[package.metadata.nixcache]\ninputs = []\n");
    workspace.build(&["build"]);
    workspace.write("app/notes.txt", "still nobody").write("Cargo.lock.orig", "");
    workspace.hit(&["build"]);
}

#[test]
fn tests_and_the_lock_file_s_other_packages_are_not_what_a_library_s_macros_read() {
    let machine = Machine::new();
    let workspace = embedding(&machine, "assets");
    workspace.write("app/tests/whole.rs", "#[test]\nfn runs() {}\n").write("app/.github/ci.yml", "");
    workspace.build(&["build"]);
    workspace.write("app/tests/whole.rs", "#[test]\nfn runs_too() {}\n").write("app/.github/ci.yml", "changed");
    workspace.hit(&["build"]);
}
