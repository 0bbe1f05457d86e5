//! The directory of one build: what the recorder is told, and where it writes what it saw.

use std::collections::BTreeSet;
use std::time::SystemTime;

use camino::Utf8PathBuf;
use nixcache_core::cargo::record::{PathRemap, RecorderSession};

use crate::settings::Settings;
use crate::workspace::PlannedBuild;

/// The directory of one build, on the file system of cargo's own files, so that times can be compared.
pub(crate) struct Session {
    directory: Option<Utf8PathBuf>,
    /// Where the recorder writes what it saw.
    pub(crate) records: Utf8PathBuf,
    /// When the build began, by the clock of that file system.
    pub(crate) started: SystemTime,
}

impl Session {
    /// Makes the directory. A dry run has none.
    pub(crate) fn begin(build: &PlannedBuild, dry_run: bool) -> std::io::Result<Self> {
        if dry_run {
            return Ok(Self { directory: None, records: Utf8PathBuf::new(), started: SystemTime::now() });
        }
        for layout in &build.layouts {
            layout.create_directories().map_err(std::io::Error::other)?;
        }
        let sessions = build.build_directory().join(".nixcache").join("sessions");
        let directory = sessions.join(std::process::id().to_string());
        let records = directory.join("records");
        std::fs::create_dir_all(&records)?;
        // The stamp is taken from the file system: its clock can be behind the system's.
        let stamp = directory.join("started");
        std::fs::write(&stamp, b"")?;
        let started = std::fs::metadata(&stamp)?.modified()?;
        Ok(Self { directory: Some(directory), records, started })
    }

    /// Where cargo's output goes if nobody is to see it at once.
    pub(crate) fn output_file(&self) -> Option<Utf8PathBuf> {
        self.directory.as_ref().map(|directory| directory.join("output"))
    }

    /// Writes the file that tells the recorder what to do. `None` if it can't be written.
    pub(crate) fn recorder(
        &self,
        build: &PlannedBuild,
        wrapper: Option<String>,
        settings: &Settings,
        refused: &BTreeSet<Utf8PathBuf>,
    ) -> Option<Utf8PathBuf> {
        // Compilers ask the system for the directory that they run in, and it says what that is behind links.
        let remaps = build
            .roots
            .iter()
            .chain(build.roots.behind_links())
            .filter_map(|(kind, path)| Some(PathRemap { from: path.to_owned(), to: kind.remapped()?.to_owned() }));
        let mut session = RecorderSession::new(self.records.clone(), remaps, wrapper);
        if !settings.remap_members {
            let members = build.graph.packages.iter().filter(|package| package.is_path());
            session.not_remapped = members.map(|package| package.root().to_owned()).collect();
        }
        session.refused = refused.clone();
        session.rustc.clone_from(&build.toolchain.rustc);
        let file = self.directory.as_ref()?.join("session.json");
        session.write(&file).ok().map(|()| file)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // The next `cargo clean` takes what is left.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
