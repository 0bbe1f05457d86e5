//! Where a cache's files are: a directory, or a bucket as Nix's URLs name it.

use std::str::FromStr;

use camino::Utf8PathBuf;
use url::Url;

/// Why a text is no place for files. It doesn't say which text: there may be a key in it, where none belongs.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// An URL of another kind than `s3`.
    #[error("use it for the cache's files: only directories and s3:// are known")]
    Kind,
    /// Not an URL, or one with parts that have no place.
    #[error("use it for the cache's files: it must be s3://BUCKET with parameters, and keys come from AWS_* variables")]
    Url,
    /// A parameter that isn't known, or a value that it can't have.
    #[error("use the parameter {name:?} of the bucket {bucket}")]
    Parameter {
        /// The bucket.
        bucket: String,
        /// The parameter.
        name: String,
    },
}

/// Where a cache's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a directory of this machine, which one server at a time can use.
    Directory(Utf8PathBuf),
    /// In an S3 bucket, which several can share.
    Bucket(Bucket),
}

/// An S3 bucket, as Nix's URLs name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub(crate) name: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) plain_http: bool,
    pub(crate) virtual_hosted: bool,
}

impl FromStr for Location {
    type Err = LocationError;

    /// Reads a directory, or `s3://BUCKET?region=…&endpoint=…&scheme=http|https&addressing-style=path|virtual`.
    fn from_str(text: &str) -> Result<Self, LocationError> {
        let Some((kind, _)) = text.split_once("://") else {
            return Ok(Self::Directory(text.into()));
        };
        if kind != "s3" {
            return Err(LocationError::Kind);
        }
        let url = Url::parse(text).map_err(|_| LocationError::Url)?;
        let name = url.host_str().ok_or(LocationError::Url)?.to_owned();
        let plain = url.username().is_empty() && url.password().is_none() && url.port().is_none();
        if !plain || !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(LocationError::Url);
        }
        let mut bucket = Bucket { name, region: None, endpoint: None, plain_http: false, virtual_hosted: false };
        for (name, value) in url.query_pairs() {
            match (name.as_ref(), value.as_ref()) {
                ("region", region) => bucket.region = Some(region.to_owned()),
                // What is asked for is shown when it fails, so nothing secret can be in it.
                ("endpoint", endpoint) if !endpoint.contains('@') => bucket.endpoint = Some(endpoint.to_owned()),
                ("scheme", "http") => bucket.plain_http = true,
                ("scheme", "https") => bucket.plain_http = false,
                ("addressing-style", "path" | "auto") => bucket.virtual_hosted = false,
                ("addressing-style", "virtual") => bucket.virtual_hosted = true,
                _ => return Err(LocationError::Parameter { bucket: bucket.name, name: name.into_owned() }),
            }
        }
        Ok(Self::Bucket(bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_directories_and_buckets() {
        assert_eq!("/srv/cache".parse::<Location>().unwrap(), Location::Directory("/srv/cache".into()));
        let text = "s3://caches?region=eu-1&endpoint=s3.example.org:9000&scheme=http&addressing-style=virtual";
        let bucket = Bucket {
            name: "caches".into(),
            region: Some("eu-1".into()),
            endpoint: Some("s3.example.org:9000".into()),
            plain_http: true,
            virtual_hosted: true,
        };
        assert_eq!(text.parse::<Location>().unwrap(), Location::Bucket(bucket));
        for bad in ["http://x", "s3://", "s3://a/b", "s3://user:secret@a", "s3://a?profile=x", "s3://a?scheme=ftp"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
        let secret =
            ["s3://AK:sesame@a", "https://AK:sesame@a", "s3://a?endpoint=https://AK:sesame@b", "s3://a/sesame"];
        for text in secret {
            let error = text.parse::<Location>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error}");
        }
    }
}
