//! Why a request is refused, and the answer that says so. What the client can't help is told to the log alone.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nixcache_core::error_chain::chain;
use nixcache_core::nif::ArchiveError;
use nixcache_core::nix::narinfo::NarInfoError;
use nixcache_core::nix::{StorePath, Unverified};

use crate::check::CheckError;
use crate::storage::StorageError;
use crate::token::Scope;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no such file")]
    NotFound,
    #[error("this needs a token: as Bearer, or as the password of Basic")]
    NoToken,
    #[error("this needs a token with the scope {needed}")]
    Scope { needed: Scope },
    #[error("the body has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the body did not come in time")]
    Slow,
    #[error("the body was cut off")]
    CutOff,
    #[error("the body must not have a Content-Encoding")]
    Encoded,
    #[error("{source}")]
    NarInfo { source: NarInfoError },
    #[error("{what}")]
    Format { what: &'static str },
    #[error("the URL must be nar/<SHA-256 of the file>.nar with .zst, .xz or nothing after it")]
    Url,
    #[error("{field} says something else than the NAR at this URL")]
    Mismatch { field: &'static str },
    #[error("the NAR is not there: upload it before its narinfo")]
    MissingNar,
    #[error("{} of its references are not there, such as {first}: upload them first", .count)]
    MissingReferences { first: StorePath, count: usize },
    #[error("{source}")]
    Unverified { source: Unverified },
    #[error("there is another file of this name, and files never change")]
    Exists,
    #[error("the NAR can't be used: {}", chain(.source))]
    Check { source: CheckError },
    #[error("the archive can't be used: {}", chain(.source))]
    Archive { source: ArchiveError },
    #[error("garbage is being collected: try again in a while")]
    Collecting,
    #[error("this took too long")]
    Time,
    #[error("too much of this is going on: try again in a while")]
    Busy,
    #[error("the cache's files can't be used")]
    Storage { source: StorageError },
}

impl From<StorageError> for Refusal {
    fn from(source: StorageError) -> Self {
        Self::Storage { source }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::Scope { .. } | Self::Unverified { .. } => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::CutOff | Self::NarInfo { .. } | Self::Format { .. } | Self::Url => StatusCode::BAD_REQUEST,
            Self::Mismatch { .. }
            | Self::MissingNar
            | Self::MissingReferences { .. }
            | Self::Check { .. }
            | Self::Archive { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Exists => StatusCode::CONFLICT,
            Self::Collecting | Self::Time | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Storage { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What went wrong in the store, for the log. It travels with the answer.
#[derive(Clone)]
pub(crate) struct Cause(pub(crate) std::sync::Arc<StorageError>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::NoToken => {
                let challenge = HeaderValue::from_static("Basic realm=\"binary cache\", charset=\"UTF-8\"");
                headers.append(header::WWW_AUTHENTICATE, challenge);
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"binary cache\""));
            }
            Self::Collecting | Self::Time => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            }
            // It was waited for already, and there are clients that wait no longer than this.
            Self::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Storage { source } => {
                response.extensions_mut().insert(Cause(std::sync::Arc::new(source)));
            }
            _ => {}
        }
        response
    }
}
