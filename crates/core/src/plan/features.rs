//! Feature resolution: which features of which package are on, on which side.
//!
//! The rules are cargo's (`core/resolver/features.rs` of cargo 0.96). `docs/planning.md` says why they are carried out
//! here rather than by guppy. The oracle tests hold them to cargo's own answer, and
//! to guppy's.

use std::collections::{BTreeSet, HashMap, HashSet};

use cargo_metadata::Dependency;

use super::platform::{Kind, Platforms};
use super::workspace::{Declared, Workspace};
use crate::cargo::metadata::{is_build, is_dev, name_in_manifest};

/// A value of the `[features]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FeatureValue<'m> {
    /// `feature`
    Feature(&'m str),
    /// `dep:name`
    Dependency(&'m str),
    /// `name/feature`, or weak: `name?/feature`
    DependencyFeature { name: &'m str, feature: &'m str, weak: bool },
}

impl<'m> FeatureValue<'m> {
    pub(super) fn parse(text: &'m str) -> Self {
        if let Some((name, feature)) = text.split_once('/') {
            return match name.strip_suffix('?') {
                Some(name) => Self::DependencyFeature { name, feature, weak: true },
                None => Self::DependencyFeature { name, feature, weak: false },
            };
        }
        match text.strip_prefix("dep:") {
            Some(name) => Self::Dependency(name),
            None => Self::Feature(text),
        }
    }
}

/// The features asked for of one member.
#[derive(Clone, Debug)]
pub(super) struct RequestedFeatures<'m> {
    pub(super) values: BTreeSet<FeatureValue<'m>>,
    pub(super) all: bool,
    pub(super) default: bool,
}

/// How far the resolver tells things apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResolverOptions {
    /// Features of host dependencies are apart (resolver 2 and newer).
    decouple_host: bool,
    /// Dev-dependencies count only where they are built.
    decouple_dev: bool,
    /// Dependencies of other platforms don't count.
    ignore_inactive: bool,
}

impl ResolverOptions {
    pub(super) fn new(resolver: u8, builds_dev_dependencies: bool) -> Self {
        let new = resolver >= 2;
        Self { decouple_host: new, decouple_dev: new && !builds_dev_dependencies, ignore_inactive: new }
    }
}

/// Which features and optional dependencies are on, by package and side.
pub(super) struct ResolvedFeatures<'m> {
    options: ResolverOptions,
    /// By package, then by side: normal, host.
    features: Vec<[Option<BTreeSet<&'m str>>; 2]>,
    dependencies: HashSet<(usize, bool, &'m str)>,
    /// The members whose dev-dependencies are part of the graph.
    dev: HashSet<usize>,
}

impl<'m> ResolvedFeatures<'m> {
    /// Resolves the features of the given members.
    pub(super) fn resolve(
        workspace: &'m Workspace<'m>,
        platforms: &Platforms,
        options: ResolverOptions,
        members: &[(usize, RequestedFeatures<'m>)],
    ) -> Self {
        let mut resolver = Resolver {
            workspace,
            platforms,
            resolved: Self {
                options,
                features: vec![[None, None]; workspace.packages.len()],
                dependencies: HashSet::new(),
                dev: members.iter().map(|(member, _)| *member).collect(),
            },
            processed: HashSet::new(),
            deferred: HashMap::new(),
        };
        for (member, requested) in members {
            let values = resolver.requested(*member, requested);
            if resolver.tracks_host() && workspace.packages[*member].has_proc_macro {
                // It can be depended upon (host), and built for its own tests and binaries (normal).
                resolver.activate_package(*member, false, &values);
                resolver.activate_package(*member, true, &values);
            } else {
                resolver.activate_package(*member, false, &values);
            }
        }
        resolver.resolved
    }

    fn side(&self, host: bool) -> bool {
        host && self.options.decouple_host
    }

    /// The features of a package on one side; `None` if the package is not part of the build there.
    pub(super) fn features(&self, package: usize, host: bool) -> Option<&BTreeSet<&'m str>> {
        self.features[package][usize::from(self.side(host))].as_ref()
    }

    /// Whether the optional dependency `name` is on.
    pub(super) fn is_activated(&self, package: usize, host: bool, name: &'m str) -> bool {
        self.dependencies.contains(&(package, self.side(host), name))
    }

    /// Whether the dev-dependencies of a package are part of the graph.
    pub(super) fn has_dev(&self, package: usize) -> bool {
        self.dev.contains(&package)
    }
}

struct Resolver<'r, 'm> {
    workspace: &'m Workspace<'m>,
    platforms: &'r Platforms,
    resolved: ResolvedFeatures<'m>,
    processed: HashSet<(usize, bool)>,
    /// `name?/feature` of dependencies that are not on yet.
    deferred: HashMap<(usize, bool, &'m str), BTreeSet<&'m str>>,
}

impl<'m> Resolver<'_, 'm> {
    fn tracks_host(&self) -> bool {
        self.resolved.options.decouple_host || self.resolved.options.ignore_inactive
    }

    fn activate_package(&mut self, package: usize, host: bool, values: &[FeatureValue<'m>]) {
        let side = self.resolved.side(host);
        self.resolved.features[package][usize::from(side)].get_or_insert_default();
        for value in values {
            self.activate_value(package, host, *value);
        }
        if !self.processed.insert((package, host)) {
            return;
        }
        for (to, declared, side) in self.dependencies(package, host) {
            if !declared.dependency.optional {
                let values = self.declared(to, declared.dependency);
                self.activate_package(to, side, &values);
            }
        }
    }

    fn activate_value(&mut self, package: usize, host: bool, value: FeatureValue<'m>) {
        match value {
            FeatureValue::Feature(feature) => self.activate_feature(package, host, feature),
            FeatureValue::Dependency(name) => self.activate_dependency(package, host, name),
            FeatureValue::DependencyFeature { name, feature, weak } => {
                self.activate_dependency_feature(package, host, name, feature, weak);
            }
        }
    }

    fn activate_feature(&mut self, package: usize, host: bool, feature: &'m str) {
        let side = self.resolved.side(host);
        if !self.resolved.features[package][usize::from(side)].get_or_insert_default().insert(feature) {
            return;
        }
        let workspace = self.workspace;
        let features = &workspace.packages[package].data.features;
        for value in features.get(feature).into_iter().flatten() {
            self.activate_value(package, host, FeatureValue::parse(value));
        }
    }

    fn activate_dependency(&mut self, package: usize, host: bool, name: &'m str) {
        let side = self.resolved.side(host);
        self.resolved.dependencies.insert((package, side, name));
        let deferred = self.deferred.remove(&(package, host, name)).unwrap_or_default();
        for (to, declared, side) in self.dependencies(package, host) {
            if name_in_manifest(declared.dependency) != name {
                continue;
            }
            for feature in &deferred {
                self.activate_value(to, side, FeatureValue::parse(feature));
            }
            let values = self.declared(to, declared.dependency);
            self.activate_package(to, side, &values);
        }
    }

    fn activate_dependency_feature(&mut self, package: usize, host: bool, name: &'m str, feature: &'m str, weak: bool) {
        for (to, declared, side) in self.dependencies(package, host) {
            if name_in_manifest(declared.dependency) != name {
                continue;
            }
            if declared.dependency.optional {
                if weak && !self.resolved.is_activated(package, host, name) {
                    self.deferred.entry((package, host, name)).or_default().insert(feature);
                    continue;
                }
                self.activate_dependency(package, host, name);
                let features = &self.workspace.packages[package].data.features;
                if !weak && features.contains_key(name) {
                    // The old syntax also turns on the feature of the dependency's name.
                    self.activate_feature(package, host, name);
                }
            }
            self.activate_value(to, side, FeatureValue::parse(feature));
        }
    }

    /// The dependencies that count on this side, and the side that each is on.
    fn dependencies(&self, package: usize, host: bool) -> Vec<(usize, &'m Declared<'m>, bool)> {
        let mut found = Vec::new();
        let options = self.resolved.options;
        for edge in &self.workspace.packages[package].edges {
            for declared in &edge.declared {
                let dependency = declared.dependency;
                if is_dev(dependency) && (options.decouple_dev || !self.resolved.has_dev(package)) {
                    continue;
                }
                if options.ignore_inactive && !self.applies(declared, host) {
                    continue;
                }
                let library = &self.workspace.packages[edge.to];
                let proc_macro = library.library.is_some_and(|index| library.targets[index].proc_macro);
                let side = host || (self.tracks_host() && (is_build(dependency) || proc_macro));
                found.push((edge.to, declared, side));
            }
        }
        found
    }

    fn applies(&self, declared: &Declared<'_>, host: bool) -> bool {
        if host || is_build(declared.dependency) {
            return self.platforms.activates(Kind::Host, declared.platform);
        }
        self.platforms.requested.iter().any(|kind| self.platforms.activates(*kind, declared.platform))
    }

    fn declared(&self, to: usize, dependency: &'m Dependency) -> Vec<FeatureValue<'m>> {
        let mut values: Vec<_> = dependency.features.iter().map(|feature| FeatureValue::parse(feature)).collect();
        if dependency.uses_default_features && self.has_default(to) {
            values.push(FeatureValue::Feature("default"));
        }
        values
    }

    fn requested(&self, member: usize, requested: &RequestedFeatures<'m>) -> Vec<FeatureValue<'m>> {
        let mut values: Vec<FeatureValue<'m>> = requested.values.iter().copied().collect();
        if requested.default && self.has_default(member) {
            values.push(FeatureValue::Feature("default"));
        }
        if requested.all {
            let features = &self.workspace.packages[member].data.features;
            values.extend(features.keys().map(|name| FeatureValue::Feature(name)));
        }
        values
    }

    fn has_default(&self, package: usize) -> bool {
        self.workspace.packages[package].data.features.contains_key("default")
    }
}
