//! The units that the user asks for: targets by the selection flags, their required features, their modes.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::platform::Kind;
use super::profiles::UnitFor;
use super::units::{Mode, Unit, UnitId};
use super::workspace::TargetNode;
use super::{PlanError, Planner};
use crate::cargo::arguments::{Filter, Intent, LibraryRule, Rule};
use crate::cargo::metadata::{is_build, is_dev, name_in_manifest};
use crate::unit::TargetKind;

/// A target that may become a unit, if its features are on.
struct Proposal {
    package: usize,
    target: usize,
    /// Whether it is an error that a required feature is off, rather than a reason to skip it.
    required: bool,
    mode: Mode,
}

type Predicate<'p> = &'p dyn Fn(&TargetNode<'_>) -> bool;

impl<'m> Planner<'m> {
    /// The root units, sorted.
    pub(super) fn roots(&mut self, packages: &[usize], filter: &Filter) -> Result<Vec<UnitId>, PlanError> {
        let proposals = self.proposals(packages, filter)?;
        let mut available: HashMap<usize, HashSet<String>> = HashMap::new();
        let mut roots = BTreeSet::new();
        for proposal in proposals {
            let target = &self.workspace.packages[proposal.package].targets[proposal.target];
            let required = &target.data.required_features;
            if target.kind != TargetKind::Lib && !required.is_empty() {
                let available = available.entry(proposal.package).or_insert_with(|| {
                    self.available_features(proposal.package, self.builds_dev_dependencies, &self.platforms.requested)
                });
                if !required.iter().all(|feature| available.contains(feature.as_str())) {
                    if proposal.required {
                        return Err(PlanError::RequiredFeatures(target.data.name.to_string()));
                    }
                    continue;
                }
            }
            roots.extend(self.root_units(&proposal, filter)?);
        }
        let mut roots: Vec<UnitId> = roots.into_iter().collect();
        roots.sort_by(|a, b| self.interner.compare(self.workspace, *a, *b));
        Ok(roots)
    }

    fn proposals(&self, packages: &[usize], filter: &Filter) -> Result<Vec<Proposal>, PlanError> {
        let mode = match self.intent {
            Intent::Test | Intent::Bench => Mode::Test,
            Intent::Build => Mode::Build,
            Intent::Check { test } => Mode::Check { test },
            Intent::Doc { .. } => Mode::Doc,
            Intent::Doctest => Mode::Doctest,
        };
        let mut proposals = Vec::new();
        let Filter::Only { all_targets, library, binaries, examples, tests, benches } = filter else {
            let required = matches!(filter, Filter::Default { skip_unavailable: false });
            for package in packages {
                self.default_proposals(*package, mode, required, &mut proposals);
            }
            return Ok(proposals);
        };
        if *library != LibraryRule::No {
            let before = proposals.len();
            let is_library = |target: &TargetNode<'_>| {
                target.kind == TargetKind::Lib && (self.intent != Intent::Doctest || is_doctestable(target))
            };
            self.filtered(packages, &is_library, false, mode, &mut proposals);
            if !all_targets && *library == LibraryRule::Yes && proposals.len() == before {
                return Err(PlanError::NoLibrary);
            }
        }
        let test_mode = match self.intent {
            Intent::Build => Mode::Test,
            Intent::Check { .. } => Mode::Check { test: true },
            _ => mode,
        };
        let of_kind = |kind: TargetKind| move |target: &TargetNode<'_>| target.kind == kind;
        let tested: Predicate<'_> = match tests {
            Rule::All => &|target: &TargetNode<'_>| target.data.test,
            Rule::Named(_) => &of_kind(TargetKind::Test),
        };
        let benched: Predicate<'_> = match benches {
            Rule::All => &|target: &TargetNode<'_>| target.bench,
            Rule::Named(_) => &of_kind(TargetKind::Bench),
        };
        self.by_rule(packages, binaries, &of_kind(TargetKind::Bin), mode, &mut proposals)?;
        self.by_rule(packages, examples, &of_kind(TargetKind::Example), mode, &mut proposals)?;
        self.by_rule(packages, tests, tested, test_mode, &mut proposals)?;
        self.by_rule(packages, benches, benched, test_mode, &mut proposals)?;
        Ok(proposals)
    }

    /// What is built when no target is named.
    fn default_proposals(&self, package: usize, mode: Mode, required: bool, proposals: &mut Vec<Proposal>) {
        let targets = &self.workspace.packages[package].targets;
        let crate_name = |target: &TargetNode<'_>| target.data.name.replace('-', "_");
        for (index, target) in targets.iter().enumerate() {
            let (library, binary) = (target.kind == TargetKind::Lib, target.kind == TargetKind::Bin);
            let wanted = match self.intent {
                Intent::Bench => target.bench,
                Intent::Test => target.data.test || target.kind == TargetKind::Example,
                Intent::Build | Intent::Check { .. } => library || binary,
                Intent::Doc { .. } => {
                    // The documentation of a binary would overwrite that of a library of its name.
                    let hidden = |other: &TargetNode<'_>| {
                        other.kind == TargetKind::Lib && crate_name(other) == crate_name(target)
                    };
                    target.data.doc && !(binary && targets.iter().any(hidden))
                }
                Intent::Doctest => false,
            };
            if wanted {
                proposals.push(Proposal { package, target: index, required, mode });
            }
        }
        if self.intent == Intent::Test {
            let library = targets
                .iter()
                .position(|target| target.kind == TargetKind::Lib && target.data.doctest && is_doctestable(target));
            if let Some(target) = library {
                proposals.push(Proposal { package, target, required: false, mode: Mode::Doctest });
            }
        }
    }

    fn by_rule(
        &self,
        packages: &[usize],
        rule: &Rule,
        is_wanted: Predicate<'_>,
        mode: Mode,
        proposals: &mut Vec<Proposal>,
    ) -> Result<(), PlanError> {
        let names = match rule {
            Rule::All => {
                self.filtered(packages, is_wanted, false, mode, proposals);
                return Ok(());
            }
            Rule::Named(names) => names,
        };
        for name in names {
            let glob = glob::Pattern::new(name).ok().filter(|_| crate::cargo::package_spec::PackageSpec::is_glob(name));
            let before = proposals.len();
            let is_named = |target: &TargetNode<'_>| {
                is_wanted(target)
                    && match &glob {
                        Some(glob) => glob.matches(&target.data.name),
                        None => target.data.name == **name,
                    }
            };
            self.filtered(packages, &is_named, true, mode, proposals);
            if proposals.len() == before {
                return Err(PlanError::NoSuchTarget(name.clone()));
            }
        }
        Ok(())
    }

    fn filtered(
        &self,
        packages: &[usize],
        is_wanted: Predicate<'_>,
        required: bool,
        mode: Mode,
        proposals: &mut Vec<Proposal>,
    ) {
        for package in packages {
            let targets = self.workspace.packages[*package].targets.iter().enumerate();
            let wanted = targets.filter(|(_, target)| is_wanted(target));
            proposals.extend(wanted.map(|(target, _)| Proposal { package: *package, target, required, mode }));
        }
    }

    fn root_units(&mut self, proposal: &Proposal, filter: &Filter) -> Result<Vec<UnitId>, PlanError> {
        let package = &self.workspace.packages[proposal.package];
        let target = &package.targets[proposal.target];
        let untested_example = target.kind == TargetKind::Example && !target.data.test;
        let mode = match proposal.mode {
            // `cargo test` builds examples as they are, to see that they compile.
            Mode::Test if untested_example && matches!(filter, Filter::Default { .. }) => Mode::Build,
            mode => mode,
        };
        let features = self.features(proposal.package, target.proc_macro)?;
        let mut units = Vec::new();
        for kind in self.platforms.requested.clone() {
            let kind = if kind == Kind::Host { self.platforms.explicit_host } else { kind };
            // Tests and what runs in the compiler unwind, whatever the profile says.
            let unwinds = proposal.mode.is_any_test() || target.for_host;
            let unit_for = if unwinds { UnitFor::test(kind) } else { UnitFor::normal(kind) };
            let profile = self.profiles.get(package, unit_for, kind, &self.platforms);
            let kind = if target.for_host { Kind::Host } else { kind };
            units.push(self.interner.intern(Unit {
                package: proposal.package,
                target: proposal.target,
                profile,
                kind,
                mode,
                features: features.clone(),
                dependencies_id: 0,
            }));
        }
        Ok(units)
    }

    /// The features of a package and, as `dependency/feature`, those of its dependencies: what `required-features`
    /// may name.
    pub(super) fn available_features(&self, package: usize, dev: bool, kinds: &[Kind]) -> HashSet<String> {
        let features = self.resolved.features(package, false).into_iter().flatten();
        let mut available: HashSet<String> = features.map(|feature| (*feature).to_owned()).collect();
        for edge in &self.workspace.packages[package].edges {
            let proc_macro = self.workspace.packages[edge.to].has_proc_macro;
            for declared in &edge.declared {
                let dependency = declared.dependency;
                let applies =
                    kinds.iter().chain([&Kind::Host]).any(|kind| self.platforms.activates(*kind, declared.platform));
                if (is_dev(dependency) && !dev) || !applies {
                    continue;
                }
                let host = proc_macro || is_build(dependency);
                for feature in self.resolved.features(edge.to, host).into_iter().flatten() {
                    available.insert(format!("{}/{feature}", name_in_manifest(dependency)));
                }
            }
        }
        available
    }
}

fn is_doctestable(target: &TargetNode<'_>) -> bool {
    use crate::unit::CrateType::{Lib, ProcMacro, Rlib};
    target.crate_types.iter().any(|kind| matches!(kind, Lib | Rlib | ProcMacro))
}
