//! Files that a unit reads: beside its sources, outside its package, named by a build script, or missing.

use crate::count::Counter;
use nixcache_tests::{Machine, Workspace};

/// A binary whose build script prints the given directives, counts its runs and bakes a file's text in.
fn scripted(machine: &Machine, directives: &[&str], file: &str) -> (Workspace, Counter) {
    let workspace = machine.workspace("outer/app");
    let counter = Counter::new(machine);
    let directives: String = directives.iter().map(|line| format!("    println!({line:?});\n")).collect();
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", env!(\"BAKED\")) }\n");
    workspace.write(
        "build.rs",
        format!(
            "fn main() {{\n{directives}{}    \
             let text = std::fs::read_to_string({file:?}).unwrap_or_else(|_| \"nothing\".into());\n    \
             println!(\"cargo::rustc-env=BAKED={{}}\", text.trim());\n}}\n",
            counter.code()
        ),
    );
    (workspace, counter)
}

#[test]
fn an_included_file_outside_the_package_is_an_input() {
    let machine = Machine::new();
    let workspace = machine.workspace("outer/app");
    workspace.write("../shared/text.txt", "one");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", include_str!(\"../../shared/text.txt\")) }\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write("../shared/text.txt", "two");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n");
    workspace.write("../shared/text.txt", "one");
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "one\n");
}

#[test]
fn an_included_file_that_is_gone_is_never_a_hit() {
    let machine = Machine::new();
    let workspace = machine.workspace("outer/app");
    workspace.write("../shared/text.txt", "one");
    workspace.package("", "[workspace]\n", "fn main() { println!(\"{}\", include_str!(\"../../shared/text.txt\")) }\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    std::fs::remove_file(workspace.path("../shared/text.txt")).unwrap();
    workspace.remove_target();
    let outcome = workspace.nixcache(&["build"]).fail();
    assert!(outcome.stderr.contains("couldn't read"), "{outcome}");
}

#[test]
fn a_file_that_a_build_script_names_is_an_input() {
    for file in ["data.txt", "../shared/data.txt"] {
        let machine = Machine::new();
        let (workspace, counter) = scripted(&machine, &[&format!("cargo::rerun-if-changed={file}")], file);
        workspace.write(file, "one");
        workspace.build(&["build"]);
        assert_eq!(counter.count(), 1, "{file}");
        workspace.hit(&["build"]);
        assert_eq!(counter.count(), 1, "{file}");
        workspace.write(file, "two");
        workspace.miss(&["build"], &["app 0.1.0"]);
        assert_eq!(counter.count(), 2, "{file}");
        assert_eq!(workspace.run_output("debug/app"), "two\n");
    }
}

#[test]
fn a_directory_that_a_build_script_names_is_an_input_with_all_that_is_below_it() {
    let machine = Machine::new();
    let (workspace, counter) = scripted(&machine, &["cargo::rerun-if-changed=../shared"], "../shared/deep/data.txt");
    workspace.write("../shared/deep/data.txt", "one");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    assert_eq!(counter.count(), 1);
    workspace.write("../shared/deep/data.txt", "two");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!((counter.count(), workspace.run_output("debug/app").as_str()), (2, "two\n"));
    workspace.hit(&["build"]);
    workspace.write("../shared/new.txt", "a new file");
    workspace.remove_target();
    workspace.nixcache(&["build"]).succeed();
    assert_eq!(counter.count(), 3, "a new file in the directory");
}

#[test]
fn a_missing_file_makes_the_script_run_each_time_as_cargo_does() {
    let machine = Machine::new();
    let (workspace, counter) = scripted(&machine, &["cargo::rerun-if-changed=absent.txt"], "absent.txt");
    workspace.build(&["build"]);
    assert_eq!(counter.count(), 1);
    workspace.build(&["build"]);
    assert_eq!(counter.count(), 2);
    workspace.write("absent.txt", "there now");
    workspace.build(&["build"]);
    assert_eq!((counter.count(), workspace.run_output("debug/app").as_str()), (3, "there now\n"));
    workspace.hit(&["build"]);
    assert_eq!(counter.count(), 3);
}

#[test]
fn without_any_directive_every_file_of_the_package_is_an_input() {
    let machine = Machine::new();
    let (workspace, counter) = scripted(&machine, &[], "notes/data.txt");
    workspace.write("notes/data.txt", "one");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let elsewhere = workspace.checkout("elsewhere/app");
    elsewhere.hit(&["build"]);
    assert_eq!(counter.count(), 1, "the same content with other times is the same");
    workspace.write("notes/data.txt", "two");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!((counter.count(), workspace.run_output("debug/app").as_str()), (2, "two\n"));
}

#[test]
fn a_file_that_git_ignores_is_no_input_of_a_unit_that_does_not_read_it() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "fn main() {}\n");
    workspace.write(".gitignore", "target\n*.log\n");
    workspace.commit();
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write("noise.log", "anything");
    workspace.hit(&["build"]);
}

#[test]
fn a_module_that_git_does_not_know_yet_is_an_input() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[workspace]\n", "mod new;\nfn main() { println!(\"{}\", new::TEXT) }\n");
    workspace.commit();
    workspace.write("src/new.rs", "pub const TEXT: &str = \"one\";\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write("src/new.rs", "pub const TEXT: &str = \"two\";\n");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "two\n");
}
