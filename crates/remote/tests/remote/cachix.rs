//! Publishing to Cachix: a server that speaks its API, and takes nothing that is not as its own client writes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use nixcache_core::nix::{HashingReader, KeyName, Sha256, Signature};
use nixcache_remote::{RemoteOptions, Secret};
use serde_json::{Value, json};

use crate::server::{Reply, Request, Server};
use crate::support::{Sample, Watched, key, publish_options};

/// What the server holds.
#[derive(Default)]
struct State {
    parts: BTreeMap<u32, Vec<u8>>,
    /// What was completed: the description, and the file.
    complete: Vec<(Value, Vec<u8>)>,
    aborted: usize,
}

struct Cachix {
    state: Arc<Mutex<State>>,
    server: Server,
}

const UPLOADS: &str = "/api/v1/cache/mine/multipart-nar";

fn query(target: &str) -> BTreeMap<String, String> {
    let pairs = target.split_once('?').map_or("", |(_, query)| query).split('&');
    pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn json_reply(value: &Value) -> Reply {
    Reply::with(200, &[("Content-Type", "application/json")], value.to_string().as_bytes())
}

impl Cachix {
    /// `fails` has another answer for some requests.
    fn new(there: &'static [&'static str], fails: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let inner = Arc::clone(&state);
        let server = Server::new(move |request| {
            fails(request).unwrap_or_else(|| answer(request, there, &mut inner.lock().unwrap()))
        });
        Self { state, server }
    }

    fn options(&self) -> RemoteOptions {
        let mut options = publish_options(&["cachix://mine"]);
        options.credentials.cachix = Some(Secret::new("token"));
        options.network.cachix_api = Some(format!("{}/api/v1", self.server.url()).parse().unwrap());
        options
    }
}

fn answer(request: &Request, there: &[&str], state: &mut State) -> Reply {
    let (path, query) = (request.target.split('?').next().unwrap(), query(&request.target));
    if request.method == "PUT" && path.starts_with("/bucket/") {
        let number = path.strip_prefix("/bucket/").unwrap().parse().unwrap();
        if request.has_credentials() || query["signature"] != "s" {
            return Reply::status(403);
        }
        if request.headers["content-md5"] != BASE64.encode(Md5::digest(&request.body)) {
            return Reply::status(400);
        }
        state.parts.insert(number, request.body.clone());
        return Reply::with(200, &[("ETag", &format!("\"tag-{number}\""))], b"");
    }
    if request.headers.get("authorization").map(String::as_str) != Some("Bearer token") {
        return Reply::status(401);
    }
    assert_eq!(request.method, "POST");
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    if path == "/api/v1/cache/mine/narinfo" {
        let asked = body.as_array().unwrap().iter();
        let missing: Vec<_> = asked.filter(|hash| !there.contains(&hash.as_str().unwrap())).collect();
        return json_reply(&json!(missing));
    }
    if path == UPLOADS && query["compression"] == "zst" {
        state.parts.clear();
        return json_reply(&json!({"narId": "nar/1", "uploadId": "upload 1"}));
    }
    // The identifiers come back as they were given, escaped.
    assert!(["upload+1", "upload%201"].contains(&query["uploadId"].as_str()), "{query:?}");
    match path.strip_prefix(UPLOADS).unwrap() {
        "/nar%2F1" => {
            assert!(BASE64.decode(body["contentMD5"].as_str().unwrap()).unwrap().len() == 16);
            json_reply(&json!({"uploadUrl": format!("/bucket/{}?signature=s", query["partNumber"])}))
        }
        "/nar%2F1/complete" => {
            let tags = (1..=state.parts.len()).map(|n| json!({"partNumber": n, "eTag": format!("\"tag-{n}\"")}));
            assert_eq!(body["parts"], Value::Array(tags.collect()));
            let file = state.parts.values().flatten().copied().collect();
            state.complete.push((body["narInfoCreate"].clone(), file));
            Reply::status(200)
        }
        "/nar%2F1/abort" => {
            state.aborted += 1;
            Reply::status(200)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_path_is_published_as_the_client_of_cachix_does_it() {
    let cachix = Cachix::new(&[], |_| None);
    let leaf = Sample::new("leaf", 100);
    // More than one part.
    let large = Sample::new("large", 17 << 20).referring_to(&leaf);
    let report = Watched::new(cachix.options()).publish(&[&leaf, &large]);
    assert_eq!((report.published, report.failed.len()), (2, 0), "{:?}", report.failed);
    let state = cachix.state.lock().unwrap();
    assert_eq!((state.complete.len(), state.aborted), (2, 0));
    for (sample, (described, file)) in [&leaf, &large].into_iter().zip(&state.complete) {
        let mut nar = HashingReader::new(zstd::stream::read::Decoder::new(&file[..]).unwrap());
        std::io::copy(&mut nar, &mut std::io::sink()).unwrap();
        assert_eq!(nar.into_parts().1.finish(), Sha256::of(&sample.nar));
        let signature = described["cSig"].as_str().unwrap();
        let references: Vec<_> = sample.references.iter().map(|reference| reference.base_name()).collect();
        assert_eq!(
            *described,
            json!({
                "cStoreHash": sample.path.hash().to_string(),
                "cStoreSuffix": sample.path.name().as_str(),
                "cNarHash": format!("sha256:{}", Sha256::of(&sample.nar).to_nix32()),
                "cNarSize": sample.nar.len(),
                "cFileHash": Sha256::of(file).to_hex(),
                "cFileSize": file.len(),
                "cReferences": references,
                "cDeriver": "unknown-deriver",
                "cSig": signature,
            })
        );
        let name: KeyName = "test-1".parse().unwrap();
        let bytes = BASE64.decode(signature).unwrap().try_into().unwrap();
        let fingerprint = sample.narinfo(nixcache_core::nix::Compression::Zstd, file).fingerprint();
        assert!(key().public().verifies(fingerprint.as_bytes(), &Signature::new(name, bytes)));
    }
}

#[test]
fn without_a_key_cachix_signs() {
    let cachix = Cachix::new(&[], |_| None);
    let mut options = cachix.options();
    options.secret_key = None;
    assert_eq!(Watched::new(options).publish(&[&Sample::new("sample", 1)]).published, 1);
    assert_eq!(cachix.state.lock().unwrap().complete[0].0["cSig"], Value::Null);
}

#[test]
fn what_cachix_has_is_not_sent() {
    let sample = Sample::new("sample", 1);
    let hash: &'static str = sample.path.hash().to_string().leak();
    let cachix = Cachix::new(Vec::leak(vec![hash]), |_| None);
    let report = Watched::new(cachix.options()).publish(&[&sample]);
    assert_eq!((report.published, report.already_there, report.failed.len()), (0, 1, 0));
    assert_eq!(cachix.server.requests().len(), 1);
}

#[test]
fn an_upload_that_fails_is_given_up() {
    for fails in ["/bucket/", "/complete"] {
        let cachix = Cachix::new(&[], move |request| request.target.contains(fails).then(|| Reply::status(400)));
        let report = Watched::new(cachix.options()).publish(&[&Sample::new("sample", 1)]);
        assert_eq!((report.published, report.failed.len()), (0, 1));
        let state = cachix.state.lock().unwrap();
        assert_eq!((state.complete.len(), state.aborted), (0, 1), "{fails}");
    }
}

#[test]
fn a_wrong_token_is_told() {
    let cachix = Cachix::new(&[], |_| None);
    let mut options = cachix.options();
    options.credentials.cachix = Some(Secret::new("other"));
    let watched = Watched::new(options);
    assert_eq!(watched.publish(&[&Sample::new("sample", 1)]).failed.len(), 1);
    assert!(watched.left_out()[0].contains("(401)"), "{:?}", watched.left_out());
}
