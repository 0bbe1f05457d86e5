//! What macros could have read that nobody was told of.
//!
//! A macro can tell rustc which files it read (`include_str!` in what it makes), but not that it listed a directory, and
//! on a stable compiler it can name no file without including it. So where a macro takes part that can read files
//! ([`crate::artifact::reach`]), the package's files are an input as a whole, and so is every directory from which some
//! were included: a file more there is one that the macro would have found.

use std::collections::BTreeSet;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use ignore::WalkBuilder;

use super::super::{RootKind, Roots};
use super::collected::{PackageOnDisk, normalised};
use super::tree::{files_below, tracked_files};
use super::{DynamicInput, Way};

/// What lies beside a manifest for people alone, in capitals. Macros don't list that directory.
const FOR_PEOPLE: [&str; 6] = ["README", "CHANGELOG", "LICENSE", "COPYING", "CONTRIBUTING", "NOTICE"];

/// What lies beside a manifest for tools. The manifest and the lock file are in the key as far as they matter.
const FOR_TOOLS: [&str; 24] = [
    "Cargo.lock",
    "Cargo.toml",
    "Justfile",
    "clippy.toml",
    "deny.toml",
    "flake.lock",
    "flake.nix",
    "justfile",
    "rust-toolchain",
    "rust-toolchain.toml",
    "rustfmt.toml",
    ".cargo",
    ".ci",
    ".circleci",
    ".clippy.toml",
    ".direnv",
    ".editorconfig",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".gitlab-ci.yml",
    ".idea",
    ".rustfmt.toml",
    ".vscode",
];

/// Directories of the system, which no macro lists for what a package is made of.
const SYSTEM: [&str; 6] = ["/usr", "/lib", "/bin", "/etc", "/opt", "/nix"];

/// With more files, something else lies there than what macros read.
const MOST_FILES: usize = 1 << 16;

/// What a macro could have read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MacroFiles {
    /// The files, sorted.
    pub(crate) files: BTreeSet<Utf8PathBuf>,
    /// The directories, which tell by their times what was removed.
    pub(crate) directories: BTreeSet<Utf8PathBuf>,
}

/// The inputs of a unit that was compiled with macros that can read files. `files` are those of its dep-info, absolute.
/// `tests` says that the unit is a test, example or benchmark.
pub(crate) fn inputs_of_macros(
    package: PackageOnDisk<'_>,
    tests: bool,
    files: &[Utf8PathBuf],
    roots: &Roots,
) -> BTreeSet<DynamicInput> {
    let mut inputs = BTreeSet::from([DynamicInput::MacroPackage { path: roots.hide(package.root), tests }]);
    let included = files.iter().filter(|file| file.extension() != Some("rs"));
    let own = included.filter(|file| Way::of(package.out_dirs, file) != Some(Way::Within));
    let directories = own.filter_map(|file| Some(normalised(file).parent()?.to_owned()));
    // What holds the package itself holds its target directory, too: nobody includes that. Nor does anybody list what
    // is being built.
    let outputs = [RootKind::BuildDirectory, RootKind::TargetDirectory].map(|kind| roots.get(kind));
    let is_output = |directory: &Utf8Path| {
        outputs.iter().flatten().any(|root| directory.starts_with(root))
            || directory.ancestors().any(is_target_directory)
    };
    let directories: BTreeSet<_> = directories
        .filter(|directory| !package.root.starts_with(directory) && !is_output(directory))
        .filter(|directory| !SYSTEM.iter().any(|system| directory.starts_with(system)))
        .collect();
    let is_below_another =
        |directory: &Utf8Path| directory.ancestors().skip(1).any(|above| directories.contains(above));
    for directory in directories.iter().filter(|directory| !is_below_another(directory)) {
        inputs.insert(DynamicInput::MacroDirectory { path: roots.hide(directory) });
    }
    inputs
}

impl MacroFiles {
    /// Those of the package in `root`: what git tracks or would track, without what is only for people or tools, and
    /// without the other `packages` of the build. Rust files of tests, examples and benchmarks are read by those alone.
    pub(crate) fn of_package(
        root: &Utf8Path,
        tests: bool,
        roots: &Roots,
        packages: &BTreeSet<Utf8PathBuf>,
    ) -> io::Result<Self> {
        let mut walk = WalkBuilder::new(root);
        // The ignore files of the checkout count, those of this user alone don't: they would be others elsewhere.
        walk.hidden(false).git_global(false).git_exclude(false).ignore(false);
        let outputs =
            [RootKind::BuildDirectory, RootKind::TargetDirectory].into_iter().filter_map(|kind| roots.get(kind));
        let left_out: BTreeSet<_> = outputs.map(Utf8Path::to_owned).chain(packages.iter().cloned()).collect();
        let mut found = Self::walk(root, walk, left_out)?;
        let is_in_another = |path: &Utf8Path| {
            path.ancestors().skip(1).take_while(|above| *above != root).any(|above| packages.contains(above))
        };
        let tracked = tracked_files(root).unwrap_or_default();
        found.files.extend(tracked.into_iter().filter(|path| path.is_file() && !is_in_another(path)));
        let links: Vec<_> = found.files.iter().filter(|file| file.is_dir()).cloned().collect();
        for link in links {
            // A macro follows a link to a directory. One that leads out of the workspace is told by its text alone.
            let workspace = roots.get(RootKind::Workspace).and_then(|root| root.canonicalize_utf8().ok());
            if let (Ok(target), Some(workspace)) = (link.canonicalize_utf8(), workspace)
                && target.starts_with(&workspace)
                && !root.starts_with(&target)
            {
                found.files.remove(&link);
                found.files.extend(files_below(&link)?);
            }
        }
        found.files.retain(|file| {
            let path = file.strip_prefix(root).unwrap_or(file);
            let first = path.components().next().map(|part| part.as_str()).unwrap_or_default();
            let is_of_tests = matches!(first, "tests" | "examples" | "benches") && path.extension() == Some("rs");
            let is_beside = path == first && is_for_people(first);
            !(FOR_TOOLS.contains(&first) || is_beside || is_of_tests && !tests || is_of_editor(path))
        });
        Ok(found)
    }

    /// All those below a directory, but for target directories and what package managers unpack.
    pub(crate) fn of_directory(root: &Utf8Path) -> io::Result<Self> {
        let mut walk = WalkBuilder::new(root);
        // What git ignores is often what a macro embeds.
        walk.standard_filters(false);
        let mut found = Self::walk(root, walk, BTreeSet::new())?;
        found.files.retain(|file| !is_of_editor(file));
        Ok(found)
    }

    fn walk(root: &Utf8Path, mut walk: WalkBuilder, left_out: BTreeSet<Utf8PathBuf>) -> io::Result<Self> {
        let own = root.to_owned();
        walk.filter_entry(move |entry| {
            let Some(path) = Utf8Path::from_path(entry.path()) else { return true };
            path == own
                || !(matches!(path.file_name(), Some(".git" | "node_modules"))
                    || path == own.join("target")
                    || left_out.contains(path)
                    || is_target_directory(path))
        });
        let mut found = Self::default();
        for entry in walk.build() {
            let entry =
                entry.map_err(|error| error.into_io_error().unwrap_or_else(|| io::Error::other("cannot walk")))?;
            let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
            let path = Utf8PathBuf::from_path_buf(entry.into_path());
            let path = path.map_err(|path| io::Error::other(format!("{} is not UTF-8", path.display())))?;
            if is_directory {
                found.directories.insert(path)
            } else {
                found.files.insert(path)
            };
            if found.files.len() > MOST_FILES {
                return Err(io::Error::other(format!("{root} holds more than what macros read")));
            }
        }
        Ok(found)
    }
}

fn is_target_directory(path: &Utf8Path) -> bool {
    path.file_name() == Some("target") && path.join("CACHEDIR.TAG").exists()
}

fn is_for_people(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    FOR_PEOPLE.iter().any(|start| name.strip_prefix(start).is_some_and(|rest| !rest.starts_with('_')))
}

/// What editors and file managers leave beside the files that they show.
fn is_of_editor(path: &Utf8Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name == ".DS_Store" || name.starts_with(".#") || name.ends_with('~') || name.ends_with(".swp")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_package_counts_and_so_do_directories_of_what_was_included() {
        let roots = Roots::new([(RootKind::Workspace, Utf8PathBuf::from("/w"))]);
        let out_dirs = [Utf8PathBuf::from("/w/target/out")];
        let package =
            PackageOnDisk { root: Utf8Path::new("/w/p"), immutable: false, can_link: false, out_dirs: &out_dirs };
        let files = [
            "/w/p/src/lib.rs",
            "/w/shared/lib.rs",
            "/w/p/src/../../web/dist/index.html",
            "/w/web/dist/img/logo.png",
            "/w/p/Cargo.toml",
            "/w/README.md",
            "/w/p/sql/a.sql",
            "/w/target/out/generated.txt",
            "/usr/share/zoneinfo/UTC",
        ]
        .map(Utf8PathBuf::from);
        let found: Vec<_> = inputs_of_macros(package, false, &files, &roots).iter().map(ToString::to_string).collect();
        let workspace = RootKind::Workspace.placeholder();
        assert_eq!(
            found,
            [
                format!("files in {workspace}/p that macros can read"),
                format!("files below {workspace}/p/sql, where macros found some"),
                format!("files below {workspace}/web/dist, where macros found some"),
            ]
        );
    }

    fn git(root: &Utf8Path, arguments: &[&str]) {
        let output = std::process::Command::new("git").args(arguments).current_dir(root).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
    }

    #[test]
    fn of_a_package_counts_what_git_tracks_and_no_tool_reads() {
        let directory = tempfile::tempdir().unwrap();
        let above = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let root = above.join("package");
        let files = [
            "Cargo.toml",
            "README.md",
            "LICENSE-MIT",
            ".github/ci.yml",
            ".sqlx/query.json",
            "read.txt",
            "read.txt~",
            "templates/README.md",
            "templates/Cargo.toml",
            "tests/case.rs",
            "tests/case.txt",
            "other/Cargo.toml",
            "target/x",
            "node_modules/x/y",
            "ignored.log",
            "tracked.log",
        ];
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "x").unwrap();
        }
        fs::create_dir(root.join("empty")).unwrap();
        fs::write(root.join(".gitignore"), "*.log\n").unwrap();
        // Above the repository, what this user ignores is nobody else's.
        fs::write(above.join(".gitignore"), "*\n").unwrap();
        git(&root, &["init", "-q"]);
        git(&root, &["add", "-f", "tracked.log"]);
        let roots = Roots::new([(RootKind::Workspace, root.clone())]);
        let found = |tests| MacroFiles::of_package(&root, tests, &roots, &[root.join("other")].into()).unwrap();
        let named = |found: &BTreeSet<Utf8PathBuf>| -> Vec<String> {
            found.iter().map(|path| path.strip_prefix(&root).unwrap().to_string()).collect()
        };
        let all = [
            ".sqlx/query.json",
            "read.txt",
            "templates/Cargo.toml",
            "templates/README.md",
            "tests/case.txt",
            "tracked.log",
        ];
        assert_eq!(named(&found(false).files), all);
        assert!(found(true).files.contains(&root.join("tests/case.rs")));
        let directories = named(&found(false).directories);
        assert!(directories.contains(&"empty".to_owned()) && directories.contains(&String::new()), "{directories:?}");

        let all = MacroFiles::of_directory(&root).unwrap();
        assert!(all.files.contains(&root.join("ignored.log")) && !all.files.contains(&root.join("read.txt~")));
        assert!(!named(&all.files).iter().any(|file| file.starts_with("node_modules") || file.starts_with("target")));
    }

    #[cfg(unix)]
    #[test]
    fn links_out_of_the_workspace_are_not_followed() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let above = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let root = above.join("w/package");
        for file in ["w/package/a", "w/shared/b", "elsewhere/c"] {
            fs::create_dir_all(above.join(file).parent().unwrap()).unwrap();
            fs::write(above.join(file), "x").unwrap();
        }
        symlink("../shared", root.join("shared")).unwrap();
        symlink("../../elsewhere", root.join("result")).unwrap();
        symlink("..", root.join("up")).unwrap();
        let roots = Roots::new([(RootKind::Workspace, above.join("w"))]);
        let found = MacroFiles::of_package(&root, false, &roots, &BTreeSet::new()).unwrap();
        assert_eq!(found.files, ["a", "result", "shared/b", "up"].map(|file| root.join(file)).into());
    }
}
