//! Settings: flags over variables over the workspace's `nixcache.toml` over its `[workspace.metadata.nixcache]` over
//! the user's configuration file. Each knows where it came from, so that `config` can show it.
//!
//! A new setting is a field of [`Settings`], an option in `arguments`, a key in [`files`], and a line in
//! [`Settings::settle`].

mod additions;
mod caches;
mod directories;
mod files;
mod patience;
mod size;

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

pub(crate) use self::size::parse_size;
use crate::arguments::Options;
use crate::report::bytes;

pub(crate) use self::additions::{AdditionError, Additions};
pub(crate) use self::caches::CacheSettings;
pub(crate) use self::directories::Directories;
pub(crate) use self::files::{Author, ConfigurationFile, nearest_manifest, read_files};
pub(crate) use self::patience::Patience;

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
    /// A patience is none.
    #[error("{text:?} is no time to wait for caches: write a number of seconds, or `unlimited`")]
    Patience {
        /// What was given.
        text: String,
    },
    /// A cache's URL is none that is known.
    #[error("this cache can't be used")]
    CacheUrl {
        /// What is wrong with it.
        #[source]
        source: nixcache_remote::CacheUrlError,
    },
    /// A trusted key is none.
    #[error("this key can't be used")]
    Key {
        /// What is wrong with it.
        #[source]
        source: nixcache_core::nix::signature::KeyError,
    },
    /// A value can't be used.
    #[error("{origin}")]
    Given {
        /// Who gave it.
        origin: Origin,
        /// Why not.
        #[source]
        source: Box<SettingsError>,
    },
    /// A workspace says where to write.
    #[error("{file} sets `{key}`, which a workspace must not: set it in your own file, by a flag or a variable")]
    NotForWorkspaces {
        /// The file, as people name it.
        file: String,
        /// The key.
        key: &'static str,
    },
    /// No cache directory is known.
    #[error("the platform names no cache directory: give one with --store or NIXCACHE_STORE")]
    NoCacheDirectory,
}

impl SettingsError {
    /// The same, with who gave the value.
    fn given_by(self, origin: &Origin) -> Self {
        Self::Given { origin: origin.clone(), source: Box::new(self) }
    }
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag on the command line.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A configuration file.
    File(String),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => formatter.write_str(name),
            Self::File(name) => formatter.write_str(name),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A setting as `config` shows it.
#[derive(Clone, Debug)]
pub(crate) struct ShownSetting {
    /// The key in a configuration file.
    pub(crate) key: &'static str,
    /// The value, as people read it; `None` if there is none.
    pub(crate) value: Option<String>,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// The options of the command line, and where they are from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenOptions<'a> {
    /// The options. Clap has put variables in the place of flags that are not there.
    pub(crate) options: &'a Options,
    /// The names of the fields that are from variables.
    pub(crate) from_variables: &'a [&'static str],
    /// Where relative paths begin.
    pub(crate) directory: &'a Utf8Path,
}

/// Everything that can be set, settled.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The local store's directory.
    pub(crate) store: Utf8PathBuf,
    /// The size that it may grow to, in bytes.
    pub(crate) store_size: Option<u64>,
    /// Where a summary is written.
    pub(crate) summary: Option<Utf8PathBuf>,
    /// Whether paths of members are remapped when they are compiled. Members with plain paths are hits only
    /// in the same directory.
    pub(crate) remap_members: bool,
    /// Caches and keys.
    pub(crate) caches: CacheSettings,
    /// Where a new secret key goes, if nothing else is said.
    pub(crate) default_key_file: Option<Utf8PathBuf>,
    /// All of them, to be shown.
    pub(crate) shown: Vec<ShownSetting>,
    /// The files that could have said something.
    pub(crate) files: Vec<ConfigurationFile>,
}

impl Settings {
    /// Settles the settings from the options and the configuration files, most specific first.
    pub(crate) fn settle(
        given: GivenOptions<'_>,
        files: Vec<ConfigurationFile>,
        directories: &Directories,
    ) -> Result<Self, SettingsError> {
        let GivenOptions { options, from_variables, directory } = given;
        // A workspace comes from anybody. A store of its own would hold artifacts that nobody vouches for, and a summary
        // would be written over any file.
        for file in files.iter().filter(|file| file.author == Author::Workspace) {
            let keys = [("store", &file.content.store), ("summary", &file.content.summary)];
            if let Some((key, _)) = keys.into_iter().find(|(_, path)| path.is_some()) {
                return Err(SettingsError::NotForWorkspaces { file: file.name(), key });
            }
        }
        let source = |field, flag, variable| {
            if from_variables.contains(&field) { Origin::Variable(variable) } else { Origin::Flag(flag) }
        };
        let path = |given: &Option<Utf8PathBuf>, origin: Origin, of: fn(&ConfigurationFile) -> Option<&Utf8PathBuf>| {
            // An empty variable is no path.
            let given = given.as_ref().filter(|path| !path.as_str().is_empty());
            let given = given.map(|path| (directory.join(path), origin));
            given.or_else(|| first(&files, |file| of(file).map(|path| file.resolve(path))))
        };

        let store = path(&options.store, source("store", "--store", "NIXCACHE_STORE"), |f| f.content.store.as_ref());
        let default = || Some((directories.cache.as_ref()?.join("cargo-nixcache"), Origin::Default));
        let (store, store_origin) = store.or_else(default).ok_or(SettingsError::NoCacheDirectory)?;

        let size_origin = source("store_size", "--store-size", "NIXCACHE_STORE_SIZE");
        let size = options.store_size.clone().filter(|text| !text.is_empty()).map(|text| (text, size_origin));
        let (store_size, size_origin) = match size.or_else(|| first(&files, |f| f.content.store_size.clone())) {
            Some((text, origin)) => (parse_size(&text).map_err(|error| error.given_by(&origin))?, origin),
            None => (DEFAULT_STORE_SIZE, Origin::Default),
        };
        let store_size = (store_size > 0).then_some(store_size);

        let summary =
            path(&options.summary, source("summary", "--summary", "NIXCACHE_SUMMARY"), |f| f.content.summary.as_ref());
        let (summary, summary_origin) = summary.map_or((None, Origin::Default), |(path, origin)| (Some(path), origin));

        let remap = first(&files, |file| file.content.members.remap_paths);
        let (remap_members, remap_origin) = remap.unwrap_or((true, Origin::Default));

        let show = |key, value, origin| ShownSetting { key, value, origin };
        let mut shown = vec![
            show("store", Some(store.to_string()), store_origin),
            show("store-size", store_size.map(bytes), size_origin),
            show("summary", summary.as_ref().map(Utf8PathBuf::to_string), summary_origin),
            show("members.remap-paths", Some(remap_members.to_string()), remap_origin),
        ];
        let default_key_file = directories.key_file();
        let caches = CacheSettings::settle(given, &files, default_key_file.as_deref(), &mut shown)?;
        Ok(Self { store, store_size, summary, remap_members, caches, default_key_file, shown, files })
    }
}

impl Settings {
    /// The user's own file, if the platform has a place for it.
    pub(crate) fn user_file(&self) -> Option<&ConfigurationFile> {
        self.files.iter().find(|file| file.author == Author::User)
    }
}

/// The first file that says something.
fn first<T>(files: &[ConfigurationFile], of: impl Fn(&ConfigurationFile) -> Option<T>) -> Option<(T, Origin)> {
    files.iter().find_map(|file| Some((of(file)?, Origin::File(file.name()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, author: Author, text: &str) -> ConfigurationFile {
        let content = toml::from_str(text).unwrap();
        ConfigurationFile { path: path.into(), table: None, author, present: true, content }
    }

    fn settle(options: &Options, from_variables: &[&'static str]) -> Settings {
        let files = vec![
            file("/work/nixcache.toml", Author::Workspace, "store-size = '2GiB'"),
            file(
                "/home/config.toml",
                Author::User,
                "store = 'user'\nsummary = '/tmp/summary.json'\nstore-size = '1GiB'\nmembers.remap-paths = false",
            ),
        ];
        let given = GivenOptions { options, from_variables, directory: Utf8Path::new("/here") };
        Settings::settle(given, files, &Directories::default()).unwrap()
    }

    fn origin(settings: &Settings, key: &str) -> String {
        settings.shown.iter().find(|shown| shown.key == key).unwrap().origin.to_string()
    }

    #[test]
    fn flags_win_over_variables_over_the_workspace_over_the_user() {
        let none = settle(&Options::default(), &[]);
        assert_eq!((none.store.as_str(), none.store_size, none.remap_members), ("/home/user", Some(2 << 30), false));
        assert_eq!(none.summary.as_deref(), Some(Utf8Path::new("/tmp/summary.json")));
        assert_eq!(origin(&none, "store-size"), "/work/nixcache.toml");
        assert_eq!(origin(&none, "members.remap-paths"), "/home/config.toml");
        let options = Options { store: Some("flag".into()), store_size: Some("0".to_owned()), ..Options::default() };
        let given = settle(&options, &["store_size"]);
        assert_eq!((given.store.as_str(), given.store_size), ("/here/flag", None));
        assert_eq!(
            (origin(&given, "store"), origin(&given, "store-size")),
            ("--store".into(), "NIXCACHE_STORE_SIZE".into())
        );
    }

    #[test]
    fn an_empty_variable_says_nothing() {
        let options = Options { store: Some("".into()), store_size: Some(String::new()), ..Options::default() };
        let settings = settle(&options, &["store", "store_size"]);
        assert_eq!((settings.store.as_str(), settings.store_size), ("/home/user", Some(2 << 30)));
    }

    #[test]
    fn a_workspace_does_not_say_where_to_write() {
        for key in ["store", "summary"] {
            let files = vec![file("/work/nixcache.toml", Author::Workspace, &format!("{key} = 'x'"))];
            let options = Options::default();
            let given = GivenOptions { options: &options, from_variables: &[], directory: Utf8Path::new("/here") };
            let error = Settings::settle(given, files, &Directories::default()).unwrap_err();
            assert!(matches!(&error, SettingsError::NotForWorkspaces { key: found, .. } if *found == key), "{error}");
        }
    }

    #[test]
    fn without_any_word_the_store_is_in_the_cache_directory() {
        let directories = Directories { cache: Some("/cache".into()), configuration: None };
        let options = Options::default();
        let given = GivenOptions { options: &options, from_variables: &[], directory: Utf8Path::new("/here") };
        let settings = Settings::settle(given, Vec::new(), &directories).unwrap();
        assert_eq!(settings.store, "/cache/cargo-nixcache");
        assert!(settings.shown.iter().all(|shown| shown.origin == Origin::Default));
        assert!(matches!(
            Settings::settle(given, Vec::new(), &Directories::default()),
            Err(SettingsError::NoCacheDirectory)
        ));
    }
}
