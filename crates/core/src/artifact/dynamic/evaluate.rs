//! What dynamic inputs are on this machine.
//!
//! An [`Evaluator`] belongs to one build; resolve asks it from several threads. Each file is read once, until all is
//! forgotten. Refuses to guess: what exists and cannot be read is an error, which the caller counts as a miss.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;

use super::super::{RootKind, Roots};
use super::collected::is_verbatim;
use super::pkg_config::PackageConfigFiles;
use super::{DynamicInput, HostFacts, InputValue, MacroFiles, RepositoryState, processor, tools, tree};
use crate::digest::{ContentDigest, KeyHasher};
use crate::environment::{ConfiguredVariables, Environment};

/// Why an input has no value here.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Something exists and cannot be read.
    #[error("read {path}, on which a unit depends")]
    File {
        /// What it is.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// A path begins with a root that this build does not have.
    #[error("place {path}, on which a unit depends")]
    UnknownRoot {
        /// The hidden path.
        path: Utf8PathBuf,
    },
}

/// Gives dynamic inputs their values.
pub struct Evaluator {
    environment: Environment,
    table: ConfiguredVariables,
    roots: Roots,
    host: HostFacts,
    known: Memory<DynamicInput>,
    files: Memory<Utf8PathBuf>,
    package_config: Mutex<Option<Arc<PackageConfigFiles>>>,
    packages: BTreeSet<Utf8PathBuf>,
}

impl std::fmt::Debug for Evaluator {
    // The environment holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("roots", &self.roots).field("host", &self.host).finish_non_exhaustive()
    }
}

/// The files that a [`DynamicInput::Glob`] names, without those of target directories.
pub fn matching_files(roots: &Roots, directory: &Utf8Path, pattern: &str) -> io::Result<Vec<Utf8PathBuf>> {
    tree::files_matching(directory, pattern, &outputs(roots))
}

/// The files of a package that a [`DynamicInput::PackageTree`] names, without those of target directories. `packages`
/// are where the user's own packages lie: what belongs to another one is no part of this.
pub fn package_files(
    roots: &Roots,
    directory: &Utf8Path,
    packages: &BTreeSet<Utf8PathBuf>,
) -> io::Result<Vec<Utf8PathBuf>> {
    tree::package_files(directory, &outputs(roots), packages)
}

fn outputs(roots: &Roots) -> Vec<&Utf8Path> {
    let outputs = [RootKind::BuildDirectory, RootKind::TargetDirectory];
    outputs.into_iter().filter_map(|root| roots.get(root)).collect()
}

impl Evaluator {
    /// An evaluator for one build: the environment that cargo gets, the merged `[env]` table of cargo's
    /// configuration, the roots, and the host.
    pub fn new(environment: &Environment, table: &ConfiguredVariables, roots: &Roots, host: HostFacts) -> Self {
        Self {
            environment: environment.clone(),
            table: table.clone(),
            roots: roots.clone(),
            host,
            known: Mutex::default(),
            files: Mutex::default(),
            package_config: Mutex::default(),
            packages: BTreeSet::new(),
        }
    }

    /// Says where the user's own packages lie: what belongs to one is no part of another that lies around it.
    #[must_use]
    pub fn with_packages(mut self, roots: BTreeSet<Utf8PathBuf>) -> Self {
        self.packages = roots;
        self
    }

    /// Forgets all values: what is asked for from now on is read again.
    pub fn forget(&self) {
        self.known.lock().expect(NO_PANIC).clear();
        self.files.lock().expect(NO_PANIC).clear();
        *self.package_config.lock().expect(NO_PANIC) = None;
    }

    /// The value of an input for a unit. `package_environment` holds the variables that cargo itself sets for the
    /// unit (`CARGO_PKG_*`, `CARGO_MANIFEST_DIR`, `OUT_DIR`, `CARGO`, `CARGO_PRIMARY_PACKAGE` …).
    pub fn value(
        &self,
        input: &DynamicInput,
        package_environment: &BTreeMap<String, String>,
    ) -> Result<InputValue, EvaluateError> {
        if let DynamicInput::Variable { name } = input {
            return Ok(self.variable(name, package_environment));
        }
        once(&self.known, input, || self.evaluate(input))
    }

    /// The values of several inputs of a unit, found side by side.
    pub fn values(
        &self,
        inputs: &[DynamicInput],
        package_environment: &BTreeMap<String, String>,
    ) -> Result<Vec<InputValue>, EvaluateError> {
        inputs.par_iter().map(|input| self.value(input, package_environment)).collect()
    }

    fn evaluate(&self, input: &DynamicInput) -> Result<InputValue, EvaluateError> {
        match input {
            DynamicInput::File { path } => self.file(&self.reveal(path)?),
            DynamicInput::Directory { path } => {
                let path = self.reveal(path)?;
                if !path.is_dir() {
                    return self.file(&path);
                }
                let files = tree::files_below(&path).map_err(failed(&path))?;
                self.listing(&path, &files)
            }
            DynamicInput::Glob { path, pattern } => {
                let path = self.reveal(path)?;
                let files = matching_files(&self.roots, &path, pattern).map_err(failed(&path))?;
                self.listing(&path, &files)
            }
            DynamicInput::PackageTree { path } => {
                let path = self.reveal(path)?;
                if !path.is_dir() {
                    return self.file(&path);
                }
                let files = package_files(&self.roots, &path, &self.packages).map_err(failed(&path))?;
                self.listing(&path, &files)
            }
            DynamicInput::MacroPackage { path, tests } => {
                let path = self.reveal(path)?;
                if !path.is_dir() {
                    return self.file(&path);
                }
                let found = MacroFiles::of_package(&path, *tests, &self.roots, &self.packages);
                self.listing(&path, found.map_err(failed(&path))?.files.iter())
            }
            DynamicInput::MacroDirectory { path } => {
                let path = self.reveal(path)?;
                if !path.is_dir() {
                    return self.file(&path);
                }
                self.listing(&path, MacroFiles::of_directory(&path).map_err(failed(&path))?.files.iter())
            }
            DynamicInput::NoneOf { paths } => {
                let there = self.reveal_all(paths)?.into_iter().filter(|path| path.exists());
                let mut hasher = KeyHasher::new("none-of/1");
                hasher.list("there", there.map(|path| self.roots.hide(&path).into_string()));
                Ok(present(&hasher))
            }
            DynamicInput::Repository { path } => {
                let state = RepositoryState::read(&self.reveal(path)?, &self.environment);
                Ok(state.map_or(InputValue::Absent, |state| InputValue::Present(state.digest)))
            }
            DynamicInput::Variable { name } => Ok(self.variable(name, &BTreeMap::new())),
            DynamicInput::Tool { program } => {
                let path = self.table.seen_by_children("PATH", &self.environment).and_then(|value| value.to_str());
                let files = tools::files_behind(program, path);
                self.contents("tool/1", files.iter().map(|file| ("", file.as_path())))
            }
            DynamicInput::SystemLibrary { kind, name, search } => self.system_library(kind, name, search),
            DynamicInput::BoundRoot { root } => Ok(match self.roots.get(*root) {
                Some(path) => {
                    let mut hasher = KeyHasher::new("bound-root/1");
                    hasher.field("path", path.as_str());
                    for (_, path) in self.roots.behind_links().filter(|(kind, _)| kind == root) {
                        hasher.field("behind-links", path.as_str());
                    }
                    present(&hasher)
                }
                None => InputValue::Absent,
            }),
            DynamicInput::Glibc { at_least, interpreter } => {
                let glibc = match interpreter {
                    Some(interpreter) => self.host.glibc_of(interpreter),
                    None => self.host.glibc.clone(),
                };
                Ok(satisfied(glibc.as_ref() >= Some(at_least)))
            }
            DynamicInput::Libstdcxx { at_least } => {
                let libstdcxx = self.host.newest("libstdc++.so.6", "GLIBCXX_");
                Ok(satisfied(libstdcxx.as_ref() >= Some(at_least)))
            }
            DynamicInput::Processor => {
                let processor = self.host.processor.get_or_init(processor);
                Ok(present(KeyHasher::new("processor/1").field("processor", processor.as_str())))
            }
            DynamicInput::NeededLibrary { name, search } => {
                let mut directories = self.reveal_all(search)?;
                directories.extend(self.path_list("LD_LIBRARY_PATH"));
                directories.extend(self.roots.get(RootKind::Sysroot).map(|sysroot| sysroot.join("lib")));
                directories.extend(self.host.loader_directories.iter().cloned());
                Ok(satisfied(directories.iter().any(|directory| directory.join(name).exists())))
            }
        }
    }

    /// Cargo's own variables first, then what the `[env]` table forces, the process environment, and the rest of
    /// the table (cargo's `apply_env_config`).
    fn variable(&self, name: &str, package_environment: &BTreeMap<String, String>) -> InputValue {
        let mut hasher = KeyHasher::new("variable/1");
        hasher.field("name", name);
        if let Some(value) = package_environment.get(name) {
            return present(hasher.field("value", self.hide_value(value)));
        }
        match (self.table.deciding(name, &self.environment), self.environment.get(name)) {
            (Some(entry), _) if entry.relative => present(hasher.field("value", self.hide_value(&entry.value))),
            (Some(entry), _) => present(hasher.field("value", entry.value.as_str())),
            (None, Some(value)) => present(hasher.field("value", value.as_encoded_bytes())),
            (None, None) => InputValue::Absent,
        }
    }

    /// Paths that cargo makes are the same input wherever their root lies.
    fn hide_value(&self, value: &str) -> String {
        self.roots.hide(Utf8Path::new(value)).into_string()
    }

    fn system_library(&self, kind: &str, name: &str, search: &[Utf8PathBuf]) -> Result<InputValue, EvaluateError> {
        // Of the modifiers (`static:+whole-archive,-bundle`), one changes which file is taken.
        let (kind, modifiers) = kind.split_once(':').unwrap_or((kind, ""));
        let file_names = match kind {
            _ if is_verbatim(modifiers) => vec![name.to_owned()],
            "static" => vec![format!("lib{name}.a"), format!("{name}.lib")],
            "framework" => vec![format!("{name}.framework/{name}"), format!("{name}.framework/{name}.tbd")],
            _ => {
                vec![format!("lib{name}.so"), format!("lib{name}.dylib"), format!("lib{name}.a"), format!("{name}.lib")]
            }
        };
        let mut directories = self.reveal_all(search)?;
        directories.extend(self.path_list("LIBRARY_PATH"));
        directories.extend(self.host.link_directories.iter().cloned());
        let mut candidates = directories.iter().flat_map(|directory| file_names.iter().map(|f| directory.join(f)));
        let found = candidates.find(|path| path.exists());
        let config = self.package_config();
        let mut about = config.about(name).peekable();
        if found.is_none() && about.peek().is_none() {
            return Ok(InputValue::Absent);
        }
        let mut hasher = KeyHasher::new("system-library/1");
        match &found {
            Some(path) => match self.file(path)? {
                InputValue::Present(digest) => hasher.field("library", digest.as_bytes()),
                InputValue::Absent => hasher.optional("library", None::<&str>),
            },
            None => hasher.optional("library", None::<&str>),
        };
        for (file, text) in about {
            hasher.field("pkg-config", file).field("text", text);
        }
        Ok(present(&hasher))
    }

    fn package_config(&self) -> Arc<PackageConfigFiles> {
        let mut known = self.package_config.lock().expect(NO_PANIC);
        let read = || Arc::new(PackageConfigFiles::read(&self.package_config_directories()));
        Arc::clone(known.get_or_insert_with(read))
    }

    /// Where pkg-config searches, as far as variables and the usual places tell.
    fn package_config_directories(&self) -> Vec<Utf8PathBuf> {
        let mut directories = self.path_list("PKG_CONFIG_PATH");
        let replaced = self.path_list("PKG_CONFIG_LIBDIR");
        if replaced.is_empty() {
            directories.extend(self.host.link_directories.iter().map(|directory| directory.join("pkgconfig")));
            directories.extend(["/usr/local/share/pkgconfig", "/usr/share/pkgconfig"].map(Utf8PathBuf::from));
        }
        directories.extend(replaced);
        directories
    }

    fn path_list(&self, variable: &str) -> Vec<Utf8PathBuf> {
        let Some(value) = self.table.seen_by_children(variable, &self.environment) else { return Vec::new() };
        let paths = std::env::split_paths(value).filter_map(|path| Utf8PathBuf::from_path_buf(path).ok());
        paths.filter(|path| !path.as_str().is_empty()).collect()
    }

    /// The content of a file, behind links. A directory is not what a file was.
    fn file(&self, path: &Utf8Path) -> Result<InputValue, EvaluateError> {
        once(&self.files, path, || match path.metadata() {
            Err(error) if is_absent(&error) => Ok(InputValue::Absent),
            Err(error) => Err(failed(path)(error)),
            Ok(metadata) if metadata.is_dir() => Ok(present(&KeyHasher::new("directory-in-place-of-file/1"))),
            // Whoever opens a pipe waits for its other end.
            Ok(metadata) if !metadata.is_file() => Ok(present(&KeyHasher::new("no-ordinary-file/1"))),
            Ok(metadata) => match hash_file(path) {
                // What nobody runs is the same whether it could be run or not.
                Ok(digest) if is_executable(&metadata) && path.extension() != Some("rs") => {
                    Ok(present(KeyHasher::new("executable-file/1").field("content", digest.as_bytes())))
                }
                Ok(digest) => Ok(InputValue::Present(digest)),
                // It was there a moment ago.
                Err(error) if is_absent(&error) => Ok(InputValue::Absent),
                Err(error) => Err(failed(path)(error)),
            },
        })
    }

    fn listing<'f>(
        &self,
        root: &Utf8Path,
        files: impl IntoIterator<Item = &'f Utf8PathBuf>,
    ) -> Result<InputValue, EvaluateError> {
        let named = files.into_iter().map(|file| (file.strip_prefix(root).unwrap_or(file).as_str(), file.as_path()));
        match self.contents("listing/1", named)? {
            // An empty directory is not an absent one.
            InputValue::Absent => Ok(present(&KeyHasher::new("listing/1"))),
            value => Ok(value),
        }
    }

    /// The digest of the names and contents of files; absent if there are none.
    fn contents<'a>(
        &self,
        domain: &str,
        files: impl Iterator<Item = (&'a str, &'a Utf8Path)>,
    ) -> Result<InputValue, EvaluateError> {
        let mut hasher = KeyHasher::new(domain);
        let mut is_empty = true;
        // One after the other: a thread that waits for others here could be given another unit that asks for this
        // very input, and would wait for itself.
        for (name, path) in files {
            is_empty = false;
            hasher.field("name", name);
            // The text of a link can be read, too.
            if let Ok(target) = path.read_link_utf8() {
                hasher.field("link", self.roots.hide(&target).as_str());
            }
            match self.file(path)? {
                InputValue::Present(digest) => hasher.field("content", digest.as_bytes()),
                InputValue::Absent => hasher.optional("content", None::<&str>),
            };
        }
        Ok(if is_empty { InputValue::Absent } else { present(&hasher) })
    }

    fn reveal(&self, path: &Utf8Path) -> Result<Utf8PathBuf, EvaluateError> {
        self.roots.reveal(path).ok_or_else(|| EvaluateError::UnknownRoot { path: path.to_owned() })
    }

    fn reveal_all(&self, paths: &[Utf8PathBuf]) -> Result<Vec<Utf8PathBuf>, EvaluateError> {
        paths.iter().map(|path| self.reveal(path)).collect()
    }
}

const NO_PANIC: &str = "nobody panics while holding the lock";

type Memory<K> = Mutex<HashMap<K, Arc<OnceLock<Result<InputValue, EvaluateError>>>>>;

/// Evaluates once per key, without holding up those who ask for other keys.
fn once<K, Q>(
    memory: &Memory<K>,
    key: &Q,
    evaluate: impl FnOnce() -> Result<InputValue, EvaluateError>,
) -> Result<InputValue, EvaluateError>
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    let cell = {
        let mut memory = memory.lock().expect(NO_PANIC);
        match memory.get(key) {
            Some(cell) => Arc::clone(cell),
            None => Arc::clone(memory.entry(key.to_owned()).or_default()),
        }
    };
    cell.get_or_init(evaluate).clone()
}

fn present(hasher: &KeyHasher) -> InputValue {
    InputValue::Present(hasher.digest())
}

fn satisfied(satisfied: bool) -> InputValue {
    if satisfied { present(&KeyHasher::new("satisfied/1")) } else { InputValue::Absent }
}

fn failed(path: &Utf8Path) -> impl Fn(io::Error) -> EvaluateError {
    let path = path.to_owned();
    move |source| EvaluateError::File { path: path.clone(), source: Arc::new(source) }
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_metadata: &std::fs::Metadata) -> bool {
    false
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn hash_file(path: &Utf8Path) -> io::Result<ContentDigest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(ContentDigest::from_bytes(*hasher.finalize().as_bytes()))
}
