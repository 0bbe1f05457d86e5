//! Which dynamic inputs a unit that was just built has.
//!
//! Collect calls these with what rustc and the build script said. What is left out is what the unit's key holds
//! already:
//!
//! | left out | because |
//! |---|---|
//! | files in a package of a registry or git repository, for its own units | the checksum or commit pins them |
//! | files in `OUT_DIR`s of the unit or its dependencies, but not what lies behind links out of them | they are in the output digest of the run |
//! | `CARGO_PKG_*` of such a package | the checksum or commit pins the manifest |
//! | `CARGO_CRATE_NAME`, `CARGO_BIN_NAME` | the unit's target |
//! | `OUT_DIR`, `CARGO_BIN_EXE_*`, `CARGO_TARGET_TMPDIR` where cargo sets them | places; the (wary) reference scan finds where they were kept |
//! | variables that the build script set by `rustc-env` | they are in the output digest of the run |
//! | for build scripts also `TARGET`, `HOST`, `PROFILE`, `OPT_LEVEL`, `DEBUG`, `CARGO_ENCODED_RUSTFLAGS`, `RUSTC`, `RUSTDOC` | the unit's platform, profile, flags and toolchain |
//! | for build scripts also `NUM_JOBS`, `RUSTC_WRAPPER`, `RUSTC_WORKSPACE_WRAPPER` | they do not change what is made |
//!
//! `CARGO_MANIFEST_DIR`, `CARGO_MANIFEST_PATH`, `CARGO`, `CARGO_PRIMARY_PACKAGE` and, for path packages,
//! `CARGO_PKG_*` stay in: they are compared where code reads them, and only there.

use std::collections::BTreeSet;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::super::Roots;
use super::super::binary_facts::BinaryFacts;
use super::DynamicInput;
use super::modules::other_modules;
use super::ways_out::{Way, links_below};
use crate::cargo::invocation::{NativeLibrary, RustcInvocation};

/// The package of a unit, and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct PackageOnDisk<'a> {
    /// The directory of the manifest.
    pub root: &'a Utf8Path,
    /// Whether its files are pinned by a checksum or commit.
    pub immutable: bool,
    /// Whether it comes from a repository, which can hold links to anywhere. Packages of registries hold none.
    pub can_link: bool,
    /// The `OUT_DIR`s of the unit and its dependencies.
    pub out_dirs: &'a [Utf8PathBuf],
}

impl PackageOnDisk<'_> {
    fn pins(&self, path: &Utf8Path) -> bool {
        self.is_immutable(path) || self.way(path) == Some(Way::Within)
    }

    /// Whether a checksum or commit pins a file.
    fn is_immutable(&self, path: &Utf8Path) -> bool {
        // `src/../../other` is below the package in name only.
        let clean = normalised(path);
        self.immutable
            && clean.starts_with(self.root)
            && !(self.can_link && matches!(Way::of(&[self.root], &clean), Some(Way::Out { .. })))
    }

    /// Where a path leads that begins in an `OUT_DIR`.
    fn way(&self, path: &Utf8Path) -> Option<Way> {
        Way::of(self.out_dirs, path)
    }

    /// The inputs of somebody who reads a file, or a whole directory.
    fn inputs_of_reading(&self, path: &Utf8Path, is_directory: bool, roots: &Roots) -> BTreeSet<DynamicInput> {
        if self.is_immutable(path) {
            return BTreeSet::new();
        }
        // Here, `..` and links only lead elsewhere than they say where the path begins in an `OUT_DIR`.
        let way = self.way(path).unwrap_or_else(|| Way::Out { path: path.to_owned(), relative: false });
        way.inputs(is_directory, roots)
    }
}

/// What rustc said that it read.
#[derive(Clone, Copy, Debug)]
pub struct CompileFindings<'a> {
    /// The crate's own source file.
    pub root: &'a Utf8Path,
    /// The files of its dep-info, absolute.
    pub files: &'a [Utf8PathBuf],
    /// The variables of its dep-info (`# env-dep:`).
    pub variables: &'a [String],
    /// Those of the variables that cargo set for this very unit: places, and the name of a program.
    pub set_by_cargo: &'a BTreeSet<String>,
    /// The variables that the package's build script set by `rustc-env`.
    pub set_by_build_script: &'a BTreeSet<String>,
    /// Its command line.
    pub invocation: &'a RustcInvocation,
}

/// What a build script said, and what it left.
#[derive(Clone, Copy)]
pub struct BuildScriptFindings<'a> {
    /// `rerun-if-changed`, as written.
    pub rerun_if_changed: &'a [String],
    /// `rerun-if-env-changed`.
    pub rerun_if_env_changed: &'a [String],
    /// `rustc-link-lib`, as written: `[kind[:modifiers]=]name`.
    pub link_libraries: &'a [String],
    /// `rustc-link-search`, as written: `[kind=]directory`.
    pub link_search: &'a [String],
    /// Compiled code that is not Rust's, where there is any.
    pub native: Option<NativeCode<'a>>,
}

/// What is known of how native code was compiled.
#[derive(Clone, Copy)]
pub struct NativeCode<'a> {
    /// The value of a variable in what cargo starts.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The triple that the code is for.
    pub target: &'a str,
    /// The triple of the machine that compiles.
    pub host: &'a str,
}

impl NativeCode<'_> {
    /// Whether files in `OUT_DIR` are compiled code that is not Rust's.
    pub fn is_in<'a>(files: impl IntoIterator<Item = &'a Utf8Path>) -> bool {
        files.into_iter().any(|file| {
            let name = file.file_name().unwrap_or_default();
            matches!(file.extension(), Some("o" | "obj" | "a" | "lib" | "so" | "dylib" | "dll"))
                || name.contains(".so.")
        })
    }
}

/// Cargo runs the build script on every build: it names a file that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the build script reruns whenever {path} is missing, and it is")]
pub struct AlwaysRuns {
    /// The file.
    pub path: Utf8PathBuf,
}

/// The dynamic inputs of a unit that rustc compiled.
pub fn inputs_of_rustc(
    package: PackageOnDisk<'_>,
    findings: CompileFindings<'_>,
    roots: &Roots,
) -> BTreeSet<DynamicInput> {
    let files = findings.files.iter();
    let mut inputs: BTreeSet<_> = files.flat_map(|path| package.inputs_of_reading(path, false, roots)).collect();
    let own = findings.files.iter().filter(|file| !package.pins(file));
    let paths: Vec<_> = other_modules(own, findings.root).iter().map(|path| roots.hide(path)).collect();
    if !paths.is_empty() {
        inputs.insert(DynamicInput::NoneOf { paths });
    }
    for name in findings.variables {
        let is_cargos = name == "CARGO_CRATE_NAME" || findings.set_by_cargo.contains(name);
        let is_pinned = package.immutable && name.starts_with("CARGO_PKG_");
        if !is_cargos && !is_pinned && !findings.set_by_build_script.contains(name) {
            inputs.insert(DynamicInput::Variable { name: name.clone() });
        }
    }
    // rustc copies static libraries into an rlib, and says nothing of it in its dep-info.
    let invocation = findings.invocation;
    let search = invocation.search_paths.iter().filter(|search| matches!(search.kind.as_str(), "native" | "all"));
    let search: Vec<_> = search.map(|search| search.path.clone()).collect();
    inputs.extend(system_libraries(&package, &invocation.native_libraries, &search, roots));
    inputs
}

/// The dynamic inputs of a build script's run.
pub fn inputs_of_build_script(
    package: PackageOnDisk<'_>,
    findings: BuildScriptFindings<'_>,
    roots: &Roots,
) -> Result<BTreeSet<DynamicInput>, AlwaysRuns> {
    let mut inputs = BTreeSet::new();
    for path in findings.rerun_if_changed {
        let path = package.root.join(path);
        if !path.exists() {
            return Err(AlwaysRuns { path });
        }
        inputs.extend(package.inputs_of_reading(&path, path.is_dir(), roots));
        if package.way(&path) == Some(Way::Within) {
            for link in links_below(&path) {
                inputs.extend(package.inputs_of_reading(&link, link.is_dir(), roots));
            }
        }
    }
    if findings.rerun_if_changed.is_empty() && findings.rerun_if_env_changed.is_empty() && !package.immutable {
        inputs.insert(DynamicInput::PackageTree { path: roots.hide(package.root) });
    }
    let variables = findings.rerun_if_env_changed.iter().filter(|name| !set_for_build_scripts(name, package.immutable));
    inputs.extend(variables.map(|name| DynamicInput::Variable { name: name.clone() }));

    let mut libraries: Vec<_> = findings.link_libraries.iter().map(|library| parse_library(library)).collect();
    // A script that asked pkg-config in vain and built its own copy finds the system's library once it is there.
    if findings.rerun_if_env_changed.iter().any(|name| name.contains("PKG_CONFIG")) {
        let own: Vec<_> = libraries
            .iter()
            .filter(|library| library.kind.as_deref().is_some_and(|kind| kind.starts_with("static")))
            .map(|library| NativeLibrary { kind: Some("dylib".to_owned()), name: library.name.clone() })
            .collect();
        libraries.extend(own);
    }
    let search: Vec<_> = findings.link_search.iter().map(|search| parse_search(search, package.root)).collect();
    inputs.extend(system_libraries(&package, &libraries, &search, roots));
    if let Some(native) = findings.native {
        let cxx = libraries.iter().any(|library| matches!(library.name.as_str(), "stdc++" | "c++" | "c++_static"));
        native_inputs(native, cxx, &mut inputs);
    }
    Ok(inputs)
}

/// The dynamic inputs of a program, shared library or proc macro that this host may run. What is compiled for
/// another machine asks nothing of the host: do not call this for it. `is_provided` says which libraries come from the
/// build itself.
pub fn inputs_of_binary(
    facts: &BinaryFacts,
    is_provided: impl Fn(&str) -> bool,
    roots: &Roots,
) -> BTreeSet<DynamicInput> {
    // What is relative to the file travels with it.
    let search = facts.run_paths.iter().filter(|path| path.starts_with('/'));
    let search: Vec<_> = search.map(|path| roots.hide(Utf8Path::new(path))).collect();
    let needed = facts.needed.iter().filter(|name| !is_provided(name));
    let mut inputs: BTreeSet<_> =
        needed.map(|name| DynamicInput::NeededLibrary { name: name.clone(), search: search.clone() }).collect();
    let interpreter = facts.interpreter.clone();
    inputs.extend(facts.glibc.clone().map(|at_least| DynamicInput::Glibc { at_least, interpreter }));
    inputs.extend(facts.libstdcxx.clone().map(|at_least| DynamicInput::Libstdcxx { at_least }));
    inputs.extend(
        facts
            .interpreter
            .as_ref()
            .map(|path| DynamicInput::NeededLibrary { name: path.as_str().to_owned(), search: Vec::new() }),
    );
    inputs
}

/// The inputs that the user declares for a package: paths and patterns relative to it, and `env:NAME`.
pub fn declared_inputs(package_root: &Utf8Path, declared: &[String], roots: &Roots) -> BTreeSet<DynamicInput> {
    let input = |text: &String| match text.strip_prefix("env:") {
        Some(name) => DynamicInput::Variable { name: name.to_owned() },
        None if text.contains(['*', '?', '[', '{']) => {
            DynamicInput::Glob { path: roots.hide(package_root), pattern: text.clone() }
        }
        // A directory and a file are told apart when they are read: both may come and go.
        None => DynamicInput::Directory { path: roots.hide(&package_root.join(text)) },
    };
    declared.iter().map(input).collect()
}

/// The path without `.` and `..`, as far as its text tells.
pub(super) fn normalised(path: &Utf8Path) -> Utf8PathBuf {
    let mut normalised = Utf8PathBuf::new();
    for component in path.components() {
        match component {
            Utf8Component::CurDir => {}
            Utf8Component::ParentDir => {
                normalised.pop();
            }
            component => normalised.push(component),
        }
    }
    normalised
}

/// Whether cargo sets the variable for all build scripts from what the unit's key holds. What it sets for some
/// (`CARGO_FEATURE_*`, `DEP_*` and the like), others get from whoever runs cargo.
pub fn set_for_build_scripts(name: &str, immutable: bool) -> bool {
    const EXACT: [&str; 12] = [
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_ENCODED_RUSTFLAGS",
    ];
    EXACT.contains(&name) || immutable && name.starts_with("CARGO_PKG_")
}

/// Libraries that every host of a triple has, in versions that the glibc floor judges.
const BASE_LIBRARIES: [&str; 10] = ["c", "m", "dl", "rt", "pthread", "util", "gcc_s", "gcc", "stdc++", "resolv"];

/// Whether a library is part of every host of a triple.
pub(crate) fn is_base_library(name: &str) -> bool {
    BASE_LIBRARIES.contains(&name)
}

fn system_libraries(
    package: &PackageOnDisk<'_>,
    libraries: &[NativeLibrary],
    search: &[Utf8PathBuf],
    roots: &Roots,
) -> Vec<DynamicInput> {
    let (own, foreign): (Vec<_>, Vec<_>) =
        search.iter().partition(|directory| package.pins(directory) || directory.as_str().is_empty());
    let mut inputs = Vec::new();
    let mut hidden = Vec::new();
    for directory in foreign {
        let way = package.way(directory);
        inputs.extend(way.iter().flat_map(|way| way.places(roots)));
        hidden.push(roots.hide(match &way {
            Some(Way::Out { path, .. }) => path,
            _ => directory,
        }));
    }
    let own_files = |library: &NativeLibrary| -> Vec<Utf8PathBuf> {
        let kind = library.kind.as_deref().unwrap_or_default();
        let file_names = match kind.split_once(':') {
            Some((_, modifiers)) if is_verbatim(modifiers) => [library.name.clone(), library.name.clone()],
            _ => [format!("lib{}.a", library.name), format!("lib{}.so", library.name)],
        };
        // Of a library that was built statically, the system's shared one is another library.
        let own_names = if library.kind.as_deref() == Some("dylib") { &file_names[1..] } else { &file_names };
        let files = own.iter().flat_map(|directory| own_names.iter().map(|name| directory.join(name)));
        files.filter(|file| file.exists()).collect()
    };
    for library in libraries {
        let kind = library.kind.as_deref().unwrap_or("dylib");
        let is_base = is_base_library(&library.name) && !kind.starts_with("static");
        if is_base || kind.starts_with("link-arg") {
            continue;
        }
        let files = own_files(library);
        if files.is_empty() {
            let (kind, name) = (kind.to_owned(), library.name.clone());
            inputs.push(DynamicInput::SystemLibrary { kind, name, search: hidden.clone() });
        }
        // What is called own may be a link to a library that lies elsewhere.
        inputs.extend(files.iter().flat_map(|file| package.inputs_of_reading(file, false, roots)));
    }
    inputs
}

/// Whether modifiers of a library say that its name is that of the file.
pub(super) fn is_verbatim(modifiers: &str) -> bool {
    modifiers.split(',').any(|modifier| modifier == "+verbatim")
}

fn parse_library(text: &str) -> NativeLibrary {
    match text.split_once('=') {
        Some((kind, name)) => NativeLibrary { kind: Some(kind.to_owned()), name: name.to_owned() },
        None => NativeLibrary { kind: None, name: text.to_owned() },
    }
}

fn parse_search(text: &str, package_root: &Utf8Path) -> Utf8PathBuf {
    const KINDS: [&str; 5] = ["dependency", "crate", "native", "framework", "all"];
    let path = match text.split_once('=') {
        Some((kind, path)) if KINDS.contains(&kind) => path,
        _ => text,
    };
    package_root.join(path)
}

/// What the `cc` crate and its like read, and which compiler they take.
///
/// The headers of the C library stand for all of the system's: `features.h` holds glibc's version, and code that
/// was compiled with newer headers may not link on an older host.
fn native_inputs(native: NativeCode<'_>, cxx: bool, inputs: &mut BTreeSet<DynamicInput>) {
    let underscored = native.target.replace('-', "_");
    let side = if native.target == native.host { "HOST" } else { "TARGET" };
    // The crate's order: the most specific name first.
    let names = |variable: &str| {
        [
            format!("{variable}_{}", native.target),
            format!("{variable}_{underscored}"),
            format!("{side}_{variable}"),
            variable.to_owned(),
        ]
    };
    for variable in ["CC", "CXX", "AR", "RANLIB", "CFLAGS", "CXXFLAGS", "ARFLAGS"] {
        inputs.extend(names(variable).map(|name| DynamicInput::Variable { name }));
    }
    for name in ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "SDKROOT", "MACOSX_DEPLOYMENT_TARGET"] {
        inputs.insert(DynamicInput::Variable { name: name.to_owned() });
    }
    let mut tools = vec![("CC", "cc", "gcc"), ("AR", "ar", "ar")];
    if cxx {
        tools.push(("CXX", "c++", "g++"));
    }
    for (variable, own, cross) in tools {
        let set = names(variable).into_iter().find_map(|name| (native.variable)(&name));
        let programs = match set {
            Some(program) => vec![program],
            None if native.target == native.host => vec![own.to_owned()],
            // `aarch64-unknown-linux-gnu` is compiled for by `aarch64-linux-gnu-gcc`, musl on the same machine by
            // `musl-gcc` or even `cc`. Which of them it was is not known; those that are not there do no harm.
            None => vec![
                format!("{}-{cross}", native.target.replace("-unknown-", "-")),
                format!("musl-{cross}"),
                own.to_owned(),
            ],
        };
        inputs.extend(programs.into_iter().map(|program| DynamicInput::Tool { program }));
    }
    inputs.insert(DynamicInput::File { path: "/usr/include/features.h".into() });
}
