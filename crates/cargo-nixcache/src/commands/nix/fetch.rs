//! `nix fetch`: one store path from the caches, believed because its hash is known. Fixed-output derivations run it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::environment::Environment;
use nixcache_core::nix::nar::unpack;
use nixcache_core::nix::{NarLimits, NarReader, Sha256, StorePath};
use nixcache_remote::{CacheUrl, Outcome, Pinned};

use super::{NixError, failed};
use crate::caches::{CachesError, open_pinned};
use crate::exit;
use crate::replace::directory_of;
use crate::report::{Report, chain};
use crate::settings::Settings;

/// `cargo nixcache nix fetch`
pub(crate) fn run(
    settings: &Settings,
    path: &StorePath,
    nar_hash: Sha256,
    out: &Utf8Path,
    from: &[String],
) -> ExitCode {
    let report = Report::new(false, false, None);
    let mut caches = settings.caches.clone();
    let mut given = Vec::new();
    for url in from {
        match url.parse::<CacheUrl>() {
            Ok(url) => given.push(url),
            Err(error) => {
                report.error(&error, None);
                return ExitCode::from(exit::USAGE);
            }
        }
    }
    caches.fetch.splice(0..0, given);
    caches.publish.clear();
    let environment: Environment = std::env::vars_os().collect();
    let pinned = BTreeMap::from([(path.clone(), Pinned { nar_hash, nar_size: None })]);
    let remote = match open_pinned(&caches, &environment, report, pinned) {
        Ok(Some(remote)) if remote.can_fetch() => remote,
        Ok(_) => return failed(&CachesError::NowhereToFetch.into()),
        Err(error) => return failed(&error.into()),
    };
    // Beside its place, and another one for each cache: what came is not known to be right before all of it is there.
    let beside = match tempfile::Builder::new().prefix(".nixcache-").tempdir_in(directory_of(out)) {
        Ok(beside) => beside,
        Err(source) => return failed(&NixError::file("make a directory beside", out)(source)),
    };
    let attempts = AtomicUsize::new(0);
    let scratch = beside.path().to_owned();
    let mut fetching = remote.fetching(move |_, nar| {
        let attempt = scratch.join(attempts.fetch_add(1, Ordering::Relaxed).to_string());
        let place = Utf8PathBuf::from_path_buf(attempt).map_err(|_| "the directory has no name in UTF-8")?;
        unpack(&mut NarReader::new(nar, NarLimits::default()), &place)?;
        Ok(place)
    });
    fetching.want(0, path.clone());
    let shown = caches.fetch.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let missing = match fetching.next() {
        Some((_, Outcome::Fetched { value, .. })) => {
            return match std::fs::rename(&value, out) {
                Ok(()) => ExitCode::SUCCESS,
                Err(source) => failed(&NixError::file("write", out)(source)),
            };
        }
        Some((_, Outcome::Failed(error))) => chain(&error),
        Some((_, Outcome::Missing)) | None => "no cache has it".to_owned(),
    };
    let hint = "publish it (`cargo nixcache push`), or write the lock file anew (`cargo nixcache nix lock`)";
    report.error(&NotFetched { path: path.clone(), nar_hash, caches: shown, why: missing }, Some(hint));
    ExitCode::from(exit::CACHES)
}

/// What was wanted did not come.
#[derive(Debug, thiserror::Error)]
#[error("fetch {path} with the content {nar_hash} from {caches}: {why}")]
struct NotFetched {
    path: StorePath,
    nar_hash: Sha256,
    caches: String,
    why: String,
}
