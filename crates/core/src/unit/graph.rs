//! The graph of planned units: the same units, edges and profiles that cargo itself would plan.
//!
//! `plan` makes it; keys, resolve, collect and the command line read it. It is pure data: no path in it has
//! been opened, and nothing in it depends on what a dependency produced.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::cargo::profile::profile_directory;

/// A unit's place in [`UnitGraph::units`]. Dependencies come before their dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitIndex(pub u32);

/// A package's place in [`UnitGraph::packages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackageIndex(pub u32);

/// All units of one cargo command, dependencies first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitGraph {
    /// The packages that the units belong to, sorted by package id.
    pub packages: Vec<PlannedPackage>,
    /// The units, in an order in which every dependency precedes its dependents.
    pub units: Vec<PlannedUnit>,
    /// The units that the user asked for.
    pub roots: BTreeSet<UnitIndex>,
    /// What of the command could not be planned, and why. Cargo does it as always.
    pub passed_through: Vec<PassedThrough>,
}

/// A part of the command that is left to cargo alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PassedThrough {
    /// What it is, as the user would name it: a package and target, or an argument.
    pub what: String,
    /// Why it is not planned.
    pub why: String,
}

/// A package that takes part in the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPackage {
    /// Cargo's package id, as `cargo metadata` prints it (of this machine: it holds absolute paths).
    pub id: String,
    /// The name in the manifest.
    pub name: String,
    /// The version.
    pub version: String,
    /// Where the sources come from.
    pub source: PackageSource,
    /// The manifest, absolute.
    pub manifest_path: Utf8PathBuf,
    /// The `links` key.
    pub links: Option<String>,
    /// The metadata that cargo puts into the environment of rustc and build scripts:
    /// `CARGO_PKG_AUTHORS`, `CARGO_PKG_DESCRIPTION`, `CARGO_PKG_VERSION` and so on, by variable name.
    pub environment: BTreeMap<String, String>,
    /// All features that the manifest declares, sorted (cargo's `declared_features`).
    pub declared_features: BTreeSet<String>,
    /// `[package.metadata.nixcache] inputs`: files that proc macros and build scripts read unseen, and
    /// variables as `env:NAME`. An empty list says that there are none.
    pub declared_inputs: Option<Vec<String>>,
}

/// Where a package's sources come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackageSource {
    /// A registry. The checksum (from the lock file) names the sources exactly.
    Registry {
        /// The registry's URL as the package id has it.
        url: String,
        /// SHA-256 of the `.crate` file, hexadecimal; absent where the lock file has none.
        checksum: Option<String>,
    },
    /// A git repository at one commit.
    Git {
        /// The URL as the package id has it, without the commit.
        url: String,
        /// The full commit id.
        commit: String,
    },
    /// A directory. Its content is judged file by file.
    Path {
        /// Where it lies.
        boundary: BoundaryKind,
    },
}

/// Where a path package lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BoundaryKind {
    /// A member of the workspace.
    Member,
    /// No member, but below the workspace root.
    InsideWorkspace,
    /// Outside the workspace root: cargo's hash holds its absolute path.
    OutsideWorkspace,
}

/// One rustc or rustdoc invocation, or one run of a build script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedUnit {
    /// The package.
    pub package: PackageIndex,
    /// The target of the package.
    pub target: PlannedTarget,
    /// What is done with the target.
    pub mode: CompileMode,
    /// For which platform (cargo's `CompileKind`).
    pub platform: CompilePlatform,
    /// The features that are on, sorted.
    pub features: BTreeSet<String>,
    /// The profile, with everything inherited and overridden applied.
    pub profile: UnitProfile,
    /// `RUSTFLAGS` (for rustdoc units: `RUSTDOCFLAGS`) as cargo resolves them for this unit.
    pub rustflags: Vec<String>,
    /// The linker that cargo passes to rustc, from the configuration.
    pub linker: Option<String>,
    /// Arguments after `--` of `cargo rustc` or `cargo rustdoc`, for the units that get them.
    pub extra_args: Vec<String>,
    /// Whether cargo sets `CARGO_PRIMARY_PACKAGE` for it.
    pub primary: bool,
    /// The edges, sorted as cargo's unit graph sorts them.
    pub dependencies: Vec<UnitDependency>,
}

/// An edge of the graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitDependency {
    /// The unit depended upon.
    pub unit: UnitIndex,
    /// The name in `--extern`, where there is one.
    pub extern_crate_name: String,
    /// Whether the dependency is public (`-Z public-dependency`).
    pub public: bool,
    /// Whether `--extern noprelude:` is used.
    pub noprelude: bool,
}

/// A target of a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlannedTarget {
    /// The name in the manifest (not the crate name).
    pub name: String,
    /// Its kind.
    pub kind: TargetKind,
    /// The crate types.
    pub crate_types: Vec<CrateType>,
    /// The root source file, absolute.
    pub source_path: Utf8PathBuf,
    /// The edition.
    pub edition: String,
    /// `[lib] test`, `harness`, `doctest`, `doc` as the manifest has them.
    pub harness: bool,
}

/// What kind of target it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A library, of any crate type, proc macros included.
    Lib,
    /// A binary.
    Bin,
    /// An example.
    Example,
    /// An integration test.
    Test,
    /// A benchmark.
    Bench,
    /// A build script.
    CustomBuild,
}

/// A crate type, as rustc knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrateType {
    /// `bin`
    Bin,
    /// `lib`
    Lib,
    /// `rlib`
    Rlib,
    /// `dylib`
    Dylib,
    /// `cdylib`
    Cdylib,
    /// `staticlib`
    Staticlib,
    /// `proc-macro`
    ProcMacro,
    /// One that we do not know.
    Other(String),
}

impl CrateType {
    /// The name that rustc and cargo know it by.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bin => "bin",
            Self::Lib => "lib",
            Self::Rlib => "rlib",
            Self::Dylib => "dylib",
            Self::Cdylib => "cdylib",
            Self::Staticlib => "staticlib",
            Self::ProcMacro => "proc-macro",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for CrateType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What cargo does with a target (cargo's `CompileMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompileMode {
    /// rustc with full output.
    Build,
    /// rustc with metadata alone.
    Check {
        /// With the test harness.
        test: bool,
    },
    /// rustc with the test harness.
    Test,
    /// rustdoc.
    Doc,
    /// The run of a build script.
    RunCustomBuild,
}

/// For which platform a unit is compiled (cargo's `CompileKind`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompilePlatform {
    /// No `--target`: the host.
    Host,
    /// `--target`: a triple, or a JSON file.
    Target {
        /// The short name that cargo uses for directories.
        name: String,
        /// The content of the target specification, for JSON targets.
        specification: Option<String>,
    },
}

/// A profile as it applies to one unit. The strings are what rustc is given, or what cargo's unit graph prints.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitProfile {
    /// The name: `dev`, `release`, `test`, a custom one.
    pub name: String,
    /// Whether it inherits from `release`, in the end, rather than from `dev`: the `PROFILE` of build scripts.
    pub is_release: bool,
    /// `-C opt-level`.
    pub opt_level: String,
    /// The profile's `lto`, as cargo's unit graph prints it: `false`, `true`, `thin`, `fat`, `off`.
    pub lto: String,
    /// What cargo makes of `lto` for this unit (cargo's `Lto`): `run`, `run-thin`, `off`, `only-bitcode`,
    /// `object-and-bitcode`, `only-object`.
    pub unit_lto: String,
    /// `-Z codegen-backend`.
    pub codegen_backend: Option<String>,
    /// `-C codegen-units`.
    pub codegen_units: Option<u32>,
    /// `-C debuginfo`.
    pub debuginfo: String,
    /// `-C split-debuginfo`.
    pub split_debuginfo: Option<String>,
    /// `-C debug-assertions`.
    pub debug_assertions: bool,
    /// `-C overflow-checks`.
    pub overflow_checks: bool,
    /// `-C rpath`.
    pub rpath: bool,
    /// Whether cargo passes `-C incremental` for this unit.
    pub incremental: bool,
    /// `-C panic`.
    pub panic: String,
    /// `-C strip`.
    pub strip: String,
    /// `profile.rustflags` (unstable).
    pub rustflags: Vec<String>,
    /// `trim-paths` (unstable).
    pub trim_paths: Option<String>,
}

impl UnitProfile {
    /// Everything that tells it from profiles that compile otherwise, as text. Of the name only the directory counts,
    /// which generated files may name: `cargo test` uses what `cargo build` compiled.
    pub fn identity(&self) -> String {
        let directory = profile_directory(&self.name).to_owned();
        format!("{:?}", Self { name: directory, ..self.clone() })
    }
}

impl UnitGraph {
    /// The unit at `index`.
    pub fn unit(&self, index: UnitIndex) -> &PlannedUnit {
        &self.units[index.0 as usize]
    }

    /// The package of `unit`.
    pub fn package(&self, unit: &PlannedUnit) -> &PlannedPackage {
        &self.packages[unit.package.0 as usize]
    }

    /// All units with their indices, dependencies first.
    pub fn iter(&self) -> impl Iterator<Item = (UnitIndex, &PlannedUnit)> {
        (0..).map(UnitIndex).zip(&self.units)
    }

    /// A unit as people name it: `serde 1.0.0 lib`, `ring 0.17.0 run-build-script`.
    pub fn describe(&self, index: UnitIndex) -> String {
        let unit = self.unit(index);
        let package = self.package(unit);
        let what = match (unit.mode, unit.target.kind) {
            (CompileMode::RunCustomBuild, _) => "run-build-script".to_owned(),
            (_, TargetKind::CustomBuild) => "build-script".to_owned(),
            (CompileMode::Doc, TargetKind::Lib) => "doc".to_owned(),
            (CompileMode::Test | CompileMode::Check { test: true }, TargetKind::Lib) => "lib test".to_owned(),
            (_, TargetKind::Lib) => "lib".to_owned(),
            (CompileMode::Test | CompileMode::Check { test: true }, TargetKind::Bin) => {
                format!("bin {} test", unit.target.name)
            }
            (_, TargetKind::Bin) => format!("bin {}", unit.target.name),
            (_, TargetKind::Example) => format!("example {}", unit.target.name),
            (_, TargetKind::Test) => format!("test {}", unit.target.name),
            (_, TargetKind::Bench) => format!("bench {}", unit.target.name),
        };
        format!("{} {} {what}", package.name, package.version)
    }
}

impl PlannedPackage {
    /// The directory of the manifest.
    pub fn root(&self) -> &camino::Utf8Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// Whether the package belongs to a path of the user rather than to a registry or git repository.
    pub fn is_path(&self) -> bool {
        matches!(self.source, PackageSource::Path { .. })
    }

    /// Whether it is a member of the workspace.
    pub fn is_member(&self) -> bool {
        matches!(self.source, PackageSource::Path { boundary: BoundaryKind::Member })
    }
}
