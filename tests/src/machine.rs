//! A machine of its own: home, cargo home, store, toolchain, and an environment with nothing else in it.

use crate::toolchain::Guard;
use crate::{Toolchain, Workspace, binary_directory, registry, repository};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tempfile::TempDir;

/// Where the machines' own programs are: compilers, `git`, `cmake`.
pub(crate) const SYSTEM_PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// A machine of its own: home, cargo home, store and a guarded toolchain.
///
/// Clones are the same machine.
#[derive(Clone, Debug)]
pub struct Machine {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: TempDir,
    store: PathBuf,
    guard: Guard,
    /// The machine whose directories are used, too: they stay as long as this one.
    _first: Option<Machine>,
}

impl Machine {
    /// A fresh machine with the toolchain that runs the tests and an empty store.
    pub fn new() -> Self {
        Self::with_toolchain(&Toolchain::current())
    }

    /// A fresh machine with another toolchain.
    pub fn with_toolchain(toolchain: &Toolchain) -> Self {
        Self::build(toolchain, None)
    }

    /// A fresh machine that uses a store in a directory of the caller.
    pub fn with_store(toolchain: &Toolchain, store: &Path) -> Self {
        Self::build(toolchain, Some(store.to_owned()))
    }

    /// A fresh machine with this one's store, and with its toolchain at the same path.
    ///
    /// The path matters for clippy: cargo hashes the path of a workspace wrapper into the names of files.
    pub fn another(&self) -> Self {
        Self::assemble(Some(self.store().to_owned()), |_| self.guard().clone(), Some(self.clone()))
    }

    fn build(toolchain: &Toolchain, store: Option<PathBuf>) -> Self {
        Self::assemble(store, |root| toolchain.guard(&root.join("toolchain")), None)
    }

    fn assemble(store: Option<PathBuf>, guard: impl FnOnce(&Path) -> Guard, first: Option<Machine>) -> Self {
        let root = tempfile::Builder::new().prefix("nixcache-test-").tempdir().unwrap();
        for directory in ["home", "cargo", "temporary", "work"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let guard = guard(root.path());
        let store = store.unwrap_or_else(|| {
            let own = root.path().join("store");
            toolchain_notes::give(&own);
            own
        });
        // In a file rather than a variable, so that a workspace with a registry of its own can say otherwise.
        std::fs::write(root.path().join("cargo/config.toml"), "[net]\noffline = true\n").unwrap();
        let machine = Self { inner: Rc::new(Inner { root, store, guard, _first: first }) };
        machine.seed(&repository().join("examples/workspace"));
        machine
    }

    /// Puts what the lock file of a workspace names into cargo's home, as if it had been downloaded.
    pub fn seed(&self, workspace: &Path) {
        registry::seed(&self.cargo_home(), workspace);
    }

    /// Leaves the directories of this machine and of those that it came from where they are.
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// The directory that everything of this machine is in.
    pub fn root(&self) -> &Path {
        self.inner.root.path()
    }

    /// The local store.
    pub fn store(&self) -> &Path {
        &self.inner.store
    }

    /// Cargo's home.
    pub fn cargo_home(&self) -> PathBuf {
        self.root().join("cargo")
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.inner.guard
    }

    /// An empty workspace directory. Names may hold slashes.
    pub fn workspace(&self, name: &str) -> Workspace {
        Workspace::new(self.clone(), self.root().join("work").join(name))
    }

    /// A checkout of `examples/workspace`.
    pub fn example(&self, name: &str) -> Workspace {
        let workspace = self.workspace(name);
        crate::copy_tree(&repository().join("examples/workspace"), workspace.root(), &["target"]);
        workspace
    }

    /// The whole environment of a process on this machine.
    pub(crate) fn environment(&self) -> BTreeMap<OsString, OsString> {
        let path =
            [self.guard().binaries(), binary_directory().to_owned()].into_iter().chain(SYSTEM_PATH.map(PathBuf::from));
        BTreeMap::from([
            ("PATH".into(), std::env::join_paths(path).unwrap()),
            ("HOME".into(), self.root().join("home").into()),
            ("TMPDIR".into(), self.root().join("temporary").into()),
            ("CARGO_HOME".into(), self.cargo_home().into()),
            ("CARGO_TERM_COLOR".into(), "never".into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("NIXCACHE_STORE".into(), self.store().into()),
            // A busy machine is no slow cache: what is there must be fetched.
            ("NIXCACHE_PATIENCE".into(), "unlimited".into()),
        ])
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        toolchain_notes::take(&self.store);
    }
}

/// What stores note of the toolchain's libraries, which are half a gigabyte: the machines of one process have the same
/// toolchains, so only the first one reads them. Without this it is a twelfth of the time of all scenarios.
mod toolchain_notes {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    fn notes() -> MutexGuard<'static, BTreeMap<OsString, Vec<u8>>> {
        static NOTES: Mutex<BTreeMap<OsString, Vec<u8>>> = Mutex::new(BTreeMap::new());
        NOTES.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps those of a store.
    pub(super) fn take(store: &Path) {
        for entry in fs::read_dir(store.join("machine")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("libraries-")
                && let Ok(text) = fs::read(entry.path())
            {
                notes().entry(name).or_insert(text);
            }
        }
    }

    /// Puts them into a store that is to be.
    pub(super) fn give(store: &Path) {
        for (name, text) in notes().iter() {
            fs::create_dir_all(store.join("machine")).unwrap();
            fs::write(store.join("machine").join(name), text).unwrap();
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}
