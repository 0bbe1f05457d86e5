//! Cachix: its API and one cache, which refuse what isn't as its own client writes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use nixcache_core::nix::{KeyName, PublicKey, SecretKey, Sha256, Signature, StorePathHash};
use serde_json::{Value, json};

use crate::hosted::{Kept, Refused, check_nar, demand, fields, json_reply, path, query, references, sent_json, text};
use crate::{Internet, Reply, Request};

/// Parts have this many bytes or more, but for the last.
const SMALLEST_PART: usize = 5 << 20;

/// What an upload was completed with.
#[derive(Clone)]
pub struct Upload {
    /// The description of the path.
    pub described: Value,
    /// The file.
    pub file: Vec<u8>,
}

/// Cachix with one cache. The API is to be asked at any host at `/api/v1`, the parts go to `/bucket/` there, and the
/// cache is at the root.
///
/// Clones are the same.
#[derive(Clone)]
pub struct Cachix {
    name: String,
    token: String,
    /// Signs what has no signature.
    key: Arc<SecretKey>,
    /// The key of whoever signs for himself.
    signer: Option<PublicKey>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    begun: usize,
    /// The parts of uploads under way, with their tags.
    parts: BTreeMap<String, BTreeMap<u32, (Vec<u8>, String)>>,
    kept: BTreeMap<StorePathHash, (Kept, Option<Signature>)>,
    uploads: Vec<Upload>,
    aborted: usize,
    refused: Vec<Refused>,
}

impl Cachix {
    /// A public cache that this token may write.
    pub fn new(name: &str, token: &str) -> Self {
        let key = SecretKey::generate(format!("{name}.cachix.org-1").parse().unwrap(), &[1; 32]);
        Self { name: name.to_owned(), token: token.to_owned(), key: Arc::new(key), signer: None, state: Arc::default() }
    }

    /// A cache whose owner signs with a key of his own. What he hasn't signed is refused.
    pub fn signed_by(mut self, key: PublicKey) -> Self {
        self.signer = Some(key);
        self
    }

    /// The key to trust.
    pub fn public_key(&self) -> PublicKey {
        self.signer.clone().unwrap_or_else(|| self.key.public())
    }

    /// What was completed, in order.
    pub fn uploads(&self) -> Vec<Upload> {
        self.state.lock().unwrap().uploads.clone()
    }

    /// How many uploads were given up.
    pub fn aborted(&self) -> usize {
        self.state.lock().unwrap().aborted
    }

    /// Why things were refused.
    pub fn refused(&self) -> Vec<String> {
        self.state.lock().unwrap().refused.clone()
    }

    /// A network in which it has its real names: one host for the API and the parts, one for the cache.
    pub fn internet(&self) -> Internet {
        let (answers, cache) = (self.clone(), format!("{}.cachix.org", self.name));
        Internet::new(&["cachix.org", &cache], move |host, request| {
            let is_api = request.target.starts_with("/api/") || request.method == "PUT";
            if is_api == (host == "cachix.org") { answers.answer(request) } else { Reply::status(404) }
        })
    }

    /// Answers a request to the API, to the bucket, or to the cache.
    pub fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        let answer = if path(request).starts_with("/bucket/") {
            take_part(request, &mut state)
        } else if let Some(name) = path(request).strip_prefix("/api/v1/cache/") {
            match name.strip_prefix(self.name.as_str()) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => self.api(request, rest, &mut state),
                _ => Ok(Reply::status(404)),
            }
        } else {
            Ok(self.serve(request, &state))
        };
        answer.unwrap_or_else(|why| {
            state.refused.push(format!("{} {}: {why}", request.method, path(request)));
            json_reply(400, &json!({"error": why}))
        })
    }

    fn api(&self, request: &Request, rest: &str, state: &mut State) -> Result<Reply, Refused> {
        let authorized = request.headers.get("authorization") == Some(&format!("Bearer {}", self.token));
        if request.method == "GET" && rest.is_empty() {
            return Ok(json_reply(
                200,
                &json!({
                    "name": self.name,
                    "uri": format!("https://{}.cachix.org", self.name),
                    "isPublic": true,
                    "publicSigningKeys": [self.public_key().to_string()],
                    "permission": if authorized { "Write" } else { "Read" },
                    "preferredCompressionMethod": "ZSTD",
                    "githubUsername": "",
                }),
            ));
        }
        if !authorized {
            return Ok(Reply::status(401));
        }
        demand(request.method == "POST", "the method")?;
        if rest == "/narinfo" {
            let asked = sent_json(request)?;
            let asked = asked.as_array().ok_or("not a list")?;
            let mut missing = Vec::new();
            for hash in asked {
                let parsed: StorePathHash = text(hash, "a hash")?.parse().map_err(|_| "a hash is none")?;
                if !state.kept.contains_key(&parsed) {
                    missing.push(hash);
                }
            }
            return Ok(json_reply(200, &json!(missing)));
        }
        let query = query(request);
        let rest = rest.strip_prefix("/multipart-nar").ok_or("the path")?;
        if rest.is_empty() {
            demand(query.get("compression").map(String::as_str) == Some("zst"), "the compression")?;
            state.begun += 1;
            // Identifiers that must be escaped.
            let number = state.begun;
            state.parts.insert(number.to_string(), BTreeMap::new());
            return Ok(json_reply(
                200,
                &json!({"narId": format!("nar/{number}"), "uploadId": format!("upload {number}")}),
            ));
        }
        let (number, action) =
            rest.strip_prefix("/nar%2F").map(|rest| rest.split_once('/').unwrap_or((rest, ""))).ok_or("the NAR")?;
        demand(query.get("uploadId") == Some(&format!("upload {number}")), "the upload")?;
        demand(state.parts.contains_key(number), "there is no such upload")?;
        match action {
            "" => {
                let body = sent_json(request)?;
                let md5 = text(&fields(&body, &["contentMD5"])?["contentMD5"], "the MD5")?;
                demand(BASE64.decode(md5).is_ok_and(|md5| md5.len() == 16), "the MD5")?;
                let part: u32 = query.get("partNumber").and_then(|part| part.parse().ok()).ok_or("the part")?;
                demand((1..=10_000).contains(&part), "the part")?;
                let md5 = md5.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
                Ok(json_reply(200, &json!({"uploadUrl": format!("/bucket/{number}/{part}?signature=s&md5={md5}")})))
            }
            "complete" => {
                let parts = state.parts.get(number).cloned().unwrap_or_default();
                let upload = self.complete(&sent_json(request)?, &parts, state)?;
                state.parts.remove(number);
                state.uploads.push(upload);
                Ok(Reply::status(200))
            }
            "abort" => {
                state.parts.remove(number);
                state.aborted += 1;
                Ok(Reply::status(200))
            }
            _ => Err("the action".into()),
        }
    }

    /// Looks at everything that completes an upload, and keeps the path.
    fn complete(
        &self,
        body: &Value,
        parts: &BTreeMap<u32, (Vec<u8>, String)>,
        state: &mut State,
    ) -> Result<Upload, Refused> {
        let body = fields(body, &["parts", "narInfoCreate"])?;
        let tags = parts.iter().map(|(number, (_, tag))| json!({"partNumber": number, "eTag": tag}));
        demand(body["parts"] == Value::Array(tags.collect()) && !parts.is_empty(), "the parts")?;
        demand(parts.keys().copied().eq(1..=parts.len() as u32), "a part is missing")?;
        let last = parts.len() as u32;
        let small = parts.iter().any(|(number, (bytes, _))| *number != last && bytes.len() < SMALLEST_PART);
        demand(!small, "a part is too small")?;
        let file: Vec<u8> = parts.values().flat_map(|(bytes, _)| bytes.iter().copied()).collect();

        let described = body["narInfoCreate"].clone();
        let names = [
            "cStoreHash",
            "cStoreSuffix",
            "cNarHash",
            "cNarSize",
            "cFileHash",
            "cFileSize",
            "cReferences",
            "cDeriver",
            "cSig",
        ];
        let create = fields(&described, &names)?;
        demand(create["cFileHash"] == json!(Sha256::of(&file).to_hex()), "cFileHash")?;
        demand(create["cFileSize"] == json!(file.len()), "cFileSize")?;
        demand(create["cDeriver"] == json!("unknown-deriver"), "cDeriver")?;
        let nar = zstd::decode_all(&file[..]).map_err(|_| "the file is not zstd")?;
        let hash = text(&create["cNarHash"], "cNarHash")?;
        let hash: Sha256 = hash.parse().map_err(|_| "cNarHash")?;
        demand(create["cNarHash"] == json!(format!("sha256:{}", hash.to_nix32())), "cNarHash")?;
        check_nar(&nar, hash, create["cNarSize"].as_u64().ok_or("cNarSize")?)?;
        let name = format!("{}-{}", text(&create["cStoreHash"], "cStoreHash")?, text(&create["cStoreSuffix"], "")?);
        let path = nixcache_core::nix::StorePath::from_base_name(&name).map_err(|error| error.to_string())?;
        let references = references(&create["cReferences"])?;
        let kept = Kept {
            path,
            references,
            nar_hash: hash,
            nar_size: nar.len() as u64,
            file: file.clone(),
            content_address: None,
        };
        let signature = match (&create["cSig"], &self.signer) {
            (Value::Null, None) => None,
            (sig, signer) => {
                let bytes = BASE64.decode(text(sig, "cSig")?).ok().and_then(|bytes| bytes.try_into().ok());
                let name: KeyName = self.public_key().name().clone();
                let signature = Signature::new(name, bytes.ok_or("cSig is no signature")?);
                let fingerprint = kept.narinfo("nar/x.nar", &self.key).fingerprint();
                if let Some(key) = signer {
                    demand(key.verifies(fingerprint.as_bytes(), &signature), "cSig is wrong")?;
                }
                signer.is_some().then_some(signature)
            }
        };
        // Whoever was first stays.
        state.kept.entry(*kept.path.hash()).or_insert((kept, signature));
        Ok(Upload { described, file })
    }

    /// The cache: what Nix asks.
    fn serve(&self, request: &Request, state: &State) -> Reply {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Reply::status(405);
        }
        if request.target == "/nix-cache-info" {
            return Reply::with(200, &[], b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n");
        }
        if let Some(hash) = request.target.strip_prefix('/').and_then(|name| name.strip_suffix(".narinfo")) {
            let found = hash.parse().ok().and_then(|hash| state.kept.get(&hash));
            // A path whose closure isn't there is not shown.
            let Some((kept, signature)) = found.filter(|(kept, _)| is_complete(kept, state)) else {
                return Reply::status(404);
            };
            let mut narinfo = kept.narinfo(&format!("nar/{}.nar.zst", Sha256::of(&kept.file).to_hex()), &self.key);
            if let Some(signature) = signature {
                narinfo.signatures = vec![signature.clone()];
            }
            let text = narinfo.to_string().replacen("Sig: ", "Deriver: unknown-deriver\nSig: ", 1);
            return Reply::with(200, &[("Content-Type", "text/x-nix-narinfo")], text.as_bytes());
        }
        let nar = request.target.strip_prefix("/nar/").and_then(|name| name.strip_suffix(".nar.zst"));
        match nar.and_then(|hex| state.kept.values().find(|(kept, _)| Sha256::of(&kept.file).to_hex() == hex)) {
            // To where the files are, as Cachix does it.
            Some((kept, _)) => {
                let place = format!("/bucket/file/{}?signature=s", kept.path.hash());
                Reply::with(302, &[("Location", &place)], b"")
            }
            None => Reply::status(404),
        }
    }
}

fn is_complete(kept: &Kept, state: &State) -> bool {
    let mut others = kept.references.iter().filter(|reference| **reference != kept.path);
    others.all(|reference| state.kept.get(reference.hash()).is_some_and(|(kept, _)| is_complete(kept, state)))
}

/// The bucket, which knows signed URLs and no tokens.
fn take_part(request: &Request, state: &mut State) -> Result<Reply, Refused> {
    let query = query(request);
    if query.get("signature").map(String::as_str) != Some("s") {
        return Ok(Reply::status(403));
    }
    let name = path(request).strip_prefix("/bucket/").unwrap_or_default();
    if let Some(hash) = name.strip_prefix("file/") {
        let kept = hash.parse().ok().and_then(|hash| state.kept.get(&hash));
        return Ok(
            kept.map_or(Reply::status(404), |(kept, _)| Reply::with(200, &[("Accept-Ranges", "bytes")], &kept.file))
        );
    }
    demand(!request.has_credentials(), "the token was sent to the bucket")?;
    demand(request.method == "PUT", "the method")?;
    let md5 = BASE64.encode(Md5::digest(&request.body));
    demand(request.headers.get("content-md5") == Some(&md5), "Content-MD5")?;
    let promised = query.get("md5").map(|md5| md5.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="));
    demand(promised.as_ref() == Some(&md5), "the MD5 is not the one that was announced")?;
    let (upload, number) = name.split_once('/').ok_or("the part")?;
    let number: u32 = number.parse().map_err(|_| "the part")?;
    let tag = format!("\"{}-{number}\"", Sha256::of(&request.body).to_hex());
    let parts = state.parts.get_mut(upload).ok_or("there is no such upload")?;
    parts.insert(number, (request.body.clone(), tag.clone()));
    Ok(Reply::with(200, &[("ETag", &tag)], b""))
}
