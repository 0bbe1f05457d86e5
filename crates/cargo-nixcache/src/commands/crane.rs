//! `export` and `import`: target directories in the form in which derivations of crane hand them on.
//!
//! ```text
//! <dir>/target.tar.zst         the files, sorted, owned by nobody, of one time (a second after 1970)
//! <dir>/target.tar.zst.prev    a link to the archive that this one goes on from, if there is one
//! ```
//!
//! An archive that goes on from another holds the files that the other one doesn't hold just so. Crane's hooks take
//! those that are newer than that one time; but a build script may copy files with times of long ago, so we compare what
//! is in them. To unpack one is to unpack the other first. That a file was deleted can't be said.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::process::{Command, ExitCode};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use nixcache_core::nix::{Sha256, Sha256Hasher};

use crate::exit;
use crate::report::Report;

const ARCHIVE: &str = "target.tar.zst";

/// The one time of all files, in seconds after 1970.
const EPOCH: u64 = 1;

/// More archives before each other are nobody's work; a link may lead to itself.
const LONGEST_CHAIN: usize = 64;

/// Why a target directory can't be packed or unpacked.
#[derive(Debug, thiserror::Error)]
enum CraneError {
    /// A file can't be used.
    #[error("{action} {path}")]
    File {
        /// What was to be done, as a verb.
        action: &'static str,
        /// With what.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is no archive.
    #[error("unpack {path}: there is no {ARCHIVE} in it")]
    NoArchive {
        /// Where it was looked for.
        path: Utf8PathBuf,
    },
    /// The links before an archive don't end.
    #[error("unpack {path}: more than {LONGEST_CHAIN} archives come before it")]
    Chain {
        /// The archive.
        path: Utf8PathBuf,
    },
    /// Cargo doesn't say where its target directory is.
    #[error("find cargo's target directory: `cargo metadata` does not work here")]
    NoTargetDirectory,
}

fn failed(action: &'static str, path: &Utf8Path) -> impl FnOnce(io::Error) -> CraneError {
    move |source| CraneError::File { action, path: path.to_owned(), source }
}

/// `cargo nixcache export --format crane`
pub(crate) fn export(out: &Utf8Path, previous: Option<&Utf8Path>, target: Option<Utf8PathBuf>) -> ExitCode {
    let packed = target_directory(target).and_then(|target| {
        let previous = previous.map(archive_in).transpose()?;
        pack(&target, out, previous.as_deref())
    });
    finish("Exported", packed, &out.join(ARCHIVE))
}

/// `cargo nixcache import --format crane`
pub(crate) fn import(from: &Utf8Path, target: Option<Utf8PathBuf>) -> ExitCode {
    let unpacked = target_directory(target).and_then(|target| {
        let archive = archive_in(from)?;
        unpack(&archive, &target)
    });
    finish("Imported", unpacked, from)
}

fn finish(word: &str, result: Result<u64, CraneError>, path: &Utf8Path) -> ExitCode {
    let report = Report::new(false, false, None);
    match result {
        Ok(files) => {
            report.status(word, &format!("{files} files: {path}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            report.error(&error, None);
            ExitCode::from(exit::NIX)
        }
    }
}

/// The archive that a path names: itself, or the one in a derivation's output.
fn archive_in(path: &Utf8Path) -> Result<Utf8PathBuf, CraneError> {
    let candidates = [path.to_owned(), path.join(ARCHIVE)];
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found.ok_or_else(|| CraneError::NoArchive { path: path.to_owned() })
}

fn target_directory(given: Option<Utf8PathBuf>) -> Result<Utf8PathBuf, CraneError> {
    if let Some(given) = given {
        return Ok(given);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(["metadata", "--format-version=1", "--no-deps", "--offline"]).output();
    let output = output.ok().filter(|output| output.status.success()).ok_or(CraneError::NoTargetDirectory)?;
    let metadata: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
    let directory = metadata.and_then(|metadata| Some(Utf8PathBuf::from(metadata.get("target_directory")?.as_str()?)));
    directory.ok_or(CraneError::NoTargetDirectory)
}

/// Packs `target` into `out`. Gives the number of files.
fn pack(target: &Utf8Path, out: &Utf8Path, previous: Option<&Utf8Path>) -> Result<u64, CraneError> {
    fs::create_dir_all(out).map_err(failed("make", out))?;
    let archive = out.join(ARCHIVE);
    let temporary = out.join(format!("{ARCHIVE}.new"));
    let writing = || failed("write", &temporary);
    let file = BufWriter::new(File::create(&temporary).map_err(writing())?);
    let encoder = zstd::stream::write::Encoder::new(file, 3).map_err(writing())?;
    let mut builder = tar::Builder::new(encoder);
    builder.follow_symlinks(false);
    let previous_files = previous.map(contents).transpose()?;
    let mut packing = Packing { builder, target, previous: previous_files, files: 0 };
    packing.directory(Utf8Path::new(""))?;
    let files = packing.files;
    let encoder = packing.builder.into_inner().map_err(writing())?;
    encoder.finish().and_then(|mut file| file.flush()).map_err(writing())?;
    // Inside of an output the link comes first: who sees the archive sees what it goes on from.
    if let Some(previous) = previous {
        let link = out.join(format!("{ARCHIVE}.prev"));
        let absolute = previous.canonicalize_utf8().map_err(failed("find", previous))?;
        let _ = fs::remove_file(&link);
        make_link(&absolute, &link).map_err(failed("make the link", &link))?;
    }
    fs::rename(&temporary, &archive).map_err(failed("write", &archive))?;
    Ok(files)
}

#[cfg(unix)]
fn make_link(to: &Utf8Path, link: &Utf8Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, link)
}

#[cfg(windows)]
fn make_link(to: &Utf8Path, link: &Utf8Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(to, link)
}

/// A target directory that is being packed.
struct Packing<'a, W: io::Write> {
    builder: tar::Builder<W>,
    target: &'a Utf8Path,
    /// What needs no packing. Without an archive before this one, everything is packed, with its directories.
    previous: Option<Contents>,
    files: u64,
}

impl<W: io::Write> Packing<'_, W> {
    /// Packs what is in a directory, by name.
    fn directory(&mut self, relative: &Utf8Path) -> Result<(), CraneError> {
        let directory = self.target.join(relative);
        if self.previous.is_none() {
            let mut header = header(tar::EntryType::Directory, 0o755);
            self.append(&mut header, relative, &mut io::empty())?;
        }
        let mut names = Vec::new();
        for entry in directory.read_dir_utf8().map_err(failed("list", &directory))? {
            names.push(entry.map_err(failed("list", &directory))?.file_name().to_owned());
        }
        names.sort_unstable();
        for name in names {
            let relative = relative.join(name);
            let path = self.target.join(&relative);
            let metadata = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
            if metadata.is_dir() {
                self.directory(&relative)?;
            } else if !self.is_in_previous(&relative, &path, &metadata)? {
                self.file(&relative, &path, &metadata)?;
                self.files += 1;
            }
        }
        Ok(())
    }

    /// Whether the archive before this one, or one before that, leaves just this file.
    fn is_in_previous(
        &self,
        relative: &Utf8Path,
        path: &Utf8Path,
        metadata: &fs::Metadata,
    ) -> Result<bool, CraneError> {
        let previous = self.previous.as_ref().and_then(|files| files.get(relative));
        Ok(match previous {
            Some(Content::Link(to)) => {
                metadata.is_symlink() && path.read_link_utf8().map_err(failed("read the link", path))? == *to
            }
            Some(Content::File { size, executable, hash }) => {
                let may_be = metadata.len() == *size && is_executable(mode(metadata)) == *executable;
                metadata.is_file() && may_be && {
                    let mut file = File::open(path).map_err(failed("open", path))?;
                    hash_of(&mut file).map_err(failed("read", path))?.1 == *hash
                }
            }
            None => false,
        })
    }

    fn file(&mut self, relative: &Utf8Path, path: &Utf8Path, metadata: &fs::Metadata) -> Result<(), CraneError> {
        if metadata.is_symlink() {
            let target = path.read_link_utf8().map_err(failed("read the link", path))?;
            let mut header = header(tar::EntryType::Symlink, 0o777);
            let name = Utf8Path::new(".").join(relative);
            return self.builder.append_link(&mut header, name, target).map_err(failed("pack", path));
        }
        let mut header = header(tar::EntryType::Regular, mode(metadata));
        header.set_size(metadata.len());
        let mut file = File::open(path).map_err(failed("open", path))?;
        self.append(&mut header, relative, &mut file)
    }

    fn append(
        &mut self,
        header: &mut tar::Header,
        relative: &Utf8Path,
        content: &mut dyn io::Read,
    ) -> Result<(), CraneError> {
        let name = Utf8Path::new(".").join(relative);
        self.builder.append_data(header, &name, content).map_err(failed("pack", &self.target.join(relative)))
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(EPOCH);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// Of the other permissions, those that unpack decide.
fn is_executable(mode: u32) -> bool {
    mode & 0o100 != 0
}

/// Its own permissions; whoever unpacks it may write.
#[cfg(unix)]
fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o777 | 0o200
}

#[cfg(not(unix))]
fn mode(_: &fs::Metadata) -> u32 {
    0o755
}

/// What archives leave where they are unpacked, by names below there.
type Contents = BTreeMap<Utf8PathBuf, Content>;

/// A file in an archive.
#[derive(Clone)]
enum Content {
    File { size: u64, executable: bool, hash: Sha256 },
    Link(Utf8PathBuf),
}

/// What an archive and those before it hold.
fn contents(archive: &Utf8Path) -> Result<Contents, CraneError> {
    let mut contents = Contents::new();
    for archive in chain(archive)? {
        let reading = || failed("read", &archive);
        let mut opened = open(&archive)?;
        for entry in opened.entries().map_err(reading())? {
            let mut entry = entry.map_err(reading())?;
            // A name that is not UTF-8 is none of cargo's.
            let Some(name) = plain(&entry.path_bytes()) else { continue };
            let link =
                entry.link_name_bytes().and_then(|link| Some(Utf8PathBuf::from(std::str::from_utf8(&link).ok()?)));
            let content = match (entry.header().entry_type(), link) {
                (tar::EntryType::Symlink, Some(to)) => Some(Content::Link(to)),
                // Another name of a file that came before.
                (tar::EntryType::Link, Some(to)) => {
                    plain(to.as_str().as_bytes()).and_then(|to| contents.get(&to).cloned())
                }
                (kind, _) if kind.is_file() => {
                    let executable = is_executable(entry.header().mode().map_err(reading())?);
                    let (size, hash) = hash_of(&mut entry).map_err(reading())?;
                    Some(Content::File { size, executable, hash })
                }
                _ => None,
            };
            match content {
                Some(content) => contents.insert(name, content),
                None => contents.remove(&name),
            };
        }
    }
    Ok(contents)
}

/// A name in an archive without `./`.
fn plain(name: &[u8]) -> Option<Utf8PathBuf> {
    let name = Utf8Path::new(std::str::from_utf8(name).ok()?);
    Some(name.components().filter(|part| matches!(part, Utf8Component::Normal(_))).collect())
}

fn hash_of(reader: &mut dyn io::Read) -> io::Result<(u64, Sha256)> {
    let mut hasher = Sha256Hasher::new();
    let size = io::copy(reader, &mut hasher)?;
    Ok((size, hasher.finish()))
}

/// Opens one archive.
fn open(archive: &Utf8Path) -> Result<tar::Archive<impl io::Read>, CraneError> {
    let file = File::open(archive).map_err(failed("open", archive))?;
    let decoder = zstd::stream::read::Decoder::new(BufReader::new(file)).map_err(failed("unpack", archive))?;
    Ok(tar::Archive::new(decoder))
}

/// An archive and those before it, the first one first.
fn chain(archive: &Utf8Path) -> Result<Vec<Utf8PathBuf>, CraneError> {
    let mut chain = vec![archive.to_owned()];
    loop {
        let last = chain.last().expect("it begins with one");
        let link = Utf8PathBuf::from(format!("{last}.prev"));
        if !link.exists() {
            break;
        }
        let previous = link.canonicalize_utf8().map_err(failed("follow", &link))?;
        chain.push(previous);
        if chain.len() > LONGEST_CHAIN {
            return Err(CraneError::Chain { path: archive.to_owned() });
        }
    }
    chain.reverse();
    Ok(chain)
}

/// Unpacks an archive and those before it. Gives the number of files.
fn unpack(archive: &Utf8Path, target: &Utf8Path) -> Result<u64, CraneError> {
    let chain = chain(archive)?;
    fs::create_dir_all(target).map_err(failed("make", target))?;
    let mut files = 0;
    for archive in &chain {
        let reading = || failed("unpack", archive);
        let mut opened = open(archive)?;
        opened.set_overwrite(true);
        opened.set_preserve_mtime(true);
        opened.set_preserve_permissions(true);
        for entry in opened.entries().map_err(reading())? {
            let mut entry = entry.map_err(reading())?;
            let is_directory = entry.header().entry_type().is_dir();
            // Nothing leaves the directory: `unpack_in` passes such entries over, and we don't.
            if !entry.unpack_in(target).map_err(reading())? {
                let outside = io::Error::new(io::ErrorKind::InvalidData, "a file in it leads out of the directory");
                return Err(reading()(outside));
            }
            files += u64::from(!is_directory);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Utf8Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_was_packed_is_unpacked_with_the_archive_before_it() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let (one, two, three) = (root.join("one"), root.join("two"), root.join("three"));
        write(&one, "debug/deps/libbase.rlib", "base");
        write(&one, &format!("debug/{}/long", "d".repeat(150)), "long");
        assert_eq!(pack(&one, &root.join("first"), None).unwrap(), 2);

        assert_eq!(unpack(&archive_in(&root.join("first")).unwrap(), &two).unwrap(), 2);
        let unpacked = two.join("debug/deps/libbase.rlib");
        assert_eq!(
            fs::metadata(&unpacked).unwrap().modified().unwrap(),
            std::time::UNIX_EPOCH + std::time::Duration::from_secs(EPOCH)
        );
        write(&two, "debug/deps/libnew.rlib", "new");
        // What differs, and nothing else; a time says nothing.
        write(&two, &format!("debug/{}/long", "d".repeat(150)), "long");
        assert_eq!(pack(&two, &root.join("second"), Some(&root.join("first/target.tar.zst"))).unwrap(), 1);

        assert_eq!(unpack(&archive_in(&root.join("second")).unwrap(), &three).unwrap(), 3);
        assert_eq!(fs::read_to_string(three.join("debug/deps/libbase.rlib")).unwrap(), "base");
        assert_eq!(fs::read_to_string(three.join("debug/deps/libnew.rlib")).unwrap(), "new");
    }

    #[test]
    fn a_file_with_a_time_of_long_ago_is_packed() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let (target, again) = (root.join("target"), root.join("again"));
        let long_ago = |name: &str, text: &str| {
            write(&target, name, text);
            let file = File::options().write(true).open(target.join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        write(&target, "same", "same");
        write(&target, "changed", "one");
        pack(&target, &root.join("first"), None).unwrap();
        long_ago("changed", "two");
        long_ago("build/out/generated.rs", "new");
        assert_eq!(pack(&target, &root.join("second"), Some(&root.join("first/target.tar.zst"))).unwrap(), 2);
        long_ago("changed", "one");
        // The archive before counts as it is after those before it.
        assert_eq!(pack(&target, &root.join("third"), Some(&root.join("second/target.tar.zst"))).unwrap(), 1);
        unpack(&root.join("third/target.tar.zst"), &again).unwrap();
        assert_eq!(fs::read_to_string(again.join("build/out/generated.rs")).unwrap(), "new");
        assert_eq!(fs::read_to_string(again.join("changed")).unwrap(), "one");
        assert_eq!(fs::read_to_string(again.join("same")).unwrap(), "same");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_count() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        let target = root.join("target");
        write(&target, "program", "program");
        write(&target, "other", "other");
        fs::hard_link(target.join("program"), target.join("linked")).unwrap();
        make_link(Utf8Path::new("program"), &target.join("symbolic")).unwrap();
        let first = root.join("first").join(ARCHIVE);
        // As GNU tar packs it: a file's second name is a link to the first one.
        fs::create_dir_all(root.join("first")).unwrap();
        let script = format!("tar -C {target} -c . | zstd -q -o {first}");
        assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
        assert_eq!(pack(&target, &root.join("second"), Some(&first)).unwrap(), 0);
        fs::set_permissions(target.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(target.join("symbolic")).unwrap();
        make_link(Utf8Path::new("other"), &target.join("symbolic")).unwrap();
        assert_eq!(pack(&target, &root.join("third"), Some(&first)).unwrap(), 3);
    }

    #[test]
    fn the_same_directory_is_the_same_archive() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        for name in ["one", "two"] {
            write(&root.join(name), "b", "b");
            write(&root.join(name), "a/c", "c");
            pack(&root.join(name), &root.join(format!("of-{name}")), None).unwrap();
        }
        let bytes = |name: &str| fs::read(root.join(name).join(ARCHIVE)).unwrap();
        assert_eq!(bytes("of-one"), bytes("of-two"));
    }

    #[test]
    fn an_archive_before_itself_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        write(&root.join("one"), "a", "a");
        pack(&root.join("one"), root, None).unwrap();
        make_link(&root.join(ARCHIVE), &root.join(format!("{ARCHIVE}.prev"))).unwrap();
        assert!(matches!(unpack(&root.join(ARCHIVE), &root.join("two")), Err(CraneError::Chain { .. })));
        assert!(matches!(archive_in(&root.join("one")), Err(CraneError::NoArchive { .. })));
    }
}
