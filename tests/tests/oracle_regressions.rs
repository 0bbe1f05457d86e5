//! Workspaces whose plans were once wrong.

use camino::Utf8Path;
use nixcache_tests::oracle::{Verdict, Workspace};

/// Cargo builds no tests of packages outside the workspace that have dev-dependencies.
#[test]
fn tests_of_others_are_refused_with_cargo() {
    let other = "[package]\nname = \"other\"\nversion = \"0.1.0\"\n[dev-dependencies]\nroot = { path = \"..\" }\n";
    let root = "[workspace]\nexclude = [\"other\"]\n[package]\nname = \"root\"\nversion = \"0.1.0\"\n\
                [dependencies]\nother = { path = \"other\" }\n";
    let files = [("Cargo.toml", root), ("src/lib.rs", ""), ("other/Cargo.toml", other), ("other/src/lib.rs", "")];
    let verdicts = verdicts(&files, "", &["test --no-run -p other", "check --profile test -p other", "build -p other"]);
    assert!(
        matches!(verdicts[..], [Verdict::BothRefuse(_), Verdict::BothRefuse(_), Verdict::Equal { .. }]),
        "{verdicts:?}"
    );
}

fn assert_equal(files: &[(&str, &str)], at: &str, commands: &[&str]) {
    for (verdict, command) in verdicts(files, at, commands).iter().zip(commands) {
        assert!(matches!(verdict, Verdict::Equal { .. }), "cargo {command}: {verdict:?}");
    }
}

/// Compares each command line in the given directory below a workspace of these files.
fn verdicts(files: &[(&str, &str)], at: &str, commands: &[&str]) -> Vec<Verdict> {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(temporary.path()).expect("a temporary directory is UTF-8");
    let directory = directory.canonicalize_utf8().expect("a temporary directory has a real path");
    for (path, text) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make a directory");
        std::fs::write(path, text).expect("write a file");
    }
    let mut workspace = Workspace::new(&directory.join(at), &[("CARGO_NET_OFFLINE", "true")]);
    commands.iter().map(|command| workspace.compare(&command.split_whitespace().collect::<Vec<_>>())).collect()
}

/// Several optional dependencies on one package, renamed, in different versions, of which one is in the graph.
#[test]
fn a_renamed_dependency_is_known_by_its_version() {
    let files = [
        (
            "Cargo.toml",
            "[workspace]\nexclude = [\"user\", \"one\", \"two\"]\n[package]\nname = \"root\"\nversion = \"0.1.0\"\n\
             [dependencies]\nuser = { path = \"user\", features = [\"second\"] }\n",
        ),
        ("src/lib.rs", ""),
        (
            "user/Cargo.toml",
            "[package]\nname = \"user\"\nversion = \"0.1.0\"\n[dependencies]\n\
             first = { package = \"twin\", version = \"1\", path = \"../one\", optional = true }\n\
             second = { package = \"twin\", version = \"2\", path = \"../two\", optional = true }\n",
        ),
        ("user/src/lib.rs", ""),
        ("one/Cargo.toml", "[package]\nname = \"twin\"\nversion = \"1.0.0\"\n"),
        ("one/src/lib.rs", ""),
        ("two/Cargo.toml", "[package]\nname = \"twin\"\nversion = \"2.0.0\"\n"),
        ("two/src/lib.rs", ""),
    ];
    assert_equal(&files, "", &["build", "check --release"]);
}

/// A virtual workspace with resolver 1, from the directory of a member: `--features` is about that member alone.
#[test]
fn features_are_of_the_current_package_with_resolver_1() {
    let member = |name: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\n[features]\ndefault = [\"f\"]\nf = []\n")
    };
    let (a, b) = (member("a"), member("b"));
    let files = [
        ("Cargo.toml", "[workspace]\nmembers = [\"a\", \"b\"]\nresolver = \"1\"\n"),
        ("a/Cargo.toml", a.as_str()),
        ("a/src/lib.rs", ""),
        ("b/Cargo.toml", b.as_str()),
        ("b/src/lib.rs", ""),
    ];
    assert_equal(&files, "a", &["build --workspace --no-default-features", "build -p b --no-default-features"]);
    assert_equal(&files, "", &["build --workspace --no-default-features"]);
}

/// A build script's run that is reached from a root for the host and from one for the target sees the run of a `links`
/// dependency twice.
#[test]
fn edges_between_build_script_runs_are_cargos() {
    let files = [
        ("Cargo.toml", "[workspace]\nmembers = [\"native\", \"derive\", \"user\"]\nresolver = \"1\"\n"),
        ("native/Cargo.toml", "[package]\nname = \"native\"\nversion = \"0.1.0\"\nlinks = \"n\"\n"),
        ("native/src/lib.rs", ""),
        ("native/build.rs", "fn main() {}"),
        (
            "derive/Cargo.toml",
            "[package]\nname = \"derive\"\nversion = \"0.1.0\"\n[lib]\nproc-macro = true\n\
             [dependencies]\nnative = { path = \"../native\" }\n",
        ),
        ("derive/src/lib.rs", ""),
        ("derive/build.rs", "fn main() {}"),
        (
            "user/Cargo.toml",
            "[package]\nname = \"user\"\nversion = \"0.1.0\"\n[dependencies]\nderive = { path = \"../derive\" }\n",
        ),
        ("user/src/lib.rs", ""),
    ];
    assert_equal(&files, "", &["doc --workspace --exclude native", "build --workspace", "test --no-run --workspace"]);
}

/// `bench = false` of a path package that is no member counts when it is selected.
#[test]
fn manifests_of_other_path_packages_are_read() {
    let files = [
        (
            "Cargo.toml",
            "[workspace]\nexclude = [\"other\"]\n[package]\nname = \"root\"\nversion = \"0.1.0\"\n\
             [dependencies]\nother = { path = \"other\" }\n",
        ),
        ("src/lib.rs", ""),
        ("other/Cargo.toml", "[package]\nname = \"other\"\nversion = \"0.1.0\"\n[lib]\nbench = false\ntest = false\n"),
        ("other/src/lib.rs", ""),
    ];
    assert_equal(
        &files,
        "",
        &["bench --no-run -p other -p root", "test --no-run -p other", "build -p other --all-targets"],
    );
}
