//! Who may do what.

use base64::Engine as _;
use nixcache_server::{Event, Location, Options, Scope, Server, TokenFile};

use crate::client::{Answer, request};
use crate::fixture::{Item, Running, options, root};

/// Tokens of each scope.
struct Tokens {
    server: Running,
    read: String,
    write: String,
}

impl Tokens {
    fn new(private: bool) -> Self {
        let [mut read, mut write] = [String::new(), String::new()];
        let server = Running::with(|options| {
            options.private = private;
            let path = options.tokens.as_ref().unwrap();
            let mut file = TokenFile::read(path).unwrap();
            read = file.add("reader".parse().unwrap(), Scope::Read).unwrap().reveal().to_owned();
            write = file.add("writer".parse().unwrap(), Scope::Write).unwrap().reveal().to_owned();
            file.write(path).unwrap();
        });
        Self { server, read, write }
    }

    fn with(&self, authorization: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        request(self.server.address, method, path, &[("Authorization", authorization)], body)
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(token: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("anyone:{token}")))
}

#[test]
fn uploading_needs_a_token_that_allows_it() {
    let tokens = Tokens::new(false);
    let item = Item::new("thing", b"x", &[]);
    let path = item.nar_path();
    let nobody = request(tokens.server.address, "PUT", &path, &[], &item.file);
    assert_eq!(nobody.status, 401);
    let challenges = nobody.headers("www-authenticate");
    assert!(challenges.iter().any(|challenge| challenge.starts_with("Basic ")), "{challenges:?}");
    assert!(challenges.iter().any(|challenge| challenge.starts_with("Bearer ")), "{challenges:?}");
    for wrong in ["Bearer wrong", "Bearer ", "Basic !", "Negotiate abc", "nonsense"] {
        assert_eq!(tokens.with(wrong, "PUT", &path, &item.file).status, 401, "{wrong}");
    }
    assert_eq!(tokens.with(&bearer(&tokens.read), "PUT", &path, &item.file).status, 403);
    assert!(tokens.server.files().is_empty(), "{:?}", tokens.server.files());
    assert_eq!(tokens.with(&bearer(&tokens.write), "PUT", &path, &item.file).status, 201);
    assert_eq!(tokens.with(&basic(&tokens.write), "PUT", &path, &item.file).status, 200);
    for (method, path) in [("POST", "/api/v1/gc"), ("GET", "/api/v1/pins"), ("DELETE", "/api/v1/pins/x")] {
        assert_eq!(tokens.with(&bearer(&tokens.write), method, path, &[]).status, 403, "{method} {path}");
        assert_eq!(tokens.server.send(method, path, &[]).status, 200, "{method} {path}");
    }
}

#[test]
fn a_private_cache_is_read_with_a_token() {
    let tokens = Tokens::new(true);
    let item = Item::new("thing", b"x", &[]);
    tokens.server.publish(&item);
    let body = format!(r#"{{"hashes":["{}"]}}"#, item.narinfo.store_path.hash());
    let reads = [
        ("GET", "/nix-cache-info".to_owned(), &b""[..]),
        ("GET", item.path(), b""),
        ("HEAD", item.path(), b""),
        ("GET", item.nar_path(), b""),
        ("GET", "/metrics".to_owned(), b""),
        ("POST", "/api/v1/narinfos".to_owned(), body.as_bytes()),
    ];
    for (method, path, body) in reads {
        assert_eq!(request(tokens.server.address, method, &path, &[], body).status, 401, "{method} {path}");
        for authorization in [bearer(&tokens.read), basic(&tokens.read), basic(&tokens.write)] {
            let answer = tokens.with(&authorization, method, &path, body);
            assert_eq!(answer.status, 200, "{method} {path}");
            let caching = answer.headers("cache-control");
            assert!(!caching.iter().any(|value| value.contains("public")), "{path}: {caching:?}");
        }
    }
    assert_eq!(tokens.server.get("/healthz").status, 200);
    assert_eq!(tokens.server.get("/unknown").status, 401, "what is there is nobody's business");
}

#[test]
fn without_tokens_nobody_uploads() {
    let server = Running::with(|options| options.tokens = None);
    let item = Item::new("thing", b"x", &[]);
    assert_eq!(server.put(&item.nar_path(), &item.file).status, 401);
    assert_eq!(server.get("/nix-cache-info").status, 200);
}

#[test]
fn what_anyone_may_read_is_given_whatever_credential_comes_with_it() {
    let with_tokens = Running::new();
    let without_tokens = Running::with(|options| options.tokens = None);
    for server in [&with_tokens, &without_tokens] {
        for credential in ["Bearer stale", "Basic dXNlcjpwYXNzd29yZA==", "Negotiate abc", "nonsense"] {
            let with = |method, path| {
                request(server.address, method, path, &[("Authorization", credential)], b"{\"hashes\":[]}").status
            };
            assert_eq!(with("GET", "/nix-cache-info"), 200, "{credential}");
            assert_eq!(with("POST", "/api/v1/missing"), 200, "{credential}");
            assert_eq!(with("POST", "/api/v1/gc"), 401, "{credential}");
        }
    }
}

#[test]
fn a_token_that_was_removed_counts_no_more_and_a_new_one_does() {
    let tokens = Tokens::new(false);
    let path = root(&tokens.server.directory).join("tokens.toml");
    let mut file = TokenFile::read(&path).unwrap();
    assert!(file.remove(&"writer".parse().unwrap()));
    let new = file.add("new".parse().unwrap(), Scope::Write).unwrap();
    file.write(&path).unwrap();
    let listing = br#"{"version":1,"root":{"type":"directory","entries":{}}}"#;
    let put = |token: &str| tokens.with(&bearer(token), "PUT", "/vjjjypqlg1pgfwnjjbzxr8nd5x41laka.ls", listing).status;
    while put(&tokens.write) != 401 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(matches!(put(new.reveal()), 200 | 201));
}

#[test]
fn logs_name_tokens_and_never_show_them() {
    let tokens = Tokens::new(false);
    let item = Item::new("thing", b"x", &[]);
    tokens.with(&bearer(&tokens.write), "PUT", &item.nar_path(), &item.file);
    tokens.with(&basic(&tokens.read), "PUT", &item.nar_path(), &item.file);
    let query = format!("/nix-cache-info?token={}", tokens.write);
    tokens.with(&bearer("wrong-token"), "PUT", &query, &[]);
    let events = tokens.server.events.lock().unwrap().clone();
    let lines: Vec<String> = events
        .iter()
        .map(|event| match event {
            Event::Request(line) => line.to_string(),
            Event::Trouble(text) | Event::Note(text) => text.clone(),
        })
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with(&format!("PUT {} 201 ", item.nar_path())), "{lines:?}");
    assert!(lines[0].ends_with(" writer"), "{lines:?}");
    assert!(lines[2].starts_with("PUT /nix-cache-info 401 "), "{lines:?}");
    for secret in [&tokens.read, &tokens.write, "wrong-token"] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{lines:?}");
    }
}

#[test]
fn logs_show_of_a_path_what_is_visible_ascii() {
    let server = Running::new();
    // The first is an escape sequence in one character, the second turns the rest of the line around.
    assert_eq!(server.get("/a\u{9b}2J/\u{202e}b/%0a/ü").status, 404);
    let events = server.events.lock().unwrap().clone();
    let [Event::Request(line)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(line.path, "/a%C2%9B2J/%E2%80%AEb/%0a/%C3%BC");
}

#[test]
fn one_server_at_a_time_has_a_directory() {
    let server = Running::new();
    let location = || Location::Directory(server.data());
    let second = Server::new(Options::new(location()), &[]);
    assert!(
        second.is_err_and(|error| std::error::Error::source(&error).unwrap().to_string().contains("another server"))
    );
    let directory = server.join();
    let (options, _) = options(&directory);
    assert!(Server::new(options, &[]).is_ok());
}

#[test]
fn whoever_may_read_learns_which_keys_to_trust() {
    let other = nixcache_core::nix::SecretKey::generate("other-1".parse().unwrap(), &[9; 32]).public();
    let keys = |server: &Running| {
        let answer = server.send("GET", "/api/v1/public-keys", b"").json();
        assert_eq!(answer["version"], 1);
        answer["public_keys"].clone()
    };
    assert_eq!(keys(&Running::new()), serde_json::json!([]));
    let trusting = Running::with(|options| options.signing.trusted_keys = [other.clone()].into_iter().collect());
    assert_eq!(keys(&trusting), serde_json::json!([other.to_string()]));
    let signing = Running::with(|options| {
        options.signing.trusted_keys = [other.clone()].into_iter().collect();
        options.signing.key = Some(crate::fixture::key());
        options.private = true;
    });
    assert_eq!(
        keys(&signing),
        serde_json::json!([crate::fixture::key().public().to_string()]),
        "it signs all it takes"
    );
    assert_eq!(signing.get("/api/v1/public-keys").status, 401);
}
