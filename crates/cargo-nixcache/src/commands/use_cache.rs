//! `use`: trusts a cache and uses it. What is to be trusted is shown, the user is asked, and the user's own
//! configuration file is written. Nothing else ever extends trust.

use std::io::{BufRead, IsTerminal as _, Write};
use std::process::ExitCode;

use camino::Utf8PathBuf;
use nixcache_core::environment::Environment;
use nixcache_core::nix::{KeyName, PublicKey};
use nixcache_remote::{CacheError, CacheUrl, CacheUrlError, IntroductionError, introduce};

use super::print;
use crate::arguments::UseArguments;
use crate::caches::{self, CachesError, read_secret_key};
use crate::exit;
use crate::nix_conf;
use crate::replace::replace;
use crate::report::Report;
use crate::settings::{AdditionError, Additions, Directories, Origin, Settings};

/// Why a cache is not used.
#[derive(Debug, thiserror::Error)]
enum UseError {
    /// The URL is none.
    #[error("use the cache")]
    Url(#[from] CacheUrlError),
    /// The URL holds a password, which would be written down.
    #[error("use {url}: the URL holds a user or a password, which belongs in your netrc file")]
    Login {
        /// The URL without it.
        url: Box<CacheUrl>,
    },
    /// The files that the settings name can't be used.
    #[error(transparent)]
    Caches(#[from] CachesError),
    /// The cache can't be asked.
    #[error(transparent)]
    Introduction(Box<IntroductionError>),
    /// Nobody says which key is the cache's.
    #[error("trust {url}: it doesn't say which key signs what it holds")]
    NoKey {
        /// The cache.
        url: Box<CacheUrl>,
    },
    /// There are two keys of one name.
    #[error("trust {new}: ANOTHER KEY NAMED {name} IS KNOWN ({from}): {known}")]
    Conflict {
        /// The name.
        name: KeyName,
        /// The key that would be trusted.
        new: Box<PublicKey>,
        /// The key that is known.
        known: Box<PublicKey>,
        /// How it is known.
        from: &'static str,
    },
    /// The platform has no place for the user's file.
    #[error("write your configuration file: the platform names no place for it")]
    NoPlace,
    /// A file can't be read or written.
    #[error("write {path}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file can't be added to.
    #[error("write {path}")]
    Addition {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: AdditionError,
    },
    /// There is nobody to ask.
    #[error("trust {url}: there is no terminal to ask you on")]
    NoTerminal {
        /// The cache.
        url: Box<CacheUrl>,
    },
    /// The answer was no.
    #[error("trust {url}: you did not agree, and nothing was written")]
    NotAgreed {
        /// The cache.
        url: Box<CacheUrl>,
    },
}

impl From<IntroductionError> for UseError {
    fn from(error: IntroductionError) -> Self {
        Self::Introduction(Box::new(error))
    }
}

impl UseError {
    fn code(&self) -> u8 {
        match self {
            Self::Url(_) | Self::Login { .. } | Self::NoPlace | Self::Addition { .. } => exit::USAGE,
            Self::NoKey { .. } | Self::Conflict { .. } => exit::KEY,
            Self::NoTerminal { .. } | Self::NotAgreed { .. } => exit::NOT_AGREED,
            Self::Caches(_) | Self::Introduction(_) | Self::File { .. } => exit::CACHES,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Login { url } => Some(format!("then: cargo nixcache use {url}")),
            Self::NoKey { .. } => {
                Some("ask who publishes there for the public key, and give it with --trusted-key NAME:BASE64".into())
            }
            Self::Conflict { .. } => {
                Some("somebody may be impersonating the cache; find out from its owner which key is right".into())
            }
            Self::NoTerminal { .. } => Some("compare the key above with its owner's, and say --yes".into()),
            Self::Introduction(error) => match &**error {
                IntroductionError::Cache { source: CacheError::Unauthorized { .. }, .. } => {
                    Some("put `machine HOST login NAME password TOKEN` into your netrc file".into())
                }
                IntroductionError::Cache { source, .. } => source.hint().map(str::to_owned),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Where the keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeySource {
    Given,
    Cache,
    Own,
}

impl KeySource {
    fn text(self) -> &'static str {
        match self {
            Self::Given => "as you say",
            Self::Cache => "says the cache",
            Self::Own => "your own",
        }
    }
}

/// One file to write.
struct Change {
    path: Utf8PathBuf,
    before: String,
    after: String,
}

/// `cargo nixcache use URL`
pub(crate) fn run(settings: &Settings, arguments: &UseArguments, offline: bool) -> ExitCode {
    let report = Report::new(false, false, None);
    match use_cache(settings, arguments, offline, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.error(&error, error.hint().as_deref());
            ExitCode::from(error.code())
        }
    }
}

fn use_cache(settings: &Settings, arguments: &UseArguments, offline: bool, report: &Report) -> Result<(), UseError> {
    let environment: Environment = std::env::vars_os().collect();
    let url: CacheUrl = arguments.url.parse()?;
    if url.has_login() {
        return Err(UseError::Login { url: Box::new(url) });
    }
    let offered = match offline && url.is_remote() {
        true => Vec::new(),
        false => {
            let credentials = caches::credentials(&settings.caches, &environment)?;
            introduce(&url, &credentials, &caches::network(&environment)?)?.keys
        }
    };
    let own = settings.caches.secret_key_file.as_deref().map(read_secret_key).transpose()?.map(|key| key.public());
    let (keys, source) = if !arguments.trusted_key.is_empty() {
        (arguments.trusted_key.clone(), KeySource::Given)
    } else if !offered.is_empty() {
        (offered.clone(), KeySource::Cache)
    } else {
        let own = own.clone().filter(|_| arguments.publish);
        (vec![own.ok_or_else(|| UseError::NoKey { url: Box::new(url.clone()) })?], KeySource::Own)
    };
    let users: Vec<PublicKey> = settings.user_file().into_iter().flat_map(|file| file.trusted_keys()).collect();
    compare(&keys, &offered, "the cache says it")?;
    compare(&keys, users.iter().chain(settings.caches.trusted_keys.iter()), "you trust it")?;
    compare(&keys, &own, "it is yours")?;

    report.status("Cache", &url.to_string());
    for key in &keys {
        let known = if users.contains(key) { ", and trusted already" } else { "" };
        report.status("Key", &format!("{key} ({}{known})", source.text()));
    }
    if source == KeySource::Cache && url.is_unprotected() {
        report.warning("the key came over a connection that anybody on the way could change: compare it");
    }
    let changes = changes(settings, arguments, &environment, url.clone(), keys)?;
    if changes.is_empty() {
        report.status("Finished", "all of this is in your configuration already");
        return Ok(());
    }
    if arguments.dry_run {
        changes.iter().for_each(show);
        return Ok(());
    }
    for change in &changes {
        report.status("To write", change.path.as_str());
    }
    if !arguments.yes {
        // Who is asked must see the question.
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(UseError::NoTerminal { url: Box::new(url) });
        }
        let question = "Whoever has this key can put code into your builds. Trust it, and use the cache? [y/N] ";
        if !agreed(question, &mut std::io::stdin().lock(), &mut std::io::stderr()) {
            return Err(UseError::NotAgreed { url: Box::new(url) });
        }
    }
    for Change { path, after, .. } in &changes {
        replace(path, after).map_err(|source| UseError::File { path: path.clone(), source })?;
        report.status("Written", path.as_str());
    }
    notes(settings, arguments, &url, own.is_some(), report);
    Ok(())
}

/// Two keys of one name: one of them is somebody else's.
fn compare<'a>(
    keys: &[PublicKey],
    known: impl IntoIterator<Item = &'a PublicKey>,
    from: &'static str,
) -> Result<(), UseError> {
    for known in known {
        if let Some(new) = keys.iter().find(|key| key.name() == known.name() && *key != known) {
            let (name, new, known) = (known.name().clone(), new.clone(), known.clone());
            return Err(UseError::Conflict { name, new: Box::new(new), known: Box::new(known), from });
        }
    }
    Ok(())
}

/// What is to be written. Files that are right already are not among it.
fn changes(
    settings: &Settings,
    arguments: &UseArguments,
    environment: &Environment,
    url: CacheUrl,
    keys: Vec<PublicKey>,
) -> Result<Vec<Change>, UseError> {
    let mut changes = Vec::new();
    let words: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let substituter = url.substituter();
    let path = settings.user_file().ok_or(UseError::NoPlace)?.path.clone();
    let before = read(&path)?;
    let additions = Additions { cache: url, publish: arguments.publish, keys };
    let after = additions.add_to(&before).map_err(|source| UseError::Addition { path: path.clone(), source })?;
    changes.push(Change { path, before, after });
    if arguments.nix {
        let directories = Directories::default();
        let path = nix_conf::user_file(environment, &directories).ok_or(UseError::NoPlace)?;
        let before = read(&path)?;
        let after = nix_conf::with_words(&before, "substituters", &[substituter]);
        let after = nix_conf::with_words(&after, "trusted-public-keys", &words);
        changes.push(Change { path, before, after });
    }
    changes.retain(|change| change.before != change.after);
    Ok(changes)
}

fn read(path: &Utf8PathBuf) -> Result<String, UseError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(UseError::File { path: path.clone(), source }),
    }
}

/// Shows the lines that go and those that come.
fn show(change: &Change) {
    print(&format!("{}:", change.path));
    let (before, after): (Vec<_>, Vec<_>) = (change.before.lines().collect(), change.after.lines().collect());
    before.iter().filter(|line| !after.contains(line)).for_each(|line| print(&format!("- {line}")));
    after.iter().filter(|line| !before.contains(line)).for_each(|line| print(&format!("+ {line}")));
}

fn agreed(question: &str, input: &mut impl BufRead, output: &mut impl Write) -> bool {
    let asked = output.write_all(question.as_bytes()).and_then(|()| output.flush());
    let mut answer = String::new();
    asked.is_ok()
        && input.read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// What may still be in the way.
fn notes(settings: &Settings, arguments: &UseArguments, url: &CacheUrl, has_key: bool, report: &Report) {
    for key in ["caches", "publish", "trusted-keys"] {
        let shown = settings.shown.iter().find(|shown| shown.key == key);
        if let Some(Origin::Variable(name)) = shown.map(|shown| &shown.origin) {
            report.warning(&format!("{name} is set, and counts in place of `{key}` in your file"));
        }
    }
    if arguments.publish && !has_key && !url.signs_for_others() {
        report.warning("to publish there, make a key: cargo nixcache key generate NAME");
    }
    if arguments.nix {
        report.status("Nix", "where Nix runs as a daemon, it heeds this of the users that its `trusted-users` names");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_one() {
        for (answer, expected) in [
            ("y\n", true),
            ("YES\n", true),
            (" y \n", true),
            ("n\n", false),
            ("\n", false),
            ("", false),
            ("yy\n", false),
        ] {
            let mut shown = Vec::new();
            assert_eq!(agreed("Sure? ", &mut answer.as_bytes(), &mut shown), expected, "{answer:?}");
            assert_eq!(shown, b"Sure? ");
        }
    }

    #[test]
    fn two_keys_of_one_name_are_told_apart() {
        let key =
            |name: &str, seed| nixcache_core::nix::SecretKey::generate(name.parse().unwrap(), &[seed; 32]).public();
        let known = [key("a-1", 1), key("b-1", 2)];
        assert!(compare(&[key("a-1", 1), key("c-1", 3)], &known, "").is_ok());
        let error = compare(&[key("b-1", 9)], &known, "you trust it").unwrap_err();
        assert!(error.to_string().contains("ANOTHER KEY NAMED b-1"), "{error}");
        assert_eq!(error.code(), exit::KEY);
    }
}
