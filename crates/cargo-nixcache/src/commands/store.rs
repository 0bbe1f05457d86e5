//! `gc`, `verify`, `list` and `stats`: what the store holds, and how it is kept small and sound.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use nixcache_core::store::{GcOptions, VerifyEvent};

use super::{open_store, print, store_failed};
use crate::exit;
use crate::report::{Report, bytes};
use crate::settings::Settings;

/// How long `gc` waits for builds that use the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// `cargo nixcache gc`
pub(crate) fn gc(settings: &Settings, all: bool, dry_run: bool) -> ExitCode {
    let limit = if all { Some(0) } else { settings.store_size };
    let options = GcOptions { limit, wait: PATIENCE, dry_run, ..GcOptions::default() };
    let report = match open_store(settings).and_then(|store| store.gc(&options, SystemTime::now())) {
        Ok(report) => report,
        Err(error) => return store_failed(&error),
    };
    for label in &report.dropped {
        print(label);
    }
    let word = if dry_run { "Would drop" } else { "Dropped" };
    let line = format!(
        "{} records and {} files: {} → {}",
        report.dropped.len(),
        report.dropped_blobs,
        bytes(report.before),
        bytes(report.after)
    );
    Report::new(false, false, None).status(word, &line);
    ExitCode::SUCCESS
}

/// `cargo nixcache verify`
pub(crate) fn verify(settings: &Settings, repair: bool) -> ExitCode {
    let events = |_: VerifyEvent| {};
    let report = match open_store(settings).and_then(|store| store.verify(repair, &events)) {
        Ok(report) => report,
        Err(error) => return store_failed(&error),
    };
    for blob in &report.damaged_blobs {
        print(&format!("damaged file {blob}"));
    }
    for key in &report.damaged_nodes {
        print(&format!("damaged record {key}"));
    }
    for (key, label) in &report.broken_nodes {
        print(&format!("incomplete {label} ({key})"));
    }
    let line = format!("{} files ({}) and {} records", report.blobs, bytes(report.bytes), report.nodes);
    let terminal = Report::new(false, false, None);
    terminal.status("Verified", &line);
    match (report.is_sound(), report.repaired) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => {
            terminal.status("Dropped", "what was damaged; it will be built again");
            ExitCode::SUCCESS
        }
        (false, false) => {
            terminal.warning("the store is damaged: `cargo nixcache verify --repair` drops what is");
            ExitCode::from(exit::DAMAGED)
        }
    }
}

/// `cargo nixcache list`
pub(crate) fn list(settings: &Settings, json: bool, filter: Option<&str>) -> ExitCode {
    let nodes = match open_store(settings).and_then(|store| store.list()) {
        Ok(nodes) => nodes,
        Err(error) => return store_failed(&error),
    };
    let wanted = |label: &str| filter.is_none_or(|filter| label.contains(filter));
    for node in nodes.iter().filter(|node| node.kind == "unit" && wanted(&node.label)) {
        if json {
            let used = node.last_used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let line = serde_json::json!({
                "unit": node.label, "key": node.key, "files": node.blobs, "bytes": node.bytes, "last_used": used,
            });
            print(&line.to_string());
        } else {
            let key = node.key.to_string();
            print(&format!("{}  {:>10}  {}", &key[..12], bytes(node.bytes), node.label));
        }
    }
    ExitCode::SUCCESS
}

/// `cargo nixcache stats`
pub(crate) fn stats(settings: &Settings, json: bool) -> ExitCode {
    let stats = match open_store(settings).and_then(|store| store.stats()) {
        Ok(stats) => stats,
        Err(error) => return store_failed(&error),
    };
    let units = stats.kinds.get("unit").map_or(0, |kind| kind.nodes);
    if json {
        let line = serde_json::json!({
            "store": settings.store, "units": units, "records": stats.nodes, "files": stats.blobs,
            "bytes": stats.blob_bytes + stats.node_bytes, "limit": settings.store_size,
            "damaged_records": stats.damaged_nodes,
        });
        print(&line.to_string());
        return ExitCode::SUCCESS;
    }
    let limit = settings.store_size.map_or_else(|| "no limit".to_owned(), bytes);
    print(&format!("store   {}", settings.store));
    print(&format!("units   {units}"));
    print(&format!("files   {}", stats.blobs));
    print(&format!("size    {} of {limit}", bytes(stats.blob_bytes + stats.node_bytes)));
    ExitCode::SUCCESS
}
