//! What came out: one row for each build, as a Markdown table.

use nixcache_tests::Outcome;
use std::fmt::Write as _;

/// One build.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) subject: String,
    pub(crate) command: String,
    pub(crate) case: String,
    pub(crate) counts: Counts,
    /// Why it isn't as promised.
    pub(crate) problem: Option<String>,
}

/// What a build's summary says; nothing where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    planned: u64,
    restored: u64,
    built: u64,
    bound: u64,
    seconds: f64,
}

impl Counts {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let Some(summary) = &outcome.summary else { return Self::default() };
        let units = summary.units;
        Self {
            planned: units.planned,
            restored: units.restored,
            built: units.built,
            bound: units.bound,
            seconds: summary.json["seconds"]["total"].as_f64().unwrap_or_default(),
        }
    }
}

impl Row {
    /// The row, as it is in the table.
    pub(crate) fn line(&self) -> String {
        let Counts { planned, restored, built, bound, seconds } = self.counts;
        let verdict = match (&self.problem, bound) {
            (Some(_), _) => "FAILED".to_owned(),
            (None, 0) => "ok".to_owned(),
            (None, bound) => format!("ok, {bound} bound to their place"),
        };
        let Self { subject, command, case, .. } = self;
        format!("| {subject} | {command} | {case} | {planned} | {restored} | {built} | {seconds:.1} | {verdict} |")
    }
}

/// The table, and below it what went wrong.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut text = "| crate | command | case | units | restored | built | seconds | verdict |\n".to_owned();
    text += "|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        writeln!(text, "{}", row.line()).unwrap();
    }
    for row in rows {
        if let Some(problem) = &row.problem {
            writeln!(text, "\n{} {}, {}: {problem}", row.subject, row.command, row.case).unwrap();
        }
    }
    text
}
