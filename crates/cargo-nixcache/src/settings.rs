//! Settings: flags over variables over the workspace's `nixcache.toml` over its `[workspace.metadata.nixcache]`
//! over the user's configuration file.

use camino::{Utf8Path, Utf8PathBuf};

use serde::Deserialize;

use crate::arguments::Options;

/// The store's default size: a handful of large workspaces in several profiles.
const DEFAULT_STORE_SIZE: u64 = 20 << 30;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A configuration file is broken.
    #[error("{path} is not a valid configuration file")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong in it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A size is not one.
    #[error("{text:?} is not a size: write a number and B, KiB, MiB, GiB or TiB")]
    Size {
        /// What was given.
        text: String,
    },
    /// No cache directory is known.
    #[error("the platform names no cache directory: give one with --store or NIXCACHE_STORE")]
    NoCacheDirectory,
}

/// What the configuration files may hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ConfigurationFile {
    /// The local store's directory.
    store: Option<Utf8PathBuf>,
    /// The size that it may grow to.
    store_size: Option<String>,
    /// How members are treated.
    members: MembersTable,
}

/// `[members]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct MembersTable {
    /// Whether paths of members are remapped when they are compiled.
    remap_paths: Option<bool>,
}

/// Everything that can be set, settled.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The local store's directory.
    pub(crate) store: Utf8PathBuf,
    /// The size that it may grow to, in bytes.
    pub(crate) store_size: Option<u64>,
    /// Whether paths of members are remapped when they are compiled. Members with plain paths are hits only
    /// in the same directory.
    pub(crate) remap_members: bool,
}

impl Settings {
    /// Settles the settings from the options and the configuration files, most specific first.
    pub(crate) fn settle(
        options: &Options,
        files: &[ConfigurationFile],
        directories: &Directories,
    ) -> Result<Self, SettingsError> {
        let first = |value: fn(&ConfigurationFile) -> Option<&String>| files.iter().find_map(value).cloned();
        let store = options
            .store
            .clone()
            .or_else(|| files.iter().find_map(|file| file.store.clone()))
            .or_else(|| directories.cache.as_ref().map(|cache| cache.join("cargo-nixcache")))
            .ok_or(SettingsError::NoCacheDirectory)?;
        let store_size = match options.store_size.clone().or_else(|| first(|file| file.store_size.as_ref())) {
            Some(text) => parse_size(&text)?,
            None => DEFAULT_STORE_SIZE,
        };
        let remap_members = files.iter().find_map(|file| file.members.remap_paths).unwrap_or(true);
        Ok(Self { store, store_size: (store_size > 0).then_some(store_size), remap_members })
    }
}

/// The platform's directories for one user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directories {
    /// Where caches go.
    pub(crate) cache: Option<Utf8PathBuf>,
    /// Where configuration is.
    pub(crate) configuration: Option<Utf8PathBuf>,
}

impl Directories {
    /// The directories by the platform's rules, from the environment.
    pub(crate) fn from_environment(get: impl Fn(&str) -> Option<Utf8PathBuf>) -> Self {
        let absolute = |name: &str| get(name).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        if cfg!(windows) {
            return Self { cache: absolute("LOCALAPPDATA"), configuration: absolute("APPDATA") };
        }
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        if cfg!(target_os = "macos") {
            return Self {
                cache: below_home("Library/Caches"),
                configuration: below_home("Library/Application Support"),
            };
        }
        Self {
            cache: absolute("XDG_CACHE_HOME").or_else(|| below_home(".cache")),
            configuration: absolute("XDG_CONFIG_HOME").or_else(|| below_home(".config")),
        }
    }

    /// The user's configuration file.
    pub(crate) fn user_file(&self) -> Option<Utf8PathBuf> {
        self.configuration.as_ref().map(|directory| directory.join("cargo-nixcache").join("config.toml"))
    }
}

/// Reads a configuration file; one that does not exist is empty.
pub(crate) fn read_file(path: &Utf8Path) -> Result<ConfigurationFile, SettingsError> {
    let broken =
        |source: Box<dyn std::error::Error + Send + Sync>| SettingsError::File { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| broken(Box::new(error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ConfigurationFile::default()),
        Err(error) => Err(broken(Box::new(error))),
    }
}

/// Parses `20GiB`, `500 MB`, `0`. Decimal and binary units are what they say.
fn parse_size(text: &str) -> Result<u64, SettingsError> {
    let wrong = || SettingsError::Size { text: text.to_owned() };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    Ok((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("20GiB").unwrap(), 20 << 30);
        assert_eq!(parse_size("1.5 MB").unwrap(), 1_500_000);
        assert_eq!(parse_size("0").unwrap(), 0);
        assert!(parse_size("many").is_err());
        assert!(parse_size("5 parsecs").is_err());
    }

    #[test]
    fn flags_win_over_files_and_the_first_file_over_the_second() {
        let file = |text: &str| toml::from_str::<ConfigurationFile>(text).unwrap();
        let files = [file("store = '/workspace'"), file("store = '/user'\nmembers.remap-paths = false")];
        let options = Options { store: Some("/flag".into()), ..Options::default() };
        let settle = |options: &Options| Settings::settle(options, &files, &Directories::default()).unwrap();
        assert_eq!(settle(&options).store, Utf8Path::new("/flag"));
        assert_eq!(settle(&Options::default()).store, Utf8Path::new("/workspace"));
        assert!(!settle(&options).remap_members);
        assert_eq!(settle(&options).store_size, Some(DEFAULT_STORE_SIZE));
        assert!(toml::from_str::<ConfigurationFile>("stroe = 'x'").is_err());
    }
}
