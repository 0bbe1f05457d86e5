//! Debug sections of object files and archives: where in a file a path is harmless.
//!
//! Owns which sections count as debug information. Refuses nothing: what cannot be parsed has no harmless
//! range, so that everything found in it binds.

use std::fs::File;
use std::ops::Range;

use object::read::archive::ArchiveFile;
use object::read::{Object as _, ObjectSection as _, ReadCache, ReadRef};
use object::{FileKind, SectionFlags, elf};

/// Members of an archive beyond this number are not looked into.
const MEMBER_LIMIT: usize = 1 << 16;

/// The byte ranges of debug information, sorted.
pub(super) fn harmless_ranges(file: &File, length: u64) -> Vec<Range<u64>> {
    let cache = ReadCache::new(file);
    let mut ranges = Vec::new();
    collect(&cache, 0..length, &mut ranges);
    ranges.sort_by_key(|range| (range.start, range.end));
    // Neighbours are joined, so that one look at the last range that begins before a place is enough.
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

fn collect(cache: &ReadCache<&File>, whole: Range<u64>, ranges: &mut Vec<Range<u64>>) {
    let data = cache.range(whole.start, whole.end - whole.start);
    if data.read_bytes_at(0, PDB_MAGIC.len() as u64) == Ok(PDB_MAGIC) {
        ranges.push(whole);
        return;
    }
    match FileKind::parse(data) {
        Ok(FileKind::Archive) => {
            let Ok(archive) = ArchiveFile::parse(data) else { return };
            if archive.is_thin() {
                return;
            }
            for member in archive.members().take(MEMBER_LIMIT) {
                let Ok(member) = member else { return };
                let (offset, size) = member.file_range();
                let begin = whole.start.saturating_add(offset);
                let end = begin.saturating_add(size);
                // Archives in archives do not occur; the metadata of an rlib is code, whatever it is wrapped in.
                if end <= whole.end && member.name() != b"lib.rmeta" {
                    collect_object(cache, begin..end, ranges);
                }
            }
        }
        _ => collect_object(cache, whole, ranges),
    }
}

fn collect_object(cache: &ReadCache<&File>, whole: Range<u64>, ranges: &mut Vec<Range<u64>>) {
    let Ok(file) = object::File::parse(cache.range(whole.start, whole.end - whole.start)) else { return };
    for section in file.sections() {
        let Some((offset, size)) = section.file_range() else { continue };
        let Ok(name) = section.name_bytes() else { continue };
        let is_debug = match section.flags() {
            // What is loaded into memory is read by the program, whatever its name is.
            SectionFlags::Elf { sh_flags, .. } => {
                !sh_flags.contains(elf::SHF_ALLOC) && (name.starts_with(b".debug_") || name.starts_with(b".zdebug_"))
            }
            SectionFlags::MachO { .. } => section.segment_name_bytes() == Ok(Some(b"__DWARF")),
            SectionFlags::Coff { .. } => name.starts_with(b".debug$") || name.starts_with(b".debug_"),
            _ => false,
        };
        let begin = whole.start.saturating_add(offset);
        let end = begin.saturating_add(size);
        if is_debug && begin < end && end <= whole.end {
            ranges.push(begin..end);
        }
    }
}

/// Microsoft's program database: debug information from end to end.
const PDB_MAGIC: &[u8] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
