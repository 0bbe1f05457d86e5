//! Every planned input changes the key of the units that it applies to, and nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub(crate) fn package(id: &str, source: PackageSource, root: &str) -> PlannedPackage {
    PlannedPackage {
        id: id.to_owned(),
        name: id.to_owned(),
        version: "1.0.0".to_owned(),
        source,
        manifest_path: format!("{root}/Cargo.toml").into(),
        links: None,
        environment: BTreeMap::new(),
        declared_features: BTreeSet::new(),
        declared_inputs: None,
    }
}

pub(crate) fn unit(package: u32, crate_type: CrateType, root: &str, dependencies: Vec<UnitDependency>) -> PlannedUnit {
    let kind = if crate_type == CrateType::Bin { TargetKind::Bin } else { TargetKind::Lib };
    PlannedUnit {
        package: PackageIndex(package),
        target: PlannedTarget {
            name: "x".to_owned(),
            kind,
            crate_types: vec![crate_type],
            source_path: format!("{root}/src/lib.rs").into(),
            edition: "2024".to_owned(),
            harness: true,
        },
        mode: CompileMode::Build,
        platform: CompilePlatform::Host,
        features: BTreeSet::new(),
        profile: UnitProfile {
            name: "dev".to_owned(),
            is_release: false,
            opt_level: "0".to_owned(),
            lto: "false".to_owned(),
            unit_lto: "only-object".to_owned(),
            codegen_backend: None,
            codegen_units: None,
            debuginfo: "2".to_owned(),
            split_debuginfo: None,
            debug_assertions: true,
            overflow_checks: true,
            rpath: false,
            incremental: false,
            panic: "unwind".to_owned(),
            strip: "none".to_owned(),
            rustflags: Vec::new(),
            trim_paths: None,
        },
        rustflags: vec!["-Ctarget-cpu=native".to_owned()],
        linker: None,
        extra_args: Vec::new(),
        primary: false,
        dependencies,
    }
}

pub(crate) fn edge(unit: u32, name: &str) -> UnitDependency {
    UnitDependency { unit: UnitIndex(unit), extern_crate_name: name.to_owned(), public: false, noprelude: false }
}

/// A proc macro from a registry, and a program of the workspace that uses it.
fn build(root: &str) -> (UnitGraph, BuildFacts) {
    let registry = PackageSource::Registry { url: "https://x".to_owned(), checksum: Some("00".to_owned()) };
    let member = PackageSource::Path { boundary: BoundaryKind::Member };
    let graph = UnitGraph {
        packages: vec![package("derive", registry, "/cargo/derive"), package("app", member, &format!("{root}/app"))],
        units: vec![
            unit(0, CrateType::ProcMacro, "/cargo/derive", Vec::new()),
            unit(1, CrateType::Bin, &format!("{root}/app"), vec![edge(0, "derive")]),
        ],
        roots: BTreeSet::from([UnitIndex(1)]),
        passed_through: Vec::new(),
    };
    let facts = BuildFacts {
        manifests: BTreeMap::from([("app".to_owned(), "[package]".to_owned())]),
        workspace_root: root.into(),
        ..BuildFacts::default()
    };
    (graph, facts)
}

fn app(graph: &UnitGraph, facts: &BuildFacts) -> UnitInputs {
    unit_inputs(graph, facts).pop().unwrap()
}

type Change = fn(&mut UnitGraph, &mut BuildFacts);

const CHANGES: [(&str, Change); 26] = [
    ("rustc", |_, facts| facts.rustc_version.push('x')),
    ("rustc", |_, facts| facts.toolchain_identity.push('x')),
    ("cargo", |_, facts| facts.cargo_version.push('x')),
    ("layout", |_, facts| facts.layout.push('x')),
    ("package", |graph, _| graph.packages[1].version.push('1')),
    ("manifest", |_, facts| facts.manifests.values_mut().for_each(|text| text.push('x'))),
    ("package environment", |graph, _| {
        graph.packages[1].environment.insert("CARGO_PKG_AUTHORS".to_owned(), "x".to_owned());
    }),
    ("target", |graph, _| graph.units[1].target.edition = "2021".to_owned()),
    ("mode", |graph, _| graph.units[1].mode = CompileMode::Test),
    ("platform", |graph, _| {
        graph.units[1].platform = CompilePlatform::Target { name: String::new(), specification: None };
    }),
    ("features", |graph, _| {
        graph.units[1].features.insert("f".to_owned());
    }),
    ("declared features", |graph, _| {
        graph.packages[1].declared_features.insert("f".to_owned());
    }),
    ("profile", |graph, _| graph.units[1].profile.opt_level = "3".to_owned()),
    ("rustflags", |graph, _| graph.units[1].rustflags.push("--cfg=x".to_owned())),
    ("extra arguments", |graph, _| graph.units[1].extra_args.push("--cfg=x".to_owned())),
    ("cfg", |_, facts| drop(facts.cfg.insert(String::new(), "unix".to_owned()))),
    ("processor", |_, facts| facts.processor.push('x')),
    ("linker", |graph, _| graph.units[1].linker = Some("ld".to_owned())),
    ("linker program", |_, facts| drop(facts.linkers.insert(String::new(), "cc 1".to_owned()))),
    ("Nix's linker flags", |_, facts| facts.nix_linking.push(("NIX_LDFLAGS".to_owned(), "-L/x".to_owned()))),
    ("wrapper", |_, facts| facts.rustc_wrapper = Some("x".to_owned())),
    ("workspace wrapper", |_, facts| facts.workspace_wrapper = Some("x".to_owned())),
    ("primary package", |graph, _| graph.units[1].primary = true),
    ("nif init", |_, facts| facts.primary_nif_init = Some("1".to_owned())),
    ("untracked variables", |_, facts| facts.untracked_variables.push(("A".to_owned(), "b".to_owned()))),
    ("dependency edges", |graph, _| graph.units[1].dependencies[0].extern_crate_name.push('x')),
];

#[test]
fn every_planned_input_is_in_the_key_under_its_name() {
    let (graph, facts) = build("/work");
    let before = app(&graph, &facts);
    assert_eq!(app(&graph, &facts).key, before.key);
    let mut tested = BTreeSet::from(["path remapping"]);
    for (name, change) in CHANGES {
        let (mut graph, mut facts) = build("/work");
        change(&mut graph, &mut facts);
        let after = app(&graph, &facts);
        assert_ne!(after.key, before.key, "{name}");
        let rows = |inputs: &UnitInputs| inputs.rows.iter().copied().collect::<BTreeMap<_, _>>();
        let (before, after) = (rows(&before), rows(&after));
        assert_ne!(before.get(name), after.get(name), "{name}");
        tested.insert(name);
    }
    let (graph, mut facts) = build("/work");
    facts.remap_members = !facts.remap_members;
    assert_ne!(app(&graph, &facts).key, before.key, "path remapping");
    let planned = TABLE.iter().filter(|row| row.hashed == Hashed::Planned).map(|row| row.name);
    assert_eq!(planned.collect::<BTreeSet<_>>(), tested, "each row of the table has its change here");
}

#[test]
fn of_a_profile_s_name_the_directory_counts_and_what_it_inherits_from() {
    let key = |name: &str, is_release: bool| {
        let (mut graph, facts) = build("/work");
        let profile = &mut graph.units[1].profile;
        (profile.name, profile.is_release) = (name.to_owned(), is_release);
        app(&graph, &facts).key
    };
    assert_eq!(key("dev", false), key("test", false));
    assert_eq!(key("release", true), key("bench", true));
    assert_ne!(key("dev", false), key("custom", false));
    assert_ne!(key("custom", false), key("custom", true));
}

#[test]
fn the_place_of_the_workspace_is_in_no_key() {
    let (here, facts_here) = build("/work");
    let (there, facts_there) = build("/elsewhere/deeper");
    assert_eq!(app(&here, &facts_here).key, app(&there, &facts_there).key);
}

#[test]
fn build_scripts_that_compile_c_for_this_processor_are_kept_apart() {
    let key = |mode: CompileMode, processor: &str, native_c_code: bool| {
        let (mut graph, mut facts) = build("/work");
        (graph.units[1].mode, graph.units[1].rustflags) = (mode, Vec::new());
        (facts.processor, facts.native_c_code) = (processor.to_owned(), native_c_code);
        app(&graph, &facts).key
    };
    let run = CompileMode::RunCustomBuild;
    assert_eq!(key(run, "a", true), key(run, "a", true));
    assert_ne!(key(run, "a", true), key(run, "b", true));
    assert_eq!(key(run, "a", false), key(run, "b", false));
    assert_eq!(key(CompileMode::Build, "a", true), key(CompileMode::Build, "b", true));
}

#[test]
fn members_alone_depend_on_what_concerns_members() {
    let (graph, facts) = build("/work");
    let macro_inputs = |graph: &UnitGraph, facts: &BuildFacts| unit_inputs(graph, facts).remove(0).key;
    let before = macro_inputs(&graph, &facts);
    for name in ["manifest", "workspace wrapper", "primary package", "nif init"] {
        let (mut graph, mut facts) = build("/work");
        let (_, change) = CHANGES.iter().find(|(changed, _)| *changed == name).unwrap();
        change(&mut graph, &mut facts);
        assert_eq!(macro_inputs(&graph, &facts), before, "{name}");
    }
}

#[test]
fn a_unit_is_pinned_to_the_output_of_its_dependency() {
    let (graph, facts) = build("/work");
    let inputs = unit_inputs(&graph, &facts);
    let key = |output: &[u8]| {
        let pin = Pin { artifact: inputs[0].key, output: crate::digest::ContentDigest::of(output) };
        unit_key(&graph, &inputs[1], UnitIndex(1), |_| Some(pin)).unwrap()
    };
    assert_eq!(key(b"one"), key(b"one"));
    assert_ne!(key(b"one"), key(b"two"));
    assert!(unit_key(&graph, &inputs[1], UnitIndex(1), |_| None).is_none());
}

#[test]
fn the_documentation_holds_the_table() {
    // Not `env!`: it would tie the tests to one checkout.
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let path = package + "/../../docs/correctness.md";
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- inputs: begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- inputs: end -->").unwrap();
    let current = format!("{before}<!-- inputs: begin -->\n{}<!-- inputs: end -->{after}", table_markdown());
    if std::env::var_os("NIXCACHE_UPDATE_DOCUMENTATION").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    assert_eq!(text, current, "run this test once with NIXCACHE_UPDATE_DOCUMENTATION=1");
}
