use std::collections::BTreeMap;

use camino::Utf8Path;

use super::super::Roots;
use super::*;
use crate::cargo::invocation::RustcInvocation;
use crate::environment::{ConfiguredVariable, ConfiguredVariables, Environment};

/// A machine of its own: a directory with a workspace, libraries and programs.
struct Host {
    _directory: tempfile::TempDir,
    root: Utf8PathBuf,
    environment: Environment,
    table: ConfiguredVariables,
    glibc: &'static str,
    processor: &'static str,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let mut environment = Environment::default();
        environment.set("PATH", root.join("bin").as_str());
        let host = Self {
            _directory: directory,
            root,
            environment,
            table: ConfiguredVariables::default(),
            glibc: "2.36",
            processor: "one",
        };
        for path in ["work/target", "bin", "lib/pkgconfig", "cargo"] {
            std::fs::create_dir_all(host.root.join(path)).unwrap();
        }
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // All changes keep the time stamp: only content counts.
        std::fs::write(&path, text).unwrap();
        let stamp = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(stamp).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.root.join(path);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }

    fn roots(&self) -> Roots {
        Roots::new([
            (RootKind::Workspace, self.root.join("work")),
            (RootKind::BuildDirectory, self.root.join("work/target")),
            (RootKind::CargoHome, self.root.join("cargo")),
        ])
    }

    fn evaluator(&self) -> Evaluator {
        let facts = HostFacts {
            glibc: Some(self.glibc.parse().unwrap()),
            loader_directories: vec![self.root.join("lib")],
            link_directories: vec![self.root.join("lib")],
            processor: self.processor.to_owned().into(),
        };
        Evaluator::new(&self.environment, &self.table, &self.roots(), facts)
    }

    fn value(&self, input: &DynamicInput) -> InputValue {
        self.value_in(input, &[])
    }

    fn value_in(&self, input: &DynamicInput, package: &[(&str, &str)]) -> InputValue {
        let package = package.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.evaluator().value(input, &package).unwrap()
    }
}

fn variable(name: &str) -> DynamicInput {
    DynamicInput::Variable { name: name.into() }
}

#[test]
fn a_file_counts_by_content_wherever_its_root_lies() {
    let input = DynamicInput::File { path: "@nixcache{workspace}@/data.txt".into() };
    let (here, there) = (Host::new(), Host::new());
    assert_eq!(here.value(&input), InputValue::Absent);
    here.write("work/data.txt", "one");
    there.write("work/data.txt", "one");
    there.write("work/other.txt", "irrelevant");
    let first = here.value(&input);
    assert_eq!(first, there.value(&input));
    here.write("work/data.txt", "two");
    assert_ne!(here.value(&input), first);
    here.remove("work/data.txt");
    here.write("work/data.txt/now", "a directory");
    assert_ne!(here.value(&input), first);
    assert_ne!(here.value(&input), InputValue::Absent);
    let unknown = DynamicInput::File { path: "@nixcache{sysroot}@/x".into() };
    assert!(matches!(here.evaluator().value(&unknown, &BTreeMap::new()), Err(EvaluateError::UnknownRoot { .. })));
}

#[test]
#[cfg(unix)]
fn a_link_counts_by_what_it_leads_to() {
    let input = DynamicInput::File { path: "@nixcache{workspace}@/link".into() };
    let host = Host::new();
    host.write("lib/real", "one");
    std::os::unix::fs::symlink("../lib/real", host.root.join("work/link")).unwrap();
    let first = host.value(&input);
    host.write("lib/real", "two");
    assert_ne!(host.value(&input), first);
}

#[test]
fn a_directory_counts_with_all_names_and_contents() {
    let input = DynamicInput::Directory { path: "@nixcache{workspace}@/proto".into() };
    let host = Host::new();
    assert_eq!(host.value(&input), InputValue::Absent);
    host.write("work/proto/a/x.proto", "x");
    host.write("work/proto/y.proto", "y");
    let first = host.value(&input);
    assert_eq!(host.value(&input), first);
    host.write("work/elsewhere", "irrelevant");
    assert_eq!(host.value(&input), first);
    host.write("work/proto/new", "");
    assert_ne!(host.value(&input), first);
    host.remove("work/proto/new");
    assert_eq!(host.value(&input), first);
    host.write("work/proto/a/x.proto", "z");
    assert_ne!(host.value(&input), first);
    host.remove("work/proto/a/x.proto");
    host.write("work/proto/x.proto", "x");
    assert_ne!(host.value(&input), first);
}

#[test]
fn a_package_counts_without_outputs_and_nested_packages() {
    let input = DynamicInput::PackageTree { path: "@nixcache{workspace}@".into() };
    let host = Host::new();
    host.write("work/Cargo.toml", "");
    host.write("work/src/lib.rs", "");
    let first = host.value(&input);
    host.write("work/target/debug/x", "irrelevant");
    assert_eq!(host.value(&input), first);
    let nested = [host.root.join("work/nested")];
    host.write("work/nested/Cargo.toml", "of another package");
    let evaluator = host.evaluator().with_packages(nested.into());
    assert_eq!(evaluator.value(&input, &BTreeMap::new()).unwrap(), first);
    // One that is of no package is a template, perhaps.
    assert_ne!(host.value(&input), first);
    host.remove("work/nested/Cargo.toml");
    host.write("work/README.md", "named by nobody, but who knows what the script read");
    assert_ne!(host.value(&input), first);
}

#[test]
fn a_variable_is_taken_from_where_cargo_takes_it() {
    let mut host = Host::new();
    assert_eq!(host.value(&variable("X")), InputValue::Absent);
    let table = |force| {
        let entry = ConfiguredVariable { value: "table".into(), force, relative: false };
        [("X".to_owned(), entry)].into_iter().collect()
    };
    host.environment.set("X", "process");
    let process = host.value(&variable("X"));
    assert_ne!(process, InputValue::Absent);
    host.table = table(false);
    assert_eq!(host.value(&variable("X")), process);
    host.table = table(true);
    let forced = host.value(&variable("X"));
    assert_ne!(forced, process);
    host.environment.remove("X");
    host.table = table(false);
    assert_eq!(host.value(&variable("X")), forced);
    let package = [("X", "package")];
    assert_ne!(host.value_in(&variable("X"), &package), forced);
    // Empty is not absent, and the name counts with the value.
    host.table = ConfiguredVariables::default();
    host.environment.set("EMPTY", "");
    assert_ne!(host.value(&variable("EMPTY")), InputValue::Absent);
    host.environment.set("A", "same");
    host.environment.set("B", "same");
    assert_ne!(host.value(&variable("A")), host.value(&variable("B")));
    host.environment.set("C", "irrelevant");
    assert_eq!(host.value_in(&variable("X"), &package), host.value_in(&variable("X"), &package));
}

#[test]
fn places_that_cargo_sets_are_the_same_on_every_machine() {
    let (here, there) = (Host::new(), Host::new());
    let value = |host: &Host, path: &str| {
        let place = host.root.join(path);
        host.value_in(&variable("CARGO_MANIFEST_DIR"), &[("CARGO_MANIFEST_DIR", place.as_str())])
    };
    assert_eq!(value(&here, "work/crates/a"), value(&there, "work/crates/a"));
    assert_ne!(value(&here, "work/crates/a"), value(&there, "work/crates/b"));
}

#[test]
fn a_tool_counts_by_the_program_that_is_found() {
    let host = Host::new();
    let input = DynamicInput::Tool { program: "cc -m64".into() };
    assert_eq!(host.value(&input), InputValue::Absent);
    let install = |text: &str| {
        host.write("bin/cc", text);
        #[cfg(unix)]
        std::fs::set_permissions(host.root.join("bin/cc"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    };
    install("gcc 12");
    let first = host.value(&input);
    host.write("bin/cxx", "irrelevant");
    assert_eq!(host.value(&input), first);
    install("gcc 13");
    assert_ne!(host.value(&input), first);
}

#[test]
fn a_system_library_counts_by_content_and_package_config() {
    let host = Host::new();
    let library = |kind: &str| DynamicInput::SystemLibrary { kind: kind.into(), name: "z".into(), search: Vec::new() };
    let input = library("dylib");
    assert_eq!(host.value(&input), InputValue::Absent);
    host.write("lib/libz.so", "1.2");
    let first = host.value(&input);
    assert_eq!(host.value(&library("static")), InputValue::Absent);
    host.write("lib/libzstd.so", "irrelevant");
    host.write("lib/pkgconfig/libzstd.pc", "Libs: -lzstd");
    assert_eq!(host.value(&input), first);
    host.write("lib/pkgconfig/zlib.pc", "Version: 1.2\nLibs: -lz");
    let with_config = host.value(&input);
    assert_ne!(with_config, first);
    host.write("lib/pkgconfig/zlib.pc", "Version: 1.3\nLibs: -lz");
    assert_ne!(host.value(&input), with_config);
    host.remove("lib/pkgconfig/zlib.pc");
    host.write("lib/libz.so", "1.3");
    assert_ne!(host.value(&input), first);
    // What is searched first wins.
    host.write("work/native/libz.so", "1.2");
    let own = DynamicInput::SystemLibrary {
        kind: "dylib".into(),
        name: "z".into(),
        search: vec!["@nixcache{workspace}@/native".into()],
    };
    assert_eq!(host.value(&own), first);
}

#[test]
fn a_host_must_have_what_programs_need() {
    let mut host = Host::new();
    let glibc = |version: &str| DynamicInput::Glibc { at_least: version.parse().unwrap(), interpreter: None };
    let satisfied = host.value(&glibc("2.34"));
    assert_ne!(satisfied, InputValue::Absent);
    assert_eq!(host.value(&glibc("2.36")), satisfied);
    assert_eq!(host.value(&glibc("2.38")), InputValue::Absent);
    host.glibc = "2.9";
    assert_eq!(host.value(&glibc("2.34")), InputValue::Absent);
    // A program runs with the glibc of the dynamic linker that it names, whatever rustc runs with.
    let interpreter = Some(host.root.join("lib/ld.so"));
    let own = DynamicInput::Glibc { at_least: "2.9".parse().unwrap(), interpreter };
    assert_eq!(host.value(&own), InputValue::Absent);
    let processor = host.value(&DynamicInput::Processor);
    host.processor = "another";
    assert_ne!(host.value(&DynamicInput::Processor), processor);

    let needed = DynamicInput::NeededLibrary { name: "libz.so.1".into(), search: Vec::new() };
    assert_eq!(host.value(&needed), InputValue::Absent);
    host.write("lib/libz.so.1", "one");
    let there = host.value(&needed);
    host.write("lib/libz.so.1", "another content is as good");
    assert_eq!(host.value(&needed), there);
    let moved = Host::new();
    moved.write("work/own/libz.so.1", "");
    assert_eq!(moved.value(&needed), InputValue::Absent);
    let own =
        DynamicInput::NeededLibrary { name: "libz.so.1".into(), search: vec!["@nixcache{workspace}@/own".into()] };
    assert_eq!(moved.value(&own), there);
}

#[test]
fn a_bound_root_counts_by_its_place() {
    let (here, there) = (Host::new(), Host::new());
    let input = DynamicInput::BoundRoot { root: RootKind::Workspace };
    assert_eq!(here.value(&input), here.value(&input));
    assert_ne!(here.value(&input), there.value(&input));
    assert_eq!(here.value(&DynamicInput::BoundRoot { root: RootKind::Sysroot }), InputValue::Absent);
}

#[test]
#[cfg(unix)]
fn a_bound_root_counts_by_its_place_behind_links() {
    let host = Host::new();
    host.write("one/x", "");
    host.write("two/x", "");
    let value = |target: &str| {
        let link = host.root.join("link");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).unwrap();
        let roots = Roots::new([(RootKind::Workspace, link)]).following_links();
        let facts = HostFacts {
            glibc: None,
            loader_directories: Vec::new(),
            link_directories: Vec::new(),
            processor: std::sync::OnceLock::new(),
        };
        let evaluator = Evaluator::new(&host.environment, &ConfiguredVariables::default(), &roots, facts);
        evaluator.value(&DynamicInput::BoundRoot { root: RootKind::Workspace }, &BTreeMap::new()).unwrap()
    };
    assert_eq!(value("one"), value("one"));
    assert_ne!(value("one"), value("two"));
}

#[test]
fn many_threads_get_one_answer() {
    let host = Host::new();
    for number in 0..50 {
        host.write(&format!("work/data/{number}"), "x");
    }
    let inputs: Vec<_> = (0..400)
        .map(|number| match number % 2 {
            0 => DynamicInput::Directory { path: "@nixcache{workspace}@/data".into() },
            _ => DynamicInput::File { path: format!("@nixcache{{workspace}}@/data/{}", number % 50).into() },
        })
        .collect();
    let values = host.evaluator().values(&inputs, &BTreeMap::new()).unwrap();
    for (input, value) in inputs.iter().zip(&values) {
        assert_eq!(*value, host.value(input));
    }
}

#[test]
fn secrets_are_not_in_what_is_kept() {
    let mut host = Host::new();
    host.environment.set("TOKEN", "sesame");
    let kept = serde_json::to_string(&(variable("TOKEN"), host.value(&variable("TOKEN")))).unwrap();
    assert!(!kept.contains("sesame"));
    assert!(!format!("{:?}", host.evaluator()).contains("sesame"));
    let back: (DynamicInput, InputValue) = serde_json::from_str(&kept).unwrap();
    assert_eq!(back.0, variable("TOKEN"));
}

fn shown(inputs: &BTreeSet<DynamicInput>) -> Vec<String> {
    inputs.iter().map(ToString::to_string).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn rustc_reads_what_its_key_does_not_hold() {
    let roots = Roots::new([
        (RootKind::Workspace, "/w".into()),
        (RootKind::BuildDirectory, "/w/target".into()),
        (RootKind::CargoHome, "/home/a/.cargo".into()),
    ]);
    let out_dirs = [Utf8PathBuf::from("/w/target/debug/build/a-1/out")];
    let files: Vec<_> =
        ["/w/a/src/lib.rs", "/w/target/debug/build/a-1/out/gen.rs", "/etc/banner"].map(Utf8PathBuf::from).into();
    let variables = strings(&[
        "CARGO_PKG_VERSION",
        "CARGO_CRATE_NAME",
        "OUT_DIR",
        "CARGO_MANIFEST_DIR",
        "BUILD_NUMBER",
        "FROM_SCRIPT",
        "CARGO_BIN_EXE_a",
    ]);
    let set_by_build_script = BTreeSet::from(["FROM_SCRIPT".to_owned()]);
    let invocation = RustcInvocation::parse(&[
        "-lstatic=own",
        "-lstatic:-bundle=foreign",
        "-ldl",
        "-Lnative=/opt/lib",
        "-Ldependency=/w/target/debug/deps",
    ]);
    let findings = CompileFindings {
        root: "/w/a/src/lib.rs".into(),
        files: &files,
        variables: &variables,
        set_by_cargo: &["OUT_DIR", "CARGO_BIN_EXE_a"].map(str::to_owned).into(),
        set_by_build_script: &set_by_build_script,
        invocation: &invocation,
    };
    let package = PackageOnDisk { root: "/w/a".into(), immutable: false, can_link: false, out_dirs: &out_dirs };
    assert_eq!(
        shown(&inputs_of_rustc(package, findings, &roots)),
        [
            "file /etc/banner",
            "file @nixcache{workspace}@/a/src/lib.rs",
            "environment variable BUILD_NUMBER",
            "environment variable CARGO_MANIFEST_DIR",
            "environment variable CARGO_PKG_VERSION",
            "system library own (static)",
            "system library foreign (static:-bundle)",
        ]
    );
    let package = PackageOnDisk { immutable: true, ..package };
    assert_eq!(
        shown(&inputs_of_rustc(
            package,
            CompileFindings { invocation: &RustcInvocation::default(), ..findings },
            &roots
        )),
        ["file /etc/banner", "environment variable BUILD_NUMBER", "environment variable CARGO_MANIFEST_DIR"]
    );
}

#[test]
fn a_build_script_reads_what_it_says() {
    let host = Host::new();
    let root = host.root.join("work/a");
    let out_dirs = [host.root.join("work/target/debug/build/a-1/out")];
    for path in ["work/a/build.rs", "work/a/proto/x", "work/shared.txt"] {
        host.write(path, "");
    }
    host.write("work/target/debug/build/a-1/out/libown.a", "");
    let none = BuildScriptFindings {
        rerun_if_changed: &[],
        rerun_if_env_changed: &[],
        link_libraries: &[],
        link_search: &[],
        native: None,
    };
    let member = PackageOnDisk { root: &root, immutable: false, can_link: false, out_dirs: &out_dirs };
    let pinned = PackageOnDisk { immutable: true, ..member };
    let inputs = |package, findings| inputs_of_build_script(package, findings, &host.roots()).map(|i| shown(&i));
    assert_eq!(inputs(member, none).unwrap(), ["files of the package in @nixcache{workspace}@/a"]);
    assert!(inputs(pinned, none).unwrap().is_empty());

    let changed = strings(&["build.rs", "proto", "../shared.txt", out_dirs[0].join("libown.a").as_str()]);
    let variables = strings(&["CC", "TARGET", "CARGO_FEATURE_STD", "DEP_Z_ROOT", "ZLIB_STATIC"]);
    let findings = BuildScriptFindings { rerun_if_changed: &changed, rerun_if_env_changed: &variables, ..none };
    assert_eq!(
        inputs(member, findings).unwrap(),
        [
            "file @nixcache{workspace}@/a/../shared.txt",
            "file @nixcache{workspace}@/a/build.rs",
            "directory @nixcache{workspace}@/a/proto",
            "environment variable CARGO_FEATURE_STD",
            "environment variable CC",
            "environment variable DEP_Z_ROOT",
            "environment variable ZLIB_STATIC",
        ]
    );
    assert_eq!(inputs(pinned, findings).unwrap()[0], "file @nixcache{workspace}@/a/../shared.txt");
    let missing = strings(&["absent.txt"]);
    assert_eq!(
        inputs(member, BuildScriptFindings { rerun_if_changed: &missing, ..none }),
        Err(AlwaysRuns { path: root.join("absent.txt") })
    );

    let search = strings(&[&format!("native={}", out_dirs[0]), "/usr/lib"]);
    let libraries = strings(&["static=own", "z", "dylib=m"]);
    let linking = BuildScriptFindings { link_libraries: &libraries, link_search: &search, ..none };
    assert_eq!(inputs(pinned, linking).unwrap(), ["system library z (dylib)"]);
    // Had pkg-config found it, no copy would have been built.
    let asked = strings(&["OWN_NO_PKG_CONFIG"]);
    let asked = BuildScriptFindings { rerun_if_env_changed: &asked, ..linking };
    let shown = inputs(pinned, asked).unwrap();
    assert!(shown.contains(&"system library own (dylib)".to_owned()), "{shown:?}");

    let native = NativeCode {
        variable: &|name| host.environment.get_str(name).map(str::to_owned),
        target: "x-unknown-linux-gnu",
        host: "x-unknown-linux-gnu",
    };
    let shown = inputs(pinned, BuildScriptFindings { native: Some(native), ..linking }).unwrap();
    for expected in
        ["program cc", "program ar", "environment variable CC_x_unknown_linux_gnu", "environment variable CFLAGS"]
    {
        assert!(shown.contains(&expected.to_owned()), "{expected}: {shown:?}");
    }
    assert!(NativeCode::is_in(["/out/x.o".into(), "/out/y".into()]));
    assert!(!NativeCode::is_in(["/out/x.rs".into(), Utf8Path::new("/out/y")]));
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn this_very_program_can_run_here() {
    let executable = Utf8PathBuf::from_path_buf(std::env::current_exe().unwrap()).unwrap();
    let facts = super::super::binary_facts::BinaryFacts::read(&executable).unwrap().unwrap();
    let roots = Host::new().roots();
    let inputs = inputs_of_binary(&facts, |_| false, &roots);
    assert!(inputs.iter().any(|input| matches!(input, DynamicInput::Glibc { .. })));
    let evaluator = Evaluator::new(
        &Environment::default(),
        &ConfiguredVariables::default(),
        &roots,
        HostFacts::discover(Some(&executable)),
    );
    for input in &inputs {
        assert_ne!(evaluator.value(input, &BTreeMap::new()).unwrap(), InputValue::Absent, "{input}");
    }
}
