//! The recorder as cargo runs it: with real cargo, real rustc and clippy, on small workspaces without
//! dependencies from elsewhere.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::record::{InvocationRecord, PathRemap, RecordReader, RecorderSession};

/// A path that cargo says to the tests that it runs. With `env!` they would be tied to one checkout.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

struct Checkout {
    _directory: tempfile::TempDir,
    root: Utf8PathBuf,
    session: Utf8PathBuf,
    reader: RecordReader,
}

impl Checkout {
    fn new(wrapper: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let (root, records) = (base.join("work"), base.join("records"));
        std::fs::create_dir_all(&records).unwrap();
        let remap = |from: &Utf8Path, to: &str| PathRemap { from: from.to_owned(), to: to.to_owned() };
        let remaps = [remap(&root.join("target"), "/nixcache/target"), remap(&root, ".")];
        let session = base.join("session.json");
        RecorderSession::new(records.clone(), remaps, wrapper.map(str::to_owned)).write(&session).unwrap();
        let checkout = Self { _directory: directory, root, session, reader: RecordReader::new(records) };
        checkout.write("Cargo.toml", "[package]\nname = \"sample\"\nversion = \"1.2.3\"\nedition = \"2021\"\n");
        checkout
            .write("src/lib.rs", "pub fn answer() -> u32 { 42 }\ninclude!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));\n");
        checkout.write("src/main.rs", "fn main() { println!(\"{} {}\", sample::answer(), file!()); }\n");
        checkout.write("probe.rs", "pub fn probe() { panic!(\"x\") }\n");
        checkout.write(
            "build.rs",
            r#"use std::{env, path::Path, process::Command};
            fn main() {
                println!("cargo:rerun-if-changed=build.rs");
                let out = env::var("OUT_DIR").unwrap();
                std::fs::write(Path::new(&out).join("gen.rs"), "pub fn gen() -> &'static str { file!() }").unwrap();
                let mut command = match env::var_os("RUSTC_WRAPPER") {
                    Some(wrapper) => { let mut c = Command::new(wrapper); c.arg(env::var("RUSTC").unwrap()); c }
                    None => Command::new(env::var("RUSTC").unwrap()),
                };
                let source = env::current_dir().unwrap().join("probe.rs");
                let status = command.args(["--crate-name=probe", "--crate-type=lib", "--emit=metadata,obj"])
                    .args(["--out-dir", &out]).arg(source).status().unwrap();
                assert!(status.success());
            }"#,
        );
        checkout
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn plain_cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(variable("CARGO"));
        command.args(arguments).current_dir(&self.root).env_clear();
        for name in ["PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("CARGO_HOME", self.root.join("../cargo-home")).env("A_SECRET", "sesame");
        command
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.plain_cargo(arguments);
        command.env("RUSTC_WRAPPER", variable("CARGO_BIN_EXE_cargo-nixcache")).env("NIXCACHE_RECORDER", &self.session);
        command
    }

    fn records(&mut self) -> Vec<InvocationRecord> {
        self.reader.new_records().unwrap().into_iter().map(|started| started.record).collect()
    }

    /// The files below the target directory whose bytes hold the place of the checkout, beyond what cargo
    /// itself writes.
    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let mut left = vec![self.root.join("target")];
        while let Some(directory) = left.pop() {
            for entry in directory.read_dir_utf8().unwrap() {
                let path = entry.unwrap().into_path();
                if path.is_dir() {
                    left.push(path);
                } else if matches!(path.extension(), Some("rlib" | "rmeta" | "o"))
                    && memchr_find(&std::fs::read(&path).unwrap(), self.root.as_str().as_bytes())
                    && !path.as_str().contains("/incremental/")
                {
                    leaks.push(path.file_name().unwrap().to_owned());
                }
            }
        }
        leaks
    }
}

fn memchr_find(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn run(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn describe(records: &[InvocationRecord]) -> Vec<String> {
    let mut lines: Vec<_> = records
        .iter()
        .map(|record| {
            let name = record.cargo.crate_name.as_deref().unwrap_or("?");
            let kinds = record.invocation.crate_types.join(",");
            format!("{name} {kinds} {:?} remapped={}", record.incremental, record.remapped)
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn units_are_recorded_and_remapped_and_probes_are_not_recorded() {
    let mut checkout = Checkout::new(None);
    run(checkout.cargo(&["build"]));
    let records = checkout.records();
    assert_eq!(
        describe(&records),
        ["build_script_build bin Cold remapped=true", "sample bin Cold remapped=true", "sample lib Cold remapped=true"]
    );
    let library = records.iter().find(|record| record.invocation.crate_types == ["lib"]).unwrap();
    assert_eq!(library.cargo.package_version.as_deref(), Some("1.2.3"));
    assert_eq!(library.directory, checkout.root);
    assert!(library.cargo.primary);
    assert!(library.cargo.out_dir.as_ref().unwrap().starts_with(checkout.root.join("target")));
    assert!(library.invocation.remap_path_prefixes.is_empty());
    assert_eq!(checkout.leaks(), <[String; 0]>::default());
    for entry in checkout.session.with_file_name("records").read_dir_utf8().unwrap() {
        assert!(!std::fs::read_to_string(entry.unwrap().path()).unwrap().contains("sesame"));
    }
    // Without the recorder the same build holds the path: the test above can fail.
    let plain = Checkout::new(None);
    run(plain.plain_cargo(&["build"]));
    assert!(!plain.leaks().is_empty());
    // A build that is done calls nobody, and plain cargo agrees: remapping is not in what cargo compares.
    let output = run(checkout.cargo(&["build"]));
    assert_eq!(checkout.records(), []);
    assert!(!compiled_something(&output));
    assert!(!compiled_something(&run(checkout.plain_cargo(&["build"]))));
    // The generated file is still known by its real place.
    let generated = records.iter().find_map(|record| record.cargo.out_dir.clone()).unwrap().join("gen.rs");
    std::fs::write(generated, "pub fn gen() {}").unwrap();
    assert!(compiled_something(&run(checkout.plain_cargo(&["build"]))));
}

fn compiled_something(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("Compiling")
}

#[test]
fn response_files_are_read_and_written_where_the_command_line_is_too_long() {
    let mut checkout = Checkout::new(None);
    checkout.write("src/lib.rs", "pub fn answer() -> u32 { panic!() }\n");
    let source = checkout.root.join("src/lib.rs");
    let arguments = ["--crate-name=sample", "--crate-type=lib", "-Cmetadata=1", "--out-dir=out", source.as_str()];
    checkout.write("arguments", &arguments.join("\n"));
    let call = |session: &Utf8Path| {
        let mut command = Command::new(variable("CARGO_BIN_EXE_cargo-nixcache"));
        command.arg("rustc").arg("@arguments").args(["--cfg"; 1]).arg(format!("long_{}", "x".repeat(100_000)));
        run({
            command.current_dir(&checkout.root).env("NIXCACHE_RECORDER", session);
            command
        });
        std::fs::read(checkout.root.join("out/libsample.rlib")).unwrap()
    };
    let short = call(&checkout.session);
    assert!(!memchr_find(&short, checkout.root.as_str().as_bytes()));

    // What the recorder adds is more than the system takes.
    let filler = (0..30).map(|number| {
        let from = format!("/nowhere/{number}/{}", "x".repeat(100_000)).into();
        PathRemap { from, to: "/n".to_owned() }
    });
    let remaps = filler.chain([PathRemap { from: checkout.root.clone(), to: ".".to_owned() }]);
    let long_session = checkout.session.with_file_name("long.json");
    RecorderSession::new(checkout.session.with_file_name("records"), remaps, None).write(&long_session).unwrap();
    let long = call(&long_session);
    assert!(!memchr_find(&long, checkout.root.as_str().as_bytes()));

    let records = checkout.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.invocation.crate_name.as_deref() == Some("sample")));
    assert!(records.iter().all(|record| record.remapped && record.arguments.len() == 7));
}

#[test]
fn two_checkouts_give_the_same_bytes() {
    let outputs = [Checkout::new(None), Checkout::new(None)].map(|checkout| {
        run(checkout.cargo(&["build", "--release"]));
        let dependencies = checkout.root.join("target/release/deps");
        let mut files: Vec<_> = dependencies.read_dir_utf8().unwrap().map(|e| e.unwrap().into_path()).collect();
        files.retain(|path| path.extension() != Some("d"));
        files.sort();
        let contents = files.iter().map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(path).unwrap()));
        contents.collect::<Vec<_>>()
    });
    assert_eq!(outputs[0].len(), 3);
    assert!(outputs[0] == outputs[1]);
}

#[test]
fn an_incremental_session_of_plain_cargo_is_not_thrown_away() {
    let mut checkout = Checkout::new(None);
    run(checkout.plain_cargo(&["build", "--lib"]));
    checkout.write("src/lib.rs", "pub fn answer() -> u32 { 43 }\n");
    run(checkout.cargo(&["build", "--lib"]));
    assert_eq!(describe(&checkout.records()), ["sample lib Continued remapped=false"]);

    // A session that began with us stays remapped.
    let mut checkout = Checkout::new(None);
    run(checkout.cargo(&["build", "--lib"]));
    checkout.records();
    checkout.write("src/lib.rs", "pub fn answer() -> u32 { 43 }\n");
    run(checkout.cargo(&["build", "--lib"]));
    assert_eq!(describe(&checkout.records()), ["sample lib Continued remapped=true"]);
}

#[test]
fn the_users_own_wrapper_runs_around_rustc() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let wrapper = directory.path().join("wrapper");
    std::fs::write(&wrapper, format!("#!/bin/sh\necho \"$@\" >> {}\nexec \"$@\"\n", log.display())).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut checkout = Checkout::new(wrapper.to_str());
    run(checkout.cargo(&["build", "--lib"]));
    assert_eq!(checkout.records().len(), 2);
    let log = std::fs::read_to_string(log).unwrap();
    let units = log.lines().filter(|line| line.contains("--crate-name sample")).collect::<Vec<_>>();
    assert_eq!(units.len(), 1);
    let (before, _) = units[0].split_once(" --crate-name").unwrap();
    assert!(before.contains("rustc --remap-path-prefix="), "{before}");
    assert!(log.lines().any(|line| line.contains("-vV")));
}

#[test]
fn clippy_is_recorded_as_a_workspace_wrapper() {
    let mut checkout = Checkout::new(None);
    if !checkout.plain_cargo(&["clippy", "--version"]).output().unwrap().status.success() {
        return;
    }
    checkout.write("src/lib.rs", "pub fn answer(v: &Vec<u32>) -> bool { v.len() == 0 }\n");
    checkout.write("src/main.rs", "fn main() {}\n");
    let output = run(checkout.cargo(&["clippy"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("clippy::len_zero"));
    let records = checkout.records();
    let library = records.iter().find(|record| record.invocation.crate_types == ["lib"]).unwrap();
    assert!(library.workspace_wrapper.as_deref().unwrap().contains("clippy-driver"));
    assert!(library.rustc.ends_with("rustc"));
    assert!(library.remapped);
}

#[test]
fn cargo_sees_rustcs_own_output_and_exit_code() {
    let checkout = Checkout::new(None);
    checkout.write("src/lib.rs", "pub fn answer() -> u32 { missing }\n");
    let ours = checkout.cargo(&["build", "--lib", "--message-format=short"]).output().unwrap();
    let plain = checkout.plain_cargo(&["build", "--lib", "--message-format=short"]).output().unwrap();
    assert_eq!(ours.status.code(), plain.status.code());
    let errors = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().filter(|line| line.contains("error")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(errors(&ours), errors(&plain));
    // A session that is gone costs the record, not the build.
    checkout.write("src/lib.rs", "pub fn answer() -> u32 { 1 }\n");
    std::fs::remove_file(&checkout.session).unwrap();
    run(checkout.cargo(&["build", "--lib"]));
}
