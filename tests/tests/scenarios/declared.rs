//! Inputs that nobody can see, and that a package declares: what a proc macro reads.

use nixcache_tests::{Machine, Workspace};

fn workspace(machine: &Machine, declared: &str) -> Workspace {
    let workspace = machine.workspace("first/app");
    workspace.package("reads", "[lib]\nproc-macro = true\n", "");
    workspace.write(
        "reads/src/lib.rs",
        "use proc_macro::{Literal, TokenStream, TokenTree};\n\
         #[proc_macro]\npub fn template(_: TokenStream) -> TokenStream {\n    \
         let root = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n    \
         let text = std::fs::read_to_string(format!(\"{root}/templates/page.txt\")).unwrap();\n    \
         TokenTree::from(Literal::string(text.trim())).into()\n}\n",
    );
    workspace.write("templates/page.txt", "one\n").write("templates/unused.md", "unused\n");
    workspace.package(
        "",
        &format!("[dependencies]\nreads = {{ path = \"reads\" }}\n{declared}[workspace]\n"),
        "fn main() { println!(\"{}\", reads::template!()) }\n",
    );
    workspace
}

#[test]
fn a_declared_input_of_a_proc_macro_is_an_input() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "[package.metadata.nixcache]\ninputs = [\"templates/*.txt\"]\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.checkout("second/app").hit(&["build"]);
    workspace.write("templates/page.txt", "two\n");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n");
    workspace.write("templates/page.txt", "one\n");
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one\n");
    workspace.write("templates/new.txt", "a file more\n");
    workspace.miss(&["build"], &["app 0.1.0"]);
    workspace.write("templates/unused.md", "changed\n");
    workspace.hit(&["build"]);
}

#[test]
fn a_changed_declared_input_is_seen_in_a_filled_target_directory() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "[package.metadata.nixcache]\ninputs = [\"templates\"]\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write("templates/page.txt", "two\n");
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(workspace.run_output("debug/app"), "two\n");
}

/// Whoever declares inputs counts on them, so nothing is kept of a declaration that says something else.
#[test]
fn a_declaration_that_is_not_understood_is_told() {
    for declared in ["inputs = \"templates/**\"", "input = [\"templates/**\"]"] {
        let machine = Machine::new();
        let workspace = workspace(&machine, &format!("[package.metadata.nixcache]\n{declared}\n"));
        let built = workspace.nixcache(&["build"]).succeed();
        assert!(built.stderr.contains("package.metadata.nixcache"), "{built}");
        workspace.write("templates/page.txt", "two\n");
        workspace.remove_target();
        workspace.nixcache(&["build"]).succeed();
        assert_eq!(workspace.run_output("debug/app"), "two\n");
    }
}

#[test]
fn a_changed_proc_macro_builds_its_users() {
    let machine = Machine::new();
    let workspace = workspace(&machine, "");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.edit("reads/src/lib.rs", "text.trim()", "&text.trim().to_uppercase()");
    workspace.miss(&["build"], &["app 0.1.0", "reads 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "ONE\n");
}
