//! Which packages a command builds, and which features it asks of which member.

use std::collections::{BTreeSet, HashMap};

use super::PlanError;
use super::features::{FeatureValue, RequestedFeatures};
use super::workspace::Workspace;
use crate::cargo::arguments::{CargoCommand, FeatureSelection, PackageSelection};
use crate::cargo::metadata::name_in_manifest;
use crate::cargo::package_spec::PackageSpec;

/// The packages that a command builds, in cargo's order.
pub(super) fn packages(workspace: &Workspace<'_>, command: &CargoCommand) -> Result<Vec<usize>, PlanError> {
    let selected: BTreeSet<usize> = match command.package_selection() {
        PackageSelection::Default => {
            workspace.members().filter(|member| workspace.packages[*member].is_default_member).collect()
        }
        PackageSelection::Current => {
            let current = workspace.current.ok_or(PlanError::NoCurrentPackage)?;
            BTreeSet::from([current])
        }
        PackageSelection::Workspace { exclude } => {
            let excluded: Vec<Pattern> = exclude.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
            workspace.members().filter(|member| !excluded.iter().any(|p| p.matches(workspace, *member))).collect()
        }
        PackageSelection::Packages(specs) => {
            let mut selected = BTreeSet::new();
            for text in specs {
                let pattern = Pattern::parse(&text)?;
                let mut found: Vec<usize> = match &pattern {
                    Pattern::Glob(_) => workspace.members().collect(),
                    Pattern::Spec(_) => (0..workspace.packages.len()).collect(),
                };
                found.retain(|package| pattern.matches(workspace, *package));
                match (&pattern, found.as_slice()) {
                    (_, []) => return Err(PlanError::NoSuchPackage(text)),
                    (Pattern::Glob(_), _) | (_, [_]) => selected.extend(found),
                    (Pattern::Spec(_), _) => return Err(PlanError::AmbiguousPackage(text)),
                }
            }
            selected
        }
    };
    if selected.is_empty() {
        return Err(PlanError::NothingSelected);
    }
    Ok(selected.into_iter().collect())
}

enum Pattern {
    Spec(PackageSpec),
    Glob(glob::Pattern),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PlanError> {
        if PackageSpec::is_glob(text) && !text.contains("://") {
            let glob = glob::Pattern::new(text).map_err(|_| PlanError::NoSuchPackage(text.to_owned()))?;
            return Ok(Self::Glob(glob));
        }
        Ok(Self::Spec(PackageSpec::parse(text)))
    }

    fn matches(&self, workspace: &Workspace<'_>, package: usize) -> bool {
        let package = &workspace.packages[package];
        match self {
            Self::Spec(spec) => spec.matches(&package.data.name, package.version, &package.data.id.repr),
            Self::Glob(glob) => glob.matches(&package.data.name),
        }
    }
}

/// The members whose features are resolved, with what the command line asks of each: the selected ones, or, where
/// only packages of others are selected, all of them.
pub(super) fn member_features<'m>(
    workspace: &'m Workspace<'m>,
    packages: &[usize],
    selection: &'m FeatureSelection,
    per_member: bool,
) -> Result<Vec<(usize, RequestedFeatures<'m>)>, PlanError> {
    let values: BTreeSet<FeatureValue<'m>> =
        selection.features.iter().map(|feature| FeatureValue::parse(feature)).collect();
    if values.iter().any(|value| matches!(value, FeatureValue::Dependency(_))) {
        return Err(PlanError::UnknownFeature("dep:".to_owned()));
    }
    if !per_member {
        return of_current(workspace, packages, selection, &values);
    }
    let mut found = BTreeSet::new();
    let mut members = Vec::new();
    for member in workspace.members().filter(|member| packages.contains(member)) {
        let requested = RequestedFeatures {
            values: matching(workspace, member, &values, &mut found),
            all: selection.all,
            default: !selection.no_default,
        };
        members.push((member, requested));
    }
    if members.is_empty() {
        if !values.is_empty() || selection.all || selection.no_default {
            return Err(PlanError::FeaturesOfNoMember);
        }
        let requested = RequestedFeatures { values: BTreeSet::new(), all: false, default: true };
        return Ok(workspace.members().map(|member| (member, requested.clone())).collect());
    }
    match values.difference(&found).next() {
        Some(value) => Err(PlanError::UnknownFeature(format!("{value:?}"))),
        None => Ok(members),
    }
}

/// The features among `values` that this member has.
fn matching<'m>(
    workspace: &'m Workspace<'m>,
    member: usize,
    values: &BTreeSet<FeatureValue<'m>>,
    found: &mut BTreeSet<FeatureValue<'m>>,
) -> BTreeSet<FeatureValue<'m>> {
    let package = workspace.packages[member].data;
    let names = |name: &str, optional: bool| {
        package
            .dependencies
            .iter()
            .any(|dependency| name_in_manifest(dependency) == name && (dependency.optional || !optional))
    };
    let has = |feature: &str| package.features.contains_key(feature) || names(feature, true);
    let mut matched = BTreeSet::new();
    for value in values {
        let own = match *value {
            FeatureValue::Feature(feature) if has(feature) => *value,
            FeatureValue::DependencyFeature { name, .. } if names(name, false) => *value,
            FeatureValue::DependencyFeature { name, feature, .. } if *package.name == *name && has(feature) => {
                FeatureValue::Feature(feature)
            }
            _ => continue,
        };
        matched.insert(own);
        found.insert(*value);
    }
    matched
}

/// The rule of resolver 1: `--features` is about the package of the current directory, which takes part whether it
/// is selected or not; `member/feature` is about that member.
fn of_current<'m>(
    workspace: &'m Workspace<'m>,
    packages: &[usize],
    selection: &FeatureSelection,
    values: &BTreeSet<FeatureValue<'m>>,
) -> Result<Vec<(usize, RequestedFeatures<'m>)>, PlanError> {
    let mut of_members: HashMap<&str, BTreeSet<FeatureValue<'m>>> = HashMap::new();
    let mut of_current = BTreeSet::new();
    for value in values {
        match *value {
            FeatureValue::DependencyFeature { name, feature, .. }
                if workspace.members().any(|member| {
                    Some(member) != workspace.current && *workspace.packages[member].data.name == *name
                }) && packages.iter().any(|package| *workspace.packages[*package].data.name == *name) =>
            {
                of_members.entry(name).or_default().insert(FeatureValue::Feature(feature));
            }
            _ => {
                of_current.insert(*value);
            }
        }
    }
    let mut members = Vec::new();
    for member in workspace.members() {
        if workspace.current == Some(member) {
            of_current.iter().try_for_each(|value| exists(workspace, member, *value))?;
            let default = !selection.no_default;
            members.push((member, RequestedFeatures { values: of_current.clone(), all: selection.all, default }));
        } else if packages.contains(&member) {
            let values = of_members.remove(workspace.packages[member].data.name.as_str()).unwrap_or_default();
            values.iter().try_for_each(|value| exists(workspace, member, *value))?;
            members.push((member, RequestedFeatures { values, all: selection.all, default: true }));
        }
    }
    Ok(members)
}

/// Cargo refuses features that a member does not have.
fn exists(workspace: &Workspace<'_>, member: usize, value: FeatureValue<'_>) -> Result<(), PlanError> {
    let package = workspace.packages[member].data;
    let known = match value {
        FeatureValue::Feature(feature) => package.features.contains_key(feature),
        FeatureValue::Dependency(name) | FeatureValue::DependencyFeature { name, .. } => {
            package.dependencies.iter().any(|dependency| name_in_manifest(dependency) == name)
        }
    };
    if known { Ok(()) } else { Err(PlanError::UnknownFeature(format!("{value:?}"))) }
}
