//! `why`: the inputs in which a missing unit differs from the nearest one that the store holds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use nixcache_core::artifact::UnitArtifact;
use nixcache_core::digest::ContentDigest;
use nixcache_core::session::trie::Node;
use nixcache_core::session::{Lookup as _, MissReason, Resolution, UnitState};
use nixcache_core::store::{LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;

use super::print;
use crate::exit;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::settings::Settings;
use crate::workspace::PlannedBuild;

/// `cargo nixcache why`
pub(crate) fn run(settings: &Settings, arguments: &[OsString], package: &str) -> ExitCode {
    super::with_resolution(settings, arguments, |resolved| {
        if explain(resolved.build, &resolved.resolution, resolved.store, package)? {
            return Ok(ExitCode::SUCCESS);
        }
        print(&format!("no unit of this build belongs to a package {package:?}"));
        Ok(ExitCode::from(exit::NO_PLAN))
    })
}

/// Explains every unit of `package`.
fn explain(
    build: &PlannedBuild,
    resolution: &Resolution,
    store: &LocalStore,
    package: &str,
) -> Result<bool, StoreError> {
    let mut found = false;
    let lookup = StoreLookup::new(build, LeaseSource::Store(store));
    for (index, state) in resolution.iter() {
        if build.graph.package(build.graph.unit(index)).name != package {
            continue;
        }
        found = true;
        let label = build.graph.describe(index);
        match state {
            UnitState::InPlace(_) => print(&format!("{label}: in place")),
            UnitState::Restore(_) => print(&format!("{label}: in the store")),
            UnitState::Left(left) => {
                print(&format!("{label}: missing"));
                for line in reasons(build, resolution, store, &lookup, index, &left.reason)? {
                    print(&format!("    {line}"));
                }
            }
        }
    }
    Ok(found)
}

fn reasons(
    build: &PlannedBuild,
    resolution: &Resolution,
    store: &LocalStore,
    lookup: &StoreLookup<'_>,
    index: UnitIndex,
    reason: &MissReason,
) -> Result<Vec<String>, StoreError> {
    match reason {
        MissReason::NotKept => Ok(vec!["rustdoc's output is never kept".to_owned()]),
        MissReason::Dependency(_) => Ok(vec![root_cause(build, resolution, index)]),
        MissReason::NothingKept => {
            let candidates = candidates(store, &build.graph.describe(index))?;
            if candidates.is_empty() {
                return Ok(vec!["nobody has built it yet".to_owned()]);
            }
            let rows = &build.inputs[index.0 as usize].rows;
            let different = |artifact: &UnitArtifact| {
                let mut names = differences(rows, artifact);
                if names.is_empty() {
                    let changed = artifact
                        .dynamic
                        .iter()
                        .filter(|(input, value)| lookup.value(index, input).as_ref() != Some(value));
                    names.extend(changed.map(|(input, _)| input.to_string()));
                    if names.is_empty() {
                        names.push("the output of a dependency".to_owned());
                    }
                } else {
                    // Another set of planned inputs is always further away than another file.
                    names.iter_mut().for_each(|name| name.insert_str(0, "input: "));
                }
                names
            };
            let distance = |names: &Vec<String>| (names.iter().any(|name| name.starts_with("input: ")), names.len());
            let nearest = candidates.iter().map(different).min_by_key(distance).unwrap_or_default();
            Ok(nearest.into_iter().map(|name| format!("{} differs", name.trim_start_matches("input: "))).collect())
        }
    }
}

/// Follows missing dependencies down to the first that is missing on its own account.
fn root_cause(build: &PlannedBuild, resolution: &Resolution, mut index: UnitIndex) -> String {
    while let UnitState::Left(left) = resolution.state(index)
        && let MissReason::Dependency(dependency) = left.reason
    {
        index = dependency;
    }
    let package = &build.graph.package(build.graph.unit(index)).name;
    format!("because {} is missing: see `cargo nixcache why {package}`", build.graph.describe(index))
}

/// The kept units that are of the same package and kind, of any version.
fn candidates(store: &LocalStore, label: &str) -> Result<Vec<UnitArtifact>, StoreError> {
    let (name, kind) = name_and_kind(label);
    let lease = store.lease()?;
    let mut artifacts = Vec::new();
    for node in store.list()?.iter().filter(|node| node.kind == "unit") {
        if name_and_kind(&node.label) == (name, kind) {
            let node = lease.get_node(&node.key)?;
            if let Some(Node::Artifact(artifact)) = node.and_then(|node| serde_json::from_slice(&node.payload).ok()) {
                artifacts.push(*artifact);
            }
        }
    }
    Ok(artifacts)
}

/// `serde 1.0.0 lib` without the version.
fn name_and_kind(label: &str) -> (&str, &str) {
    let mut words = label.splitn(3, ' ');
    let name = words.next().unwrap_or_default();
    (name, words.nth(1).unwrap_or_default())
}

fn differences(rows: &[(&'static str, ContentDigest)], artifact: &UnitArtifact) -> Vec<String> {
    let here: BTreeSet<(&str, ContentDigest)> = rows.iter().copied().collect();
    let there: BTreeSet<(&str, ContentDigest)> =
        artifact.rows.iter().map(|(name, digest)| (name.as_str(), *digest)).collect();
    let names: BTreeSet<&str> = here.symmetric_difference(&there).map(|(name, _)| *name).collect();
    names.into_iter().map(str::to_owned).collect()
}
