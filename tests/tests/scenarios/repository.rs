//! What build scripts and macros ask git: the commit, the nearest tag, and whether something was edited.

use crate::count::Counter;
use nixcache_tests::{Compilers, Machine, Workspace};
use std::process::Command;

/// A program that prints what git says, and a library that has nothing to do with it.
fn described(machine: &Machine, directives: &str, arguments: &str) -> (Workspace, Counter) {
    let workspace = machine.workspace("first");
    let counter = Counter::new(machine);
    workspace.write("Cargo.toml", "[workspace]\nmembers = [\"app\", \"other\"]\nresolver = \"3\"\n");
    workspace.write(".gitignore", "target\n").write("notes.txt", "one");
    workspace.package("other", "", "");
    workspace.package(
        "app",
        "[dependencies]\nother = { path = \"../other\" }\n",
        "fn main() { println!(\"{}\", env!(\"STATE\")) }\n",
    );
    workspace.write(
        "app/build.rs",
        format!(
            "fn main() {{\n{}    {directives}\n    \
             let git = std::process::Command::new(\"git\").args([{arguments}]).output().unwrap();\n    \
             println!(\"cargo::rustc-env=STATE={{}}\", String::from_utf8(git.stdout).unwrap().trim());\n}}\n",
            counter.code()
        ),
    );
    (workspace, counter)
}

fn git(workspace: &Workspace, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=test", "-c", "user.email=test@localhost"]).args(arguments);
    assert!(command.current_dir(workspace.root()).status().unwrap().success(), "{arguments:?}");
}

/// The program prints the commit: the first is a hit, the next one a miss.
fn follows_commits(workspace: &Workspace) {
    let first = workspace.commit();
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app").trim(), first);
    workspace.hit(&["build"]);
    workspace.write("notes.txt", "two");
    let second = workspace.commit();
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app").trim(), second);
}

#[test]
fn a_commit_that_a_script_asks_for_is_an_input_whatever_it_names() {
    // The script runs again for other files of its package, for nothing, and for a file that says `ref: …` all the time.
    for directives in
        ["", "println!(\"cargo::rerun-if-changed=build.rs\");", "println!(\"cargo::rerun-if-changed=../.git/HEAD\");"]
    {
        let machine = Machine::new();
        let (workspace, counter) = described(&machine, directives, "\"rev-parse\", \"HEAD\"");
        let first = workspace.commit();
        workspace.build(&["build"]);
        assert_eq!(workspace.run_output("debug/app").trim(), first);
        workspace.hit(&["build"]);
        let clone = workspace.checkout("second");
        clone.hit(&["build"]);
        assert_eq!(counter.count(), 1, "{directives}");
        clone.write("notes.txt", "two");
        let second = clone.commit();
        clone.miss(&["build"], &["app 0.1.0"]);
        assert_eq!((counter.count(), clone.run_output("debug/app").trim()), (2, second.as_str()), "{directives}");
        git(&clone, &["reset", "--quiet", "--hard", &first]);
        clone.hit(&["build"]);
        assert_eq!(clone.run_output("debug/app").trim(), first);
    }
}

#[test]
fn a_description_tells_of_tags_and_edits() {
    let machine = Machine::new();
    let directives = "println!(\"cargo::rerun-if-changed=build.rs\");";
    let (workspace, _) = described(&machine, directives, "\"describe\", \"--tags\", \"--always\", \"--dirty\"");
    workspace.commit();
    git(&workspace, &["tag", "v1"]);
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "v1\n");
    workspace.hit(&["build"]);
    workspace.write("notes.txt", "two");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "v1-dirty\n");
    workspace.write("notes.txt", "one");
    workspace.hit(&["build"]);
    git(&workspace, &["tag", "--delete", "v1"]);
    git(&workspace, &["tag", "v2"]);
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "v2\n");
}

#[test]
fn in_a_filled_target_directory_cargo_decides_whether_a_script_asks_again() {
    let machine = Machine::new();
    let directives = "println!(\"cargo::rerun-if-changed=build.rs\");";
    let (workspace, counter) = described(&machine, directives, "\"rev-parse\", \"HEAD\"");
    let first = workspace.commit();
    workspace.build(&["build"]);
    workspace.write("notes.txt", "two");
    workspace.commit();
    workspace.nixcache(&["build"]).compilers(Compilers::Fail).succeed().assert_fresh();
    workspace.assert_nothing_to_do(&["build"]);
    assert_eq!((counter.count(), workspace.run_output("debug/app").trim()), (1, first.as_str()));
}

#[test]
fn a_commit_that_a_macro_asks_for_is_an_input() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("asks", "[lib]\nproc-macro = true\n", "");
    workspace.write(
        "asks/src/lib.rs",
        "use proc_macro::{Literal, TokenStream, TokenTree};\n\
         #[proc_macro]\npub fn commit(_: TokenStream) -> TokenStream {\n    \
         let git = std::process::Command::new(\"git\").args([\"rev-parse\", \"HEAD\"]).output().unwrap();\n    \
         let text = String::from_utf8(git.stdout).unwrap();\n    \
         TokenTree::from(Literal::string(text.trim())).into()\n}\n",
    );
    workspace.write(".gitignore", "target\n").write("notes.txt", "one");
    workspace.package(
        "",
        "[dependencies]\nasks = { path = \"asks\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", asks::commit!()) }\n",
    );
    follows_commits(&workspace);
}

#[test]
fn a_library_that_asks_git_for_a_script_is_noticed_in_the_program() {
    let machine = Machine::new();
    let (workspace, _) = described(&machine, "println!(\"cargo::rerun-if-changed=build.rs\");", "\"rev-parse\"");
    workspace.edit("Cargo.toml", "\"other\"]", "\"other\", \"asks\"]");
    workspace.package(
        "asks",
        "",
        "pub fn commit() -> String {\n    \
         let git = std::process::Command::new(\"git\").args([\"rev-parse\", \"HEAD\"]).output().unwrap();\n    \
         String::from_utf8(git.stdout).unwrap()\n}\n",
    );
    workspace.write(
        "app/Cargo.toml",
        workspace.read("app/Cargo.toml") + "[build-dependencies]\nasks = { path = \"../asks\" }\n",
    );
    workspace.write(
        "app/build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
         println!(\"cargo::rustc-env=STATE={}\", asks::commit().trim());\n}\n",
    );
    follows_commits(&workspace);
}

#[test]
fn an_answer_that_is_out_of_date_when_the_build_ends_is_not_kept() {
    for change in ["tag built", "rm -q --cached ../notes.txt", "commit -q --allow-empty -m next"] {
        let machine = Machine::new();
        let (workspace, counter) =
            described(&machine, "println!(\"cargo::rerun-if-changed=build.rs\");", "\"describe\", \"--always\"");
        let words: Vec<_> = change.split(' ').map(|word| format!("{word:?}")).collect();
        let change = format!(
            "std::process::Command::new(\"git\").args([\"-c\", \"user.name=x\", \"-c\", \"user.email=x@x\", {}]).status()\
             .unwrap();\n}}",
            words.join(", ")
        );
        let text = workspace.read("app/build.rs");
        workspace.write("app/build.rs", text.trim_end().strip_suffix('}').unwrap().to_owned() + &change);
        workspace.commit();
        workspace.build(&["build"]);
        // What the script saw was another state than the one that is there now.
        workspace.checkout("second").build(&["build"]);
        assert_eq!(counter.count(), 2, "{change}");
    }
}
