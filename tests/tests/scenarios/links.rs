//! Symbolic links: out of a build script's directory to what nobody names, and in place of the directories themselves.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nixcache_tests::{Machine, Workspace};

const SHOWS_DATA: &str =
    "fn main() { print!(\"{}\", include_str!(concat!(env!(\"OUT_DIR\"), \"/inside/data.txt\"))) }\n";

/// A program that shows `shared/data.txt`, behind a link that its build script makes.
fn app(machine: &Machine, name: &str, link: &str) -> Workspace {
    let workspace = machine.workspace(name);
    workspace.package("", "[workspace]\n", SHOWS_DATA).write("shared/data.txt", "one").write(
        "build.rs",
        format!(
            "fn main() {{
    println!(\"cargo::rerun-if-changed=build.rs\");
    let place = |name| std::path::PathBuf::from(std::env::var(name).unwrap());
    let (out, root) = (place(\"OUT_DIR\"), place(\"CARGO_MANIFEST_DIR\"));
    let (inside, root) = (out.join(\"inside\"), root.to_str().unwrap());
    let _ = std::fs::remove_file(&inside);
    std::os::unix::fs::symlink(format!({link:?}), inside).unwrap();
    let _ = root;
}}
"
        ),
    );
    workspace
}

#[test]
fn what_lies_behind_a_link_in_a_scripts_directory_is_an_input_by_content() {
    let machine = Machine::new();
    let workspace = app(&machine, "first/app", "{root}/shared");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    let second = workspace.checkout("second/app");
    second.hit(&["build"]);
    second.write("shared/data.txt", "two");
    second.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(second.run_output("debug/app"), "two");
    // What is behind a link that lies outside counts, too.
    workspace.write("shared/other.txt", "other");
    fs::remove_file(workspace.path("shared/data.txt")).unwrap();
    symlink("other.txt", workspace.path("shared/data.txt")).unwrap();
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "other");
    second.write("shared/data.txt", "one");
    second.hit(&["build"]);
    assert_eq!(second.run_output("debug/app"), "one");
}

#[test]
fn a_relative_link_out_of_a_scripts_directory_is_a_hit_only_where_it_is() {
    let machine = Machine::new();
    let workspace = app(&machine, "first/app", "../../../../../shared");
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    // From here the link would lead to the first checkout.
    let second = workspace.checkout("second/app");
    second.write("shared/data.txt", "two");
    second.build(&["build"]);
    assert_eq!(second.run_output("debug/app"), "two");
    workspace.write("shared/data.txt", "three");
    workspace.miss(&["build"], &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "three");
}

#[test]
fn a_library_behind_a_link_in_a_scripts_directory_is_an_input_by_content() {
    let machine = Machine::new();
    let workspace = app(&machine, "app", "{root}/shared");
    let library = |number: u32| {
        workspace.write("shared/number.c", format!("int number(void) {{ return {number}; }}\n"));
        let run = |program: &str, arguments: &[&str]| {
            let directory = workspace.path("shared");
            assert!(
                std::process::Command::new(program).current_dir(directory).args(arguments).status().unwrap().success()
            );
        };
        run("cc", &["-c", "number.c"]);
        run("ar", &["crsD", "libnumber.a", "number.o"]);
        for made in ["number.c", "number.o"] {
            fs::remove_file(workspace.path("shared").join(made)).unwrap();
        }
    };
    workspace.edit(
        "build.rs",
        "let _ = root;",
        "println!(\"cargo::rustc-link-search=native={}\", out.join(\"inside\").display());
    println!(\"cargo::rustc-link-lib=static=number\");",
    );
    workspace.write(
        "src/main.rs",
        "unsafe extern \"C\" { fn number() -> i32; }\nfn main() { print!(\"{}\", unsafe { number() }) }\n",
    );
    library(1);
    workspace.build(&["build"]);
    workspace.hit(&["build"]);
    library(2);
    workspace.nixcache(&["build"]).succeed();
    workspace.build(&["build"]);
    assert_eq!(workspace.run_output("debug/app"), "2");
}

#[test]
fn generated_code_that_names_sources_by_a_relative_path_follows_them() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package(
        "",
        "[workspace]\n",
        "include!(concat!(env!(\"OUT_DIR\"), \"/modules.rs\"));\nfn main() { print!(\"{}\", part::TEXT) }\n",
    );
    workspace.write("shared/part.rs", "pub const TEXT: &str = \"one\";\n").write(
        "build.rs",
        "fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    let code = \"#[path = \\\"../../../../../shared/part.rs\\\"] mod part;\";
    std::fs::write(std::env::var(\"OUT_DIR\").unwrap() + \"/modules.rs\", code).unwrap();
}
",
    );
    workspace.build(&["build"]);
    let second = workspace.checkout("second/app");
    for (workspace, text) in [(&workspace, "two"), (&second, "three"), (&workspace, "one")] {
        workspace.write("shared/part.rs", format!("pub const TEXT: &str = \"{text}\";\n"));
        workspace.build(&["build"]);
        assert_eq!(workspace.run_output("debug/app"), text);
    }
}

/// A program that shows what its build script found behind links, in generated code and in a directive.
fn follower(machine: &Machine, name: &str) -> Workspace {
    let workspace = machine.workspace(name);
    workspace
        .package(
            "",
            "[workspace]\n",
            "include!(concat!(env!(\"OUT_DIR\"), \"/places.rs\"));
fn main() { println!(\"{}\\n{}\\n{HOME}\", OUT, env!(\"OUT\")) }
",
        )
        .write(
            "build.rs",
            "fn main() {
    println!(\"cargo::rerun-if-changed=build.rs\");
    let place = |name| std::fs::canonicalize(std::env::var(name).unwrap()).unwrap();
    let (out, home) = (place(\"OUT_DIR\"), place(\"CARGO_HOME\"));
    let code = format!(\"const OUT: &str = {out:?}; const HOME: &str = {home:?};\");
    std::fs::write(out.join(\"places.rs\"), code).unwrap();
    println!(\"cargo::rustc-env=OUT={}\", out.display());
}
",
        );
    workspace
}

/// Puts a link to an empty directory in place of another.
fn link(place: &Path, directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).unwrap();
    let _ = fs::remove_file(place);
    symlink(directory, place).unwrap();
}

#[test]
fn a_target_directory_behind_a_link_is_a_hit_only_where_the_link_leads() {
    let machine = Machine::new();
    let workspace = follower(&machine, "first/app");
    let second = workspace.checkout("second/app");
    let shows = |workspace: &Workspace, real: &Path| {
        workspace.run_output("debug/app").lines().take(2).all(|line| Path::new(line).starts_with(real))
    };
    let real = |name: &str| machine.root().join(name);
    link(&workspace.target(), &real("one"));
    workspace.nixcache(&["build"]).succeed();
    link(&workspace.target(), &real("one"));
    workspace.nixcache(&["build"]).restores_everything();
    workspace.assert_nothing_to_do(&["build"]);
    assert!(shows(&workspace, &real("one")), "{}", workspace.run_output("debug/app"));
    for (workspace, name) in [(&second, "two"), (&workspace, "three")] {
        link(&workspace.target(), &real(name));
        workspace.nixcache(&["build"]).succeed();
        assert!(shows(workspace, &real(name)), "{}", workspace.run_output("debug/app"));
    }
}

#[test]
fn a_cargo_home_behind_a_link_is_a_hit_only_where_the_link_leads() {
    let machine = Machine::new();
    let home = machine.root().join("home-link");
    let workspace = follower(&machine, "first/app").with_env("CARGO_HOME", &home);
    for name in ["one", "two"] {
        let real = machine.root().join(name);
        link(&home, &real);
        workspace.build(&["build"]);
        assert_eq!(workspace.run_output("debug/app").lines().last(), real.to_str());
        workspace.hit(&["build"]);
    }
}

#[test]
fn what_names_no_place_is_shared_with_a_target_directory_behind_a_link() {
    let machine = Machine::new();
    let workspace = machine.workspace("first/app");
    workspace.package("part", "", "pub fn part<T: Default>() -> T { T::default() }\n").package(
        "",
        "[dependencies]\npart = { path = \"part\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", part::part::<u32>()) }\n",
    );
    let relink = || link(&workspace.target(), &machine.root().join("real"));
    relink();
    workspace.nixcache(&["build"]).builds(&["app 0.1.0", "part 0.1.0"]);
    let second = workspace.checkout("second/app");
    second.hit(&["build"]);
    second.edit("part/src/lib.rs", "part", "more");
    second.edit("src/main.rs", "part::part", "part::more");
    second.miss(&["build"], &["app 0.1.0", "part 0.1.0"]);
    for file in ["part/src/lib.rs", "src/main.rs"] {
        workspace.write(file, second.read(file));
    }
    relink();
    workspace.nixcache(&["build"]).restores_everything();
    workspace.assert_nothing_to_do(&["build"]);
}

#[test]
fn a_workspace_that_is_named_by_a_link_is_kept_and_restored() {
    let machine = Machine::new();
    let workspace = machine.workspace("real/app");
    workspace.package("part", "", "pub fn number() -> u8 { 1 }\n");
    workspace.package(
        "",
        "[dependencies]\npart = { path = \"part\" }\n[workspace]\n",
        "mod more;\nfn main() { println!(\"{}\", part::number() + more::NUMBER) }\n",
    );
    workspace.write("src/more.rs", "pub const NUMBER: u8 = 1;\n");
    let link = machine.root().join("link");
    symlink(workspace.root(), &link).unwrap();
    let manifest = link.join("Cargo.toml");
    let build = ["build", "--manifest-path", manifest.to_str().unwrap()];
    let elsewhere = machine.workspace("elsewhere").with_target(workspace.target());
    elsewhere.build(&build);
    elsewhere.hit(&build);
    workspace.hit(&["build"]);
    workspace.write("src/more.rs", "pub const NUMBER: u8 = 2;\n");
    elsewhere.miss(&build, &["app 0.1.0"]);
    assert_eq!(workspace.run_output("debug/app"), "3\n");
}
