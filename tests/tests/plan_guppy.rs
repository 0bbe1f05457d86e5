//! A second opinion: the packages, features and sides of our plans equal those of guppy's `CargoSet`, which follows
//! cargo's rules in code of its own.
//!
//! The unit-graph oracle says the same with more detail, but needs an unstable flag of cargo. guppy knows packages and
//! not units, so only what both know is compared. Nothing is compiled; published crates are downloaded, unless
//! `NIXCACHE_ORACLE=none`.
//!
//! Where the two are known to differ, and how the question is put so that they agree:
//!
//! - Build scripts are units of their own for cargo, and none for guppy: they are left out.
//! - guppy takes one target platform, cargo several: one is named.
//! - guppy knows `cfg(…)` from a table, cargo from rustc: rustc's target features are handed to guppy.
//! - Cargo compiles a proc macro and its unit tests for the host, but its integration tests for the target. guppy puts
//!   the whole package on the host (`Standard`) or on both sides (`ProcMacrosOnTarget`). `Standard` is right where a
//!   proc macro has no integration tests, examples or benchmarks, as in these workspaces.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use guppy::graph::cargo::{CargoOptions, CargoResolverVersion, CargoSet, InitialsPlatform};
use guppy::graph::feature::{FeatureSet, StandardFeatures, named_feature_filter};
use guppy::graph::{DependencyDirection, PackageGraph};
use guppy::platform::{Platform, PlatformSpec, TargetFeatures, Triple};
use nixcache_core::unit::{CompilePlatform, TargetKind, UnitGraph};
use nixcache_tests::PublishedCrate;
use nixcache_tests::oracle::Workspace;

/// The side on which a package is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Host,
    Target,
}

/// Features by package and side.
type Features = BTreeMap<(String, Side), BTreeSet<String>>;

/// What is selected, said once for both.
#[derive(Clone, Copy, Debug, Default)]
struct Selection<'a> {
    /// `-p`; empty for `--workspace`.
    packages: &'a [&'a str],
    no_default: bool,
    all: bool,
    features: &'a [&'a str],
    /// `test --all-targets` rather than `build`.
    tests: bool,
}

impl Selection<'_> {
    /// As a command line. The host is named as the target: so the plan tells the sides apart.
    fn command_line(&self, host: &str) -> Vec<String> {
        let mut line: Vec<String> = match self.tests {
            true => ["test", "--no-run", "--all-targets"].map(str::to_owned).to_vec(),
            false => vec!["build".to_owned()],
        };
        line.extend(["--locked", "--target", host].map(str::to_owned));
        match self.packages {
            [] => line.push("--workspace".to_owned()),
            packages => line.extend(packages.iter().flat_map(|name| ["-p".to_owned(), (*name).to_owned()])),
        }
        line.extend(self.no_default.then(|| "--no-default-features".to_owned()));
        line.extend(self.all.then(|| "--all-features".to_owned()));
        if !self.features.is_empty() {
            line.push(format!("--features={}", self.features.join(",")));
        }
        line
    }

    fn initials<'g>(&self, graph: &'g PackageGraph) -> FeatureSet<'g> {
        let packages = match self.packages {
            [] => graph.resolve_workspace(),
            names => graph.resolve_workspace_names(names.iter().copied()).expect("the members are known"),
        };
        let base = match (self.all, self.no_default) {
            (true, _) => StandardFeatures::All,
            (false, true) => StandardFeatures::None,
            (false, false) => StandardFeatures::Default,
        };
        packages.to_feature_set(named_feature_filter(base, self.features.iter().copied()))
    }
}

/// What guppy says.
fn of_guppy(
    metadata: &str,
    selection: &Selection<'_>,
    platform: &Platform,
    resolver: CargoResolverVersion,
) -> Features {
    let graph = PackageGraph::from_json(metadata).expect("guppy reads the metadata");
    let mut options = CargoOptions::new();
    options
        .set_resolver(resolver)
        .set_include_dev(selection.tests)
        .set_initials_platform(InitialsPlatform::Standard)
        .set_platform(PlatformSpec::platforms([platform.clone()]));
    let set: CargoSet<'_> = selection.initials(&graph).into_cargo_set(&options).expect("guppy resolves features");
    let sides = [(Side::Target, set.target_features()), (Side::Host, set.host_features())];
    let mut found = Features::new();
    for (side, features) in sides {
        for list in features.packages_with_features(DependencyDirection::Forward) {
            let named = list.named_features().map(str::to_owned).collect();
            found.insert((list.package().id().repr().to_owned(), side), named);
        }
    }
    found
}

/// What our plan says. Build scripts are left out: guppy has none, and their features are those of their package.
fn of_plan(graph: &UnitGraph) -> Features {
    let mut found = Features::new();
    for (_, unit) in graph.iter().filter(|(_, unit)| unit.target.kind != TargetKind::CustomBuild) {
        let side = if unit.platform == CompilePlatform::Host { Side::Host } else { Side::Target };
        let features: BTreeSet<String> = unit.features.iter().cloned().collect();
        let known = found.entry((graph.package(unit).id.clone(), side)).or_insert_with(|| features.clone());
        assert_eq!(*known, features, "two sets of features for {} on one side", graph.package(unit).id);
    }
    found
}

/// The differences that remain, one line each.
fn differences(ours: &Features, theirs: &Features) -> Vec<String> {
    let mut lines = Vec::new();
    for key in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        match (ours.get(key), theirs.get(key)) {
            (Some(a), Some(b)) if a == b => {}
            (ours, theirs) => lines.push(format!("{} {:?}: planned {ours:?}, guppy {theirs:?}", key.0, key.1)),
        }
    }
    lines
}

/// The platform of this machine as rustc describes it: its features decide `cfg(target_feature = …)`.
fn this_platform() -> (String, Platform) {
    let rustc = |arguments: &[&str]| {
        let output = Command::new("rustc").args(arguments).output().expect("rustc starts");
        String::from_utf8(output.stdout).expect("rustc prints text")
    };
    let version = rustc(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned();
    let cfg = rustc(&["--print", "cfg"]);
    let features: Vec<String> = cfg
        .lines()
        .filter_map(|line| Some(line.strip_prefix("target_feature=\"")?.trim_end_matches('"').to_owned()))
        .collect();
    let triple = Triple::new(host.clone()).expect("guppy knows the host");
    (host, Platform::from_triple(triple, TargetFeatures::features(features)))
}

/// The resolver that a root manifest names, or that its edition stands for.
fn resolver(directory: &Utf8Path) -> CargoResolverVersion {
    let text = std::fs::read_to_string(directory.join("Cargo.toml")).expect("there is a manifest");
    let manifest: toml::Table = text.parse().expect("the manifest is TOML");
    let of = |table: &str, key: &str| manifest.get(table)?.get(key)?.as_str().map(str::to_owned);
    let named = of("workspace", "resolver").or_else(|| of("package", "resolver"));
    let implied = || match of("package", "edition").as_deref() {
        Some("2024") => "3".to_owned(),
        Some("2021") => "2".to_owned(),
        _ => "1".to_owned(),
    };
    match named.unwrap_or_else(implied).as_str() {
        "1" => CargoResolverVersion::V1,
        "2" => CargoResolverVersion::V2,
        _ => CargoResolverVersion::V3,
    }
}

/// Compares one workspace, with each selection, and returns how many packages were compared.
fn compare(directory: &Utf8Path, selections: &[Selection<'_>]) -> usize {
    let (host, platform) = this_platform();
    let resolver = resolver(directory);
    let mut workspace = Workspace::new(directory, &[]);
    let mut compared = 0;
    for selection in selections {
        let line = selection.command_line(&host);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let graph = workspace.plan(&line).unwrap_or_else(|error| panic!("{directory}: {line:?}: {error}"));
        assert!(graph.passed_through.is_empty(), "{directory}: {line:?}: {:?}", graph.passed_through);
        let metadata = workspace.metadata().expect("a plan was made");
        let (ours, theirs) = (of_plan(&graph), of_guppy(metadata, selection, &platform, resolver));
        let lines = differences(&ours, &theirs);
        assert!(lines.is_empty(), "{directory}: {line:?}, resolver {resolver:?}\n{}", lines.join("\n"));
        compared += ours.len();
    }
    compared
}

fn usual() -> Vec<Selection<'static>> {
    let plain = Selection::default();
    vec![
        plain,
        Selection { no_default: true, ..plain },
        Selection { all: true, ..plain },
        Selection { tests: true, ..plain },
    ]
}

#[test]
fn guppy_agrees_on_the_example_workspace() {
    let directory = nixcache_tests::repository().join("examples/workspace");
    let directory = Utf8PathBuf::from_path_buf(directory).expect("the repository's path is UTF-8");
    let mut selections = usual();
    let names = ["tides-cli", "tides-ffi", "tides-model", "tides-derive", "tides-harmonic-sys"];
    for name in &names {
        let one = Selection { packages: std::slice::from_ref(name), ..Selection::default() };
        selections.extend([one, Selection { tests: true, ..one }]);
    }
    assert!(compare(&directory, &selections) > 100);
}

/// Published crates, each with lists of its features that are compared with and without the default ones.
const PUBLISHED: [(&str, &[&[&str]]); 7] = [
    ("ripgrep", &[&["pcre2"]]),
    ("bat", &[&["minimal-application"], &["git", "regex-fancy"]]),
    ("just", &[]),
    ("cargo-nextest", &[&["default-no-update"], &["self-update", "experimental-tokio-console"]]),
    ("gitui", &[&["regex-onig", "timing"]]),
    ("sccache", &[&["redis", "s3"], &["dist-server"]]),
    ("mdbook", &[&["search"], &["serve", "watch"]]),
];

#[test]
fn guppy_agrees_on_published_crates() {
    if std::env::var("NIXCACHE_ORACLE").is_ok_and(|wanted| wanted == "none") {
        return;
    }
    let listed: toml::Table = include_str!("../data/oracle-crates.toml").parse().expect("the list is TOML");
    for (name, lists) in PUBLISHED {
        let crates = listed["crate"].as_array().expect("the list has crates");
        let listing = crates.iter().find(|listing| listing["name"].as_str() == Some(name)).expect("it is listed");
        let version = listing["version"].as_str().expect("it has a version");
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = Utf8Path::from_path(temporary.path()).expect("a temporary directory is UTF-8");
        let directory = directory.canonicalize_utf8().expect("a temporary directory has a real path");
        PublishedCrate { name: name.to_owned(), version: version.to_owned() }.unpack(directory.as_std_path());
        let mut selections = usual();
        for features in lists {
            let one = Selection { features, ..Selection::default() };
            selections.extend([one, Selection { no_default: true, ..one }]);
        }
        let compared = compare(&directory, &selections);
        assert!(compared > 50, "{name}: {compared} packages were compared");
    }
}
