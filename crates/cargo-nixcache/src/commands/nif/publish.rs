//! `nif publish`: builds the NIFs and gives them to every cache, under names that never change.
//!
//! ```text
//! is there a record of this name? ─► the same library: done │ another: refused
//!   └─► the archive beside the store paths (RustlerPrecompiled's URL) ─► output, archive ─► record ─► read again
//! ```
//!
//! The record comes last: who sees it finds the rest. It is read again because two publishers may come at the same
//! moment, and the first one wins.

use std::collections::BTreeSet;
use std::io::Write;

use nixcache_core::environment::Environment;
use nixcache_core::nif::{
    ContentPath, NifManifest, NifName, NifNamespace, NifRecord, NixcacheLock, pack_archive, pack_output, pack_record,
    write_archive,
};
use nixcache_core::nix::{Sha256, StorePath};
use nixcache_remote::{CacheUrl, NewPath, Remote, StoredFile};

use super::build::{BuiltNif, build};
use super::lock::{self, Wanted};
use super::manifests;
use super::{Naming, NifError, PublishArguments, optional_lock, records};
use crate::caches::{self, CachesError, read_secret_key};
use crate::report::{Report, bytes};
use crate::settings::Settings;

/// What an archive is to a web server.
const ARCHIVE_TYPE: &str = "application/gzip";

pub(super) fn run(settings: &Settings, arguments: &PublishArguments, report: &Report) -> Result<(), NifError> {
    if settings.caches.publish.is_empty() {
        return Err(CachesError::NowhereToPublish.into());
    }
    let built = build(settings, &arguments.build, report)?;
    let mut records = Vec::new();
    for nif in &built {
        let prepared = Prepared::new(nif, &arguments.naming)?;
        let mut record = prepared.record.clone();
        for url in &settings.caches.publish {
            record = prepared.publish(settings, url, report)?;
        }
        records.push((nif, record));
    }
    if arguments.lock {
        let path = &arguments.file.lock_file;
        let mut locked = optional_lock(path)?.unwrap_or_default();
        for (nif, record) in &records {
            insert(&mut locked, path, nif, record)?;
        }
        lock::write(path, &locked)?;
        report.status("Locked", &format!("{} files in {path}", records.len()));
    }
    Ok(())
}

fn insert(
    locked: &mut NixcacheLock,
    path: &camino::Utf8Path,
    nif: &BuiltNif,
    record: &NifRecord,
) -> Result<(), NifError> {
    let root = lock::directory(path).canonicalize_utf8();
    let root = root.map_err(|source| NifError::File { path: path.to_owned(), source })?;
    let manifest = nif.member.manifest.strip_prefix(&root).ok().map(camino::Utf8Path::to_owned);
    let wanted = Wanted { crate_name: nif.name.crate_name.clone(), release: record.nif.version.clone(), manifest };
    lock::insert(locked, path, &wanted, &record.namespace, &[record])
}

/// A NIF in all the forms that are published.
struct Prepared {
    name: NifName,
    namespace: NifNamespace,
    output: ContentPath,
    archive: Vec<u8>,
    archive_path: ContentPath,
    record: NifRecord,
}

impl Prepared {
    fn new(nif: &BuiltNif, naming: &Naming) -> Result<Self, NifError> {
        let failed = |source| NifError::File { path: nif.library.clone(), source };
        let library = std::fs::read(&nif.library).map_err(failed)?;
        let mut name = nif.name.clone();
        if naming.source_version {
            name.release = manifests::release_of_source(&nif.member.manifest, &name.release)?;
        }
        let manifest = NifManifest::new(&name, &library, nif.needs.clone());
        let output = pack_output(&manifest, &library);
        let archive = write_archive(&name, &library);
        let archive_path = pack_archive(&name, &archive);
        let record = NifRecord::new(naming.namespace.clone(), manifest, &output, &archive, &archive_path);
        Ok(Self { name, namespace: naming.namespace.clone(), output, archive, archive_path, record })
    }

    /// Publishes it to one cache. Gives the record that is there then.
    fn publish(&self, settings: &Settings, url: &CacheUrl, report: &Report) -> Result<NifRecord, NifError> {
        let remote = open(settings, url, report)?;
        if let Some(record) = self.there(&remote, url)? {
            self.archive_beside(&remote, &record, report)?;
            report.status("Fresh", &format!("{} is published at {url}", self.name));
            return Ok(record);
        }
        self.archive_beside(&remote, &self.record, report)?;
        let (record_path, record) = pack_record(&self.record);
        let mut publishing = remote.publishing();
        let contents = [&self.output, &self.archive_path];
        for content in contents {
            publishing.offer(new_path(content.path.clone(), BTreeSet::new(), true, content.nar.clone()));
        }
        let references = contents.iter().map(|content| content.path.clone()).collect();
        publishing.offer(new_path(record_path, references, false, record));
        let published = publishing.finish();
        if let Some((_, cache, error)) = published.failed.into_iter().next() {
            return Err(NifError::Publish { nif: self.name.to_string(), cache, source: error.into() });
        }
        let there = self.there(&remote, url)?;
        let there = there.ok_or_else(|| NifError::Publish {
            nif: self.name.to_string(),
            cache: url.to_string(),
            source: "what was published can't be read there; if the cache signs by itself, its key must be trusted"
                .into(),
        })?;
        report.status("Published", &format!("{} to {url} ({})", self.name, bytes(published.bytes)));
        Ok(there)
    }

    /// The record of this name. One of another library is an error.
    fn there(&self, remote: &Remote, url: &CacheUrl) -> Result<Option<NifRecord>, NifError> {
        let asked = records::ask(remote, &self.namespace, std::slice::from_ref(&self.name))?;
        let record = asked.into_iter().next().flatten();
        match record {
            Some(record) if record.nif.sha256 != self.record.nif.sha256 => {
                Err(NifError::Taken { nif: self.name.to_string(), cache: url.to_string() })
            }
            record => Ok(record),
        }
    }

    /// Puts the archive where RustlerPrecompiled asks for it. If another release of this program has published it, it
    /// may have packed it in other bytes: those stay, and this one isn't sent.
    fn archive_beside(&self, remote: &Remote, record: &NifRecord, report: &Report) -> Result<(), NifError> {
        let hash: Option<Sha256> = record.archive.sha256.parse().ok();
        if hash != Some(Sha256::of(&self.archive)) {
            return Ok(());
        }
        let file = format!("nif/{}/{}", self.namespace, self.name.archive_file());
        for (cache, stored) in remote.store_file(&file, &self.archive, ARCHIVE_TYPE) {
            match stored {
                Ok(StoredFile::Other) => return Err(NifError::Taken { nif: self.name.to_string(), cache }),
                Ok(StoredFile::New | StoredFile::Same) => {}
                Ok(StoredFile::Unsupported) => report.warning(&format!(
                    "{cache} keeps nothing but store paths, so RustlerPrecompiled can't fetch from it by an address; \
                     `nif fetch` can, for RustlerPrecompiled's global cache with --layout precompiled"
                )),
                Err(error) => {
                    return Err(NifError::Publish { nif: self.name.to_string(), cache, source: error.into() });
                }
            }
        }
        Ok(())
    }
}

fn new_path(path: StorePath, references: BTreeSet<StorePath>, by_content: bool, nar: Vec<u8>) -> NewPath {
    NewPath { path, references, by_content, pack: Box::new(move |out: &mut dyn Write| out.write_all(&nar)) }
}

/// One cache, to write to and to read again. What we have signed ourselves is believed.
fn open(settings: &Settings, url: &CacheUrl, report: &Report) -> Result<Remote, NifError> {
    let environment: Environment = std::env::vars_os().collect();
    let mut one = settings.caches.clone();
    one.fetch = vec![url.clone()];
    one.publish = vec![url.clone()];
    if let Some(path) = &one.secret_key_file {
        one.trusted_keys.insert(read_secret_key(path)?.public());
    }
    Ok(caches::open(&one, &environment, *report)?.expect("there is a cache"))
}
