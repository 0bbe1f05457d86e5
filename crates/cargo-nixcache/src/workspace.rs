//! What is known of a build before anything is looked up: the command, the configuration, the toolchain, the
//! plan, the directories, and the inputs of every unit.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::artifact::{RootKind, Roots};
use nixcache_core::cargo::arguments::{ArgumentsError, CargoCommand};
use nixcache_core::cargo::config::{BuildConfiguration, ConfigError};
use nixcache_core::cargo::layout::{BuildLayout, CargoRelease, LayoutKind, LayoutSwitches, LockProtocol, on_disk};
use nixcache_core::cargo::metadata::{Metadata, MetadataError};
use nixcache_core::cargo::toolchain::{Programs, Toolchain, ToolchainError};
use nixcache_core::environment::Environment;
use nixcache_core::plan::{PlanError, WorkspaceAnswer, WorkspaceFiles, left_to_cargo, plan};
use nixcache_core::store::LocalStore;
use nixcache_core::unit::{BuildFacts, CompileMode, CompilePlatform, UnitGraph, UnitIndex, UnitInputs, unit_inputs};

use crate::caches::BuildSet;
use crate::facts;
use crate::launcher;
use crate::machine::MachineCache;
use crate::metadata_cache::{Question, configuration_files};
use crate::report::Report;
use crate::settings::Settings;
use crate::summary::Seconds;

/// Why there is no plan. Cargo is run as it is then, and says what is wrong better than we could.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    /// The current directory is not UTF-8.
    #[error("the current directory is not UTF-8")]
    CurrentDirectory,
    /// The arguments are not text.
    #[error("read the arguments")]
    Arguments(#[source] ArgumentsError),
    /// The configuration cannot be read.
    #[error("read cargo's configuration")]
    Configuration(#[source] ConfigError),
    /// There is no toolchain.
    #[error("find the toolchain")]
    Toolchain(#[source] ToolchainError),
    /// `cargo metadata` fails.
    #[error("read the metadata of the workspace")]
    Metadata(#[source] MetadataError),
    /// The plan fails.
    #[error("plan the build")]
    Plan(#[source] PlanError),
    /// It is nothing that is planned.
    #[error("plan {what}: {why}")]
    Left {
        /// What it is.
        what: String,
        /// Why.
        why: String,
    },
    /// Cargo is one that we do not know.
    #[error("use {what}, which is not known")]
    Unknown {
        /// What is not known.
        what: String,
    },
}

impl WorkspaceError {
    /// What cargo wrote when it was asked for the workspace and refused.
    pub(crate) fn words_of_cargo(&self) -> Option<&str> {
        match self {
            Self::Metadata(MetadataError::Refused { stderr, .. })
            | Self::Plan(PlanError::Metadata(MetadataError::Refused { stderr, .. })) => Some(stderr),
            _ => None,
        }
    }

    /// Whether cargo, which runs as it is then, says nothing of it.
    pub(crate) fn is_ours_to_tell(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Plan(PlanError::Declaration { .. }))
    }

    /// What can be done about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        let Self::Left { what, .. } = self else { return None };
        let name = what.split('=').next().unwrap_or_default();
        crate::arguments::OWN_OPTIONS
            .contains(&name)
            .then_some("options of `cargo nixcache` go before its command: `cargo nixcache --cache URL pull`")
    }
}

/// A build that has been planned.
pub(crate) struct PlannedBuild {
    pub(crate) environment: Environment,
    pub(crate) command: CargoCommand,
    pub(crate) config: BuildConfiguration,
    pub(crate) toolchain: Toolchain,
    pub(crate) graph: UnitGraph,
    pub(crate) inputs: Vec<UnitInputs>,
    pub(crate) roots: Roots,
    pub(crate) layouts: Vec<BuildLayout>,
    /// The place in `layouts` for each unit.
    layout_of: Vec<usize>,
    pub(crate) lock_protocol: LockProtocol,
    pub(crate) workspace_root: Utf8PathBuf,
    /// Directories whose files cargo takes for immutable.
    pub(crate) immutable: Vec<Utf8PathBuf>,
    /// Where the packages lie that come from no registry or repository, planned or not.
    pub(crate) own_packages: BTreeSet<Utf8PathBuf>,
    sets: OnceLock<Vec<BuildSet>>,
}

impl PlannedBuild {
    /// Plans the build that `arguments` ask for.
    pub(crate) fn new(
        arguments: &[OsString],
        environment: Environment,
        settings: &Settings,
        machine: &MachineCache,
        store: Option<&LocalStore>,
        seconds: &mut Seconds,
    ) -> Result<Self, WorkspaceError> {
        let current_dir = std::env::current_dir()
            .ok()
            .and_then(|directory| Utf8PathBuf::from_path_buf(directory).ok())
            .ok_or(WorkspaceError::CurrentDirectory)?;
        let command = CargoCommand::parse(arguments).map_err(WorkspaceError::Arguments)?;
        let config = BuildConfiguration::load(&current_dir, &environment, &command);
        let config = config.map_err(WorkspaceError::Configuration)?;
        let command = command.resolve_alias(|name| config.alias(name)).map_err(WorkspaceError::Arguments)?;
        if let Some(part) = left_to_cargo(&command, &config).first() {
            return Err(WorkspaceError::Left { what: part.what.clone(), why: part.why.clone() });
        }
        let programs = Programs::find(&environment, &config).map_err(WorkspaceError::Toolchain)?;
        let toolchain = machine.toolchain(&programs, &environment, &config, &command);
        let toolchain = toolchain.map_err(WorkspaceError::Toolchain)?;

        let metadata = seconds.metadata(|| {
            let platforms = requested_platforms(&config, &command, &toolchain);
            let lease = store.and_then(|store| store.lease().ok());
            let question = lease.as_ref().and_then(|lease| {
                let home = cargo_home(&environment, config.current_dir());
                Question::new(&command, &config, &toolchain, &environment, &platforms, home, lease)
            });
            if let Some(known) = question.as_ref().and_then(Question::recall) {
                return Ok(known);
            }
            let answer = WorkspaceAnswer::read(&command, &config, &toolchain, &environment);
            let answer = answer.map_err(WorkspaceError::Plan)?.metadata;
            if let Some(question) = question {
                question.remember(&answer);
            }
            Ok(answer)
        })?;
        seconds.plan(|| Self::from_metadata(&metadata, environment, command, config, toolchain, settings, machine))
    }

    fn from_metadata(
        metadata: &str,
        environment: Environment,
        command: CargoCommand,
        config: BuildConfiguration,
        toolchain: Toolchain,
        settings: &Settings,
        machine: &MachineCache,
    ) -> Result<Self, WorkspaceError> {
        let parsed = Metadata::parse(metadata).map_err(WorkspaceError::Metadata)?;
        let files = WorkspaceFiles::read(&parsed).map_err(WorkspaceError::Plan)?;
        let graph = plan(&parsed, &files, &command, &config, &toolchain).map_err(WorkspaceError::Plan)?;
        let target_directory = parsed.answer.target_directory.clone();
        let build_directory = parsed.build_directory().to_owned();
        let workspace_root = parsed.answer.workspace_root.clone();
        let own_packages = parsed.answer.packages.iter().filter(|package| package.source.is_none());
        let own_packages =
            own_packages.filter_map(|package| Some(package.manifest_path.parent()?.to_owned())).collect();
        let release = toolchain.cargo_release().unwrap_or_default();
        let release: CargoRelease =
            release.parse().map_err(|_| WorkspaceError::Unknown { what: format!("cargo {release}") })?;

        let profile = command.profile_name();
        let platforms: Vec<CompilePlatform> = platforms(&graph);
        let decision = release.decide_layout(
            LayoutSwitches {
                unstable_flags: &command.unstable,
                configured: config.unstable("build-dir-new-layout"),
                configured_fine_grain_locking: config.unstable("fine-grain-locking"),
            },
            &environment,
        );
        let legacy = BuildLayout::new(
            LayoutKind::Legacy,
            build_directory.clone(),
            target_directory.clone(),
            &CompilePlatform::Host,
            &profile,
        );
        let kind = decision
            .settle(on_disk(&legacy.profile_root()))
            .ok_or_else(|| WorkspaceError::Unknown { what: "the layout of the build directory".to_owned() })?;
        let layouts: Vec<BuildLayout> = platforms
            .iter()
            .map(|platform| {
                BuildLayout::new(kind, build_directory.clone(), target_directory.clone(), platform, &profile)
            })
            .collect();
        let layout_of = graph
            .units
            .iter()
            .map(|unit| platforms.iter().position(|platform| *platform == unit.platform).unwrap_or(0))
            .collect();

        let cargo_home = cargo_home(&environment, config.current_dir());
        let launcher = launcher::directory(&settings.store);
        let roots = roots(&build_directory, &target_directory, &cargo_home, &toolchain, &workspace_root, launcher);
        let immutable = ["registry", "git"].map(|directory| cargo_home.join(directory)).to_vec();
        let build: BuildFacts = facts::build_facts(&facts::Sources {
            immutable: &immutable,
            machine,
            environment: &environment,
            config: &config,
            toolchain: &toolchain,
            command: &command,
            graph: &graph,
            layout: kind,
            workspace_root: &workspace_root,
            remap_members: settings.remap_members,
            platforms: &platforms,
        });
        let inputs = unit_inputs(&graph, &build);
        Ok(Self {
            environment,
            command,
            config,
            toolchain,
            graph,
            inputs,
            roots,
            layouts,
            layout_of,
            lock_protocol: LockProtocol::of(release),
            workspace_root,
            immutable,
            own_packages,
            sets: OnceLock::new(),
        })
    }

    /// How much is said of it, as the command asks.
    pub(crate) fn report(&self) -> Report {
        Report::new(self.command.quiet, self.command.verbose > 0, self.command.color.as_deref())
    }

    /// The sets of the build, as its sources are when this is first asked.
    pub(crate) fn sets(&self) -> &[BuildSet] {
        self.sets.get_or_init(|| BuildSet::all(self))
    }

    /// The manifests and configuration files that the plan was made from.
    pub(crate) fn planned_from(&self) -> Vec<Utf8PathBuf> {
        let packages = self.graph.packages.iter().filter(|package| package.is_path());
        let mut files: Vec<_> = packages.map(|package| package.manifest_path.clone()).collect();
        files.push(self.workspace_root.join("Cargo.toml"));
        let home = cargo_home(&self.environment, self.config.current_dir());
        files.extend(configuration_files(self.config.current_dir(), &home));
        files
    }

    /// The layout of a unit's platform.
    pub(crate) fn layout(&self, unit: UnitIndex) -> &BuildLayout {
        &self.layouts[self.layout_of[unit.0 as usize]]
    }

    /// Cargo's build directory.
    pub(crate) fn build_directory(&self) -> &Utf8Path {
        self.layouts[0].build_directory()
    }

    /// Cargo's target directory.
    pub(crate) fn target_directory(&self) -> &Utf8Path {
        self.layouts[0].target_directory()
    }

    /// The variables that cargo sets for a unit, beside those of the environment.
    pub(crate) fn unit_environment(&self, index: UnitIndex) -> BTreeMap<String, String> {
        let unit = self.graph.unit(index);
        let package = self.graph.package(unit);
        let mut variables = package.environment.clone();
        variables.insert("CARGO_MANIFEST_DIR".to_owned(), self.roots.hide(package.root()).into_string());
        variables.insert("CARGO_MANIFEST_PATH".to_owned(), self.roots.hide(&package.manifest_path).into_string());
        if unit.mode == CompileMode::RunCustomBuild {
            variables.extend(package.links.clone().map(|links| ("CARGO_MANIFEST_LINKS".to_owned(), links)));
        } else {
            variables.insert("CARGO_CRATE_NAME".to_owned(), unit.target.name.replace('-', "_"));
        }
        if self.command.is_clippy() {
            variables.insert("CLIPPY_ARGS".to_owned(), self.clippy_arguments());
        }
        if unit.primary {
            variables.insert("CARGO_PRIMARY_PACKAGE".to_owned(), "1".to_owned());
        }
        variables
    }

    /// What `cargo clippy` tells its driver: the arguments after `--`, each with a separator after it.
    fn clippy_arguments(&self) -> String {
        let arguments = self.command.trailing.iter().map(|argument| argument.to_string_lossy());
        arguments.fold(String::new(), |text, argument| text + &argument + "__CLIPPY_HACKERY__")
    }

    /// The value that cargo sees for a variable, as it stands in fingerprints.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        match name {
            "CARGO" => return Some(self.toolchain.cargo.to_string()),
            "CLIPPY_ARGS" if self.command.is_clippy() => return Some(self.clippy_arguments()),
            _ => {}
        }
        let seen = self.config.variables.seen_by_children(name, &self.environment)?;
        seen.to_str().map(str::to_owned)
    }
}

/// The platforms whose dependencies are needed: the host's, and those that are asked for. With a target that is
/// described by a file, everybody's.
fn requested_platforms(config: &BuildConfiguration, command: &CargoCommand, toolchain: &Toolchain) -> Vec<String> {
    let requested = config.requested_targets(command, &toolchain.host);
    if requested.iter().any(|target| target.specification.is_some()) {
        return Vec::new();
    }
    let mut platforms = vec![toolchain.host.clone()];
    platforms.extend(requested.into_iter().map(|target| target.name).filter(|name| *name != toolchain.host));
    platforms
}

/// The platforms of a graph, the host's first: cargo locks and lays out in this order.
fn platforms(graph: &UnitGraph) -> Vec<CompilePlatform> {
    let mut platforms = vec![CompilePlatform::Host];
    for unit in &graph.units {
        if !platforms.contains(&unit.platform) {
            platforms.push(unit.platform.clone());
        }
    }
    platforms
}

/// `CARGO_HOME`, by cargo's rules.
pub(crate) fn cargo_home(environment: &Environment, current_dir: &Utf8Path) -> Utf8PathBuf {
    match environment.get_str("CARGO_HOME") {
        Some(home) if !home.is_empty() => current_dir.join(home),
        _ => Utf8PathBuf::from(environment.get_str("HOME").unwrap_or_default()).join(".cargo"),
    }
}

fn roots(
    build: &Utf8Path,
    target: &Utf8Path,
    cargo_home: &Utf8Path,
    toolchain: &Toolchain,
    workspace: &Utf8Path,
    launcher: Option<Utf8PathBuf>,
) -> Roots {
    let mut entries = vec![
        (RootKind::BuildDirectory, build.to_owned()),
        (RootKind::CargoHome, cargo_home.to_owned()),
        (RootKind::Workspace, workspace.to_owned()),
    ];
    if target != build {
        entries.push((RootKind::TargetDirectory, target.to_owned()));
    }
    // A distribution's compiler has `/usr` for its sysroot, which is in every file and the same everywhere.
    if toolchain.sysroot.components().count() > 3 {
        entries.push((RootKind::Sysroot, toolchain.sysroot.clone()));
    }
    entries.extend(launcher.map(|directory| (RootKind::Launcher, directory)));
    Roots::new(entries).following_links()
}
