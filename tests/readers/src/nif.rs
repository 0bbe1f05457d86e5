//! NIFs: names, archives that anybody with a token uploads, what comes out of caches, lock files, and libraries.

use camino::Utf8Path;
use nixcache_core::nif::{
    Inspection, Limits, ModuleName, NifManifest, NifName, NifNamespace, NifRecord, NifVersion, NixcacheLock, inspect,
    library_of_output, pack_archive, pack_output, pack_record, read_archive, read_record, write_archive,
};

/// What a library has at most here, so that no input makes the test slow.
const LIMIT: u64 = 1 << 20;

const FILES: [&str; 3] = [
    "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
    "demo_nif-v1.2.3-rc.1-nif-2.16-x86_64-pc-windows-msvc.dll.tar.gz",
    "libdemo_nif-v0.1.0-s1a2b3c4d5e6f-nif-2.17-aarch64-apple-darwin--fast.so.tar.gz",
];

fn first() -> NifName {
    NifName::parse_archive_file(FILES[0]).unwrap()
}

fn record_of(name: &NifName) -> (NifRecord, Vec<u8>) {
    let needs = Inspection { nif_version: None, glibc: None, libstdcxx: None, needed: vec!["libc.so.6".to_owned()] };
    let manifest = NifManifest::new(name, b"library", needs);
    let archive = write_archive(name, b"library");
    let output = pack_output(&manifest, b"library");
    let record = NifRecord::new(NifNamespace::default(), manifest, &output, &archive, &pack_archive(name, &archive));
    (record, output.nar)
}

/// Names of files and modules: what is taken is one plain name, and nothing that code or a shell could read in it.
pub fn nif_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let plain = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
        assert!(text.bytes().all(allowed) && !text.starts_with('.') && text.len() < 256, "{text:?}");
    };
    if let Ok(name) = NifName::parse_archive_file(text) {
        assert_eq!(name.archive_file(), text);
        plain(text);
        plain(name.record_path(&NifNamespace::default()).name().as_str());
        plain(&name.native_files().legacy);
    }
    if let Ok(module) = text.parse::<ModuleName>() {
        plain(&module.checksum_file());
    }
    if let Ok(namespace) = text.parse::<NifNamespace>() {
        plain(namespace.as_str());
    }
}

pub(crate) fn name_seeds() -> Vec<Vec<u8>> {
    FILES
        .iter()
        .copied()
        .chain(["Elixir.MyApp.Native", "team-b", "../x"])
        .map(|text| text.as_bytes().to_vec())
        .collect()
}

/// An archive: what is taken is one library, which packed again is taken again.
pub fn nif_archive(data: &[u8]) {
    let name = first();
    if let Ok(library) = read_archive(&name, data, LIMIT) {
        assert!(library.len() as u64 <= LIMIT);
        assert_eq!(read_archive(&name, &write_archive(&name, &library), 2 * LIMIT).unwrap(), library);
    }
}

pub(crate) fn archive_seeds() -> Vec<Vec<u8>> {
    vec![write_archive(&first(), b"library"), write_archive(&first(), &[7; 2000]), Vec::new()]
}

/// An output or a record, as a cache gives it.
pub fn nif_output(data: &[u8]) {
    let mut nar = data;
    if let Ok(library) = library_of_output(&first(), &mut nar) {
        assert!(library.len() <= data.len());
    }
    let mut nar = data;
    if let Ok(record) = read_record(&NifNamespace::default(), &first(), &mut nar) {
        assert_eq!(record.nif.name(), first());
    }
}

pub(crate) fn output_seeds() -> Vec<Vec<u8>> {
    let (record, output) = record_of(&first());
    vec![output, pack_record(&record).1]
}

/// A lock file: what is taken is written as it was read.
pub fn nif_lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(lock) = NixcacheLock::parse(text) {
        // By its text: what others wrote may hold numbers that equal nothing.
        let written = lock.to_text();
        assert_eq!(NixcacheLock::parse(&written).unwrap().to_text(), written);
    }
}

pub(crate) fn lock_seeds() -> Vec<Vec<u8>> {
    let mut texts = vec!["version = 1\n[units.x86_64-linux.\"build --release\"]\nlist = [1, 2]\n".to_owned()];
    for file in FILES {
        let name = NifName::parse_archive_file(file).unwrap();
        let (record, _) = record_of(&name);
        let sri = |path: &nixcache_core::nif::RecordedPath| (path.path.clone(), path.nar_hash.clone(), path.nar_size);
        let (output, archive) = (sri(&record.output), sri(&record.archive.store));
        let variant = name.platform.variant.as_ref().map(|variant| format!("variant = \"{variant}\"\n"));
        texts.push(format!(
            "version = 1\n[nif.{}]\nnamespace = \"main\"\nversion = \"{}\"\n[[nif.{0}.files]]\narchive = \"{file}\"\n\
             archive-hash = \"{}\"\narchive-nar-hash = \"{}\"\narchive-nar-size = {}\narchive-path = \"{}\"\n\
             archive-size = {}\nlibrary-hash = \"{}\"\nlibrary-size = {}\nnar-hash = \"{}\"\nnar-size = {}\n\
             nif-version = \"{}\"\npath = \"{}\"\ntarget = \"{}\"\n{}",
            name.crate_name,
            name.release,
            record.archive.sha256,
            archive.1,
            archive.2,
            archive.0,
            record.archive.size,
            record.nif.sha256,
            record.nif.size,
            output.1,
            output.2,
            name.platform.nif_version,
            output.0,
            name.platform.target,
            variant.unwrap_or_default(),
        ));
    }
    texts.into_iter().map(String::into_bytes).collect()
}

/// A library: it is described or refused.
pub fn nif_library(data: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), data).unwrap();
    let path = Utf8Path::from_path(file.path()).unwrap();
    let wanted = NifVersion::default();
    if let Ok(inspection) = inspect(path, &first().platform.target, wanted, &Limits::default()) {
        assert!(inspection.nif_version.is_none_or(|version| version <= wanted));
    }
}

/// The smallest of what linkers make: an ELF library that exports `nif_init`, by hand.
pub(crate) fn library_seeds() -> Vec<Vec<u8>> {
    // Header, one section table with names, dynamic symbols and their names.
    let names = b"\0nif_init\0enif_alloc\0";
    let section_names = b"\0.shstrtab\0.dynsym\0.dynstr\0.rodata\0";
    let symbol = |name: u32, info: u8, section: u16| {
        let mut symbol = Vec::new();
        symbol.extend_from_slice(&name.to_le_bytes());
        symbol.extend_from_slice(&[info, 0]);
        symbol.extend_from_slice(&section.to_le_bytes());
        symbol.extend_from_slice(&[0; 16]);
        symbol
    };
    let symbols = [symbol(0, 0, 0), symbol(1, 0x12, 4), symbol(10, 0x10, 0)].concat();
    let constants = b"enif_make_new_atom_lenenif_free";
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let (kind, machine) = (3_u16, 62_u16);
    file.extend_from_slice(&kind.to_le_bytes());
    file.extend_from_slice(&machine.to_le_bytes());
    file.extend_from_slice(&1_u32.to_le_bytes());
    file.extend_from_slice(&[0; 16]);
    let contents: [&[u8]; 4] = [section_names, &symbols, names, constants];
    let mut offset = 64_u64;
    let offsets: Vec<u64> = contents
        .iter()
        .map(|content| {
            offset = offset.next_multiple_of(8);
            let own = offset;
            offset += content.len() as u64;
            own
        })
        .collect();
    let table = offset.next_multiple_of(8);
    file.extend_from_slice(&table.to_le_bytes());
    file.extend_from_slice(&0_u32.to_le_bytes());
    for number in [64_u16, 56, 0, 64, 5, 1] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    for (content, offset) in contents.iter().zip(&offsets) {
        file.resize(usize::try_from(*offset).unwrap(), 0);
        file.extend_from_slice(content);
    }
    file.resize(usize::try_from(table).unwrap(), 0);
    file.extend_from_slice(&[0; 64]);
    // name, type, flags, link, entry size
    let headers: [(u32, u32, u64, u32, u64); 4] =
        [(1, 3, 0, 0, 0), (11, 11, 2, 3, 24), (19, 3, 2, 0, 0), (27, 1, 2, 0, 0)];
    for ((name, kind, flags, link, entry), (content, offset)) in headers.into_iter().zip(contents.iter().zip(&offsets))
    {
        file.extend_from_slice(&name.to_le_bytes());
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&flags.to_le_bytes());
        file.extend_from_slice(&0_u64.to_le_bytes());
        file.extend_from_slice(&offset.to_le_bytes());
        file.extend_from_slice(&(content.len() as u64).to_le_bytes());
        file.extend_from_slice(&link.to_le_bytes());
        file.extend_from_slice(&1_u32.to_le_bytes());
        file.extend_from_slice(&8_u64.to_le_bytes());
        file.extend_from_slice(&entry.to_le_bytes());
    }
    vec![file, b"\x7fELF".to_vec(), b"MZ".to_vec(), b"\xcf\xfa\xed\xfe".to_vec()]
}
