//! Units: what cargo compiles or runs one by one, and how each is named in the cache.

mod graph;
mod inputs;
mod keys;
#[cfg(test)]
pub(crate) mod tests;

pub use graph::{
    BoundaryKind, CompileMode, CompilePlatform, CrateType, PackageIndex, PackageSource, PassedThrough, PlannedPackage,
    PlannedTarget, PlannedUnit, TargetKind, UnitDependency, UnitGraph, UnitIndex, UnitProfile,
};
pub(crate) use inputs::links_for_target;
pub use inputs::{
    BuildFacts, Hashed, Input, NIX_LINKING_VARIABLES, TABLE, UNTRACKED_VARIABLES, UnitInputs, platform_name,
    table_markdown, unit_inputs,
};
pub use keys::{Pin, plan_keys, unit_key};
