//! What an executable or shared library asks of the host that loads it.
//!
//! Proc macros and build scripts run on the host, and final binaries should: a file that needs a newer glibc
//! than there is must not be restored. Collect reads [`BinaryFacts`] of every linked output and turns them into
//! dynamic inputs; `dynamic::HostFacts` knows what the host has. Refuses nothing that is merely strange: for a
//! file that is neither executable nor shared library there are no facts.
//!
//! ELF is read in full. Of Mach-O and PE only the libraries and the machine are known.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader as _};
use object::read::{Object as _, ReadCache, ReadRef};
use object::{Endianness, FileKind, elf};
use serde::{Deserialize, Serialize};

/// Why the facts of a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BinaryFactsError {
    /// The file could not be read.
    #[error("read {path}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It begins like an executable, and is none.
    #[error("understand the executable {path}")]
    Format {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: object::read::Error,
    },
}

/// A version such as the `2.34` of `GLIBC_2.34`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LibraryVersion(Vec<u32>);

/// Why a text is not a library version.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a version of numbers and dots")]
pub struct LibraryVersionError(String);

impl FromStr for LibraryVersion {
    type Err = LibraryVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<u32>, _> = text.split('.').map(str::parse).collect();
        // `+3` parses as a number, and would not print as it was.
        match numbers {
            Ok(numbers) if !text.contains('+') => Ok(Self(numbers)),
            _ => Err(LibraryVersionError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for LibraryVersion {
    type Error = LibraryVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LibraryVersion> for String {
    fn from(version: LibraryVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for LibraryVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if position == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// The format of an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BinaryFormat {
    /// Linux and most others.
    Elf,
    /// Apple's.
    MachO,
    /// Windows'.
    Pe,
}

/// What an executable or shared library asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryFacts {
    /// Its format.
    pub format: BinaryFormat,
    /// The machine, as the `object` crate names it: `X86_64`, `Aarch64`.
    pub machine: String,
    /// Whether a dynamic linker has to load it.
    pub dynamic: bool,
    /// The dynamic linker that it names.
    pub interpreter: Option<Utf8PathBuf>,
    /// The name by which others ask for it.
    pub soname: Option<String>,
    /// The libraries that it asks for, in its order.
    pub needed: Vec<String>,
    /// `DT_RUNPATH` or `DT_RPATH`, as written (with `$ORIGIN`).
    pub run_paths: Vec<String>,
    /// The newest `GLIBC_x.y` that it asks for.
    pub glibc: Option<LibraryVersion>,
    /// The newest `GLIBCXX_x.y` that it asks for.
    pub libstdcxx: Option<LibraryVersion>,
}

impl BinaryFacts {
    /// Reads the facts of a file. `None` if it is neither an executable nor a shared library.
    pub fn read(path: &Utf8Path) -> Result<Option<Self>, BinaryFactsError> {
        let file = File::open(path).map_err(|source| BinaryFactsError::File { path: path.to_owned(), source })?;
        let cache = ReadCache::new(&file);
        Self::parse(&cache).map_err(|source| BinaryFactsError::Format { path: path.to_owned(), source })
    }

    fn parse<'data, R: ReadRef<'data>>(data: R) -> object::read::Result<Option<Self>> {
        match FileKind::parse(data) {
            Ok(FileKind::Elf32) => elf_facts(&ElfFile::<elf::FileHeader32<Endianness>, R>::parse(data)?),
            Ok(FileKind::Elf64) => elf_facts(&ElfFile::<elf::FileHeader64<Endianness>, R>::parse(data)?),
            Ok(FileKind::MachO32 | FileKind::MachO64) => other_facts(BinaryFormat::MachO, data),
            Ok(FileKind::Pe32 | FileKind::Pe64) => other_facts(BinaryFormat::Pe, data),
            _ => Ok(None),
        }
    }
}

/// The newest version `<prefix>x.y` that a shared library defines, such as `GLIBC_` of `libc.so.6`.
pub(crate) fn newest_defined(path: &Utf8Path, prefix: &str) -> Option<LibraryVersion> {
    let file = File::open(path).ok()?;
    let cache = ReadCache::new(&file);
    match FileKind::parse(&cache) {
        Ok(FileKind::Elf32) => defined(&ElfFile::<elf::FileHeader32<Endianness>, _>::parse(&cache).ok()?, prefix),
        Ok(FileKind::Elf64) => defined(&ElfFile::<elf::FileHeader64<Endianness>, _>::parse(&cache).ok()?, prefix),
        _ => None,
    }
}

fn defined<'data, Elf: FileHeader, R: ReadRef<'data>>(
    file: &ElfFile<'data, Elf, R>,
    prefix: &str,
) -> Option<LibraryVersion> {
    let (endian, data, sections) = (file.endian(), file.data(), file.elf_section_table());
    let (mut definitions, strings) = sections.gnu_verdef(endian, data).ok()??;
    let strings = sections.strings(endian, data, strings).ok()?;
    let mut newest = None;
    while let Some((_, mut names)) = definitions.next().ok()? {
        while let Some(name) = names.next().ok()? {
            newest = newest.max(version_after(prefix, name.name(endian, strings).ok()?));
        }
    }
    newest
}

fn version_after(prefix: &str, name: &[u8]) -> Option<LibraryVersion> {
    std::str::from_utf8(name).ok()?.strip_prefix(prefix)?.parse().ok()
}

fn elf_facts<'data, Elf: FileHeader, R: ReadRef<'data>>(
    file: &ElfFile<'data, Elf, R>,
) -> object::read::Result<Option<BinaryFacts>> {
    let (endian, data, sections) = (file.endian(), file.data(), file.elf_section_table());
    if !matches!(file.elf_header().e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
        return Ok(None);
    }
    let mut facts = BinaryFacts {
        format: BinaryFormat::Elf,
        machine: format!("{:?}", file.architecture()),
        dynamic: false,
        interpreter: None,
        soname: None,
        needed: Vec::new(),
        run_paths: Vec::new(),
        glibc: None,
        libstdcxx: None,
    };
    for segment in file.elf_program_headers() {
        facts.dynamic |= segment.p_type(endian) == elf::PT_DYNAMIC;
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            facts.interpreter = Some(text(interpreter).into());
        }
    }
    let dynamic = file.elf_dynamic_table()?;
    for entry in &dynamic {
        match entry.tag {
            elf::DT_NEEDED => facts.needed.push(text(dynamic.string(entry)?)),
            elf::DT_SONAME => facts.soname = Some(text(dynamic.string(entry)?)),
            elf::DT_RUNPATH | elf::DT_RPATH => {
                facts.run_paths.extend(text(dynamic.string(entry)?).split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    if let Some((mut requirements, strings)) = sections.gnu_verneed(endian, data)? {
        let strings = sections.strings(endian, data, strings)?;
        while let Some((_, mut versions)) = requirements.next()? {
            while let Some(version) = versions.next()? {
                let name = version.name(endian, strings)?;
                facts.glibc = facts.glibc.max(version_after("GLIBC_", name));
                // The marker of packed relocations has no number; they came with glibc 2.36.
                if name == b"GLIBC_ABI_DT_RELR" {
                    facts.glibc = facts.glibc.max(Some(LibraryVersion(vec![2, 36])));
                }
                facts.libstdcxx = facts.libstdcxx.max(version_after("GLIBCXX_", name));
            }
        }
    }
    Ok(Some(facts))
}

fn other_facts<'data, R: ReadRef<'data>>(format: BinaryFormat, data: R) -> object::read::Result<Option<BinaryFacts>> {
    let file = object::File::parse(data)?;
    if !matches!(file.kind(), object::ObjectKind::Executable | object::ObjectKind::Dynamic) {
        return Ok(None);
    }
    let mut needed = BTreeSet::new();
    for library in file.import_libraries()? {
        needed.insert(text(library?.name()));
    }
    Ok(Some(BinaryFacts {
        format,
        machine: format!("{:?}", file.architecture()),
        dynamic: true,
        interpreter: None,
        soname: None,
        needed: needed.into_iter().collect(),
        run_paths: Vec::new(),
        glibc: None,
        libstdcxx: None,
    }))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text: &str| text.parse::<LibraryVersion>().unwrap();
        assert!(version("2.9") < version("2.34"));
        assert!(version("2.2.5") < version("2.3"));
        assert_eq!(version("2.2.5").to_string(), "2.2.5");
        for text in ["", "PRIVATE", "2.", "+2", "2.x"] {
            assert!(text.parse::<LibraryVersion>().is_err(), "{text}");
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn an_executable_tells_what_it_needs() {
        let facts = BinaryFacts::read(Utf8Path::new("/proc/self/exe")).unwrap().unwrap();
        assert_eq!(facts.format, BinaryFormat::Elf);
        assert!(facts.dynamic);
        assert!(facts.interpreter.unwrap().as_str().contains("ld-linux"));
        assert!(facts.needed.contains(&"libc.so.6".to_owned()));
        let libc = Utf8Path::new("/lib").join(format!("{}-linux-gnu/libc.so.6", std::env::consts::ARCH));
        if let Some(host) = newest_defined(&libc, "GLIBC_") {
            assert!(facts.glibc.unwrap() <= host);
            assert!(host >= "2.17".parse().unwrap());
        }
    }

    #[test]
    fn objects_and_texts_have_no_facts() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        std::fs::write(directory.join("lib.rs"), "").unwrap();
        let library = directory.join("libx.rlib");
        let status = Command::new("rustc")
            .args(["--crate-type=rlib", "-o", library.as_str(), directory.join("lib.rs").as_str()])
            .status();
        assert!(status.unwrap().success());
        assert_eq!(BinaryFacts::read(&library).unwrap(), None);
        assert_eq!(BinaryFacts::read(&directory.join("lib.rs")).unwrap(), None);
        std::fs::write(directory.join("cut"), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0").unwrap();
        assert!(BinaryFacts::read(&directory.join("cut")).is_err());
    }

    #[test]
    fn hostile_executables_do_no_harm() {
        let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes.truncate(1 << 16);
        for position in 0..1024 {
            for value in [0, 0xff] {
                let before = std::mem::replace(&mut bytes[position], value);
                let _any_answer = BinaryFacts::parse(bytes.as_slice());
                bytes[position] = before;
            }
        }
    }
}
