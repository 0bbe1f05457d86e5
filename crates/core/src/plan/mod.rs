//! From a workspace and a cargo command to the graph of planned units. Pure.
//!
//! [`plan`] follows cargo's own way: which packages and features (`selection`, `features`), which units are
//! asked for (`roots`), what these depend on (`dependencies`), which of them are the same (`share`), what
//! link-time optimisation asks of each (`lto`). What it does not know it does not guess: the command is passed
//! through, and the graph says why.

mod assemble;
mod dependencies;
mod features;
mod lto;
mod manifest;
mod platform;
mod profiles;
mod roots;
mod selection;
mod sets;
mod share;
mod units;
mod workspace;

use std::collections::HashMap;
use std::rc::Rc;

use camino::Utf8PathBuf;

pub use self::manifest::{WorkspaceAnswer, WorkspaceFiles, WorkspacePlaces};
pub use self::sets::{PlannedSet, SetKind, own_packages, own_units, planned_sets};

use self::features::{ResolvedFeatures, ResolverOptions};
use self::manifest::ManifestFacts;
use self::platform::{Kind, Platforms};
use self::profiles::Profiles;
use self::units::{FeatureSet, Interner, Mode, UnitEdges};
use self::workspace::Workspace;
use crate::cargo::arguments::{CargoCommand, Filter, Intent};
use crate::cargo::config::BuildConfiguration;
use crate::cargo::metadata::{Metadata, MetadataError, is_dev};
use crate::cargo::profile::ProfileError;
use crate::cargo::toolchain::Toolchain;
use crate::unit::{PassedThrough, TargetKind, UnitGraph};

/// Why there is no plan. Most of these are errors that cargo itself is about to report.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The metadata cannot be read.
    #[error("read the metadata")]
    Metadata(#[from] MetadataError),
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A manifest is not what cargo would accept.
    #[error("read the manifest {path}: {message}")]
    Manifest {
        /// The manifest.
        path: Utf8PathBuf,
        /// What is wrong.
        message: String,
    },
    /// `[package.metadata.nixcache]` says something that is not known.
    #[error("read [package.metadata.nixcache] of {path}: {message}")]
    Declaration {
        /// The manifest.
        path: Utf8PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A profile is not what cargo would accept.
    #[error("read a profile")]
    Profile(#[from] ProfileError),
    /// The metadata names a package that it does not hold.
    #[error("the metadata has no package {0}")]
    UnknownPackage(String),
    /// No declared dependency explains an edge of the resolved graph.
    #[error("no dependency that {package} declares stands for {dependency}")]
    UnmatchedDependency {
        /// Who depends.
        package: String,
        /// On whom.
        dependency: String,
    },
    /// The toolchain was not asked about a target.
    #[error("the cfg values of {0} are unknown")]
    MissingCfg(String),
    /// More targets than anyone builds for.
    #[error("too many targets")]
    TooManyTargets,
    /// No package is current.
    #[error("there is no package in the current directory")]
    NoCurrentPackage,
    /// A `-p` that matches nothing.
    #[error("no package matches {0:?}")]
    NoSuchPackage(String),
    /// A `-p` that matches several packages.
    #[error("several packages match {0:?}")]
    AmbiguousPackage(String),
    /// No package is selected.
    #[error("no package is selected")]
    NothingSelected,
    /// Tests of a package that is no member, and has dev-dependencies, which are not resolved.
    #[error("package {0} is not a member, and its tests have dependencies")]
    ForeignTests(String),
    /// A feature that no selected member has.
    #[error("no selected package has the feature {0}")]
    UnknownFeature(String),
    /// Features for packages that are not members.
    #[error("features cannot be chosen for packages outside the workspace")]
    FeaturesOfNoMember,
    /// A target that does not exist.
    #[error("no target matches {0:?}")]
    NoSuchTarget(String),
    /// `--lib` without a library.
    #[error("no selected package has a library")]
    NoLibrary,
    /// `cargo run` without a binary, or with several.
    #[error("there are {0} binaries to run")]
    NotOneBinary(usize),
    /// A target whose features are off.
    #[error("the target {0} requires features that are off")]
    RequiredFeatures(String),
    /// A profile that nobody defines.
    #[error("the profile {0} is not defined")]
    UndefinedProfile(String),
    /// A profile that inherits from itself.
    #[error("the profile {0} inherits from itself")]
    ProfileLoop(String),
    /// A package whose features were not resolved.
    #[error("the features of {0} are unknown")]
    UnresolvedFeatures(String),
}

/// Why a command is left to cargo, as far as its arguments and the configuration tell. If there is any reason, nothing
/// else needs to be asked or read.
pub fn left_to_cargo(command: &CargoCommand, config: &BuildConfiguration) -> Vec<PassedThrough> {
    let mut reasons: Vec<PassedThrough> = command.unplannable.iter().chain(&config.unplanned).cloned().collect();
    if command.intent().is_none() {
        reasons
            .push(PassedThrough { what: command.subcommand.to_string(), why: "not a command that builds".to_owned() });
    }
    reasons
}

/// Plans `command`.
///
/// `metadata` is the parsed answer of [`crate::cargo::metadata::read`], `files` what [`WorkspaceFiles::read`] found.
/// Where the command cannot be planned the graph is empty, and [`UnitGraph::passed_through`] says why.
///
/// # Errors
///
/// When what is given contradicts itself, or is such that cargo would refuse the command too.
pub fn plan(
    metadata: &Metadata,
    files: &WorkspaceFiles,
    command: &CargoCommand,
    config: &BuildConfiguration,
    toolchain: &Toolchain,
) -> Result<UnitGraph, PlanError> {
    let mut unplanned = left_to_cargo(command, config);
    let Some(intent) = command.intent() else { return Ok(passed_through(unplanned)) };
    let facts = ManifestFacts::new(files, &metadata.answer.workspace_root)?;
    let workspace = Workspace::new(metadata, &facts)?;
    let profiles = Profiles::new(&command.profile_name(), &facts.profiles, config)?;
    let unstable = facts.unplanned.iter().cloned().chain(profiles.unplanned());
    unplanned.extend(unstable.map(|what| PassedThrough { what, why: "unstable or unknown".to_owned() }));
    if metadata.has_artifact_dependencies() {
        unplanned.push(PassedThrough { what: "artifact dependencies".to_owned(), why: "they are unstable".to_owned() });
    }
    if !unplanned.is_empty() {
        return Ok(passed_through(unplanned));
    }

    let platforms = Platforms::new(command, config, toolchain, &workspace.platforms)?;
    let packages = selection::packages(&workspace, command)?;
    let filter = filter(command, &workspace, &packages)?;
    if intent.is_test() || intent == Intent::Doctest {
        let tested = |package: &&usize| {
            let package = &workspace.packages[**package];
            !package.is_member && package.data.dependencies.iter().any(is_dev)
        };
        if let Some(package) = packages.iter().find(tested) {
            return Err(PlanError::ForeignTests(workspace.packages[*package].data.name.to_string()));
        }
    }
    let unread = foreign_tests(&workspace, files, &packages, intent, &filter);
    if !unread.is_empty() {
        return Ok(passed_through(unread));
    }
    let scrapes_examples = packages.iter().any(|package| {
        let manifest = &workspace.packages[*package].data.manifest_path;
        facts.scrape_examples.iter().any(|path| path == manifest)
    });
    let is_documentation = matches!(intent, Intent::Doc { .. });
    let builds_dev_dependencies = filter.needs_dev_dependencies(intent) || (is_documentation && scrapes_examples);
    let per_member = workspace.current.is_none() || facts.resolver >= 2;
    let members = selection::member_features(&workspace, &packages, &command.features, per_member)?;
    let options = ResolverOptions::new(facts.resolver, builds_dev_dependencies);
    let resolved = ResolvedFeatures::resolve(&workspace, &platforms, options, &members);

    let mut planner = Planner {
        workspace: &workspace,
        platforms,
        profiles,
        resolved,
        intent,
        builds_dev_dependencies,
        interner: Interner::default(),
        feature_sets: HashMap::new(),
    };
    let roots = planner.roots(&packages, &filter)?;
    let mut edges = planner.dependencies(&roots)?;
    let for_host_alone = planner.platforms.requested == [Kind::Host];
    if intent == (Intent::Doc { dependencies: true }) {
        share::remove_duplicate_documentation(&planner.interner, &workspace, &mut edges, &roots, for_host_alone);
    }
    let to_host = for_host_alone.then_some(planner.platforms.explicit_host);
    let (roots, edges) = share::share(&mut planner.interner, &edges, &roots, to_host);
    let replaced = planner.replaced_build_scripts(&edges);
    if !replaced.is_empty() {
        return Ok(passed_through(replaced));
    }
    let lto = lto::decide(&planner.interner, &workspace, &edges, &roots);
    assemble::assemble(&planner, command, files, &roots, &edges, &lto)
}

fn passed_through(mut reasons: Vec<PassedThrough>) -> UnitGraph {
    reasons.sort();
    reasons.dedup();
    UnitGraph { passed_through: reasons, ..UnitGraph::default() }
}

/// The targets that a command is about. `cargo run` without names runs `default-run`, if one is declared, or the only
/// binary.
fn filter(command: &CargoCommand, workspace: &Workspace<'_>, packages: &[usize]) -> Result<Filter, PlanError> {
    let filter = command.filter();
    if !command.is_run() || command.names_targets() {
        return Ok(filter);
    }
    let packages = || packages.iter().map(|package| &workspace.packages[*package]);
    let defaults: Vec<&str> = packages().filter_map(|package| package.data.default_run.as_deref()).collect();
    if let [binary] = defaults.as_slice() {
        return Ok(Filter::binary(binary));
    }
    let binaries = packages().flat_map(|package| &package.targets).filter(|target| target.kind == TargetKind::Bin);
    match binaries.count() {
        1 => Ok(Filter::Default { skip_unavailable: false }),
        count => Err(PlanError::NotOneBinary(count)),
    }
}

/// Selected packages of registries and repositories whose tests or benchmarks are built: their manifests, which would
/// say how, are not read.
fn foreign_tests(
    workspace: &Workspace<'_>,
    files: &WorkspaceFiles,
    packages: &[usize],
    intent: Intent,
    filter: &Filter,
) -> Vec<PassedThrough> {
    if !filter.needs_dev_dependencies(intent) {
        return Vec::new();
    }
    let packages = packages.iter().map(|package| workspace.packages[*package].data);
    packages
        .filter(|package| !files.manifests.contains_key(&package.manifest_path))
        .map(|package| PassedThrough {
            what: format!("{} {}", package.name, package.version),
            why: "tests of a package that is not part of the workspace".to_owned(),
        })
        .collect()
}

/// What planning carries about.
struct Planner<'m> {
    workspace: &'m Workspace<'m>,
    platforms: Platforms,
    profiles: Profiles,
    resolved: ResolvedFeatures<'m>,
    intent: Intent,
    builds_dev_dependencies: bool,
    interner: Interner<'m>,
    feature_sets: HashMap<(usize, bool), FeatureSet<'m>>,
}

impl<'m> Planner<'m> {
    /// Build scripts whose output the configuration replaces: what depends on them depends on it.
    fn replaced_build_scripts(&self, edges: &UnitEdges<'m>) -> Vec<PassedThrough> {
        let mut replaced = Vec::new();
        for id in edges.keys() {
            let unit = self.interner.get(*id);
            let package = self.workspace.packages[unit.package].data;
            if unit.mode == Mode::RunBuildScript
                && package.links.as_deref().is_some_and(|links| self.platforms.overrides_links(unit.kind, links))
            {
                replaced.push(PassedThrough {
                    what: format!("{} {} run-build-script", package.name, package.version),
                    why: "the configuration replaces its output".to_owned(),
                });
            }
        }
        replaced
    }

    /// The features of a unit of `package`.
    fn features(&mut self, package: usize, host: bool) -> Result<FeatureSet<'m>, PlanError> {
        if let Some(features) = self.feature_sets.get(&(package, host)) {
            return Ok(Rc::clone(features));
        }
        let name = || self.workspace.packages[package].data.id.to_string();
        let features = self.resolved.features(package, host).ok_or_else(|| PlanError::UnresolvedFeatures(name()))?;
        let features = Rc::new(features.clone());
        self.feature_sets.insert((package, host), Rc::clone(&features));
        Ok(features)
    }
}
