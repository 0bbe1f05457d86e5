//! Where rustc looks for the file of a module, and finds none.
//!
//! `mod foo;` is `foo.rs` or `foo/mod.rs`. If both are there it is an error (E0761), so the one that isn't is an input
//! of who compiled the other.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

/// The files that could stand in the place of the modules among `files`, and are not there. `root` is the crate's own
/// file, which is no module.
pub(super) fn other_modules<'a>(
    files: impl IntoIterator<Item = &'a Utf8PathBuf>,
    root: &Utf8Path,
) -> BTreeSet<Utf8PathBuf> {
    let modules = files.into_iter().filter(|file| file.extension() == Some("rs") && *file != root);
    // Those that are there belong to a module whose path is written out.
    modules.filter_map(|file| other_place(file)).filter(|other| !other.exists()).collect()
}

fn other_place(module: &Utf8Path) -> Option<Utf8PathBuf> {
    let directory = module.parent()?;
    match module.file_name()? {
        "mod.rs" => Some(directory.parent()?.join(format!("{}.rs", directory.file_name()?))),
        _ => Some(directory.join(module.file_stem()?).join("mod.rs")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_module_has_one_other_place() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        fs::create_dir_all(root.join("both")).unwrap();
        for file in ["both.rs", "both/mod.rs"] {
            fs::write(root.join(file), "").unwrap();
        }
        let files = ["lib.rs", "a.rs", "b/mod.rs", "b/c.d.rs", "both.rs", "text.txt"].map(|file| root.join(file));
        let others = other_modules(&files, &root.join("lib.rs"));
        assert_eq!(others, ["a/mod.rs", "b.rs", "b/c.d/mod.rs"].map(|file| root.join(file)).into());
    }
}
