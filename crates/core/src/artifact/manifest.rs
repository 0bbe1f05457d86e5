//! The unit artifact: the normalised files of one built unit, and what is needed to put them back so that
//! cargo believes them.
//!
//! The manifest is JSON: it is read by people when something is odd, and hashed by nobody. It holds no path,
//! no variable's value and no time of the machine that made it.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::artifact::dynamic::{DynamicInput, InputValue};
use crate::cargo::dep_info::RelocatableDepInfo;
use crate::cargo::directives::is_obeyed;
use crate::cargo::fingerprint::RelocatableFingerprint;
use crate::cargo::layout::{CargoHash, FingerprintStem};
use crate::digest::{ContentDigest, KeyHasher};
use crate::store::BlobRef;

/// A built unit, ready to be put back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitArtifact {
    /// The unit as people name it: `serde 1.0.0 lib`.
    pub label: String,
    /// The package's name, as it stands in cargo's directory names.
    pub package: String,
    /// Cargo's hash of the unit.
    pub hash: CargoHash,
    /// The name of its fingerprint files.
    pub stem: FingerprintStem,
    /// The digest of what dependents can see.
    pub output: ContentDigest,
    /// Cargo's fingerprint.
    pub fingerprint: RelocatableFingerprint,
    /// Cargo's dep-info; a run has none.
    pub dep_info: Option<RelocatableDepInfo>,
    /// The diagnostics that cargo replays, hidden.
    pub diagnostics: Option<String>,
    /// What a build script printed; absent for other units.
    pub run: Option<RunOutput>,
    /// The files, sorted.
    pub files: Vec<ArtifactFile>,
    /// Directories in `OUT_DIR`, sorted, so that empty ones come back too.
    pub directories: Vec<Utf8PathBuf>,
    /// Symbolic links in `OUT_DIR`: path and hidden target.
    pub links: Vec<(Utf8PathBuf, String)>,
    /// What it was seen to read, with the digests of the values, for `why`.
    pub dynamic: Vec<(DynamicInput, InputValue)>,
    /// The digest of each planned input, for `why`.
    pub rows: Vec<(String, ContentDigest)>,
}

/// What a build script printed, with paths hidden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOutput {
    /// Its standard output: the directives.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactFile {
    /// Relative to the unit's output directory; for a run, to `OUT_DIR`.
    pub path: Utf8PathBuf,
    /// The content.
    pub blob: BlobRef,
    /// How it travels.
    pub class: FileClass,
}

/// How a file of an artifact travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileClass {
    /// Cargo and rustc replace it, they never write into it: it may share its inode with the store.
    Replaced,
    /// Somebody may write into it: it is cloned or copied.
    Own,
    /// Text with placeholders: it is written anew.
    Text,
}

impl ArtifactFile {
    /// Whether it is what a build script left behind that tried out the compiler: metadata of a crate that nobody
    /// can link, since cargo names no file of `OUT_DIR` to rustc. Such scripts call the compiler past every
    /// wrapper, so it holds the producer's paths; it is put back, and counts for nothing.
    pub fn is_probe(&self) -> bool {
        self.path.extension() == Some("rmeta") && self.class == FileClass::Own
    }
}

impl UnitArtifact {
    /// The digest of what dependents of a unit can see: its file names and their content, and for a run also
    /// what the script told cargo. Cargo's hash is in it, as it is in the names and paths that dependents use.
    pub fn output_digest(
        hash: CargoHash,
        files: &[ArtifactFile],
        directories: &[Utf8PathBuf],
        links: &[(Utf8PathBuf, String)],
        run: Option<&RunOutput>,
    ) -> ContentDigest {
        let mut hasher = KeyHasher::new("unit-output/2");
        hasher.field("hash", hash.to_string());
        for file in files.iter().filter(|file| !file.is_probe()) {
            hasher.field("path", file.path.as_str()).field("content", file.blob.digest.as_bytes());
            hasher.field("executable", [u8::from(file.blob.executable)]);
        }
        hasher.list("directories", directories.iter().map(|path| path.as_str()));
        for (path, target) in links {
            hasher.field("link", path.as_str()).field("target", target);
        }
        if let Some(run) = run {
            // What the script says besides may name this machine's programs and places.
            let obeyed = run.stdout.lines().map(str::trim).filter(|line| is_obeyed(line));
            hasher.list("directives", obeyed.collect::<Vec<_>>());
        }
        hasher.digest()
    }

    /// Whether every path stays where it belongs: relative, without `..`.
    pub fn is_well_formed(&self) -> bool {
        let inside = |path: &Utf8PathBuf| {
            !path.as_str().is_empty()
                && path.components().all(|component| matches!(component, camino::Utf8Component::Normal(_)))
        };
        self.files.iter().all(|file| inside(&file.path))
            && self.directories.iter().all(inside)
            && self.links.iter().all(|(path, _)| inside(path))
            && (self.run.is_some() || !self.files.is_empty())
            && !self.package.is_empty()
            && !self.package.contains(['/', '\\'])
            && self.package != ".."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependents_of_a_run_are_pinned_to_what_cargo_obeys() {
        let digest = |stdout: &str| {
            let run = RunOutput { stdout: stdout.to_owned(), stderr: String::new() };
            UnitArtifact::output_digest("0123456789abcdef".parse().unwrap(), &[], &[], &[], Some(&run))
        };
        let plain = digest("cargo::rustc-cfg=x\ncargo:root=/usr\n");
        let talkative =
            "running: \"/home/a/cc\"\ncargo::rustc-cfg=x\ncargo:warning=w\n  cargo:root=/usr\r\nexit status: 0\n";
        assert_eq!(digest(talkative), plain);
        assert_ne!(digest("cargo::rustc-cfg=y\ncargo:root=/usr\n"), plain);
        assert_ne!(digest("cargo:root=/usr\ncargo::rustc-cfg=x\n"), plain);
        assert_ne!(digest("cargo::rustc-cfg=x\n"), plain);
    }
}
