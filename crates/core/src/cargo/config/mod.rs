//! Cargo's configuration, as far as it decides what is built and how: files, `CARGO_*` variables and `--config`,
//! with cargo's precedence.

mod flags;
mod profile;
#[cfg(test)]
mod tests;
mod tree;

use camino::{Utf8Path, Utf8PathBuf};

use self::tree::{Node, Origin};
use super::arguments::{CargoCommand, ConfigArgument};
use crate::environment::{ConfiguredVariable, ConfiguredVariables, Environment};
use crate::unit::PassedThrough;

pub use self::flags::{Flags, RequestedTarget};

/// Why the configuration cannot be read. Cargo will say the same.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what cargo would accept.
    #[error("read {path}: {message}")]
    Parse {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A `--config` argument that is neither a file nor `KEY=VALUE`.
    #[error("read --config {text}")]
    Argument {
        /// The argument.
        text: String,
    },
    /// A key that is a list in one place and something else in another.
    #[error("{key} has different types in different places of the configuration")]
    Mixed {
        /// The key.
        key: String,
    },
    /// A path that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotText(String),
}

/// Cargo's configuration.
#[derive(Clone, Debug)]
pub struct BuildConfiguration {
    /// `build.rustc`, or `RUSTC`.
    pub rustc: Option<Utf8PathBuf>,
    /// `build.rustdoc`, or `RUSTDOC`.
    pub rustdoc: Option<Utf8PathBuf>,
    /// `build.rustc-wrapper`, or `RUSTC_WRAPPER`; empty counts as none.
    pub rustc_wrapper: Option<Utf8PathBuf>,
    /// `build.rustc-workspace-wrapper`, or `RUSTC_WORKSPACE_WRAPPER`; empty counts as none.
    pub rustc_workspace_wrapper: Option<Utf8PathBuf>,
    /// `CARGO_INCREMENTAL`, or `build.incremental`.
    pub incremental: Option<bool>,
    /// `[env]`
    pub variables: ConfiguredVariables,
    /// `net.offline`
    pub offline: bool,
    /// What of the configuration is not planned. If there is anything, nothing is.
    pub unplanned: Vec<PassedThrough>,
    tree: Node,
    environment: Environment,
    current_dir: Utf8PathBuf,
    invocation_dir: Utf8PathBuf,
}

impl BuildConfiguration {
    /// Reads the configuration that cargo would read in `current_dir`.
    ///
    /// # Errors
    ///
    /// When a file or a `--config` argument cannot be read.
    pub fn load(
        current_dir: &Utf8Path,
        environment: &Environment,
        command: &CargoCommand,
    ) -> Result<Self, ConfigError> {
        let invocation_dir = current_dir.to_owned();
        let current_dir = match &command.directory {
            Some(directory) => current_dir.join(directory),
            None => current_dir.to_owned(),
        };
        let home = cargo_home(environment, &current_dir);
        let tree = tree::load(&current_dir, home.as_deref(), &command.config)?;
        let mut config = Self {
            rustc: None,
            rustdoc: None,
            rustc_wrapper: None,
            rustc_workspace_wrapper: None,
            incremental: None,
            variables: ConfiguredVariables::default(),
            offline: command.offline,
            unplanned: Vec::new(),
            tree,
            environment: environment.clone(),
            current_dir,
            invocation_dir,
        };
        config.rustc = config.tool("RUSTC", "rustc");
        config.rustdoc = config.tool("RUSTDOC", "rustdoc");
        config.rustc_wrapper = config.tool("RUSTC_WRAPPER", "rustc-wrapper");
        config.rustc_workspace_wrapper = config.tool("RUSTC_WORKSPACE_WRAPPER", "rustc-workspace-wrapper");
        config.incremental = match config.environment.get_str("CARGO_INCREMENTAL") {
            Some(value) => Some(value == "1"),
            None => config.truth(&["build", "incremental"]),
        };
        config.offline |= config.truth(&["net", "offline"]).unwrap_or(false);
        config.variables = config.configured_variables();
        config.find_unplanned();
        Ok(config)
    }

    /// What `[alias]` says that a command stands for.
    pub fn alias(&self, name: &str) -> Option<Vec<String>> {
        let words = self.list(&["alias", name])?;
        (!words.is_empty()).then_some(words)
    }

    /// Whether a configuration file says where cargo's files go.
    pub fn has_build_directories(&self) -> bool {
        ["target-dir", "build-dir"].iter().any(|key| self.tree.get(&["build", key]).is_some())
    }

    /// A switch of the `[unstable]` table.
    pub fn unstable(&self, name: &str) -> Option<bool> {
        self.truth(&["unstable", name])
    }

    /// The directory that cargo is started in, before `-C`.
    pub fn invocation_dir(&self) -> &Utf8Path {
        &self.invocation_dir
    }

    /// The directory that cargo works in.
    pub fn current_dir(&self) -> &Utf8Path {
        &self.current_dir
    }

    /// The environment with which it was read.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    fn find_unplanned(&mut self) {
        let mut found = Vec::new();
        for (key, _) in self.tree.get(&["unstable"]).into_iter().flat_map(Node::entries) {
            if !super::arguments::is_harmless_unstable(key) {
                found.push((format!("unstable.{key}"), "an unstable option that can change what is built"));
            }
        }
        for (name, _) in self.environment.iter() {
            if let Some(key) = name.to_str().and_then(|name| name.strip_prefix("CARGO_UNSTABLE_")) {
                let key = key.to_lowercase().replace('_', "-");
                if !super::arguments::is_harmless_unstable(&key) {
                    found.push((format!("unstable.{key}"), "an unstable option that can change what is built"));
                }
            }
        }
        if self.text(&["resolver", "feature-unification"]).is_some_and(|(value, _)| value != "selected") {
            found.push(("resolver.feature-unification".to_owned(), "an unstable option that changes features"));
        }
        self.unplanned = found.into_iter().map(|(what, why)| PassedThrough { what, why: why.to_owned() }).collect();
    }

    fn configured_variables(&self) -> ConfiguredVariables {
        let entries = self.tree.get(&["env"]).into_iter().flat_map(Node::entries);
        let variable = |node: &Node| {
            let truth = |key| matches!(node.get(&[key]), Some(Node::Leaf(toml::Value::Boolean(true), _)));
            let value = match node {
                Node::Leaf(_, _) => Some(node),
                _ => node.get(&["value"]),
            };
            let Some(Node::Leaf(toml::Value::String(value), origin)) = value else { return None };
            let value = match truth("relative") {
                true => origin.root(&self.current_dir).join(value).into_string(),
                false => value.clone(),
            };
            Some(ConfiguredVariable { value, force: truth("force"), relative: truth("relative") })
        };
        entries.filter_map(|(name, node)| Some((name.to_owned(), variable(node)?))).collect()
    }

    /// A tool: its variable, or the key below `build`.
    fn tool(&self, variable: &str, key: &str) -> Option<Utf8PathBuf> {
        let (value, root) = match self.environment.get_str(variable) {
            Some(value) => (value.to_owned(), self.current_dir.clone()),
            None => {
                let (value, origin) = self.text(&["build", key])?;
                let root = origin.map_or(self.current_dir.clone(), |o| o.root(&self.current_dir).to_owned());
                (value, root)
            }
        };
        program(&value, &root).filter(|_| !value.is_empty()).map(Utf8PathBuf::from)
    }

    /// The variable that stands for a key. Names of packages stay as they are.
    fn variable(&self, keys: &[&str]) -> Option<&str> {
        let mut name = "CARGO".to_owned();
        for (index, key) in keys.iter().enumerate() {
            name.push('_');
            if keys[0] == "profile" && index > 0 && keys[index - 1] == "package" {
                name.push_str(key);
            } else {
                name.push_str(&key.to_uppercase().replace('-', "_"));
            }
        }
        self.environment.get_str(name)
    }

    /// A text: of `--config`, else of the environment (then without origin), else of a file.
    fn text(&self, keys: &[&str]) -> Option<(String, Option<&Origin>)> {
        let written = match self.tree.get(keys) {
            Some(Node::Leaf(value, origin)) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                Some((text, origin))
            }
            _ => None,
        };
        match (self.variable(keys), written) {
            (Some(_), Some((text, origin))) if origin.is_command_line() => Some((text, Some(origin))),
            (Some(value), _) => Some((value.to_owned(), None)),
            (None, written) => written.map(|(text, origin)| (text, Some(origin))),
        }
    }

    fn truth(&self, keys: &[&str]) -> Option<bool> {
        self.text(keys).and_then(|(text, _)| text.parse().ok())
    }

    /// A list, or a text that is split at white space; files first, then the environment, then `--config`.
    fn list(&self, keys: &[&str]) -> Option<Vec<String>> {
        let node = self.tree.get(keys);
        let variable = self.variable(keys);
        if node.is_none() && variable.is_none() {
            return None;
        }
        let mut words: Vec<(bool, String)> = Vec::new();
        match node {
            Some(Node::List(values)) => words.extend(
                values
                    .iter()
                    .filter_map(|(value, origin)| Some((origin.is_command_line(), value.as_str()?.to_owned()))),
            ),
            Some(Node::Leaf(toml::Value::String(text), origin)) => {
                words.extend(text.split_whitespace().map(|word| (origin.is_command_line(), word.to_owned())));
            }
            _ => {}
        }
        let (late, early): (Vec<_>, Vec<_>) = words.into_iter().partition(|(is_late, _)| *is_late);
        let of_variable = variable.into_iter().flat_map(str::split_whitespace).map(str::to_owned);
        let words = early.into_iter().map(|(_, word)| word).chain(of_variable);
        Some(words.chain(late.into_iter().map(|(_, word)| word)).collect())
    }
}

/// A program: relative to `root` if it is a path, else as it is, for `PATH`.
fn program(value: &str, root: &Utf8Path) -> Option<String> {
    let is_path = value.contains('/') || (cfg!(windows) && value.contains('\\'));
    Some(if is_path { root.join(value).into_string() } else { value.to_owned() })
}

fn cargo_home(environment: &Environment, current_dir: &Utf8Path) -> Option<Utf8PathBuf> {
    if let Some(home) = environment.get_str("CARGO_HOME").filter(|home| !home.is_empty()) {
        return Some(current_dir.join(home));
    }
    let home = environment.get_str(if cfg!(windows) { "USERPROFILE" } else { "HOME" })?;
    Some(Utf8PathBuf::from(home).join(".cargo"))
}
