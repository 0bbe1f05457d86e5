//! Counts runs of build scripts: code in the script leaves a mark in a file that cargo doesn't know of.

use nixcache_tests::Machine;
use std::path::PathBuf;

/// A file with one line per run.
pub(crate) struct Counter {
    file: PathBuf,
}

impl Counter {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self::named(machine, "script")
    }

    pub(crate) fn named(machine: &Machine, name: &str) -> Self {
        Self { file: machine.root().join(format!("{name}.runs")) }
    }

    /// A statement for a build script.
    pub(crate) fn code(&self) -> String {
        format!(
            "    {{ use std::io::Write as _; std::fs::OpenOptions::new().create(true).append(true).open({:?}).unwrap()\
             .write_all(b\"run\\n\").unwrap(); }}\n",
            self.file
        )
    }

    /// How often the script ran.
    pub(crate) fn count(&self) -> usize {
        std::fs::read_to_string(&self.file).map_or(0, |text| text.lines().count())
    }
}
