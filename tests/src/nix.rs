//! A Nix of its own for a test: its stores, configuration and home are in a scratch directory, and no cache is known to
//! it but those that the test names.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};

use crate::toolchain::skipped;

const CONFIGURATION: &str = "experimental-features = nix-command flakes
sandbox = false
build-users-group =
substituters =
narinfo-cache-negative-ttl = 0
connect-timeout = 5
";

/// The variable that names a recent Nix: a command, before `nix` and its arguments. `tests/run` sets it.
const MODERN: &str = "NIXCACHE_TEST_MODERN_NIX";

/// A Nix of its own.
#[derive(Debug)]
pub struct Nix {
    directory: tempfile::TempDir,
    /// What stands before the name of a tool.
    prefix: Vec<String>,
    features: &'static str,
    variables: Vec<(String, String)>,
    /// Whether `/nix` is the scratch directory's.
    owns_root: bool,
}

impl Nix {
    /// The Nix of this machine, or `None` where none is installed.
    pub fn installed(test: &str) -> Option<Self> {
        if Command::new("nix-store").arg("--version").output().is_err() {
            skipped(test, "nix-store, of Debian's nix-bin");
            return None;
        }
        Some(Self::none())
    }

    /// A recent one, or `None` where the environment names none.
    pub fn modern(test: &str) -> Option<Self> {
        let Some(command) = std::env::var(MODERN).ok().filter(|command| !command.is_empty()) else {
            skipped(test, "a recent Nix: tests/modern-nix sets one up");
            return None;
        };
        let mut nix = Self::none();
        nix.prefix = command.split_whitespace().map(str::to_owned).collect();
        Some(nix)
    }

    /// Every Nix that there is: that of this machine, and a recent one.
    pub fn all(test: &str) -> Vec<Self> {
        Self::installed(test).into_iter().chain(Self::modern(test)).collect()
    }

    /// The scratch directory alone, for what needs no Nix.
    pub fn none() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("home")).unwrap();
        Self { directory, prefix: Vec::new(), features: "", variables: Vec::new(), owns_root: false }
    }

    /// The same with more experimental features.
    #[must_use]
    pub fn with_features(mut self, features: &'static str) -> Self {
        self.features = features;
        self
    }

    /// Sets variables in everything that it runs from now on.
    pub fn set(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        self.variables.extend(variables);
    }

    /// The same with `nix` of the scratch directory in the place of `/nix`: a builder that is part of Nix can write to
    /// no other store than that. It needs root, or user namespaces and a `/nix`.
    #[must_use]
    pub fn with_own_root(mut self) -> Self {
        std::fs::create_dir_all(self.path("nix")).unwrap();
        self.owns_root = true;
        self
    }

    /// Something in the scratch directory.
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join(name)
    }

    /// Runs a tool (`nix`, `nix-store`, or anything) in the scratch directory.
    pub fn try_run(&self, tool: &str, arguments: &[&str]) -> Output {
        let mut words = self.prefix.clone();
        if self.owns_root {
            let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
            let namespaces = if is_root { "--mount" } else { "--mount --map-root-user" };
            words.push("unshare".to_owned());
            words.extend(namespaces.split(' ').map(str::to_owned));
            let script = "mkdir -p /nix; mount --bind \"$0\" /nix; exec \"$@\"";
            words.extend(["sh".to_owned(), "-ec".to_owned(), script.to_owned(), self.path("nix").into_string()]);
        }
        words.push(tool.to_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(arguments)
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("NIX_CONF_DIR", self.path("configuration"))
            .env("NIX_CONFIG", format!("{CONFIGURATION}extra-experimental-features = {}\n", self.features))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .expect("Nix starts")
    }

    /// Runs a tool, which must succeed. Gives what it wrote to standard output.
    #[track_caller]
    pub fn run(&self, tool: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.try_run(tool, arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} {arguments:?}: {complaint}");
        output.stdout
    }

    /// The same as text, without the end of the line.
    #[track_caller]
    pub fn line(&self, tool: &str, arguments: &[&str]) -> String {
        String::from_utf8(self.run(tool, arguments)).unwrap().trim_end().to_owned()
    }

    /// Substitutes a path from a cache into a store of the scratch directory, trusting `key`.
    pub fn substitute(&self, store: &str, path: &str, cache: &str, key: &str) -> Output {
        let trust = ["--option", "substituters", cache, "--option", "trusted-public-keys", key];
        self.try_run("nix-store", &[&["--store", self.path(store).as_str(), "-r", path][..], &trust].concat())
    }

    /// Whether it was built with S3. Debian's 2.8 is not, and says so.
    pub fn can_read_s3(&self) -> bool {
        let none = "s3://none?endpoint=127.0.0.1:9&scheme=http";
        let output = self.try_run("nix", &["path-info", "--store", none, "--all"]);
        let text = String::from_utf8_lossy(&output.stderr);
        !text.contains("don't know how to open Nix store") && !text.contains("not supported")
    }

    /// Forgets what caches have said.
    pub fn forget(&self) {
        // It isn't there if nothing was said.
        let _ = std::fs::remove_dir_all(self.path("home/.cache"));
    }
}

impl Drop for Nix {
    /// Nix takes the write permission from its directories, and then they can't be emptied.
    fn drop(&mut self) {
        make_writable(self.directory.path());
    }
}

fn make_writable(directory: &Path) {
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(directory).output();
}
