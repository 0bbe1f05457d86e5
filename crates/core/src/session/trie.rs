//! From a unit key to its artifact, by way of what the unit was seen to read.
//!
//! ```text
//! node at K(u)                 names: [env CC, file ../schema.json]
//! node at next(K, values)      artifact: {…}            (or more names)
//! ```
//!
//! What a unit reads is known only after it was built once, so the first look-up yields the *names* of its
//! dynamic inputs and the second one, with their values in the key, the artifact. A node never changes once
//! it is written: a producer that read something more than its predecessors did adds the rest of its names
//! one level further down. Nothing is compared with another machine's values, and no value is ever stored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::artifact::UnitArtifact;
use crate::artifact::dynamic::{DynamicInput, InputValue};
use crate::digest::{Key, KeyHasher};

const DOMAIN: &str = "dynamic-key/1";

/// Names at more than this many levels are nobody's work.
const DEEPEST: usize = 32;

/// What is kept under a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Node {
    /// Which inputs to look at before the next look-up.
    Names(Vec<DynamicInput>),
    /// The artifact.
    Artifact(Box<UnitArtifact>),
}

/// The key behind `key` once the values of the named inputs are known.
pub fn next_key(key: Key, values: &[(DynamicInput, InputValue)]) -> Key {
    let mut hasher = KeyHasher::new(DOMAIN);
    hasher.field("key", key.as_bytes());
    for (input, value) in values {
        let digest = match value {
            InputValue::Absent => None,
            InputValue::Present(digest) => Some(digest.as_bytes()),
        };
        hasher.field("input", canonical(input)).optional("value", digest);
    }
    hasher.key()
}

/// One spelling of an input. A kind of its own for each variant, and its fields with their lengths.
fn canonical(input: &DynamicInput) -> Vec<u8> {
    let mut hasher = KeyHasher::new("dynamic-input/1");
    match input {
        DynamicInput::File { path } => hasher.field("file", path.as_str()),
        DynamicInput::Directory { path } => hasher.field("directory", path.as_str()),
        DynamicInput::Glob { path, pattern } => hasher.field("glob", path.as_str()).field("pattern", pattern),
        DynamicInput::PackageTree { path } => hasher.field("package-tree", path.as_str()),
        DynamicInput::NoneOf { paths } => hasher.list("none-of", paths.iter().map(|path| path.as_str())),
        DynamicInput::MacroPackage { path, tests } => {
            hasher.field("macro-package", path.as_str()).field("tests", [u8::from(*tests)])
        }
        DynamicInput::MacroDirectory { path } => hasher.field("macro-directory", path.as_str()),
        DynamicInput::Repository { path } => hasher.field("repository", path.as_str()),
        DynamicInput::Variable { name } => hasher.field("variable", name),
        DynamicInput::Tool { program } => hasher.field("tool", program),
        DynamicInput::SystemLibrary { kind, name, search } => hasher
            .field("system-library", name)
            .field("kind", kind)
            .list("search", search.iter().map(|path| path.as_str())),
        DynamicInput::BoundRoot { root } => hasher.field("bound-root", root.placeholder()),
        DynamicInput::Glibc { at_least, interpreter } => hasher
            .field("glibc", at_least.to_string())
            .optional("interpreter", interpreter.as_ref().map(|path| path.as_str())),
        DynamicInput::Libstdcxx { at_least } => hasher.field("libstdcxx", at_least.to_string()),
        DynamicInput::Processor => hasher.field("processor", ""),
        DynamicInput::NeededLibrary { name, search } => {
            hasher.field("needed-library", name).list("search", search.iter().map(|path| path.as_str()))
        }
    };
    hasher.key().as_bytes().to_vec()
}

/// What a walk found.
#[derive(Debug)]
pub struct Found {
    /// The key of the artifact.
    pub key: Key,
    /// The artifact.
    pub artifact: Box<UnitArtifact>,
    /// All inputs that were looked at, with their values.
    pub values: Vec<(DynamicInput, InputValue)>,
    /// The name nodes that led there, in order.
    pub passed: Vec<Key>,
}

/// Where a walk ended.
#[derive(Debug)]
pub enum Walk {
    /// At the artifact.
    Found(Found),
    /// At a key under which nothing is kept: nothing is known of the unit, or nobody has built it with these values.
    /// A cache may have it.
    Missing(Key),
    /// At an input that has no value here (or at more names than anybody reads).
    Unanswerable,
}

/// Walks from a unit key to the artifact that fits the values of this machine.
pub fn look_up<E>(
    unit: Key,
    mut node: impl FnMut(Key) -> Result<Option<Node>, E>,
    mut value: impl FnMut(&DynamicInput) -> Option<InputValue>,
) -> Result<Walk, E> {
    let mut key = unit;
    let mut seen = Vec::new();
    let mut passed = Vec::new();
    for _ in 0..DEEPEST {
        match node(key)? {
            None => return Ok(Walk::Missing(key)),
            Some(Node::Artifact(artifact)) => return Ok(Walk::Found(Found { key, artifact, values: seen, passed })),
            Some(Node::Names(names)) => {
                let mut values = Vec::with_capacity(names.len());
                for name in names {
                    let Some(value) = value(&name) else { return Ok(Walk::Unanswerable) };
                    values.push((name, value));
                }
                passed.push(key);
                key = next_key(key, &values);
                seen.extend(values);
            }
        }
    }
    Ok(Walk::Unanswerable)
}

/// The records of a unit that is kept: its artifact first, then the names that lead to it, from the last to the first.
/// Whoever is shown one of them finds what it leads to among those before it. `None` if the walk does not end at
/// `artifact`: then something else is kept by now.
pub fn records<E>(
    unit: Key,
    artifact: Key,
    node: impl FnMut(Key) -> Result<Option<Node>, E>,
    value: impl FnMut(&DynamicInput) -> Option<InputValue>,
) -> Result<Option<Vec<Key>>, E> {
    Ok(match look_up(unit, node, value)? {
        Walk::Found(found) if found.key == artifact => {
            Some(std::iter::once(found.key).chain(found.passed.into_iter().rev()).collect())
        }
        _ => None,
    })
}

/// Where an artifact with the given inputs belongs, and the name nodes that lead there and are still missing.
pub struct Path {
    /// The key of the artifact.
    pub key: Key,
    /// The name nodes that are there already, in order.
    pub passed: Vec<Key>,
    /// Nodes to write, in order.
    pub missing: Vec<(Key, Vec<DynamicInput>)>,
    /// Whether an artifact is there already.
    pub taken: bool,
}

/// Finds the place of an artifact that read `inputs`. `None` if the walk ends at an artifact that was built
/// without looking at some of them: the first writer's stays.
pub fn place<E>(
    unit: Key,
    inputs: &[(DynamicInput, InputValue)],
    mut node: impl FnMut(Key) -> Result<Option<Node>, E>,
    mut value: impl FnMut(&DynamicInput) -> Option<InputValue>,
) -> Result<Option<Path>, E> {
    let mut key = unit;
    let mut rest: BTreeSet<DynamicInput> = inputs.iter().map(|(input, _)| input.clone()).collect();
    let mut known = |input: &DynamicInput| {
        inputs.iter().find(|(name, _)| name == input).map(|(_, value)| *value).or_else(|| value(input))
    };
    let mut passed = Vec::new();
    for _ in 0..DEEPEST {
        let names = match node(key)? {
            Some(Node::Artifact(_)) => {
                return Ok(rest.is_empty().then_some(Path { key, passed, missing: Vec::new(), taken: true }));
            }
            Some(Node::Names(names)) => names,
            None if rest.is_empty() => return Ok(Some(Path { key, passed, missing: Vec::new(), taken: false })),
            None => {
                let names: Vec<DynamicInput> = rest.into_iter().collect();
                let mut values = Vec::with_capacity(names.len());
                for name in &names {
                    let Some(value) = known(name) else { return Ok(None) };
                    values.push((name.clone(), value));
                }
                let artifact = next_key(key, &values);
                return Ok(Some(Path { key: artifact, passed, missing: vec![(key, names)], taken: false }));
            }
        };
        let mut values = Vec::with_capacity(names.len());
        for name in names {
            rest.remove(&name);
            let Some(value) = known(&name) else { return Ok(None) };
            values.push((name, value));
        }
        passed.push(key);
        key = next_key(key, &values);
    }
    Ok(None)
}
