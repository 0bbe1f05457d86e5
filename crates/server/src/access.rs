//! Who may do what. Every request passes here before anything else looks at it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::{Utf8Path, Utf8PathBuf};

use crate::error::Refusal;
use crate::log::Sink;
use crate::token::{Scope, TokenError, TokenFile, TokenName};

/// How long the tokens are good without a look at their file.
const FRESH: Duration = Duration::from_secs(1);

/// What a request needs. What isn't known here needs the most.
pub(crate) fn needed(method: &Method, path: &str) -> Option<Scope> {
    let reads = method == Method::GET || method == Method::HEAD;
    match path {
        "/healthz" => None,
        "/api/v1/narinfos" | "/api/v1/missing" => Some(Scope::Read),
        "/api/v1/public-keys" if reads => Some(Scope::Read),
        _ if path.starts_with("/api/") => Some(Scope::Admin),
        _ if reads => Some(Scope::Read),
        _ if method == Method::PUT => Some(Scope::Write),
        _ => Some(Scope::Admin),
    }
}

/// The tokens, and what needs none.
pub(crate) struct Access {
    private: bool,
    tokens: Option<TokenSource>,
}

impl Access {
    /// Reads the file of tokens, if there is to be one.
    pub(crate) fn new(private: bool, tokens: Option<&Utf8Path>, sink: &Sink) -> Result<Self, TokenError> {
        let tokens = tokens.map(|path| TokenSource::new(path, sink.clone())).transpose()?;
        Ok(Self { private, tokens })
    }

    /// Whether reading needs a token.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }

    /// Whose token this request shows, or why it may not do what it `needs`. A token that isn't valid is refused even
    /// where none is needed: its owner believes to be someone here.
    pub(crate) fn check(&self, headers: &HeaderMap, needs: Option<Scope>) -> Result<Option<TokenName>, Refusal> {
        let shown = headers.get(header::AUTHORIZATION).map(|value| value.to_str().ok().and_then(shown_token));
        let free = needs.is_none() || (needs == Some(Scope::Read) && !self.private);
        match (shown, needs) {
            (_, None) => Ok(None),
            (None, _) if free => Ok(None),
            (None | Some(None), _) => Err(Refusal::NoToken),
            (Some(Some(token)), Some(needed)) => {
                let tokens = self.tokens.as_ref().map(TokenSource::current).ok_or(Refusal::NoToken)?;
                match tokens.find(&token) {
                    None => Err(Refusal::NoToken),
                    Some((name, _)) if free => Ok(Some(name.clone())),
                    Some((name, scope)) if scope >= needed => Ok(Some(name.clone())),
                    Some(_) => Err(Refusal::Scope { needed }),
                }
            }
        }
    }
}

/// The token in `Bearer …` or, as password, in `Basic …`. The user's name doesn't matter.
fn shown_token(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(rest.trim()).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// The file of tokens. Changes count within a second, without a restart.
struct TokenSource {
    path: Utf8PathBuf,
    sink: Sink,
    state: RwLock<State>,
}

struct State {
    tokens: Arc<TokenFile>,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl TokenSource {
    fn new(path: &Utf8Path, sink: Sink) -> Result<Self, TokenError> {
        let modified = modified(path);
        let state = State { tokens: Arc::new(TokenFile::read(path)?), modified, looked: Instant::now() };
        Ok(Self { path: path.to_owned(), sink, state: RwLock::new(state) })
    }

    fn current(&self) -> Arc<TokenFile> {
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.looked.elapsed() < FRESH {
                return Arc::clone(&state.tokens);
            }
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.looked = Instant::now();
        let modified = modified(&self.path);
        if modified != state.modified {
            match TokenFile::read(&self.path) {
                Ok(tokens) => (state.tokens, state.modified) = (Arc::new(tokens), modified),
                // The tokens that were good stay good: a slip of an editor must not lock everyone out.
                Err(error) => self.sink.trouble("the tokens stay as they were", &error),
            }
        }
        Arc::clone(&state.tokens)
    }
}

fn modified(path: &Utf8Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_needs_the_most() {
        let get = Method::GET;
        assert_eq!(needed(&get, "/healthz"), None);
        assert_eq!(needed(&get, "/nix-cache-info"), Some(Scope::Read));
        assert_eq!(needed(&Method::POST, "/api/v1/narinfos"), Some(Scope::Read));
        assert_eq!(needed(&get, "/api/v1/public-keys"), Some(Scope::Read));
        assert_eq!(needed(&Method::PUT, "/api/v1/public-keys"), Some(Scope::Admin));
        assert_eq!(needed(&Method::PUT, "/nar/x.nar"), Some(Scope::Write));
        for (method, path) in [(Method::POST, "/api/v1/gc"), (get, "/api/v1/pins"), (Method::DELETE, "/x.narinfo")] {
            assert_eq!(needed(&method, path), Some(Scope::Admin), "{method} {path}");
        }
    }

    #[test]
    fn tokens_come_as_bearer_or_as_basic_password() {
        let basic = |text: &str| shown_token(&format!("Basic {}", BASE64.encode(text)));
        assert_eq!(shown_token("Bearer abc"), Some("abc".into()));
        assert_eq!(shown_token("bearer  abc "), Some("abc".into()));
        assert_eq!(basic("anyone:abc"), Some("abc".into()));
        assert_eq!(basic(":a:b"), Some("a:b".into()));
        for bad in ["", "Bearer", "abc", "Digest abc", "Basic !!!", "Basic YQ=="] {
            assert_eq!(shown_token(bad), None, "{bad}");
        }
    }
}
