//! `why`: the inputs in which a missing unit differs from the nearest one that the store holds.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use nixcache_core::artifact::UnitArtifact;
use nixcache_core::artifact::dynamic::DynamicInput;
use nixcache_core::digest::ContentDigest;
use nixcache_core::session::trie::Node;
use nixcache_core::session::{Lookup as _, MissReason, Resolution, UnitState};
use nixcache_core::store::{LocalStore, StoreError};
use nixcache_core::unit::UnitIndex;

use super::print;
use crate::caches::Seen;
use crate::exit;
use crate::lookup::{LeaseSource, StoreLookup};
use crate::report::Report;
use crate::settings::Settings;
use crate::workspace::PlannedBuild;

/// `cargo nixcache why`
pub(crate) fn run(settings: &Settings, arguments: &[OsString], package: &str) -> ExitCode {
    super::with_resolution(settings, arguments, |resolved| {
        let asked = Asked {
            build: resolved.build,
            resolution: &resolved.resolution,
            store: resolved.store,
            seen: &resolved.seen(settings)?,
            arguments,
        };
        if explain(&asked, package)? {
            return Ok(ExitCode::SUCCESS);
        }
        let error = NoSuchCrate { package: package.to_owned() };
        Report::new(false, false, None).error(&error, None);
        Ok(ExitCode::from(exit::NO_PLAN))
    })
}

/// The crate is none of this build's.
#[derive(Debug, thiserror::Error)]
#[error("no unit of this build belongs to a package {package:?}")]
struct NoSuchCrate {
    package: String,
}

/// What was asked about, and what is known of it.
struct Asked<'a> {
    build: &'a PlannedBuild,
    resolution: &'a Resolution,
    store: &'a LocalStore,
    /// What caches have of it.
    seen: &'a Seen,
    /// Cargo's command and arguments.
    arguments: &'a [OsString],
}

/// Explains every unit of `package`.
fn explain(asked: &Asked<'_>, package: &str) -> Result<bool, StoreError> {
    let Asked { build, resolution, store, seen, .. } = *asked;
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
            UnitState::Left(_) if seen.contains_key(&index) => {
                print(&format!("{label}: in the cache {}", seen[&index]));
            }
            UnitState::Left(left) => {
                print(&format!("{label}: missing"));
                for line in reasons(asked, &lookup, index, &left.reason)? {
                    print(&format!("    {line}"));
                }
            }
        }
    }
    Ok(found)
}

fn reasons(
    asked: &Asked<'_>,
    lookup: &StoreLookup<'_>,
    index: UnitIndex,
    reason: &MissReason,
) -> Result<Vec<String>, StoreError> {
    let Asked { build, store, .. } = *asked;
    match reason {
        MissReason::NotKept => Ok(vec!["rustdoc's output is never kept".to_owned()]),
        MissReason::Dependency(_) => root_cause(asked, lookup, index),
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
                    names.extend(changed.map(|(input, _)| shown(input)));
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

/// Follows missing dependencies down to the first that is missing on its own account, and says why that one is.
fn root_cause(asked: &Asked<'_>, lookup: &StoreLookup<'_>, mut index: UnitIndex) -> Result<Vec<String>, StoreError> {
    let Asked { build, resolution, arguments, .. } = *asked;
    let mut reason = &MissReason::NothingKept;
    while let UnitState::Left(left) = resolution.state(index) {
        reason = &left.reason;
        let MissReason::Dependency(dependency) = left.reason else { break };
        index = dependency;
    }
    let package = &build.graph.package(build.graph.unit(index)).name;
    let arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    let command = ["cargo nixcache why", package].map(Cow::Borrowed).into_iter().chain(arguments);
    let command = command.collect::<Vec<_>>().join(" ");
    let mut lines = vec![format!("because {} is missing (`{command}`):", build.graph.describe(index))];
    lines.extend(reasons(asked, lookup, index, reason)?.into_iter().map(|line| format!("    {line}")));
    Ok(lines)
}

/// An input as people name it: files of the workspace by their paths in it.
fn shown(input: &DynamicInput) -> String {
    input.to_string().replace("@nixcache{workspace}@/", "")
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
