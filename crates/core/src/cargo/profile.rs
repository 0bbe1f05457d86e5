//! A `[profile.NAME]` table as a manifest or the configuration writes it, and how one is laid over another.
//!
//! `plan` makes the profiles of units of these; `config` reads the ones of the configuration.

use std::collections::BTreeMap;

use super::package_spec::PackageSpec;

/// Why a profile cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A key of a kind that we do not know.
    #[error("profile {profile}: unexpected {key}")]
    Unexpected {
        /// The profile.
        profile: String,
        /// The key.
        key: String,
    },
}

/// The directory of a profile below the target directory: `test` shares that of `dev`, and `bench` that of `release`.
pub fn profile_directory(name: &str) -> &str {
    match name {
        "dev" | "test" => "debug",
        "bench" => "release",
        name => name,
    }
}

/// How much debug information there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DebugInformation {
    /// `0`
    #[default]
    None,
    /// `line-directives-only`
    LineDirectivesOnly,
    /// `line-tables-only`
    LineTablesOnly,
    /// `1`
    Limited,
    /// `2`
    Full,
}

impl DebugInformation {
    /// What rustc's `-C debuginfo` is given.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::LineDirectivesOnly => "line-directives-only",
            Self::LineTablesOnly => "line-tables-only",
            Self::Limited => "1",
            Self::Full => "2",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "0" | "none" | "false" => Self::None,
            "1" | "limited" => Self::Limited,
            "2" | "full" | "true" => Self::Full,
            "line-directives-only" => Self::LineDirectivesOnly,
            "line-tables-only" => Self::LineTablesOnly,
            _ => return None,
        })
    }
}

/// The profile's `lto`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkTimeOptimization {
    /// `"off"`
    Off,
    /// `true` or `false`
    Bool(bool),
    /// `"thin"`, `"fat"`
    Named(String),
}

/// A profile table. Absent keys leave what lies below as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileTable {
    /// `inherits`
    pub inherits: Option<String>,
    /// `opt-level`
    pub opt_level: Option<String>,
    /// `lto`
    pub lto: Option<LinkTimeOptimization>,
    /// `codegen-backend` (unstable)
    pub codegen_backend: Option<String>,
    /// `codegen-units`
    pub codegen_units: Option<u32>,
    /// `debug`
    pub debug: Option<DebugInformation>,
    /// `split-debuginfo`
    pub split_debuginfo: Option<String>,
    /// `debug-assertions`
    pub debug_assertions: Option<bool>,
    /// `rpath`
    pub rpath: Option<bool>,
    /// `panic`
    pub panic: Option<String>,
    /// `overflow-checks`
    pub overflow_checks: Option<bool>,
    /// `incremental`
    pub incremental: Option<bool>,
    /// `strip`: `none`, `debuginfo`, `symbols`
    pub strip: Option<String>,
    /// `rustflags` (unstable)
    pub rustflags: Option<Vec<String>>,
    /// `package."*"`
    pub every_package: Option<Box<ProfileTable>>,
    /// `package.SPEC`
    pub packages: BTreeMap<PackageSpec, ProfileTable>,
    /// `build-override`
    pub build_override: Option<Box<ProfileTable>>,
    /// Keys whose effect we do not plan: `trim-paths`, `hint-mostly-unused`, `dir-name`, unknown ones.
    pub unplanned: Vec<String>,
}

impl ProfileTable {
    /// Reads a table. `name` is for messages.
    ///
    /// # Errors
    ///
    /// When a known key has a value that cargo would refuse.
    pub fn parse(name: &str, table: &toml::Table) -> Result<Self, ProfileError> {
        let mut profile = Self::default();
        for (key, value) in table {
            let wrong = || ProfileError::Unexpected { profile: name.to_owned(), key: format!("{key} = {value}") };
            let text = || value.as_str().map(str::to_owned).ok_or_else(wrong);
            let truth = || match value.as_str() {
                Some("true") => Ok(true),
                Some("false") => Ok(false),
                _ => value.as_bool().ok_or_else(wrong),
            };
            match key.as_str() {
                "inherits" => profile.inherits = Some(text()?),
                "opt-level" => {
                    profile.opt_level = Some(match value {
                        toml::Value::Integer(level) => level.to_string(),
                        _ => text()?,
                    });
                }
                "lto" => {
                    profile.lto = Some(match value {
                        toml::Value::Boolean(on) => LinkTimeOptimization::Bool(*on),
                        _ => match text()?.as_str() {
                            "off" | "n" | "no" | "none" => LinkTimeOptimization::Off,
                            "true" => LinkTimeOptimization::Bool(true),
                            "false" => LinkTimeOptimization::Bool(false),
                            other => LinkTimeOptimization::Named(other.to_owned()),
                        },
                    });
                }
                "codegen-backend" => profile.codegen_backend = Some(text()?),
                "codegen-units" => {
                    let units = match value.as_str() {
                        Some(text) => text.parse().ok(),
                        None => value.as_integer().and_then(|units| u32::try_from(units).ok()),
                    };
                    profile.codegen_units = Some(units.ok_or_else(wrong)?);
                }
                "debug" => {
                    let level = match value {
                        toml::Value::Boolean(on) => DebugInformation::parse(if *on { "2" } else { "0" }),
                        toml::Value::Integer(level) => DebugInformation::parse(&level.to_string()),
                        _ => DebugInformation::parse(&text()?),
                    };
                    profile.debug = Some(level.ok_or_else(wrong)?);
                }
                "split-debuginfo" => profile.split_debuginfo = Some(text()?),
                "debug-assertions" => profile.debug_assertions = Some(truth()?),
                "rpath" => profile.rpath = Some(truth()?),
                "panic" => {
                    let panic = text()?;
                    if !matches!(panic.as_str(), "unwind" | "abort") {
                        profile.unplanned.push(format!("panic = {panic:?}"));
                    }
                    profile.panic = Some(panic);
                }
                "overflow-checks" => profile.overflow_checks = Some(truth()?),
                "incremental" => profile.incremental = Some(truth()?),
                "strip" => {
                    profile.strip = Some(match value {
                        toml::Value::Boolean(true) => "symbols".to_owned(),
                        toml::Value::Boolean(false) => "none".to_owned(),
                        _ => match text()?.as_str() {
                            "true" => "symbols".to_owned(),
                            "false" => "none".to_owned(),
                            other => other.to_owned(),
                        },
                    });
                }
                "rustflags" => {
                    let flags = value.as_array().ok_or_else(wrong)?.iter();
                    let flags = flags.map(|flag| flag.as_str().map(str::to_owned).ok_or_else(wrong));
                    profile.rustflags = Some(flags.collect::<Result<_, _>>()?);
                }
                "package" => {
                    for (spec, table) in value.as_table().ok_or_else(wrong)? {
                        let table = Self::parse(name, table.as_table().ok_or_else(wrong)?)?;
                        if spec == "*" {
                            profile.every_package = Some(Box::new(table));
                        } else {
                            profile.packages.insert(PackageSpec::parse(spec), table);
                        }
                    }
                }
                "build-override" => {
                    let table = Self::parse(name, value.as_table().ok_or_else(wrong)?)?;
                    profile.build_override = Some(Box::new(table));
                }
                // Deprecated, without effect.
                "overrides" => {}
                other => profile.unplanned.push(other.to_owned()),
            }
        }
        Ok(profile)
    }

    /// Lays `above` over this table.
    pub fn merge(&mut self, above: &Self) {
        fn lay<T: Clone>(below: &mut Option<T>, above: &Option<T>) {
            if above.is_some() {
                below.clone_from(above);
            }
        }
        fn lay_table(below: &mut Option<Box<ProfileTable>>, above: &Option<Box<ProfileTable>>) {
            match (below, above) {
                (Some(below), Some(above)) => below.merge(above),
                (below, Some(above)) => *below = Some(above.clone()),
                (_, None) => {}
            }
        }
        lay(&mut self.inherits, &above.inherits);
        lay(&mut self.opt_level, &above.opt_level);
        lay(&mut self.lto, &above.lto);
        lay(&mut self.codegen_backend, &above.codegen_backend);
        lay(&mut self.codegen_units, &above.codegen_units);
        lay(&mut self.debug, &above.debug);
        lay(&mut self.split_debuginfo, &above.split_debuginfo);
        lay(&mut self.debug_assertions, &above.debug_assertions);
        lay(&mut self.rpath, &above.rpath);
        lay(&mut self.panic, &above.panic);
        lay(&mut self.overflow_checks, &above.overflow_checks);
        lay(&mut self.incremental, &above.incremental);
        lay(&mut self.strip, &above.strip);
        lay(&mut self.rustflags, &above.rustflags);
        lay_table(&mut self.every_package, &above.every_package);
        lay_table(&mut self.build_override, &above.build_override);
        for (spec, above) in &above.packages {
            self.packages.entry(spec.clone()).and_modify(|below| below.merge(above)).or_insert_with(|| above.clone());
        }
        self.unplanned.extend(above.unplanned.iter().cloned());
    }

    /// Every key, here and in the overrides, whose effect is not planned.
    pub fn all_unplanned(&self) -> Vec<&str> {
        let nested = self.packages.values().chain(self.every_package.as_deref()).chain(self.build_override.as_deref());
        self.unplanned.iter().map(String::as_str).chain(nested.flat_map(Self::all_unplanned)).collect()
    }
}
