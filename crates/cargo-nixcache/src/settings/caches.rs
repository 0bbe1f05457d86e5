//! The settings of caches: where to fetch from, where to publish to, whose signatures count.
//!
//! A workspace comes from anybody, so its files decide nothing here. What they say is a proposal that is shown, until
//! the user says the same (`cargo nixcache use`).

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nix::{PublicKey, TrustedKeys};
use nixcache_remote::CacheUrl;

use super::files::{Author, Content};
use super::{ConfigurationFile, GivenOptions, Origin, Patience, SettingsError, ShownSetting, first};

/// Caches, keys, and what may be done with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheSettings {
    /// Where to fetch from, in order.
    pub(crate) fetch: Vec<CacheUrl>,
    /// Where to publish to.
    pub(crate) publish: Vec<CacheUrl>,
    /// Whose signatures count.
    pub(crate) trusted_keys: TrustedKeys,
    /// The key that signs what is published.
    pub(crate) secret_key_file: Option<Utf8PathBuf>,
    /// Users and passwords by host.
    pub(crate) netrc_file: Option<Utf8PathBuf>,
    /// How long a build waits for its caches, if it isn't left to us.
    pub(crate) patience: Option<Patience>,
    /// Caches that the workspace proposes and the user doesn't use.
    pub(crate) proposed: Vec<Proposal>,
    /// What keeps caches from being used: the setting.
    pub(crate) switched_off: Vec<&'static str>,
}

/// A cache that a workspace's file names. Nothing is done with it, but to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Where it is.
    pub(crate) url: CacheUrl,
    /// The keys that the same file names.
    pub(crate) keys: Vec<PublicKey>,
    /// The file, as people name it.
    pub(crate) file: String,
}

impl Proposal {
    /// The command with which the user agrees, as a shell reads it.
    pub(crate) fn command(&self) -> String {
        let mut command = format!("cargo nixcache use {}", quoted(&self.url.to_string()));
        for key in &self.keys {
            command += &format!(" --trusted-key {}", quoted(&key.to_string()));
        }
        command
    }
}

/// A word for a shell. The text is a stranger's.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+,-./:=@_%".contains(&byte);
    if word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

impl CacheSettings {
    /// The same, to fetch alone: nothing is asked of those that are published to, and no key is needed.
    pub(crate) fn to_fetch(&self) -> Self {
        Self { publish: Vec::new(), ..self.clone() }
    }
}

/// A list as the settings give it: the entries as they were written, and where they came from.
type Given = (Vec<String>, Origin);

impl CacheSettings {
    /// Settles them, and adds what `config` shows to `shown`.
    pub(super) fn settle(
        given: GivenOptions<'_>,
        files: &[ConfigurationFile],
        default_key_file: Option<&Utf8Path>,
        shown: &mut Vec<ShownSetting>,
    ) -> Result<Self, SettingsError> {
        let GivenOptions { options, from_variables, directory } = given;
        let users: Vec<ConfigurationFile> = files.iter().filter(|file| file.author == Author::User).cloned().collect();
        let origin = |field, flag, variable| {
            if from_variables.contains(&field) { Origin::Variable(variable) } else { Origin::Flag(flag) }
        };
        let list = |option: &[String], origin: Origin, of: fn(&Content) -> Option<&Vec<String>>| -> Given {
            // One flag, or the variable, can hold several.
            let words: Vec<String> =
                option.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
            if !words.is_empty() {
                return (words, origin);
            }
            first(&users, |file| of(&file.content).cloned()).unwrap_or((Vec::new(), Origin::Default))
        };
        let file = |option: &Option<Utf8PathBuf>, origin: Origin, of: fn(&Content) -> Option<&Utf8PathBuf>| {
            let option = option.as_ref().filter(|path| !path.as_str().is_empty());
            let option = option.map(|path| (directory.join(path), origin));
            option.or_else(|| first(&users, |file| of(&file.content).map(|path| file.resolve(path))))
        };
        let fetch = list(&options.cache, origin("cache", "--cache", "NIXCACHE_CACHES"), |f| f.caches.as_ref());
        let publish =
            list(&options.publish, origin("publish", "--publish", "NIXCACHE_PUBLISH"), |f| f.publish.as_ref());
        let keys = list(&options.trusted_key, origin("trusted_key", "--trusted-key", "NIXCACHE_TRUSTED_KEYS"), |f| {
            f.trusted_keys.as_ref()
        });
        let secret = file(
            &options.secret_key_file,
            origin("secret_key_file", "--secret-key-file", "NIXCACHE_SECRET_KEY_FILE"),
            |f| f.secret_key_file.as_ref(),
        );
        // A key that was made without a word on its place is used without one too.
        let made = || Some((default_key_file.filter(|path| path.is_file())?.to_owned(), Origin::Default));
        let secret = secret.or_else(made);
        let netrc = file(&None, Origin::Default, |f| f.netrc_file.as_ref());

        let patience = options.patience.clone().filter(|text| !text.is_empty());
        let patience = patience.map(|text| (text, origin("patience", "--patience", "NIXCACHE_PATIENCE")));
        let patience = patience.or_else(|| first(files, |file| file.content.patience.clone()));

        let mut settings = Self { secret_key_file: None, ..Self::default() };
        for key in &keys.0 {
            let key = key.parse().map_err(|source| SettingsError::Key { source }.given_by(&keys.1))?;
            settings.trusted_keys.insert(key);
        }
        settings.fetch = urls(&fetch.0, &fetch.1)?;
        settings.publish = urls(&publish.0, &publish.1)?;
        for file in files.iter().filter(|file| file.author == Author::Workspace) {
            let keys: Vec<PublicKey> = file.trusted_keys().collect();
            let proposed = file.content.caches.as_deref().unwrap_or_default();
            for url in urls(proposed, &Origin::File(file.name()))? {
                if !settings.fetch.iter().any(|used| used.is_same_place(&url)) {
                    settings.proposed.push(Proposal { url, keys: keys.clone(), file: file.name() });
                }
            }
        }

        let show_urls = |urls: &[CacheUrl]| {
            (!urls.is_empty()).then(|| urls.iter().map(CacheUrl::to_string).collect::<Vec<_>>().join(" "))
        };
        let key_names = settings.trusted_keys.iter().map(|key| key.name().to_string()).collect::<Vec<_>>().join(" ");
        let (secret, secret_origin) = secret.map_or((None, Origin::Default), |(path, origin)| (Some(path), origin));
        let (netrc, netrc_origin) = netrc.map_or((None, Origin::Default), |(path, origin)| (Some(path), origin));
        let patience_origin = patience.as_ref().map_or(Origin::Default, |(_, origin)| origin.clone());
        let parse = |(text, origin): (String, Origin)| Patience::parse(&text).map_err(|error| error.given_by(&origin));
        settings.patience = patience.map(parse).transpose()?;
        let show = |key, value, origin| ShownSetting { key, value, origin };
        shown.extend([
            show("caches", show_urls(&settings.fetch), fetch.1),
            show("publish", show_urls(&settings.publish), publish.1),
            show("trusted-keys", Some(key_names).filter(|names| !names.is_empty()), keys.1),
            show("secret-key-file", secret.as_ref().map(Utf8PathBuf::to_string), secret_origin),
            show("patience", settings.patience.map(|patience| patience.to_string()), patience_origin),
            show("netrc-file", netrc.as_ref().map(Utf8PathBuf::to_string), netrc_origin),
        ]);
        settings.secret_key_file = secret;
        settings.netrc_file = netrc;
        let mut switch = |key, given: bool, origin: Origin, of: fn(&Content) -> Option<bool>| {
            let given = if given { Some((true, origin)) } else { first(files, |file| of(&file.content)) };
            let (is_on, origin) = given.unwrap_or((false, Origin::Default));
            shown.push(show(key, Some(is_on.to_string()), origin));
            is_on
        };
        let no_fetch = origin("no_fetch", "--no-fetch", "NIXCACHE_NO_FETCH");
        if switch("no-fetch", options.no_fetch, no_fetch, |file| file.no_fetch) {
            settings.fetch.clear();
            settings.proposed.clear();
            settings.switched_off.push("no-fetch");
        }
        let no_publish = origin("no_publish", "--no-publish", "NIXCACHE_NO_PUBLISH");
        if switch("no-publish", options.no_publish, no_publish, |file| file.no_publish) {
            settings.publish.clear();
            settings.switched_off.push("no-publish");
        }
        let offline = origin("offline", "--offline", "NIXCACHE_OFFLINE");
        if switch("offline", options.offline, offline, |file| file.offline) {
            settings.fetch.retain(|url| !url.is_remote());
            settings.publish.retain(|url| !url.is_remote());
            settings.switched_off.push("offline");
        }
        Ok(settings)
    }
}

fn urls(texts: &[String], origin: &Origin) -> Result<Vec<CacheUrl>, SettingsError> {
    let url = |text: &String| text.parse().map_err(|source| SettingsError::CacheUrl { source }.given_by(origin));
    texts.iter().map(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_one_word_for_each_thing() {
        let key = "nixcache-test-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
        let command = |url: &str, keys: Vec<PublicKey>| {
            Proposal { url: url.parse().unwrap(), keys, file: String::new() }.command()
        };
        assert_eq!(command("cachix://team", Vec::new()), "cargo nixcache use cachix://team");
        assert_eq!(
            command("s3://b?region=eu&scheme=http", vec![key.parse().unwrap()]),
            format!("cargo nixcache use 's3://b?region=eu&scheme=http' --trusted-key {key}")
        );
        assert_eq!(command("file:///a';id", Vec::new()), r"cargo nixcache use 'file:///a'\'';id'");
    }
}
