//! `nix skeleton`: the skeleton of a workspace, for derivations and container layers of dependencies alone.

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::skeleton::Skeleton;

use crate::exit;
use crate::report::Report;
use crate::settings::nearest_manifest;

/// `cargo nixcache nix skeleton`
pub(crate) fn run(root: Option<Utf8PathBuf>, out: &Utf8Path) -> ExitCode {
    let report = Report::new(false, false, None);
    // Without a root that is named, the directory that has the manifest.
    let current = std::env::current_dir().ok().and_then(|directory| Utf8PathBuf::from_path_buf(directory).ok());
    let nearest = || nearest_manifest(&current?)?.parent().map(Utf8Path::to_owned);
    let root = root.or_else(nearest).unwrap_or_else(|| ".".into());
    match Skeleton::of(&root).and_then(|skeleton| skeleton.write(&root, out).map(|()| skeleton)) {
        Ok(skeleton) => {
            report.status("Written", &format!("{} files to {out}", skeleton.files.len()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            report.error(&error, Some("name the root of the workspace with --root"));
            ExitCode::from(exit::NIX)
        }
    }
}
