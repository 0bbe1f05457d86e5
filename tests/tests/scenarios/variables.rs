//! Environment variables: those that code and scripts read are inputs, all others aren't, and no value is kept.

use crate::count::Counter;
use nixcache_tests::{Machine, Workspace, contains_bytes};

const READS: &str = "fn main() { println!(\"{}\", option_env!(\"FLAVOUR\").unwrap_or(\"none\")) }\n";

fn app(machine: &Machine, source: &str) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package("plain", "", "pub fn nothing() {}\n");
    workspace.package("", "[dependencies]\nplain = { path = \"plain\" }\n[workspace]\n", source);
    workspace
}

#[test]
fn a_variable_in_env_is_an_input_of_the_unit_that_reads_it() {
    let machine = Machine::new();
    let workspace = app(&machine, "fn main() { println!(\"{}\", env!(\"FLAVOUR\")) }\n");
    let sweet = workspace.with_env("FLAVOUR", "sweet");
    sweet.build(&["build"]);
    sweet.hit(&["build"]);
    sweet.with_env("UNRELATED", "anything").hit(&["build"]);
    let sour = workspace.with_env("FLAVOUR", "sour");
    sour.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(sour.run_output("debug/app"), "sour\n");
    sweet.hit(&["build"]);
    assert_eq!(sweet.run_output("debug/app"), "sweet\n");
}

#[test]
fn an_unset_variable_in_option_env_is_an_input_too() {
    let machine = Machine::new();
    let workspace = app(&machine, READS);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let set = workspace.with_env("FLAVOUR", "sweet");
    set.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(set.run_output("debug/app"), "sweet\n");
    let empty = workspace.with_env("FLAVOUR", "");
    empty.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(empty.run_output("debug/app"), "\n");
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "none\n");
}

#[test]
fn a_variable_that_a_build_script_names_is_an_input() {
    let machine = Machine::new();
    let counter = Counter::new(&machine);
    let workspace = app(&machine, "fn main() { println!(\"{}\", env!(\"BAKED\")) }\n");
    workspace.write(
        "build.rs",
        format!(
            "fn main() {{\n    println!(\"cargo::rerun-if-env-changed=FLAVOUR\");\n{}    \
             println!(\"cargo::rustc-env=BAKED={{}}\", std::env::var(\"FLAVOUR\").unwrap_or_default());\n}}\n",
            counter.code()
        ),
    );
    let sweet = workspace.with_env("FLAVOUR", "sweet");
    sweet.build(&["build"]);
    sweet.hit(&["build"]);
    sweet.with_env("UNRELATED", "anything").hit(&["build"]);
    assert_eq!(counter.count(), 1);
    let sour = workspace.with_env("FLAVOUR", "sour");
    sour.miss(&["build"], &["app 0.1.0"]);
    assert_eq!((counter.count(), sour.run_output("debug/app").as_str()), (2, "sour\n"));
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!((counter.count(), workspace.run_output("debug/app").as_str()), (3, "\n"));
    sweet.hit(&["build"]);
    assert_eq!((counter.count(), sweet.run_output("debug/app").as_str()), (3, "sweet\n"));
}

#[test]
fn the_env_table_of_the_configuration_is_an_input_where_it_is_read() {
    let machine = Machine::new();
    let workspace = app(&machine, READS);
    workspace.write(".cargo/config.toml", "[env]\nFLAVOUR = \"sweet\"\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "sweet\n");
    // The environment wins over the table unless the table says `force`.
    let environment = workspace.with_env("FLAVOUR", "sour");
    environment.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(environment.run_output("debug/app"), "sour\n");
    workspace.write(".cargo/config.toml", "[env]\nFLAVOUR = { value = \"salty\", force = true }\n");
    environment.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(environment.run_output("debug/app"), "salty\n");
    workspace.write(".cargo/config.toml", "[env]\nFLAVOUR = \"sweet\"\nOTHER = \"unread\"\n");
    workspace.hit(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "sweet\n");
}

#[test]
fn a_configuration_table_reaches_build_scripts() {
    let machine = Machine::new();
    let workspace = app(&machine, "fn main() { println!(\"{}\", env!(\"BAKED\")) }\n");
    workspace.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-env-changed=FLAVOUR\");\n    \
         println!(\"cargo::rustc-env=BAKED={}\", std::env::var(\"FLAVOUR\").unwrap_or_default());\n}\n",
    );
    workspace.write(".cargo/config.toml", "[env]\nFLAVOUR = \"sweet\"\n");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    workspace.write(".cargo/config.toml", "[env]\nFLAVOUR = \"sour\"\n");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "sour\n");
}

#[test]
fn the_value_of_a_secret_is_nowhere_in_the_store() {
    const SECRET: &str = "correct-horse-battery-staple";
    let machine = Machine::new();
    // The lengths are baked in, the values aren't: what is found was put there by somebody else.
    let workspace =
        app(&machine, "const LENGTH: usize = env!(\"TOKEN\").len();\nfn main() { println!(\"{LENGTH}\") }\n");
    workspace.write("build.rs", "fn main() { println!(\"cargo::rerun-if-env-changed=PASSWORD\"); }\n");
    let secret = workspace.with_env("TOKEN", SECRET).with_env("PASSWORD", format!("{SECRET}-2"));
    secret.build(&["build", "--release"]);
    secret.hit(&["build", "--release"]);
    assert_eq!(contains_bytes(machine.store(), SECRET), None);
    secret.with_env("PASSWORD", "another").miss(&["build", "--release"], &["app 0.1.0"]);
    secret.with_env("TOKEN", "another").miss(&["build", "--release"], &["app 0.1.0"]);
}
