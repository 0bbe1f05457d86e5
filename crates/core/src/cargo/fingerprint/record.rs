//! The fingerprint file as cargo 1.95 to 1.99 write it: its fields, its bytes, its hash.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use rustc_stable_hash::StableSipHasher128;
use serde::{Deserialize, Serialize};

use crate::cargo::layout::{CargoHash, FingerprintFiles};

/// The content of `<stem>.json`. The numbers are cargo's own hashes, of things that it alone can see.
///
/// The order of the fields is the order in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CargoFingerprint {
    /// Hash of `rustc -vV`.
    pub rustc: u64,
    /// The features that are on, as a Rust debug string.
    pub features: String,
    /// The features that the manifest declares, likewise.
    pub declared_features: String,
    /// Hash of the target's description in the manifest, without its source path.
    pub target: u64,
    /// Hash of the profile, the mode, extra arguments, LTO and the manifest's lints.
    pub profile: u64,
    /// Hash of the path of the root source file ([`hashed_source_path`]); 0 for a run.
    pub path: u64,
    /// The dependencies, sorted by `pkg_id`.
    pub deps: Vec<DependencyFingerprint>,
    /// What else the unit depends upon.
    pub local: Vec<LocalFingerprint>,
    /// `RUSTFLAGS` or `RUSTDOCFLAGS`, by whichever road.
    pub rustflags: Vec<String>,
    /// Hash of the linker's path and some unstable switches.
    pub config: u64,
    /// Hash of the content of a JSON target; 0 for the host; hash of the triple otherwise.
    pub compile_kind: u64,
}

/// An edge to a dependency: in the file, an array of its four fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyFingerprint(
    /// Hash of the package id, or of the name for path packages.
    pub u64,
    /// The name of the extern crate.
    pub String,
    /// Whether it is a public dependency.
    pub bool,
    /// The dependency's fingerprint.
    pub u64,
);

/// What a unit depends upon besides its sources' path and its dependencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LocalFingerprint {
    /// A text: the newest file of a path package, a registry package's version, a git package's revision.
    Precalculated(String),
    /// The files and variables of `dep-<stem>`.
    CheckDepInfo {
        /// The file, relative to the build directory.
        dep_info: Utf8PathBuf,
        /// Whether it holds checksums (`-Z checksum-freshness`).
        checksum: bool,
    },
    /// The paths that a build script named.
    RerunIfChanged {
        /// The file of the script's stdout, relative to the build directory.
        output: Utf8PathBuf,
        /// The paths; those below the package root are relative to it.
        paths: Vec<Utf8PathBuf>,
    },
    /// A variable that a build script named.
    RerunIfEnvChanged {
        /// Its name.
        var: String,
        /// Its value when the script ran.
        val: Option<String>,
    },
}

/// Why a fingerprint on disk can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// It could not be read or written.
    #[error("access fingerprint {path}")]
    Io {
        /// The file.
        path: Utf8PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It is not the JSON of a cargo that we know.
    #[error("understand fingerprint {path}")]
    Unknown {
        /// The file.
        path: Utf8PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// The hash that we compute from the JSON is not the one beside it.
    #[error("recompute fingerprint {path}: it is {found}, not {expected}")]
    Mismatch {
        /// The hash file.
        path: Utf8PathBuf,
        /// What it holds.
        expected: String,
        /// What we computed.
        found: CargoHash,
    },
}

impl CargoFingerprint {
    /// Reads the content of a JSON file.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Reads a unit's fingerprint and checks it against its hash file. `None` if the unit has none, or an
    /// empty one, as an interrupted build leaves it.
    pub fn read(files: &FingerprintFiles) -> Result<Option<Self>, FingerprintError> {
        let Some(expected) = read_if_there(&files.hash)? else { return Ok(None) };
        if expected.is_empty() {
            return Ok(None);
        }
        let Some(json) = read_if_there(&files.json)? else { return Ok(None) };
        let record =
            Self::from_json(&json).map_err(|source| FingerprintError::Unknown { path: files.json.clone(), source })?;
        let found = CargoHash::from_u64(record.hash());
        if found.to_string().as_bytes() != expected {
            let expected = String::from_utf8_lossy(&expected).into_owned();
            return Err(FingerprintError::Mismatch { path: files.hash.clone(), expected, found });
        }
        Ok(Some(record))
    }

    /// Writes the JSON, then the hash file: a unit whose hash file is there is complete.
    ///
    /// The caller holds the build lock and has made the directory.
    pub fn write(&self, files: &FingerprintFiles) -> Result<(), FingerprintError> {
        fs::write(&files.json, self.to_json()).map_err(failed(&files.json))?;
        self.write_hash(files)
    }

    /// Writes the hash file alone. Cargo needs no more; it reads the JSON to say why a unit is dirty. Worth it
    /// where creating a file is slow, which is also why there is no rename: until the one write of its 16 digits
    /// the file is empty, and an empty hash file is one that cargo does not believe.
    pub fn write_hash(&self, files: &FingerprintFiles) -> Result<(), FingerprintError> {
        fs::write(&files.hash, self.hash_file_text()).map_err(failed(&files.hash))
    }

    /// The hash, as cargo computes it.
    pub fn hash(&self) -> u64 {
        let mut hasher = StableSipHasher128::new();
        let Self {
            rustc,
            features,
            declared_features,
            target,
            profile,
            path,
            deps,
            local,
            rustflags,
            config,
            compile_kind,
        } = self;
        (rustc, features, declared_features, target, path, profile).hash(&mut hasher);
        hasher.write_usize(local.len());
        for item in local {
            item.hash_into(&mut hasher);
        }
        (config, compile_kind, rustflags).hash(&mut hasher);
        hasher.write_usize(deps.len());
        for DependencyFingerprint(package, name, public, fingerprint) in deps {
            (package, name, public).hash(&mut hasher);
            hasher.write_u64(*fingerprint);
        }
        Hasher::finish(&hasher)
    }

    /// The content of the hash file: 16 hexadecimal digits.
    pub fn hash_file_text(&self) -> String {
        CargoHash::from_u64(self.hash()).to_string()
    }

    /// The content of the JSON file, byte for byte as cargo writes it.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and UTF-8 paths can always be written as JSON")
    }
}

impl LocalFingerprint {
    /// Hashes as cargo's derived implementation does: the variant's number as `isize`, then the fields, paths
    /// as `std::path::PathBuf`, which hashes component by component.
    fn hash_into(&self, hasher: &mut StableSipHasher128) {
        match self {
            Self::Precalculated(text) => {
                hasher.write_isize(0);
                text.hash(hasher);
            }
            Self::CheckDepInfo { dep_info, checksum } => {
                hasher.write_isize(1);
                dep_info.as_std_path().hash(hasher);
                checksum.hash(hasher);
            }
            Self::RerunIfChanged { output, paths } => {
                hasher.write_isize(2);
                output.as_std_path().hash(hasher);
                hasher.write_usize(paths.len());
                for path in paths {
                    path.as_std_path().hash(hasher);
                }
            }
            Self::RerunIfEnvChanged { var, val } => {
                hasher.write_isize(3);
                (var, val).hash(hasher);
            }
        }
    }
}

/// Cargo's hash of a path, as it stands in the field `path`.
pub fn path_hash(path: &Utf8Path) -> u64 {
    let mut hasher = StableSipHasher128::new();
    path.as_std_path().hash(&mut hasher);
    Hasher::finish(&hasher)
}

/// The path that cargo hashes for a unit (`path_args` in `util/workspace.rs`): relative to the workspace root
/// for path packages below it, members or not; absolute for all others, vendored ones too. A run has none.
pub fn hashed_source_path<'a>(
    source_path: &'a Utf8Path,
    is_path_package: bool,
    workspace_root: &Utf8Path,
) -> &'a Utf8Path {
    match source_path.strip_prefix(workspace_root) {
        Ok(relative) if is_path_package => relative,
        _ => source_path,
    }
}

fn failed(path: &Utf8Path) -> impl FnOnce(io::Error) -> FingerprintError {
    let path = path.to_owned();
    move |source| FingerprintError::Io { path, source }
}

fn read_if_there(path: &Utf8Path) -> Result<Option<Vec<u8>>, FingerprintError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FingerprintError::Io { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run, as cargo 1.97 wrote it, and its hash file.
    const JSON: &str = include_str!("testdata/run.json");
    const HASH: &str = include_str!("testdata/run.hash");

    #[test]
    fn a_real_fingerprint_is_recomputed_and_rewritten() {
        let record = CargoFingerprint::from_json(JSON.as_bytes()).unwrap();
        assert_eq!(record.hash_file_text(), HASH);
        assert_eq!(record.to_json(), JSON.as_bytes());
    }

    #[test]
    fn unknown_fields_and_variants_are_refused() {
        for (from, to) in [
            ("\"config\":0", "\"config\":0,\"more\":1"),
            ("\"config\":0,", ""),
            ("RerunIfChanged", "RerunIfChangedTwice"),
            ("\"val\":null", "\"val\":null,\"more\":null"),
        ] {
            let json = JSON.replace(from, to);
            assert_ne!(json, JSON);
            assert!(CargoFingerprint::from_json(json.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let record = CargoFingerprint::from_json(JSON.as_bytes()).unwrap();
        let changes: [fn(&mut CargoFingerprint); 11] = [
            |record| record.rustc += 1,
            |record| record.features.push('x'),
            |record| record.declared_features.push('x'),
            |record| record.target += 1,
            |record| record.profile += 1,
            |record| record.path += 1,
            |record| record.deps[0].3 += 1,
            |record| record.local.truncate(1),
            |record| record.rustflags.push(String::new()),
            |record| record.config += 1,
            |record| record.compile_kind += 1,
        ];
        for change in changes {
            let mut changed = record.clone();
            change(&mut changed);
            assert_ne!(changed.hash(), record.hash());
        }
    }

    #[test]
    fn path_packages_below_the_workspace_are_relative() {
        let path = Utf8Path::new("/w/vendor/a/src/lib.rs");
        assert_eq!(hashed_source_path(path, true, "/w".into()), "vendor/a/src/lib.rs");
        assert_eq!(hashed_source_path(path, false, "/w".into()), path);
        assert_eq!(hashed_source_path(path, true, "/elsewhere".into()), path);
    }

    #[test]
    fn a_fingerprint_is_written_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        fs::create_dir_all(&directory).unwrap();
        let files = FingerprintFiles {
            hash: directory.join("lib-a"),
            json: directory.join("lib-a.json"),
            dep_info: directory.join("dep-lib-a"),
            diagnostics: directory.join("output-lib-a"),
            invoked: directory.join("invoked.timestamp"),
            directory,
        };
        assert!(CargoFingerprint::read(&files).unwrap().is_none());
        let record = CargoFingerprint::from_json(JSON.as_bytes()).unwrap();
        record.write(&files).unwrap();
        assert_eq!(CargoFingerprint::read(&files).unwrap().unwrap(), record);
        fs::write(&files.hash, "").unwrap();
        assert!(CargoFingerprint::read(&files).unwrap().is_none());
        fs::write(&files.hash, "0000000000000000").unwrap();
        assert!(matches!(CargoFingerprint::read(&files), Err(FingerprintError::Mismatch { .. })));
    }
}
