//! Skeletons against the trees of `nix/checks/skeleton`, which the flake helper must make as well.

use super::*;

fn cases() -> Utf8PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Utf8Path::new(&package).join("../../nix/checks/skeleton")
}

fn tree(root: &Utf8Path, directory: &Utf8Path, files: &mut BTreeMap<String, String>) {
    for entry in directory.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        if path.is_dir() {
            tree(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_string();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn skeletons_are_the_expected_trees() {
    let mut seen = 0;
    for case in cases().read_dir_utf8().unwrap() {
        let case = case.unwrap().into_path();
        let scratch = tempfile::tempdir().unwrap();
        let destination = Utf8Path::from_path(scratch.path()).unwrap().join("skeleton");
        let input = case.join("input");
        Skeleton::of(&input).unwrap().write(&input, &destination).unwrap();
        let (mut expected, mut actual) = (BTreeMap::new(), BTreeMap::new());
        tree(&case.join("expected"), &case.join("expected"), &mut expected);
        tree(&destination, &destination, &mut actual);
        assert_eq!(actual, expected, "{case}");
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn what_is_missing_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(scratch.path()).unwrap();
    let error = |manifest: &str| {
        fs::write(root.join("Cargo.toml"), manifest).unwrap();
        Skeleton::of(root).unwrap_err().to_string()
    };
    assert!(error("[workspace]\nmembers = [\"ghost\"]\n").contains("the member ghost"));
    let outside = error("[package]\nname = \"app\"\n[dependencies]\nother = { path = \"../other\" }\n");
    assert!(outside.contains("the dependency other of Cargo.toml") && outside.contains("../other"), "{outside}");
    assert!(error("[package]\n").contains("names no package"));
    assert!(error("[package\n").contains("Cargo.toml"));
    assert!(error("[package]\nname = \"app\"\n").contains("Cargo.lock"));
}

#[test]
fn no_manifest_leads_out_of_the_skeleton() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(scratch.path()).unwrap().join("workspace");
    fs::create_dir_all(root.join("src")).unwrap();
    fs::write(root.join("Cargo.lock"), "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n").unwrap();
    let outside = root.with_file_name("outside.rs");
    for path in [outside.as_str(), "../outside.rs", "src/../../outside.rs"] {
        fs::write(&outside, "what was there\n").unwrap();
        let manifest =
            format!("[package]\nname = \"app\"\nversion = \"0.1.0\"\n[[bin]]\nname = \"x\"\npath = \"{path}\"\n");
        fs::write(root.join("Cargo.toml"), manifest).unwrap();
        let error = Skeleton::of(&root).unwrap().write(&root, &root.with_file_name("skeleton")).unwrap_err();
        assert!(matches!(error, SkeletonError::Outside { .. }), "{path}: {error}");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "what was there\n", "{path}");
    }
}
