//! The dependencies of units: libraries, build scripts and their runs, the binaries of integration tests,
//! documentation. The rules are those of cargo's `core/compiler/unit_dependencies.rs` (0.96).

use std::borrow::Cow;
use std::collections::HashSet;

use super::platform::Kind;
use super::profiles::{Profile, UnitFor};
use super::units::{Mode, Unit, UnitEdge, UnitEdges, UnitId};
use super::workspace::TargetNode;
use super::{PlanError, Planner};
use crate::cargo::arguments::Intent;
use crate::cargo::metadata::{is_build, is_dev, name_in_manifest};
use crate::unit::TargetKind;

impl<'m> Planner<'m> {
    /// Everything that the roots depend on.
    pub(super) fn dependencies(&mut self, roots: &[UnitId]) -> Result<UnitEdges<'m>, PlanError> {
        let mut edges = UnitEdges::new();
        let mut dev_edges = HashSet::new();
        for root in roots {
            let unit = self.interner.get(*root);
            let target = unit.target(self.workspace);
            // Tests unwind, and so does all that is built with them; what runs in the compiler does as well.
            let tests = unit.mode.is_any_test() || self.intent.is_test();
            let unit_for = match (tests, target.for_host) {
                (_, true) => UnitFor::host(unit.kind),
                (true, false) => UnitFor::test(unit.kind),
                (false, false) => UnitFor::normal(unit.kind),
            };
            self.visit(*root, unit_for, &mut edges, &mut dev_edges)?;
        }
        self.connect_build_script_runs(&mut edges, &dev_edges);
        for list in edges.values_mut() {
            list.sort_by(|a, b| {
                self.interner
                    .compare(self.workspace, a.unit, b.unit)
                    .then_with(|| a.unit_for.cmp(&b.unit_for))
                    .then_with(|| a.extern_name.cmp(&b.extern_name))
            });
        }
        Ok(edges)
    }

    /// A stack rather than recursion: graphs of dependencies are deep. The order is that of recursion, because the
    /// first visit of a unit decides for what it is.
    fn visit(
        &mut self,
        root: UnitId,
        unit_for: UnitFor,
        edges: &mut UnitEdges<'m>,
        dev_edges: &mut HashSet<(UnitId, UnitId)>,
    ) -> Result<(), PlanError> {
        let mut stack = vec![(root, unit_for)];
        while let Some((id, unit_for)) = stack.pop() {
            if edges.contains_key(&id) {
                continue;
            }
            let unit = self.interner.get(id);
            let found = match unit.mode {
                Mode::RunBuildScript => self.of_build_script_run(&unit, unit_for)?,
                Mode::Doc => self.of_documentation(&unit, unit_for)?,
                _ => self.of_compilation(id, &unit, unit_for, dev_edges)?,
            };
            stack.extend(found.iter().rev().map(|edge| (edge.unit, edge.unit_for)));
            edges.insert(id, found);
        }
        Ok(())
    }

    fn of_compilation(
        &mut self,
        id: UnitId,
        unit: &Unit<'m>,
        unit_for: UnitFor,
        dev_edges: &mut HashSet<(UnitId, UnitId)>,
    ) -> Result<Vec<UnitEdge<'m>>, PlanError> {
        let target = unit.target(self.workspace);
        let mut found = Vec::new();
        for (package, only_dev) in self.active_dependencies(unit, unit_for) {
            let Some(library) = self.workspace.packages[package].library else { continue };
            let edge = self.on_library(unit, unit_for, package, library, false)?;
            if only_dev {
                dev_edges.insert((id, edge.unit));
            }
            found.push(edge);
        }
        if target.kind == TargetKind::CustomBuild {
            return Ok(found);
        }
        found.extend(self.on_build_script_run(unit, unit_for)?);
        if target.kind == TargetKind::Lib && unit.mode != Mode::Doctest {
            return Ok(found);
        }
        found.extend(self.on_own_library(unit, unit_for, |target| target.linkable, false)?);
        let is_integration_test = matches!(target.kind, TargetKind::Test | TargetKind::Bench);
        if !unit.mode.is_check() && unit.mode.is_any_test() && is_integration_test {
            found.extend(self.on_binaries(unit, unit_for.root)?);
        }
        Ok(found)
    }

    /// Integration tests run the package's binaries.
    fn on_binaries(&mut self, unit: &Unit<'m>, root: Kind) -> Result<Vec<UnitEdge<'m>>, PlanError> {
        let mut found = Vec::new();
        let mut available = None;
        for (index, target) in self.workspace.packages[unit.package].targets.iter().enumerate() {
            if target.kind != TargetKind::Bin {
                continue;
            }
            let required = &target.data.required_features;
            if !required.is_empty() {
                let available =
                    available.get_or_insert_with(|| self.available_features(unit.package, false, &[unit.kind]));
                if !required.iter().all(|feature| available.contains(feature.as_str())) {
                    continue;
                }
            }
            found.push(self.edge(unit, unit.package, index, UnitFor::normal(root), unit.kind, Mode::Build)?);
        }
        Ok(found)
    }

    fn of_build_script_run(&mut self, unit: &Unit<'m>, unit_for: UnitFor) -> Result<Vec<UnitEdge<'m>>, PlanError> {
        let links = self.workspace.packages[unit.package].data.links.as_deref();
        if links.is_some_and(|links| self.platforms.overrides_links(unit.kind, links)) {
            return Ok(Vec::new());
        }
        let script = unit_for.build_script();
        Ok(vec![self.edge(unit, unit.package, unit.target, script, Kind::Host, Mode::Build)?])
    }

    fn of_documentation(&mut self, unit: &Unit<'m>, unit_for: UnitFor) -> Result<Vec<UnitEdge<'m>>, PlanError> {
        let mut found = Vec::new();
        let documents_dependencies = self.intent == Intent::Doc { dependencies: true };
        for (package, _) in self.active_dependencies(unit, unit_for) {
            let Some(library) = self.workspace.packages[package].library else { continue };
            found.push(self.on_library(unit, unit_for, package, library, false)?);
            if documents_dependencies && self.workspace.packages[package].targets[library].data.doc {
                found.push(self.on_library(unit, unit_for, package, library, true)?);
            }
        }
        found.extend(self.on_build_script_run(unit, unit_for)?);
        if matches!(unit.target(self.workspace).kind, TargetKind::Bin | TargetKind::Example) {
            found.extend(self.on_own_library(unit, unit_for, |target| target.linkable, false)?);
            let is_documented = |target: &TargetNode<'_>| target.linkable && target.data.doc;
            found.extend(self.on_own_library(unit, unit_for, is_documented, true)?);
        }
        Ok(found)
    }

    fn on_own_library(
        &mut self,
        unit: &Unit<'m>,
        unit_for: UnitFor,
        is_wanted: impl Fn(&TargetNode<'_>) -> bool,
        documentation: bool,
    ) -> Result<Option<UnitEdge<'m>>, PlanError> {
        let targets = &self.workspace.packages[unit.package].targets;
        match targets.iter().position(is_wanted) {
            Some(library) => self.on_library(unit, unit_for, unit.package, library, documentation).map(Some),
            None => Ok(None),
        }
    }

    fn on_library(
        &mut self,
        unit: &Unit<'m>,
        unit_for: UnitFor,
        package: usize,
        library: usize,
        documentation: bool,
    ) -> Result<UnitEdge<'m>, PlanError> {
        let target = &self.workspace.packages[package].targets[library];
        let from_script = unit.target(self.workspace).kind == TargetKind::CustomBuild;
        let unit_for = unit_for.dependency(from_script, target.for_host, target.proc_macro);
        let mode = match unit.mode {
            mode if documentation => mode,
            // What runs in the compiler is built in full; the rest is needed as metadata alone.
            Mode::Check { .. } | Mode::Doc if !target.for_host => Mode::Check { test: false },
            _ => Mode::Build,
        };
        let kind = if target.for_host { Kind::Host } else { unit.kind };
        self.edge(unit, package, library, unit_for, kind, mode)
    }

    fn on_build_script_run(&mut self, unit: &Unit<'m>, unit_for: UnitFor) -> Result<Vec<UnitEdge<'m>>, PlanError> {
        let targets = &self.workspace.packages[unit.package].targets;
        let scripts = targets.iter().enumerate().filter(|(_, target)| target.kind == TargetKind::CustomBuild);
        let profile = unit.profile.for_build_script_run();
        let (package, kind, script_for) = (unit.package, unit.kind, unit_for.build_script());
        scripts
            .map(|(index, _)| {
                self.edge_with(unit, package, index, script_for, kind, Mode::RunBuildScript, profile.clone())
            })
            .collect()
    }

    fn edge(
        &mut self,
        parent: &Unit<'m>,
        package: usize,
        target: usize,
        unit_for: UnitFor,
        kind: Kind,
        mode: Mode,
    ) -> Result<UnitEdge<'m>, PlanError> {
        let profile = self.profiles.get(&self.workspace.packages[package], unit_for, kind, &self.platforms);
        self.edge_with(parent, package, target, unit_for, kind, mode, profile)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the parts of a unit")]
    fn edge_with(
        &mut self,
        parent: &Unit<'m>,
        package: usize,
        target: usize,
        unit_for: UnitFor,
        kind: Kind,
        mode: Mode,
        profile: Profile,
    ) -> Result<UnitEdge<'m>, PlanError> {
        let features = self.features(package, unit_for.host_features)?;
        let extern_name = self.extern_name(parent.package, package, target);
        let unit = self.interner.intern(Unit { package, target, profile, kind, mode, features, dependencies_id: 0 });
        Ok(UnitEdge { unit, unit_for, extern_name })
    }

    /// The name under which a package's crate sees another: that of the manifest, if it renames it.
    fn extern_name(&self, from: usize, to: usize, target: usize) -> Cow<'m, str> {
        let workspace: &'m super::workspace::Workspace<'m> = self.workspace;
        let renamed = if from == to {
            None
        } else {
            let edges = &workspace.packages[from].edges;
            let edge = edges.binary_search_by_key(&to, |edge| edge.to).ok().map(|index| &edges[index]);
            edge.and_then(|edge| edge.declared.first()).and_then(|declared| declared.dependency.rename.as_deref())
        };
        let name = renamed.unwrap_or(&workspace.packages[to].targets[target].data.name);
        if name.contains('-') { Cow::Owned(name.replace('-', "_")) } else { Cow::Borrowed(name) }
    }

    /// The packages that a unit depends on, and whether each is only a dev-dependency.
    fn active_dependencies(&self, unit: &Unit<'m>, unit_for: UnitFor) -> Vec<(usize, bool)> {
        let target = unit.target(self.workspace);
        let is_script = target.kind == TargetKind::CustomBuild;
        let sees_dev = matches!(target.kind, TargetKind::Test | TargetKind::Example) || unit.mode.is_any_test();
        let mut found = Vec::new();
        for edge in &self.workspace.packages[unit.package].edges {
            let active = edge.declared.iter().filter(|declared| {
                let dependency = declared.dependency;
                is_build(dependency) == is_script
                    && (!is_dev(dependency) || (sees_dev && self.resolved.has_dev(unit.package)))
                    && self.platforms.activates(unit.kind, declared.platform)
                    && (!dependency.optional
                        || self.resolved.is_activated(
                            unit.package,
                            unit_for.host_features,
                            name_in_manifest(dependency),
                        ))
            });
            let (mut any, mut only_dev) = (false, true);
            for declared in active {
                any = true;
                only_dev &= is_dev(declared.dependency);
            }
            if any {
                found.push((edge.to, only_dev));
            }
        }
        found
    }

    /// A build script sees what the scripts of its package's `links` dependencies printed, so it runs after them.
    fn connect_build_script_runs(&self, edges: &mut UnitEdges<'m>, dev_edges: &HashSet<(UnitId, UnitId)>) {
        let run_of = |unit: UnitId| edges[&unit].iter().find(|edge| self.mode(edge.unit) == Mode::RunBuildScript);
        let mut additions: Vec<(UnitId, UnitEdge<'m>)> = Vec::new();
        for (parent, list) in edges.iter() {
            let runs = list.iter().filter(|edge| self.mode(edge.unit) == Mode::RunBuildScript);
            for run in runs {
                let package = self.interner.get(run.unit).package;
                for other in list {
                    let unit = self.interner.get(other.unit);
                    let links = self.workspace.packages[unit.package].data.links.is_some();
                    if unit.package == package
                        || !links
                        || !unit.target(self.workspace).linkable
                        || dev_edges.contains(&(*parent, other.unit))
                    {
                        continue;
                    }
                    if let Some(run_of_other) = run_of(other.unit) {
                        additions.push((run.unit, run_of_other.clone()));
                    }
                }
            }
        }
        for (unit, edge) in additions {
            let list = edges.get_mut(&unit).expect("every unit that is an edge's end has edges of its own");
            if !list.contains(&edge) {
                list.push(edge);
            }
        }
    }

    fn mode(&self, unit: UnitId) -> Mode {
        self.interner.get(unit).mode
    }
}
