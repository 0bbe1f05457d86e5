//! A workspace on a machine: its files, and the commands that are run in it.

use crate::{Invocation, Machine, Outcome, Outputs};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory with a cargo workspace in it.
#[derive(Clone, Debug)]
pub struct Workspace {
    machine: Machine,
    root: PathBuf,
    target: Option<PathBuf>,
    build_directory: Option<PathBuf>,
    environment: BTreeMap<OsString, OsString>,
}

impl Workspace {
    pub(crate) fn new(machine: Machine, root: PathBuf) -> Self {
        fs::create_dir_all(&root).unwrap();
        Self { machine, root, target: None, build_directory: None, environment: BTreeMap::new() }
    }

    /// The machine it is on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The same workspace, with another target directory (given by `CARGO_TARGET_DIR`).
    pub fn with_target(&self, target: impl Into<PathBuf>) -> Self {
        Self { target: Some(target.into()), ..self.clone() }
    }

    /// The same workspace, with a build directory apart from the target directory (`build.build-dir`).
    pub fn with_build_directory(&self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let workspace = self.with_env("CARGO_BUILD_BUILD_DIR", &directory);
        Self { build_directory: Some(directory), ..workspace }
    }

    /// The same workspace, with a variable set in everything that is run in it.
    pub fn with_env(&self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut workspace = self.clone();
        workspace.environment.insert(name.into(), value.as_ref().to_owned());
        workspace
    }

    /// The same workspace, with several variables set.
    pub fn with_variables<V: AsRef<OsStr>>(&self, variables: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        variables.into_iter().fold(self.clone(), |workspace, (name, value)| workspace.with_env(name, value))
    }

    /// The same workspace, with a directory more in `PATH`, before all others.
    pub fn with_path(&self, directory: &Path) -> Self {
        let machines = || self.machine.environment().remove(OsStr::new("PATH")).unwrap_or_default();
        let own = self.environment.get(OsStr::new("PATH")).cloned().unwrap_or_else(machines);
        let all = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&own));
        self.with_env("PATH", std::env::join_paths(all).unwrap())
    }

    pub(crate) fn environment(&self) -> &BTreeMap<OsString, OsString> {
        &self.environment
    }

    /// Builds into an empty target directory; it must succeed.
    #[track_caller]
    pub fn build(&self, arguments: &[&str]) -> Outcome {
        self.remove_target();
        self.nixcache(arguments).succeed()
    }

    /// Builds into an empty target directory; everything must be restored, and plain cargo must find it fresh.
    #[track_caller]
    pub fn hit(&self, arguments: &[&str]) -> Outcome {
        self.remove_target();
        let outcome = self.nixcache(arguments).restores_everything();
        self.assert_nothing_to_do(arguments);
        outcome
    }

    /// Builds into an empty target directory; exactly these packages (`name version`) must be built.
    #[track_caller]
    pub fn miss(&self, arguments: &[&str], packages: &[&str]) -> Outcome {
        self.remove_target();
        self.nixcache(arguments).builds(packages)
    }

    /// The target directory.
    pub fn target(&self) -> PathBuf {
        self.target.clone().unwrap_or_else(|| self.root.join("target"))
    }

    /// Where the intermediate files are: the target directory, unless it was said otherwise.
    pub fn build_directory(&self) -> PathBuf {
        self.build_directory.clone().unwrap_or_else(|| self.target())
    }

    /// Removes the target directory, and the build directory.
    pub fn remove_target(&self) {
        for directory in [self.target(), self.build_directory()] {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
    }

    /// Writes a file, with its directories.
    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Reads a file.
    pub fn read(&self, relative: &str) -> String {
        let path = self.path(relative);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Replaces text in a file, which must contain it.
    pub fn edit(&self, relative: &str, from: &str, to: &str) -> &Self {
        let text = self.read(relative);
        assert!(text.contains(from), "{relative} doesn't contain {from:?}");
        self.write(relative, text.replace(from, to))
    }

    /// Writes a package: its manifest, and an empty library unless the manifest's sources are written later.
    pub fn package(&self, directory: &str, manifest: &str, source: &str) -> &Self {
        let name = Path::new(directory).file_name().map_or("app", |name| name.to_str().unwrap());
        let join = |file: &str| if directory.is_empty() { file.to_owned() } else { format!("{directory}/{file}") };
        let head = if manifest.contains("[package]") {
            String::new()
        } else {
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n")
        };
        self.write(&join("Cargo.toml"), head + manifest);
        let file = if source.contains("fn main()") { "src/main.rs" } else { "src/lib.rs" };
        self.write(&join(file), source)
    }

    /// Makes it a git repository with everything committed, and gives the commit.
    pub fn commit(&self) -> String {
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .current_dir(&self.root)
                .args(["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"])
                .args(arguments)
                .env("HOME", self.machine.root().join("home"))
                .output()
                .expect("git starts");
            assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet"]);
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--allow-empty", "--message", "state"]);
        git(&["rev-parse", "HEAD"])
    }

    /// Copies the sources to another directory of the same machine: another checkout, without its target directory.
    pub fn checkout(&self, name: &str) -> Self {
        self.checkout_on(&self.machine, name)
    }

    /// Copies the sources to another machine.
    pub fn checkout_on(&self, machine: &Machine, name: &str) -> Self {
        let copy = machine.workspace(name);
        crate::copy_tree(&self.root, &copy.root, &["target"]);
        copy
    }

    /// `cargo nixcache …` in this workspace.
    pub fn nixcache(&self, arguments: &[&str]) -> Invocation {
        Invocation::new(self, &[&["nixcache"], arguments].concat()).with_summary()
    }

    /// Plain cargo in this workspace.
    pub fn cargo(&self, arguments: &[&str]) -> Invocation {
        Invocation::new(self, arguments)
    }

    /// Runs a file below the target directory, and gives what it printed.
    pub fn run_output(&self, relative: &str) -> String {
        let path = self.target().join(relative);
        let output = Command::new(&path).output().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(output.status.success(), "{}: {}", path.display(), output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a program below the target directory says to `--version` and to `--help`, with how it ends. Its own
    /// path is left out.
    pub fn answers(&self, relative: &str) -> String {
        let path = self.target().join(relative);
        let environment = Invocation::new(self, &[]).into_environment();
        let answer = |question: &str| {
            let mut command = Command::new(&path);
            command.arg(question).current_dir(&self.root).env_clear().envs(&environment).stdin(Stdio::null());
            let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(output.status.code().is_some(), "{}: {}", path.display(), output.status);
            let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), output.status);
            text.replace(path.to_str().unwrap(), relative)
        };
        format!("{relative}\n{}\n{}", answer("--version"), answer("--help"))
    }

    /// The final files of a profile, by content.
    pub fn outputs(&self, profile: &str) -> Outputs {
        Outputs::read(&self.target().join(profile))
    }

    /// Plain cargo, asked for the same, must find everything fresh and start no compiler.
    #[track_caller]
    pub fn assert_nothing_to_do(&self, arguments: &[&str]) -> Outcome {
        let arguments = [arguments, &["--message-format=json"]].concat();
        let outcome = self.cargo(&arguments).compilers(crate::Compilers::Fail).succeed();
        let dirty: Vec<_> = outcome
            .messages()
            .filter(|message| message["reason"] == "compiler-artifact" && message["fresh"] == false)
            .map(|message| message["package_id"].to_string())
            .collect();
        assert!(dirty.is_empty(), "cargo doesn't find these fresh: {dirty:#?}\n{outcome}");
        assert_eq!(outcome.compiled, [""; 0], "{outcome}");
        outcome
    }
}
