//! The table of inputs: everything that goes into a unit except what its dependencies produced, where it is
//! hashed, and why.
//!
//! [`TABLE`] is both the code that computes a unit's inputs hash and the source of `docs/correctness.md`.
//! A row that is missing here is a wrong hit waiting to happen: add the row, its value and its test together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::digest::{ContentDigest, Key, KeyHasher};

use super::graph::{
    BoundaryKind, CompileMode, CompilePlatform, CrateType, PackageSource, PlannedPackage, PlannedUnit, TargetKind,
    UnitGraph, UnitIndex,
};
use super::keys::runs_below;

/// The version of every key. Any change to what a row holds, or to the artifact format, moves it.
const DOMAIN: &str = "unit-inputs/7";

/// What all units of one build share.
#[derive(Clone, Debug, Default)]
pub struct BuildFacts {
    /// `rustc -vV`, whole.
    pub rustc_version: String,
    /// The toolchain's libraries, by name and content: two builds of one release differ here.
    pub toolchain_identity: String,
    /// `cargo -vV`, release and commit.
    pub cargo_version: String,
    /// Cargo's directory layout: fingerprints hold layout paths.
    pub layout: String,
    /// `--print cfg` for the host and for each target, by platform directory (empty for the host).
    pub cfg: BTreeMap<String, String>,
    /// The processor, for code that is compiled for `native`.
    pub processor: String,
    /// Whether variables that build scripts read tell C compilers to compile for this processor.
    pub native_c_code: bool,
    /// `RUSTC_WORKSPACE_WRAPPER`: name and content of the program (clippy's driver, for example).
    pub workspace_wrapper: Option<String>,
    /// `RUSTC_WRAPPER`: name and content, unless it is a cache, which changes nothing.
    pub rustc_wrapper: Option<String>,
    /// What configures the workspace wrapper from files: `clippy.toml` by content.
    pub wrapper_configuration: Option<String>,
    /// The linker driver of target outputs, by content, for each platform directory.
    pub linkers: BTreeMap<String, String>,
    /// Variables that rustc and linkers read although cargo does not track them, sorted.
    pub untracked_variables: Vec<(String, String)>,
    /// Variables of Nix's compiler wrappers that add to the linker's arguments, sorted.
    pub nix_linking: Vec<(String, String)>,
    /// `RUSTLER_PRIMARY_NIF_INIT`, which rustler's macro reads although nobody tracks it.
    pub primary_nif_init: Option<String>,
    /// Manifests of path packages and vendored ones by package id: their bytes, and what they inherit.
    pub manifests: BTreeMap<String, String>,
    /// Directories whose files cargo takes for immutable. What comes from a registry and lies elsewhere is vendored.
    pub immutable: Vec<camino::Utf8PathBuf>,
    /// Whether members are compiled with remapped paths.
    pub remap_members: bool,
    /// The workspace root, hidden in every path below it.
    pub workspace_root: camino::Utf8PathBuf,
}

/// Variables that change what rustc or a linker produces and that no cargo fingerprint holds.
pub const UNTRACKED_VARIABLES: [&str; 12] = [
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "LD_RUN_PATH",
    "LIBRARY_PATH",
    "MACOSX_DEPLOYMENT_TARGET",
    "RUSTC_BOOTSTRAP",
    "RUSTC_FORCE_INCREMENTAL",
    "RUSTC_FORCE_RUSTC_VERSION",
    "RUST_TARGET_PATH",
    "SOURCE_DATE_EPOCH",
    "TVOS_DEPLOYMENT_TARGET",
];

/// What the variables begin with by which Nix's compiler wrappers are told what to link, and how. Each has variants for
/// the host's side and for the target.
pub const NIX_LINKING_VARIABLES: [&str; 4] =
    ["NIX_CFLAGS_LINK", "NIX_DYNAMIC_LINKER", "NIX_HARDENING_ENABLE", "NIX_LDFLAGS"];

/// One unit, as the rows see it.
pub(super) struct UnitContext<'a> {
    graph: &'a UnitGraph,
    unit: &'a PlannedUnit,
    package: &'a PlannedPackage,
    build: &'a BuildFacts,
    /// Whether a proc macro takes part in compiling the unit, at any distance.
    expands_macros: bool,
    /// Whether rustler takes part, whose macro makes `nif_init`, at any distance. For rustler itself it doesn't.
    uses_rustler: bool,
}

impl UnitContext<'_> {
    /// Whether the package comes from a registry or repository, and lies where everybody can change it.
    fn is_vendored(&self) -> bool {
        let root = self.package.root();
        !self.package.is_path() && !self.build.immutable.iter().any(|directory| root.starts_with(directory))
    }
}

/// Where an input is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// In the inputs hash of the unit, from the plan alone.
    Planned,
    /// In the unit key, from the outputs of the dependencies.
    Dependency,
    /// In a dynamic key, from what the unit was seen to read.
    Dynamic,
    /// Not hashed by us: cargo compares it itself before it believes a restored unit.
    Cargo,
}

/// A row of the table.
pub struct Input {
    /// The name that `cargo nixcache why` prints.
    pub name: &'static str,
    /// Which units it applies to.
    pub units: &'static str,
    /// Where it is hashed.
    pub hashed: Hashed,
    /// Why it matters.
    pub why: &'static str,
    /// The test that fails if the row is forgotten.
    pub test: &'static str,
    value: Option<fn(&UnitContext<'_>) -> Option<String>>,
}

const fn planned(
    name: &'static str,
    units: &'static str,
    why: &'static str,
    test: &'static str,
    value: fn(&UnitContext<'_>) -> Option<String>,
) -> Input {
    Input { name, units, hashed: Hashed::Planned, why, test, value: Some(value) }
}

const fn elsewhere(
    name: &'static str,
    units: &'static str,
    hashed: Hashed,
    why: &'static str,
    test: &'static str,
) -> Input {
    Input { name, units, hashed, why, test, value: None }
}

/// Every input of a unit.
pub const TABLE: &[Input] = &[
    planned(
        "rustc",
        "all",
        "another compiler writes other code, and metadata that ours cannot read",
        "toolchains",
        |context| Some(format!("{}\n{}", context.build.rustc_version, context.build.toolchain_identity)),
    ),
    planned("cargo", "all", "fingerprints and unit hashes differ between releases of cargo", "toolchains", |context| {
        Some(context.build.cargo_version.clone())
    }),
    planned("layout", "all", "fingerprints hold paths of cargo's directory layout", "done", |context| {
        Some(context.build.layout.clone())
    }),
    planned(
        "package",
        "all",
        "name, version and origin; a registry checksum or a commit names the sources exactly",
        "lock_file",
        package,
    ),
    planned(
        "manifest",
        "path packages, vendored ones",
        "targets, lints and settings that no other row holds; macros and build scripts read it",
        "manifests",
        |context| context.build.manifests.get(&context.package.id).cloned(),
    ),
    planned(
        "package environment",
        "path packages, vendored ones",
        "`CARGO_PKG_*` can be read by any macro or build script",
        "manifests",
        |context| {
            (context.package.is_path() || context.is_vendored()).then(|| {
                context.package.environment.iter().fold(String::new(), |mut text, (name, value)| {
                    let _ = write!(text, "{name}={}:{value};", value.len());
                    text
                })
            })
        },
    ),
    planned("target", "all", "which part of the package is compiled, as what", "targets", |context| {
        let target = &context.unit.target;
        let source = target.source_path.strip_prefix(context.package.root()).unwrap_or(&target.source_path);
        Some(format!(
            "{:?} {:?} {:?} {source:?} {} {}",
            target.kind, target.name, target.crate_types, target.edition, target.harness
        ))
    }),
    planned("mode", "all", "check, build, test and doc produce different files", "selections", |context| {
        Some(format!("{:?}", context.unit.mode))
    }),
    planned("platform", "all", "code for another target; a JSON target counts by content", "profiles", |context| {
        Some(match &context.unit.platform {
            CompilePlatform::Host => "host".to_owned(),
            CompilePlatform::Target { name, specification } => format!("{name} {specification:?}"),
        })
    }),
    planned("features", "all", "conditional compilation", "selections", |context| {
        Some(format!("{:?}", context.unit.features))
    }),
    planned(
        "declared features",
        "all",
        "they are in `--check-cfg`, so in warnings and in cargo's fingerprint",
        "manifests",
        |context| Some(format!("{:?}", context.package.declared_features)),
    ),
    planned(
        "profile",
        "all",
        "optimisation, debug information, panics, LTO and the rest of the profile",
        "profiles",
        |context| Some(context.unit.profile.identity()),
    ),
    planned(
        "rustflags",
        "all",
        "flags by every road: configuration, variables, target tables",
        "profiles",
        |context| Some(format!("{:?}", context.unit.rustflags)),
    ),
    planned(
        "extra arguments",
        "units named to `cargo rustc`",
        "they reach rustc as they are",
        "selections",
        |context| Some(format!("{:?}", context.unit.extra_args)),
    ),
    planned(
        "cfg",
        "all",
        "what `cfg()` can see, the target features of `target-cpu=native` included",
        "profiles",
        |context| context.build.cfg.get(platform_name(&context.unit.platform)).cloned(),
    ),
    planned(
        "processor",
        "units with `target-cpu=native`, and build-script runs with `native` in `CFLAGS` and the like",
        "the same flag is other code on another processor",
        "profiles",
        |context| {
            let native =
                context.unit.rustflags.iter().chain(&context.unit.extra_args).any(|flag| flag.contains("native"));
            let native_c = context.build.native_c_code && context.unit.mode == CompileMode::RunCustomBuild;
            (native || native_c).then(|| context.build.processor.clone())
        },
    ),
    planned("linker", "all", "the configured linker is in cargo's fingerprint", "profiles", |context| {
        Some(format!("{:?}", context.unit.linker))
    }),
    planned(
        "linker program",
        "linked target outputs",
        "another linker driver links other start-up code and libraries",
        "profiles",
        |context| {
            links_for_target(context.unit)
                .then(|| context.build.linkers.get(platform_name(&context.unit.platform)).cloned().unwrap_or_default())
        },
    ),
    planned(
        "Nix's linker flags",
        "linked target outputs",
        "Nix's compiler wrappers add `NIX_LDFLAGS` and the like to what they link",
        "unit::tests",
        |context| {
            let counts = links_for_target(context.unit) && !context.build.nix_linking.is_empty();
            counts.then(|| format!("{:?}", context.build.nix_linking))
        },
    ),
    planned("wrapper", "all", "a wrapper may add arguments or run another compiler", "unit::tests", |context| {
        context.build.rustc_wrapper.clone()
    }),
    planned(
        "workspace wrapper",
        "path packages",
        "clippy and its like run in place of rustc for members",
        "output",
        |context| {
            (context.package.is_path() && context.unit.mode != CompileMode::RunCustomBuild)
                .then(|| format!("{:?} {:?}", context.build.workspace_wrapper, context.build.wrapper_configuration))
        },
    ),
    planned(
        "primary package",
        "units that macros take part in",
        "`CARGO_PRIMARY_PACKAGE` can be read by macros: rustler drops `nif_init` without it",
        "selections",
        |context| context.expands_macros.then(|| context.unit.primary.to_string()),
    ),
    planned(
        "nif init",
        "path packages that macros take part in, and others that use rustler",
        "`RUSTLER_PRIMARY_NIF_INIT` makes rustler put `nif_init` into a library that is built as a dependency",
        "nif_elixir",
        |context| {
            let sees = context.uses_rustler || (context.package.is_path() && context.expands_macros);
            context.build.primary_nif_init.clone().filter(|_| sees)
        },
    ),
    planned("untracked variables", "all", "rustc and linkers read them behind cargo's back", "variables", |context| {
        Some(format!("{:?}", context.build.untracked_variables))
    }),
    planned(
        "path remapping",
        "path packages",
        "remapped and plain members differ in debug information and metadata",
        "unit::tests",
        |context| context.package.is_path().then(|| context.build.remap_members.to_string()),
    ),
    planned("dependency edges", "all", "the names in `--extern`", "sources", |context| {
        let mut edges: Vec<String> = context
            .unit
            .dependencies
            .iter()
            .map(|edge| {
                let mode = context.graph.unit(edge.unit).mode;
                format!("{:?} {} {} {mode:?}", edge.extern_crate_name, edge.public, edge.noprelude)
            })
            .collect();
        edges.sort_unstable();
        Some(edges.join(";"))
    }),
    elsewhere(
        "dependency outputs",
        "all",
        Hashed::Dependency,
        "rustc accepts only the very metadata that it compiled against; of programs that are run, the key counts",
        "mixing",
    ),
    elsewhere(
        "source files",
        "path packages, and files outside any package",
        Hashed::Dynamic,
        "content decides, never times: every file that dep-info names",
        "times",
    ),
    elsewhere(
        "other places of modules",
        "path packages",
        Hashed::Dynamic,
        "`foo/mod.rs` beside `foo.rs` is an error: rustc looks for both, and names the one that is there",
        "macros",
    ),
    elsewhere(
        "files that macros can read",
        "path packages, and vendored ones, that a macro which reads files takes part in",
        Hashed::Dynamic,
        "a file more in a directory that a macro lists is named by nobody; `inputs` in the manifest says it exactly",
        "macros",
    ),
    elsewhere(
        "git repository",
        "runs of build scripts of path packages and vendored ones that ask git, and what macros that ask it take part in",
        Hashed::Dynamic,
        "commit, branch, tags and edits are in no file that a script names",
        "repository",
    ),
    elsewhere(
        "environment variables",
        "units that read them",
        Hashed::Dynamic,
        "`env!`, `option_env!`, `rerun-if-env-changed`; values are kept as hashes",
        "variables",
    ),
    elsewhere(
        "files a build script names",
        "build-script runs",
        Hashed::Dynamic,
        "`rerun-if-changed`, inside the package or outside; the whole package where it names nothing",
        "generated",
    ),
    elsewhere(
        "programs a build script starts",
        "build-script runs",
        Hashed::Dynamic,
        "another release of a code generator makes other code; by content: those that the source names, in packages from \
         elsewhere without the usual ones (`sh`, `make`), and interpreters that the program names",
        "generated",
    ),
    elsewhere(
        "processor that scripts look at",
        "runs of build scripts that hold `-march=native` or `/proc/cpuinfo`",
        Hashed::Dynamic,
        "what is made for one processor may not run on another",
        "artifact::reach",
    ),
    elsewhere(
        "system libraries",
        "build-script runs and linked outputs",
        Hashed::Dynamic,
        "what the linker would take for `-l`, and all that lies in the directories it is given, by content; the C library \
         itself with `+crt-static`",
        "generated",
    ),
    elsewhere(
        "linker scripts and programs",
        "linked outputs",
        Hashed::Dynamic,
        "files that arguments name, what those include, and a linker by name or relative path",
        "linking",
    ),
    elsewhere(
        "C compiler",
        "build-script runs that leave native code",
        Hashed::Dynamic,
        "another compiler or libc makes other objects",
        "generated",
    ),
    elsewhere(
        "glibc",
        "programs and libraries that run on the host",
        Hashed::Dynamic,
        "an older glibc cannot load them: the one that belongs to the dynamic linker they name; libstdc++ likewise",
        "artifact::dynamic",
    ),
    elsewhere(
        "bound directories",
        "units whose files hold a path of the producer outside debug information",
        Hashed::Dynamic,
        "the path is only right where it is the same",
        "files",
    ),
    elsewhere(
        "declared inputs",
        "packages with `[package.metadata.nixcache] inputs`",
        Hashed::Dynamic,
        "what macros read unseen, as the user declares it",
        "declared",
    ),
    elsewhere(
        "cargo's fingerprint",
        "all",
        Hashed::Cargo,
        "cargo compares every restored unit with its own record and rebuilds what it does not believe",
        "done",
    ),
];

/// The inputs hash of one unit, with the value of every row for `why`.
#[derive(Clone, Debug)]
pub struct UnitInputs {
    /// The hash of all rows.
    pub key: Key,
    /// The digest of each row that applies, by name.
    pub rows: Vec<(&'static str, ContentDigest)>,
    /// The procedural macros that may take part in compiling the unit: those of its dependencies at any distance, which
    /// can hand them on. Sorted.
    pub macros: Vec<UnitIndex>,
    /// The runs of build scripts below these macros, which can read what those left while they expand. Sorted.
    pub macro_runs: Vec<UnitIndex>,
}

/// Computes the inputs of every unit of `graph`, in its order.
pub fn unit_inputs(graph: &UnitGraph, build: &BuildFacts) -> Vec<UnitInputs> {
    let on_rustler = dependents(graph, |unit| graph.package(unit).name == "rustler");
    let macros = macros_below(graph);
    let runs: BTreeMap<UnitIndex, BTreeSet<UnitIndex>> =
        graph.iter().filter(|(_, unit)| is_macro(unit)).map(|(index, _)| (index, runs_below(graph, index))).collect();
    let inputs = |((index, unit), macros): ((UnitIndex, _), BTreeSet<UnitIndex>)| {
        let context = UnitContext {
            graph,
            unit,
            package: graph.package(unit),
            build,
            expands_macros: !macros.is_empty(),
            uses_rustler: on_rustler.contains(&index),
        };
        let (key, rows) = rows_of(&context);
        let macro_runs: BTreeSet<UnitIndex> =
            macros.iter().filter_map(|found| runs.get(found)).flatten().copied().collect();
        let (macros, macro_runs) = (macros.into_iter().collect(), macro_runs.into_iter().collect());
        UnitInputs { key, rows, macros, macro_runs }
    };
    graph.iter().zip(macros).map(inputs).collect()
}

fn is_macro(unit: &PlannedUnit) -> bool {
    unit.target.crate_types.contains(&CrateType::ProcMacro)
}

/// The procedural macros of each unit, in the graph's order.
fn macros_below(graph: &UnitGraph) -> Vec<BTreeSet<UnitIndex>> {
    let mut below: Vec<BTreeSet<UnitIndex>> = Vec::with_capacity(graph.units.len());
    for (_, unit) in graph.iter() {
        let mut macros = BTreeSet::new();
        for edge in &unit.dependencies {
            let dependency = graph.unit(edge.unit);
            if is_macro(dependency) {
                macros.insert(edge.unit);
            } else if dependency.target.kind == TargetKind::Lib {
                macros.extend(below[edge.unit.0 as usize].iter().copied());
            }
        }
        below.push(macros);
    }
    below
}

/// The units that depend on one of which `is_it` is true, at any distance.
fn dependents(graph: &UnitGraph, is_it: impl Fn(&PlannedUnit) -> bool) -> BTreeSet<UnitIndex> {
    let mut found: BTreeSet<UnitIndex> = BTreeSet::new();
    for (index, unit) in graph.iter() {
        if unit.dependencies.iter().any(|edge| is_it(graph.unit(edge.unit)) || found.contains(&edge.unit)) {
            found.insert(index);
        }
    }
    found
}

fn rows_of(context: &UnitContext<'_>) -> (Key, Vec<(&'static str, ContentDigest)>) {
    let mut hasher = KeyHasher::new(DOMAIN);
    let mut rows = Vec::with_capacity(TABLE.len());
    for row in TABLE {
        let value = row.value.and_then(|value| value(context));
        hasher.optional(row.name, value.as_deref());
        if let Some(value) = value {
            rows.push((row.name, ContentDigest::of(value.as_bytes())));
        }
    }
    (hasher.key(), rows)
}

fn package(context: &UnitContext<'_>) -> Option<String> {
    let PlannedPackage { name, version, source, links, .. } = context.package;
    let origin = match source {
        PackageSource::Registry { url, checksum } => format!("registry {url} {checksum:?}"),
        PackageSource::Git { url, commit } => format!("git {url} {commit}"),
        // Cargo's own hash of a package outside the workspace holds its absolute path.
        PackageSource::Path { boundary: BoundaryKind::OutsideWorkspace } => {
            format!("outside {}", context.package.root())
        }
        PackageSource::Path { .. } => {
            let root = context.package.root();
            format!("inside {}", root.strip_prefix(&context.build.workspace_root).unwrap_or(root))
        }
    };
    let vendored = if context.is_vendored() { "vendored" } else { "" };
    Some(format!("{name:?} {version} {origin:?} {links:?} {vendored}"))
}

/// The directory name of a platform: empty for the host.
pub fn platform_name(platform: &CompilePlatform) -> &str {
    match platform {
        CompilePlatform::Host => "",
        CompilePlatform::Target { name, .. } => name,
    }
}

/// Whether the linker makes an output of the unit that is meant for the user rather than for the build.
pub(crate) fn links_for_target(unit: &PlannedUnit) -> bool {
    if unit.target.kind == TargetKind::CustomBuild || !matches!(unit.mode, CompileMode::Build | CompileMode::Test) {
        return false;
    }
    unit.mode == CompileMode::Test
        || unit.target.crate_types.iter().any(|crate_type| {
            matches!(crate_type, CrateType::Bin | CrateType::Dylib | CrateType::Cdylib | CrateType::Other(_))
        })
}

/// The table as a Markdown document.
pub fn table_markdown() -> String {
    let mut text = String::from("| input | of which units | hashed in | why | test |\n|---|---|---|---|---|\n");
    for row in TABLE {
        let hashed = match row.hashed {
            Hashed::Planned => "inputs hash",
            Hashed::Dependency => "unit key",
            Hashed::Dynamic => "dynamic key",
            Hashed::Cargo => "cargo itself",
        };
        let _ = writeln!(text, "| {} | {} | {hashed} | {} | `{}` |", row.name, row.units, row.why, row.test);
    }
    text
}
