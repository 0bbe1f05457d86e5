//! The packages of a workspace as planning sees them: sorted as cargo sorts them, with edges that know which
//! declared dependencies they stand for. Made from `cargo metadata` and the manifests; refuses nothing that
//! cargo accepts, except artifact dependencies, which it reports.

use std::collections::HashMap;

use camino::Utf8Path;
use cargo_metadata::{DepKindInfo, Dependency, NodeDep, Package, PackageId, Target};
use cargo_platform::Platform;
use semver::{Version, VersionReq};

use super::PlanError;
use super::manifest::ManifestFacts;
use crate::cargo::metadata::Metadata;
use crate::unit::{CrateType, TargetKind};

/// A package of the workspace's graph.
pub(super) struct PackageNode<'m> {
    pub(super) data: &'m Package,
    pub(super) version: &'m Version,
    /// `rust-version`, as the manifest has it.
    pub(super) rust_version: Option<&'m str>,
    pub(super) is_member: bool,
    pub(super) is_default_member: bool,
    pub(super) edges: Vec<Edge<'m>>,
    pub(super) targets: Vec<TargetNode<'m>>,
    /// The library, if there is one.
    pub(super) library: Option<usize>,
    pub(super) has_proc_macro: bool,
}

/// A dependency on another package, with the declarations that it stands for.
pub(super) struct Edge<'m> {
    pub(super) to: usize,
    pub(super) declared: Vec<Declared<'m>>,
}

/// A declared dependency, with its platform interned.
pub(super) struct Declared<'m> {
    pub(super) dependency: &'m Dependency,
    pub(super) platform: Option<usize>,
}

/// A target, with what cargo knows about its kind.
pub(super) struct TargetNode<'m> {
    pub(super) data: &'m Target,
    pub(super) kind: TargetKind,
    pub(super) crate_types: Vec<CrateType>,
    pub(super) proc_macro: bool,
    /// Whether it is always built for the host: proc macros and build scripts.
    pub(super) for_host: bool,
    pub(super) linkable: bool,
    pub(super) bench: bool,
    pub(super) harness: bool,
    /// Where the target comes in cargo's order of a package's targets.
    pub(super) rank: usize,
}

/// The workspace.
pub(super) struct Workspace<'m> {
    pub(super) root: &'m Utf8Path,
    /// Sorted by name, version, source: cargo's order of package ids.
    pub(super) packages: Vec<PackageNode<'m>>,
    /// The package of the current directory.
    pub(super) current: Option<usize>,
    /// Every platform that some dependency names.
    pub(super) platforms: Vec<&'m Platform>,
}

impl<'m> Workspace<'m> {
    pub(super) fn new(metadata: &'m Metadata, facts: &ManifestFacts) -> Result<Self, PlanError> {
        let mut order: Vec<(&Package, Option<&str>)> = metadata.packages().collect();
        order.sort_by(|(a, _), (b, _)| {
            let source = |package: &'m Package| package.source.as_ref().map(|source| &*source.repr);
            (&*a.name, &a.version, source(a), &a.id).cmp(&(&*b.name, &b.version, source(b), &b.id))
        });
        let index: HashMap<&PackageId, usize> = order.iter().enumerate().map(|(i, (p, _))| (&p.id, i)).collect();
        let mut packages: Vec<PackageNode<'m>> = order
            .into_iter()
            .map(|(data, rust_version)| {
                let targets = targets(data, facts);
                PackageNode {
                    data,
                    version: &data.version,
                    rust_version,
                    is_member: false,
                    is_default_member: false,
                    edges: Vec::new(),
                    library: targets.iter().position(|target| target.kind == TargetKind::Lib),
                    has_proc_macro: targets.iter().any(|target| target.proc_macro),
                    targets,
                }
            })
            .collect();
        let find = |id: &PackageId| index.get(id).copied().ok_or_else(|| PlanError::UnknownPackage(id.to_string()));
        for id in &metadata.answer.workspace_members {
            packages[find(id)?].is_member = true;
        }
        for id in metadata.answer.workspace_default_members.iter() {
            packages[find(id)?].is_default_member = true;
        }

        let mut platforms = Platforms::default();
        for node in &metadata.resolve().nodes {
            let from = find(&node.id)?;
            let mut edges: Vec<Edge<'m>> = Vec::with_capacity(node.deps.len());
            for dependency in &node.deps {
                let to = find(&dependency.pkg)?;
                let is_ambiguous = node.deps.iter().filter(|other| !std::ptr::eq(*other, dependency)).any(|other| {
                    index.get(&other.pkg).is_some_and(|other| packages[*other].data.name == packages[to].data.name)
                });
                let declared = declared(&packages, from, to, dependency, is_ambiguous, &mut platforms)?;
                match edges.iter_mut().find(|edge| edge.to == to) {
                    Some(edge) => edge.declared.extend(declared),
                    None => edges.push(Edge { to, declared }),
                }
            }
            edges.sort_by_key(|edge| edge.to);
            packages[from].edges = edges;
        }
        let current = metadata.resolve().root.as_ref().map(find).transpose()?;
        let root = &*metadata.answer.workspace_root;
        Ok(Self { root, packages, current, platforms: platforms.list })
    }

    pub(super) fn members(&self) -> impl Iterator<Item = usize> {
        self.packages.iter().enumerate().filter(|(_, package)| package.is_member).map(|(index, _)| index)
    }
}

#[derive(Default)]
struct Platforms<'m> {
    list: Vec<&'m Platform>,
    index: HashMap<&'m Platform, usize>,
}

impl<'m> Platforms<'m> {
    fn intern(&mut self, platform: &'m Platform) -> usize {
        *self.index.entry(platform).or_insert_with(|| {
            self.list.push(platform);
            self.list.len() - 1
        })
    }
}

/// Which declared dependencies of `from` the resolver answered with `to`.
///
/// The metadata names kinds and platforms of an edge but not the declarations; where one package is depended
/// upon in two versions, the requirement and the extern name tell them apart.
fn declared<'m>(
    packages: &[PackageNode<'m>],
    from: usize,
    to: usize,
    edge: &NodeDep,
    is_ambiguous: bool,
    platforms: &mut Platforms<'m>,
) -> Result<Vec<Declared<'m>>, PlanError> {
    let package = &packages[to];
    let candidates: Vec<&'m Dependency> = packages[from]
        .data
        .dependencies
        .iter()
        .filter(|dependency| {
            let listed = |kind: &DepKindInfo| kind.kind == dependency.kind && kind.target == dependency.target;
            package.data.name == dependency.name && edge.dep_kinds.iter().any(listed)
        })
        .collect();
    // Several declarations can name the package without all of them being answered by this version of it: another
    // version may be in the graph, or one that no feature turns on may not.
    let is_alone = |one: &Dependency| {
        candidates.iter().all(|other| other.req == one.req && other.rename == one.rename) && !is_ambiguous
    };
    let library = package.library.map(|library| package.targets[library].data.name.replace('-', "_"));
    let mut found = Vec::new();
    for dependency in &candidates {
        if !is_alone(dependency) {
            let matches = dependency.req == VersionReq::STAR || dependency.req.matches(package.version);
            let extern_name = match &dependency.rename {
                Some(rename) => Some(rename.replace('-', "_")),
                None => library.clone(),
            };
            if !matches || extern_name.is_some_and(|extern_name| extern_name != edge.name) {
                continue;
            }
        }
        let platform = dependency.target.as_ref().map(|platform| platforms.intern(platform));
        found.push(Declared { dependency, platform });
    }
    if found.is_empty() {
        return Err(PlanError::UnmatchedDependency {
            package: packages[from].data.id.to_string(),
            dependency: packages[to].data.id.to_string(),
        });
    }
    Ok(found)
}

fn targets<'m>(package: &'m Package, facts: &ManifestFacts) -> Vec<TargetNode<'m>> {
    let mut targets: Vec<TargetNode<'m>> = package
        .targets
        .iter()
        .map(|data| {
            let kind = match data.kind.first() {
                Some(cargo_metadata::TargetKind::Bin) => TargetKind::Bin,
                Some(cargo_metadata::TargetKind::Example) => TargetKind::Example,
                Some(cargo_metadata::TargetKind::Test) => TargetKind::Test,
                Some(cargo_metadata::TargetKind::Bench) => TargetKind::Bench,
                Some(cargo_metadata::TargetKind::CustomBuild) => TargetKind::CustomBuild,
                _ => TargetKind::Lib,
            };
            let crate_types: Vec<CrateType> = data.crate_types.iter().map(crate_type).collect();
            let proc_macro = kind == TargetKind::Lib && crate_types.contains(&CrateType::ProcMacro);
            let linkable = kind == TargetKind::Lib
                && crate_types.iter().any(|kind| {
                    matches!(kind, CrateType::Lib | CrateType::Rlib | CrateType::Dylib | CrateType::ProcMacro)
                });
            let declared = facts.target(&package.manifest_path, kind, &data.name);
            TargetNode {
                data,
                kind,
                crate_types,
                proc_macro,
                for_host: proc_macro || kind == TargetKind::CustomBuild,
                linkable,
                bench: declared.bench,
                harness: declared.harness,
                rank: 0,
            }
        })
        .collect();
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by(|a, b| target_order(&targets[*a]).cmp(&target_order(&targets[*b])));
    for (rank, index) in order.into_iter().enumerate() {
        targets[index].rank = rank;
    }
    targets
}

/// Cargo orders targets by kind (with the crate types of libraries), name and source.
fn target_order<'t>(target: &'t TargetNode<'_>) -> (u8, Vec<u8>, &'t str, &'t str) {
    let types = || target.crate_types.iter().map(crate_type_order).collect();
    let is_example_library = target.kind == TargetKind::Example && target.crate_types != [CrateType::Bin];
    let (kind, types) = match target.kind {
        TargetKind::Lib => (0, types()),
        TargetKind::Bin => (1, Vec::new()),
        TargetKind::Test => (2, Vec::new()),
        TargetKind::Bench => (3, Vec::new()),
        TargetKind::Example if is_example_library => (4, types()),
        TargetKind::Example => (5, Vec::new()),
        TargetKind::CustomBuild => (6, Vec::new()),
    };
    (kind, types, &target.data.name, target.data.src_path.as_str())
}

fn crate_type_order(kind: &CrateType) -> u8 {
    match kind {
        CrateType::Bin => 0,
        CrateType::Lib => 1,
        CrateType::Rlib => 2,
        CrateType::Dylib => 3,
        CrateType::Cdylib => 4,
        CrateType::Staticlib => 5,
        CrateType::ProcMacro => 6,
        CrateType::Other(_) => 7,
    }
}

fn crate_type(kind: &cargo_metadata::CrateType) -> CrateType {
    match kind {
        cargo_metadata::CrateType::Bin => CrateType::Bin,
        cargo_metadata::CrateType::Lib => CrateType::Lib,
        cargo_metadata::CrateType::RLib => CrateType::Rlib,
        cargo_metadata::CrateType::DyLib => CrateType::Dylib,
        cargo_metadata::CrateType::CDyLib => CrateType::Cdylib,
        cargo_metadata::CrateType::StaticLib => CrateType::Staticlib,
        cargo_metadata::CrateType::ProcMacro => CrateType::ProcMacro,
        other => CrateType::Other(other.to_string()),
    }
}
