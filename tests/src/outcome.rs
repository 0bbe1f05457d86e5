//! What one run did, and what tests demand of it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::process::ExitStatus;

/// The counts of a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Units of the plan.
    pub planned: u64,
    /// In place before.
    pub fresh: u64,
    /// Taken from the store.
    pub restored: u64,
    /// Compiled or run by cargo.
    pub built: u64,
    /// Kept, but for the producer's paths only.
    pub bound: u64,
    /// Left to cargo, as they can't be planned.
    pub passed_through: u64,
}

/// The file that `--summary` writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The counts.
    pub units: Units,
    /// What was built: package, version and kind.
    pub built: Vec<String>,
    /// The whole file.
    pub json: Value,
}

impl Summary {
    pub(crate) fn parse(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("not a summary: {error}\n{text}"));
        assert_eq!(json["schema"], 1, "an unknown summary: {text}");
        let count = |name: &str| json["units"][name].as_u64().unwrap_or_else(|| panic!("no count of {name}: {text}"));
        let units = Units {
            planned: count("planned"),
            fresh: count("fresh"),
            restored: count("restored"),
            built: count("built"),
            bound: count("bound"),
            passed_through: count("passed_through"),
        };
        let built = json["built"].as_array().unwrap_or_else(|| panic!("no list of what was built: {text}"));
        let built = built.iter().map(|unit| unit.as_str().expect("a unit is text").to_owned()).collect();
        Self { units, built, json }
    }
}

/// What one run did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// The summary, if it wrote one.
    pub summary: Option<Summary>,
    /// The compilations that the guarded toolchain saw: tool, crate name, crate types.
    pub compiled: Vec<String>,
}

impl Outcome {
    /// The summary.
    #[track_caller]
    pub fn summary(&self) -> &Summary {
        self.summary.as_ref().unwrap_or_else(|| panic!("there is no summary\n{self}"))
    }

    /// The counts.
    #[track_caller]
    pub fn units(&self) -> Units {
        self.summary().units
    }

    /// Cargo's JSON messages on standard output.
    pub fn messages(&self) -> impl Iterator<Item = Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok())
    }

    /// The packages (`name version`) of which something was built.
    pub fn built_packages(&self) -> BTreeSet<String> {
        let package = |unit: &String| unit.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        self.summary().built.iter().map(package).collect()
    }

    /// The names of the crates that were compiled, as the toolchain saw it.
    pub fn compiled_crates(&self) -> BTreeSet<String> {
        self.compiled.iter().filter_map(|call| call.split(' ').nth(1).map(str::to_owned)).collect()
    }

    /// It succeeded, and every unit came from the store or was in place; no compiler was called.
    #[track_caller]
    pub fn assert_all_restored(&self) {
        assert_eq!(self.compiled, [""; 0], "compilers were called\n{self}");
        assert!(self.status.success(), "it failed\n{self}");
        let units = self.units();
        assert_eq!((units.built, units.passed_through), (0, 0), "not everything was restored\n{self}");
        assert_eq!(units.restored + units.fresh, units.planned, "the counts don't add up\n{self}");
        assert!(units.restored > 0, "nothing was restored\n{self}");
    }

    /// It succeeded, and exactly these packages (`name version`) were built.
    #[track_caller]
    pub fn assert_built(&self, packages: &[&str]) {
        assert!(self.status.success(), "it failed\n{self}");
        let expected: BTreeSet<String> = packages.iter().map(|package| (*package).to_owned()).collect();
        assert_eq!(self.built_packages(), expected, "other packages were built than expected\n{self}");
        let compiled = self.compiled_crates();
        let unexpected: Vec<_> = compiled
            .iter()
            .filter(|name| !name.starts_with("build_script_"))
            .filter(|name| !self.summary().built.iter().any(|unit| unit.replace('-', "_").contains(name.as_str())))
            .collect();
        assert!(unexpected.is_empty(), "the summary doesn't name what was compiled: {unexpected:?}\n{self}");
    }

    /// Nothing was compiled and nothing needed restoring.
    #[track_caller]
    pub fn assert_fresh(&self) {
        assert_eq!(self.compiled, [""; 0], "compilers were called\n{self}");
        assert!(self.status.success(), "it failed\n{self}");
        assert_eq!(self.units().built, 0, "{self}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "$ {} ({})", self.command, self.status)?;
        for error in self.messages().filter(|message| message["message"]["level"] == "error") {
            writeln!(formatter, "{}", error["message"]["rendered"].as_str().unwrap_or_default())?;
        }
        writeln!(formatter, "--- stdout\n{}\n--- stderr\n{}", tail(&self.stdout), tail(&self.stderr))?;
        writeln!(formatter, "--- compiled\n{}", tail(&self.compiled.join("\n")))?;
        match &self.summary {
            Some(summary) => writeln!(formatter, "--- summary\n{}", summary.json),
            None => writeln!(formatter, "--- no summary"),
        }
    }
}

/// The end of a text, without cargo's messages for programs: they are long, and say little to people.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("{\"reason\":")).collect();
    let skipped = lines.len().saturating_sub(60);
    let head = if skipped > 0 { format!("({skipped} lines left out)\n") } else { String::new() };
    head + &lines[skipped..].join("\n")
}
