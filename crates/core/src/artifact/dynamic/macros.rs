//! What macros could have read that nobody was told of.
//!
//! A macro can tell rustc which files it read (`include_str!` in what it makes), but not that it listed a directory, and
//! on a stable compiler it can name no file without including it. So where a macro takes part that can read files
//! ([`crate::artifact::reach`]), the package's files are an input as a whole, and so is every directory from which some
//! were included: a file more there is one that the macro would have found.

use std::collections::BTreeSet;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::super::{RootKind, Roots};
use super::collected::{PackageOnDisk, normalised};
use super::sources::source_files;
use super::tree::files_below;
use super::{DynamicInput, Way};

/// What lies beside a manifest for people alone, in capitals. Macros don't list that directory.
const FOR_PEOPLE: [&str; 6] = ["README", "CHANGELOG", "LICENSE", "COPYING", "CONTRIBUTING", "NOTICE"];

/// Directories of the system, which no macro lists for what a package is made of.
const SYSTEM: [&str; 6] = ["/usr", "/lib", "/bin", "/etc", "/opt", "/nix"];

/// The inputs of a unit that was compiled with macros that can read files. `files` are those of its dep-info, absolute.
pub(crate) fn inputs_of_macros(
    package: PackageOnDisk<'_>,
    files: &[Utf8PathBuf],
    roots: &Roots,
) -> BTreeSet<DynamicInput> {
    let mut inputs = BTreeSet::from([DynamicInput::MacroPackage { path: roots.hide(package.root) }]);
    let included = files.iter().filter(|file| file.extension() != Some("rs"));
    let own = included.filter(|file| Way::of(package.out_dirs, file) != Some(Way::Within));
    let directories = own.filter_map(|file| Some(normalised(file).parent()?.to_owned()));
    // What holds the package itself holds its target directory, too: nobody includes that.
    let directories: BTreeSet<_> = directories
        .filter(|directory| !package.root.starts_with(directory))
        .filter(|directory| !SYSTEM.iter().any(|system| directory.starts_with(system)))
        .collect();
    let is_below_another =
        |directory: &Utf8Path| directory.ancestors().skip(1).any(|above| directories.contains(above));
    for directory in directories.iter().filter(|directory| !is_below_another(directory)) {
        inputs.insert(DynamicInput::MacroDirectory { path: roots.hide(directory) });
    }
    inputs
}

/// The files of the package in `root` that a [`DynamicInput::MacroPackage`] stands for, sorted.
pub(crate) fn files_for_macros(root: &Utf8Path, roots: &Roots) -> io::Result<Vec<Utf8PathBuf>> {
    let outputs = [RootKind::BuildDirectory, RootKind::TargetDirectory];
    let outputs: Vec<_> = outputs.into_iter().filter_map(|kind| roots.get(kind)).collect();
    let mut files = Vec::new();
    for file in source_files(root, &outputs)? {
        // A link to a directory is followed, as a macro would.
        if file.is_dir() {
            files.extend(files_below(&file)?);
        } else if !(file.parent() == Some(root) && is_for_people(&file)) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn is_for_people(file: &Utf8Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_ascii_uppercase();
    FOR_PEOPLE
        .iter()
        .any(|start| name.strip_prefix(start).is_some_and(|rest| rest.is_empty() || !rest.starts_with('_')))
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
        let found: Vec<_> = inputs_of_macros(package, &files, &roots).iter().map(ToString::to_string).collect();
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

    #[test]
    fn what_is_for_people_alone_is_left_out_beside_the_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let files =
            ["Cargo.toml", "README.md", "LICENSE-MIT", "read.txt", "templates/README.md", "target/x", "b/x.log"];
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "x").unwrap();
        }
        fs::write(root.join(".gitignore"), "*.log\n").unwrap();
        let roots = Roots::new([(RootKind::Workspace, root.clone())]);
        let files = files_for_macros(&root, &roots).unwrap();
        let named: Vec<_> = files.iter().map(|file| file.strip_prefix(&root).unwrap().as_str()).collect();
        assert_eq!(named, [".gitignore", "Cargo.toml", "read.txt", "templates/README.md"]);
    }
}
