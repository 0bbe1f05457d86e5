//! What the unit graph of cargo does not show, its compiler invocations do: flags, linker, link-time optimisation,
//! incremental compilation, extra arguments, the metadata in the environment. Real cargo builds a small workspace,
//! tells what it runs (`-vv`), and every invocation must be what the plan says.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::collections::BTreeMap;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::unit::{CompileMode, CompilePlatform, PlannedUnit, TargetKind, UnitGraph};
use nixcache_tests::in_parallel;
use nixcache_tests::oracle::Workspace;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

const FILES: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        r#"[workspace]
members = ["app", "native", "derive", "shared"]
resolver = "3"
[workspace.package]
version = "1.2.3-beta.1"
[profile.release.package.native]
codegen-units = 3
"#,
    ),
    (
        "app/Cargo.toml",
        r#"[package]
name = "the-app"
version.workspace = true
edition = "2024"
description = "An \"app\" with = and 'quotes'"
authors = ["A <a@example.org>", "B"]
license = "MIT"
homepage = "https://example.org/home"
repository = "https://example.org/repository"
rust-version = "1.90"
[dependencies]
native = { path = "../native" }
derive = { path = "../derive" }
shared = { path = "../shared" }
"#,
    ),
    ("app/src/lib.rs", ""),
    ("app/src/main.rs", "fn main() {}"),
    ("app/tests/it.rs", "#[test] fn t() {}"),
    ("app/examples/ex.rs", "fn main() {}"),
    (
        "native/Cargo.toml",
        "[package]\nname = \"native\"\nversion = \"0.1.0\"\nedition = \"2021\"\nlinks = \"n\"\nlicense-file = \"L\"\n",
    ),
    ("native/L", "free"),
    ("native/README.md", "read"),
    ("native/build.rs", "fn main() { println!(\"cargo::rerun-if-changed=build.rs\"); }"),
    ("native/src/lib.rs", ""),
    (
        "derive/Cargo.toml",
        "[package]\nname = \"derive\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n\
         [dependencies]\nnative = { path = \"../native\" }\n",
    ),
    ("derive/src/lib.rs", ""),
    (
        "shared/Cargo.toml",
        "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\n\
         crate-type = [\"cdylib\", \"rlib\"]\n[dependencies]\nnative = { path = \"../native\" }\n",
    ),
    ("shared/src/lib.rs", ""),
];

/// A way to call cargo.
struct Call<'c> {
    arguments: &'c str,
    variables: &'c [(&'c str, &'c str)],
    config: &'c str,
}

const fn call(arguments: &'static str) -> Call<'static> {
    Call { arguments, variables: &[], config: "" }
}

#[test]
fn compiler_invocations_are_as_planned() {
    let target_rustflags = format!("[target.{TRIPLE}]\nrustflags = [\"--cfg=of_triple\"]\n");
    let everything = format!(
        "[build]\nrustflags = [\"--cfg=of_build\"]\nrustdocflags = [\"--cfg=doc_of_build\"]\n{target_rustflags}\
         linker = \"cc\"\n[target.'cfg(unix)']\nrustflags = \"--cfg=of_unix --cfg=more_of_unix\"\n\
         [target.'cfg(windows)']\nrustflags = [\"--cfg=of_windows\"]\nlinker = \"no-such-linker\"\n"
    );
    let cross = format!("check --workspace --target {TRIPLE}");
    let calls = [
        call("build --workspace"),
        call("build --workspace --release --config profile.release.lto=true"),
        call("build --workspace --release --config profile.release.lto=\"thin\""),
        call("build --workspace --release --config profile.release.lto=\"off\""),
        call("test --no-run --workspace --release --config profile.release.lto=\"fat\""),
        call("build -p shared --release --config profile.release.lto=\"thin\""),
        call("check -p native"),
        call("check -p the-app --all-targets"),
        call("rustc -p the-app --lib -- --cfg=of_rustc"),
        call("doc --workspace --document-private-items"),
        call("rustdoc -p native -- --cfg=of_rustdoc"),
        Call { arguments: "check --workspace", variables: &[("RUSTFLAGS", "--cfg=a  --cfg=b")], config: &everything },
        Call { arguments: &cross, variables: &[("RUSTFLAGS", "--cfg=a")], config: &everything },
        Call {
            arguments: "check --workspace",
            variables: &[("RUSTFLAGS", "--cfg=a"), ("CARGO_ENCODED_RUSTFLAGS", "--cfg=x\u{1f}--cfg=y")],
            config: "",
        },
        Call { arguments: "check --workspace", variables: &[], config: &everything },
        Call { arguments: &cross, variables: &[], config: &everything },
        Call { arguments: "doc --workspace", variables: &[], config: &everything },
        Call {
            arguments: "check",
            variables: &[("CARGO_BUILD_RUSTFLAGS", "--cfg=e")],
            config: "[build]\nrustflags = [\"--cfg=f\"]",
        },
        Call {
            arguments: "check --config build.rustflags=[\"--cfg=late\"]",
            variables: &[("CARGO_BUILD_RUSTFLAGS", "--cfg=e")],
            config: "[build]\nrustflags = [\"--cfg=f\"]",
        },
        Call {
            arguments: "check",
            variables: &[("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "--cfg=e")],
            config: &target_rustflags,
        },
        Call { arguments: "check", variables: &[("CARGO_INCREMENTAL", "0")], config: "" },
        Call { arguments: "check --release", variables: &[("CARGO_INCREMENTAL", "1")], config: "" },
        Call { arguments: "check", variables: &[("CARGO_BUILD_INCREMENTAL", "false")], config: "" },
        Call { arguments: "check", variables: &[("CARGO_PROFILE_DEV_INCREMENTAL", "false")], config: "" },
        Call {
            arguments: "check",
            variables: &[("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "/usr/bin/cc")],
            config: "[target.'cfg(unix)']\nlinker = \"gcc\"",
        },
        Call { arguments: "check", variables: &[], config: "[target.'cfg(unix)']\nlinker = \"./linkers/gcc\"" },
    ];
    let failures = in_parallel(&calls, |call| {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = Utf8Path::from_path(temporary.path()).expect("a temporary directory is UTF-8");
        let directory = directory.canonicalize_utf8().expect("a temporary directory has a real path");
        write_workspace(&directory);
        check(&directory, call)
    });
    let failures = failures.concat();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn write_workspace(directory: &Utf8Path) {
    for (path, text) in FILES {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("make a directory");
        std::fs::write(path, text).expect("write a file");
    }
    std::fs::create_dir(directory.join("linkers")).expect("make a directory");
    std::os::unix::fs::symlink("/usr/bin/cc", directory.join("linkers/gcc")).expect("make a link");
}

fn check(directory: &Utf8Path, call: &Call<'_>) -> Vec<String> {
    std::fs::create_dir_all(directory.join(".cargo")).expect("make a directory");
    std::fs::write(directory.join(".cargo/config.toml"), call.config).expect("write the configuration");
    let variables: Vec<(&str, &str)> = call.variables.iter().copied().chain([("CARGO_NET_OFFLINE", "true")]).collect();
    let mut workspace = Workspace::new(directory, &variables);
    let line: Vec<&str> = call.arguments.split_whitespace().collect();
    let describe = |problem: String| format!("cargo {} ({:?}): {problem}", call.arguments, call.variables);
    let graph = match workspace.plan(&line) {
        Ok(graph) => graph,
        Err(reason) => return vec![describe(format!("no plan: {reason}"))],
    };
    let (command, rest) = line.split_first().expect("a call has a command");
    let output = Command::new("cargo")
        .args([command, "-vv", "--color=never"])
        .args(rest)
        .current_dir(directory)
        .env_clear()
        .envs(workspace.environment().iter())
        .output()
        .expect("start cargo");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut ran: Vec<Invocation> = invocations(&stderr);
    ran.retain(|invocation| invocation.crate_name != "___");
    let mut failures = Vec::new();
    if !output.status.success() {
        failures.push(describe(format!("cargo failed: {stderr}")));
    }
    let planned = graph.iter().filter(|(_, unit)| unit.mode != CompileMode::RunCustomBuild);
    for (index, unit) in planned {
        let expected = expected(&graph, unit);
        match ran.iter().position(|invocation| invocation.is_of(&expected)) {
            Some(place) => {
                let actual = ran.remove(place);
                if actual != expected {
                    failures.push(describe(format!(
                        "{}:\n  planned {expected:?}\n  cargo   {actual:?}",
                        graph.describe(index)
                    )));
                }
            }
            None => failures.push(describe(format!("{} was not built", graph.describe(index)))),
        }
    }
    failures.extend(ran.iter().map(|invocation| describe(format!("not planned: {invocation:?}"))));
    failures
}

/// What is compared of a compiler invocation.
#[derive(Debug, PartialEq)]
struct Invocation {
    crate_name: String,
    source: Utf8PathBuf,
    documentation: bool,
    test: bool,
    metadata_alone: bool,
    target: Option<String>,
    cfgs: Vec<String>,
    codegen: Vec<String>,
    rustdoc: Vec<String>,
    primary: bool,
    environment: BTreeMap<String, String>,
}

impl Invocation {
    fn is_of(&self, other: &Self) -> bool {
        let identity = |of: &Self| {
            let name = (of.crate_name.clone(), of.source.clone(), of.documentation, of.test);
            (name, of.metadata_alone, of.target.clone(), of.codegen.clone())
        };
        // The same library can be built for the host and for itself: codegen options tell them apart.
        identity(self) == identity(other)
    }
}

fn expected(graph: &UnitGraph, unit: &PlannedUnit) -> Invocation {
    let package = graph.package(unit);
    let documentation = unit.mode == CompileMode::Doc;
    let mut codegen = Vec::new();
    if !documentation {
        codegen.extend(match unit.profile.unit_lto.as_str() {
            "run" => vec!["lto".to_owned()],
            "off" => vec!["embed-bitcode=no".to_owned(), "lto=off".to_owned()],
            "only-bitcode" => vec!["linker-plugin-lto".to_owned()],
            "only-object" => vec!["embed-bitcode=no".to_owned()],
            "object-and-bitcode" => vec![],
            other => vec![other.replace("run-", "lto=")],
        });
        codegen.extend(unit.profile.codegen_units.map(|units| format!("codegen-units={units}")));
        codegen.extend(unit.linker.as_ref().map(|linker| format!("linker={linker}")));
        if unit.profile.incremental {
            codegen.push("incremental".to_owned());
        }
        codegen.sort();
    }
    let cfgs = |flags: &[String]| flags.iter().filter(|flag| flag.starts_with("--cfg=")).cloned().collect::<Vec<_>>();
    // In cargo's order, which counts.
    let mut all_cfgs = cfgs(&unit.extra_args);
    all_cfgs.extend(cfgs(&unit.rustflags));
    let rustdoc = unit.extra_args.iter().filter(|_| documentation).filter(|flag| !flag.starts_with("--cfg="));
    Invocation {
        crate_name: match unit.target.kind {
            TargetKind::CustomBuild => "build_script_build".to_owned(),
            _ => unit.target.name.replace('-', "_"),
        },
        source: unit.target.source_path.clone(),
        documentation,
        test: matches!(unit.mode, CompileMode::Test | CompileMode::Check { test: true }),
        metadata_alone: matches!(unit.mode, CompileMode::Check { .. }),
        target: match &unit.platform {
            CompilePlatform::Host => None,
            CompilePlatform::Target { name, .. } => Some(name.clone()),
        },
        cfgs: all_cfgs,
        codegen,
        rustdoc: rustdoc.cloned().collect(),
        primary: unit.primary && !documentation,
        environment: package.environment.clone(),
    }
}

/// The compiler invocations that `cargo -vv` tells of.
fn invocations(stderr: &str) -> Vec<Invocation> {
    let mut found = Vec::new();
    let mut rest = stderr;
    while let Some(start) = rest.find(" Running `") {
        rest = &rest[start + " Running `".len()..];
        let end = rest.find("`\n").unwrap_or(rest.len());
        found.extend(invocation(&rest[..end]));
        rest = &rest[end..];
    }
    found
}

fn invocation(text: &str) -> Option<Invocation> {
    let words = words(text);
    let program = words.iter().position(|word| !is_assignment(word))?;
    let documentation = words[program].ends_with("rustdoc");
    if !documentation && !words[program].ends_with("rustc") {
        return None;
    }
    let environment: BTreeMap<String, String> = words[..program]
        .iter()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let arguments = &words[program + 1..];
    let after = |flag: &str| {
        arguments.iter().position(|argument| argument == flag).and_then(|place| arguments.get(place + 1)).cloned()
    };
    let watched = ["lto", "linker-plugin-lto", "embed-bitcode", "codegen-units", "linker", "incremental"];
    let mut codegen: Vec<String> = arguments
        .windows(2)
        .filter(|pair| pair[0] == "-C")
        .filter_map(|pair| {
            let name = pair[1].split('=').next()?;
            let shown = if name == "incremental" { name } else { pair[1].as_str() };
            watched.contains(&name).then(|| shown.to_owned())
        })
        .collect();
    codegen.sort();
    let manifest_directory = Utf8PathBuf::from(environment.get("CARGO_MANIFEST_DIR")?);
    let source = arguments.iter().find(|argument| argument.ends_with(".rs"))?;
    let workspace_root = manifest_directory.parent()?;
    let cfgs = arguments.iter().filter(|argument| argument.starts_with("--cfg=")).cloned().collect();
    let rustdoc = ["--document-private-items", "-Arustdoc::private-intra-doc-links"];
    Some(Invocation {
        crate_name: after("--crate-name")?,
        source: workspace_root.join(source),
        documentation,
        test: arguments.iter().any(|argument| argument == "--test"),
        metadata_alone: !documentation
            && arguments.iter().any(|argument| argument.starts_with("--emit=") && !argument.contains("link")),
        target: after("--target"),
        cfgs,
        codegen,
        rustdoc: arguments.iter().filter(|argument| rustdoc.contains(&argument.as_str())).cloned().collect(),
        primary: environment.contains_key("CARGO_PRIMARY_PACKAGE"),
        environment: environment.into_iter().filter(|(name, _)| name.starts_with("CARGO_PKG_")).collect(),
    })
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
            && !word.starts_with('-')
    })
}

/// Splits at blanks outside of quotes, as a shell does.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut letters = text.chars();
    let (mut quoted, mut started) = (None, false);
    while let Some(letter) = letters.next() {
        match (letter, quoted) {
            ('\'' | '"', None) => (quoted, started) = (Some(letter), true),
            (letter, Some(quote)) if letter == quote => quoted = None,
            ('\\', None | Some('"')) => {
                word.extend(letters.next());
                started = true;
            }
            (letter, None) if letter.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            (letter, _) => {
                word.push(letter);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}
