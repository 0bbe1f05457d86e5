//! What was there before cargo ran: the units that lie in the build directory, what scripts may find in `OUT_DIR`, and
//! the state of repositories that they may ask for.
//!
//! Collect asks, as a build from scratch would have found nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::dynamic::{DynamicInput, InputValue};
use crate::cargo::layout::BuildLayout;
use crate::unit::CompileMode;

use super::collect::CollectContext;
use super::gather::repository_of;
use super::ledger::UnitPlace;
use super::resolve::{Lookup, Resolution, UnitState};
use super::stale::layouts_with_dependents;

/// Whether the build directory holds no unit but those that are settled, and what was finished since a time.
pub(super) fn nothing_else_is_present<'p>(
    context: &CollectContext<'_>,
    settled: impl IntoIterator<Item = &'p UnitPlace>,
    since: Option<SystemTime>,
) -> bool {
    let settled: BTreeSet<&UnitPlace> = settled.into_iter().collect();
    let is_known = |layout: &BuildLayout, hash_file: &Utf8Path| {
        let is_new = |since| fs::metadata(hash_file).and_then(|file| file.modified()).is_ok_and(|time| time >= since);
        settled.contains(&UnitPlace::of(layout, hash_file)) || since.is_some_and(is_new)
    };
    layouts_with_dependents(context.layouts).is_ok_and(|layouts| {
        layouts.iter().all(|layout| {
            layout.present_units().is_ok_and(|units| {
                units.iter().all(|unit| {
                    let files = |stem| layout.fingerprint_files(&unit.package, unit.hash, stem);
                    unit.stems.iter().all(|stem| is_known(layout, &files(stem).hash))
                })
            })
        })
    })
}

/// The `OUT_DIR`s that hold something. `None` if that can't be found out.
pub(super) fn used_out_directories(layouts: &[BuildLayout]) -> Option<BTreeSet<Utf8PathBuf>> {
    let mut used = BTreeSet::new();
    for layout in layouts {
        // A run that was marked stale has no fingerprint any more, and its directory is still there.
        for out in layout.out_directories().ok()? {
            match out.read_dir_utf8() {
                Ok(mut entries) => used.extend(entries.next().is_some().then_some(out)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(_) => return None,
            }
        }
    }
    Some(used)
}

/// The states of the repositories that scripts which are left to cargo may ask for.
pub(super) fn repositories_to_ask<L: Lookup>(
    context: &CollectContext<'_>,
    resolution: &Resolution,
    lookup: &L,
) -> BTreeMap<DynamicInput, Option<InputValue>> {
    let mut repositories = BTreeMap::new();
    for (index, state) in resolution.iter() {
        let unit = context.graph.unit(index);
        let package = context.graph.package(unit);
        let is_left = matches!(state, UnitState::Left(_)) && unit.mode == CompileMode::RunCustomBuild;
        if is_left && !context.is_immutable(package) {
            let repository = repository_of(package.root(), context.workspace_root, context.roots);
            repositories.entry(repository).or_insert_with_key(|repository| lookup.value(index, repository));
        }
    }
    repositories
}
