//! A scratch directory with a Nix, the flake helper, packages to build with, and crates to depend on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nixcache_tests::{binary_directory, copy_tree, repository, skipped};

const CONFIGURATION: &str = "experimental-features = nix-command flakes
build-users-group =
substituters =
flake-registry =
allow-import-from-derivation = false
warn-dirty = false
max-jobs = 2
";

/// See the module.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    /// What a sandbox shows of this machine beside programs and toolchain.
    shown: Vec<PathBuf>,
}

impl Place {
    /// A place with the helper and the stand-in for nixpkgs. `None` where there is no Nix.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if Command::new(program("nix-store")).arg("--version").output().is_err() {
            skipped(test, "nix-store, of Debian's nix-bin");
            return None;
        }
        let mut place = Self { directory: tempfile::tempdir().unwrap(), shown: Vec::new() };
        place.shown.push(place.path("crates"));
        fs::create_dir_all(place.path("home")).unwrap();
        fs::create_dir_all(place.path("crates")).unwrap();
        copy_tree(&repository().join("nix"), &place.path("nix"), &[]);
        copy_tree(&repository().join("tests/nix/stand-in"), &place.path("stand-in"), &[]);
        place.write("stand-in/host.nix", &host());
        place.write(
            "lib.nix",
            "let
               pkgs = import ./stand-in { };
               base = import ./nix/lib.nix { inherit pkgs; };
             in
             base.appendCrateRegistries [
               (base.registryFromDownloadUrl {
                 indexUrl = \"https://github.com/rust-lang/crates.io-index\";
                 dl = \"file://${toString ./crates}/{crate}-{version}.crate\";
               })
             ]\n",
        );
        Some(place)
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn edit(&self, relative: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(relative)).unwrap();
        assert!(text.contains(from), "{relative} has no {from}");
        self.write(relative, &text.replace(from, to));
    }

    /// Lets builders see a directory that downloads come from, also in a sandbox.
    pub(crate) fn show(&mut self, path: PathBuf) {
        self.shown.push(path);
    }

    /// Builders run in a sandbox where `NIXCACHE_TEST_SANDBOX` is set: with this machine's programs, read-only, and
    /// without a network, but for what is downloaded.
    fn sandbox(&self) -> String {
        if std::env::var_os("NIXCACHE_TEST_SANDBOX").is_none_or(|value| value.is_empty()) {
            return "sandbox = false\n".to_owned();
        }
        let host = fs::read_to_string(self.path("stand-in/host.nix")).unwrap();
        let named = host.split('"').filter(|word| word.starts_with('/') && !word.contains(':')).map(PathBuf::from);
        // Toolchains are links to each other.
        let named = named.filter_map(|path| Some([path.clone(), path.canonicalize().ok()?])).flatten();
        let system = ["/bin", "/etc/alternatives", "/lib", "/lib64", "/usr"].map(PathBuf::from);
        let all: Vec<PathBuf> = system.into_iter().chain(named).chain(self.shown.clone()).collect();
        // None that is in another one: Nix makes an empty file to mount a file on, and in a directory that is mounted
        // already that is the machine's own file.
        let is_alone = |path: &&PathBuf| !all.iter().any(|other| *path != other && path.starts_with(other));
        let paths: Vec<String> = all.iter().filter(is_alone).map(|path| format!("{}?", path.display())).collect();
        format!("sandbox = true\nsandbox-fallback = false\nsandbox-paths = {}\n", paths.join(" "))
    }

    /// A Nix program's outcome.
    pub(crate) fn nix(&self, tool: &str, arguments: &[&str]) -> Output {
        Command::new(program(tool))
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("NIX_STORE_DIR", self.path("store"))
            .env("NIX_STATE_DIR", self.path("state"))
            .env("NIX_LOG_DIR", self.path("log"))
            .env("NIX_CONF_DIR", self.path("configuration"))
            .env("NIX_CONFIG", format!("{CONFIGURATION}{}", self.sandbox()))
            .output()
            .expect("Nix starts")
    }

    /// What it prints, and its log.
    #[track_caller]
    pub(crate) fn succeed(&self, tool: &str, arguments: &[&str]) -> (String, String) {
        let output = self.nix(tool, arguments);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{tool} {arguments:?}: {log}");
        (String::from_utf8(output.stdout).unwrap().trim().to_owned(), log)
    }

    /// The log of what fails.
    #[track_caller]
    pub(crate) fn fail(&self, tool: &str, arguments: &[&str]) -> String {
        let output = self.nix(tool, arguments);
        assert!(!output.status.success(), "{tool} {arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// This repository's flake, and the arguments that put the stand-in in the place of its inputs, which are `prefix` and
    /// their name (`nixcache/` for who has the flake as an input).
    pub(crate) fn flake(&self, prefix: &str) -> (String, Vec<String>) {
        let repository = repository();
        for directory in ["crates", "examples/server", "nix", "tests"] {
            copy_tree(&repository.join(directory), &self.path("flake").join(directory), &[]);
        }
        for file in ["flake.nix", "Cargo.toml", "Cargo.lock"] {
            fs::copy(repository.join(file), self.path("flake").join(file)).unwrap();
        }
        // Nobody builds through crane here, so nobody reads it.
        self.write("crane/flake.nix", "{ outputs = _: { mkLib = throw \"crane was read\"; }; }\n");
        let mut arguments = vec!["--no-write-lock-file".to_owned()];
        for (input, directory) in [("nixpkgs", "stand-in"), ("crane", "crane")] {
            arguments.push("--override-input".to_owned());
            arguments.push(format!("{prefix}{input}"));
            arguments.push(format!("path:{}", self.path(directory).display()));
        }
        (format!("path:{}", self.path("flake").display()), arguments)
    }

    /// The value of an expression in which `lib` is the helper.
    #[track_caller]
    pub(crate) fn evaluate(&self, expression: &str) -> serde_json::Value {
        let whole = format!("let lib = import ./lib.nix; in {expression}");
        let (json, _) = self.succeed("nix-instantiate", &["--eval", "--strict", "--json", "--expr", &whole]);
        serde_json::from_str(&json).unwrap()
    }

    /// What an expression says that can't be evaluated.
    #[track_caller]
    pub(crate) fn evaluation_error(&self, expression: &str) -> String {
        let whole = format!("let lib = import ./lib.nix; in {expression}");
        self.fail("nix-instantiate", &["--eval", "--strict", "--json", "--expr", &whole])
    }

    /// The same where the store is `/nix/store`. None is needed: nothing is written.
    #[track_caller]
    pub(crate) fn evaluation_error_in_nix_store(&self, expression: &str) -> String {
        let whole = format!("let lib = import ./lib.nix; in {expression}");
        let store = ["--option", "store", "dummy://?store=/nix/store"];
        self.fail("nix-instantiate", &[&["--eval", "--strict", "--json", "--expr", &whole][..], &store].concat())
    }

    /// Builds an expression; gives the output and the log.
    #[track_caller]
    pub(crate) fn build(&self, expression: &str) -> (PathBuf, String) {
        let whole = format!("let lib = import ./lib.nix; in {expression}");
        let (path, log) = self.succeed("nix-build", &["--no-out-link", "--expr", &whole]);
        (path.lines().last().unwrap().into(), log)
    }

    /// The derivations of an attribute set, by name.
    #[track_caller]
    pub(crate) fn derivations(&self, expression: &str) -> std::collections::BTreeMap<String, String> {
        let value = self.evaluate(&format!("builtins.mapAttrs (_: drv: drv.drvPath) ({expression})"));
        serde_json::from_value(value).unwrap()
    }

    /// Packs a library for `crates`, and gives its entry for a lock file.
    pub(crate) fn publish(&self, name: &str, version: &str, source: &str, dependencies: &[&str]) -> String {
        let label = format!("{name}-{version}");
        let lines: String = dependencies.iter().map(|dependency| format!("{dependency} = \"1\"\n")).collect();
        self.write(
            &format!("unpacked/{label}/Cargo.toml"),
            &format!(
                "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2024\"\n\n[dependencies]\n{lines}"
            ),
        );
        self.write(&format!("unpacked/{label}/src/lib.rs"), source);
        let file = self.path(&format!("crates/{label}.crate"));
        let packed =
            Command::new("tar").arg("-czf").arg(&file).arg("-C").arg(self.path("unpacked")).arg(&label).status();
        assert!(packed.unwrap().success());
        let sum = Command::new("sha256sum").arg(&file).output().unwrap().stdout;
        let sum = String::from_utf8(sum).unwrap().split_whitespace().next().unwrap().to_owned();
        let dependencies: Vec<String> = dependencies.iter().map(|dependency| format!(" \"{dependency}\",\n")).collect();
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{sum}\"\n\
             dependencies = [\n{}]\n\n",
            dependencies.concat()
        )
    }

    /// `ws`, a workspace: `app` needs `library`, `other` stands alone, and all of them need crates.
    pub(crate) fn workspace(&self) {
        let base = self.publish("base", "1.0.0", "pub fn number() -> u32 { 40 }\n", &[]);
        let part = self.publish("part", "1.0.0", "pub fn number() -> u32 { base::number() + 2 }\n", &["base"]);
        self.write("ws/Cargo.lock", &lock("0.1.0", &format!("{base}{part}")));
        self.write(
            "ws/Cargo.toml",
            "[workspace]\nmembers = [\"app\", \"library\", \"other\"]\nresolver = \"3\"\n\n\
             [workspace.package]\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        );
        let member = |name: &str, dependencies: &str, file: &str, source: &str| {
            self.write(
                &format!("ws/{name}/Cargo.toml"),
                &format!(
                    "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\n\n\
                     [dependencies]\n{dependencies}"
                ),
            );
            self.write(&format!("ws/{name}/src/{file}"), source);
        };
        member(
            "app",
            "library = { path = \"../library\", version = \"0.1\" }\npart = \"1\"\n",
            "main.rs",
            "fn main() {\n    println!(\"{} {}\", part::number(), library::text());\n}\n\n\
             #[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {\n        assert_eq!(part::number(), 42);\n    }\n}\n",
        );
        member(
            "library",
            "base = \"1\"\n",
            "lib.rs",
            "pub fn text() -> String {\n    format!(\"library {}\", base::number())\n}\n",
        );
        member("other", "part = \"1\"\n", "main.rs", "fn main() {\n    println!(\"other {}\", part::number());\n}\n");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nix makes its store read-only.
        let _ = Command::new("chmod").arg("-R").arg("u+w").arg(self.directory.path()).output();
    }
}

/// The lock file of [`Place::workspace`], at a version of its members.
pub(crate) fn lock(version: &str, crates: &str) -> String {
    format!(
        "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"{version}\"\ndependencies = [\n \"library\",\n \"part\",\n]\n\n\
         [[package]]\nname = \"library\"\nversion = \"{version}\"\ndependencies = [\n \"base\",\n]\n\n\
         [[package]]\nname = \"other\"\nversion = \"{version}\"\ndependencies = [\n \"part\",\n]\n\n{crates}"
    )
}

fn program(name: &str) -> PathBuf {
    match std::env::var_os("NIXCACHE_TEST_NIX") {
        Some(directory) => Path::new(&directory).join(name),
        None => name.into(),
    }
}

/// A program of this machine.
pub(crate) fn program_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Where this machine has its programs, as the stand-in reads it.
fn host() -> String {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).current_dir(repository()).output().unwrap().stdout;
    let toolchain = String::from_utf8(sysroot).unwrap();
    let find =
        |name: &str| program_in_path(name).unwrap_or_else(|| Path::new("/nowhere").join(name)).display().to_string();
    format!(
        "{{\n  toolchain = \"{}\";\n  path = \"/usr/local/bin:/usr/bin:/bin\";\n  zstd = \"{}\";\n  curl = \"{}\";\n  \
         cargo-nextest = \"{}\";\n  cargo-nixcache = \"{}\";\n}}\n",
        toolchain.trim(),
        find("zstd"),
        find("curl"),
        find("cargo-nextest"),
        binary_directory().join("cargo-nixcache").display(),
    )
}
