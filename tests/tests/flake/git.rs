//! Dependencies from git repositories: found by their commit, on any branch, in a workspace of their own.

use std::process::Command;

use super::place::Place;

/// A repository with a workspace, whose package `git-part` is on a branch that nobody checks out. Gives its address and
/// the commit.
fn repository(place: &Place) -> (String, String) {
    place.write(
        "repository/Cargo.toml",
        "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"3\"\n\n\
         [workspace.package]\nversion = \"0.3.0\"\nedition = \"2024\"\n\n\
         [workspace.dependencies]\nbase = \"1\"\n\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n",
    );
    place.write(
        "repository/crates/part/Cargo.toml",
        "[package]\nname = \"git-part\"\nversion.workspace = true\nedition.workspace = true\n\n\
         [lints]\nworkspace = true\n\n[dependencies]\nbase.workspace = true\nsibling = { path = \"../sibling\" }\n",
    );
    place.write("repository/crates/part/src/lib.rs", "pub fn number() -> u32 { base::number() + sibling::ONE }\n");
    place.write(
        "repository/crates/sibling/Cargo.toml",
        "[package]\nname = \"sibling\"\nversion.workspace = true\nedition.workspace = true\n",
    );
    place.write("repository/crates/sibling/src/lib.rs", "pub const ONE: u32 = 1;\n");
    // Repositories hold manifests that no one can read.
    place.write("repository/tests/broken/Cargo.toml", "[package\nname = \"git-part\n");
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=Nobody", "-c", "user.email=nobody@example.com", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(place.path("repository"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "Begin"]);
    git(&["checkout", "--quiet", "-b", "topic/one"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "Add a part"]);
    let commit = git(&["rev-parse", "HEAD"]);
    git(&["checkout", "--quiet", "main"]);
    (format!("file://{}", place.path("repository").display()), commit)
}

/// A workspace whose only member needs `git-part`. Gives the source as the lock file names it.
fn workspace(place: &Place) -> String {
    let (address, commit) = repository(place);
    let base = place.publish("base", "1.0.0", "pub fn number() -> u32 { 40 }\n", &[]);
    let source = format!("git+{address}?branch=topic%2Fone#{commit}");
    place.write("ws/Cargo.toml", "[workspace]\nmembers = [\"app\"]\nresolver = \"3\"\n");
    place.write(
        "ws/Cargo.lock",
        &format!(
            "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"git-part\",\n]\n\n{base}\
             [[package]]\nname = \"git-part\"\nversion = \"0.3.0\"\nsource = \"{source}\"\ndependencies = [\n \"base\",\n \"sibling\",\n]\n\n\
             [[package]]\nname = \"sibling\"\nversion = \"0.3.0\"\nsource = \"{source}\"\n"
        ),
    );
    place.write(
        "ws/app/Cargo.toml",
        &format!(
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
             [dependencies]\ngit-part = {{ git = \"{address}\", branch = \"topic/one\" }}\n"
        ),
    );
    place.write("ws/app/src/main.rs", "fn main() {\n    println!(\"{}\", git_part::number());\n}\n");
    source
}

#[test]
fn a_package_of_a_git_repository_is_built_from_its_commit() {
    let Some(place) = Place::new("a_package_of_a_git_repository_is_built_from_its_commit") else { return };
    workspace(&place);
    let all = "(lib.buildWorkspace { src = ./ws; CARGO_PROFILE = \"\"; doCheck = false; })";
    let (_, log) = place.build(&format!("{all}.deps"));
    assert!(log.contains("Compiling git-part v0.3.0") && log.contains("Compiling sibling v0.3.0"), "{log}");
    let (app, log) = place.build(&format!("{all}.packages.app"));
    assert!(!log.contains("Compiling git-part"), "{log}");
    let output = Command::new(app.join("bin/app")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "41\n");
}

#[test]
fn a_git_repository_is_read_in_pure_evaluation() {
    let Some(place) = Place::new("a_git_repository_is_read_in_pure_evaluation") else { return };
    workspace(&place);
    for directory in ["ws", "nix", "stand-in"] {
        nixcache_tests::copy_tree(&place.path(directory), &place.path(&format!("user/{directory}")), &[]);
    }
    place.write(
        "user/flake.nix",
        "{ outputs = { self }: {
             deps = ((import ./nix/lib.nix { pkgs = import ./stand-in { system = \"x86_64-linux\"; }; }).buildWorkspace { src = ./ws; }).deps.drvPath;
           }; }\n",
    );
    let flake = format!("path:{}#deps", place.path("user").display());
    let (path, _) = place.succeed("nix", &["eval", "--raw", &flake]);
    assert!(path.ends_with("-workspace-deps-0.drv"), "{path}");
}

#[test]
fn a_hash_of_a_git_repository_is_checked() {
    let Some(place) = Place::new("a_hash_of_a_git_repository_is_checked") else { return };
    let source = workspace(&place);
    let with = |name: &str, hash: &str| {
        format!("(lib.vendorCargoDeps {{ src = ./ws; outputHashes.\"{name}\" = \"{hash}\"; }}).drvPath")
    };
    let wrong = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let without = place.evaluate("(lib.vendorCargoDeps { src = ./ws; }).drvPath");
    // By the source, as crane's users have it, or by a package's name and version, as nixpkgs' have it.
    for name in [source.as_str(), "git-part-0.3.0"] {
        let error = place.evaluation_error(&with(name, wrong));
        let ours = &error[error.find("nixcache: ").unwrap_or_else(|| panic!("{error}"))..];
        assert!(ours.contains(wrong) && ours.contains("`outputHashes`"), "{error}");
        let right = ours.split("\" = \"").nth(1).unwrap_or_else(|| panic!("{error}")).split('"').next().unwrap();
        assert_eq!(place.evaluate(&with(name, right)), without);
    }
}
