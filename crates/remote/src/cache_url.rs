//! Where a cache is: the URLs that users write, parsed at the door.
//!
//! What is not known is refused here, with its name, so that a mistyped parameter is not silently a cache that misses
//! for ever. `Display` shows no user, password or token; what was in the URL is kept aside for the requests.

use std::fmt;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::secret::Secret;

/// What a path must not hold literally in a `file:` URL.
const PATH_ESCAPES: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}').add(b'%');

/// The priority of a cache that gives none, as Nix has it.
const DEFAULT_PRIORITY: u32 = 50;

/// Why a text is not the URL of a cache. The text itself is not told: it can hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheUrlError {
    /// It is no URL at all.
    #[error("read the URL of a cache: it is not of the form file:///…, http(s)://…, s3://…, cachix://… or attic://…")]
    Form,
    /// It has a scheme that is not known.
    #[error("read the URL of a cache: {scheme}:// is not known")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// It lacks a host, bucket or name, or has one that cannot be.
    #[error("read the URL of a cache: {what}")]
    Part {
        /// What is wrong.
        what: &'static str,
    },
    /// A parameter is not known, or has a value that it can't have.
    #[error("read the URL of a cache: the parameter {name} is not known here, or its value is wrong")]
    Parameter {
        /// Its name.
        name: String,
    },
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheUrl {
    pub(crate) place: Place,
    priority: Option<u32>,
}

/// The kinds of place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory.
    File(Utf8PathBuf),
    /// A server. The URL ends in a slash and has neither user nor password.
    Http { base: Url, login: Option<Login> },
    /// A bucket.
    S3(Bucket),
    /// A cache at Cachix, by name.
    Cachix { name: String },
    /// A cache at a server of Attic. The URL is the server's, and ends in a slash.
    Attic { server: Url, cache: String },
}

/// User and password out of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// A bucket with Nix's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) plain_http: bool,
    pub(crate) profile: Option<String>,
    pub(crate) path_style: Option<bool>,
}

impl CacheUrl {
    /// The URL of a directory.
    pub fn directory(path: impl Into<Utf8PathBuf>) -> Result<Self, CacheUrlError> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(CacheUrlError::Part { what: "the path of a directory must be absolute" });
        }
        Ok(Self { place: Place::File(path), priority: None })
    }

    /// The directory, if it is one.
    pub fn as_directory(&self) -> Option<&Utf8Path> {
        match &self.place {
            Place::File(path) => Some(path),
            _ => None,
        }
    }

    /// Caches with lower numbers come first (`?priority=`); those with the same number in the order that they are
    /// given in. Without the parameter it is 50, as in Nix.
    pub fn priority(&self) -> u32 {
        self.priority.unwrap_or(DEFAULT_PRIORITY)
    }

    /// Whether using it needs the network.
    pub fn is_remote(&self) -> bool {
        !matches!(self.place, Place::File(_))
    }

    /// Whether both are the same cache, whatever their priorities, and whoever is to read it.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Http { base, .. }, Place::Http { base: other, .. }) => base == other,
            (place, other) => place == other,
        }
    }

    /// Whether it holds a user or a password, which must not be written down where others can read it.
    pub fn has_login(&self) -> bool {
        matches!(self.place, Place::Http { login: Some(_), .. })
    }

    /// Whether what comes from there could have been changed on the way: it is read over the network without TLS.
    pub fn is_unprotected(&self) -> bool {
        match &self.place {
            Place::Http { base, .. } => base.scheme() == "http" && !is_loopback(base),
            Place::S3(bucket) => bucket.plain_http,
            Place::File(_) | Place::Cachix { .. } | Place::Attic { .. } => false,
        }
    }

    /// Whether paths can be published there without a key of one's own: the server signs what it is given.
    pub fn signs_for_others(&self) -> bool {
        matches!(self.place, Place::Cachix { .. } | Place::Attic { .. })
    }

    /// What Nix calls this cache, as a substituter.
    pub fn substituter(&self) -> String {
        match (&self.place, self.http_base()) {
            (Place::Cachix { .. } | Place::Attic { .. }, Some(base)) => {
                let priority = self.priority.map(|priority| format!("?priority={priority}")).unwrap_or_default();
                format!("{}{priority}", base.as_str().trim_end_matches('/'))
            }
            _ => self.to_string(),
        }
    }

    /// The address that a credential can be for: scheme, host and port.
    pub(crate) fn http_base(&self) -> Option<Url> {
        match &self.place {
            Place::Http { base, .. } => Some(base.clone()),
            Place::Cachix { name } => Url::parse(&format!("https://{name}.cachix.org/")).ok(),
            Place::Attic { server, cache } => server.join(&format!("{cache}/")).ok(),
            Place::File(_) | Place::S3(_) => None,
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl FromStr for CacheUrl {
    type Err = CacheUrlError;

    fn from_str(text: &str) -> Result<Self, CacheUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| CacheUrlError::Form)?;
        if url.fragment().is_some() {
            return Err(CacheUrlError::Part { what: "it must not have a fragment" });
        }
        let mut parameters = Parameters::of(&url);
        let priority = match parameters.take("priority") {
            None => None,
            Some(number) => Some(number.parse().map_err(|_| CacheUrlError::Parameter { name: "priority".into() })?),
        };
        let place = match url.scheme() {
            "file" => directory(&url)?,
            "http" | "https" => http(url)?,
            "s3" => Place::S3(bucket(&url, &mut parameters)?),
            "cachix" => Place::Cachix { name: cachix_name(&url)? },
            "attic" => attic(&url)?,
            scheme => return Err(CacheUrlError::Scheme { scheme: scheme.to_owned() }),
        };
        parameters.end()?;
        Ok(Self { place, priority })
    }
}

/// The parameters of a URL, each of which must be taken.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(url: &Url) -> Self {
        Self(url.query_pairs().into_owned().collect())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(index).1)
    }

    fn end(self) -> Result<(), CacheUrlError> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(CacheUrlError::Parameter { name }),
            None => Ok(()),
        }
    }
}

fn directory(url: &Url) -> Result<Place, CacheUrlError> {
    if url.has_host() {
        return Err(CacheUrlError::Part { what: "a directory is on this machine: write file:///path" });
    }
    let path = percent_decode_str(url.path()).decode_utf8().map_err(|_| CacheUrlError::Form)?;
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
    if path.contains('\0') {
        return Err(CacheUrlError::Form);
    }
    Ok(Place::File(Utf8PathBuf::from(path)))
}

fn http(mut url: Url) -> Result<Place, CacheUrlError> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => {
            Some(Login { user: decode(user), password: Secret::new(decode(password.unwrap_or_default())) })
        }
    };
    url.set_query(None);
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| CacheUrlError::Part { what: "it has no host" })?;
    // One slash at the end, so that a cache has one name, and shows it.
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(Place::Http { base: url, login })
}

fn bucket(url: &Url, parameters: &mut Parameters) -> Result<Bucket, CacheUrlError> {
    let name = url.host_str().unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) || !matches!(url.path(), "" | "/") {
        return Err(CacheUrlError::Part { what: "s3:// is followed by the name of a bucket alone" });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(CacheUrlError::Part { what: "the keys of a bucket don't belong in the URL" });
    }
    let endpoint = parameters.take("endpoint");
    if endpoint.as_ref().is_some_and(|endpoint| endpoint.contains('@')) {
        return Err(CacheUrlError::Part { what: "the endpoint of a bucket must not have a user or password" });
    }
    let wrong = |name: &str| Err(CacheUrlError::Parameter { name: name.to_owned() });
    let plain_http = match parameters.take("scheme").as_deref() {
        None | Some("https") => false,
        Some("http") => true,
        Some(_) => return wrong("scheme"),
    };
    let path_style = match parameters.take("addressing-style").as_deref() {
        None | Some("auto") => None,
        Some("path") => Some(true),
        Some("virtual") => Some(false),
        Some(_) => return wrong("addressing-style"),
    };
    Ok(Bucket {
        name: name.to_owned(),
        region: parameters.take("region"),
        endpoint,
        plain_http,
        profile: parameters.take("profile"),
        path_style,
    })
}

fn cachix_name(url: &Url) -> Result<String, CacheUrlError> {
    let name = url.host_str().unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || !name.bytes().all(allowed) || !matches!(url.path(), "" | "/") || url.port().is_some() {
        return Err(CacheUrlError::Part { what: "cachix:// is followed by the name of a cache alone" });
    }
    Ok(name.to_owned())
}

fn attic(url: &Url) -> Result<Place, CacheUrlError> {
    let wrong = CacheUrlError::Part { what: "attic:// is followed by the server's host and the name of a cache" };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+".contains(&byte);
    let cache = url.path().trim_matches('/');
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    match url.host_str() {
        Some(host) if !cache.is_empty() && cache.bytes().all(allowed) && url.username().is_empty() => {
            let server = Url::parse(&format!("https://{host}{port}/")).map_err(|_| wrong)?;
            Ok(Place::Attic { server, cache: cache.to_owned() })
        }
        _ => Err(wrong),
    }
}

impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        match &self.place {
            Place::File(path) => write!(f, "file://{}", utf8_percent_encode(path.as_str(), PATH_ESCAPES))?,
            Place::Http { base, .. } => f.write_str(base.as_str().trim_end_matches('/'))?,
            Place::Cachix { name } => write!(f, "cachix://{name}")?,
            Place::Attic { server, cache } => {
                write!(f, "attic://{}", server.host_str().unwrap_or_default())?;
                server.port().iter().try_for_each(|port| write!(f, ":{port}"))?;
                write!(f, "/{cache}")?;
            }
            Place::S3(bucket) => {
                write!(f, "s3://{}", bucket.name)?;
                let texts = [("region", &bucket.region), ("endpoint", &bucket.endpoint), ("profile", &bucket.profile)];
                parameters.extend(texts.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
                parameters.extend(bucket.plain_http.then_some(("scheme", "http")));
                let style = bucket.path_style.map(|path| if path { "path" } else { "virtual" });
                parameters.extend(style.map(|style| ("addressing-style", style)));
            }
        }
        let priority = self.priority.map(|priority| priority.to_string());
        parameters.extend(priority.as_deref().map(|priority| ("priority", priority)));
        if !parameters.is_empty() {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
            write!(f, "?{query}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<CacheUrl>().unwrap().to_string()
    }

    #[test]
    fn every_kind_is_shown_as_it_was_written() {
        for text in [
            "file:///var/cache/nix",
            "file:///a%20b%25c",
            "http://127.0.0.1:8080",
            "https://cache.example.org/sub/dir",
            "https://cache.example.org?priority=10",
            "s3://bucket",
            "s3://bucket?region=eu-west-1&endpoint=localhost%3A9000&profile=ci&scheme=http&addressing-style=path",
            "cachix://mycache",
            "attic://attic.example.org:8443/team",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("https://cache.example.org/sub/"), "https://cache.example.org/sub");
    }

    #[test]
    fn credentials_are_never_shown() {
        let url: CacheUrl = "https://user:sesame@cache.example.org/x".parse().unwrap();
        assert_eq!(url.to_string(), "https://cache.example.org/x");
        assert!(!format!("{url:?}").contains("sesame"));
        let Place::Http { login: Some(login), .. } = url.place else { panic!("no login") };
        assert_eq!((login.user.as_str(), login.password.expose()), ("user", "sesame"));
    }

    #[test]
    fn nix_is_told_where_a_cache_really_is() {
        let substituter = |text: &str| text.parse::<CacheUrl>().unwrap().substituter();
        assert_eq!(substituter("cachix://mine?priority=7"), "https://mine.cachix.org?priority=7");
        assert_eq!(substituter("attic://attic.example.org:8443/team"), "https://attic.example.org:8443/team");
        assert_eq!(substituter("https://u:sesame@cache.example.org/x/"), "https://cache.example.org/x");
        assert_eq!(substituter("s3://b?region=eu"), "s3://b?region=eu");
        assert_eq!(substituter("file:///srv/cache"), "file:///srv/cache");
    }

    #[test]
    fn the_same_cache_is_known_by_other_urls() {
        let same = |one: &str, other: &str| {
            one.parse::<CacheUrl>().unwrap().is_same_place(&other.parse::<CacheUrl>().unwrap())
        };
        assert!(same("https://a.example/x", "https://u:p@a.example/x/?priority=1"));
        assert!(
            same("https://a.example//", "https://a.example") && same("https://a.example/x//", "https://a.example/x")
        );
        assert!(!same("https://a.example/x", "http://a.example/x"));
        assert!(same("s3://b?region=eu", "s3://b?priority=3&region=eu"));
        assert!(!same("s3://b?region=eu", "s3://b?region=us"));
    }

    #[test]
    fn what_is_not_known_is_refused_without_being_told() {
        let refused = |text: &str| text.parse::<CacheUrl>().unwrap_err();
        for text in ["", "relative/path", "/absolute", "cache.example.org", "https://", "file://host/path"] {
            refused(text);
        }
        assert_eq!(refused("ftp://x"), CacheUrlError::Scheme { scheme: "ftp".into() });
        assert_eq!(refused("https://x?prio=1"), CacheUrlError::Parameter { name: "prio".into() });
        assert_eq!(refused("https://x?priority=low"), CacheUrlError::Parameter { name: "priority".into() });
        assert_eq!(refused("s3://b?scheme=ftp"), CacheUrlError::Parameter { name: "scheme".into() });
        for text in ["https://x#part", "s3://", "s3://b/prefix", "s3://k:s@b", "cachix://", "cachix://a/b", "attic://h"]
        {
            assert!(matches!(refused(text), CacheUrlError::Part { .. } | CacheUrlError::Form), "{text}");
        }
        assert!(!refused("https://user:sesame@[").to_string().contains("sesame"));
        // It would be shown, and is of no use: requests to a bucket are signed.
        for endpoint in ["user:sesame@host", "https%3A%2F%2Fuser%3Asesame%40host%3A9000"] {
            let error = refused(&format!("s3://b?endpoint={endpoint}"));
            assert!(matches!(error, CacheUrlError::Part { .. }) && !error.to_string().contains("sesame"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn directories_survive(path in "(/[a-zA-Z0-9 %?#é+]{1,8}){1,4}") {
            let url = CacheUrl::directory(path.as_str()).unwrap();
            prop_assert_eq!(url.to_string().parse::<CacheUrl>(), Ok(url));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = text.parse::<CacheUrl>();
        }
    }
}
