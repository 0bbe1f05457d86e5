//! Which credential goes to which server. Made by the caller of files and variables; nothing is read here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nixcache_core::environment::Environment;
use reqwest::header::HeaderValue;
use url::Url;

use crate::cache_url::{CacheUrl, Place};
use crate::netrc::Netrc;
use crate::secret::Secret;

/// All credentials of a user. Each goes to the host that it is for, and stays there when that one redirects.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Users and passwords by host, sent as Basic.
    pub netrc: Netrc,
    /// Tokens by the URL of the cache, sent as Bearer. They come before netrc.
    pub tokens: Vec<(CacheUrl, Secret)>,
    /// The token for all caches at Cachix.
    pub cachix: Option<Secret>,
    /// The keys for buckets.
    pub aws: AwsCredentials,
}

/// Keys for buckets: those of the variables, and those of the profiles.
#[derive(Clone, Debug, Default)]
pub struct AwsCredentials {
    /// What the variables say. It is for buckets whose URL names no profile.
    pub keys: Option<AwsKeys>,
    /// What the file of profiles says, usually `~/.aws/credentials`.
    pub profiles: BTreeMap<String, AwsKeys>,
    /// The region, if the bucket's URL doesn't say.
    pub region: Option<String>,
    /// The endpoint, if the bucket's URL doesn't say.
    pub endpoint: Option<String>,
}

/// One pair of keys.
#[derive(Clone, Debug)]
pub struct AwsKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
}

impl Credentials {
    /// Takes `CACHIX_AUTH_TOKEN` and the `AWS_…` variables.
    pub fn from_environment(environment: &Environment) -> Self {
        let get = |name: &str| environment.get_str(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let keys = get("AWS_ACCESS_KEY_ID").zip(get("AWS_SECRET_ACCESS_KEY"));
        let keys = keys.map(|(access_key_id, secret)| AwsKeys {
            access_key_id,
            secret_access_key: Secret::new(secret),
            session_token: get("AWS_SESSION_TOKEN").map(Secret::new),
        });
        Self {
            cachix: get("CACHIX_AUTH_TOKEN").map(Secret::new),
            aws: AwsCredentials {
                keys,
                region: get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")),
                endpoint: get("AWS_ENDPOINT_URL_S3").or_else(|| get("AWS_ENDPOINT_URL")),
                profiles: BTreeMap::new(),
            },
            ..Self::default()
        }
    }

    /// What to send to the API of Cachix, for the cache at `url`.
    pub(crate) fn cachix_authorization(&self, url: &CacheUrl) -> Option<HeaderValue> {
        let own = self.tokens.iter().find(|(other, _)| other.place == url.place).map(|(_, token)| token);
        own.or(self.cachix.as_ref()).and_then(bearer)
    }

    /// What to send to the cache at `url`, whose address is `base`.
    pub(crate) fn authorization(&self, url: &CacheUrl, base: &Url) -> Option<HeaderValue> {
        if let Some((_, token)) = self.tokens.iter().find(|(other, _)| other.place == url.place) {
            return bearer(token);
        }
        match &url.place {
            Place::Http { login: Some(login), .. } => return basic(&login.user, &login.password),
            Place::Cachix { .. } if self.cachix.is_some() => return self.cachix.as_ref().and_then(bearer),
            _ => {}
        }
        let entry = self.netrc.find(base.host_str()?)?;
        basic(&entry.login, &entry.password)
    }
}

impl AwsCredentials {
    /// Reads the text of a file of profiles.
    pub fn add_profiles(&mut self, text: &str) {
        let mut profile: Option<(String, BTreeMap<String, String>)> = None;
        let mut keep = |profile: Option<(String, BTreeMap<String, String>)>| {
            let Some((name, mut values)) = profile else { return };
            if let (Some(id), Some(secret)) =
                (values.remove("aws_access_key_id"), values.remove("aws_secret_access_key"))
            {
                let session_token = values.remove("aws_session_token").map(Secret::new);
                let keys = AwsKeys { access_key_id: id, secret_access_key: Secret::new(secret), session_token };
                self.profiles.insert(name, keys);
            }
        };
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                keep(profile.take());
                let name = name.trim();
                profile = Some((name.strip_prefix("profile ").unwrap_or(name).trim().to_owned(), BTreeMap::new()));
            } else if let (Some((_, values)), Some((name, value))) = (&mut profile, line.split_once('=')) {
                values.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        keep(profile);
    }

    /// The keys for a bucket. With neither a profile nor variables, the profile `default` counts.
    pub(crate) fn keys_for(&self, profile: Option<&str>) -> Option<&AwsKeys> {
        match profile {
            Some(profile) => self.profiles.get(profile),
            None => self.keys.as_ref().or_else(|| self.profiles.get("default")),
        }
    }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(format!("Bearer {}", token.expose()))
}

fn basic(user: &str, password: &Secret) -> Option<HeaderValue> {
    sensitive(format!("Basic {}", BASE64.encode(format!("{user}:{}", password.expose()))))
}

/// None if a header can't hold it: then no server can ask for it either.
fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(credentials: &Credentials, url: &str) -> Option<String> {
        let url: CacheUrl = url.parse().unwrap();
        let header = credentials.authorization(&url, &url.http_base().unwrap());
        header.map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn each_credential_goes_where_it_belongs() {
        let credentials = Credentials {
            netrc: Netrc::parse("machine a.example login me password sesame\nmachine t.example login x password y"),
            tokens: vec![("https://t.example/team".parse().unwrap(), Secret::new("token"))],
            cachix: Some(Secret::new("cachix")),
            aws: AwsCredentials::default(),
        };
        assert_eq!(sent(&credentials, "https://a.example/x").as_deref(), Some("Basic bWU6c2VzYW1l"));
        assert_eq!(sent(&credentials, "https://you:open@a.example").as_deref(), Some("Basic eW91Om9wZW4="));
        assert_eq!(sent(&credentials, "https://t.example/team").as_deref(), Some("Bearer token"));
        assert_eq!(sent(&credentials, "https://t.example/other").as_deref(), Some("Basic eDp5"));
        assert_eq!(sent(&credentials, "cachix://mine").as_deref(), Some("Bearer cachix"));
        assert_eq!(sent(&credentials, "https://b.example"), None);
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("sesame") && !shown.contains("token\"") && !shown.contains("\"cachix\""), "{shown}");
    }

    #[test]
    fn keys_come_from_variables_or_profiles() {
        let mut environment = Environment::default();
        environment.set("AWS_ACCESS_KEY_ID", "id");
        assert!(Credentials::from_environment(&environment).aws.keys.is_none());
        environment.set("AWS_SECRET_ACCESS_KEY", "secret");
        environment.set("AWS_DEFAULT_REGION", "eu");
        let mut aws = Credentials::from_environment(&environment).aws;
        aws.add_profiles(
            "# mine\n[default]\naws_access_key_id = d\naws_secret_access_key=x=\n[profile ci]\naws_access_key_id = c\n\
             aws_secret_access_key = y\naws_session_token = z\n[half]\naws_access_key_id = h\n",
        );
        let id = |aws: &AwsCredentials, profile| aws.keys_for(profile).map(|keys| keys.access_key_id.clone());
        assert_eq!(id(&aws, None).as_deref(), Some("id"));
        assert_eq!(id(&aws, Some("ci")).as_deref(), Some("c"));
        assert_eq!(id(&aws, Some("half")), None);
        assert_eq!(id(&aws, Some("none")), None);
        aws.keys = None;
        assert_eq!(id(&aws, None).as_deref(), Some("d"));
        assert_eq!(aws.profiles["default"].secret_access_key.expose(), "x=");
        assert_eq!(aws.region.as_deref(), Some("eu"));
    }
}
