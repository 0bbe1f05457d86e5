//! The form of a fingerprint that is kept: it holds nothing of the machine it was made on.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::record::{CargoFingerprint, DependencyFingerprint, LocalFingerprint, path_hash};
use crate::artifact::Roots;

/// A fingerprint without the producer's paths, variables' values and dependencies' hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelocatableFingerprint {
    rustc: u64,
    features: String,
    declared_features: String,
    target: u64,
    profile: u64,
    /// The root source file, hidden. `None` for a run, whose field is 0.
    source_path: Option<Utf8PathBuf>,
    dependencies: Vec<DependencySlot>,
    local: Vec<RelocatableLocal>,
    rustflags: Vec<String>,
    config: u64,
    compile_kind: u64,
}

/// An edge: which of the unit's dependencies stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DependencySlot {
    /// Cargo's hash of the package id.
    pub package: u64,
    /// The name of the extern crate.
    pub name: String,
    /// Whether it is a public dependency.
    pub public: bool,
    /// The place in the unit's list of dependencies.
    pub slot: u32,
}

/// [`LocalFingerprint`] without paths and values of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum RelocatableLocal {
    /// A text that is the same everywhere.
    Text(String),
    /// The newest file of the package, to be looked for anew.
    NewestFile,
    /// `dep-<stem>`, relative to the build directory.
    DepInfo {
        /// The file.
        path: Utf8PathBuf,
        /// Whether it holds checksums.
        checksum: bool,
    },
    /// `rerun-if-changed`.
    Paths {
        /// The file of the script's stdout, relative to the build directory.
        output: Utf8PathBuf,
        /// The paths: relative to the package, or hidden.
        paths: Vec<Utf8PathBuf>,
    },
    /// `rerun-if-env-changed`: the name alone. The value can be a secret.
    Variable(String),
}

/// The newest file of a package: `<seconds>.<nine digits>s (<path in the package>)`.
pub type Stamp = String;

/// What a machine puts into the gaps.
#[derive(Clone, Copy)]
pub struct Relocation<'a> {
    /// Where its directories are.
    pub roots: &'a Roots,
    /// The fingerprint hashes of the unit's dependencies, in the order of the list that was given to
    /// [`RelocatableFingerprint::from_cargo`].
    pub dependency_hashes: &'a [u64],
    /// The value that cargo sees for a variable: `[env]` of the configuration before the environment, and
    /// `None` for what is not UTF-8.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The newest file of the unit's package.
    pub newest_file: &'a dyn Fn() -> Option<Stamp>,
}

/// Why a fingerprint can't be carried to another machine, or not to this one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReproducible {
    /// The field `path` is not the hash of the source path.
    #[error("reproduce the hash of the source path {path}")]
    SourcePath {
        /// The path that was tried.
        path: Utf8PathBuf,
    },
    /// A dependency's fingerprint is not among those of the unit's dependencies.
    #[error("find the dependency {name:?} by its fingerprint")]
    Dependency {
        /// The name of the extern crate.
        name: String,
    },
    /// A directory that this build does not have.
    #[error("find the place of {path}")]
    Root {
        /// The hidden path.
        path: Utf8PathBuf,
    },
    /// The newest file of the package could not be found.
    #[error("find the newest file of the package")]
    NewestFile,
    /// Hidden and revealed again, something differs.
    #[error("reproduce the fingerprint from its relocatable form")]
    Content,
}

impl RelocatableFingerprint {
    /// Takes the producer's machine out of a fingerprint.
    ///
    /// `source_path` is what [`super::hashed_source_path`] says, `None` for a run; `dependency_hashes` are the
    /// fingerprint hashes of the unit's dependencies, in any order that the caller can repeat. That the result
    /// gives back exactly this fingerprint on the producer's machine is checked here.
    pub fn from_cargo(
        record: &CargoFingerprint,
        source_path: Option<&Utf8Path>,
        roots: &Roots,
        dependency_hashes: &[u64],
    ) -> Result<Self, NotReproducible> {
        if source_path.map_or(0, path_hash) != record.path {
            return Err(NotReproducible::SourcePath { path: source_path.unwrap_or("".into()).to_owned() });
        }
        let dependencies = record.deps.iter().map(|dependency| {
            let DependencyFingerprint(package, name, public, hash) = dependency;
            let slot = dependency_hashes
                .iter()
                .position(|candidate| candidate == hash)
                .and_then(|slot| u32::try_from(slot).ok())
                .ok_or_else(|| NotReproducible::Dependency { name: name.clone() })?;
            Ok(DependencySlot { package: *package, name: name.clone(), public: *public, slot })
        });
        let relocatable = Self {
            rustc: record.rustc,
            features: record.features.clone(),
            declared_features: record.declared_features.clone(),
            target: record.target,
            profile: record.profile,
            source_path: source_path.map(|path| roots.hide(path)),
            dependencies: dependencies.collect::<Result<_, _>>()?,
            local: record.local.iter().map(|local| RelocatableLocal::hide(local, roots)).collect(),
            rustflags: record.rustflags.clone(),
            config: record.config,
            compile_kind: record.compile_kind,
        };
        let relocation = Relocation {
            roots,
            dependency_hashes,
            environment: &|name| record.variable(name),
            newest_file: &|| record.precalculated(),
        };
        // Paths are equal when their components are; the bytes of the JSON say more.
        let reproduced = relocatable.relocate(relocation)?;
        if reproduced.hash() == record.hash() && reproduced.to_json() == record.to_json() {
            Ok(relocatable)
        } else {
            Err(NotReproducible::Content)
        }
    }

    /// This machine's fingerprint.
    pub fn relocate(&self, relocation: Relocation<'_>) -> Result<CargoFingerprint, NotReproducible> {
        let path = match &self.source_path {
            None => 0,
            Some(path) => path_hash(&reveal(relocation.roots, path)?),
        };
        let deps = self.dependencies.iter().map(|dependency| {
            let DependencySlot { package, name, public, slot } = dependency;
            let hash = relocation
                .dependency_hashes
                .get(*slot as usize)
                .ok_or_else(|| NotReproducible::Dependency { name: name.clone() })?;
            Ok(DependencyFingerprint(*package, name.clone(), *public, *hash))
        });
        Ok(CargoFingerprint {
            rustc: self.rustc,
            features: self.features.clone(),
            declared_features: self.declared_features.clone(),
            target: self.target,
            profile: self.profile,
            path,
            deps: deps.collect::<Result<_, _>>()?,
            local: self.local.iter().map(|local| local.reveal(relocation)).collect::<Result<_, _>>()?,
            rustflags: self.rustflags.clone(),
            config: self.config,
            compile_kind: self.compile_kind,
        })
    }

    /// The dependencies that the fingerprint names. Binaries that a unit merely waits for are not among them.
    pub fn dependencies(&self) -> &[DependencySlot] {
        &self.dependencies
    }

    /// What else the unit depends upon.
    pub fn local(&self) -> &[RelocatableLocal] {
        &self.local
    }

    /// The hidden path of the root source file.
    pub fn source_path(&self) -> Option<&Utf8Path> {
        self.source_path.as_deref()
    }

    /// The names of the variables whose values are in the fingerprint.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.local.iter().filter_map(|local| match local {
            RelocatableLocal::Variable(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl RelocatableLocal {
    fn hide(local: &LocalFingerprint, roots: &Roots) -> Self {
        match local {
            LocalFingerprint::Precalculated(text) if is_stamp(text) => Self::NewestFile,
            LocalFingerprint::Precalculated(text) => Self::Text(text.clone()),
            LocalFingerprint::CheckDepInfo { dep_info, checksum } => {
                Self::DepInfo { path: dep_info.clone(), checksum: *checksum }
            }
            LocalFingerprint::RerunIfChanged { output, paths } => {
                Self::Paths { output: output.clone(), paths: paths.iter().map(|path| roots.hide(path)).collect() }
            }
            LocalFingerprint::RerunIfEnvChanged { var, val: _ } => Self::Variable(var.clone()),
        }
    }

    fn reveal(&self, relocation: Relocation<'_>) -> Result<LocalFingerprint, NotReproducible> {
        Ok(match self {
            Self::Text(text) => LocalFingerprint::Precalculated(text.clone()),
            Self::NewestFile => {
                LocalFingerprint::Precalculated((relocation.newest_file)().ok_or(NotReproducible::NewestFile)?)
            }
            Self::DepInfo { path, checksum } => {
                LocalFingerprint::CheckDepInfo { dep_info: path.clone(), checksum: *checksum }
            }
            Self::Paths { output, paths } => LocalFingerprint::RerunIfChanged {
                output: output.clone(),
                paths: paths.iter().map(|path| reveal(relocation.roots, path)).collect::<Result<_, _>>()?,
            },
            Self::Variable(name) => {
                LocalFingerprint::RerunIfEnvChanged { var: name.clone(), val: (relocation.environment)(name) }
            }
        })
    }
}

impl CargoFingerprint {
    fn variable(&self, name: &str) -> Option<String> {
        self.local.iter().find_map(|local| match local {
            LocalFingerprint::RerunIfEnvChanged { var, val } if var == name => val.clone(),
            _ => None,
        })
    }

    fn precalculated(&self) -> Option<String> {
        self.local.iter().find_map(|local| match local {
            LocalFingerprint::Precalculated(text) => Some(text.clone()),
            _ => None,
        })
    }
}

fn reveal(roots: &Roots, path: &Utf8Path) -> Result<Utf8PathBuf, NotReproducible> {
    roots.reveal(path).ok_or_else(|| NotReproducible::Root { path: path.to_owned() })
}

/// Whether a text is `<seconds>.<nine digits>s (<path>)`. A version or a revision never is.
fn is_stamp(text: &str) -> bool {
    let Some((time, path)) = text.split_once("s (") else { return false };
    let Some((seconds, nanoseconds)) = time.split_once('.') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(seconds.strip_prefix('-').unwrap_or(seconds))
        && digits(nanoseconds)
        && nanoseconds.len() == 9
        && path.ends_with(')')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::RootKind;

    fn roots(workspace: &str, home: &str) -> Roots {
        Roots::new([
            (RootKind::Workspace, workspace.into()),
            (RootKind::BuildDirectory, format!("{workspace}/target").into()),
            (RootKind::CargoHome, home.into()),
        ])
    }

    fn record(path: Option<&str>, local: Vec<LocalFingerprint>, deps: &[(&str, u64)]) -> CargoFingerprint {
        CargoFingerprint {
            rustc: 1,
            features: "[]".into(),
            declared_features: "[]".into(),
            target: 2,
            profile: 3,
            path: path.map_or(0, |path| path_hash(path.into())),
            deps: deps.iter().map(|(name, hash)| DependencyFingerprint(7, (*name).into(), false, *hash)).collect(),
            local,
            rustflags: vec![],
            config: 4,
            compile_kind: 0,
        }
    }

    #[test]
    fn a_registry_library_moves_with_cargos_home() {
        let source = "/home/a/.cargo/registry/src/x/serde-1.0.0/src/lib.rs";
        let dep_info = LocalFingerprint::CheckDepInfo { dep_info: "debug/x".into(), checksum: false };
        let here = record(Some(source), vec![dep_info], &[("b", 22), ("c", 33)]);
        let stored = RelocatableFingerprint::from_cargo(
            &here,
            Some(source.into()),
            &roots("/home/a/w", "/home/a/.cargo"),
            &[11, 33, 22],
        )
        .unwrap();
        assert!(!serde_json::to_string(&stored).unwrap().contains("/home/a"));
        let stored = serde_json::from_str::<RelocatableFingerprint>(&serde_json::to_string(&stored).unwrap()).unwrap();
        let there = roots("/srv/w", "/srv/cargo");
        let relocation = Relocation {
            roots: &there,
            dependency_hashes: &[111, 333, 222],
            environment: &|_| None,
            newest_file: &|| None,
        };
        let moved = stored.relocate(relocation).unwrap();
        assert_eq!(moved.path, path_hash("/srv/cargo/registry/src/x/serde-1.0.0/src/lib.rs".into()));
        assert_eq!(moved.deps.iter().map(|dep| dep.3).collect::<Vec<_>>(), [222, 333]);
        let short = Relocation { dependency_hashes: &[1], ..relocation };
        assert_eq!(stored.relocate(short), Err(NotReproducible::Dependency { name: "b".into() }));
    }

    #[test]
    fn a_run_keeps_names_and_not_values() {
        let local = vec![
            LocalFingerprint::RerunIfChanged {
                output: "debug/build/a-0/output".into(),
                paths: vec!["build.rs".into(), "/home/a/w/shared/x".into(), "/etc/hosts".into()],
            },
            LocalFingerprint::RerunIfEnvChanged { var: "TOKEN".into(), val: Some("secret".into()) },
        ];
        let here = record(None, local, &[("build_script_build", 5)]);
        let stored =
            RelocatableFingerprint::from_cargo(&here, None, &roots("/home/a/w", "/home/a/.cargo"), &[5]).unwrap();
        let text = serde_json::to_string(&stored).unwrap();
        assert!(!text.contains("secret") && !text.contains("/home/a"), "{text}");
        assert_eq!(stored.variables().collect::<Vec<_>>(), ["TOKEN"]);
        let there = roots("/srv/w", "/srv/cargo");
        let moved = stored
            .relocate(Relocation {
                roots: &there,
                dependency_hashes: &[6],
                environment: &|name| Some(format!("here {name}")),
                newest_file: &|| None,
            })
            .unwrap();
        assert_eq!(
            moved.local,
            [
                LocalFingerprint::RerunIfChanged {
                    output: "debug/build/a-0/output".into(),
                    paths: vec!["build.rs".into(), "/srv/w/shared/x".into(), "/etc/hosts".into()],
                },
                LocalFingerprint::RerunIfEnvChanged { var: "TOKEN".into(), val: Some("here TOKEN".into()) },
            ]
        );
    }

    #[test]
    fn what_cannot_be_reproduced_is_refused() {
        let roots = roots("/w", "/c");
        let wrong = record(Some("/w/src/lib.rs"), vec![], &[]);
        assert!(matches!(
            RelocatableFingerprint::from_cargo(&wrong, Some("src/lib.rs".into()), &roots, &[]),
            Err(NotReproducible::SourcePath { .. })
        ));
        let lost = record(None, vec![], &[("a", 1)]);
        assert!(matches!(
            RelocatableFingerprint::from_cargo(&lost, None, &roots, &[2]),
            Err(NotReproducible::Dependency { .. })
        ));
        let odd = LocalFingerprint::RerunIfChanged { output: "o".into(), paths: vec!["/w//a".into()] };
        assert_eq!(
            RelocatableFingerprint::from_cargo(&record(None, vec![odd], &[]), None, &roots, &[]),
            Err(NotReproducible::Content)
        );
    }

    #[test]
    fn stamps_are_told_from_versions() {
        assert!(is_stamp("1795183664.197448238s (benches/speed.rs)"));
        for text in ["1.0.0", "1.0.228s", "a.bs (c)", "1795183664.197s (x)", "overridden build state with hash: 1"] {
            assert!(!is_stamp(text), "{text}");
        }
        let stamp = LocalFingerprint::Precalculated("1795183664.197448238s (build.rs)".into());
        let stored =
            RelocatableFingerprint::from_cargo(&record(None, vec![stamp], &[]), None, &roots("/w", "/c"), &[]).unwrap();
        assert_eq!(stored.local(), [RelocatableLocal::NewestFile]);
    }
}
