//! `nif lock`: asks the caches what was published under the names of this project's NIFs, and writes it down by
//! content. What is locked needs nobody's word any more.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::environment::Environment;
use nixcache_core::nif::{
    LockedFile, LockedNif, NifCrate, NifName, NifNamespace, NifPlatform, NifRecord, NifRelease, NifTarget, NifVariant,
    NifVersion, NixcacheLock,
};
use nixcache_core::nix::StorePath;
use nixcache_remote::{Pinned, Remote};

use super::manifests::{self, NifSource};
use super::{LockArguments, NifError, files, optional_lock, records};
use crate::caches::{self, CachesError};
use crate::report::Report;
use crate::settings::Settings;

/// The targets that are asked for in any case: those that RustlerPrecompiled has without a word.
const TARGETS: [&str; 10] = [
    "aarch64-apple-darwin",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "arm-unknown-linux-gnueabihf",
    "riscv64gc-unknown-linux-gnu",
    "x86_64-apple-darwin",
    "x86_64-pc-windows-gnu",
    "x86_64-pc-windows-msvc",
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
];

/// A NIF to be locked.
pub(super) struct Wanted {
    pub(super) crate_name: NifCrate,
    pub(super) release: NifRelease,
    pub(super) manifest: Option<Utf8PathBuf>,
}

pub(super) fn run(settings: &Settings, arguments: &LockArguments, report: &Report) -> Result<(), NifError> {
    let path = &arguments.file.lock_file;
    let mut lock = optional_lock(path)?.unwrap_or_default();
    let wanted = wanted(&lock, path, arguments)?;
    let remote = open(settings, report)?;
    let asked =
        Asked { namespace: &arguments.naming.namespace, targets: &arguments.targets, variants: &arguments.variants };
    relock(&remote, &mut lock, path, &wanted, asked, report)?;
    write(path, &lock)
}

/// The caches to fetch from.
pub(super) fn open(settings: &Settings, report: &Report) -> Result<Remote, NifError> {
    open_pinned(settings, report, BTreeMap::new())
}

/// The same, to fetch paths whose content is locked: nobody's signature counts for them.
pub(super) fn open_pinned(
    settings: &Settings,
    report: &Report,
    pinned: BTreeMap<StorePath, Pinned>,
) -> Result<Remote, NifError> {
    let environment: Environment = std::env::vars_os().collect();
    // Nothing is published by those who call this, so nothing needs to be signed.
    let mut caches = settings.caches.clone();
    caches.publish.clear();
    match caches::open_pinned(&caches, &environment, *report, pinned)? {
        Some(remote) if remote.can_fetch() => Ok(remote),
        _ => Err(CachesError::NowhereToFetch.into()),
    }
}

/// Writes a lock file.
pub(super) fn write(path: &Utf8Path, lock: &NixcacheLock) -> Result<(), NifError> {
    files::replace(path, lock.to_text().as_bytes(), false)
}

/// The directory that a lock file's paths begin in.
pub(super) fn directory(lock_file: &Utf8Path) -> Utf8PathBuf {
    match lock_file.parent() {
        Some(directory) if !directory.as_str().is_empty() => directory.to_owned(),
        _ => Utf8PathBuf::from("."),
    }
}

/// What is to be locked: what was named; else what is locked, and has perhaps another version now; else what is found.
fn wanted(lock: &NixcacheLock, path: &Utf8Path, arguments: &LockArguments) -> Result<Vec<Wanted>, NifError> {
    let root = directory(path);
    let sources = manifests::find(&root)?;
    let of_source = |source: &NifSource| -> Result<Wanted, NifError> {
        let release = match arguments.naming.source_version {
            true => manifests::source_release(&root, source)?,
            false => source.release.clone(),
        };
        let (crate_name, manifest) = (source.crate_name.clone(), Some(source.manifest.clone()));
        Ok(Wanted { crate_name, release, manifest })
    };
    if !arguments.crates.is_empty() {
        let named = arguments.crates.iter().map(|spec| {
            let source = sources.iter().find(|source| source.crate_name == spec.crate_name);
            match (&spec.release, source) {
                (Some(release), source) => Ok(Wanted {
                    crate_name: spec.crate_name.clone(),
                    release: release.clone(),
                    // The manifest of another version says nothing of this one.
                    manifest: source
                        .filter(|source| release.is_of(&source.release))
                        .map(|source| source.manifest.clone()),
                }),
                (None, Some(source)) => of_source(source),
                (None, None) => Err(NifError::Missing {
                    what: format!("the version of {}: no manifest here says it; say {0}@VERSION", spec.crate_name),
                }),
            }
        });
        return named.collect();
    }
    let mut wanted = Vec::new();
    for (crate_name, nif) in &lock.nifs {
        let source = sources.iter().find(|source| source.crate_name == *crate_name);
        match source.filter(|_| nif.manifest.is_some()) {
            Some(source) => wanted.push(relocked(&root, nif, source)?),
            None => {
                wanted.push(Wanted { crate_name: crate_name.clone(), release: nif.release.clone(), manifest: None })
            }
        }
    }
    for source in &sources {
        if !lock.nifs.contains_key(&source.crate_name) {
            wanted.push(of_source(source)?);
        }
    }
    if wanted.is_empty() {
        return Err(NifError::Missing { what: "a NIF to lock: name one, as CRATE@VERSION".to_owned() });
    }
    Ok(wanted)
}

/// A locked NIF at the version that its sources have now. A version with the sources in it stays of that kind.
pub(super) fn relocked(root: &Utf8Path, locked: &LockedNif, source: &NifSource) -> Result<Wanted, NifError> {
    let release = match locked.release.has_source() {
        true => manifests::source_release(root, source)?,
        false => source.release.clone(),
    };
    Ok(Wanted { crate_name: source.crate_name.clone(), release, manifest: Some(source.manifest.clone()) })
}

/// Which names are asked for beside those that are known.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) namespace: &'a NifNamespace,
    pub(super) targets: &'a [NifTarget],
    pub(super) variants: &'a [NifVariant],
}

/// Puts what the caches know of the wanted NIFs into the lock, in place of what is there.
pub(super) fn relock(
    remote: &Remote,
    lock: &mut NixcacheLock,
    path: &Utf8Path,
    wanted: &[Wanted],
    asked: Asked<'_>,
    report: &Report,
) -> Result<(), NifError> {
    let mut names: Vec<NifName> = Vec::new();
    for wanted in wanted {
        let platforms = platforms(lock.nifs.get(&wanted.crate_name), asked);
        names.extend(platforms.into_iter().map(|platform| NifName {
            crate_name: wanted.crate_name.clone(),
            release: wanted.release.clone(),
            platform,
        }));
    }
    let found: Vec<NifRecord> = records::ask(remote, asked.namespace, &names)?.into_iter().flatten().collect();
    for wanted in wanted {
        let own: Vec<&NifRecord> = found.iter().filter(|record| record.nif.crate_name == wanted.crate_name).collect();
        if own.is_empty() {
            let what = format!(
                "{} {} in the namespace {}: no cache has it",
                wanted.crate_name, wanted.release, asked.namespace
            );
            return Err(NifError::Missing { what });
        }
        insert(lock, path, wanted, asked.namespace, &own)?;
        report.status("Locked", &format!("{} {}: {} files", wanted.crate_name, wanted.release, own.len()));
    }
    Ok(())
}

/// Puts records of one NIF into the lock, which is for `path`. Files of another version go.
pub(super) fn insert(
    lock: &mut NixcacheLock,
    path: &Utf8Path,
    wanted: &Wanted,
    namespace: &NifNamespace,
    records: &[&NifRecord],
) -> Result<(), NifError> {
    let mut locked = LockedNif {
        namespace: namespace.clone(),
        release: wanted.release.clone(),
        manifest: wanted.manifest.clone(),
        sources: match &wanted.manifest {
            Some(manifest) if wanted.release.has_source() => manifests::sources(&directory(path), manifest)?,
            _ => BTreeSet::new(),
        },
        files: BTreeMap::new(),
    };
    if let Some(before) = lock.nifs.get(&wanted.crate_name)
        && (&before.namespace, &before.release) == (&locked.namespace, &locked.release)
    {
        locked.files.clone_from(&before.files);
    }
    for record in records {
        let file = LockedFile::of_record(record);
        let what = || format!("the record of {}", record.nif.name());
        let file = file.map_err(|source| NifError::Cache { what: what(), source: source.into() })?;
        locked.files.insert(record.nif.name().platform, file);
    }
    lock.nifs.insert(wanted.crate_name.clone(), locked);
    Ok(())
}

/// Every platform that a NIF may have been published for.
fn platforms(locked: Option<&LockedNif>, asked: Asked<'_>) -> BTreeSet<NifPlatform> {
    let mut targets: BTreeSet<NifTarget> =
        TARGETS.iter().map(|target| target.parse().expect("these are targets")).collect();
    targets.extend(asked.targets.iter().cloned());
    let mut variants: BTreeSet<Option<NifVariant>> = asked.variants.iter().cloned().map(Some).collect();
    variants.insert(None);
    for platform in locked.into_iter().flat_map(|locked| locked.files.keys()) {
        targets.insert(platform.target.clone());
        variants.insert(platform.variant.clone());
    }
    let mut platforms = BTreeSet::new();
    for target in &targets {
        for nif_version in NifVersion::ALL {
            for variant in &variants {
                platforms.insert(NifPlatform { nif_version, target: target.clone(), variant: variant.clone() });
            }
        }
    }
    platforms
}
