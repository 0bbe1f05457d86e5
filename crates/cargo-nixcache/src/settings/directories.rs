//! The platform's directories for one user.

use camino::Utf8PathBuf;

/// Where one user's caches and configuration are.
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

    /// Where the user's secret key lies, if nothing else is said.
    pub(crate) fn key_file(&self) -> Option<Utf8PathBuf> {
        self.configuration.as_ref().map(|directory| directory.join("cargo-nixcache").join("secret-key"))
    }
}
