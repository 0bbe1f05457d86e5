//! The promise: what was built once is never built again, wherever it is.
//!
//! One cold build fills a store. Whatever is built from that store later must find everything there: with compilers
//! that fail, cargo must have nothing to run, and the outputs must be the cold build's, byte by byte.

use crate::{Compilers, Outcome, Outputs, Workspace};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One cargo command that is built cold once, and from the store ever after.
#[derive(Clone, Debug)]
pub struct Promise {
    arguments: Vec<String>,
    compilers: Compilers,
}

/// What a cold build left: what every later one is compared with.
pub struct Kept {
    /// The cold build.
    pub outcome: Outcome,
    outputs: Outputs,
    /// Programs that cargo's messages name (test programs among them), by path below their directory.
    executables: BTreeMap<PathBuf, Vec<u8>>,
    /// What the final programs answer to questions that every program should survive.
    answers: Vec<String>,
}

impl Kept {
    /// The final files.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }
}

impl Promise {
    /// A promise about `cargo ARGUMENTS`. Documentation isn't kept, so there rustdoc may run, and nothing else.
    pub fn new(arguments: &[&str]) -> Self {
        let compilers = if arguments.first() == Some(&"doc") { Compilers::OnlyRustdoc } else { Compilers::Fail };
        Self { arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(), compilers }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let own: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        // What follows two dashes isn't cargo's.
        let end = own.iter().position(|argument| *argument == "--").unwrap_or(own.len());
        [&own[..end], more, &own[end..]].concat()
    }

    /// Builds into empty directories, and notes what came out. It must succeed, and all of it must be planned.
    #[track_caller]
    pub fn cold(&self, workspace: &Workspace) -> Kept {
        let outcome = workspace.build(&self.arguments(&["--message-format=json"]));
        assert_eq!(outcome.units().passed_through, 0, "{outcome}");
        self.note(workspace, outcome)
    }

    fn note(&self, workspace: &Workspace, outcome: Outcome) -> Kept {
        let outputs = workspace.outputs("debug");
        let answers = outputs.programs().iter().map(|name| workspace.answers(&format!("debug/{name}"))).collect();
        Kept { outputs, executables: executables(workspace, &outcome), answers, outcome }
    }

    /// Builds into empty directories with guarded compilers. Nothing is demanded of the outcome yet.
    pub fn warm(&self, workspace: &Workspace) -> Outcome {
        workspace.remove_target();
        let arguments = self.arguments(&["--message-format=json", "--verbose"]);
        workspace.nixcache(&arguments).compilers(self.compilers).run()
    }

    /// Panics unless a warm build did all that is promised. Afterwards, plain cargo must have nothing to do.
    #[track_caller]
    pub fn check(&self, workspace: &Workspace, warm: Outcome, cold: &Kept) {
        self.assert_nothing_ran(&warm);
        assert!(warm.status.success(), "it failed\n{warm}");
        if self.compilers == Compilers::Fail {
            warm.assert_all_restored();
        }
        let warm = self.note(workspace, warm);
        warm.outputs.assert_same(&cold.outputs);
        let paths = |kept: &Kept| kept.executables.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&warm), paths(cold), "other programs\n{}", warm.outcome);
        let different: Vec<_> =
            warm.executables.iter().filter(|(path, content)| cold.executables[*path] != **content).collect();
        assert!(different.is_empty(), "{:?} differ", different.iter().map(|(path, _)| path).collect::<Vec<_>>());
        assert_eq!(warm.answers, cold.answers, "the programs act differently");
        let outcome = workspace.assert_nothing_to_do(&self.arguments(&["--verbose"]));
        assert!(ran(&outcome).next().is_none(), "cargo ran something\n{outcome}");
    }

    /// [`Promise::warm`] and [`Promise::check`].
    #[track_caller]
    pub fn hold(&self, workspace: &Workspace, cold: &Kept) {
        let warm = self.warm(workspace);
        self.check(workspace, warm, cold);
    }

    /// No compiler was called, and cargo ran no build script. With documentation, rustdoc may run.
    #[track_caller]
    fn assert_nothing_ran(&self, outcome: &Outcome) {
        let rustdoc = self.compilers == Compilers::OnlyRustdoc;
        let calls: Vec<_> = outcome.compiled.iter().filter(|call| !(rustdoc && call.starts_with("rustdoc "))).collect();
        assert!(calls.is_empty(), "compilers were called: {calls:?}\n{outcome}");
        let is_rustdoc = |program: &&str| program.rsplit('/').next() == Some("rustdoc");
        let programs: Vec<_> = ran(outcome).filter(|program| !(rustdoc && is_rustdoc(program))).collect();
        assert!(programs.is_empty(), "cargo ran {programs:?}\n{outcome}");
    }
}

/// The programs that a verbose cargo says it ran.
fn ran(outcome: &Outcome) -> impl Iterator<Item = &str> {
    let commands = outcome.stderr.lines().filter_map(|line| line.trim_start().strip_prefix("Running `"));
    commands.map(|command| command.split([' ', '`']).next().unwrap_or_default())
}

fn executables(workspace: &Workspace, outcome: &Outcome) -> BTreeMap<PathBuf, Vec<u8>> {
    let relative = |path: &PathBuf| {
        let below = path.strip_prefix(workspace.target()).or_else(|_| path.strip_prefix(workspace.build_directory()));
        below.unwrap_or(path).to_owned()
    };
    outcome
        .messages()
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .map(|path| (relative(&path), std::fs::read(&path).unwrap()))
        .collect()
}
