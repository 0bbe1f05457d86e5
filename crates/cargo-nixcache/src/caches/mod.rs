//! Caches, as a build uses them: opened from the settings, asked for what the store lacks, given what it holds.

mod fetch;
mod hints;
mod look;
mod publish;
mod sets;
mod teller;

use std::collections::BTreeMap;

use camino::Utf8Path;
use nixcache_core::environment::Environment;
use nixcache_core::nix::signature::KeyError;
use nixcache_core::nix::{SecretKey, StorePath};
use nixcache_remote::{
    CacheUrl, Credentials, Netrc, NetworkOptions, Pinned, Proxies, PublishReport, Remote, RemoteError, RemoteOptions,
    certificate_file,
};

pub(crate) use fetch::Fetch;
pub(crate) use look::{Seen, look};
pub(crate) use publish::{Publisher, artifact};
pub(crate) use sets::BuildSet;

use self::teller::Teller;
use crate::report::{Report, bytes, chain};
use crate::settings::CacheSettings;

/// Why caches can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CachesError {
    /// A file that the settings or the environment name can't be read.
    #[error("read {path}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file with the secret key holds something else.
    #[error("use the secret key in {path}")]
    SecretKey {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// The file with the secret key can't be read.
    #[error("read the secret key in {path}")]
    SecretKeyFile {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// There is somewhere to publish to, and nothing to sign with.
    #[error("publish: no secret key is set; make one with `cargo nixcache key generate NAME`")]
    NoSecretKey,
    /// `push` without a cache to publish to.
    #[error("publish: no cache is set; name one with --publish or in `publish`")]
    NowhereToPublish,
    /// `pull` without a cache to fetch from.
    #[error("fetch: no cache is set; name one with --cache or in `caches`")]
    NowhereToFetch,
    /// A setting leaves no cache.
    #[error("use caches: `{setting}` leaves none")]
    SwitchedOff {
        /// The setting.
        setting: &'static str,
    },
    /// `pull` with caches of which none answered.
    #[error("fetch: no cache could be used")]
    NoneUsable,
    /// The network can't be used.
    #[error("use caches")]
    Remote(#[from] RemoteError),
}

impl CachesError {
    /// Whether it keeps from publishing alone.
    pub(crate) fn is_of_signing(&self) -> bool {
        matches!(self, Self::SecretKey { .. } | Self::SecretKeyFile { .. } | Self::NoSecretKey)
    }
}

/// Opens the caches that the settings name; `None` if they name none.
pub(crate) fn open(
    settings: &CacheSettings,
    environment: &Environment,
    report: Report,
) -> Result<Option<Remote>, CachesError> {
    open_pinned(settings, environment, report, BTreeMap::new())
}

/// Opens them to fetch paths whose content is known.
pub(crate) fn open_pinned(
    settings: &CacheSettings,
    environment: &Environment,
    report: Report,
    pinned: BTreeMap<StorePath, Pinned>,
) -> Result<Option<Remote>, CachesError> {
    if settings.fetch.is_empty() && settings.publish.is_empty() {
        return Ok(None);
    }
    let credentials = credentials(settings, environment)?;
    let network = network(environment)?;
    let secret_key = secret_key(settings)?;
    let options = RemoteOptions {
        caches: settings.fetch.clone(),
        publish: settings.publish.clone(),
        trusted_keys: settings.trusted_keys.clone(),
        pinned,
        secret_key,
        credentials,
        network,
    };
    let teller = Teller::new(report);
    Ok(Some(Remote::new(options, move |event| teller.tell(&event))?))
}

/// Everything that proves to caches who the user is.
pub(crate) fn credentials(settings: &CacheSettings, environment: &Environment) -> Result<Credentials, CachesError> {
    let mut credentials = Credentials::from_environment(environment);
    if let Some(text) = netrc_text(settings, environment)? {
        credentials.netrc = Netrc::parse(&text);
    }
    if let Some(text) = optional(&aws_profiles(environment))? {
        credentials.aws.add_profiles(&text);
    }
    Ok(credentials)
}

/// The network, as the environment wants it used.
pub(crate) fn network(environment: &Environment) -> Result<NetworkOptions, CachesError> {
    let certificates = match certificate_file(environment) {
        Some(path) => Some(std::fs::read(path).map_err(|source| CachesError::File { path: path.to_owned(), source })?),
        None => None,
    };
    Ok(NetworkOptions { proxies: Proxies::from_environment(environment), certificates, ..NetworkOptions::default() })
}

/// The key that signs what is published; `None` if nothing is, or every cache signs by itself.
pub(crate) fn secret_key(settings: &CacheSettings) -> Result<Option<SecretKey>, CachesError> {
    match &settings.secret_key_file {
        _ if settings.publish.is_empty() => Ok(None),
        Some(path) => read_secret_key(path).map(Some),
        None if settings.publish.iter().all(CacheUrl::signs_for_others) => Ok(None),
        None => Err(CachesError::NoSecretKey),
    }
}

/// Reads a file with a secret key.
pub(crate) fn read_secret_key(path: &Utf8Path) -> Result<SecretKey, CachesError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| CachesError::SecretKeyFile { path: path.to_string(), source })?;
    SecretKey::parse(&text).map_err(|source| CachesError::SecretKey { path: path.to_string(), source })
}

/// Says what was published. What was not is no error of the build.
pub(crate) fn tell_published(report: &Report, published: &PublishReport) {
    if published.published > 0 {
        report.status("Published", &format!("{} records ({})", published.published, bytes(published.bytes)));
    }
    for (path, cache, error) in &published.failed {
        report.detail("Not published", &format!("{path} to {cache}: {}", chain(error)));
    }
    if !published.failed.is_empty() {
        report.warning(&format!("{} records could not be published (`--verbose` says why)", published.failed.len()));
    }
}

/// The file that the settings name must be there; the common ones need not.
fn netrc_text(settings: &CacheSettings, environment: &Environment) -> Result<Option<String>, CachesError> {
    if let Some(path) = &settings.netrc_file {
        let read = std::fs::read_to_string(path);
        return read.map(Some).map_err(|source| CachesError::File { path: path.to_string(), source });
    }
    let home = environment.get_str("HOME").map(|home| format!("{home}/.netrc"));
    optional(&environment.get_str("NETRC").filter(|path| !path.is_empty()).map(str::to_owned).or(home))
}

fn aws_profiles(environment: &Environment) -> Option<String> {
    let named = environment.get_str("AWS_SHARED_CREDENTIALS_FILE").filter(|path| !path.is_empty());
    named.map(str::to_owned).or_else(|| environment.get_str("HOME").map(|home| format!("{home}/.aws/credentials")))
}

fn optional(path: &Option<String>) -> Result<Option<String>, CachesError> {
    let Some(path) = path else { return Ok(None) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(CachesError::File { path: path.clone(), source }),
    }
}
