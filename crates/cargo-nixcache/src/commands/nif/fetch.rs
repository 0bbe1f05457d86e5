//! `nif fetch`: puts the libraries of the lock where Erlang loads them from.
//!
//! ```text
//! in place already? ─► in the store? ─► caches, by content ─► hash ─► store ─► a new file beside the old one ─► rename
//! ```
//!
//! What is in place is left alone. Nothing is believed: the lock names every file by its hash.

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nif::{
    LIBRARY_LIMIT, LockedFile, LockedNif, LockedPath, NifCrate, NifName, NifPlatform, NifTarget, NifVersion,
    NixcacheLock, library_of_output, read_file_nar,
};
use nixcache_core::nix::{Sha256, StorePath};
use nixcache_core::store::Lease;
use nixcache_remote::{Outcome, Pinned};

use super::lock::{self, Asked, Wanted};
use super::manifests;
use super::{FetchArguments, Layout, NifError, files, optional_lock};
use crate::commands::{keep_within_size, open_store};
use crate::report::{Report, bytes};
use crate::settings::Settings;

/// The variable of RustlerPrecompiled that names its cache.
const GLOBAL_CACHE: &str = "RUSTLER_PRECOMPILED_GLOBAL_CACHE_PATH";

pub(super) fn run(settings: &Settings, arguments: &FetchArguments, report: &Report) -> Result<(), NifError> {
    let mut settings = settings.clone();
    if arguments.offline {
        settings.caches.fetch.retain(|url| !url.is_remote());
    }
    let settings = &settings;
    let lock = up_to_date_lock(settings, arguments, report)?;
    let out = out(arguments)?;
    let wanted = select(&lock, arguments)?;
    let store = open_store(settings)?;
    let lease = store.lease()?;
    let mut missing: Vec<&Item> = Vec::new();
    let mut installed = 0;
    for item in &wanted {
        let places: Vec<Utf8PathBuf> = item.places.iter().map(|file| out.join(file)).collect();
        let in_place = places.iter().all(|place| files::is_there(place, &item.hash, item.size));
        if in_place && !places.is_empty() {
            continue;
        }
        match files::kept(&lease, &item.path, &item.hash)? {
            Some(bytes) => installed += install(&places, item, &bytes)?,
            None => missing.push(item),
        }
    }
    if let Some(first) = missing.first().filter(|_| arguments.offline && settings.caches.fetch.is_empty()) {
        return Err(NifError::Offline { what: first.name.to_string() });
    }
    if !missing.is_empty() {
        installed += fetch(settings, &lease, &missing, &out, report)?;
        drop(lease);
        keep_within_size(&store, report);
    }
    if installed > 0 {
        report.status("Installed", &format!("{installed} files in {out}"));
    }
    Ok(())
}

/// A file to be had.
struct Item {
    name: NifName,
    kind: Kind,
    /// The store path that it is in.
    path: LockedPath,
    hash: Sha256,
    size: u64,
    /// The names that it gets. None, if it is for the store alone.
    places: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Library,
    Archive,
}

/// Puts bytes whose hash is known where they belong. Says how many files are new.
fn install(places: &[Utf8PathBuf], item: &Item, bytes: &[u8]) -> Result<usize, NifError> {
    let mut installed = 0;
    for place in places.iter().filter(|place| !files::is_there(place, &item.hash, item.size)) {
        files::replace(place, bytes, item.kind == Kind::Library)?;
        installed += 1;
    }
    Ok(installed)
}

/// Gets from the caches what is missing. Nothing is installed unless all of it came.
fn fetch(
    settings: &Settings,
    lease: &Lease,
    missing: &[&Item],
    out: &Utf8Path,
    report: &Report,
) -> Result<usize, NifError> {
    // Not every kind of cache says that a path is named by its content: Cachix isn't told, and forgets it.
    let pinned = missing.iter().map(|item| {
        let LockedPath { path, nar_hash, nar_size } = &item.path;
        (path.clone(), Pinned { nar_hash: *nar_hash, nar_size: Some(*nar_size) })
    });
    let remote = lock::open_pinned(settings, report, pinned.collect())?;
    let asked: Arc<Vec<(NifName, Kind, StorePath)>> =
        Arc::new(missing.iter().map(|item| (item.name.clone(), item.kind, item.path.path.clone())).collect());
    let mut fetching = remote.fetching({
        let asked = Arc::clone(&asked);
        move |path, nar| {
            let (name, kind, _) = &asked[path.tag as usize];
            match kind {
                Kind::Library => library_of_output(name, nar).map_err(Into::into),
                Kind::Archive => read_file_nar(&name.archive_file(), nar, LIBRARY_LIMIT).map_err(Into::into),
            }
        }
    });
    for (tag, (_, _, path)) in asked.iter().enumerate() {
        fetching.want(tag as u64, path.clone());
    }
    let mut came: Vec<(&Item, Vec<u8>)> = Vec::new();
    let mut transferred = 0;
    while let Some((tag, outcome)) = fetching.next() {
        let item = missing[tag as usize];
        let what = || format!("{} ({})", item.name, item.path.path);
        match outcome {
            Outcome::Fetched { value, bytes, cache } => {
                if Sha256::of(&value) != item.hash {
                    let source = "its hash is not the one in the lock".into();
                    return Err(NifError::Cache { what: format!("{} from {cache}", what()), source });
                }
                transferred += bytes;
                came.push((item, value));
            }
            Outcome::Missing => return Err(NifError::Missing { what: format!("{}: no cache has it", what()) }),
            Outcome::Failed(error) => return Err(NifError::Cache { what: what(), source: error.into() }),
        }
    }
    let mut installed = 0;
    for (item, value) in came {
        files::keep(lease, &item.path, &item.name.to_string(), &value)?;
        let places: Vec<Utf8PathBuf> = item.places.iter().map(|file| out.join(file)).collect();
        installed += install(&places, item, &value)?;
    }
    report.status("Fetched", &format!("{} files ({})", missing.len(), bytes(transferred)));
    Ok(installed)
}

/// The lock file, if it fits the sources; else it is written anew, unless that is forbidden.
fn up_to_date_lock(settings: &Settings, arguments: &FetchArguments, report: &Report) -> Result<NixcacheLock, NifError> {
    let path = &arguments.file.lock_file;
    let root = lock::directory(path);
    let lock = optional_lock(path)?;
    let mut stale: Vec<(Wanted, String)> = Vec::new();
    for (crate_name, nif) in lock.iter().flat_map(|lock| &lock.nifs) {
        let Some(manifest) = &nif.manifest else { continue };
        let Some(source) = manifests::read(&root, manifest)? else { continue };
        let wanted = lock::relocked(&root, nif, &source)?;
        if wanted.release != nif.release {
            let what = format!("it has {crate_name} {}, and {manifest} is {}", nif.release, wanted.release);
            stale.push((wanted, what));
        }
    }
    let fixed = arguments.locked || settings.caches.fetch.is_empty();
    match (lock, stale.first()) {
        (Some(lock), None) => Ok(lock),
        (None, _) if fixed => Err(NifError::Stale { path: path.clone(), what: "there is no such file".to_owned() }),
        (Some(_), Some((_, what))) if fixed => Err(NifError::Stale { path: path.clone(), what: what.clone() }),
        (None, _) => {
            let mut lock = NixcacheLock::default();
            let sources = manifests::find(&root)?;
            let wanted: Vec<Wanted> = sources
                .into_iter()
                .map(|source| Wanted {
                    crate_name: source.crate_name,
                    release: source.release,
                    manifest: Some(source.manifest),
                })
                .collect();
            if wanted.is_empty() {
                return Err(NifError::Stale { path: path.clone(), what: "there is no such file".to_owned() });
            }
            let namespace = Default::default();
            let asked = Asked { namespace: &namespace, targets: &[], variants: &[] };
            lock::relock(&lock::open(settings, report)?, &mut lock, path, &wanted, asked, report)?;
            lock::write(path, &lock)?;
            Ok(lock)
        }
        (Some(mut lock), Some(_)) => {
            let remote = lock::open(settings, report)?;
            for (wanted, _) in stale {
                let namespace = lock.nifs.get(&wanted.crate_name).map(|nif| nif.namespace.clone()).unwrap_or_default();
                let asked = Asked { namespace: &namespace, targets: &[], variants: &[] };
                lock::relock(&remote, &mut lock, path, &[wanted], asked, report)?;
            }
            lock::write(path, &lock)?;
            Ok(lock)
        }
    }
}

/// The directory that files go to.
fn out(arguments: &FetchArguments) -> Result<Utf8PathBuf, NifError> {
    match (&arguments.out, arguments.layout) {
        (Some(out), _) => Ok(out.clone()),
        (None, Layout::Precompiled) => match std::env::var(GLOBAL_CACHE) {
            Ok(path) if !path.is_empty() => Ok(path.into()),
            _ => Err(NifError::Usage {
                what: "say where the archives go: --out DIR, or RUSTLER_PRECOMPILED_GLOBAL_CACHE_PATH",
            }),
        },
        (None, _) => Ok("priv/native".into()),
    }
}

/// The files that are wanted, and the names that they get.
fn select(lock: &NixcacheLock, arguments: &FetchArguments) -> Result<Vec<Item>, NifError> {
    let path = &arguments.file.lock_file;
    let stale = |what: String| NifError::Stale { path: path.clone(), what };
    let unknown = arguments.crates.iter().find(|name| !lock.nifs.contains_key(name));
    if let Some(unknown) = unknown {
        return Err(stale(format!("{unknown} is not in it")));
    }
    let host = match &arguments.target {
        Some(target) => target.clone(),
        None => host()?,
    };
    let mut items = Vec::new();
    for (crate_name, nif) in &lock.nifs {
        if !arguments.crates.is_empty() && !arguments.crates.contains(crate_name) {
            continue;
        }
        let own = choose(nif, &host, arguments)?;
        if own.is_none() && !arguments.all_targets {
            let version = arguments.nif_version.as_ref().map(|version| format!(" and NIF version {version}"));
            let version = version.unwrap_or_default();
            let has: BTreeSet<String> = nif.files.keys().map(ToString::to_string).collect();
            let has = has.into_iter().collect::<Vec<_>>().join(", ");
            return Err(stale(format!("it has nothing of {crate_name} for {host}{version}; it has {has}")));
        }
        for (platform, file) in &nif.files {
            let is_own = Some(platform) == own.as_ref();
            if is_own || arguments.all_targets {
                items.push(item(nif, crate_name, platform, file, arguments.layout, is_own));
            }
        }
    }
    Ok(items)
}

fn item(
    nif: &LockedNif,
    crate_name: &NifCrate,
    platform: &NifPlatform,
    file: &LockedFile,
    layout: Layout,
    is_own: bool,
) -> Item {
    let name = nif.name(crate_name, platform);
    if layout == Layout::Precompiled {
        let places = vec![name.archive_file()];
        let (path, hash, size) = (file.archive.clone(), file.archive_hash, file.archive_size);
        return Item { name, kind: Kind::Archive, path, hash, size, places };
    }
    let native = name.native_files();
    // Files for other targets would have the same names.
    let places: BTreeSet<String> = match layout {
        _ if !is_own => BTreeSet::new(),
        Layout::Legacy => [native.legacy].into(),
        Layout::Both => [native.plain, native.legacy].into(),
        Layout::Rustler | Layout::Precompiled => [native.plain].into(),
    };
    let (path, hash, size) = (file.output.clone(), file.library_hash, file.library_size);
    Item { name, kind: Kind::Library, path, hash, size, places: places.into_iter().collect() }
}

/// The platform to take: of the NIF versions that the virtual machine can load the newest one; without a word on the
/// virtual machine the oldest one, which all can load.
fn choose(nif: &LockedNif, host: &NifTarget, arguments: &FetchArguments) -> Result<Option<NifPlatform>, NifError> {
    let fitting = nif.files.keys().filter(|platform| platform.target == *host && platform.variant == arguments.variant);
    let Some(version) = &arguments.nif_version else {
        return Ok(fitting.min_by_key(|platform| platform.nif_version).cloned());
    };
    // A virtual machine may have a version that is newer than all that are known here.
    let minor = version.strip_prefix("2.").and_then(|minor| minor.parse::<u8>().ok());
    let minor = minor.ok_or(NifError::Usage { what: "--nif-version must be one such as 2.15" })?;
    let loads = |platform: &&NifPlatform| NifVersion::minor(platform.nif_version) <= minor;
    Ok(fitting.filter(loads).max_by_key(|platform| platform.nif_version).cloned())
}

/// The target of this machine's virtual machines, as far as can be told from outside of them.
fn host() -> Result<NifTarget, NifError> {
    let arch = match std::env::consts::ARCH {
        "riscv64" => "riscv64gc",
        "x86" => "i686",
        arch => arch,
    };
    let triple = match std::env::consts::OS {
        "linux" if is_musl() => format!("{arch}-unknown-linux-musl"),
        "linux" => format!("{arch}-unknown-linux-gnu"),
        "macos" => format!("{arch}-apple-darwin"),
        "windows" => format!("{arch}-pc-windows-msvc"),
        other => format!("{arch}-unknown-{other}"),
    };
    triple.parse().map_err(|_| NifError::Usage { what: "this machine's target is not known: say it with --target" })
}

/// Whether this machine's libc is musl: its loader is there, and glibc's is not. This program itself may be linked to
/// either.
fn is_musl() -> bool {
    let loader = |directory: &str, prefix: &str| {
        let entries = std::fs::read_dir(directory);
        entries
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix)))
    };
    let glibc = ["/lib64", "/lib"].iter().any(|directory| loader(directory, "ld-linux"));
    !glibc && loader("/lib", "ld-musl-")
}
