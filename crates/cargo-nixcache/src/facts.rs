//! What all units of a build share, as the table of inputs wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::artifact::binary_facts::BinaryFacts;
use nixcache_core::artifact::dynamic::{file_behind, processor};
use nixcache_core::cargo::arguments::CargoCommand;
use nixcache_core::cargo::config::BuildConfiguration;
use nixcache_core::cargo::layout::LayoutKind;
use nixcache_core::cargo::toolchain::Toolchain;
use nixcache_core::digest::ContentDigest;
use nixcache_core::environment::Environment;
use nixcache_core::unit::{
    BuildFacts, CompilePlatform, NIX_LINKING_VARIABLES, UNTRACKED_VARIABLES, UnitGraph, platform_name,
};

use crate::machine::MachineCache;

/// Where the facts come from.
pub(crate) struct Sources<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) config: &'a BuildConfiguration,
    pub(crate) toolchain: &'a Toolchain,
    pub(crate) command: &'a CargoCommand,
    pub(crate) graph: &'a UnitGraph,
    pub(crate) layout: LayoutKind,
    pub(crate) workspace_root: &'a Utf8Path,
    pub(crate) remap_members: bool,
    pub(crate) platforms: &'a [CompilePlatform],
    /// Directories whose files cargo takes for immutable.
    pub(crate) immutable: &'a [Utf8PathBuf],
    pub(crate) machine: &'a MachineCache,
}

impl Sources<'_> {
    /// The value of a variable in what cargo starts.
    fn variable(&self, name: &str) -> Option<String> {
        let seen = self.config.variables.seen_by_children(name, self.environment)?;
        Some(seen.to_string_lossy().into_owned())
    }

    /// Where `PATH` leads, as those see it whom cargo starts.
    fn found_in_path(&self, program: &str) -> Option<Utf8PathBuf> {
        let path = self.variable("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .filter_map(|directory| Utf8PathBuf::from_path_buf(directory).ok())
            .map(|directory| directory.join(program))
            .find(|candidate| candidate.is_file())
    }

    /// The file behind a program's name or path.
    fn file_of(&self, program: &Utf8Path) -> Utf8PathBuf {
        self.found_in_path(program.as_str()).unwrap_or_else(|| program.to_owned())
    }
}

/// Gathers the facts.
pub(crate) fn build_facts(sources: &Sources<'_>) -> BuildFacts {
    let Sources { environment, config, toolchain, command, .. } = sources;
    let wrapper = match (&config.rustc_workspace_wrapper, command.is_clippy()) {
        (_, true) => Some(toolchain.cargo.with_file_name(format!("clippy-driver{}", std::env::consts::EXE_SUFFIX))),
        (Some(wrapper), false) => Some(wrapper.clone()),
        (None, false) => None,
    };
    let variables = UNTRACKED_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), sources.variable(name)?)));
    let identity = |program: &Utf8Path| program_identity(&sources.file_of(program));
    BuildFacts {
        rustc_version: toolchain.verbose_version.clone(),
        toolchain_identity: toolchain_identity(toolchain, sources.platforms, sources.machine),
        cargo_version: toolchain.cargo_version.clone(),
        layout: format!("{:?}", sources.layout),
        cfg: sources
            .platforms
            .iter()
            .map(|platform| {
                let name = platform_name(platform);
                let cfg = if name.is_empty() { toolchain.host_cfg() } else { toolchain.target_cfg(name) };
                (name.to_owned(), cfg.unwrap_or_default().to_owned())
            })
            .collect(),
        processor: processor(),
        native_c_code: is_c_code_native(environment, config),
        workspace_wrapper: wrapper.as_deref().map(identity),
        rustc_wrapper: config.rustc_wrapper.as_deref().filter(|wrapper| !is_cache(sources, wrapper)).map(identity),
        wrapper_configuration: command.is_clippy().then(|| clippy_configuration(sources)),
        linkers: linkers(sources),
        untracked_variables: variables.collect(),
        nix_linking: nix_linking(environment),
        primary_nif_init: sources.variable("RUSTLER_PRIMARY_NIF_INIT"),
        manifests: manifests(sources),
        immutable: sources.immutable.to_vec(),
        remap_members: sources.remap_members,
        workspace_root: sources.workspace_root.to_owned(),
    }
}

/// The variables that add to what Nix's compiler wrappers link.
fn nix_linking(environment: &Environment) -> Vec<(String, String)> {
    let variables = environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value)));
    let theirs = variables.filter(|(name, _)| NIX_LINKING_VARIABLES.iter().any(|start| name.starts_with(start)));
    theirs.map(|(name, value)| (name.to_owned(), value.to_string_lossy().into_owned())).collect()
}

/// Two builds of one release of rustc are told apart by their libraries.
fn toolchain_identity(toolchain: &Toolchain, platforms: &[CompilePlatform], machine: &MachineCache) -> String {
    let host = toolchain.host.as_str();
    let names = platforms.iter().map(platform_name).filter(|name| !name.is_empty() && *name != host);
    let rustlib = toolchain.sysroot.join("lib/rustlib");
    let mut libraries = compiler_libraries(&toolchain.sysroot.join("lib"), host);
    for name in std::iter::once(host).chain(names) {
        libraries.extend(files_of(&rustlib.join(name).join("lib"), |name| name.contains('-')));
    }
    libraries.sort();
    machine.contents(&libraries)
}

/// The compiler itself, which `rustc` only starts, and LLVM. `lib` is full of other libraries, or these are elsewhere,
/// where a distribution has packaged them; what isn't beside the compiler counts if the compiler names it.
fn compiler_libraries(lib: &Utf8Path, host: &str) -> Vec<Utf8PathBuf> {
    let is_driver = |name: &str| name.contains("rustc_driver");
    let is_llvm = |name: &str| name.starts_with("libLLVM");
    let mut libraries = files_of(lib, |name| is_driver(name) || is_llvm(name));
    let multiarch = host.replace("-unknown-", "-").replace("i686", "i386");
    for directory in [lib.with_file_name("lib64"), lib.join(multiarch)] {
        let drivers = files_of(&directory, is_driver);
        let facts = drivers.iter().filter_map(|driver| BinaryFacts::read(driver).ok().flatten());
        let named: Vec<String> = facts.flat_map(|facts| facts.needed).collect();
        libraries.extend(files_of(&directory, |name| is_llvm(name) && named.iter().any(|needed| needed == name)));
        libraries.extend(drivers);
    }
    libraries
}

fn files_of(directory: &Utf8Path, is_wanted: impl Fn(&str) -> bool) -> Vec<Utf8PathBuf> {
    let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
    entries.filter(|entry| is_wanted(entry.file_name())).map(|entry| entry.into_path()).collect()
}

/// Whether a variable tells C compilers to compile for the processor at hand (`CFLAGS`, `TARGET_CXXFLAGS`,
/// `CFLAGS_x86_64_unknown_linux_gnu` …).
fn is_c_code_native(environment: &Environment, config: &BuildConfiguration) -> bool {
    const OF_COMPILERS: [&str; 5] = ["CFLAGS", "CXXFLAGS", "CPPFLAGS", "CC", "CXX"];
    let is_native = |name: &str, value: &str| {
        let is_of_compilers = |part: &str| OF_COMPILERS.contains(&part);
        value.contains("native") && name.split(['_', '-']).any(is_of_compilers)
    };
    let own = environment.iter().any(|(name, value)| is_native(&name.to_string_lossy(), &value.to_string_lossy()));
    own || config.variables.iter().any(|(name, variable)| is_native(name, &variable.value))
}

fn program_identity(program: &Utf8Path) -> String {
    match std::fs::read(program) {
        Ok(bytes) => format!("{} {}", program.file_name().unwrap_or_default(), ContentDigest::of(&bytes)),
        Err(_) => program.to_string(),
    }
}

/// Compiler caches give what the compiler would have given. A script that is called like one may add anything.
fn is_cache(sources: &Sources<'_>, wrapper: &Utf8Path) -> bool {
    let is_named =
        matches!(wrapper.file_stem(), Some("sccache" | "ccache" | "cachepot" | "buildcache" | "kache" | "mbx"));
    is_named && {
        let mut start = [0; 2];
        std::fs::File::open(sources.file_of(wrapper)).and_then(|mut file| file.read_exact(&mut start)).is_ok()
            && start != *b"#!"
    }
}

/// `clippy.toml` is looked for from each package upwards, or where `CLIPPY_CONF_DIR` says.
fn clippy_configuration(sources: &Sources<'_>) -> String {
    let mut text = String::new();
    let configured = sources.variable("CLIPPY_CONF_DIR").map(|path| sources.workspace_root.join(path));
    let members = sources.graph.packages.iter().filter(|package| package.is_path()).map(|package| package.root());
    let above = members.flat_map(Utf8Path::ancestors);
    // It is searched upwards from there, too.
    let configured = configured.iter().flat_map(|directory| directory.ancestors());
    let directories: BTreeSet<&Utf8Path> = configured.chain(above).collect();
    for directory in directories {
        for name in ["clippy.toml", ".clippy.toml"] {
            if let Ok(bytes) = std::fs::read(directory.join(name)) {
                let place = directory.strip_prefix(sources.workspace_root).unwrap_or(Utf8Path::new(".."));
                let _ = write!(text, "{place:?} {};", ContentDigest::of(&bytes));
            }
        }
    }
    text
}

/// The linker that the flags name: they win over the configuration.
fn linker_in_flags(flags: &[String]) -> Option<String> {
    let mut joined =
        flags.iter().filter_map(|flag| flag.strip_prefix("-Clinker=").or_else(|| flag.strip_prefix("linker=")));
    joined.next_back().map(str::to_owned)
}

/// The linker driver of each platform, by content: it decides which start-up files and libraries are linked.
fn linkers(sources: &Sources<'_>) -> BTreeMap<String, String> {
    let mut linkers = BTreeMap::new();
    for platform in sources.platforms {
        let of_platform = |unit: &&nixcache_core::unit::PlannedUnit| unit.platform == *platform;
        let mut units = sources.graph.units.iter().filter(of_platform);
        let configured = units.find_map(|unit| linker_in_flags(&unit.rustflags).or_else(|| unit.linker.clone()));
        let program = configured.unwrap_or_else(|| "cc".to_owned());
        // A cache of compilers that stands in for one (`ccache` by the name of `cc`) is looked through.
        let identity = match file_behind(&program, sources.variable("PATH").as_deref()) {
            // By which name it is called matters, too: one file may be a compiler of C and of C++.
            Some(file) => {
                format!("{} {}", Utf8Path::new(&program).file_name().unwrap_or_default(), program_identity(&file))
            }
            None => program,
        };
        linkers.insert(platform_name(platform).to_owned(), identity);
    }
    linkers
}

/// The manifests of path packages without what other rows hold, and with the lints that they inherit.
fn manifests(sources: &Sources<'_>) -> BTreeMap<String, String> {
    let Sources { graph, workspace_root, immutable, .. } = sources;
    let read = |path: &Utf8Path| -> Option<toml::Table> { std::fs::read_to_string(path).ok()?.parse().ok() };
    // A package outside the workspace may belong to another one, and inherits from that.
    let lints_above = |root: &Utf8Path| {
        let own = if root.starts_with(workspace_root) { Some(*workspace_root) } else { None };
        let above = own.into_iter().chain(root.ancestors()).find_map(|directory| {
            read(&directory.join("Cargo.toml")).filter(|manifest| manifest.contains_key("workspace"))
        });
        above.and_then(|manifest| manifest.get("workspace")?.get("lints").cloned())
    };
    let mut manifests = BTreeMap::new();
    let can_change = |root: &Utf8Path| !immutable.iter().any(|directory| root.starts_with(directory));
    for package in graph.packages.iter().filter(|package| package.is_path() || can_change(package.root())) {
        let Some(mut manifest) = read(&package.manifest_path) else { continue };
        for elsewhere in ["workspace", "profile", "patch", "replace", "badges"] {
            manifest.remove(elsewhere);
        }
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).is_some();
        if inherits && let Some(lints) = lints_above(package.root()) {
            manifest.insert("lints".to_owned(), lints);
        }
        manifests.insert(package.id.clone(), toml::Value::Table(manifest).to_string());
    }
    manifests
}
