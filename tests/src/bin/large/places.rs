//! Where a subject is built: cold once with each toolchain, then from the store in other places.

use crate::Options;
use crate::subject::{Subject, Task};
use crate::table::{Counts, Row};
use clap::ValueEnum;
use nixcache_tests::{Kept, Machine, Promise, Toolchain, Workspace};
use serde_json::Value;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Packages whose misses are explained; the others are named.
const EXPLAINED: usize = 8;

/// Lines of a problem that are shown, at its beginning and at its end, and their length.
const LINES: usize = 15;
const WIDTH: usize = 240;

/// What differs between the cold build and the warm one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// The same checkout.
    A,
    /// Another checkout.
    B,
    /// Another checkout, cargo home, target directory and home.
    C,
    /// A separate build directory, in another checkout.
    D,
    /// Nightly with the new layout, in the places of a, b and c.
    E,
}

/// One toolchain's machine with a subject on it.
struct Visit<'a> {
    options: &'a Options,
    subject: &'a Subject,
    /// Comes before the letter of a case.
    prefix: &'static str,
    /// Comes after cargo's arguments.
    arguments: &'static [&'static str],
    machine: Machine,
    /// Other places share the machine's store. Their directories are made when they are needed.
    other: Option<Machine>,
    rows: Vec<Row>,
}

/// Builds a subject in all the places that the options name.
pub(crate) fn visit(options: &Options, subject: &Subject) -> Vec<Row> {
    let stable: Vec<Case> = options.cases.iter().copied().filter(|case| *case != Case::E).collect();
    let mut rows = Vec::new();
    if !stable.is_empty() {
        rows.extend(visit_with(options, subject, "", &[], &stable, || Some(Toolchain::current())));
    }
    if options.cases.contains(&Case::E) {
        let (arguments, cases) = (&["-Zbuild-dir-new-layout"], [Case::A, Case::B, Case::C]);
        rows.extend(visit_with(options, subject, "e, ", arguments, &cases, Toolchain::nightly));
    }
    rows
}

fn visit_with(
    options: &Options,
    subject: &Subject,
    prefix: &'static str,
    arguments: &'static [&'static str],
    cases: &[Case],
    toolchain: impl Fn() -> Option<Toolchain>,
) -> Vec<Row> {
    let prepared = catching(|| {
        let toolchain = toolchain().expect("the toolchain is installed");
        let machine = Machine::with_toolchain(&toolchain.guarding_c_compilers());
        let first = subject.checkout(&machine, "first/checkout");
        machine.seed(first.root());
        Visit { options, subject, prefix, arguments, machine, other: None, rows: Vec::new() }
    });
    let mut visit = match prepared {
        Ok(visit) => visit,
        Err(problem) => {
            let (subject, case) = (subject.to_string(), format!("{prefix}preparation"));
            return vec![Row {
                subject,
                command: String::new(),
                case,
                counts: Counts::default(),
                problem: Some(problem),
            }];
        }
    };
    for task in &options.commands {
        visit.promise(*task, cases);
    }
    if options.keep && visit.rows.iter().any(|row| row.problem.is_some()) {
        let machines = [Some(visit.machine), visit.other];
        for machine in machines.into_iter().flatten() {
            eprintln!("kept: {}", machine.root().display());
            machine.keep();
        }
    }
    visit.rows
}

impl Visit<'_> {
    /// One command: cold, then in every place.
    fn promise(&mut self, task: Task, cases: &[Case]) {
        let extra = self.options.arguments.iter().map(String::as_str);
        let arguments: Vec<&str> = task.arguments().iter().chain(self.arguments).copied().chain(extra).collect();
        let promise = Promise::new(&arguments);
        let first = self.place(Case::A);
        let cold = catching(|| promise.cold(&first));
        first.remove_target();
        let (counts, problem) = match &cold {
            Ok(cold) => (Counts::of(&cold.outcome), None),
            Err(problem) => (Counts::default(), Some(problem.clone())),
        };
        self.report(task, "cold", counts, problem);
        let Ok(cold) = cold else { return };
        for case in cases {
            match catching(|| self.place(*case)) {
                Ok(workspace) => self.warm(task, *case, &promise, &workspace, &cold, &arguments),
                Err(problem) => self.report(task, letter(*case), Counts::default(), Some(problem)),
            }
        }
    }

    fn warm(
        &mut self,
        task: Task,
        case: Case,
        promise: &Promise,
        workspace: &Workspace,
        cold: &Kept,
        arguments: &[&str],
    ) {
        let mut counts = Counts::default();
        let checked = catching(|| {
            let warm = promise.warm(workspace);
            counts = Counts::of(&warm);
            promise.check(workspace, warm, cold);
        });
        workspace.remove_target();
        let problem = checked.err().map(|problem| {
            let missing = catching(|| missing(workspace, arguments)).unwrap_or_else(|problem| problem);
            workspace.remove_target();
            format!("{problem}\n{missing}")
        });
        self.report(task, letter(case), counts, problem);
    }

    /// A place; what isn't there yet is made.
    fn place(&mut self, case: Case) -> Workspace {
        let first = self.machine.workspace("first/checkout");
        let checkout = |machine: &Machine, name: &str| {
            let workspace = machine.workspace(name);
            let is_there = workspace.path("Cargo.toml").exists();
            if is_there { workspace } else { first.checkout_on(machine, name) }
        };
        let place = match case {
            Case::A | Case::E => first,
            Case::B => checkout(&self.machine, "second/deeper/down"),
            Case::C => {
                let other = self.other.get_or_insert_with(|| {
                    let other = self.machine.another();
                    other.seed(first.root());
                    other
                });
                checkout(other, "third").with_target(other.root().join("built/elsewhere"))
            }
            Case::D => checkout(&self.machine, "fourth").with_build_directory(self.machine.root().join("intermediate")),
        };
        let variables = self.options.environment.iter();
        variables.fold(place, |place, (name, value)| place.with_env(name, value))
    }

    fn report(&mut self, task: Task, case: &str, counts: Counts, problem: Option<String>) {
        let case = format!("{}{case}", self.prefix);
        let row = Row { subject: self.subject.to_string(), command: task.to_string(), case, counts, problem };
        eprintln!("{}", row.line());
        if let Some(problem) = &row.problem {
            eprintln!("{problem}");
        }
        self.rows.push(row);
    }
}

fn letter(case: Case) -> &'static str {
    match case {
        Case::A => "a",
        Case::B => "b",
        Case::C => "c",
        Case::D => "d",
        Case::E => "e",
    }
}

/// What `plan` finds missing in an empty target directory for reasons of its own, and `why`.
fn missing(workspace: &Workspace, arguments: &[&str]) -> String {
    let plan = workspace.nixcache(&[&["plan", "--json"], arguments].concat()).succeed();
    let plan: Value = serde_json::from_str(&plan.stdout).expect("plan --json prints JSON");
    let units = plan["units"].as_array().expect("a plan has units");
    let missing: Vec<&Value> = units.iter().filter(|unit| unit["state"] == "missing").collect();
    if missing.is_empty() {
        return "every unit is in the store".to_owned();
    }
    let dependency_is_missing = |unit: &Value| unit["why"].as_str().is_some_and(|why| why.ends_with(" is missing"));
    let roots: Vec<&str> =
        missing.iter().filter(|unit| !dependency_is_missing(unit)).filter_map(|unit| unit["unit"].as_str()).collect();
    let packages: BTreeSet<&str> = roots.iter().filter_map(|unit| unit.split(' ').next()).collect();
    let mut text = format!("{} units are missing; of their own: {}\n", missing.len(), roots.join(", "));
    for package in packages.into_iter().take(EXPLAINED) {
        let why = workspace.nixcache(&[&["why", package], arguments].concat()).run();
        text += &why.stdout;
        text += &why.stderr;
    }
    text
}

/// What it gives, or what it says when it panics.
fn catching<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        shorten(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default())
    })
}

/// A few short lines: a failed build script of C code says more than anybody reads.
fn shorten(text: &str) -> String {
    let shorter = |line: &str| match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(shorter).collect();
    if lines.len() <= 2 * LINES {
        return lines.join("\n");
    }
    let left_out = format!("({} lines left out)", lines.len() - 2 * LINES);
    [&lines[..LINES], &[left_out], &lines[lines.len() - LINES..]].concat().join("\n")
}
