//! The sets of a build, and where caches have them.

use nixcache_core::artifact::dynamic::source_digest;
use nixcache_core::exchange::set_path;
use nixcache_core::nix::StorePath;
use nixcache_core::plan::{PlannedSet, planned_sets};
use nixcache_core::unit::plan_keys;

use crate::workspace::PlannedBuild;

/// A set of a build.
pub(crate) struct BuildSet {
    pub(crate) planned: PlannedSet,
    /// Where it is. `None` if sources that name it can't be read.
    pub(crate) path: Option<StorePath>,
}

impl BuildSet {
    /// The sets of `build`. The sources of its path packages are read.
    pub(crate) fn all(build: &PlannedBuild) -> Vec<Self> {
        let left_out = [build.build_directory(), build.target_directory()];
        let sources = |package: &nixcache_core::unit::PlannedPackage| source_digest(package.root(), &left_out).ok();
        let keys = plan_keys(&build.graph, &build.inputs, sources);
        let sets = planned_sets(&build.graph, &build.workspace_root, &keys);
        sets.into_iter().map(|planned| Self { path: set_path(&planned), planned }).collect()
    }

    /// How people name it.
    pub(crate) fn label(&self) -> String {
        match &self.planned.version {
            None => format!("deps of {}", self.planned.name),
            Some(version) => format!("package {} {version}", self.planned.name),
        }
    }
}
