//! Gather: reads everything that one finished unit left behind, normalises it, and puts its files into the
//! store.
//!
//! Called by collect for one unit at a time. Refuses a unit of which anything is not understood.

mod outputs;

use std::collections::BTreeSet;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::binary_facts::BinaryFactsError;
use crate::artifact::dynamic::{
    BuildScriptFindings, CompileFindings, DynamicInput, InputValue, NativeCode, PackageOnDisk, declared_inputs,
    inputs_of_bound_roots, inputs_of_build_script, inputs_of_macros, inputs_of_rustc, set_for_build_scripts,
};
use crate::artifact::reach::{ProgramWords, Reach};
use crate::artifact::scan::{HideError, ScanError, Scanner};
use crate::artifact::{ArtifactFile, RootKind, Roots, UnitArtifact};
use crate::cargo::dep_info::{CargoDepInfo, DepInfoError};
use crate::cargo::directives::{Directive, DirectiveError, Directives};
use crate::cargo::fingerprint::{NotReproducible, RelocatableFingerprint, WatchedPaths};
use crate::cargo::layout::RunFiles;
use crate::cargo::record::InvocationRecord;
use crate::digest::ContentDigest;
use crate::store::{Lease, StoreError};
use crate::unit::{CompileMode, CompilePlatform, PackageSource, PlannedUnit, TargetKind, UnitIndex, links_for_target};

use self::outputs::read;
use super::collect::CollectContext;
use super::linking::{LinkingCall, linker_inputs};
use super::matching::{UnitAddress, absolute};
use super::resolve::Lookup;
use super::restore::{is_final, watched};
use super::unseen::{asks_git, is_common_tool, programs_in_source, refuse_edited_sources, secret, variables_in_source};

/// Why a unit was not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// No single planned unit fits.
    #[error("it is not among the planned units")]
    Unmatched,
    /// A dependency is not kept.
    #[error("the outputs of a dependency are not known")]
    Dependency,
    /// Its fingerprint cannot be carried elsewhere.
    #[error("its fingerprint is of a kind that is not known")]
    Fingerprint(#[source] NotReproducible),
    /// Cargo's dep-info is not understood.
    #[error("its dep-info is of a kind that is not known")]
    DepInfo(#[source] DepInfoError),
    /// A build script printed something that is not understood.
    #[error("its build script's output is not understood")]
    Directives(#[source] DirectiveError),
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A file cannot be searched.
    #[error("a file cannot be searched for paths")]
    Scan(#[source] ScanError),
    /// A program or library is not understood.
    #[error("a program or library cannot be read")]
    Binary(#[source] BinaryFactsError),
    /// Text cannot be normalised.
    #[error("a text of it cannot be relocated")]
    Text(#[source] HideError),
    /// A source file changed while it was compiled.
    #[error("{input} changed while it was compiled")]
    Changed {
        /// What changed.
        input: DynamicInput,
    },
    /// What it read cannot be compared on another occasion.
    #[error("what it read cannot be compared: {what}")]
    Unstable {
        /// What it is.
        what: String,
    },
    /// What was read under the same key before differs.
    #[error("an earlier build under the same key read other things")]
    Inputs,
    /// The store does not take it. Ends all keeping.
    #[error("the store does not take it")]
    Store(#[source] StoreError),
}

impl NotKept {
    /// A store that is full or cannot be written ends all keeping; a file that cannot be taken ends its own.
    fn of_store(error: StoreError) -> Self {
        match error {
            StoreError::Changed { path } | StoreError::NotAFile { path } => {
                Self::Unstable { what: format!("{path} changed while it was read") }
            }
            other => Self::Store(other),
        }
    }
}

/// What was found.
pub(super) struct Gathered {
    /// The artifact, if it is to be kept.
    pub(super) artifact: Option<UnitArtifact>,
    /// What the unit read, with the present values.
    pub(super) dynamic: Vec<(DynamicInput, InputValue)>,
    /// Its files.
    pub(super) files: Vec<Utf8PathBuf>,
    /// Whether its outputs carry the one old time now.
    pub(super) old_times: bool,
    /// Whether it holds paths of this machine.
    pub(super) bound: bool,
}

/// What is known of units that were built before.
pub(super) trait Dependencies {
    /// Where a build script's run left its output.
    fn run_output(&self, run: UnitIndex) -> Option<RunFiles>;
    /// The programs that a build script was compiled to.
    fn programs(&self, script: UnitIndex) -> Vec<Utf8PathBuf>;
    /// The source files of a build script, as cargo notes them.
    fn sources(&self, script: UnitIndex) -> Option<Vec<Utf8PathBuf>>;
    /// What a procedural macro can reach.
    fn reach(&self, proc_macro: UnitIndex) -> Reach;
}

/// One unit, while it is gathered.
struct Gatherer<'a, 'c> {
    context: &'a CollectContext<'c>,
    /// Searches for whole paths.
    plain: &'a Scanner,
    /// Searches for parts of paths too, where the unit read the place of something at compile time.
    wary: Option<Scanner>,
    unit: &'a PlannedUnit,
    address: &'a UnitAddress,
    lease: Option<&'a Lease>,
    dependencies: &'a dyn Dependencies,
    old_times: bool,
    bound: BTreeSet<RootKind>,
    binary_inputs: BTreeSet<DynamicInput>,
    artifact_files: Vec<ArtifactFile>,
    directories: Vec<Utf8PathBuf>,
    links: Vec<(Utf8PathBuf, String)>,
    files: Vec<Utf8PathBuf>,
}

/// Gathers one unit, with the present values of what it read: whether they are those that it read, the caller finds out
/// afterwards. Without a lease nothing is kept, and only what the ledger needs is found.
#[expect(clippy::too_many_arguments, reason = "one call, from collect, of everything that is known of the unit")]
pub(super) fn gather<L: Lookup>(
    context: &CollectContext<'_>,
    lookup: &L,
    scanner: &Scanner,
    index: UnitIndex,
    address: &UnitAddress,
    record: Option<&InvocationRecord>,
    fingerprint: RelocatableFingerprint,
    dependencies_are_old: bool,
    lease: Option<&Lease>,
    dependencies: &dyn Dependencies,
) -> Result<Gathered, NotKept> {
    let unit = context.graph.unit(index);
    let package = context.graph.package(unit);
    let mut artifact = UnitArtifact {
        label: context.graph.describe(index),
        package: package.name.clone(),
        hash: address.hash,
        stem: address.stem.clone(),
        output: ContentDigest::of(b""),
        fingerprint,
        dep_info: None,
        diagnostics: None,
        run: None,
        files: Vec::new(),
        directories: Vec::new(),
        links: Vec::new(),
        dynamic: Vec::new(),
        rows: context.inputs[index.0 as usize]
            .rows
            .iter()
            .map(|(name, digest)| ((*name).to_owned(), *digest))
            .collect(),
    };
    let watches = watched(&artifact, package, context.roots) != WatchedPaths::Unwatched;
    let mut gatherer = Gatherer {
        context,
        plain: scanner,
        wary: None,
        unit,
        address,
        lease,
        dependencies,
        old_times: dependencies_are_old && !watches && lease.is_some(),
        bound: BTreeSet::new(),
        binary_inputs: BTreeSet::new(),
        artifact_files: Vec::new(),
        directories: Vec::new(),
        links: Vec::new(),
        files: Vec::new(),
    };

    let mut inputs = BTreeSet::new();
    let out_dirs = gatherer.out_directories(index, record);
    let disk = PackageOnDisk {
        root: package.root(),
        immutable: context.is_immutable(package),
        can_link: matches!(package.source, PackageSource::Git { .. }),
        out_dirs: &out_dirs,
    };
    if unit.mode == CompileMode::RunCustomBuild {
        gatherer.refuse_strays(!disk.immutable)?;
        let (run, directives) = gatherer.run()?;
        artifact.run = Some(run);
        inputs.extend(gatherer.inputs_of_run(index, disk, &directives)?);
    } else {
        let record = record.ok_or(NotKept::Unmatched)?;
        let dep_info = gatherer.rustc(record)?;
        let files = address.fingerprint_files();
        let cargo = read(&files.dep_info)?;
        let cargo = CargoDepInfo::decode(&cargo).map_err(NotKept::DepInfo)?;
        artifact.dep_info = Some(cargo.hide(context.roots));
        artifact.diagnostics = gatherer.diagnostics(&files.diagnostics)?;
        let files: Vec<_> = dep_info.files.iter().map(|file| absolute(&record.directory, file)).collect();
        if disk.immutable {
            refuse_edited_sources(package.root(), &files)?;
        }
        // What is computed from a path at compile time is found by no search. Packages from elsewhere are trusted
        // not to do that; in a member's code it happens.
        let reads = |is_it: fn(&str) -> bool| dep_info.environment.iter().any(|(name, _)| is_it(name));
        if !disk.immutable {
            if reads(|name| matches!(name, "CARGO_MANIFEST_DIR" | "CARGO_MANIFEST_PATH" | "CARGO_TARGET_TMPDIR")) {
                gatherer.bound.extend(root_of(context.roots, package.root()));
            }
            if reads(|name| name.starts_with("CARGO_BIN_EXE_")) {
                gatherer.bound.insert(RootKind::TargetDirectory);
            }
        }
        inputs.extend(gatherer.linker_inputs(record)?);
        let variables: Vec<_> = dep_info.environment.iter().map(|(name, _)| name.clone()).collect();
        let findings = CompileFindings {
            root: &unit.target.source_path,
            files: &files,
            variables: &variables,
            set_by_cargo: &gatherer.set_by_cargo(index),
            set_by_build_script: &gatherer.set_by_build_script(index)?,
            invocation: &record.invocation,
        };
        inputs.extend(inputs_of_rustc(disk, findings, context.roots));
        if !disk.immutable {
            let macros = &context.inputs[index.0 as usize].macros;
            let reaches: Vec<_> = macros.iter().map(|index| dependencies.reach(*index)).collect();
            // Who says what macros read is believed.
            if package.declared_inputs.is_none() && reaches.iter().any(|reach| reach.files) {
                let tests = matches!(unit.target.kind, TargetKind::Test | TargetKind::Example | TargetKind::Bench);
                inputs.extend(inputs_of_macros(disk, tests, &files, context.roots));
            }
            if reaches.iter().any(|reach| reach.git) {
                inputs.insert(repository_of(package.root(), context.workspace_root, context.roots));
            }
        }
    }
    inputs.extend(declared_inputs(
        package.root(),
        package.declared_inputs.as_deref().unwrap_or_default(),
        context.roots,
    ));
    inputs.extend(inputs_of_bound_roots(gatherer.bound.iter().copied()));
    inputs.append(&mut gatherer.binary_inputs);

    // A path outside every root was perhaps written relative to the package: elsewhere it is another file.
    let is_outside = |input: &DynamicInput| match input {
        DynamicInput::File { path } | DynamicInput::Directory { path } | DynamicInput::MacroDirectory { path } => {
            // The system's own files are named by absolute paths.
            let is_systems = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/opt", "/nix"];
            path.is_absolute() && !is_systems.iter().any(|system| path.starts_with(system))
        }
        _ => false,
    };
    if !disk.immutable && inputs.iter().any(is_outside) {
        inputs.extend(inputs_of_bound_roots(root_of(context.roots, package.root())));
    }

    // What is named as it is called behind links is only there while the links lead there.
    let behind_links: BTreeSet<_> = inputs.iter().flat_map(|input| roots_behind_links(input, context.roots)).collect();
    inputs.extend(inputs_of_bound_roots(behind_links));

    let mut dynamic = Vec::with_capacity(inputs.len());
    for input in inputs {
        let value = lookup.value(index, &input);
        let value = value.ok_or_else(|| NotKept::Unstable { what: input.to_string() })?;
        dynamic.push((input, value));
    }

    if let Some(name) = dynamic.iter().find_map(|(input, value)| secret(input, value)) {
        let told = context.environment.get_str(name).is_some_and(|value| {
            let run = artifact.run.as_ref();
            value.len() >= 8
                && (gatherer.holds(value)
                    || run.is_some_and(|run| run.stdout.contains(value) || run.stderr.contains(value)))
        });
        if told {
            return Err(NotKept::Unstable { what: format!("it holds the value of {name}, which sounds secret") });
        }
    }

    let bound = !gatherer.bound.is_empty();
    let Gatherer { mut artifact_files, mut directories, mut links, files, old_times, .. } = gatherer;
    artifact_files.sort();
    directories.sort();
    links.sort();
    artifact.output =
        UnitArtifact::output_digest(artifact.hash, &artifact_files, &directories, &links, artifact.run.as_ref());
    artifact.files = artifact_files;
    artifact.dynamic.clone_from(&dynamic);
    artifact.directories = directories;
    artifact.links = links;
    let known = lease.is_some() || !is_final(unit);
    Ok(Gathered { artifact: known.then_some(artifact), dynamic, files, old_times, bound })
}

impl Gatherer<'_, '_> {
    /// Whether a file of the unit holds a text.
    fn holds(&self, text: &str) -> bool {
        let finder = memchr::memmem::Finder::new(text);
        self.files.iter().any(|file| fs::read(file).is_ok_and(|bytes| finder.find(&bytes).is_some()))
    }

    /// What the linker reads.
    fn linker_inputs(&self, record: &InvocationRecord) -> Result<BTreeSet<DynamicInput>, NotKept> {
        let CollectContext { graph, roots, layouts, environment, variable, .. } = self.context;
        for name in ["LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX"] {
            if environment.get(name).is_some_and(|value| value.to_str().is_none()) {
                return Err(NotKept::Unstable { what: format!("{name} is not UTF-8") });
            }
        }
        // Libraries of scripts reach the linker from any distance. Most calls name no directory at all.
        let invocation = &record.invocation;
        let names_directories = invocation.search_paths.iter().any(|search| search.kind != "dependency")
            || !(invocation.link_args.is_empty() && invocation.unstable.is_empty());
        let is_run = |unit: &PlannedUnit| names_directories && unit.mode == CompileMode::RunCustomBuild;
        let runs = graph.iter().filter(|(_, unit)| is_run(unit));
        let out_dirs: Vec<_> =
            runs.filter_map(|(index, _)| self.dependencies.run_output(index)).map(|files| files.out).collect();
        let mut inputs = BTreeSet::new();
        // The C library is in the program then, and the standard library's code asks for it, no argument.
        if self.unit.rustflags.iter().any(|flag| flag.contains("+crt-static")) {
            let libraries = ["c", "dl", "m", "pthread", "rt", "util"].map(str::to_owned);
            inputs.extend(libraries.map(|name| {
                let (kind, search) = ("static".to_owned(), Vec::new());
                DynamicInput::SystemLibrary { kind, name, search }
            }));
        }
        let of_cargo: Vec<_> = layouts
            .iter()
            .flat_map(|layout| [layout.profile_root(), layout.final_directory()])
            .flat_map(|root| [root.join("deps"), root.join("examples"), root])
            .collect();
        inputs.extend(linker_inputs(&LinkingCall {
            invocation,
            directory: &record.directory,
            roots,
            out_dirs: &out_dirs,
            of_cargo: &of_cargo,
            variable,
            is_for_user: links_for_target(self.unit),
        })?);
        Ok(inputs)
    }

    /// The `OUT_DIR`s whose content is in the key already.
    fn out_directories(&self, index: UnitIndex, record: Option<&InvocationRecord>) -> Vec<Utf8PathBuf> {
        let mut directories: Vec<_> = record.and_then(|record| record.cargo.out_dir.clone()).into_iter().collect();
        if self.unit.mode == CompileMode::RunCustomBuild {
            directories.push(self.address.layout.run_files(&self.address.package, self.address.hash).out);
        }
        for edge in &self.context.graph.unit(index).dependencies {
            directories.extend(self.dependencies.run_output(edge.unit).map(|files| files.out));
        }
        directories
    }

    /// The variables that cargo set for this rustc, and for others doesn't: there they are whoever's runs cargo.
    fn set_by_cargo(&self, index: UnitIndex) -> BTreeSet<String> {
        let (graph, kind) = (self.context.graph, self.unit.target.kind);
        let mut names = BTreeSet::new();
        let mut dependencies = self.unit.dependencies.iter().map(|edge| graph.unit(edge.unit));
        let is_own_run =
            |unit: &PlannedUnit| unit.mode == CompileMode::RunCustomBuild && unit.package == self.unit.package;
        if dependencies.any(is_own_run) {
            names.insert("OUT_DIR".to_owned());
        }
        if matches!(kind, TargetKind::Bin | TargetKind::Example) {
            names.insert("CARGO_BIN_NAME".to_owned());
        }
        if matches!(kind, TargetKind::Test | TargetKind::Bench) {
            names.insert("CARGO_TARGET_TMPDIR".to_owned());
            let programs = graph.unit(index).dependencies.iter().map(|edge| &graph.unit(edge.unit).target);
            let programs = programs.filter(|target| target.kind == TargetKind::Bin);
            names.extend(programs.map(|target| format!("CARGO_BIN_EXE_{}", target.name)));
        }
        names
    }

    /// The variables that the package's build script set for rustc.
    fn set_by_build_script(&self, index: UnitIndex) -> Result<BTreeSet<String>, NotKept> {
        let mut names = BTreeSet::new();
        for edge in &self.context.graph.unit(index).dependencies {
            let Some(files) = self.dependencies.run_output(edge.unit) else { continue };
            let directives = Directives::parse(&read(&files.stdout)?, None).map_err(NotKept::Directives)?;
            names.extend(directives.iter().filter_map(|directive| match directive {
                Directive::Env { name, .. } => Some(name.clone()),
                _ => None,
            }));
        }
        Ok(names)
    }

    fn inputs_of_run(
        &self,
        index: UnitIndex,
        package: PackageOnDisk<'_>,
        directives: &Directives,
    ) -> Result<BTreeSet<DynamicInput>, NotKept> {
        let texts = |choose: fn(&Directive) -> Option<&String>| -> Vec<String> {
            directives.iter().filter_map(choose).cloned().collect()
        };
        let link_libraries = texts(|directive| match directive {
            Directive::LinkLib(text) => Some(text),
            _ => None,
        });
        let files = self.artifact_files.iter().map(|file| file.path.as_path());
        let is_native = NativeCode::is_in(files);
        let target = match &self.unit.platform {
            CompilePlatform::Host => self.context.host,
            CompilePlatform::Target { name, .. } => name,
        };
        let native = NativeCode { variable: self.context.variable, target, host: self.context.host };
        let rerun_if_changed = texts(|directive| match directive {
            Directive::RerunIfChanged(text) => Some(text),
            _ => None,
        });
        let findings = BuildScriptFindings {
            rerun_if_changed: &rerun_if_changed,
            rerun_if_env_changed: &texts(|directive| match directive {
                Directive::RerunIfEnvChanged(text) => Some(text),
                _ => None,
            }),
            link_libraries: &link_libraries,
            link_search: &texts(|directive| match directive {
                Directive::LinkSearch(text) => Some(text),
                _ => None,
            }),
            native: is_native.then_some(native),
        };
        let mut inputs = inputs_of_build_script(package, findings, self.context.roots)
            .map_err(|always| NotKept::Unstable { what: always.to_string() })?;
        // The cc crate names no file, and nobody names headers.
        if is_native && !package.immutable {
            let path = self.context.roots.hide(package.root);
            let pattern = "**/*.{c,h,cc,cpp,cxx,hpp,hh,hxx,inc,inl,s,S,asm,m,mm}".to_owned();
            inputs.insert(DynamicInput::Glob { path, pattern });
        }
        // A commit is in no file that stays the same where it does.
        let scripts = self.context.graph.unit(index).dependencies.iter().map(|edge| edge.unit);
        let script = scripts
            .filter(|unit| self.context.graph.unit(*unit).mode != CompileMode::RunCustomBuild)
            .find(|unit| self.context.graph.unit(*unit).target == self.unit.target);
        let script = script.ok_or(NotKept::Unmatched)?;
        let programs = self.dependencies.programs(script);
        let sources = self.dependencies.sources(script);
        let sources =
            sources.ok_or_else(|| NotKept::Unstable { what: "its script's sources are not known".to_owned() })?;
        // What is not UTF-8 names nothing that we could find.
        let texts: Vec<_> = sources.iter().filter_map(|source| fs::read_to_string(source).ok()).collect();
        let words = ProgramWords::of(&programs);
        if !package.immutable && (words.git || asks_git(&texts, &rerun_if_changed)) {
            inputs.insert(repository_of(package.root, self.context.workspace_root, self.context.roots));
        }
        // Which code a generator makes, and for which interpreter a script configures, is a matter of their versions.
        for program in programs_in_source(&texts) {
            if program.contains('/') {
                if !package.immutable {
                    inputs.insert(DynamicInput::File { path: self.context.roots.hide(&package.root.join(program)) });
                }
            } else if !package.immutable || !is_common_tool(&program) {
                inputs.insert(DynamicInput::Tool { program });
            }
        }
        inputs.extend(words.interpreters.iter().map(|name| DynamicInput::Tool { program: (*name).to_owned() }));
        if words.processor {
            inputs.insert(DynamicInput::Processor);
        }
        // Scripts forget to name the variables that they read.
        for name in variables_in_source(&texts) {
            if !set_for_build_scripts(&name, package.immutable) {
                inputs.insert(DynamicInput::Variable { name });
            }
        }
        Ok(inputs)
    }
}

/// The roots that an input names as they are called behind links.
fn roots_behind_links(input: &DynamicInput, roots: &Roots) -> BTreeSet<RootKind> {
    let paths = match input {
        DynamicInput::File { path }
        | DynamicInput::Directory { path }
        | DynamicInput::Glob { path, .. }
        | DynamicInput::PackageTree { path }
        | DynamicInput::MacroPackage { path, .. }
        | DynamicInput::MacroDirectory { path }
        | DynamicInput::Repository { path } => std::slice::from_ref(path),
        DynamicInput::NoneOf { paths } => paths,
        DynamicInput::SystemLibrary { search, .. } | DynamicInput::NeededLibrary { search, .. } => search,
        DynamicInput::Variable { .. }
        | DynamicInput::Tool { .. }
        | DynamicInput::BoundRoot { .. }
        | DynamicInput::Glibc { .. }
        | DynamicInput::Libstdcxx { .. }
        | DynamicInput::Processor => &[],
    };
    let revealed = paths.iter().filter_map(|path| roots.reveal(path));
    revealed.flat_map(|path| roots.reached_behind_links(&path).collect::<Vec<_>>()).collect()
}

/// The repository of a package: one name for all packages of a workspace, unless the package lies in a repository of its
/// own.
pub(super) fn repository_of(package: &Utf8Path, workspace: &Utf8Path, roots: &Roots) -> DynamicInput {
    let is_own = !package.starts_with(workspace)
        || package.ancestors().take_while(|above| *above != workspace).any(|above| above.join(".git").exists());
    DynamicInput::Repository { path: roots.hide(if is_own { package } else { workspace }) }
}

/// The root that a directory lies below.
fn root_of(roots: &Roots, directory: &Utf8Path) -> Option<RootKind> {
    roots.iter().find(|(_, root)| directory.starts_with(root)).map(|(kind, _)| kind)
}
