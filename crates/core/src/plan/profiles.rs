//! Profiles: from the tables of the root manifest and the configuration to the profile of one unit.

use std::collections::{BTreeMap, HashSet};

use super::PlanError;
use super::platform::{Kind, Platforms};
use super::workspace::PackageNode;
use crate::cargo::config::BuildConfiguration;
use crate::cargo::profile::{DebugInformation, LinkTimeOptimization, ProfileTable};
use crate::unit::UnitProfile;

/// The profile of a unit.
///
/// Two are equal if they compile alike: neither the name counts, nor whether a value is still to be settled.
/// The order of the fields is that in which cargo sorts profiles.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) opt_level: String,
    release: bool,
    pub(super) lto: LinkTimeOptimization,
    codegen_backend: Option<String>,
    codegen_units: Option<u32>,
    pub(super) debug: DebugInformation,
    /// Whether `debug` is only a default, which a host dependency may give up.
    pub(super) debug_deferred: bool,
    split_debuginfo: Option<String>,
    debug_assertions: bool,
    overflow_checks: bool,
    rpath: bool,
    incremental: bool,
    panic: String,
    pub(super) strip: Strip,
    /// Whether `strip` is only a default.
    pub(super) strip_deferred: bool,
    rustflags: Vec<String>,
}

/// What is stripped. `none` sorts first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Strip {
    None,
    Named(String),
}

type Comparable<'p> = (
    (&'p str, &'p LinkTimeOptimization, &'p Option<String>, Option<u32>, DebugInformation, &'p Option<String>),
    (bool, bool, bool, bool, &'p str, &'p Strip, &'p [String]),
);

impl Profile {
    fn bare() -> Self {
        Self {
            name: String::new(),
            opt_level: "0".to_owned(),
            release: false,
            lto: LinkTimeOptimization::Bool(false),
            codegen_backend: None,
            codegen_units: None,
            debug: DebugInformation::None,
            debug_deferred: false,
            split_debuginfo: None,
            debug_assertions: false,
            overflow_checks: false,
            rpath: false,
            incremental: false,
            panic: "unwind".to_owned(),
            strip: Strip::None,
            strip_deferred: true,
            rustflags: Vec::new(),
        }
    }

    fn dev() -> Self {
        Self {
            debug: DebugInformation::Full,
            debug_assertions: true,
            overflow_checks: true,
            incremental: true,
            ..Self::bare()
        }
    }

    fn release() -> Self {
        Self { opt_level: "3".to_owned(), release: true, ..Self::bare() }
    }

    fn comparable(&self) -> Comparable<'_> {
        (
            (&self.opt_level, &self.lto, &self.codegen_backend, self.codegen_units, self.debug, &self.split_debuginfo),
            (
                self.debug_assertions,
                self.overflow_checks,
                self.rpath,
                self.incremental,
                &self.panic,
                &self.strip,
                &self.rustflags,
            ),
        )
    }

    /// Only what the environment of a build script shows: a script does not run again for the rest.
    pub(super) fn for_build_script_run(&self) -> Self {
        Self {
            name: self.name.clone(),
            release: self.release,
            debug: self.debug,
            debug_deferred: self.debug_deferred,
            opt_level: self.opt_level.clone(),
            debug_assertions: self.debug_assertions,
            ..Self::bare()
        }
    }

    fn lay(&mut self, table: &ProfileTable) {
        fn set<T: Clone>(value: &mut T, table: &Option<T>) {
            if let Some(table) = table {
                value.clone_from(table);
            }
        }
        fn set_some<T: Clone>(value: &mut Option<T>, table: &Option<T>) {
            if table.is_some() {
                value.clone_from(table);
            }
        }
        set(&mut self.opt_level, &table.opt_level);
        set(&mut self.lto, &table.lto);
        set_some(&mut self.codegen_backend, &table.codegen_backend);
        set_some(&mut self.codegen_units, &table.codegen_units);
        if let Some(debug) = table.debug {
            (self.debug, self.debug_deferred) = (debug, false);
        }
        set_some(&mut self.split_debuginfo, &table.split_debuginfo);
        set(&mut self.debug_assertions, &table.debug_assertions);
        set(&mut self.overflow_checks, &table.overflow_checks);
        set(&mut self.rpath, &table.rpath);
        set(&mut self.panic, &table.panic);
        set(&mut self.incremental, &table.incremental);
        set(&mut self.rustflags, &table.rustflags);
        // Each table decides anew: an override without `strip` takes the one of the profile back.
        (self.strip, self.strip_deferred) = match table.strip.as_deref() {
            None => (Strip::None, true),
            Some("none") => (Strip::None, false),
            Some(name) => (Strip::Named(name.to_owned()), false),
        };
    }

    /// As the unit graph has it.
    pub(super) fn to_unit_profile(&self, unit_lto: String) -> UnitProfile {
        UnitProfile {
            name: self.name.clone(),
            is_release: self.release,
            opt_level: self.opt_level.clone(),
            lto: match &self.lto {
                LinkTimeOptimization::Off => "off".to_owned(),
                LinkTimeOptimization::Bool(on) => on.to_string(),
                LinkTimeOptimization::Named(name) => name.clone(),
            },
            unit_lto,
            codegen_backend: self.codegen_backend.clone(),
            codegen_units: self.codegen_units,
            debuginfo: self.debug.as_str().to_owned(),
            split_debuginfo: self.split_debuginfo.clone(),
            debug_assertions: self.debug_assertions,
            overflow_checks: self.overflow_checks,
            rpath: self.rpath,
            incremental: self.incremental,
            panic: self.panic.clone(),
            strip: match &self.strip {
                Strip::None => "none".to_owned(),
                Strip::Named(name) => name.clone(),
            },
            rustflags: self.rustflags.clone(),
            trim_paths: None,
        }
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.comparable() == other.comparable()
    }
}

impl Eq for Profile {}

impl std::hash::Hash for Profile {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.comparable().hash(state);
    }
}

/// Cargo's order, which also looks at the name and the root.
pub(super) fn profile_order(a: &Profile, b: &Profile) -> std::cmp::Ordering {
    fn key(profile: &Profile) -> impl Ord + '_ {
        // The root `release` sorts before `dev`.
        (&profile.name, &profile.opt_level, !profile.release, profile.comparable())
    }
    key(a).cmp(&key(b))
}

/// The unit's place in the graph, as far as profiles and features look at it (cargo's `UnitFor`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UnitFor {
    /// A build script, a proc macro, or a dependency of one.
    pub(super) host: bool,
    /// Its features are those of the host side.
    pub(super) host_features: bool,
    pub(super) panic: PanicSetting,
    /// For which platform the root was asked for that it was reached from. Edges of build script runs that differ in
    /// this alone are two.
    pub(super) root: Kind,
}

/// Which `panic` a unit gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PanicSetting {
    /// Unwinding, whatever the profile says: tests, build scripts, proc macros.
    AlwaysUnwind,
    /// As the profile says.
    ReadProfile,
}

impl UnitFor {
    pub(super) fn normal(root: Kind) -> Self {
        Self { host: false, host_features: false, panic: PanicSetting::ReadProfile, root }
    }

    pub(super) fn test(root: Kind) -> Self {
        Self { panic: PanicSetting::AlwaysUnwind, ..Self::normal(root) }
    }

    /// A proc macro that is a root.
    pub(super) fn host(root: Kind) -> Self {
        Self { host: true, host_features: true, panic: PanicSetting::AlwaysUnwind, root }
    }

    /// For a dependency on a target, from a unit for this.
    pub(super) fn dependency(self, from_build_script: bool, for_host: bool, proc_macro: bool) -> Self {
        Self {
            host: self.host || for_host,
            host_features: self.host_features || from_build_script || proc_macro,
            panic: if for_host { PanicSetting::AlwaysUnwind } else { self.panic },
            root: self.root,
        }
    }

    /// For the build script of a unit for this.
    pub(super) fn build_script(self) -> Self {
        Self { host: true, panic: PanicSetting::AlwaysUnwind, ..self }
    }
}

/// The requested profile, ready to be asked for units.
pub(super) struct Profiles {
    name: String,
    root: Profile,
    table: ProfileTable,
    incremental: Option<bool>,
}

impl Profiles {
    pub(super) fn new(
        name: &str,
        manifest: &BTreeMap<String, ProfileTable>,
        config: &BuildConfiguration,
    ) -> Result<Self, PlanError> {
        let mut tables = manifest.clone();
        let known = ["dev", "release", "test", "bench", "doc", name];
        let written = tables.keys().cloned().chain(config.profile_names().map(str::to_owned));
        let names: std::collections::BTreeSet<String> = written.chain(known.map(str::to_owned)).collect();
        for name in names {
            if let Some(table) = config.profile(&name)? {
                tables.entry(name).or_default().merge(&table);
            }
        }
        for (built_in, parent) in [("bench", "release"), ("test", "dev"), ("doc", "dev")] {
            let mut table = ProfileTable { inherits: Some(parent.to_owned()), ..ProfileTable::default() };
            if let Some(written) = tables.get(built_in) {
                table.merge(written);
            }
            tables.insert(built_in.to_owned(), table);
        }
        let (root, table) = chain(name, &tables, &mut HashSet::new())?;
        Ok(Self { name: name.to_owned(), root, table, incremental: config.incremental })
    }

    /// What of the requested profile is not planned.
    pub(super) fn unplanned(&self) -> Vec<String> {
        let keys = self.table.all_unplanned();
        keys.into_iter().map(|key| format!("profile.{}: {key}", self.name)).collect()
    }

    /// The profile for a unit of `package`.
    pub(super) fn get(
        &self,
        package: &PackageNode<'_>,
        unit_for: UnitFor,
        kind: Kind,
        platforms: &Platforms,
    ) -> Profile {
        let mut profile = self.root.clone();
        profile.lay(&self.table);
        if unit_for.host {
            // Host tools are compiled fast; their debug information is given up unless a target unit shares it.
            profile.opt_level = "0".to_owned();
            profile.codegen_units = None;
            profile.debug_deferred = true;
            if let Some(table) = &self.table.build_override {
                profile.lay(table);
            }
        }
        if !package.is_member
            && let Some(table) = &self.table.every_package
        {
            profile.lay(table);
        }
        let matches = |spec: &crate::cargo::package_spec::PackageSpec| {
            spec.matches(&package.data.name, package.version, &package.data.id.repr)
        };
        if let Some((_, table)) = self.table.packages.iter().find(|(spec, _)| matches(spec)) {
            profile.lay(table);
        }
        if unit_for.panic == PanicSetting::AlwaysUnwind {
            profile.panic = "unwind".to_owned();
        }
        if profile.debug != DebugInformation::None && profile.split_debuginfo.is_none() && platforms.is_apple(kind) {
            profile.split_debuginfo = Some("unpacked".to_owned());
        }
        if let Some(incremental) = self.incremental {
            profile.incremental = incremental;
        }
        if package.data.source.is_some() {
            profile.incremental = false;
        }
        profile.name.clone_from(&self.name);
        profile
    }
}

/// Follows `inherits` down to `dev` or `release`, and lays the tables over one another on the way back.
fn chain(
    name: &str,
    tables: &BTreeMap<String, ProfileTable>,
    seen: &mut HashSet<String>,
) -> Result<(Profile, ProfileTable), PlanError> {
    let table = tables.get(name);
    if name == "dev" || name == "release" {
        let root = if name == "dev" { Profile::dev() } else { Profile::release() };
        return Ok((root, table.cloned().unwrap_or_default()));
    }
    let table = table.ok_or_else(|| PlanError::UndefinedProfile(name.to_owned()))?;
    let parent = table.inherits.as_deref().ok_or_else(|| PlanError::UndefinedProfile(name.to_owned()))?;
    if !seen.insert(name.to_owned()) {
        return Err(PlanError::ProfileLoop(name.to_owned()));
    }
    let (root, mut below) = chain(parent, tables, seen)?;
    below.merge(table);
    Ok((root, below))
}
