//! Looks into a library before anybody gets it: is it a NIF, for this target, and for this NIF version?
//!
//! ELF, Mach-O and PE are read. What is refused would fail on the machine that loads it, and nowhere before: a library
//! without `nif_init` (rustler leaves it out where the crate was first built as a dependency of another), one for
//! another processor, one that needs functions which the virtual machine doesn't have, or another libc.
//!
//! How a library asks for the functions of Erlang differs. C and rustler 0.39 leave undefined symbols. Other releases
//! of rustler (such as 0.38) look the functions up by name when the library is loaded, so the names are texts in its
//! read-only data. On Windows the virtual machine hands over a table and there are no names: there the NIF version
//! can't be checked.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use object::{Architecture, BinaryFormat, NameOrOrdinal, Object as _, ObjectKind, ObjectSection as _, SectionKind};
use serde::{Deserialize, Serialize};

use super::name::{NifTarget, NifVersion};
use super::symbols::{PREFIX, first_version, longest_prefix};
use crate::artifact::binary_facts::{BinaryFacts, BinaryFactsError, LibraryVersion};

/// Why a library is no NIF that could be published.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file could not be read.
    #[error("read {path}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It can't be read as a library.
    #[error("understand {path}")]
    Format {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: object::read::Error,
    },
    /// What it needs can't be read.
    #[error("find out what {path} needs")]
    Facts {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: BinaryFactsError,
    },
    /// It is no shared library.
    #[error("use {path} as a NIF: it is no shared library")]
    NotShared {
        /// The file.
        path: Utf8PathBuf,
    },
    /// The processor of the target isn't known here.
    #[error("use {path} as a NIF for {target}: this processor is not known")]
    UnknownTarget {
        /// The file.
        path: Utf8PathBuf,
        /// The target.
        target: NifTarget,
    },
    /// It is for another processor or system.
    #[error("use {path} as a NIF for {target}: it is {found}, and not {expected}")]
    OtherTarget {
        /// The file.
        path: Utf8PathBuf,
        /// The target.
        target: NifTarget,
        /// What it is for.
        found: String,
        /// What it should be for.
        expected: String,
    },
    /// Erlang would not find its beginning.
    #[error(
        "use {path} as a NIF: it has no `nif_init`. rustler leaves it out of a crate that was built as another's \
         dependency, unless RUSTLER_PRIMARY_NIF_INIT is set"
    )]
    NoNifInit {
        /// The file.
        path: Utf8PathBuf,
    },
    /// It needs a function that the virtual machine may not have.
    #[error("use {path} for NIF version {wanted}: it needs `{symbol}`, which came with {needed} (OTP {})", .needed.otp())]
    TooNew {
        /// The file.
        path: Utf8PathBuf,
        /// The function.
        symbol: String,
        /// The version that has it.
        needed: NifVersion,
        /// The version that was asked for.
        wanted: NifVersion,
    },
    /// It needs a function of Erlang's that no known version has.
    #[error("use {path} as a NIF: it needs `{symbol}`, which no NIF version up to {} has", NifVersion::ALL[4])]
    UnknownSymbol {
        /// The file.
        path: Utf8PathBuf,
        /// The function.
        symbol: String,
    },
    /// It is linked to another libc than its target has.
    #[error("use {path} for {target}: it needs {needed}, which machines of that target don't have")]
    OtherLibc {
        /// The file.
        path: Utf8PathBuf,
        /// The target.
        target: NifTarget,
        /// What it needs.
        needed: String,
    },
    /// It needs a newer glibc than it may.
    #[error("use {path}: it needs {library} {needed}, and {limit} is the newest that was allowed")]
    NewLibrary {
        /// The file.
        path: Utf8PathBuf,
        /// `glibc` or `libstdc++`.
        library: &'static str,
        /// What it needs.
        needed: LibraryVersion,
        /// The newest that was allowed.
        limit: LibraryVersion,
    },
}

/// What a library may need at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The newest glibc, such as 2.31.
    pub glibc: Option<LibraryVersion>,
}

/// What a library is and needs: what people ask when it doesn't load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    /// The oldest NIF version whose functions suffice. On Windows nobody can tell.
    pub nif_version: Option<NifVersion>,
    /// The newest `GLIBC_x.y` that it asks for.
    pub glibc: Option<LibraryVersion>,
    /// The newest `GLIBCXX_x.y` that it asks for.
    pub libstdcxx: Option<LibraryVersion>,
    /// The libraries that it asks for.
    pub needed: Vec<String>,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.nif_version.map(|version| format!("NIF {version} (OTP {})", version.otp())));
        parts.extend(self.glibc.as_ref().map(|version| format!("GLIBC {version}")));
        parts.extend(self.libstdcxx.as_ref().map(|version| format!("GLIBCXX {version}")));
        parts.extend(self.needed.iter().cloned());
        f.write_str(&if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
    }
}

/// Looks into the library at `path`.
///
/// # Errors
///
/// When it could not be loaded where it is to be used.
pub fn inspect(
    path: &Utf8Path,
    target: &NifTarget,
    wanted: NifVersion,
    limits: &Limits,
) -> Result<Inspection, InspectError> {
    let bytes = std::fs::read(path).map_err(|source| InspectError::File { path: path.to_owned(), source })?;
    let format = |source| InspectError::Format { path: path.to_owned(), source };
    let file = object::File::parse(bytes.as_slice()).map_err(format)?;
    check_target(path, &file, target)?;
    if file.kind() != ObjectKind::Dynamic {
        return Err(InspectError::NotShared { path: path.to_owned() });
    }
    // Mach-O puts an underscore before every name. What has a number in place of a name is no function of Erlang's.
    let plain = |name: NameOrOrdinal<&[u8]>| {
        let NameOrOrdinal::Name(name) = name else { return String::new() };
        let name = if file.format() == BinaryFormat::MachO { name.strip_prefix(b"_").unwrap_or(name) } else { name };
        String::from_utf8_lossy(name).into_owned()
    };
    let mut has_init = false;
    for export in file.exports().map_err(format)? {
        has_init |= plain(export.map_err(format)?.name()) == "nif_init";
    }
    if !has_init {
        return Err(InspectError::NoNifInit { path: path.to_owned() });
    }
    let mut needed = (file.format() != BinaryFormat::Pe).then_some(NifVersion::ALL[0]);
    let mut take = |symbol: &str, version: NifVersion| {
        if version > wanted {
            let symbol = symbol.to_owned();
            return Err(InspectError::TooNew { path: path.to_owned(), symbol, needed: version, wanted });
        }
        needed = needed.max(Some(version));
        Ok(())
    };
    for import in file.imports().map_err(format)? {
        let symbol = plain(import.map_err(format)?.name());
        if symbol.starts_with(PREFIX) {
            let version = first_version(&symbol);
            let version =
                version.ok_or_else(|| InspectError::UnknownSymbol { path: path.to_owned(), symbol: symbol.clone() })?;
            take(&symbol, version)?;
        }
    }
    for section in file.sections().filter(|section| is_constant(section.kind())) {
        let data = section.data().map_err(format)?;
        for at in memchr::memmem::find_iter(data, PREFIX.as_bytes()) {
            if let Some((version, name)) = longest_prefix(&data[at + PREFIX.len()..]) {
                take(&format!("{PREFIX}{name}"), version)?;
            }
        }
    }
    let facts = BinaryFacts::read(path).map_err(|source| InspectError::Facts { path: path.to_owned(), source })?;
    let facts = facts.ok_or_else(|| InspectError::NotShared { path: path.to_owned() })?;
    check_libc(path, &facts, target)?;
    if let (Some(needed), Some(limit)) = (&facts.glibc, &limits.glibc)
        && needed > limit
    {
        let (needed, limit) = (needed.clone(), limit.clone());
        return Err(InspectError::NewLibrary { path: path.to_owned(), library: "glibc", needed, limit });
    }
    Ok(Inspection { nif_version: needed, glibc: facts.glibc, libstdcxx: facts.libstdcxx, needed: facts.needed })
}

/// Whether texts of the program are in such a section.
fn is_constant(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::ReadOnlyData | SectionKind::ReadOnlyDataWithRel | SectionKind::ReadOnlyString)
}

fn check_target(path: &Utf8Path, file: &object::File<'_>, target: &NifTarget) -> Result<(), InspectError> {
    let (expected, big_endian) = processor(target)
        .ok_or_else(|| InspectError::UnknownTarget { path: path.to_owned(), target: target.clone() })?;
    let system = match target.as_str() {
        triple if triple.contains("windows") => BinaryFormat::Pe,
        triple if triple.contains("-apple-") => BinaryFormat::MachO,
        _ => BinaryFormat::Elf,
    };
    let show = |format: BinaryFormat, architecture: Architecture, little: bool| {
        format!("{format:?} for {architecture:?}{}", if little { "" } else { ", big-endian" })
    };
    let found = (file.format(), file.architecture(), file.is_little_endian());
    if found == (system, expected, !big_endian) {
        return Ok(());
    }
    Err(InspectError::OtherTarget {
        path: path.to_owned(),
        target: target.clone(),
        found: show(found.0, found.1, found.2),
        expected: show(system, expected, !big_endian),
    })
}

/// The processor that a triple begins with, and whether it puts high bytes first.
fn processor(target: &NifTarget) -> Option<(Architecture, bool)> {
    let triple = target.as_str();
    let first = triple.split('-').next()?;
    Some(match first {
        "x86_64" | "x86_64h" | "x86_64v3" if triple.ends_with("gnux32") => (Architecture::X86_64_X32, false),
        "x86_64" | "x86_64h" => (Architecture::X86_64, false),
        "i386" | "i486" | "i586" | "i686" => (Architecture::I386, false),
        "aarch64" | "arm64" | "arm64e" => (Architecture::Aarch64, false),
        "aarch64_be" => (Architecture::Aarch64, true),
        "loongarch64" => (Architecture::LoongArch64, false),
        "mips" => (Architecture::Mips, true),
        "mipsel" => (Architecture::Mips, false),
        "mips64" => (Architecture::Mips64, true),
        "mips64el" => (Architecture::Mips64, false),
        "powerpc" => (Architecture::PowerPc, true),
        "powerpc64" => (Architecture::PowerPc64, true),
        "powerpc64le" => (Architecture::PowerPc64, false),
        "s390x" => (Architecture::S390x, true),
        "sparc64" | "sparcv9" => (Architecture::Sparc64, true),
        _ if first.starts_with("riscv64") => (Architecture::Riscv64, false),
        _ if first.starts_with("riscv32") => (Architecture::Riscv32, false),
        _ if first.starts_with("arm") || first.starts_with("thumb") => (Architecture::Arm, first.contains("eb")),
        _ => return None,
    })
}

/// glibc and musl don't live in one process.
fn check_libc(path: &Utf8Path, facts: &BinaryFacts, target: &NifTarget) -> Result<(), InspectError> {
    let is_glibc = |name: &String| name.starts_with("libc.so.6") || name.starts_with("ld-linux");
    let is_musl = |name: &String| name.starts_with("libc.musl") || name.starts_with("ld-musl") || name == "libc.so";
    let foreign: Option<String> = match target.as_str() {
        triple if triple.contains("-linux-musl") => {
            let version = facts.glibc.as_ref().map(|version| format!("GLIBC {version}"));
            facts.needed.iter().find(|name| is_glibc(name)).cloned().or(version)
        }
        triple if triple.contains("-linux-gnu") => facts.needed.iter().find(|name| is_musl(name)).cloned(),
        _ => None,
    };
    match foreign {
        Some(needed) => Err(InspectError::OtherLibc { path: path.to_owned(), target: target.clone(), needed }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::nif::{LIBRARY_LIMIT, NifName, read_archive};

    /// A place for libraries that the C compiler makes.
    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }

        fn library(&self, source: &str, options: &[&str]) -> Utf8PathBuf {
            let root = Utf8Path::from_path(self.directory.path()).unwrap();
            let (file, library) = (root.join("nif.c"), root.join("nif.so"));
            std::fs::write(&file, source).unwrap();
            let mut command = Command::new("cc");
            command.args(["-shared", "-fPIC", "-o", library.as_str(), file.as_str()]).args(options);
            assert!(command.status().unwrap().success());
            library
        }
    }

    fn host() -> NifTarget {
        format!("{}-unknown-linux-gnu", std::env::consts::ARCH).parse().unwrap()
    }

    fn version(text: &str) -> NifVersion {
        text.parse().unwrap()
    }

    const OLD: &str = "#include <stdlib.h>\nextern void *enif_alloc(unsigned long);\n\
        void *nif_init(void) { return enif_alloc(abs(rand())); }";

    #[test]
    fn a_nif_is_described() {
        let place = Place::new();
        let source = "extern int enif_select_x(void); int nif_init(void) { return enif_select_x(); }";
        let library = place.library(source, &[]);
        let inspection = inspect(&library, &host(), version("2.15"), &Limits::default()).unwrap();
        assert_eq!(inspection.nif_version, Some(version("2.15")));
        assert!(inspection.needed.is_empty(), "{inspection}");
        let library = place.library(OLD, &[]);
        let inspection = inspect(&library, &host(), version("2.17"), &Limits::default()).unwrap();
        assert_eq!(inspection.nif_version, Some(version("2.14")));
        assert_eq!(inspection.needed, ["libc.so.6"]);
    }

    #[test]
    fn a_library_without_nif_init_is_refused() {
        let place = Place::new();
        for source in [
            "int other(void) { return 1; }",
            "static int nif_init(void) { return 1; } int f(void) { return nif_init(); }",
        ] {
            let error = inspect(&place.library(source, &[]), &host(), version("2.15"), &Limits::default()).unwrap_err();
            assert!(matches!(error, InspectError::NoNifInit { .. }), "{error}");
        }
    }

    #[test]
    fn functions_that_came_later_are_refused_however_they_are_asked_for() {
        let place = Place::new();
        let undefined =
            "extern int enif_make_new_atom_len(void); int nif_init(void) { return enif_make_new_atom_len(); }";
        let by_name = "const char *nif_init(void) { return \"enif_allocenif_make_new_atom_lenenif_free\"; }";
        for source in [undefined, by_name] {
            let library = place.library(source, &[]);
            let error = inspect(&library, &host(), version("2.16"), &Limits::default()).unwrap_err();
            assert!(error.to_string().contains("`enif_make_new_atom_len`, which came with 2.17 (OTP 26)"), "{error}");
            let inspection = inspect(&library, &host(), version("2.17"), &Limits::default()).unwrap();
            assert_eq!(inspection.nif_version, Some(version("2.17")));
        }
        let unknown = "extern int enif_tomorrow(void); int nif_init(void) { return enif_tomorrow(); }";
        let error = inspect(&place.library(unknown, &[]), &host(), version("2.18"), &Limits::default()).unwrap_err();
        assert!(matches!(error, InspectError::UnknownSymbol { .. }), "{error}");
    }

    #[test]
    fn a_library_for_something_else_is_refused() {
        let place = Place::new();
        let library = place.library(OLD, &[]);
        let other = if std::env::consts::ARCH == "aarch64" { "x86_64" } else { "aarch64" };
        for target in [&format!("{other}-unknown-linux-gnu"), "x86_64-pc-windows-msvc", "aarch64-apple-darwin"] {
            let error = inspect(&library, &target.parse().unwrap(), version("2.15"), &Limits::default()).unwrap_err();
            assert!(matches!(error, InspectError::OtherTarget { .. }), "{target}: {error}");
        }
        let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let error = inspect(&library, &musl.parse().unwrap(), version("2.15"), &Limits::default()).unwrap_err();
        assert!(matches!(error, InspectError::OtherLibc { .. }), "{error}");
        let error = inspect(&library, &"z80-unknown-none".parse().unwrap(), version("2.15"), &Limits::default());
        assert!(matches!(error, Err(InspectError::UnknownTarget { .. })));
    }

    #[test]
    fn a_newer_glibc_than_allowed_is_refused() {
        let place = Place::new();
        let source = "#include <stdlib.h>\nvoid *nif_init(void) { return malloc(1); }";
        let library = place.library(source, &[]);
        let found = inspect(&library, &host(), version("2.15"), &Limits::default()).unwrap().glibc.unwrap();
        let limits = |text: &str| Limits { glibc: Some(text.parse().unwrap()) };
        inspect(&library, &host(), version("2.15"), &limits(&found.to_string())).unwrap();
        let error = inspect(&library, &host(), version("2.15"), &limits("2.1")).unwrap_err();
        assert!(matches!(error, InspectError::NewLibrary { .. }), "{error}");
    }

    /// Mach-O and PE can't be made here. This looks into every archive of a directory, as projects publish them.
    #[test]
    #[ignore = "needs a directory of archives: NIXCACHE_TEST_NIF_DIRECTORY"]
    fn published_archives_are_what_their_names_say() {
        let directory = std::env::var("NIXCACHE_TEST_NIF_DIRECTORY").unwrap();
        let place = Place::new();
        let file = Utf8Path::from_path(place.directory.path()).unwrap().join("library");
        let mut seen = 0;
        for entry in Utf8Path::new(&directory).read_dir_utf8().unwrap() {
            let entry = entry.unwrap();
            let Ok(name) = NifName::parse_archive_file(entry.file_name()) else { continue };
            let library = read_archive(&name, &std::fs::read(entry.path()).unwrap(), LIBRARY_LIMIT).unwrap();
            std::fs::write(&file, library).unwrap();
            let (target, version) = (&name.platform.target, name.platform.nif_version);
            inspect(&file, target, version, &Limits::default()).unwrap();
            for other in ["aarch64-apple-darwin", "x86_64-pc-windows-msvc", "riscv64gc-unknown-linux-gnu"] {
                let other: NifTarget = other.parse().unwrap();
                let same = other == *target || other.is_windows() && target.is_windows();
                let inspected = inspect(&file, &other, version, &Limits::default());
                assert!(same || matches!(inspected, Err(InspectError::OtherTarget { .. })), "{name} as {other}");
            }
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn programs_and_texts_are_no_nifs() {
        let place = Place::new();
        let path = Utf8Path::from_path(place.directory.path()).unwrap().join("text.so");
        std::fs::write(&path, "no library").unwrap();
        let inspected = inspect(&path, &host(), version("2.15"), &Limits::default());
        assert!(matches!(inspected, Err(InspectError::Format { .. })));
        let program = Utf8Path::new("/proc/self/exe");
        assert!(inspect(program, &host(), version("2.15"), &Limits::default()).is_err());
    }
}
