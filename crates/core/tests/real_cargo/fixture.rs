//! Toolchains, and a small workspace that has a unit of every kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::artifact::{RootKind, Roots};
use nixcache_core::cargo::layout::{BuildLayout, CargoRelease, LayoutDecision, LayoutKind, LayoutSwitches};
use nixcache_core::environment::Environment;
use nixcache_core::unit::CompilePlatform;
use tempfile::TempDir;

/// A cargo, and the flags that choose its layout.
#[derive(Clone)]
pub(crate) struct Toolchain {
    pub(crate) name: &'static str,
    pub(crate) directory: Utf8PathBuf,
    pub(crate) release: CargoRelease,
    pub(crate) flags: &'static [&'static str],
    pub(crate) layout: LayoutKind,
}

/// The cargos that are there. The first one runs the tests, and is always there.
pub(crate) fn toolchains() -> Vec<Toolchain> {
    let own = Utf8PathBuf::from(std::env::var("CARGO").expect("cargo runs the tests"));
    let nightly = rustup_which("nightly");
    let candidates = [
        ("own", own.parent().map(Utf8Path::to_owned), &[][..]),
        ("nightly", nightly.clone(), &[]),
        ("nightly, per unit", nightly, &["-Zbuild-dir-new-layout"]),
        ("distribution", Path::new("/usr/bin/cargo").is_file().then(|| "/usr/bin".into()), &[]),
    ];
    candidates
        .into_iter()
        .filter_map(|(name, directory, flags)| {
            let directory = directory?;
            let output = Command::new(directory.join("cargo")).arg("-vV").output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            let release = text.lines().find_map(|line| line.strip_prefix("release: "))?.parse().ok()?;
            let layout = decided(release, flags);
            Some(Toolchain { name, directory, release, flags, layout })
        })
        .collect()
}

fn decided(release: CargoRelease, flags: &[&str]) -> LayoutKind {
    let flags: Vec<String> = flags.iter().map(|flag| flag.trim_start_matches("-Z").to_owned()).collect();
    let switches = LayoutSwitches { unstable_flags: &flags, ..LayoutSwitches::default() };
    match release.decide_layout(switches, &Environment::default()) {
        LayoutDecision::Known(kind) | LayoutDecision::Guess(kind) => kind,
    }
}

fn rustup_which(toolchain: &str) -> Option<Utf8PathBuf> {
    let output = Command::new("rustup").args(["which", "--toolchain", toolchain, "cargo"]).output().ok()?;
    let path = Utf8PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.parent().filter(|_| output.status.success()).map(Utf8Path::to_owned)
}

/// A workspace, a cargo home and a target directory below one temporary directory.
pub(crate) struct Machine {
    _directory: TempDir,
    pub(crate) root: Utf8PathBuf,
    /// Names below the root: other machines have other ones.
    pub(crate) workspace: Utf8PathBuf,
    pub(crate) home: Utf8PathBuf,
    pub(crate) target: Utf8PathBuf,
    pub(crate) variables: BTreeMap<String, String>,
}

impl Machine {
    /// A machine whose directories' names hold `name`.
    pub(crate) fn new(name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let machine = Self {
            _directory: directory,
            workspace: root.join(format!("{name}-work")),
            home: root.join(format!("{name}-home")),
            target: root.join(format!("{name}-target")),
            root,
            variables: BTreeMap::new(),
        };
        machine.write_workspace();
        machine
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::new([
            (RootKind::Workspace, self.workspace.clone()),
            (RootKind::CargoHome, self.home.clone()),
            (RootKind::BuildDirectory, self.target.clone()),
            (RootKind::TargetDirectory, self.target.clone()),
        ])
    }

    pub(crate) fn layout(&self, toolchain: &Toolchain) -> BuildLayout {
        BuildLayout::new(toolchain.layout, &self.target, &self.target, &CompilePlatform::Host, "dev")
    }

    /// Runs cargo and returns what it prints to standard error. Fails if cargo does.
    pub(crate) fn cargo(&self, toolchain: &Toolchain, arguments: &[&str]) -> String {
        let output = self.command(toolchain, arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{} {arguments:?}: {text}", toolchain.name);
        text
    }

    /// The command that [`Self::cargo`] runs.
    pub(crate) fn command(&self, toolchain: &Toolchain, arguments: &[&str]) -> Command {
        let mut command = Command::new(toolchain.directory.join("cargo"));
        command
            .current_dir(&self.workspace)
            .args(arguments)
            // After the command: cargo does not hand on what stands before an external one such as clippy.
            .args(toolchain.flags)
            .args(["--offline", "-v"])
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", toolchain.directory))
            .env("RUSTC", toolchain.directory.join("rustc"))
            .env("RUSTDOC", toolchain.directory.join("rustdoc"))
            .env("HOME", &self.root)
            .env("CARGO_HOME", &self.home)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .envs(&self.variables);
        command
    }

    fn write_workspace(&self) {
        for (path, text) in WORKSPACE {
            write(&self.workspace.join(path), text);
        }
        // A registry package, below the directories whose times cargo does not look at.
        let registry = self.home.join("registry/src/stand-in");
        write(
            &self.home.join("config.toml"),
            &format!(
                "[source.crates-io]\nreplace-with = \"stand-in\"\n[source.stand-in]\ndirectory = \"{registry}\"\n"
            ),
        );
        for (path, text) in REGISTRY {
            write(&registry.join(path), text);
        }
    }
}

pub(crate) fn write(path: &Utf8Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const REGISTRY: &[(&str, &str)] = &[
    (
        "remote/.cargo-checksum.json",
        r#"{"files":{},"package":"0000000000000000000000000000000000000000000000000000000000000000"}"#,
    ),
    (
        "remote/Cargo.toml",
        "[package]\nname = \"remote\"\nversion = \"1.2.3\"\nedition = \"2021\"\n[features]\nextra = []\n",
    ),
    ("remote/src/lib.rs", "include!(concat!(env!(\"OUT_DIR\"), \"/generated.rs\"));\n"),
    (
        "remote/build.rs",
        "fn main() {\n    println!(\"cargo:rerun-if-changed=build.rs\");\n    println!(\"cargo:rerun-if-env-changed=REMOTE_TOKEN\");\n    \
         let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
         std::fs::write(format!(\"{out}/generated.rs\"), \"pub const REMOTE: u8 = 1;\").unwrap();\n}\n",
    ),
    (
        "quiet/.cargo-checksum.json",
        r#"{"files":{},"package":"0000000000000000000000000000000000000000000000000000000000000000"}"#,
    ),
    ("quiet/Cargo.toml", "[package]\nname = \"quiet\"\nversion = \"0.1.0-alpha.1\"\nedition = \"2021\"\n"),
    ("quiet/src/lib.rs", ""),
    ("quiet/build.rs", "fn main() {}\n"),
];

const WORKSPACE: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"app\", \"mac\", \"plain\", \"shared\"]\n"),
    (
        "Cargo.lock",
        "version = 3\n\n\
         [[package]]\nname = \"app-one\"\nversion = \"0.1.0\"\ndependencies = [\"mac\", \"plain\", \"quiet\", \"remote\"]\n\n\
         [[package]]\nname = \"mac\"\nversion = \"0.1.0\"\n\n\
         [[package]]\nname = \"plain\"\nversion = \"0.1.0\"\n\n\
         [[package]]\nname = \"quiet\"\nversion = \"0.1.0-alpha.1\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
         checksum = \"0000000000000000000000000000000000000000000000000000000000000000\"\n\n\
         [[package]]\nname = \"remote\"\nversion = \"1.2.3\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
         checksum = \"0000000000000000000000000000000000000000000000000000000000000000\"\n\n\
         [[package]]\nname = \"shared\"\nversion = \"0.1.0\"\ndependencies = [\"plain\"]\n",
    ),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app-one\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\ndefault = [\"fast\"]\nfast = []\nslow = []\n\
         [dependencies]\nmac = { path = \"../mac\" }\nplain = { path = \"../plain\" }\nremote = { version = \"1\", features = [\"extra\"] }\n\
         quiet = \"=0.1.0-alpha.1\"\n[[bin]]\nname = \"renamed-bin\"\npath = \"src/main.rs\"\n[[bench]]\nname = \"speed\"\nharness = false\n",
    ),
    (
        "app/build.rs",
        "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    println!(\"cargo::rerun-if-changed=../shared/data\");\n    \
         println!(\"cargo::rerun-if-env-changed=APP_TOKEN\");\n    println!(\"cargo::rustc-env=FROM_SCRIPT=1\");\n}\n",
    ),
    (
        "app/src/lib.rs",
        "pub const TEXT: &str = include_str!(\"../text with space.txt\");\npub fn f() -> (Option<&'static str>, u8) {\n    \
         let unused = 1;\n    (option_env!(\"APP_OPTION\"), remote::REMOTE)\n}\n#[test]\nfn t() {\n    f();\n}\n",
    ),
    ("app/text with space.txt", "text"),
    ("app/src/main.rs", "fn main() {\n    mac::nothing!();\n    app_one::f();\n}\n"),
    ("app/src/bin/other-bin.rs", "fn main() {}\n"),
    ("app/tests/it.rs", "#[test]\nfn i() {\n    app_one::f();\n}\n"),
    ("app/examples/ex-a.rs", "fn main() {}\n"),
    ("app/benches/speed.rs", "fn main() {}\n"),
    (
        "mac/Cargo.toml",
        "[package]\nname = \"mac\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
    ),
    (
        "mac/src/lib.rs",
        "#[proc_macro]\npub fn nothing(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    Default::default()\n}\n",
    ),
    (
        "plain/Cargo.toml",
        "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2021\"\nexclude = [\"left-out\"]\n",
    ),
    ("plain/build.rs", "fn main() {}\n"),
    ("plain/src/lib.rs", ""),
    ("plain/left-out/x", ""),
    (
        "shared/Cargo.toml",
        "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n\
         [dependencies]\nplain = { path = \"../plain\" }\n",
    ),
    ("shared/src/lib.rs", ""),
    ("shared/data/file", "data"),
];
