//! The NIF crates of a directory, found without cargo: for machines that have none.
//!
//! Only what a name needs is read of a manifest: the package, its version (which the workspace may say), the library's
//! name. Where sources are, and what belongs to them, is in `source` of the core.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nif::{NifCrate, NifRelease, SourceError, source_digest, source_directories};
use toml::{Table, Value};

use super::NifError;

/// How deep below the lock file manifests are looked for.
const DEPTH: usize = 4;

/// Directories that hold other people's manifests, and many of them.
const PASSED_OVER: [&str; 5] = ["_build", "deps", "node_modules", "target", "priv"];

/// A crate that is a NIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NifSource {
    pub(super) crate_name: NifCrate,
    pub(super) release: NifRelease,
    /// Its manifest, from the directory that was searched.
    pub(super) manifest: Utf8PathBuf,
}

/// The NIF crates below `root`, sorted by their manifests.
pub(super) fn find(root: &Utf8Path) -> Result<Vec<NifSource>, NifError> {
    let mut found = Vec::new();
    search(root, Utf8Path::new(""), DEPTH, &mut found)?;
    found.sort_by(|one, two| one.manifest.cmp(&two.manifest));
    Ok(found)
}

fn search(root: &Utf8Path, below: &Utf8Path, depth: usize, found: &mut Vec<NifSource>) -> Result<(), NifError> {
    let manifest = below.join("Cargo.toml");
    if let Some(source) = read(root, &manifest)? {
        found.push(source);
    }
    if depth == 0 {
        return Ok(());
    }
    let directory = if below.as_str().is_empty() { root.to_owned() } else { root.join(below) };
    let directory = if directory.as_str().is_empty() { Utf8PathBuf::from(".") } else { directory };
    // A directory that can't be read holds nothing for us.
    let Ok(entries) = directory.read_dir_utf8() else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && !name.starts_with('.') && !PASSED_OVER.contains(&name) {
            search(root, &below.join(name), depth - 1, found)?;
        }
    }
    Ok(())
}

/// The NIF of one manifest; `None` if there is none.
pub(super) fn read(root: &Utf8Path, manifest: &Utf8Path) -> Result<Option<NifSource>, NifError> {
    let path = root.join(manifest);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NifError::File { path, source }),
    };
    let bad = |what: String| NifError::Manifest { path: path.clone(), what };
    let table: Table = text.parse().map_err(|error: toml::de::Error| bad(error.message().to_owned()))?;
    let Some(package) = table.get("package").and_then(Value::as_table) else { return Ok(None) };
    let library = table.get("lib").and_then(Value::as_table);
    let types = library.and_then(|library| library.get("crate-type").or_else(|| library.get("crate_type")));
    let is_library =
        types.and_then(Value::as_array).is_some_and(|types| types.iter().any(|kind| kind.as_str() == Some("cdylib")));
    if !is_library || !depends_on_rustler(&table) {
        return Ok(None);
    }
    let name = library.and_then(|library| library.get("name")).or_else(|| package.get("name"));
    let name = name.and_then(Value::as_str).ok_or_else(|| bad("it has no name".to_owned()))?;
    let version = match package.get("version") {
        Some(Value::String(version)) => version.clone(),
        Some(_) => inherited_version(&path).ok_or_else(|| bad("its workspace says no version".to_owned()))?,
        None => "0.0.0".to_owned(),
    };
    Ok(Some(NifSource {
        crate_name: NifCrate::of(name).map_err(|error| bad(error.to_string()))?,
        release: version.parse().map_err(|error: nixcache_core::nif::NifNameError| bad(error.to_string()))?,
        manifest: manifest.to_owned(),
    }))
}

/// The version of a NIF with the content of its sources in it.
pub(super) fn source_release(root: &Utf8Path, source: &NifSource) -> Result<NifRelease, NifError> {
    release_of_source(&root.join(&source.manifest), &source.release)
}

/// The same, for a manifest.
pub(super) fn release_of_source(manifest: &Utf8Path, release: &NifRelease) -> Result<NifRelease, NifError> {
    let digest = source_digest(manifest).map_err(|error| unknown_sources(manifest, &error))?;
    let whole = release.of_source(&digest);
    // It is longer than the version was.
    whole.to_string().parse().map_err(|error: nixcache_core::nif::NifNameError| NifError::Manifest {
        path: manifest.to_owned(),
        what: error.to_string(),
    })
}

/// The directories of the sources of a manifest, both seen from `root`.
pub(super) fn sources(root: &Utf8Path, manifest: &Utf8Path) -> Result<BTreeSet<String>, NifError> {
    let manifest = root.join(manifest);
    source_directories(&manifest, root).map_err(|error| unknown_sources(&manifest, &error))
}

fn unknown_sources(manifest: &Utf8Path, error: &SourceError) -> NifError {
    NifError::Manifest { path: manifest.to_owned(), what: nixcache_core::error_chain::chain(error) }
}

/// In any of the tables of dependencies, under any name.
fn depends_on_rustler(manifest: &Table) -> bool {
    let has = |table: &Table| {
        table.get("dependencies").and_then(Value::as_table).is_some_and(|dependencies| {
            dependencies.iter().any(|(name, dependency)| {
                name == "rustler" || dependency.get("package").and_then(Value::as_str) == Some("rustler")
            })
        })
    };
    let platforms = manifest.get("target").and_then(Value::as_table);
    has(manifest) || platforms.is_some_and(|platforms| platforms.values().filter_map(Value::as_table).any(has))
}

/// `version.workspace = true`: what the nearest manifest with a `[workspace.package]` says, this one or one above.
fn inherited_version(manifest: &Utf8Path) -> Option<String> {
    let manifest = manifest.canonicalize_utf8().ok()?;
    manifest.ancestors().skip(1).find_map(|directory| {
        let text = std::fs::read_to_string(directory.join("Cargo.toml")).ok()?;
        let table: Table = text.parse().ok()?;
        let version = table.get("workspace")?.get("package")?.get("version")?;
        Some(version.as_str()?.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nif_crates_are_found_without_cargo() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(temporary.path()).unwrap();
        let nif = "[lib]\ncrate-type = ['cdylib']\n[dependencies]\nrustler = '0.39'\n";
        for (path, text) in [
            ("native/demo-nif/Cargo.toml", format!("[package]\nname = 'demo-nif'\nversion = '0.2.0'\n{nif}")),
            ("native/Cargo.toml", "[workspace]\npackage.version = '1.2.3'\n".to_owned()),
            ("native/inherits/Cargo.toml", format!("[package]\nname = 'x'\nversion.workspace = true\n{nif}")),
            (
                "alone/Cargo.toml",
                format!(
                    "[workspace]\npackage.version = '2.0.0'\n[package]\nname = 'y'\nversion.workspace = true\n{nif}"
                ),
            ),
            ("native/plain/Cargo.toml", "[package]\nname = 'plain'\nversion = '0.1.0'\n".to_owned()),
            ("deps/other/Cargo.toml", format!("[package]\nname = 'other'\nversion = '0.1.0'\n{nif}")),
        ] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        let found = find(root).unwrap();
        let shown: Vec<_> = found.iter().map(|nif| (nif.crate_name.as_str(), nif.release.to_string())).collect();
        assert_eq!(
            shown,
            [("y", "2.0.0"), ("demo_nif", "0.2.0"), ("x", "1.2.3")].map(|(name, version)| (name, version.to_owned()))
        );
        assert_eq!(found[1].manifest, "native/demo-nif/Cargo.toml");
    }
}
