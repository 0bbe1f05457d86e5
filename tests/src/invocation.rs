//! One run of cargo, or of `cargo nixcache`.

use crate::{Compilers, Outcome, Summary, Workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A command that is being put together.
#[derive(Debug)]
pub struct Invocation {
    workspace: Workspace,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    directory: PathBuf,
    compilers: Compilers,
    summary: Option<PathBuf>,
    prefix: Vec<OsString>,
}

impl Invocation {
    pub(crate) fn new(workspace: &Workspace, arguments: &[&str]) -> Self {
        let mut environment = workspace.machine().environment();
        if workspace.target() != workspace.root().join("target") {
            environment.insert("CARGO_TARGET_DIR".into(), workspace.target().into());
        }
        environment.extend(workspace.environment().clone());
        Self {
            arguments: arguments.iter().map(OsString::from).collect(),
            environment,
            directory: workspace.root().to_owned(),
            compilers: Compilers::Work,
            summary: None,
            prefix: Vec::new(),
            workspace: workspace.clone(),
        }
    }

    pub(crate) fn with_summary(mut self) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.workspace.machine().root().join(format!("summary-{number}.json"));
        self.environment.insert("NIXCACHE_SUMMARY".into(), path.clone().into());
        self.summary = Some(path);
        self
    }

    /// All variables that are set in it.
    pub(crate) fn into_environment(self) -> BTreeMap<OsString, OsString> {
        self.environment
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Runs in a directory below the workspace root.
    pub fn directory(mut self, relative: &str) -> Self {
        self.directory = self.workspace.path(relative);
        self
    }

    /// Says what the compilers do.
    pub fn compilers(mut self, compilers: Compilers) -> Self {
        self.compilers = compilers;
        self
    }

    /// Puts a command and its arguments in front, as `sh -c '… "$@"' sh`.
    pub fn prefix(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(OsString::from).collect();
        self
    }

    /// Starts it, and comes back at once.
    pub fn start(self) -> Running {
        self.workspace.machine().guard().set(self.compilers);
        let words: Vec<OsString> =
            self.prefix.iter().cloned().chain(["cargo".into()]).chain(self.arguments.iter().cloned()).collect();
        // Output goes to files: a pipe that nobody reads would stop a process that is only waited for later.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let output = |stream: &str| self.workspace.machine().root().join(format!("{stream}-{number}"));
        let (stdout, stderr) = (output("stdout"), output("stderr"));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(&self.directory)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&stdout).unwrap())
            .stderr(std::fs::File::create(&stderr).unwrap());
        // A group of its own, so that a signal reaches all of it and nothing else.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // The program is looked up in the PATH of the child, as the machine has its own cargo.
        let child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        Running { child, stdout, stderr, invocation: self }
    }

    /// Runs it to the end.
    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Runs it, and it must succeed.
    #[track_caller]
    pub fn succeed(self) -> Outcome {
        let outcome = self.run();
        assert!(outcome.status.success(), "it failed\n{outcome}");
        outcome
    }

    /// Runs it, and it must fail.
    #[track_caller]
    pub fn fail(self) -> Outcome {
        let outcome = self.run();
        assert!(!outcome.status.success(), "it succeeded\n{outcome}");
        outcome
    }

    /// Runs it with compilers that fail, and every unit must come from the store.
    #[track_caller]
    pub fn restores_everything(self) -> Outcome {
        let outcome = self.compilers(Compilers::Fail).run();
        outcome.assert_all_restored();
        outcome
    }

    /// Runs it, and exactly these packages (`name version`) must be built, others restored.
    #[track_caller]
    pub fn builds(self, packages: &[&str]) -> Outcome {
        let outcome = self.succeed();
        outcome.assert_built(packages);
        outcome
    }
}

/// A command that was started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    invocation: Invocation,
}

impl Running {
    /// Sends a signal to the whole process group, as a terminal does.
    pub fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        let sent = Command::new("kill").args(["-s", name, "--", &group]).status().unwrap();
        assert!(sent.success(), "the process is gone already");
    }

    /// Sends a signal to the first process only.
    pub fn signal_leader(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, "--", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "the process is gone already");
    }

    /// Stops the first process where it is, until it is sent `CONT`. Comes back when all of its threads stand still.
    pub fn stop(&self) {
        self.signal_leader("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        let moves = |task: std::io::Result<std::fs::DirEntry>| {
            let state = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            // After the name, which is in parentheses.
            state.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('T'))
        };
        while std::fs::read_dir(&tasks).unwrap().any(moves) {
            std::thread::yield_now();
        }
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The compilations so far.
    pub fn compiled(&self) -> Vec<String> {
        self.invocation.workspace.machine().guard().calls()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Outcome {
        let status = self.child.wait().unwrap();
        let text = |path: &PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let summary = self.invocation.summary.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        // Who is killed may leave the beginning of one.
        let summary = summary.filter(|text| status.code().is_some() || serde_json::from_str::<Value>(text).is_ok());
        Outcome {
            command: format!("cargo {}", self.invocation.arguments.join(OsStr::new(" ")).to_string_lossy()),
            status,
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            summary: summary.map(|text| Summary::parse(&text)),
            compiled: self.invocation.workspace.machine().guard().calls(),
        }
    }
}
