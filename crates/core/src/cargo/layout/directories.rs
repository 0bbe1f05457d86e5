//! Where a unit's files lie, given the layout.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{CargoHash, FingerprintStem, UnitFlavor};
use crate::unit::{CompilePlatform, TargetKind};

/// How cargo arranges its build directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutKind {
    /// One directory for all outputs, one for all fingerprints.
    Legacy,
    /// One directory for each unit.
    PerUnit,
}

/// The directories of one profile, for the host or for one target. A build with `--target` has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLayout {
    build_directory: Utf8PathBuf,
    target_directory: Utf8PathBuf,
    kind: LayoutKind,
    platform: Option<String>,
    profile: String,
}

/// The files of a unit's fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FingerprintFiles {
    /// The directory, which other units can share.
    pub directory: Utf8PathBuf,
    /// 16 hexadecimal digits. Written last.
    pub hash: Utf8PathBuf,
    /// What was hashed.
    pub json: Utf8PathBuf,
    /// Cargo's own dep-info. Its modification time stands for the start of rustc.
    pub dep_info: Utf8PathBuf,
    /// The diagnostics that cargo replays; only there if there were any.
    pub diagnostics: Utf8PathBuf,
    /// Its modification time is the start of the last invocation.
    pub invoked: Utf8PathBuf,
}

/// The files of a build script's run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFiles {
    /// The directory of the files below.
    pub directory: Utf8PathBuf,
    /// `OUT_DIR`.
    pub out: Utf8PathBuf,
    /// What the script printed. Its modification time stands for the start of the run.
    pub stdout: Utf8PathBuf,
    /// What it printed to standard error.
    pub stderr: Utf8PathBuf,
    /// `OUT_DIR` as it was when the script ran, absolute, without a line feed.
    pub root_output: Utf8PathBuf,
    /// Its modification time is the start of the last invocation.
    pub invoked: Utf8PathBuf,
}

impl BuildLayout {
    /// The layout of one profile and platform. `build_directory` and `target_directory` are absolute, as
    /// `cargo metadata` prints them; `platform` is the unit's (host units of a build with `--target` have
    /// none); `profile` is the profile's name in the manifest.
    pub fn new(
        kind: LayoutKind,
        build_directory: impl Into<Utf8PathBuf>,
        target_directory: impl Into<Utf8PathBuf>,
        platform: &CompilePlatform,
        profile: &str,
    ) -> Self {
        Self {
            build_directory: build_directory.into(),
            target_directory: target_directory.into(),
            kind,
            platform: match platform {
                CompilePlatform::Host => None,
                CompilePlatform::Target { name, .. } => Some(name.clone()),
            },
            profile: profile_directory(profile).to_owned(),
        }
    }

    pub(super) fn of_directories(
        kind: LayoutKind,
        build_directory: Utf8PathBuf,
        target_directory: Utf8PathBuf,
        platform: Option<String>,
        profile: String,
    ) -> Self {
        Self { build_directory, target_directory, kind, platform, profile }
    }

    /// How the directory is arranged.
    pub fn kind(&self) -> LayoutKind {
        self.kind
    }

    /// Cargo's build directory.
    pub fn build_directory(&self) -> &Utf8Path {
        &self.build_directory
    }

    /// Cargo's target directory, of the final files.
    pub fn target_directory(&self) -> &Utf8Path {
        &self.target_directory
    }

    /// The directory name of the platform; `None` for units of the host.
    pub fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }

    /// The directory name of the profile: `debug`, `release`, or a custom profile's name.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// The layouts of all targets for which the build directory has units of this profile.
    pub fn layouts_of_targets(&self) -> io::Result<Vec<Self>> {
        let entries = match self.build_directory.read_dir_utf8() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut layouts = Vec::new();
        for entry in entries {
            let platform = Some(entry?.file_name().to_owned());
            let layout = Self { platform, ..self.clone() };
            if layout.units_directory().is_dir() {
                layouts.push(layout);
            }
        }
        Ok(layouts)
    }

    /// `<build-dir>/[<triple>/]<profile>`.
    pub fn profile_root(&self) -> Utf8PathBuf {
        self.below(&self.build_directory)
    }

    /// `<target-dir>/[<triple>/]<profile>`: final binaries and libraries.
    pub fn final_directory(&self) -> Utf8PathBuf {
        self.below(&self.target_directory)
    }

    /// Final examples.
    pub fn final_examples_directory(&self) -> Utf8PathBuf {
        self.final_directory().join("examples")
    }

    /// `<target-dir>/[<triple>/]doc`.
    pub fn doc_directory(&self) -> Utf8PathBuf {
        let mut path = self.target_directory.clone();
        path.extend(self.platform());
        path.join("doc")
    }

    /// Incremental compilation's sessions. Never shipped.
    pub fn incremental_directory(&self) -> Utf8PathBuf {
        self.profile_root().join("incremental")
    }

    /// Where the units' own directories begin: `.fingerprint` or `build`.
    pub(super) fn units_directory(&self) -> Utf8PathBuf {
        self.profile_root().join(match self.kind {
            LayoutKind::Legacy => ".fingerprint",
            LayoutKind::PerUnit => "build",
        })
    }

    /// The directory of a unit's fingerprint.
    pub fn fingerprint_directory(&self, package: &str, hash: CargoHash) -> Utf8PathBuf {
        let units = self.units_directory();
        match self.kind {
            LayoutKind::Legacy => units.join(format!("{package}-{hash}")),
            LayoutKind::PerUnit => units.join(format!("{package}/{hash}/fingerprint")),
        }
    }

    /// The files of a unit's fingerprint.
    pub fn fingerprint_files(&self, package: &str, hash: CargoHash, stem: &FingerprintStem) -> FingerprintFiles {
        let directory = self.fingerprint_directory(package, hash);
        FingerprintFiles {
            hash: directory.join(stem.to_string()),
            json: directory.join(format!("{stem}.json")),
            dep_info: directory.join(format!("dep-{stem}")),
            diagnostics: directory.join(format!("output-{stem}")),
            invoked: directory.join("invoked.timestamp"),
            directory,
        }
    }

    /// The directory into which rustc (`--out-dir`) or rustdoc writes, or a run's `OUT_DIR`.
    pub fn output_directory(&self, package: &str, hash: CargoHash, stem: &FingerprintStem) -> Utf8PathBuf {
        match (stem.flavor(), stem.kind(), self.kind) {
            (UnitFlavor::Doc, _, _) => self.doc_directory(),
            (UnitFlavor::Run, _, _) => self.run_files(package, hash).out,
            (_, _, LayoutKind::PerUnit) => self.build_path(package, hash).join("out"),
            (_, TargetKind::CustomBuild, LayoutKind::Legacy) => self.build_path(package, hash),
            (_, TargetKind::Example, LayoutKind::Legacy) => self.profile_root().join("examples"),
            (_, _, LayoutKind::Legacy) => self.profile_root().join("deps"),
        }
    }

    /// The path by which cargo starts a compiled build script, given its target name (`build-script-build`,
    /// or `build-script-<stem>` for other file names). Per unit, cargo 1.95 with unstable switches links it to the
    /// legacy name beside the output, as it does in the legacy layout; later ones start the output itself.
    pub fn build_script_program(&self, package: &str, hash: CargoHash, target: &str) -> Utf8PathBuf {
        let directory = self.build_path(package, hash);
        match self.kind {
            LayoutKind::Legacy => directory.join(target),
            LayoutKind::PerUnit => directory.join("out").join(target.replace('-', "_")),
        }
    }

    /// The files of a build script's run.
    pub fn run_files(&self, package: &str, hash: CargoHash) -> RunFiles {
        let unit = self.build_path(package, hash);
        let (directory, stdout) = match self.kind {
            LayoutKind::Legacy => (unit.clone(), "output"),
            LayoutKind::PerUnit => (unit.join("run"), "stdout"),
        };
        RunFiles {
            out: unit.join("out"),
            stdout: directory.join(stdout),
            stderr: directory.join("stderr"),
            root_output: directory.join("root-output"),
            invoked: directory.join("invoked.timestamp"),
            directory,
        }
    }

    /// `build/<pkg>-<hash>` or `build/<pkg>/<hash>`.
    fn build_path(&self, package: &str, hash: CargoHash) -> Utf8PathBuf {
        let build = self.profile_root().join("build");
        match self.kind {
            LayoutKind::Legacy => build.join(format!("{package}-{hash}")),
            LayoutKind::PerUnit => build.join(format!("{package}/{hash}")),
        }
    }

    /// The path relative to the build directory, as fingerprints hold it.
    pub fn relative<'a>(&self, path: &'a Utf8Path) -> Option<&'a Utf8Path> {
        path.strip_prefix(&self.build_directory).ok()
    }

    fn below(&self, root: &Utf8Path) -> Utf8PathBuf {
        let mut path = root.to_owned();
        path.extend(self.platform());
        path.push(&self.profile);
        path
    }
}

/// Where cargo has noted what a unit was made from, told from the path of its hash file alone, in both layouts: the
/// dep-info, or the standard output of a build script's run. Not all of them need to exist.
pub fn notes_beside(hash_file: &Utf8Path) -> Vec<Utf8PathBuf> {
    let (Some(directory), Some(stem)) = (hash_file.parent(), hash_file.file_name()) else { return Vec::new() };
    if !stem.starts_with("run-") {
        return vec![directory.join(format!("dep-{stem}"))];
    }
    let (Some(unit), Some(above)) = (directory.file_name(), directory.parent()) else { return Vec::new() };
    // `build/<package>/<hash>/fingerprint` and `…/run/stdout`, or `.fingerprint/<unit>` and `build/<unit>/output`.
    let mut notes = vec![above.join("run").join("stdout")];
    if let (Some(".fingerprint"), Some(profile)) = (above.file_name(), above.parent()) {
        notes.push(profile.join("build").join(unit).join("output"));
    }
    notes
}

/// The directory of a profile: the four predefined profiles share two.
fn profile_directory(profile: &str) -> &str {
    match profile {
        "dev" | "test" => "debug",
        "release" | "bench" => "release",
        custom => custom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::CompileMode;

    fn layout(kind: LayoutKind, platform: &CompilePlatform, profile: &str) -> BuildLayout {
        BuildLayout::new(kind, "/b", "/t", platform, profile)
    }

    #[test]
    fn notes_are_found_from_the_hash_file_alone() {
        let hash: CargoHash = "1b0ebca5d5ae1ed9".parse().unwrap();
        let library = FingerprintStem::new(CompileMode::Build, TargetKind::Lib, "a-b");
        let run = FingerprintStem::new(CompileMode::RunCustomBuild, TargetKind::CustomBuild, "build-script-build");
        for kind in [LayoutKind::Legacy, LayoutKind::PerUnit] {
            let layout = layout(kind, &CompilePlatform::Host, "dev");
            let files = layout.fingerprint_files("a-b", hash, &library);
            assert_eq!(notes_beside(&files.hash), [files.dep_info]);
            let files = layout.fingerprint_files("a-b", hash, &run);
            assert!(notes_beside(&files.hash).contains(&layout.run_files("a-b", hash).stdout), "{kind:?}");
        }
    }

    #[test]
    fn legacy_and_per_unit_paths() {
        let hash: CargoHash = "1b0ebca5d5ae1ed9".parse().unwrap();
        let stem = FingerprintStem::new(CompileMode::Build, TargetKind::Example, "ex-a");
        let run = FingerprintStem::new(CompileMode::RunCustomBuild, TargetKind::CustomBuild, "build-script-build");
        let target = CompilePlatform::Target { name: "wasm32-wasip1".into(), specification: None };

        let legacy = layout(LayoutKind::Legacy, &CompilePlatform::Host, "test");
        let files = legacy.fingerprint_files("a-b", hash, &stem);
        assert_eq!(files.dep_info, "/b/debug/.fingerprint/a-b-1b0ebca5d5ae1ed9/dep-example-ex-a");
        assert_eq!(legacy.relative(&files.json).unwrap(), "debug/.fingerprint/a-b-1b0ebca5d5ae1ed9/example-ex-a.json");
        assert_eq!(legacy.output_directory("a-b", hash, &stem), "/b/debug/examples");
        assert_eq!(legacy.output_directory("a-b", hash, &run), "/b/debug/build/a-b-1b0ebca5d5ae1ed9/out");
        assert_eq!(legacy.run_files("a-b", hash).stdout, "/b/debug/build/a-b-1b0ebca5d5ae1ed9/output");

        let new = layout(LayoutKind::PerUnit, &target, "bench");
        let files = new.fingerprint_files("a-b", hash, &stem);
        assert_eq!(files.hash, "/b/wasm32-wasip1/release/build/a-b/1b0ebca5d5ae1ed9/fingerprint/example-ex-a");
        assert_eq!(new.output_directory("a-b", hash, &stem), "/b/wasm32-wasip1/release/build/a-b/1b0ebca5d5ae1ed9/out");
        assert_eq!(new.run_files("a-b", hash).stdout, "/b/wasm32-wasip1/release/build/a-b/1b0ebca5d5ae1ed9/run/stdout");
        assert_eq!(new.doc_directory(), "/t/wasm32-wasip1/doc");
        assert_eq!(
            new.build_script_program("a-b", hash, "build-script-build"),
            "/b/wasm32-wasip1/release/build/a-b/1b0ebca5d5ae1ed9/out/build_script_build"
        );
    }
}
