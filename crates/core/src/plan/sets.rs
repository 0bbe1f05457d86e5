//! Which units travel together: the sets of a plan, each with the key that names it.
//!
//! ```text
//! deps      everything that doesn't belong to the user                    one for the plan
//! package   the units of one package of the user, and the sets of those    one for each package
//!           packages that it depends upon
//! ```
//!
//! Pure. A set is a hint where records may be found: nothing is believed because a set says it, so its key may be
//! weaker than those of units.

use std::collections::BTreeSet;

use camino::Utf8Path;

use crate::digest::{Key, KeyHasher};
use crate::unit::{CompileMode, PackageIndex, UnitGraph, UnitIndex};

const DOMAIN: &str = "set-key/1";

/// What is in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetKind {
    /// Everything that doesn't belong to the user (crane's word).
    Deps,
    /// A package of the user.
    Package(PackageIndex),
}

/// Units that travel together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSet {
    /// What it is.
    pub kind: SetKind,
    /// The package's name; for the deps, that of the package in the workspace root, or `workspace`.
    pub name: String,
    /// The package's version; the deps have none.
    pub version: Option<String>,
    /// Its units, dependencies first. Never empty.
    pub units: Vec<UnitIndex>,
    /// The sets that are needed with it, by their place in the list, where they come before it.
    pub references: Vec<usize>,
    /// What names it. `None` where the plan key of a unit is not known.
    pub key: Option<Key>,
}

/// The packages that belong to the user: path packages that nothing from elsewhere needs.
pub fn own_packages(graph: &UnitGraph) -> BTreeSet<PackageIndex> {
    let mut needed: BTreeSet<UnitIndex> = BTreeSet::new();
    for (index, unit) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if needed.contains(&index) || !graph.package(unit).is_path() {
            needed.extend(unit.dependencies.iter().map(|edge| edge.unit));
        }
    }
    let needed: BTreeSet<_> = needed.iter().map(|index| graph.unit(*index).package).collect();
    let own = graph.units.iter().filter(|unit| graph.package(unit).is_path() && !needed.contains(&unit.package));
    own.map(|unit| unit.package).collect()
}

/// The units that belong to the user, or depend on one that does. All others are the deps.
pub fn own_units(graph: &UnitGraph) -> BTreeSet<UnitIndex> {
    let packages = own_packages(graph);
    let mut own = BTreeSet::new();
    for (index, unit) in graph.iter() {
        if packages.contains(&unit.package) || unit.dependencies.iter().any(|edge| own.contains(&edge.unit)) {
            own.insert(index);
        }
    }
    own
}

/// The sets of a plan: the deps first, then the packages in an order in which each comes after those that it refers
/// to. `keys` are the units' plan keys. What is never kept (documentation) is in no set.
pub fn planned_sets(graph: &UnitGraph, workspace_root: &Utf8Path, keys: &[Option<Key>]) -> Vec<PlannedSet> {
    let own = own_units(graph);
    let kept = |index: &UnitIndex| graph.unit(*index).mode != CompileMode::Doc;
    let (of_packages, deps): (Vec<_>, Vec<_>) =
        graph.iter().map(|(index, _)| index).filter(kept).partition(|index| own.contains(index));
    let mut sets = Vec::new();
    let mut add = |kind, name: String, version: Option<String>, units: Vec<UnitIndex>, references| {
        let key = set_key(kind, &units, keys);
        sets.push(PlannedSet { kind, name, version, units, references, key });
        sets.len() - 1
    };
    let deps = (!deps.is_empty()).then(|| {
        let root = graph.packages.iter().find(|package| package.is_path() && package.root() == workspace_root);
        let name = root.map_or_else(|| "workspace".to_owned(), |package| package.name.clone());
        add(SetKind::Deps, name, None, deps, Vec::new())
    });

    let mut left: Vec<PackageIndex> = of_packages.iter().map(|index| graph.unit(*index).package).collect();
    let sort_key = |package: &PackageIndex| {
        let package = &graph.packages[package.0 as usize];
        (package.name.as_str(), package.version.as_str(), package.id.as_str())
    };
    left.sort_by_key(|package| sort_key(package));
    left.dedup();
    // Which packages of the user a package depends upon, and whether on any of the deps.
    let needs = |package: PackageIndex| -> BTreeSet<Option<PackageIndex>> {
        let units = of_packages.iter().map(|index| graph.unit(*index)).filter(|unit| unit.package == package);
        let edges = units.flat_map(|unit| unit.dependencies.iter().map(|edge| edge.unit)).filter(kept);
        let needed = edges.map(|index| own.contains(&index).then(|| graph.unit(index).package));
        needed.filter(|needed| *needed != Some(package)).collect()
    };
    let mut done: Vec<(PackageIndex, usize)> = Vec::new();
    while !left.is_empty() {
        let is_done = |needed: &Option<PackageIndex>| {
            needed.is_none_or(|needed| done.iter().any(|(package, _)| *package == needed))
        };
        // Packages can need each other, since tests can: then one of them goes without.
        let next = left.iter().position(|package| needs(*package).iter().all(is_done)).unwrap_or(0);
        let index = left.remove(next);
        let set_of = |needed: Option<PackageIndex>| match needed {
            None => deps,
            Some(needed) => done.iter().find(|(package, _)| *package == needed).map(|(_, set)| *set),
        };
        let references: BTreeSet<usize> = needs(index).into_iter().filter_map(set_of).collect();
        let units = of_packages.iter().copied().filter(|unit| graph.unit(*unit).package == index).collect();
        let package = &graph.packages[index.0 as usize];
        let version = Some(package.version.clone());
        let references = references.into_iter().collect();
        done.push((index, add(SetKind::Package(index), package.name.clone(), version, units, references)));
    }
    sets
}

fn set_key(kind: SetKind, units: &[UnitIndex], keys: &[Option<Key>]) -> Option<Key> {
    let mut of_units = Vec::with_capacity(units.len());
    for unit in units {
        of_units.push(*keys[unit.0 as usize]?.as_bytes());
    }
    // The order of units comes from package ids, which hold paths of this machine.
    of_units.sort_unstable();
    let mut hasher = KeyHasher::new(DOMAIN);
    let kind = match kind {
        SetKind::Deps => "deps",
        SetKind::Package(_) => "package",
    };
    hasher.field("kind", kind).list("units", of_units);
    Some(hasher.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::ContentDigest;
    use crate::unit::tests::{edge, package, unit};
    use crate::unit::{BoundaryKind, BuildFacts, CrateType, PackageSource, PlannedPackage, plan_keys, unit_inputs};

    fn registry() -> PackageSource {
        PackageSource::Registry { url: "https://x".to_owned(), checksum: Some("00".to_owned()) }
    }

    const MEMBER: PackageSource = PackageSource::Path { boundary: BoundaryKind::Member };

    /// `app` needs `log` and the member `core`; `core` needs `serde`, and its tests need `app`'s library.
    fn graph(root: &str) -> UnitGraph {
        let path = |name: &str| format!("{root}/{name}");
        let mut tests = unit(0, CrateType::Lib, &path("core"), vec![edge(2, "core"), edge(3, "app")]);
        tests.mode = CompileMode::Test;
        let mut doc = unit(0, CrateType::Lib, &path("core"), vec![edge(0, "serde")]);
        doc.mode = CompileMode::Doc;
        UnitGraph {
            packages: vec![
                package("core", MEMBER, &path("core")),
                package("app", MEMBER, root),
                package("serde", registry(), "/cargo/serde"),
                package("log", registry(), "/cargo/log"),
            ],
            units: vec![
                unit(2, CrateType::Lib, "/cargo/serde", Vec::new()),
                unit(3, CrateType::Lib, "/cargo/log", Vec::new()),
                unit(0, CrateType::Lib, &path("core"), vec![edge(0, "serde")]),
                unit(1, CrateType::Lib, root, vec![edge(1, "log"), edge(2, "core")]),
                tests,
                doc,
            ],
            roots: [UnitIndex(3), UnitIndex(4)].into(),
            passed_through: Vec::new(),
        }
    }

    fn sets(
        graph: &UnitGraph,
        root: &str,
        sources: &dyn Fn(&PlannedPackage) -> Option<ContentDigest>,
    ) -> Vec<PlannedSet> {
        let facts = BuildFacts { workspace_root: root.into(), ..BuildFacts::default() };
        let keys = plan_keys(graph, &unit_inputs(graph, &facts), sources);
        planned_sets(graph, root.into(), &keys)
    }

    fn name_only(package: &PlannedPackage) -> Option<ContentDigest> {
        Some(ContentDigest::of(package.name.as_bytes()))
    }

    #[test]
    fn every_unit_that_is_kept_is_in_one_set() {
        let found = sets(&graph("/work"), "/work", &name_only);
        let shown: Vec<_> = found
            .iter()
            .map(|set| {
                let units: Vec<u32> = set.units.iter().map(|unit| unit.0).collect();
                (set.name.as_str(), matches!(set.kind, SetKind::Deps), units, set.references.clone())
            })
            .collect();
        // The circle through the tests is cut at the package that comes first by name.
        let expected = [
            ("app", true, vec![0, 1], vec![]),
            ("app", false, vec![3], vec![0]),
            ("core", false, vec![2, 4], vec![0, 1]),
        ];
        assert_eq!(shown, expected);
        assert!(sets(&UnitGraph::default(), "/work", &name_only).is_empty());
    }

    #[test]
    fn a_set_refers_to_the_sets_below_it() {
        let mut graph = graph("/work");
        graph.units.truncate(4);
        let found = sets(&graph, "/work", &name_only);
        let shown: Vec<_> = found.iter().map(|set| (set.name.as_str(), set.references.as_slice())).collect();
        assert_eq!(shown, [("app", &[][..]), ("core", &[0]), ("app", &[0, 1])]);
    }

    #[test]
    fn keys_follow_from_the_plan_and_from_no_place() {
        let keys = |graph: &UnitGraph, root, sources: &dyn Fn(&PlannedPackage) -> Option<ContentDigest>| {
            sets(graph, root, sources).into_iter().map(|set| set.key).collect::<Vec<_>>()
        };
        let before = keys(&graph("/work"), "/work", &name_only);
        assert!(before.iter().all(Option::is_some));
        assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(keys(&graph("/elsewhere"), "/elsewhere", &name_only), before);

        // A source of `core` concerns all that is above it, and the deps are none of that.
        let edited = |package: &PlannedPackage| {
            let text = if package.name == "core" { "edited" } else { &package.name };
            Some(ContentDigest::of(text.as_bytes()))
        };
        let after = keys(&graph("/work"), "/work", &edited);
        assert_eq!(after[0], before[0]);
        assert_ne!(after[1], before[1]);
        assert_ne!(after[2], before[2]);

        // Another version of `serde`: everything.
        let mut bumped = graph("/work");
        bumped.packages[2].version = "2.0.0".to_owned();
        let after = keys(&bumped, "/work", &name_only);
        assert!(after.iter().zip(&before).all(|(after, before)| after != before));
        // A feature of the program alone.
        let mut featured = graph("/work");
        featured.units[3].features.insert("x".to_owned());
        assert_eq!(keys(&featured, "/work", &name_only)[0], before[0]);
        assert_ne!(keys(&featured, "/work", &name_only)[1], before[1]);

        // Sources that can't be read leave the deps alone with a key.
        let unreadable = keys(&graph("/work"), "/work", &|_| None);
        assert_eq!(unreadable, [before[0], None, None]);
    }

    #[test]
    fn what_something_from_elsewhere_needs_is_among_the_deps() {
        let mut graph = graph("/work");
        graph.units.truncate(4);
        graph.units[1].dependencies = vec![edge(0, "serde")];
        // `log` of the registry needs the path package `serde`: a patch.
        graph.packages[2].source = MEMBER;
        assert_eq!(own_packages(&graph), [PackageIndex(0), PackageIndex(1)].into());
        assert_eq!(own_units(&graph), [UnitIndex(2), UnitIndex(3)].into());
        let edited = |package: &PlannedPackage| Some(ContentDigest::of(format!("{}!", package.name).as_bytes()));
        let key = |sources: &dyn Fn(&PlannedPackage) -> Option<ContentDigest>| sets(&graph, "/work", sources)[0].key;
        assert_ne!(key(&edited), key(&name_only), "its files count for the deps");
    }
}
