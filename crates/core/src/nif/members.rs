//! Which members of a workspace are NIFs, and how the NIF version of each is chosen.
//!
//! A NIF is a member with a `cdylib` target and rustler among its dependencies. Its NIF version is chosen by features:
//! its own (`nif_version_2_15`), as RustlerPrecompiled's guide has it, or else rustler's, which has them from 0.30 on.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::name::{NifCrate, NifNameError, NifRelease, NifVersion};

/// The package that makes a library a NIF.
const RUSTLER: &str = "rustler";

/// The first minor version of rustler (0.x) with features for NIF versions.
const WITH_FEATURES: u64 = 30;

/// Why there is no NIF to build.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The answer of `cargo metadata` has another shape.
    #[error("read the answer of cargo metadata")]
    Metadata(#[source] serde_json::Error),
    /// The package that was named is no member.
    #[error("find the NIF {name}: no member of the workspace has this name")]
    NoMember {
        /// The name.
        name: String,
    },
    /// The package that was named makes no library that could be loaded.
    #[error("build {name} as a NIF: it has no library with `crate-type = [\"cdylib\"]`")]
    NoLibrary {
        /// The name.
        name: String,
    },
    /// No member looks like a NIF.
    #[error(
        "find a NIF: no member has a library with `crate-type = [\"cdylib\"]` and depends on rustler; name one with -p"
    )]
    None,
    /// A name or a version can't be used.
    #[error("use the package {package} as a NIF")]
    Name {
        /// The package.
        package: String,
        /// What is wrong.
        #[source]
        source: NifNameError,
    },
}

/// A member that is a NIF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NifMember {
    /// The name of the package.
    pub package: String,
    /// The name of the library.
    pub crate_name: NifCrate,
    /// The version of the package.
    pub release: NifRelease,
    /// Its manifest.
    pub manifest: Utf8PathBuf,
    /// Its features, with what each turns on.
    features: BTreeMap<String, Vec<String>>,
    /// rustler's name in the manifest, if rustler has features for NIF versions.
    rustler: Option<String>,
}

/// The options of cargo that choose a NIF version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NifFeatures {
    /// Whether the default features are left out, since one of them asks for a later NIF version.
    pub without_default: bool,
    /// The features to turn on.
    pub features: Vec<String>,
}

/// What is read of `cargo metadata --no-deps`.
#[derive(Deserialize)]
struct Answer {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: Utf8PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing.
    kind: Option<String>,
    rename: Option<String>,
    req: String,
}

/// Finds the members that are NIFs in the answer of `cargo metadata --no-deps`: those that were `named`, or all.
pub fn find_members(answer: &str, named: &[String]) -> Result<Vec<NifMember>, MemberError> {
    let answer: Answer = serde_json::from_str(answer).map_err(MemberError::Metadata)?;
    let members = &answer.packages;
    if named.is_empty() {
        let nifs = members.iter().filter(|package| package.library().is_some() && package.rustler().is_some());
        let nifs: Vec<NifMember> = nifs.map(Package::member).collect::<Result<_, _>>()?;
        return if nifs.is_empty() { Err(MemberError::None) } else { Ok(nifs) };
    }
    let find = |name: &String| {
        let package = members.iter().find(|package| package.name == *name);
        package.ok_or_else(|| MemberError::NoMember { name: name.clone() })?.member()
    };
    named.iter().collect::<BTreeSet<_>>().into_iter().map(find).collect()
}

impl Package {
    /// The name of the library for the dynamic linker.
    fn library(&self) -> Option<&str> {
        let target = self.targets.iter().find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
        target.map(|target| target.name.as_str())
    }

    fn rustler(&self) -> Option<&Dependency> {
        self.dependencies.iter().find(|dependency| dependency.name == RUSTLER && dependency.kind.is_none())
    }

    fn member(&self) -> Result<NifMember, MemberError> {
        let library = self.library().ok_or_else(|| MemberError::NoLibrary { name: self.name.clone() })?;
        let bad = |source| MemberError::Name { package: self.name.clone(), source };
        let rustler = self.rustler().filter(|dependency| dependency.has_version_features());
        Ok(NifMember {
            crate_name: NifCrate::of(library).map_err(bad)?,
            release: self.version.parse().map_err(bad)?,
            package: self.name.clone(),
            manifest: self.manifest_path.clone(),
            features: self.features.clone(),
            rustler: rustler.map(|rustler| rustler.rename.as_ref().unwrap_or(&rustler.name).clone()),
        })
    }
}

impl Dependency {
    /// Whether a version can be chosen that has features for NIF versions.
    fn has_version_features(&self) -> bool {
        let Ok(required) = self.req.parse::<semver::VersionReq>() else { return true };
        // The last patch of each minor version: a requirement such as ^0.29.1 fits it.
        let fits = |minor: u64| required.matches(&semver::Version::new(0, minor, 999));
        (WITH_FEATURES..1000).any(fits) || !(0..WITH_FEATURES).any(fits)
    }
}

impl NifMember {
    /// How cargo is told to build for `version`.
    pub fn features_for(&self, version: NifVersion) -> NifFeatures {
        let own = version.feature();
        let chosen = if self.features.contains_key(&own) {
            Some(own)
        } else {
            self.rustler.as_ref().map(|rustler| format!("{rustler}/{own}"))
        };
        let default = self.features.get("default").map_or(&[][..], Vec::as_slice);
        let is_later = |feature: &&String| self.versions(feature).into_iter().any(|found| found > version);
        let mut features: Vec<String> = Vec::new();
        let without_default = default.iter().any(|feature| is_later(&feature));
        if without_default {
            features.extend(default.iter().filter(|feature| !is_later(feature)).cloned());
        }
        features.extend(chosen.filter(|chosen| !features.contains(chosen)));
        NifFeatures { without_default, features }
    }

    /// The NIF versions that a feature turns on, by others or by itself.
    fn versions(&self, feature: &str) -> BTreeSet<NifVersion> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut waiting = vec![feature];
        while let Some(feature) = waiting.pop() {
            let last = feature.rsplit('/').next().unwrap_or(feature);
            found.extend(NifVersion::ALL.into_iter().find(|version| version.feature() == last));
            if seen.insert(feature) {
                waiting.extend(self.features.get(feature).into_iter().flatten().map(String::as_str));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(features: &[(&str, &[&str])]) -> NifMember {
        let features =
            features.iter().map(|(name, on)| ((*name).to_owned(), on.iter().map(|on| (*on).to_owned()).collect()));
        NifMember {
            package: "demo-nif".to_owned(),
            crate_name: "demo_nif".parse().unwrap(),
            release: "0.1.0".parse().unwrap(),
            manifest: "/w/Cargo.toml".into(),
            features: features.collect(),
            rustler: Some("rustler".to_owned()),
        }
    }

    fn chosen(member: &NifMember, version: &str) -> (bool, Vec<String>) {
        let features = member.features_for(version.parse().unwrap());
        (features.without_default, features.features)
    }

    #[test]
    fn the_crate_s_own_feature_is_preferred() {
        let plain = member(&[]);
        assert_eq!(chosen(&plain, "2.15"), (false, vec!["rustler/nif_version_2_15".to_owned()]));
        let guided = member(&[
            ("default", &["nif_version_2_15", "fast"]),
            ("fast", &[]),
            ("nif_version_2_15", &["rustler/nif_version_2_15"]),
            ("nif_version_2_16", &["rustler/nif_version_2_16"]),
        ]);
        assert_eq!(chosen(&guided, "2.15"), (false, vec!["nif_version_2_15".to_owned()]));
        assert_eq!(chosen(&guided, "2.16"), (false, vec!["nif_version_2_16".to_owned()]));
    }

    #[test]
    fn a_later_default_is_left_out_and_the_rest_of_it_stays() {
        let member = member(&[
            ("default", &["newest", "fast"]),
            ("newest", &["nif_version_2_17"]),
            ("fast", &[]),
            ("nif_version_2_15", &["rustler/nif_version_2_15"]),
            ("nif_version_2_17", &["rustler/nif_version_2_17", "nif_version_2_15"]),
        ]);
        assert_eq!(chosen(&member, "2.15"), (true, vec!["fast".to_owned(), "nif_version_2_15".to_owned()]));
        assert_eq!(chosen(&member, "2.17"), (false, vec!["nif_version_2_17".to_owned()]));
    }

    fn package(name: &str, crate_type: &str, dependency: &str) -> String {
        format!(
            r#"{{"name":"{name}","version":"0.1.0","id":"x","manifest_path":"/w/{name}/Cargo.toml","rust_version":"1",
            "targets":[{{"name":"{name}","crate_types":["{crate_type}"],"kind":["{crate_type}"]}}],"features":{{}},
            "dependencies":[{dependency}]}}"#
        )
    }

    fn rustler(kind: &str, requirement: &str) -> String {
        format!(r#"{{"name":"rustler","kind":{kind},"rename":null,"req":"{requirement}"}}"#)
    }

    #[test]
    fn nifs_are_the_members_with_a_library_to_load_and_rustler() {
        let packages = [
            package("my-nif", "cdylib", &rustler("null", "^0.39")),
            package("old_nif", "cdylib", &rustler("null", "^0.29.1")),
            package("plain", "lib", &rustler("null", "^0.39")),
            package("tested", "cdylib", &rustler("\"dev\"", "^0.39")),
            package("ffi", "cdylib", ""),
        ];
        let answer = format!(r#"{{"packages":[{}]}}"#, packages.join(","));
        let found = find_members(&answer, &[]).unwrap();
        let names: Vec<_> = found.iter().map(|member| (member.package.as_str(), member.crate_name.as_str())).collect();
        assert_eq!(names, [("my-nif", "my_nif"), ("old_nif", "old_nif")]);
        assert_eq!(chosen(&found[0], "2.15"), (false, vec!["rustler/nif_version_2_15".to_owned()]));
        assert_eq!(chosen(&found[1], "2.15"), (false, vec![]), "rustler 0.29 has no such features");
        let named = |name: &str| find_members(&answer, &[name.to_owned()]);
        assert_eq!(named("ffi").unwrap()[0].crate_name.as_str(), "ffi");
        assert!(matches!(named("plain"), Err(MemberError::NoLibrary { .. })));
        assert!(matches!(named("other"), Err(MemberError::NoMember { .. })));
        assert!(matches!(find_members(r#"{"packages":[]}"#, &[]), Err(MemberError::None)));
    }

    #[test]
    fn requirements_tell_whether_rustler_has_features_for_versions() {
        let has = |req: &str| {
            let (name, req) = ("rustler".to_owned(), req.to_owned());
            Dependency { name, kind: None, rename: None, req }.has_version_features()
        };
        for requirement in ["^0.39.0", "=0.30.0", "*", ">=0.25", "^1", "0.36.1"] {
            assert!(has(requirement), "{requirement}");
        }
        for requirement in ["^0.29", "~0.22.1", "<0.30"] {
            assert!(!has(requirement), "{requirement}");
        }
    }

    #[test]
    fn without_rustler_nothing_is_chosen() {
        let mut member = member(&[]);
        member.rustler = None;
        assert_eq!(chosen(&member, "2.15"), (false, vec![]));
    }
}
