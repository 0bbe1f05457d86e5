//! The planned units in the shape that the rest of the program knows: dependencies first, packages with their
//! metadata, sources and checksums.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use camino::Utf8Path;
use serde::Deserialize;

use super::lto::UnitLto;
use super::manifest::WorkspaceFiles;
use super::units::{Mode, Unit, UnitEdges, UnitId};
use super::workspace::PackageNode;
use super::{PlanError, Planner};
use crate::cargo::arguments::CargoCommand;
use crate::unit::{
    BoundaryKind, CompileMode, PackageIndex, PackageSource, PlannedPackage, PlannedTarget, PlannedUnit, TargetKind,
    UnitDependency, UnitGraph, UnitIndex,
};

/// Makes the graph. Documentation tests are no units of ours: what they need is built, they themselves are cargo's.
pub(super) fn assemble<'m>(
    planner: &Planner<'m>,
    command: &CargoCommand,
    files: &WorkspaceFiles,
    roots: &[UnitId],
    edges: &UnitEdges<'m>,
    lto: &HashMap<UnitId, UnitLto>,
) -> Result<UnitGraph, PlanError> {
    let order = dependencies_first(planner, roots, edges);
    let mode = |id: UnitId| planner.interner.get(id).mode;
    let order: Vec<UnitId> = order.into_iter().filter(|id| mode(*id) != Mode::Doctest).collect();
    let index: HashMap<UnitId, UnitIndex> = (0..).map(UnitIndex).zip(&order).map(|(index, id)| (*id, index)).collect();

    let used: BTreeSet<usize> = order.iter().map(|id| planner.interner.get(*id).package).collect();
    let package_index: HashMap<usize, PackageIndex> =
        (0..).map(PackageIndex).zip(&used).map(|(index, package)| (*package, index)).collect();
    let checksums = checksums(files.lock.as_deref());
    let root = planner.workspace.root;
    let packages = used.iter().map(|package| planned_package(&planner.workspace.packages[*package], root, &checksums));
    let packages = packages.collect::<Result<_, _>>()?;

    let primary: HashSet<usize> = roots.iter().map(|id| planner.interner.get(*id).package).collect();
    let only_root = roots.first().filter(|_| roots.len() == 1);
    let is_root: HashSet<UnitId> = roots.iter().copied().collect();
    let units = order
        .iter()
        .map(|id| {
            let unit = planner.interner.get(*id);
            let target = unit.target(planner.workspace);
            let flags = match unit.mode {
                Mode::Doc => planner.platforms.rustdocflags(unit.kind),
                _ => planner.platforms.rustflags(unit.kind),
            };
            let dependencies = edges[id].iter().map(|edge| UnitDependency {
                unit: index[&edge.unit],
                extern_crate_name: edge.extern_name.clone().into_owned(),
                public: false,
                noprelude: false,
            });
            let mut extra_args = Vec::new();
            if only_root == Some(id) {
                extra_args.extend(command.extra_compiler_arguments().iter().cloned());
            }
            let is_binary = target.kind == TargetKind::Bin;
            if is_root.contains(id) && unit.mode == Mode::Doc && (is_binary || command.document_private_items) {
                extra_args.push("--document-private-items".to_owned());
                if is_binary {
                    extra_args.push("-Arustdoc::private-intra-doc-links".to_owned());
                }
            }
            let lto = lto.get(id).expect("every unit was reached from the roots");
            PlannedUnit {
                package: package_index[&unit.package],
                target: PlannedTarget {
                    name: target.data.name.to_string(),
                    kind: target.kind,
                    crate_types: target.crate_types.clone(),
                    source_path: target.data.src_path.clone(),
                    edition: target.data.edition.to_string(),
                    harness: target.harness,
                },
                mode: compile_mode(&unit),
                platform: planner.platforms.compile_platform(unit.kind),
                features: unit.features.iter().map(|feature| (*feature).to_owned()).collect(),
                profile: unit.profile.to_unit_profile(lto.name()),
                rustflags: flags.to_vec(),
                linker: planner.platforms.linker(unit.kind).map(str::to_owned),
                extra_args,
                primary: primary.contains(&unit.package),
                dependencies: dependencies.collect(),
            }
        })
        .collect();
    let roots = roots.iter().filter_map(|root| index.get(root).copied()).collect();
    Ok(UnitGraph { packages, units, roots, passed_through: Vec::new() })
}

fn compile_mode(unit: &Unit<'_>) -> CompileMode {
    match unit.mode {
        Mode::Test => CompileMode::Test,
        Mode::Check { test } => CompileMode::Check { test },
        Mode::Doc => CompileMode::Doc,
        Mode::RunBuildScript => CompileMode::RunCustomBuild,
        Mode::Build | Mode::Doctest => CompileMode::Build,
    }
}

/// The units, each after all that it depends on; in cargo's order where that leaves a choice.
fn dependencies_first<'m>(planner: &Planner<'m>, roots: &[UnitId], edges: &UnitEdges<'m>) -> Vec<UnitId> {
    let mut roots = roots.to_vec();
    roots.sort_by(|a, b| planner.interner.compare(planner.workspace, *a, *b));
    let mut order = Vec::with_capacity(edges.len());
    let mut seen = HashSet::with_capacity(edges.len());
    let mut stack: Vec<(UnitId, usize)> = Vec::new();
    for root in roots {
        if seen.insert(root) {
            stack.push((root, 0));
        }
        while let Some((id, next)) = stack.last_mut() {
            match edges[id].get(*next) {
                Some(edge) => {
                    *next += 1;
                    if seen.insert(edge.unit) {
                        stack.push((edge.unit, 0));
                    }
                }
                None => {
                    order.push(*id);
                    stack.pop();
                }
            }
        }
    }
    order
}

fn planned_package(
    package: &PackageNode<'_>,
    root: &Utf8Path,
    checksums: &Checksums,
) -> Result<PlannedPackage, PlanError> {
    let data = package.data;
    Ok(PlannedPackage {
        id: data.id.to_string(),
        name: data.name.to_string(),
        version: data.version.to_string(),
        source: source(package, root, checksums),
        manifest_path: data.manifest_path.clone(),
        links: data.links.clone(),
        environment: environment(package),
        declared_features: data.features.keys().cloned().collect(),
        declared_inputs: declared_inputs(package)?,
    })
}

fn source(package: &PackageNode<'_>, root: &Utf8Path, checksums: &Checksums) -> PackageSource {
    let Some(source) = package.data.source.as_ref().map(|source| &*source.repr) else {
        let boundary = if package.is_member {
            BoundaryKind::Member
        } else if package.data.manifest_path.starts_with(root) {
            BoundaryKind::InsideWorkspace
        } else {
            BoundaryKind::OutsideWorkspace
        };
        return PackageSource::Path { boundary };
    };
    if let Some((url, commit)) = source.split_once('#')
        && source.starts_with("git+")
    {
        return PackageSource::Git { url: url.to_owned(), commit: commit.to_owned() };
    }
    let key = (package.data.name.to_string(), package.data.version.to_string(), source.to_owned());
    PackageSource::Registry { url: source.to_owned(), checksum: checksums.get(&key).cloned() }
}

/// The variables of cargo's `core/manifest.rs` and `core/compiler/compilation.rs`; absent values are empty.
fn environment(package: &PackageNode<'_>) -> BTreeMap<String, String> {
    let (data, version) = (package.data, package.version);
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let path = |value: Option<&Utf8Path>| value.map_or_else(String::new, |path| path.to_string());
    [
        ("CARGO_PKG_AUTHORS", data.authors.join(":")),
        ("CARGO_PKG_DESCRIPTION", text(data.description.as_deref())),
        ("CARGO_PKG_HOMEPAGE", text(data.homepage.as_deref())),
        ("CARGO_PKG_LICENSE", text(data.license.as_deref())),
        ("CARGO_PKG_LICENSE_FILE", path(data.license_file.as_deref())),
        ("CARGO_PKG_NAME", data.name.to_string()),
        ("CARGO_PKG_README", path(data.readme.as_deref())),
        ("CARGO_PKG_REPOSITORY", text(data.repository.as_deref())),
        ("CARGO_PKG_RUST_VERSION", text(package.rust_version)),
        ("CARGO_PKG_VERSION", version.to_string()),
        ("CARGO_PKG_VERSION_MAJOR", version.major.to_string()),
        ("CARGO_PKG_VERSION_MINOR", version.minor.to_string()),
        ("CARGO_PKG_VERSION_PATCH", version.patch.to_string()),
        ("CARGO_PKG_VERSION_PRE", version.pre.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// `[package.metadata.nixcache] inputs`. The user counts on what it says, so what can't be understood is an error; in
/// what others have published, it is nothing that the user could mend.
fn declared_inputs(package: &PackageNode<'_>) -> Result<Option<Vec<String>>, PlanError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nixcache {
        inputs: Option<Vec<String>>,
    }
    let Some(declared) = package.data.metadata.get("nixcache") else { return Ok(None) };
    match Nixcache::deserialize(declared) {
        Ok(nixcache) => Ok(nixcache.inputs),
        Err(_) if package.data.source.is_some() => Ok(None),
        Err(error) => {
            let path = package.data.manifest_path.clone();
            Err(PlanError::Declaration { path, message: error.to_string() })
        }
    }
}

type Checksums = HashMap<(String, String, String), String>;

/// The checksums of the lock file, read line by line: cargo writes one key per line, and a parser of all TOML would
/// take longer than the rest of the plan.
fn checksums(lock: Option<&str>) -> Checksums {
    let mut checksums = Checksums::new();
    let (mut name, mut version, mut source) = ("", "", "");
    for line in lock.unwrap_or_default().lines() {
        if line == "[[package]]" {
            (name, version, source) = ("", "", "");
            continue;
        }
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.trim_matches('"');
        match key {
            "name" => name = value,
            "version" => version = value,
            "source" => source = value,
            "checksum" => {
                checksums.insert((name.to_owned(), version.to_owned(), source.to_owned()), value.to_owned());
            }
            _ => {}
        }
    }
    checksums
}
