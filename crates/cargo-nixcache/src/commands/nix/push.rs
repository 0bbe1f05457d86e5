//! `push --from DIR`: publishes units that a derivation left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use camino::Utf8Path;
use nixcache_core::digest::Key;
use nixcache_core::environment::Environment;
use nixcache_core::exchange::pack;
use nixcache_core::session::trie::Node;
use nixcache_remote::NewPath;

use super::export::path_of;
use super::import::import;
use super::{NixError, failed};
use crate::caches::{self, CachesError};
use crate::commands::open_store;
use crate::exit;
use crate::report::Report;
use crate::settings::Settings;

/// `cargo nixcache push --from DIR`
pub(crate) fn run(settings: &Settings, directory: &Utf8Path) -> ExitCode {
    push(settings, directory).unwrap_or_else(|error| failed(&error))
}

fn push(settings: &Settings, directory: &Utf8Path) -> Result<ExitCode, NixError> {
    let report = Report::new(false, false, None);
    let environment: Environment = std::env::vars_os().collect();
    let remote = caches::open(&settings.caches, &environment, report)?;
    let remote = remote.filter(|remote| remote.can_publish()).ok_or(CachesError::NowhereToPublish)?;
    let lease = Arc::new(open_store(settings)?.lease()?);
    let keys = import(&lease, directory)?;
    // Artifacts first: names lead to them.
    let mut records: BTreeMap<(bool, Key), String> = BTreeMap::new();
    for key in keys {
        let Some(node) = lease.get_node(&key)? else { continue };
        let is_names = matches!(serde_json::from_slice(&node.payload), Ok(Node::Names(_)));
        records.insert((is_names, key), node.label);
    }
    let mut already = 0;
    for phase in [false, true] {
        let mut publishing = remote.publishing();
        for ((_, key), label) in records.iter().filter(|((is_names, _), _)| *is_names == phase) {
            let path = path_of(key, label)?;
            let (lease, key) = (Arc::clone(&lease), *key);
            let pack = Box::new(move |nar: &mut dyn Write| pack(&lease, &key, nar).map_err(std::io::Error::other));
            publishing.offer(NewPath { path, references: BTreeSet::new(), by_content: false, pack });
        }
        let published = publishing.finish();
        caches::tell_published(&report, &published);
        already += published.already_there;
        if !published.failed.is_empty() {
            return Ok(ExitCode::from(exit::CACHES));
        }
    }
    report.status("Finished", &format!("{already} records were there already"));
    Ok(ExitCode::SUCCESS)
}
