//! What the recorder is told and what it saw: the format of its session file and of its records.
//!
//! Owns both formats. The command line writes a [`RecorderSession`] before it runs cargo; the recorder, which
//! cargo runs in place of rustc, writes one [`InvocationRecord`] per unit; collect reads them with a
//! [`RecordReader`] while cargo is still running. Records hold no values of environment variables beyond cargo's
//! own names and paths: values can be secrets.
//!
//! ```text
//! <records>/
//!   .<name>            being written
//!   <name>.json        one record; its modification time is when rustc was started
//! ```

use std::collections::BTreeSet;
use std::time::SystemTime;
use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::incremental::IncrementalState;
use super::invocation::RustcInvocation;

/// The variable that names the session file, and that makes our binary the recorder.
pub const RECORDER_VARIABLE: &str = "NIXCACHE_RECORDER";

/// The version of both formats. They never outlive one run of one binary: another version is an error.
pub const RECORD_VERSION: u32 = 2;

/// What went wrong with a session file or a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file could not be read or written.
    #[error("access the recorder's file {path}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what the recorder writes.
    #[error("understand the recorder's file {path}")]
    Format {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is of another version.
    #[error("understand the recorder's file {path} of version {version}")]
    Version {
        /// The file.
        path: Utf8PathBuf,
        /// Its version.
        version: u32,
    },
}

/// One `--remap-path-prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRemap {
    /// The directory on this machine, absolute.
    pub from: Utf8PathBuf,
    /// What stands for it.
    pub to: String,
}

/// What the recorder is to do in one run of cargo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderSession {
    version: u32,
    /// The directory that records are written into. It exists.
    pub records: Utf8PathBuf,
    /// Least specific first: rustc takes the last one that matches.
    remaps: Vec<PathRemap>,
    /// The user's own `RUSTC_WRAPPER`, which is run around rustc as cargo would.
    pub wrapper: Option<String>,
    /// The compiler, by the name that cargo calls it.
    pub rustc: Utf8PathBuf,
    /// The manifest directories of packages whose paths are left as they are.
    pub not_remapped: BTreeSet<Utf8PathBuf>,
    /// The manifest directories of packages that are not to be compiled at all: their units fail at once.
    pub refused: BTreeSet<Utf8PathBuf>,
}

impl RecorderSession {
    /// A session that writes into `records` and remaps the given directories, in any order.
    pub fn new(records: Utf8PathBuf, remaps: impl IntoIterator<Item = PathRemap>, wrapper: Option<String>) -> Self {
        let mut remaps: Vec<_> = remaps.into_iter().collect();
        remaps.sort_by_key(|remap| remap.from.as_str().len());
        Self {
            version: RECORD_VERSION,
            records,
            remaps,
            wrapper,
            rustc: Utf8PathBuf::from("rustc"),
            not_remapped: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Writes the session file.
    pub fn write(&self, path: &Utf8Path) -> Result<(), RecordError> {
        let text = serde_json::to_vec(self).map_err(|source| RecordError::Format { path: path.to_owned(), source })?;
        fs::write(path, text).map_err(|source| RecordError::File { path: path.to_owned(), source })
    }

    /// Reads a session file.
    pub fn read(path: &Utf8Path) -> Result<Self, RecordError> {
        let text = fs::read(path).map_err(|source| RecordError::File { path: path.to_owned(), source })?;
        let session: Self =
            serde_json::from_slice(&text).map_err(|source| RecordError::Format { path: path.to_owned(), source })?;
        if session.version != RECORD_VERSION {
            return Err(RecordError::Version { path: path.to_owned(), version: session.version });
        }
        Ok(session)
    }

    /// The arguments that come before cargo's and the user's own, so that theirs win.
    pub fn remap_arguments(&self) -> Vec<String> {
        let argument = |remap: &PathRemap| format!("--remap-path-prefix={}={}", remap.from, remap.to);
        self.remaps.iter().map(argument).collect()
    }

    /// The same for gcc and clang, which are run in `directory`. They too go before the caller's own.
    ///
    /// Both compare texts, not paths: `/w` is the beginning of `/workshop`. So the separator is mapped with the
    /// directory. Of several that match gcc takes the last; clang the longest for macros, and the shortest
    /// for debug information before release 17. The working directory itself stands without a separator, and in
    /// debug information only.
    pub fn file_prefix_arguments(&self, directory: &Utf8Path) -> Vec<String> {
        // Which `=` is the one between the two is for the compiler to guess.
        let clear = self.remaps.iter().filter(|remap| !remap.from.as_str().contains('='));
        let mut arguments = Vec::new();
        for PathRemap { from, to } in clear {
            if from == directory {
                arguments.push(format!("-fdebug-prefix-map={from}={to}"));
            }
            arguments.push(format!("-ffile-prefix-map={from}/={to}/"));
        }
        arguments
    }
}

/// One unit's rustc, as cargo called it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvocationRecord {
    version: u32,
    /// The compiler, as cargo named it.
    pub rustc: String,
    /// The workspace wrapper (`clippy-driver`), where cargo used one.
    pub workspace_wrapper: Option<String>,
    /// Cargo's arguments, with response files expanded and without those that the recorder added.
    pub arguments: Vec<String>,
    /// The working directory.
    pub directory: Utf8PathBuf,
    /// Whether the recorder had rustc remap paths.
    pub remapped: bool,
    /// What became of the incremental session.
    pub incremental: IncrementalState,
    /// What cargo said about the unit.
    pub cargo: CargoVariables,
    /// The arguments, parsed. Not in the file: made when it is read.
    #[serde(skip)]
    pub invocation: RustcInvocation,
}

/// The variables by which cargo names a unit to rustc.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CargoVariables {
    /// `CARGO_PKG_NAME`
    pub package_name: Option<String>,
    /// `CARGO_PKG_VERSION`
    pub package_version: Option<String>,
    /// `CARGO_MANIFEST_DIR`
    pub manifest_directory: Option<Utf8PathBuf>,
    /// `CARGO_MANIFEST_PATH`
    pub manifest_path: Option<Utf8PathBuf>,
    /// `CARGO_CRATE_NAME`
    pub crate_name: Option<String>,
    /// `CARGO_BIN_NAME`
    pub binary_name: Option<String>,
    /// Whether `CARGO_PRIMARY_PACKAGE` is set.
    pub primary: bool,
    /// `OUT_DIR`
    pub out_dir: Option<Utf8PathBuf>,
}

impl InvocationRecord {
    /// The record of a call that is about to be made.
    pub fn new(
        rustc: String,
        workspace_wrapper: Option<String>,
        arguments: Vec<String>,
        directory: Utf8PathBuf,
        cargo: CargoVariables,
    ) -> Self {
        Self {
            version: RECORD_VERSION,
            invocation: RustcInvocation::parse(&arguments),
            rustc,
            workspace_wrapper,
            arguments,
            directory,
            remapped: false,
            incremental: IncrementalState::None,
            cargo,
        }
    }

    /// Writes the record under a name that no other call of the session has. Readers see all of it or nothing.
    pub fn write(&self, records: &Utf8Path, name: &str) -> Result<(), RecordError> {
        let path = records.join(format!("{name}.json"));
        let text = serde_json::to_vec(self).map_err(|source| RecordError::Format { path: path.clone(), source })?;
        let temporary = records.join(format!(".{name}"));
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| RecordError::File { path, source })
    }

    /// Reads a record.
    pub fn read(path: &Utf8Path) -> Result<Self, RecordError> {
        let text = fs::read(path).map_err(|source| RecordError::File { path: path.to_owned(), source })?;
        let mut record: Self =
            serde_json::from_slice(&text).map_err(|source| RecordError::Format { path: path.to_owned(), source })?;
        if record.version != RECORD_VERSION {
            return Err(RecordError::Version { path: path.to_owned(), version: record.version });
        }
        record.invocation = RustcInvocation::parse(&record.arguments);
        Ok(record)
    }
}

/// A record with the time at which rustc was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedInvocation {
    /// The record.
    pub record: InvocationRecord,
    /// When it was written, by the clock of the file system that holds it.
    pub started: SystemTime,
}

/// Reads the records of a session as they appear.
#[derive(Debug)]
pub struct RecordReader {
    records: Utf8PathBuf,
    seen: BTreeSet<String>,
    unreadable: Vec<RecordError>,
}

impl RecordReader {
    /// A reader of the directory that the session names.
    pub fn new(records: Utf8PathBuf) -> Self {
        Self { records, seen: BTreeSet::new(), unreadable: Vec::new() }
    }

    /// The records that were written since the last call, in the order in which they were started. One that cannot
    /// be read is a unit that cannot be kept, no reason to lose the others: see [`Self::unreadable`].
    pub fn new_records(&mut self) -> Result<Vec<StartedInvocation>, RecordError> {
        let failed = |path: &Utf8Path| {
            let path = path.to_owned();
            move |source| RecordError::File { path, source }
        };
        let mut found = Vec::new();
        for entry in self.records.read_dir_utf8().map_err(failed(&self.records))? {
            let entry = entry.map_err(failed(&self.records))?;
            let name = entry.file_name();
            if name.starts_with('.') || !name.ends_with(".json") || !self.seen.insert(name.to_owned()) {
                continue;
            }
            let started = entry.metadata().and_then(|metadata| metadata.modified()).map_err(failed(entry.path()));
            match (InvocationRecord::read(entry.path()), started) {
                (Ok(record), Ok(started)) => found.push(StartedInvocation { record, started }),
                (Err(error), _) | (_, Err(error)) => self.unreadable.push(error),
            }
        }
        found.sort_by_key(|invocation| invocation.started);
        Ok(found)
    }

    /// What was wrong with the records that could not be read so far.
    pub fn unreadable(&self) -> &[RecordError] {
        &self.unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> InvocationRecord {
        let arguments = ["--crate-name", name, "-Cmetadata=1", "--out-dir", "/o", "src/lib.rs"];
        InvocationRecord::new(
            "rustc".into(),
            None,
            arguments.map(String::from).into(),
            "/w".into(),
            CargoVariables::default(),
        )
    }

    #[test]
    fn records_are_read_once_and_whole() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(temporary.path()).unwrap().to_owned();
        let mut reader = RecordReader::new(directory.clone());
        assert_eq!(reader.new_records().unwrap(), []);
        record("a").write(&directory, "1").unwrap();
        fs::write(directory.join(".half"), "{").unwrap();
        let read = reader.new_records().unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].record, record("a"));
        assert!(read[0].record.invocation.is_unit());
        record("b").write(&directory, "2").unwrap();
        assert_eq!(reader.new_records().unwrap()[0].record, record("b"));
        assert_eq!(reader.new_records().unwrap(), []);
        fs::write(directory.join("bad.json"), "{").unwrap();
        record("c").write(&directory, "3").unwrap();
        assert_eq!(reader.new_records().unwrap()[0].record, record("c"));
        assert_eq!(reader.unreadable().len(), 1);
    }

    #[test]
    fn the_most_specific_directory_is_remapped_last() {
        let remap = |from: &str, to: &str| PathRemap { from: from.into(), to: to.into() };
        let remaps = [remap("/w/target", "/t"), remap("/w", "."), remap("/home/a/.cargo", "/c")];
        let session = RecorderSession::new("/r".into(), remaps, Some("sccache".into()));
        let expected =
            ["--remap-path-prefix=/w=.", "--remap-path-prefix=/w/target=/t", "--remap-path-prefix=/home/a/.cargo=/c"];
        assert_eq!(session.remap_arguments(), expected);
        assert_eq!(
            session.file_prefix_arguments("/w".into()),
            [
                "-fdebug-prefix-map=/w=.",
                "-ffile-prefix-map=/w/=./",
                "-ffile-prefix-map=/w/target/=/t/",
                "-ffile-prefix-map=/home/a/.cargo/=/c/"
            ]
        );

        let temporary = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(temporary.path()).unwrap().join("session");
        session.write(&file).unwrap();
        assert_eq!(RecorderSession::read(&file).unwrap(), session);
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("\"version\":2", "\"version\":9")).unwrap();
        assert!(matches!(RecorderSession::read(&file), Err(RecordError::Version { version: 9, .. })));
    }
}
