//! What `doctor` finds out about caches: whether they answer, whose signatures count there, and with which key what is
//! published would be signed.

use nixcache_core::environment::Environment;
use nixcache_remote::{CacheUrl, Credentials, Introduction, NetworkOptions, introduce};

use super::{Findings, Verdict};
use crate::caches::{credentials, network, secret_key};
use crate::report::chain;
use crate::settings::{CacheSettings, Settings};

/// Checks the caches that a build here would use, one after the other.
pub(super) fn check(findings: &mut Findings, settings: &Settings, environment: &Environment) {
    let caches = &settings.caches;
    for setting in &caches.switched_off {
        findings.say(Verdict::Note, "cache", &format!("`{setting}` is set: not every cache is used"));
    }
    for proposal in &caches.proposed {
        let text = format!("{} is proposed by {}; to use it: {}", proposal.url, proposal.file, proposal.command());
        findings.say(Verdict::Note, "cache", &text);
    }
    if caches.fetch.is_empty() && caches.publish.is_empty() {
        return;
    }
    match credentials(caches, environment).and_then(|credentials| Ok((credentials, network(environment)?))) {
        Ok((credentials, network)) => ask(findings, caches, &credentials, &network),
        Err(error) => findings.say(Verdict::Problem, "cache", &chain(&error)),
    }
    match secret_key(caches) {
        Ok(Some(key)) => {
            findings.say(Verdict::Ok, "publish", &format!("what is published is signed by {}", key.name()));
        }
        Ok(None) => {}
        Err(error) => findings.say(Verdict::Problem, "publish", &chain(&error)),
    }
}

fn ask(findings: &mut Findings, caches: &CacheSettings, credentials: &Credentials, network: &NetworkOptions) {
    if !caches.fetch.is_empty() && caches.trusted_keys.is_empty() {
        let text =
            "no key is trusted, so nothing that a cache holds is used: `cargo nixcache use URL` shows a cache's key";
        findings.say(Verdict::Problem, "keys", text);
    }
    let is_read = |url: &CacheUrl| caches.fetch.iter().any(|read| read.is_same_place(url));
    let only_written = caches.publish.iter().filter(|url| !is_read(url));
    for url in caches.fetch.iter().chain(only_written) {
        let missing = url.as_directory().filter(|directory| !directory.is_dir());
        match (missing, introduce(url, credentials, network)) {
            (Some(_), Ok(_)) if !is_read(url) => {
                findings.say(Verdict::Ok, "cache", &format!("{url} is made when something is published"));
            }
            (Some(_), Ok(_)) => findings.say(Verdict::Problem, "cache", &format!("{url}: there is no such directory")),
            (None, Ok(introduction)) => {
                let (verdict, text) = described(url, &introduction, caches, is_read(url));
                findings.say(verdict, "cache", &text);
            }
            (_, Err(error)) => findings.say(Verdict::Problem, "cache", &chain(&error)),
        }
    }
}

/// A cache that answered. Directories, buckets and servers of others don't say with which keys they sign.
fn described(url: &CacheUrl, cache: &Introduction, caches: &CacheSettings, is_read: bool) -> (Verdict, String) {
    let is_trusted = |key| caches.trusted_keys.iter().any(|trusted| trusted == key);
    let (trusted, others): (Vec<_>, Vec<_>) = cache.keys.iter().partition(|key| is_trusted(*key));
    if !is_read {
        (Verdict::Ok, format!("{url} answers, and is only published to"))
    } else if let Some(key) = trusted.first() {
        (Verdict::Ok, format!("{url} answers, and its key {} is trusted", key.name()))
    } else if others.is_empty() {
        (Verdict::Ok, format!("{url} answers"))
    } else {
        let keys = others.iter().map(|key| key.name().to_string()).collect::<Vec<_>>().join(", ");
        let text = format!("{url} signs with {keys}, which isn't trusted: `cargo nixcache use {url}` shows that key");
        (Verdict::Note, text)
    }
}
