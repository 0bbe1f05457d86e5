//! What users and services write down about caches.

use nixcache_remote::{AwsCredentials, CacheUrl, Netrc};

/// The URL of a cache: what is read is shown as a URL that is read as the same, and never with its password.
pub fn cache_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(url) = text.parse::<CacheUrl>() else { return };
    let shown = url.to_string();
    let again: CacheUrl = shown.parse().unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    assert!(again.is_same_place(&url), "{shown:?}");
    assert_eq!(again.to_string(), shown);
    assert_eq!(again.priority(), url.priority());
    assert!(!again.has_login(), "{shown:?}");
    let substituter = url.substituter();
    assert!(!substituter.contains(char::is_whitespace), "{substituter:?}");
}

/// A netrc file.
pub fn netrc(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let shown = format!("{:?}", Netrc::parse(text));
        assert!(!shown.contains("sesame"), "{shown}");
    }
}

/// A file of profiles with keys for buckets.
pub fn profiles(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let mut keys = AwsCredentials::default();
        keys.add_profiles(text);
        assert!(keys.keys.is_none());
    }
}

pub(crate) fn cache_url_seeds() -> Vec<Vec<u8>> {
    [
        "file:///var/cache/nix%20x",
        "https://user:sesame@cache.example.org:8443/sub/dir?priority=10",
        "http://[::1]:8080",
        "s3://bucket?region=eu-west-1&endpoint=localhost:9000&profile=ci&scheme=http&addressing-style=path",
        "cachix://mycache?priority=1",
        "attic://attic.example.org:8443/team",
    ]
    .map(|url| url.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn netrc_seeds() -> Vec<Vec<u8>> {
    vec![
        b"# mine\nmachine a.example login me password open\nmachine b.example\n  login you\n  password \"with \\\"space\"\n".to_vec(),
        b"macdef init\nmachine c.example login x password y\n\nmachine d.example account 7\ndefault login any password any\n"
            .to_vec(),
    ]
}

pub(crate) fn profiles_seeds() -> Vec<Vec<u8>> {
    vec![
        b"# mine\n[default]\naws_access_key_id = d\naws_secret_access_key=x=\n[profile ci]\naws_access_key_id = c\n"
            .to_vec(),
        b"[ci]\naws_access_key_id = c\naws_secret_access_key = y\naws_session_token = z\n".to_vec(),
    ]
}
