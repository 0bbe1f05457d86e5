//! The names of cargo's fingerprint files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::unit::{CompileMode, TargetKind};

/// What is done with the target, as far as cargo's file names tell. `build` and `check` look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitFlavor {
    /// rustc without the test harness (`build`, `check`).
    Plain,
    /// rustc with the test harness, or a benchmark.
    Test,
    /// rustdoc.
    Doc,
    /// The run of a build script.
    Run,
}

/// The name of a unit's fingerprint file: `[test-|doc-|run-]<kind>-<target name>`.
///
/// The target name of a library is its crate name with underscores where cargo infers it from the package;
/// of every other target it is the name in the manifest, hyphens included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FingerprintStem {
    flavor: UnitFlavor,
    kind: TargetKind,
    name: String,
}

/// Why a file name is not that of a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not the name of a fingerprint file")]
pub struct StemError {
    text: String,
}

impl FingerprintStem {
    /// The stem of a target that is compiled, documented or run.
    pub fn new(mode: CompileMode, kind: TargetKind, name: impl Into<String>) -> Self {
        Self { flavor: flavor(mode), kind, name: name.into() }
    }

    /// What is done with the target.
    pub fn flavor(&self) -> UnitFlavor {
        self.flavor
    }

    /// The kind of target.
    pub fn kind(&self) -> TargetKind {
        self.kind
    }

    /// The name of the target.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the run of a build script.
    pub fn is_run(&self) -> bool {
        self.flavor == UnitFlavor::Run
    }
}

fn flavor(mode: CompileMode) -> UnitFlavor {
    match mode {
        CompileMode::Build | CompileMode::Check { test: false } => UnitFlavor::Plain,
        CompileMode::Test | CompileMode::Check { test: true } => UnitFlavor::Test,
        CompileMode::Doc => UnitFlavor::Doc,
        CompileMode::RunCustomBuild => UnitFlavor::Run,
    }
}

/// Cargo's `TargetKind::description`.
fn kind_name(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Lib => "lib",
        TargetKind::Bin => "bin",
        TargetKind::Example => "example",
        TargetKind::Test => "integration-test",
        TargetKind::Bench => "bench",
        TargetKind::CustomBuild => "build-script",
    }
}

const KINDS: [TargetKind; 6] = [
    TargetKind::Lib,
    TargetKind::Bin,
    TargetKind::Example,
    TargetKind::Test,
    TargetKind::Bench,
    TargetKind::CustomBuild,
];

const FLAVORS: [(UnitFlavor, &str); 3] =
    [(UnitFlavor::Test, "test-"), (UnitFlavor::Doc, "doc-"), (UnitFlavor::Run, "run-")];

impl fmt::Display for FingerprintStem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = FLAVORS.iter().find(|(flavor, _)| *flavor == self.flavor).map_or("", |(_, prefix)| prefix);
        write!(f, "{prefix}{}-{}", kind_name(self.kind), self.name)
    }
}

impl FromStr for FingerprintStem {
    type Err = StemError;

    fn from_str(text: &str) -> Result<Self, StemError> {
        let (flavor, rest) = FLAVORS
            .iter()
            .find_map(|(flavor, prefix)| Some((*flavor, text.strip_prefix(prefix)?)))
            .unwrap_or((UnitFlavor::Plain, text));
        KINDS
            .into_iter()
            .find_map(|kind| {
                let name = rest.strip_prefix(kind_name(kind))?.strip_prefix('-')?;
                // No crate can have a dot in its name; `.json` and rustdoc's `.d` lie beside the fingerprint.
                (!name.is_empty() && !name.contains('.')).then(|| Self { flavor, kind, name: name.to_owned() })
            })
            .ok_or_else(|| StemError { text: text.to_owned() })
    }
}

impl TryFrom<String> for FingerprintStem {
    type Error = StemError;

    fn try_from(text: String) -> Result<Self, StemError> {
        text.parse()
    }
}

impl From<FingerprintStem> for String {
    fn from(stem: FingerprintStem) -> Self {
        stem.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cargos() {
        let stem = |mode, kind, name: &str| FingerprintStem::new(mode, kind, name).to_string();
        assert_eq!(stem(CompileMode::Build, TargetKind::Lib, "app_one"), "lib-app_one");
        assert_eq!(stem(CompileMode::Check { test: false }, TargetKind::Bin, "other-bin"), "bin-other-bin");
        assert_eq!(stem(CompileMode::Check { test: true }, TargetKind::Lib, "a"), "test-lib-a");
        assert_eq!(stem(CompileMode::Test, TargetKind::Test, "it"), "test-integration-test-it");
        assert_eq!(stem(CompileMode::Test, TargetKind::Bench, "speed"), "test-bench-speed");
        assert_eq!(stem(CompileMode::Build, TargetKind::Example, "ex-a"), "example-ex-a");
        assert_eq!(stem(CompileMode::Doc, TargetKind::Bin, "b"), "doc-bin-b");
        assert_eq!(
            stem(CompileMode::Build, TargetKind::CustomBuild, "build-script-build"),
            "build-script-build-script-build"
        );
        assert_eq!(
            stem(CompileMode::RunCustomBuild, TargetKind::CustomBuild, "build-script-build"),
            "run-build-script-build-script-build"
        );
    }

    #[test]
    fn every_stem_round_trips() {
        let modes = [CompileMode::Build, CompileMode::Test, CompileMode::Doc, CompileMode::RunCustomBuild];
        for mode in modes {
            for kind in KINDS {
                for name in ["a", "a-b", "test-lib-x", "build-script-build"] {
                    let stem = FingerprintStem::new(mode, kind, name);
                    assert_eq!(stem.to_string().parse::<FingerprintStem>().unwrap(), stem);
                }
            }
        }
        for text in [
            "dep-lib-a",
            "output-lib-a",
            "invoked.timestamp",
            "lib-",
            "lib",
            "tests-lib-a",
            "lib-a.json",
            "doc-lib-a.d",
        ] {
            assert!(text.parse::<FingerprintStem>().is_err(), "{text}");
        }
    }
}
