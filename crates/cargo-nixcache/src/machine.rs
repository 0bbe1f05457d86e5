//! What is remembered of this machine alone, so that it need not be asked again: the toolchains, and cargo's
//! own notes on them. Kept beside the store, never part of it, and never sent anywhere.
//!
//! ```text
//! <store>/machine/
//!     toolchain-<digest of what was asked>.json
//!     libraries-<digest of names, sizes and times>.txt     what is in the libraries of a toolchain
//!     rustc-info-<digest of compiler and wrapper>.json     cargo's `.rustc_info.json`
//!     launcher/                                            see `launcher`
//! ```

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::arguments::CargoCommand;
use nixcache_core::cargo::config::BuildConfiguration;
use nixcache_core::cargo::toolchain::{Programs, Toolchain, ToolchainError};
use nixcache_core::digest::ContentDigest;
use nixcache_core::environment::Environment;
use nixcache_core::store::{FileFacts, hash_file};

const RUSTC_INFO: &str = ".rustc_info.json";

/// The memory.
pub(crate) struct MachineCache {
    directory: Utf8PathBuf,
}

impl MachineCache {
    /// The memory beside the store in `store`.
    pub(crate) fn new(store: &Utf8Path) -> Self {
        Self { directory: store.join("machine") }
    }

    /// The toolchain of a build. It is asked only if a program or a flag is not what it was.
    pub(crate) fn toolchain(
        &self,
        programs: &Programs,
        environment: &Environment,
        config: &BuildConfiguration,
        command: &CargoCommand,
    ) -> Result<Toolchain, ToolchainError> {
        let identity = Toolchain::identity(programs, environment, config, command)?;
        let identity = serde_json::to_vec(&identity).unwrap_or_default();
        let path = self.directory.join(format!("toolchain-{}.json", ContentDigest::of(&identity)));
        let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(toolchain) = known {
            return Ok(toolchain);
        }
        let toolchain = Toolchain::discover(programs, environment, config, command)?;
        if let Ok(text) = serde_json::to_vec(&toolchain) {
            self.write(&path, &text);
        }
        Ok(toolchain)
    }

    /// What is in these files, by name. They are read only if one of them may have changed: a file's change time can't be
    /// set back. One that can't be read stands there without its content.
    pub(crate) fn contents(&self, files: &[Utf8PathBuf]) -> String {
        let facts = |file: &Utf8PathBuf| std::fs::metadata(file).ok().map(|metadata| FileFacts::of_metadata(&metadata));
        let states = files.iter().map(|file| format!("{file} {:?}\n", facts(file))).collect::<String>();
        let path = self.directory.join(format!("libraries-{}.txt", ContentDigest::of(states.as_bytes())));
        if let Ok(known) = std::fs::read_to_string(&path) {
            return known;
        }
        let content = |file: &Utf8PathBuf| {
            let digest = hash_file(file).map_or_else(|_| "unreadable".to_owned(), |hashed| hashed.digest.to_string());
            format!("{} {digest}\n", file.file_name().unwrap_or_default())
        };
        let (first, second) = files.split_at(files.len() / 2);
        let all = |files: &[Utf8PathBuf]| files.iter().map(content).collect::<String>();
        let text = std::thread::scope(|scope| {
            let first = scope.spawn(|| all(first));
            let second = all(second);
            first.join().expect("to read files doesn't panic") + &second
        });
        self.write(&path, text.as_bytes());
        text
    }

    /// Puts cargo's notes on the compiler where it looks for them, if it has none that fit: they spare it three
    /// calls of rustc. Cargo compares them with the compiler itself.
    pub(crate) fn place_rustc_info(&self, build_directory: &Utf8Path, key: &str) {
        if let Ok(text) = std::fs::read(self.rustc_info(key)) {
            let path = build_directory.join(RUSTC_INFO);
            if std::fs::read(&path).is_ok_and(|present| present == text) {
                return;
            }
            // Without them cargo asks the compiler: nothing is lost.
            let _ = replace(&path, &text);
        }
    }

    /// Remembers cargo's notes on the compiler.
    pub(crate) fn keep_rustc_info(&self, build_directory: &Utf8Path, key: &str) {
        if let Ok(text) = std::fs::read(build_directory.join(RUSTC_INFO)) {
            let path = self.rustc_info(key);
            if !std::fs::read(&path).is_ok_and(|present| present == text) {
                self.write(&path, &text);
            }
        }
    }

    fn rustc_info(&self, key: &str) -> Utf8PathBuf {
        self.directory.join(format!("rustc-info-{}.json", ContentDigest::of(key.as_bytes())))
    }

    fn write(&self, path: &Utf8Path, text: &[u8]) {
        // It is a memory: what cannot be written is asked again.
        let _ = std::fs::create_dir_all(&self.directory).and_then(|()| replace(path, text));
    }
}

fn replace(path: &Utf8Path, text: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}
