//! The environment variables of the process, and those of cargo's `[env]` table, as values that are passed in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// A snapshot of environment variables. The core never reads the process environment itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The value of `name`, if it is set.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.variables.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// The value of `name`, if it is set and valid UTF-8.
    pub fn get_str(&self, name: impl AsRef<OsStr>) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str)
    }

    /// Sets `name`.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) {
        self.variables.remove(name.as_ref());
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().collect() }
    }
}

/// A variable of cargo's `[env]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredVariable {
    /// The value; with `relative`, the path it stands for.
    pub value: String,
    /// Whether it wins over the process environment.
    pub force: bool,
    /// Whether it is a path, relative to the directory of the configuration file.
    pub relative: bool,
}

/// Cargo's `[env]` table: variables for what cargo starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredVariables(BTreeMap<String, ConfiguredVariable>);

impl ConfiguredVariables {
    /// The entry of `name`, if it decides: it is forced, or the process has no such variable (cargo's
    /// `apply_env_config`).
    pub fn deciding(&self, name: &str, environment: &Environment) -> Option<&ConfiguredVariable> {
        self.0.get(name).filter(|variable| variable.force || environment.get(name).is_none())
    }

    /// The value of `name` in what cargo starts, where cargo itself sets none.
    pub fn seen_by_children<'a>(&'a self, name: &str, environment: &'a Environment) -> Option<&'a OsStr> {
        match self.deciding(name, environment) {
            Some(variable) => Some(variable.value.as_ref()),
            None => environment.get(name),
        }
    }

    /// All entries, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ConfiguredVariable)> {
        self.0.iter().map(|(name, variable)| (name.as_str(), variable))
    }
}

impl FromIterator<(String, ConfiguredVariable)> for ConfiguredVariables {
    fn from_iter<I: IntoIterator<Item = (String, ConfiguredVariable)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}
