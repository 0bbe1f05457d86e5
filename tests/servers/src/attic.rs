//! Attic: a server with one cache, which refuses what the real one refuses.
//!
//! The real one checks hash and size of what it gets, keeps one file for paths with the same NAR, replaces a path that
//! is sent again, and signs when it serves. Where it answers 404 or 403, it says 401 to whoever may not know of the
//! cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nixcache_core::nix::{PublicKey, SecretKey, Sha256, StorePath, StorePathHash};
use serde_json::{Value, json};

use crate::hosted::{Kept, Refused, check_nar, demand, fields, json_reply, path, references, sent_json, text};
use crate::{Internet, Reply, Request};

/// What hyper takes of one header, and the real server of a description in the body.
const HEADER: usize = 16 * 1024;
const PREAMBLE: usize = 1 << 20;

/// A server with one cache.
///
/// Clones are the same.
#[derive(Clone)]
pub struct Attic {
    cache: String,
    /// May push and pull.
    token: String,
    /// May pull alone.
    reader: String,
    key: Arc<SecretKey>,
    /// The most bytes of a body, as a web server before it has it.
    body_limit: Option<usize>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<StorePathHash, Kept>,
    /// How often a path was replaced.
    replaced: usize,
    deduplicated: usize,
    preambles: usize,
    refused: Vec<Refused>,
}

/// How a request ends if it doesn't go well: the status, Attic's name for it, and more.
struct Failure(u16, &'static str, String);

impl From<Refused> for Failure {
    fn from(why: Refused) -> Self {
        Self(400, "RequestError", why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl Attic {
    /// A private cache: `token` may do everything with it, `<token>-reader` may read it.
    pub fn new(cache: &str, token: &str) -> Self {
        Self {
            cache: cache.to_owned(),
            token: token.to_owned(),
            reader: format!("{token}-reader"),
            key: Arc::new(SecretKey::generate(format!("{cache}-1").parse().unwrap(), &[2; 32])),
            body_limit: None,
            state: Arc::default(),
        }
    }

    /// Behind a web server that takes bodies up to this size.
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// The key to trust.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// The number of paths that it has.
    pub fn paths(&self) -> usize {
        self.state.lock().unwrap().kept.len()
    }

    /// How often a path was sent that was there.
    pub fn replaced(&self) -> usize {
        self.state.lock().unwrap().replaced
    }

    /// How often a NAR was sent that another path has too.
    pub fn deduplicated(&self) -> usize {
        self.state.lock().unwrap().deduplicated
    }

    /// How often the description was in the body.
    pub fn preambles(&self) -> usize {
        self.state.lock().unwrap().preambles
    }

    /// Why things were refused.
    pub fn refused(&self) -> Vec<String> {
        self.state.lock().unwrap().refused.clone()
    }

    /// A network in which it is `attic.example.org`.
    pub fn internet(&self) -> Internet {
        let answers = self.clone();
        Internet::new(&["attic.example.org"], move |_, request| answers.answer(request))
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        let answer = match (request.method.as_str(), path(request)) {
            ("POST", "/_api/v1/get-missing-paths") => self.missing(request, &state),
            ("PUT", "/_api/v1/upload-path") => self.upload(request, &mut state),
            ("GET", name) if name.starts_with("/_api/v1/cache-config/") => {
                self.config(request, &name["/_api/v1/cache-config/".len()..])
            }
            ("GET" | "HEAD", name) => self.serve(request, name, &state),
            _ => Err(Failure(404, "NotFound", String::new())),
        };
        answer.unwrap_or_else(|Failure(code, error, message)| {
            // A miss is nothing that was refused.
            if error != "NoSuchObject" {
                state.refused.push(format!("{} {}: {code} {error} {message}", request.method, path(request)));
            }
            json_reply(code, &json!({"code": code, "error": error, "message": message}))
        })
    }

    /// Whose token it is: as Bearer, or as the password of Basic, which is how Nix sends it.
    fn may(&self, request: &Request, cache: &str, push: bool) -> Result<(), Failure> {
        let unauthorized = || Failure(401, "Unauthorized", String::new());
        let shown = request.headers.get("authorization").ok_or_else(unauthorized)?;
        let (scheme, rest) = shown.split_once(' ').ok_or_else(unauthorized)?;
        let token = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => rest.to_owned(),
            "basic" => {
                let text = BASE64.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                text.and_then(|text| Some(text.split_once(':')?.1.to_owned())).ok_or_else(unauthorized)?
            }
            _ => return Err(unauthorized()),
        };
        match (token == self.token, token == self.reader) {
            (false, false) => Err(unauthorized()),
            _ if cache != self.cache => Err(Failure(404, "NoSuchCache", String::new())),
            (false, true) if push => Err(Failure(403, "AccessError", "the token lacks the right to push".into())),
            _ => Ok(()),
        }
    }

    fn config(&self, request: &Request, cache: &str) -> Result<Reply, Failure> {
        self.may(request, cache, false)?;
        let host = request.headers.get("host").cloned().unwrap_or_default();
        Ok(json_reply(
            200,
            &json!({
                "substituter_endpoint": format!("https://{host}/{cache}"),
                "api_endpoint": format!("https://{host}/"),
                "public_key": self.public_key().to_string(),
                "is_public": false,
                "store_dir": "/nix/store",
                "priority": 41,
                "upstream_cache_key_names": ["cache.nixos.org-1"],
                "retention_period": "Global",
            }),
        ))
    }

    fn missing(&self, request: &Request, state: &State) -> Result<Reply, Failure> {
        let body = sent_json(request)?;
        let body = fields(&body, &["cache", "store_path_hashes"])?;
        self.may(request, text(&body["cache"], "the cache")?, true)?;
        let mut missing = Vec::new();
        for hash in body["store_path_hashes"].as_array().ok_or("the hashes are no list")? {
            let parsed: StorePathHash = text(hash, "a hash")?.parse().map_err(|_| "a hash is none")?;
            if !state.kept.contains_key(&parsed) {
                missing.push(hash);
            }
        }
        // In no order, as the real one answers.
        missing.reverse();
        Ok(json_reply(200, &json!({"missing_paths": missing})))
    }

    fn upload(&self, request: &Request, state: &mut State) -> Result<Reply, Failure> {
        if self.body_limit.is_some_and(|limit| request.body.len() > limit) {
            return Err(Failure(413, "Payload Too Large", String::new()));
        }
        let in_header = request.headers.get("x-attic-nar-info");
        let in_body = request.headers.get("x-attic-nar-info-preamble-size");
        let (description, nar) = match (in_header, in_body) {
            (Some(text), None) => {
                demand(text.len() <= HEADER, "the header is too long")?;
                (text.as_bytes(), &request.body[..])
            }
            (None, Some(size)) => {
                let size: usize = size.parse().map_err(|_| "the size of the preamble is none")?;
                demand(size <= PREAMBLE && size <= request.body.len(), "the preamble is too long")?;
                state.preambles += 1;
                request.body.split_at(size)
            }
            _ => return Err("X-Attic-Nar-Info or X-Attic-Nar-Info-Preamble-Size must be set".into()),
        };
        let description: Value = serde_json::from_slice(description).map_err(|error| error.to_string())?;
        let names = [
            "cache",
            "store_path_hash",
            "store_path",
            "references",
            "system",
            "deriver",
            "sigs",
            "ca",
            "nar_hash",
            "nar_size",
        ];
        let info = fields(&description, &names)?;
        self.may(request, text(&info["cache"], "the cache")?, true)?;
        let full: StorePath = text(&info["store_path"], "the path")?.parse().map_err(|_| "the path is none")?;
        demand(info["store_path_hash"] == json!(full.hash().to_string()), "another hash than the path's")?;
        let references = references(&info["references"])?;
        for optional in ["system", "deriver", "ca"] {
            demand(info[optional].is_null() || info[optional].is_string(), optional)?;
        }
        let sigs = info["sigs"].as_array().ok_or("the signatures are no list")?;
        demand(sigs.iter().all(|sig| sig.as_str().is_some_and(|sig| sig.contains(':'))), "a signature is none")?;
        let typed = text(&info["nar_hash"], "the hash")?;
        let hash: Sha256 = typed.parse().map_err(|_| "the hash is none")?;
        demand(typed == format!("sha256:{}", hash.to_hex()), "the hash is not in hexadecimal")?;
        check_nar(nar, hash, info["nar_size"].as_u64().ok_or("the size is none")?)?;

        let content_address = match info["ca"].as_str() {
            Some(ca) => Some(ca.parse().map_err(|_| "the content address is none")?),
            None => None,
        };
        let known = state.kept.values().any(|kept| kept.nar_hash == hash);
        let file = zstd::encode_all(nar, 1).map_err(|error| error.to_string())?;
        let file_size = file.len();
        let kept = Kept { path: full, references, nar_hash: hash, nar_size: nar.len() as u64, file, content_address };
        state.replaced += usize::from(state.kept.insert(*kept.path.hash(), kept).is_some());
        state.deduplicated += usize::from(known);
        let (kind, share) = if known { ("Deduplicated", 1.0) } else { ("Uploaded", 0.0) };
        Ok(json_reply(200, &json!({"kind": kind, "file_size": file_size, "frac_deduplicated": share})))
    }

    fn serve(&self, request: &Request, name: &str, state: &State) -> Result<Reply, Failure> {
        let not_found = || Failure(404, "NotFound", String::new());
        let (cache, file) = name.trim_start_matches('/').split_once('/').ok_or_else(not_found)?;
        self.may(request, cache, false)?;
        if file == "nix-cache-info" {
            let text = b"WantMassQuery: 1\nStoreDir: /nix/store\nPriority: 41\n";
            return Ok(Reply::with(200, &[("Content-Type", "text/x-nix-cache-info")], text));
        }
        let find = |hash: &str| -> Result<&Kept, Failure> {
            let hash: StorePathHash = hash.parse().map_err(|_| "the hash is none")?;
            state.kept.get(&hash).ok_or_else(|| Failure(404, "NoSuchObject", String::new()))
        };
        if let Some(hash) = file.strip_suffix(".narinfo") {
            let kept = find(hash)?;
            let text = kept.narinfo(&format!("nar/{hash}.nar"), &self.key).to_string();
            return Ok(Reply::with(200, &[("Content-Type", "text/x-nix-narinfo")], text.as_bytes()));
        }
        if let Some(hash) = file.strip_prefix("nar/").and_then(|file| file.strip_suffix(".nar")) {
            return Ok(Reply::with(200, &[], &find(hash)?.file));
        }
        Err(not_found())
    }
}
