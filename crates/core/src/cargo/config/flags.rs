//! What the configuration says about a platform: compiler flags, linker, replaced build scripts; and which targets
//! are built for.

use camino::Utf8Path;
use cargo_platform::{Cfg, CfgExpr};

use super::tree::Node;
use super::{BuildConfiguration, CargoCommand, program};

/// A target that is built for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestedTarget {
    /// What rustc is given: a triple, or the path of a specification.
    pub argument: String,
    /// The short name, which directories have.
    pub name: String,
    /// The content of the specification, where it is a file.
    pub specification: Option<String>,
}

impl RequestedTarget {
    /// A target that rustc knows by name.
    pub fn triple(triple: &str) -> Self {
        Self { argument: triple.to_owned(), name: triple.to_owned(), specification: None }
    }

    fn new(argument: &str, root: &Utf8Path) -> Self {
        if !argument.ends_with(".json") {
            return Self::triple(argument);
        }
        let path = root.join(argument);
        let path = path.canonicalize_utf8().unwrap_or(path);
        let specification = std::fs::read_to_string(&path).ok();
        let name = path.file_stem().unwrap_or(argument).to_owned();
        Self { argument: path.into_string(), name, specification }
    }
}

/// The flags of a platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// For rustc.
    pub rustflags: Vec<String>,
    /// For rustdoc.
    pub rustdocflags: Vec<String>,
}

impl BuildConfiguration {
    /// The targets that are built for: of the command line, else of the configuration, else none, which is the host.
    pub fn requested_targets(&self, command: &CargoCommand, host: &str) -> Vec<RequestedTarget> {
        let new = |argument: &str, root: &Utf8Path| match argument {
            "host-tuple" => RequestedTarget::triple(host),
            argument => RequestedTarget::new(argument, root),
        };
        let mut targets: Vec<RequestedTarget> = if command.targets.is_empty() {
            let keys = ["build", "target"];
            match (self.tree.get(&keys), self.variable(&keys)) {
                (Some(Node::List(values)), None) => values
                    .iter()
                    .filter_map(|(value, origin)| Some(new(value.as_str()?, origin.root(&self.current_dir))))
                    .collect(),
                _ => {
                    let text = self.text(&keys);
                    let root = |origin: Option<&super::Origin>| match origin {
                        Some(origin) => origin.root(&self.current_dir).to_owned(),
                        None => self.current_dir.clone(),
                    };
                    text.map(|(text, origin)| new(&text, &root(origin))).into_iter().collect()
                }
            }
        } else {
            command.targets.iter().map(|argument| new(argument, &self.current_dir)).collect()
        };
        targets.sort();
        targets.dedup();
        targets
    }

    /// The flags for a platform. `is_bare_host`: the host of a build with `--target`, which gets none.
    pub fn flags(&self, name: &str, cfgs: &[Cfg], is_bare_host: bool) -> Flags {
        if is_bare_host {
            return Flags::default();
        }
        let mut of_target = self.list(&target_keys(name, "rustflags")).unwrap_or_default();
        for table in self.matching_tables(cfgs) {
            of_target.extend(list_of(table.get(&["rustflags"])));
        }
        let of_build = || self.list(&["build", "rustflags"]);
        let rustflags = self
            .flags_of_variable("RUSTFLAGS")
            .unwrap_or_else(|| if of_target.is_empty() { of_build().unwrap_or_default() } else { of_target });
        let rustdocflags = self.flags_of_variable("RUSTDOCFLAGS").unwrap_or_else(|| {
            let of_target = self.list(&target_keys(name, "rustdocflags")).filter(|flags| !flags.is_empty());
            of_target.or_else(|| self.list(&["build", "rustdocflags"])).unwrap_or_default()
        });
        Flags { rustflags, rustdocflags }
    }

    fn flags_of_variable(&self, name: &str) -> Option<Vec<String>> {
        if let Some(encoded) = self.environment.get_str(format!("CARGO_ENCODED_{name}")) {
            let flags = encoded.split('\x1f').filter(|_| !encoded.is_empty());
            return Some(flags.map(str::to_owned).collect());
        }
        let flags = self.environment.get_str(name)?;
        Some(flags.split(' ').map(str::trim).filter(|flag| !flag.is_empty()).map(str::to_owned).collect())
    }

    /// The linker for a platform.
    pub fn linker(&self, name: &str, cfgs: &[Cfg]) -> Option<String> {
        if let Some((value, origin)) = self.text(&target_keys(name, "linker")) {
            let root = origin.map_or(self.current_dir.as_path(), |origin| origin.root(&self.current_dir));
            return program(&value, root);
        }
        self.matching_tables(cfgs).find_map(|table| match table.get(&["linker"]) {
            Some(Node::Leaf(toml::Value::String(value), origin)) => program(value, origin.root(&self.current_dir)),
            _ => None,
        })
    }

    /// The `links` keys whose build scripts the configuration replaces.
    pub fn links_overrides(&self, name: &str) -> Vec<String> {
        let known = ["runner", "rustflags", "rustdocflags", "linker", "ar"];
        let keys: Vec<&str> = std::iter::once("target").chain(name.split('.')).collect();
        let tables = self.tree.get(&keys).into_iter().flat_map(Node::entries);
        tables
            .filter(|(key, node)| matches!(node, Node::Table(_)) && !known.contains(key))
            .map(|(key, _)| key.to_owned())
            .collect()
    }

    /// The `target.'cfg(…)'` tables that apply, sorted by key.
    fn matching_tables(&self, cfgs: &[Cfg]) -> impl Iterator<Item = &Node> {
        let tables = self.tree.get(&["target"]).into_iter().flat_map(Node::entries);
        tables.filter(|(key, _)| CfgExpr::matches_key(key, cfgs)).map(|(_, table)| table)
    }

    /// All that the answers of a compiler can depend on, in words.
    pub(crate) fn toolchain_questions(&self, command: &CargoCommand) -> Vec<String> {
        let mut questions: Vec<String> =
            self.requested_targets(command, "host-tuple").iter().map(|target| format!("target {target:?}")).collect();
        questions.push(format!("build.rustflags {:?}", self.list(&["build", "rustflags"])));
        for (key, table) in self.tree.get(&["target"]).into_iter().flat_map(Node::entries) {
            if table.get(&["rustflags"]).is_some() {
                questions.push(format!("target.{key}.rustflags {:?}", list_of(table.get(&["rustflags"]))));
            }
        }
        let variables = self.environment.iter().filter_map(|(name, value)| {
            let name = name.to_str()?;
            (name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS")).then(|| format!("{name} {value:?}"))
        });
        questions.extend(variables);
        questions
    }
}

/// The keys of a platform's table. Cargo takes a point in a name for one between keys.
fn target_keys<'n>(name: &'n str, key: &'n str) -> Vec<&'n str> {
    std::iter::once("target").chain(name.split('.')).chain([key]).collect()
}

fn list_of(node: Option<&Node>) -> Vec<String> {
    match node {
        Some(Node::List(values)) => values.iter().filter_map(|(value, _)| value.as_str().map(str::to_owned)).collect(),
        Some(Node::Leaf(toml::Value::String(text), _)) => text.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
