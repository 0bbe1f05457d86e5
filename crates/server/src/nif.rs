//! NIFs for RustlerPrecompiled: archives by their names, below `/nif/<namespace>/`, which is a `base_url`.
//!
//! ```text
//! nif/<namespace>/lib<crate>-v<version>-nif-<nif>-<target>.so.tar.gz    the archive, as it was uploaded
//! nixcache/nif/<namespace>/<the same>                                   its hash and size: JSON
//! ```
//!
//! That client takes nothing but 200, follows redirects with its credential, and shows the body of an error to whoever
//! compiles: so there are no redirects, no parts, and short errors. An archive is looked into before it is taken, and
//! what is under a name stays. Garbage collection leaves these files alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use nixcache_core::nif::{
    LIBRARY_LIMIT, ModuleName, NifCrate, NifName, NifNamespace, NifRelease, check_archive, checksum_file,
};
use nixcache_core::nix::{Sha256, Sha256Hasher};
use serde::{Deserialize, Serialize};

use crate::download::{FOR_EVER, describe, is_known, not_modified, small};
use crate::error::Refusal;
use crate::layout;
use crate::server::Shared;
use crate::upload::read_body;

/// The version of `manifest.json`.
const SCHEMA: u32 = 1;

/// What a record of an archive has at most.
const RECORD_LIMIT: usize = 4096;

/// An archive is held in memory until it is known to be good, for what is visible is never taken back. So a large one
/// counts as several uploads: one for each of these many bytes.
const BYTES_OF_A_TURN: usize = 32 << 20;

/// The media type of an archive.
const MEDIA_TYPE: &str = "application/gzip";

/// What can be asked of a namespace.
enum Wanted {
    /// `manifest.json`
    Manifest,
    /// `checksums.exs`
    Checksums,
    /// An archive.
    Archive(NifName),
}

fn wanted(namespace: &str, file: &str) -> Option<(NifNamespace, Wanted)> {
    let namespace = namespace.parse().ok()?;
    let wanted = match file {
        "manifest.json" => Wanted::Manifest,
        "checksums.exs" => Wanted::Checksums,
        file => Wanted::Archive(NifName::parse_archive_file(file).ok()?),
    };
    Some((namespace, wanted))
}

/// The hash and size of an archive.
#[derive(Serialize, Deserialize)]
struct Record {
    sha256: String,
    size: u64,
}

impl Record {
    fn of(archive: &[u8]) -> Self {
        Self { sha256: Sha256::of(archive).to_string(), size: archive.len() as u64 }
    }

    fn hash(&self) -> Option<Sha256> {
        self.sha256.parse().ok()
    }

    fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("a text and a number").into()
    }
}

/// `GET`, `HEAD /nif/<namespace>/<file>`
pub(crate) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((namespace, file)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (namespace, wanted) = wanted(&namespace, &file).ok_or(Refusal::NotFound)?;
    match wanted {
        Wanted::Manifest => {
            let bytes = manifest(&namespace, &records(&shared, &namespace).await?);
            Ok(small(&shared, &method, &headers, bytes, "application/json", "no-cache"))
        }
        Wanted::Checksums => checksums(&shared, &method, &headers, &namespace, uri.query().unwrap_or_default()).await,
        Wanted::Archive(name) => archive(&shared, &method, &headers, &namespace, &name).await,
    }
}

async fn archive(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    namespace: &NifNamespace,
    name: &NifName,
) -> Result<Response, Refusal> {
    let path = layout::nif(namespace, name);
    let facts = shared.storage.facts(&path).await?.ok_or(Refusal::NotFound)?;
    let record = record(shared, namespace, name).await?.ok_or(Refusal::NotFound)?;
    let tag = format!("\"{}\"", record.sha256);
    if is_known(headers, &tag) {
        return Ok(not_modified(shared, &tag, FOR_EVER));
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from_stream(shared.storage.stream(&path, 0..facts.size).await?.ok_or(Refusal::NotFound)?)
    };
    let mut response = Response::new(body);
    describe(shared, &mut response, MEDIA_TYPE, &tag, FOR_EVER);
    response.headers_mut().insert(header::CONTENT_LENGTH, facts.size.into());
    Ok(response)
}

/// The record of an archive that is here. One that is lost, or was not written before a server ended, is made again.
async fn record(shared: &Shared, namespace: &NifNamespace, name: &NifName) -> Result<Option<Record>, Refusal> {
    let place = layout::nif_record(namespace, name);
    let written = shared.storage.read(&place, RECORD_LIMIT).await?;
    let record = written.and_then(|(bytes, _)| serde_json::from_slice::<Record>(&bytes).ok());
    if let Some(record) = record.filter(|record| record.hash().is_some()) {
        return Ok(Some(record));
    }
    let path = layout::nif(namespace, name);
    let Some(facts) = shared.storage.facts(&path).await? else { return Ok(None) };
    let Some(mut archive) = shared.storage.stream(&path, 0..facts.size).await? else { return Ok(None) };
    let mut hasher = Sha256Hasher::new();
    while let Some(piece) = archive.try_next().await? {
        hasher.update(&piece);
    }
    let record = Record { sha256: hasher.finish().to_string(), size: facts.size };
    shared.storage.put(&place, record.to_bytes()).await?;
    Ok(Some(record))
}

/// All archives of a namespace.
async fn records(shared: &Shared, namespace: &NifNamespace) -> Result<BTreeMap<NifName, Record>, Refusal> {
    // Listed to the end first: a listing holds a thread of those that records are read on.
    let files: Vec<_> = shared.storage.list(Some(&layout::nifs(namespace))).try_collect().await?;
    let mut records = BTreeMap::new();
    for (path, _) in files {
        // Other names are other programs' files.
        let Some(name) = path.filename().and_then(|file| NifName::parse_archive_file(file).ok()) else { continue };
        if let Some(record) = record(shared, namespace, &name).await? {
            records.insert(name, record);
        }
    }
    Ok(records)
}

fn manifest(namespace: &NifNamespace, records: &BTreeMap<NifName, Record>) -> Bytes {
    #[derive(Serialize)]
    struct Manifest<'a> {
        schema: u32,
        namespace: &'a NifNamespace,
        files: Vec<File<'a>>,
    }
    #[derive(Serialize)]
    struct File<'a> {
        file: String,
        #[serde(rename = "crate")]
        crate_name: &'a NifCrate,
        version: &'a NifRelease,
        nif_version: nixcache_core::nif::NifVersion,
        target: &'a nixcache_core::nif::NifTarget,
        variant: &'a Option<nixcache_core::nif::NifVariant>,
        sha256: String,
        size: u64,
    }
    let files = records.iter().map(|(name, record)| File {
        file: name.archive_file(),
        crate_name: &name.crate_name,
        version: &name.release,
        nif_version: name.platform.nif_version,
        target: &name.platform.target,
        variant: &name.platform.variant,
        sha256: record.hash().map(|hash| format!("sha256:{}", hash.to_hex())).unwrap_or_default(),
        size: record.size,
    });
    let manifest = Manifest { schema: SCHEMA, namespace, files: files.collect() };
    serde_json::to_vec_pretty(&manifest).expect("it holds only texts and numbers").into()
}

/// `checksums.exs?module=MyApp.Native`, with `crate=` and `version=` if the namespace holds more.
async fn checksums(
    shared: &Shared,
    method: &Method,
    headers: &HeaderMap,
    namespace: &NifNamespace,
    query: &str,
) -> Result<Response, Refusal> {
    let (mut module, mut crate_name, mut version) = (None, None, None);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let bad = |what| Refusal::Format { what };
        match key.as_ref() {
            "module" => module = Some(value.parse::<ModuleName>().map_err(|_| bad("module must be an Elixir module"))?),
            "crate" => crate_name = Some(value.parse::<NifCrate>().map_err(|_| bad("crate must be a crate"))?),
            "version" => version = Some(value.parse::<NifRelease>().map_err(|_| bad("version must be a version"))?),
            _ => return Err(bad("the parameters are module, crate and version")),
        }
    }
    let module = module.ok_or(Refusal::Format { what: "say for which module: ?module=MyApp.Native" })?;
    let fits = |name: &NifName| {
        crate_name.as_ref().is_none_or(|wanted| name.crate_name == *wanted)
            && version.as_ref().is_none_or(|wanted| name.release == *wanted)
    };
    let records = records(shared, namespace).await?;
    let hashes: Vec<(&NifName, Sha256)> = records
        .iter()
        .filter(|(name, _)| fits(name))
        .filter_map(|(name, record)| Some((name, record.hash()?)))
        .collect();
    let text = checksum_file(hashes.iter().map(|(name, hash)| (*name, hash)));
    let mut response = small(shared, method, headers, text.into(), "text/plain; charset=utf-8", "no-cache");
    let disposition = format!("attachment; filename=\"{}\"", module.checksum_file());
    let disposition = HeaderValue::from_str(&disposition).expect("letters, digits and dots are good in a header");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// `PUT /nif/<namespace>/<file>`
pub(crate) async fn put(
    State(shared): State<Arc<Shared>>,
    Path((namespace, file)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let what = "the name must be nif/<namespace>/[lib]<crate>-v<version>-nif-<nif version>-<target>.<so|dll>.tar.gz";
    let Some((namespace, Wanted::Archive(name))) = wanted(&namespace, &file) else {
        return Err(Refusal::Format { what });
    };
    let limit = announced(&headers).map_or(shared.limits.archive_bytes, |size| size.min(shared.limits.archive_bytes));
    let turns = limit.div_ceil(BYTES_OF_A_TURN).clamp(1, shared.limits.uploads.max(1));
    let _turns = shared.turns(turns).await?;
    let archive = read_body(&shared, &headers, body, shared.limits.archive_bytes).await?;
    let looked = {
        let (archive, name) = (archive.clone(), name.clone());
        tokio::task::spawn_blocking(move || check_archive(&name, &archive, LIBRARY_LIMIT))
    };
    looked.await.map_err(|_| Refusal::Time)?.map_err(|source| Refusal::Archive { source })?;
    let own = Record::of(&archive);
    if shared.storage.put_new(&layout::nif(&namespace, &name), archive).await? {
        shared.storage.put(&layout::nif_record(&namespace, &name), own.to_bytes()).await?;
        return Ok(StatusCode::CREATED.into_response());
    }
    match record(&shared, &namespace, &name).await? {
        Some(there) if there.hash() == own.hash() => Ok(StatusCode::OK.into_response()),
        _ => Err(Refusal::Exists),
    }
}

/// The size that a body is said to have. HTTP holds it to that.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
