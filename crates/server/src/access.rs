//! Who may do what. Every request passes here before anything else looks at it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::{Utf8Path, Utf8PathBuf};

use crate::error::Refusal;
use crate::log::{Event, Sink};
use crate::token::{Scope, TokenError, TokenFile, TokenName};

/// How long the tokens are good without a look at their file.
const FRESH: Duration = Duration::from_secs(1);

/// How long tokens stay good when their file can't be read any more, or isn't of its form: somebody may be editing it.
/// Who may do what isn't known then, and a token that was removed must not stay good for that.
const PATIENCE: Duration = Duration::from_secs(10);

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

    /// Whose token this request shows, or why it may not do what it `needs`. Where no token is needed, one that isn't valid
    /// doesn't matter: it may be for the proxy before this server, or be left in somebody's netrc.
    pub(crate) fn check(&self, headers: &HeaderMap, needs: Option<Scope>) -> Result<Option<TokenName>, Refusal> {
        let Some(needed) = needs else { return Ok(None) };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| shown_token(value.to_str().ok()?));
        let tokens = self.tokens.as_ref().filter(|_| shown.is_some()).map(TokenSource::current);
        let known = shown.zip(tokens.as_ref()).and_then(|(token, tokens)| tokens.find(&token));
        match known {
            Some((name, scope)) if scope >= needed => Ok(Some(name.clone())),
            _ if needed == Scope::Read && !self.private => Ok(None),
            Some(_) => Err(Refusal::Scope { needed }),
            None => Err(Refusal::NoToken),
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
    /// Of the file that was read last.
    seen: Option<Seen>,
    looked: Instant,
    /// Since when the file can't be used.
    wrong: Option<Instant>,
}

impl TokenSource {
    fn new(path: &Utf8Path, sink: Sink) -> Result<Self, TokenError> {
        let seen = Seen::look(path);
        let state = State { tokens: Arc::new(TokenFile::read(path)?), seen, looked: Instant::now(), wrong: None };
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
        self.look(&mut state, PATIENCE);
        Arc::clone(&state.tokens)
    }

    /// Reads the file again if it isn't the one that was read.
    fn look(&self, state: &mut State, patience: Duration) {
        let seen = Seen::look(&self.path);
        if seen == state.seen && state.wrong.is_none() {
            return;
        }
        let error = match TokenFile::read(&self.path) {
            Ok(tokens) => {
                if state.wrong.take().is_some() {
                    self.sink.send(&Event::Note("the file of tokens can be used again".into()));
                }
                (state.tokens, state.seen) = (Arc::new(tokens), seen);
                return;
            }
            Err(error) => error,
        };
        let since = *state.wrong.get_or_insert_with(|| {
            let seconds = patience.as_secs();
            self.sink.trouble(&format!("the tokens stay as they were for {seconds} s at most"), &error);
            Instant::now()
        });
        // Nobody may have asked since it was changed.
        let changed = seen.and_then(|seen| SystemTime::now().duration_since(seen.modified).ok()).unwrap_or_default();
        if changed.max(since.elapsed()) >= patience && state.tokens.iter().next().is_some() {
            self.sink.trouble("no token counts until their file can be used", &error);
            state.tokens = Arc::default();
        }
    }
}

/// What tells that a file is another one, or that other people may read it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    modified: SystemTime,
    length: u64,
    /// The file itself, and when anything of it was changed. A file can be put in place with an old time.
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Seen {
    /// `None` if there is no file.
    fn look(path: &Utf8Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Some(Self {
            modified: metadata.modified().ok()?,
            length: metadata.len(),
            #[cfg(unix)]
            inode: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        })
    }
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
    fn tokens_whose_file_can_not_be_used_stay_good_for_a_moment_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("tokens.toml");
        let mut file = TokenFile::default();
        let token = file.add("ci".parse().unwrap(), Scope::Write).unwrap();
        file.write(&path).unwrap();
        let events = Arc::new(std::sync::Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let source = TokenSource::new(&path, Sink::new(move |event| told.lock().unwrap().push(event.clone()))).unwrap();
        let is_good = |patience| {
            let mut state = source.state.write().unwrap();
            source.look(&mut state, patience);
            state.tokens.find(token.reveal()).is_some()
        };
        let (hour, none) = (Duration::from_secs(3600), Duration::ZERO);
        assert!(is_good(none));
        let break_it: [&dyn Fn(); 2] = [&|| std::fs::write(&path, "nonsense").unwrap(), &|| {
            // No user can read this as a file, not even root.
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        }];
        for breaking in break_it {
            breaking();
            assert!(is_good(hour), "somebody may be editing it");
            assert!(is_good(hour));
            assert!(!is_good(none));
            assert!(!is_good(hour), "it doesn't come back by itself");
            let said = std::mem::take(&mut *events.lock().unwrap());
            let [Event::Trouble(first), Event::Trouble(second)] = &said[..] else { panic!("{said:?}") };
            assert!(first.contains("stay as they were") && second.contains("no token counts"), "{said:?}");
            let _ = std::fs::remove_dir(&path);
            file.write(&path).unwrap();
            assert!(is_good(none));
            assert_eq!(std::mem::take(&mut *events.lock().unwrap()).len(), 1);
        }
    }

    #[test]
    fn a_file_that_takes_the_place_of_another_counts_whatever_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("tokens.toml");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let dated = |file: &TokenFile| {
            file.write(&path).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        let mut file = TokenFile::default();
        let token = file.add("ci".parse().unwrap(), Scope::Write).unwrap();
        dated(&file);
        let source = TokenSource::new(&path, Sink::default()).unwrap();
        file.remove(&"ci".parse().unwrap());
        dated(&file);
        let mut state = source.state.write().unwrap();
        source.look(&mut state, PATIENCE);
        assert!(state.tokens.find(token.reveal()).is_none());
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
