//! The reference scan: which of the producer's directories a file still names, and whether that matters.
//!
//! As Nix does, it searches the bytes for the paths. Collect calls [`Scanner`] for every output of a unit; where
//! the store reads a file anyhow, it feeds a [`RawScan`] and asks for the rest only if that met something. What
//! is found decides how the file may travel:
//!
//! - nowhere, or in debug sections only: anywhere;
//! - in text: with placeholders in place of the paths ([`hide_in_text`], [`reveal_in_text`]);
//! - elsewhere: only to where the directories are the same. The unit is *bound* to them.
//!
//! What the search cannot see: paths in compressed data, in encodings other than UTF-8, and ones put together at
//! run time. LLVM bitcode packs strings at bit offsets, so it is searched bit by bit.

mod bitcode;
mod objects;
mod text;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;

use camino::{Utf8Path, Utf8PathBuf};
use memchr::memmem::{self, Finder};
use serde::{Deserialize, Serialize};

use self::bitcode::BitcodeSearch;
use self::objects::harmless_ranges;
pub use self::text::{HideError, PLACEHOLDER_START, hide_in_text, reveal_in_text};
use super::{RootKind, Roots};

/// Text files above this size are treated as binary: their paths bind them.
pub const TEXT_LIMIT: u64 = 64 << 20;

/// Read at once. Large enough that the search runs at memory speed, small enough for the processor's cache.
const CHUNK: usize = 1 << 20;

/// Why a file could not be scanned.
#[derive(Debug, thiserror::Error)]
#[error("scan {path} for references")]
pub struct ScanError {
    path: Utf8PathBuf,
    #[source]
    source: io::Error,
}

/// What a file says of the producer's directories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileReferences {
    /// Nothing.
    None,
    /// It names them in debug sections, where they are harmless: a debugger that does not find the source there
    /// does without.
    DebugOnly(BTreeSet<RootKind>),
    /// It is text, and placeholders can stand for them.
    Text(BTreeSet<RootKind>),
    /// It names them elsewhere, and is right only where they are the same.
    Bound(BTreeSet<RootKind>),
}

impl FileReferences {
    /// The directories that the file is bound to.
    pub fn bound_to(&self) -> BTreeSet<RootKind> {
        match self {
            Self::Bound(roots) => roots.clone(),
            _ => BTreeSet::new(),
        }
    }
}

/// Searches files for the directories of one build.
#[derive(Debug)]
pub struct Scanner {
    roots: Roots,
    needles: Vec<Needle>,
    /// Those of the needles without which no other can occur, and the one that bitcode begins with.
    first_pass: Vec<Finder<'static>>,
    longest: usize,
    bitcode: BitcodeSearch,
}

#[derive(Debug)]
struct Needle {
    kind: RootKind,
    bytes: Vec<u8>,
    finder: Finder<'static>,
    form: Form,
}

/// In which form a path is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Plain,
    /// As sources, make files or URLs may write it.
    Escaped,
    /// By the name that it has behind links.
    Behind,
    /// Its beginning alone, in machine code.
    Fragment,
}

/// How much of a path an optimiser keeps together at least: the constants that it compares with are as long as a
/// register.
const FRAGMENT: usize = 8;

impl Scanner {
    /// A scanner for the given roots.
    pub fn new(roots: &Roots) -> Self {
        Self::wary(roots, &BTreeSet::new())
    }

    /// A scanner for the outputs of a unit that took the place of something at compile time, as
    /// `env!("CARGO_MANIFEST_DIR")` does. Where a program compares with such a path, the optimiser cuts it into
    /// pieces. So in machine code the beginning of a root that the unit was told of (see [`named_roots`]) is taken
    /// for that root; not that of another, as all homes begin alike.
    pub fn wary(roots: &Roots, named: &BTreeSet<RootKind>) -> Self {
        let mut needles = Vec::new();
        let names = roots.iter().map(|(kind, path)| (kind, path, Form::Plain));
        for (kind, path, form) in names.chain(roots.behind_links().map(|(kind, path)| (kind, path, Form::Behind))) {
            // A root of `/` would be found everywhere, and says nothing.
            let Some(path) = searchable(path) else { continue };
            let mut add = |bytes: &[u8], form| {
                let finder = Finder::new(bytes).into_owned();
                needles.push(Needle { kind, finder, bytes: bytes.to_owned(), form });
            };
            for (position, text) in text::forms(path).into_iter().enumerate() {
                add(text.as_bytes(), if position == 0 { form } else { Form::Escaped });
            }
            if named.contains(&kind) && path.as_str().len() > FRAGMENT {
                add(&path.as_str().as_bytes()[..FRAGMENT], Form::Fragment);
            }
        }
        let mut minimal: Vec<&[u8]> = needles.iter().map(|needle| needle.bytes.as_slice()).collect();
        minimal.sort_unstable();
        minimal.dedup_by(|longer, shorter| longer.starts_with(shorter));
        let mut first_pass: Vec<_> = minimal.into_iter().map(|bytes| Finder::new(bytes).into_owned()).collect();
        first_pass.push(Finder::new(bitcode::MAGIC).into_owned());
        // Bitcode holds constants whole.
        let whole = needles.iter().filter(|needle| needle.form != Form::Fragment);
        let bitcode = BitcodeSearch::new(whole.map(|needle| (needle.kind, needle.bytes.as_slice())));
        let longest = needles
            .iter()
            .map(|needle| needle.bytes.len())
            .max()
            .unwrap_or(0)
            .max(bitcode.longest())
            .max(bitcode::MAGIC.len());
        Self { roots: roots.clone(), needles, first_pass, longest, bitcode }
    }

    /// Begins a search through bytes that somebody else reads.
    pub fn raw(&self) -> RawScan<'_> {
        RawScan { scanner: self, tail: Vec::new(), met: false }
    }

    /// Reads a file and says what it references.
    pub fn scan_file(&self, path: &Utf8Path) -> Result<FileReferences, ScanError> {
        let failed = |source| ScanError { path: path.to_owned(), source };
        let mut raw = self.raw();
        for_each_chunk(path, 0, |_, chunk| {
            raw.feed(chunk);
            !raw.met
        })
        .map_err(failed)?;
        if raw.met { self.examine_file(path) } else { Ok(FileReferences::None) }
    }

    /// Says what a file references in which the raw scan met something.
    pub fn examine_file(&self, path: &Utf8Path) -> Result<FileReferences, ScanError> {
        let failed = |source| ScanError { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut start = [0; 32];
        let start_length = file.read(&mut start).map_err(failed)?;
        if length <= TEXT_LIMIT && !start[..start_length].contains(&0) {
            let bytes = std::fs::read(path).map_err(failed)?;
            if !bytes.contains(&0)
                && let Ok(text) = std::str::from_utf8(&bytes)
            {
                return Ok(self.examine_text(text));
            }
        }
        let harmless = harmless_ranges(&file, length);
        self.examine_binary(path, &harmless).map_err(failed)
    }

    /// Says what a text references.
    pub fn examine_text(&self, text: &str) -> FileReferences {
        let occurring = |form: Form| {
            let needles = self.needles.iter().filter(move |needle| needle.form == form);
            needles.filter(|needle| needle.finder.find(text.as_bytes()).is_some()).map(|needle| needle.kind)
        };
        let roots: BTreeSet<_> = occurring(Form::Plain).collect();
        let escaped: BTreeSet<_> = occurring(Form::Escaped).chain(self.behind_links(text)).collect();
        if roots.is_empty() && escaped.is_empty() {
            return FileReferences::None;
        }
        match hide_in_text(text, &self.roots) {
            // What occurs is the beginning of another path: `/home/a/work` in `/home/a/workshop`.
            Ok(hidden) if hidden == text && escaped.is_empty() => FileReferences::None,
            Ok(hidden) if escaped.is_empty() && reveal_in_text(&hidden, &self.roots).as_deref() == Some(text) => {
                FileReferences::Text(roots)
            }
            _ => FileReferences::Bound(roots.into_iter().chain(escaped).collect()),
        }
    }

    /// The roots that a text names as they are called behind links.
    fn behind_links(&self, text: &str) -> BTreeSet<RootKind> {
        let mut found = BTreeSet::new();
        for needle in self.needles.iter().filter(|needle| needle.form == Form::Behind) {
            // `/work` is behind no link where it is the end of `/home/a/work`.
            let paths = self.roots.iter().map(|(_, path)| path.as_str().as_bytes());
            let longer = paths.filter(|path| needle.finder.find(path).is_some_and(|at| at > 0));
            let longer: Vec<_> = longer.map(Finder::new).collect();
            let is_part = |at: usize| {
                longer.iter().any(|path| {
                    let length = path.needle().len();
                    let start = (at + needle.bytes.len()).saturating_sub(length);
                    let end = (at + length).min(text.len());
                    path.find(&text.as_bytes()[start..end]).is_some()
                })
            };
            if needle.finder.find_iter(text.as_bytes()).any(|at| !is_part(at)) {
                found.insert(needle.kind);
            }
        }
        found
    }

    fn examine_binary(&self, path: &Utf8Path, harmless: &[Range<u64>]) -> io::Result<FileReferences> {
        let (mut code, mut debug) = (BTreeSet::new(), BTreeSet::new());
        let overlap = self.longest.saturating_sub(1);
        let mut is_bitcode = false;
        let magic = Finder::new(bitcode::MAGIC);
        for_each_chunk(path, overlap, |offset, chunk| {
            is_bitcode |= magic.find(chunk).is_some();
            for needle in &self.needles {
                if code.contains(&needle.kind) {
                    continue;
                }
                for position in needle.finder.find_iter(chunk) {
                    let begin = offset + position as u64;
                    if is_within(harmless, begin..begin + needle.bytes.len() as u64) {
                        debug.insert(needle.kind);
                    } else {
                        code.insert(needle.kind);
                        break;
                    }
                }
            }
            true
        })?;
        if is_bitcode {
            for_each_chunk(path, overlap, |offset, chunk| {
                self.bitcode.search(chunk, &mut |kind, place| {
                    if !is_within(harmless, offset + place.start as u64..offset + place.end as u64) {
                        code.insert(kind);
                    }
                });
                true
            })?;
        }
        Ok(match (code.is_empty(), debug.is_empty()) {
            (false, _) => FileReferences::Bound(code),
            (true, false) => FileReferences::DebugOnly(debug),
            (true, true) => FileReferences::None,
        })
    }
}

/// The first pass of a scan, for bytes that are read for another reason (to hash them).
#[derive(Debug)]
pub struct RawScan<'a> {
    scanner: &'a Scanner,
    /// The end of what was fed, which may hold the beginning of a path.
    tail: Vec<u8>,
    met: bool,
}

impl RawScan<'_> {
    /// Takes the next bytes of the file.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.met {
            return;
        }
        let overlap = self.scanner.longest.saturating_sub(1);
        if !self.tail.is_empty() {
            let mut seam = std::mem::take(&mut self.tail);
            seam.extend_from_slice(&chunk[..chunk.len().min(overlap)]);
            self.met = self.occurs(&seam);
            self.tail = seam;
        }
        self.met = self.met || self.occurs(chunk);
        if chunk.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&chunk[chunk.len() - overlap..]);
        } else if self.tail.is_empty() {
            self.tail.extend_from_slice(chunk);
        } else {
            // The seam already ends in the whole chunk.
            let surplus = self.tail.len().saturating_sub(overlap);
            self.tail.drain(..surplus);
        }
    }

    /// Whether something was met, and [`Scanner::examine_file`] has to look closer.
    pub fn met(&self) -> bool {
        self.met
    }

    fn occurs(&self, bytes: &[u8]) -> bool {
        self.scanner.first_pass.iter().any(|finder| finder.find(bytes).is_some())
    }
}

/// The roots that texts name which a unit took in at compile time: the values of variables, and what build scripts
/// generated. If there are some, its outputs want a [`Scanner::wary`] scan.
pub fn named_roots(roots: &Roots, texts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> BTreeSet<RootKind> {
    let mut named = BTreeSet::new();
    for text in texts {
        let names = |path: &Utf8Path| memmem::find(text.as_ref(), path.as_str().as_bytes()).is_some();
        named.extend(roots.iter().chain(roots.behind_links()).filter(|(_, path)| names(path)).map(|(kind, _)| kind));
    }
    named
}

fn searchable(path: &Utf8Path) -> Option<&Utf8Path> {
    (path.is_absolute() && path.file_name().is_some()).then_some(path)
}

fn is_within(ranges: &[Range<u64>], wanted: Range<u64>) -> bool {
    let after = ranges.partition_point(|range| range.start <= wanted.start);
    after > 0 && wanted.end <= ranges[after - 1].end
}

/// Gives the file's bytes piece by piece, with their offset; each piece begins with the last `overlap` bytes of
/// the one before. Ends when the callback returns false.
fn for_each_chunk(path: &Utf8Path, overlap: usize, mut callback: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; overlap + CHUNK];
    let (mut kept, mut offset) = (0, 0);
    loop {
        let read = match file.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let filled = kept + read;
        if !callback(offset, &buffer[..filled]) {
            return Ok(());
        }
        let keep = filled.min(overlap);
        buffer.copy_within(filled - keep..filled, 0);
        offset += (filled - keep) as u64;
        kept = keep;
    }
}

#[cfg(test)]
mod tests;
