//! Configuration files and `--config`, merged into one tree that remembers where each value is from.
//!
//! Only files are found with `cargo-config2`: it knows neither `--config`, nor profiles, nor `include`, nor the
//! tables that replace build scripts, so the values themselves are merged here, as cargo's `util/context` (0.96)
//! merges them.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::ConfigError;

/// Where a value is from. Later ones override earlier ones; environment variables come before `CommandLine`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A file.
    File(Utf8PathBuf),
    /// `--config`, with the file that it names, if it names one.
    CommandLine(Option<Utf8PathBuf>),
}

impl Origin {
    /// What relative paths of the configuration are relative to.
    pub(super) fn root<'o>(&'o self, current_dir: &'o Utf8Path) -> &'o Utf8Path {
        match self {
            Self::File(path) | Self::CommandLine(Some(path)) => {
                path.parent().and_then(Utf8Path::parent).unwrap_or(current_dir)
            }
            Self::CommandLine(None) => current_dir,
        }
    }

    pub(super) fn is_command_line(&self) -> bool {
        matches!(self, Self::CommandLine(_))
    }
}

/// A value of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Table(BTreeMap<String, Node>),
    List(Vec<(toml::Value, Origin)>),
    Leaf(toml::Value, Origin),
}

impl Node {
    fn new(value: toml::Value, origin: &Origin) -> Self {
        match value {
            toml::Value::Table(table) => {
                Self::Table(table.into_iter().map(|(key, value)| (key, Self::new(value, origin))).collect())
            }
            toml::Value::Array(values) => Self::List(values.into_iter().map(|value| (value, origin.clone())).collect()),
            leaf => Self::Leaf(leaf, origin.clone()),
        }
    }

    pub(super) fn empty() -> Self {
        Self::Table(BTreeMap::new())
    }

    /// The node below the given keys.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&Self> {
        let mut node = self;
        for key in keys {
            let Self::Table(table) = node else { return None };
            node = table.get(*key)?;
        }
        Some(node)
    }

    /// The entries of a table; none of anything else.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let table = match self {
            Self::Table(table) => Some(table),
            _ => None,
        };
        table.into_iter().flatten().map(|(key, node)| (key.as_str(), node))
    }

    /// Lays `above` over this tree. Tables are merged and lists are joined.
    fn merge(&mut self, above: Self, path: &str) -> Result<(), ConfigError> {
        match (self, above) {
            (Self::Table(below), Self::Table(above)) => {
                for (key, above) in above {
                    match below.get_mut(&key) {
                        Some(below) => below.merge(above, &format!("{path}.{key}"))?,
                        None => {
                            below.insert(key, above);
                        }
                    }
                }
                Ok(())
            }
            (Self::List(below), Self::List(above)) => {
                if is_replaced(path) {
                    *below = above;
                } else {
                    below.extend(above);
                }
                Ok(())
            }
            (below @ Self::Leaf(..), above @ Self::Leaf(..)) => {
                *below = above;
                Ok(())
            }
            // Where a program is a string here and a list there, the nearer one counts.
            (below, above) if is_replaced(path) => {
                *below = above;
                Ok(())
            }
            _ => Err(ConfigError::Mixed { key: path.trim_start_matches('.').to_owned() }),
        }
    }

    /// The tree as TOML again.
    pub(super) fn to_value(&self) -> toml::Value {
        match self {
            Self::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), node.to_value())).collect())
            }
            Self::List(values) => toml::Value::Array(values.iter().map(|(value, _)| value.clone()).collect()),
            Self::Leaf(value, _) => value.clone(),
        }
    }
}

/// Lists that stand for one program and its arguments are never joined.
fn is_replaced(path: &str) -> bool {
    path.ends_with(".runner") || path.ends_with(".credential-provider") || path.starts_with(".doc.browser")
}

/// Reads all files and `--config` arguments.
pub(super) fn load(
    current_dir: &Utf8Path,
    cargo_home: Option<&Utf8Path>,
    arguments: &[super::ConfigArgument],
) -> Result<Node, ConfigError> {
    let home = cargo_home.map(|home| home.as_std_path().to_owned());
    let files: Vec<_> = cargo_config2::Walk::with_cargo_home(current_dir.as_std_path(), home).collect();
    let mut tree = Node::empty();
    // The walk goes from the nearest file to the farthest; the farthest is at the bottom.
    for file in files.into_iter().rev() {
        let file = Utf8PathBuf::from_path_buf(file).map_err(|path| ConfigError::NotText(path.display().to_string()))?;
        tree.merge(read_file(&file, &Origin::File(file.clone()), 0)?, "")?;
    }
    for super::ConfigArgument(text) in arguments {
        let path = current_dir.join(text);
        let above = if path.is_file() {
            read_file(&path, &Origin::CommandLine(Some(path.clone())), 0)?
        } else {
            let wrong = || ConfigError::Argument { text: text.clone() };
            let table: toml::Table = text.parse().map_err(|_| wrong())?;
            if table.contains_key("include") {
                return Err(wrong());
            }
            Node::new(toml::Value::Table(table), &Origin::CommandLine(None))
        };
        tree.merge(above, "")?;
    }
    Ok(tree)
}

fn read_file(path: &Utf8Path, origin: &Origin, depth: u8) -> Result<Node, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let wrong = |message: String| ConfigError::Parse { path: path.to_owned(), message };
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    let includes = match table.remove("include") {
        None => Vec::new(),
        Some(toml::Value::String(path)) => vec![(path, false)],
        Some(toml::Value::Array(list)) => list
            .into_iter()
            .map(|include| match include {
                toml::Value::String(path) => Some((path, false)),
                toml::Value::Table(table) => {
                    let path = table.get("path")?.as_str()?.to_owned();
                    Some((path, table.get("optional").and_then(toml::Value::as_bool).unwrap_or(false)))
                }
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("include".to_owned()))?,
        Some(_) => return Err(wrong("include".to_owned())),
    };
    let mut tree = Node::empty();
    for (include, optional) in includes {
        if depth > 16 {
            return Err(wrong("include".to_owned()));
        }
        let path = path.parent().unwrap_or(path).join(include);
        if optional && !path.exists() {
            continue;
        }
        let origin = match origin {
            Origin::File(_) => Origin::File(path.clone()),
            Origin::CommandLine(_) => Origin::CommandLine(Some(path.clone())),
        };
        tree.merge(read_file(&path, &origin, depth + 1)?, "")?;
    }
    tree.merge(Node::new(toml::Value::Table(table), origin), "")?;
    Ok(tree)
}
