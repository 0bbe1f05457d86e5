//! Which units a build directory holds.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{BuildLayout, CargoHash, FingerprintStem, LayoutKind};

/// A unit directory on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PresentUnit {
    /// The package's name.
    pub package: String,
    /// The cargo hash.
    pub hash: CargoHash,
    /// The fingerprints in it. Several where units share the directory, none where cargo was interrupted.
    pub stems: Vec<FingerprintStem>,
}

impl BuildLayout {
    /// All units on disk, sorted. Nothing is opened but directories: a fingerprint can be empty or stale. An
    /// absent build directory holds no units; names that are none of cargo's are passed over.
    pub fn present_units(&self) -> io::Result<Vec<PresentUnit>> {
        let mut units = Vec::new();
        let root = self.units_directory();
        for name in names(&root)? {
            match self.kind() {
                LayoutKind::Legacy => {
                    if let Some((package, hash)) = CargoHash::split_suffix(&name) {
                        let stems = stems(&root.join(&name))?;
                        units.push(PresentUnit { package: package.to_owned(), hash, stems });
                    }
                }
                LayoutKind::PerUnit => {
                    let package = root.join(&name);
                    for hash in names(&package)? {
                        let directory = package.join(&hash).join("fingerprint");
                        if let Ok(hash) = hash.parse()
                            && directory.is_dir()
                        {
                            units.push(PresentUnit { package: name.clone(), hash, stems: stems(&directory)? });
                        }
                    }
                }
            }
        }
        units.sort_unstable();
        Ok(units)
    }

    /// Where runs of build scripts put their files (`OUT_DIR`), whether or not they have a fingerprint. Units of other kinds
    /// may have a directory of the same name.
    pub fn out_directories(&self) -> io::Result<Vec<Utf8PathBuf>> {
        let root = self.profile_root().join("build");
        let mut units = names(&root)?.into_iter().map(|name| root.join(name)).collect::<Vec<_>>();
        if self.kind() == LayoutKind::PerUnit {
            let packages = std::mem::take(&mut units);
            for package in packages {
                units.extend(names(&package)?.into_iter().map(|hash| package.join(hash)));
            }
        }
        Ok(units.into_iter().map(|unit| unit.join("out")).collect())
    }

    /// The directory of a unit whose outputs have no hash in their names ([`super::RustcPlace::Unhashed`]): the one
    /// that has the fingerprint, and whose hash is in no name among the outputs. `None` if it is not there, or
    /// not the only one.
    pub fn find_unhashed(&self, package: &str, stem: &FingerprintStem) -> io::Result<Option<CargoHash>> {
        let outputs = match self.kind() {
            LayoutKind::Legacy => {
                let root = self.profile_root();
                [names(&root.join("deps"))?, names(&root.join("examples"))?].concat()
            }
            // Every unit has a directory of its own, which its outputs lie in.
            LayoutKind::PerUnit => return Ok(None),
        };
        let mut found = None;
        for unit in self.present_units()? {
            let suffix = format!("-{}", unit.hash);
            if unit.package == package
                && unit.stems.contains(stem)
                && !outputs.iter().any(|name| name.contains(&suffix))
                && found.replace(unit.hash).is_some()
            {
                return Ok(None);
            }
        }
        Ok(found)
    }
}

/// The fingerprints in a directory, by the names of their hash files.
fn stems(directory: &Utf8Path) -> io::Result<Vec<FingerprintStem>> {
    let mut stems: Vec<FingerprintStem> = names(directory)?.iter().filter_map(|name| name.parse().ok()).collect();
    stems.sort_unstable();
    Ok(stems)
}

/// The names in a directory; none if it is not there, or no directory. Names that are not UTF-8 are not ours.
fn names(directory: &Utf8Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::CompilePlatform;

    #[test]
    fn units_of_both_layouts_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let layout = |kind| BuildLayout::new(kind, root, root, &CompilePlatform::Host, "dev");
        assert_eq!(layout(LayoutKind::Legacy).present_units().unwrap(), []);
        for file in [
            "debug/.fingerprint/a-b-1b0ebca5d5ae1ed9/lib-a_b",
            "debug/.fingerprint/a-b-1b0ebca5d5ae1ed9/lib-a_b.json",
            "debug/.fingerprint/a-b-1b0ebca5d5ae1ed9/dep-lib-a_b",
            "debug/.fingerprint/a-b-1b0ebca5d5ae1ed9/doc-lib-a_b",
            "debug/.fingerprint/a-b-1b0ebca5d5ae1ed9/invoked.timestamp",
            "debug/.fingerprint/strange/lib-a",
            "debug/build/c/00000000000000ff/fingerprint/run-build-script-build-script-build",
            "debug/build/c/00000000000000ff/run/stdout",
            "debug/build/c-00000000000000ff/output",
        ] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        let stem = |text: &str| text.parse::<FingerprintStem>().unwrap();
        assert_eq!(
            layout(LayoutKind::Legacy).present_units().unwrap(),
            [PresentUnit {
                package: "a-b".into(),
                hash: "1b0ebca5d5ae1ed9".parse().unwrap(),
                stems: vec![stem("lib-a_b"), stem("doc-lib-a_b")],
            }]
        );
        assert_eq!(
            layout(LayoutKind::PerUnit).present_units().unwrap(),
            [PresentUnit {
                package: "c".into(),
                hash: "00000000000000ff".parse().unwrap(),
                stems: vec![stem("run-build-script-build-script-build")],
            }]
        );
    }
}
