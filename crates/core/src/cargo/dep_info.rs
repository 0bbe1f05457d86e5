//! Dep-info: which files and variables a compilation read. Cargo's own binary form (`dep-<stem>`), and the
//! makefiles that rustc writes.
//!
//! Pure: bytes in, bytes out. `artifact` hides and reveals the paths when units are collected and restored;
//! it judges the files' content itself, as modification times prove nothing.
//!
//! # Cargo's form
//!
//! Version 1, the only one that cargo 1.86 and later read (`fingerprint/dep_info.rs`). All numbers little-endian:
//!
//! ```text
//! 01 00 00 00 ff          marker, which older cargos take for an invalid file
//! 01                      version
//! u32                     number of files, each:
//!     u8                  0: relative to the package root, 1: relative to the build directory, or absolute
//!     u32, bytes          the path
//!     u8                  0, or 1 followed by
//!         u64             the file's size
//!         u32, bytes      its checksum: `blake3=<hex>`, `sha256=<hex>`
//! u32                     number of variables, each:
//!     u32, bytes          the name
//!     u8                  0: was not set; 1 followed by
//!         u32, bytes      the value
//! ```
//!
//! The order of the files is that of a hash table, so it differs from build to build. It is kept: nothing
//! depends on it, and the bytes are reproduced. Registry and git packages list no file below their package root.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::artifact::Roots;

const MARKER: [u8; 6] = [1, 0, 0, 0, 0xff, 1];

/// What `dep-<stem>` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CargoDepInfo {
    /// The files that were read.
    pub files: Vec<DepInfoFile>,
    /// The variables that were read, with their values then.
    pub environment: Vec<(String, Option<String>)>,
}

/// A file that a compilation read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepInfoFile {
    /// What the path is relative to.
    pub base: PathBase,
    /// The path; hidden in the relocatable form.
    pub path: Utf8PathBuf,
    /// Size and checksum (`-Z checksum-freshness`).
    pub checksum: Option<(u64, String)>,
}

/// What a path in dep-info is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathBase {
    /// The directory of the package's manifest.
    Package,
    /// The build directory; or nothing, if the path is absolute.
    Build,
}

/// [`CargoDepInfo`] without paths of this machine, and without the values of variables: they can be secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelocatableDepInfo {
    /// The files; absolute paths are hidden.
    pub files: Vec<DepInfoFile>,
    /// The names of the variables.
    pub variables: Vec<String>,
}

/// Why dep-info can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DepInfoError {
    /// Not the binary form that we know, or cut short.
    #[error("read cargo's dep-info: it is damaged, or of an unknown version, at byte {offset}")]
    Binary {
        /// Where reading stopped.
        offset: usize,
    },
    /// Not a makefile as rustc writes it.
    #[error("read rustc's dep-info: line {line} is malformed")]
    Makefile {
        /// The line, from 1.
        line: usize,
    },
    /// A directory that this build does not have.
    #[error("find the place of {path}")]
    Root {
        /// The hidden path.
        path: Utf8PathBuf,
    },
}

impl CargoDepInfo {
    /// Reads cargo's binary form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DepInfoError> {
        let mut reader = Reader { bytes, offset: 0 };
        reader.info().ok_or(DepInfoError::Binary { offset: reader.offset })
    }

    /// Writes cargo's binary form. What was decoded is encoded to the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MARKER.to_vec();
        write_length(&mut bytes, self.files.len());
        for file in &self.files {
            bytes.push(match file.base {
                PathBase::Package => 0,
                PathBase::Build => 1,
            });
            write_text(&mut bytes, file.path.as_str());
            bytes.push(u8::from(file.checksum.is_some()));
            if let Some((size, checksum)) = &file.checksum {
                bytes.extend(size.to_le_bytes());
                write_text(&mut bytes, checksum);
            }
        }
        write_length(&mut bytes, self.environment.len());
        for (name, value) in &self.environment {
            write_text(&mut bytes, name);
            bytes.push(u8::from(value.is_some()));
            if let Some(value) = value {
                write_text(&mut bytes, value);
            }
        }
        bytes
    }

    /// The files as absolute paths, as cargo looks for them.
    pub fn absolute_files<'a>(
        &'a self,
        package_root: &'a Utf8Path,
        build_directory: &'a Utf8Path,
    ) -> impl Iterator<Item = Utf8PathBuf> + 'a {
        self.files.iter().map(|file| file.absolute(package_root, build_directory))
    }

    /// The form that is kept.
    pub fn hide(&self, roots: &Roots) -> RelocatableDepInfo {
        RelocatableDepInfo {
            files: self.files.iter().map(|file| DepInfoFile { path: roots.hide(&file.path), ..file.clone() }).collect(),
            variables: self.environment.iter().map(|(name, _)| name.clone()).collect(),
        }
    }
}

impl DepInfoFile {
    /// The absolute path.
    pub fn absolute(&self, package_root: &Utf8Path, build_directory: &Utf8Path) -> Utf8PathBuf {
        match (self.base, self.path.as_str()) {
            (PathBase::Package, "") => package_root.to_owned(),
            (PathBase::Build, "") => build_directory.to_owned(),
            (PathBase::Package, path) => package_root.join(path),
            (PathBase::Build, path) => build_directory.join(path),
        }
    }
}

impl RelocatableDepInfo {
    /// This machine's dep-info. `environment` gives the values that cargo sees: `[env]` of the configuration
    /// first, cargo's own path for `CARGO`, and `None` for what is not UTF-8. The caller has compared them.
    pub fn reveal(
        &self,
        roots: &Roots,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<CargoDepInfo, DepInfoError> {
        let files = self.files.iter().map(|file| {
            let path = roots.reveal(&file.path).ok_or_else(|| DepInfoError::Root { path: file.path.clone() })?;
            Ok(DepInfoFile { path, ..file.clone() })
        });
        Ok(CargoDepInfo {
            files: files.collect::<Result<_, _>>()?,
            environment: self.variables.iter().map(|name| (name.clone(), environment(name))).collect(),
        })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn info(&mut self) -> Option<CargoDepInfo> {
        if self.take(MARKER.len())? != MARKER {
            return None;
        }
        // The counts are not trusted with memory: the vectors grow as there are bytes to read.
        let mut info = CargoDepInfo::default();
        for _ in 0..self.length()? {
            let base = match self.byte()? {
                0 => PathBase::Package,
                1 => PathBase::Build,
                _ => return None,
            };
            let path = Utf8PathBuf::from(self.text()?);
            let checksum = match self.flag()? {
                true => Some((u64::from_le_bytes(self.take(8)?.try_into().ok()?), self.text()?)),
                false => None,
            };
            info.files.push(DepInfoFile { base, path, checksum });
        }
        for _ in 0..self.length()? {
            let name = self.text()?;
            let value = if self.flag()? { Some(self.text()?) } else { None };
            info.environment.push((name, value));
        }
        (self.offset == self.bytes.len()).then_some(info)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.offset..self.offset.checked_add(count)?)?;
        self.offset += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take(4)?.try_into().ok()?)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.length()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

fn write_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a compilation reads less than four thousand million files");
    bytes.extend(length.to_le_bytes());
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    write_length(bytes, text.len());
    bytes.extend(text.as_bytes());
}

/// What rustc's makefile holds (`--emit=dep-info`, the file `<crate>-<hash>.d`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RustcDepInfo {
    /// The files that were written.
    pub outputs: Vec<Utf8PathBuf>,
    /// The files that were read: absolute, or relative to the directory in which rustc ran.
    pub files: Vec<Utf8PathBuf>,
    /// The variables that were read.
    pub environment: Vec<(String, Option<String>)>,
    /// Checksums of files: path, size, `<algorithm>=<hex>`.
    pub checksums: Vec<(Utf8PathBuf, u64, String)>,
}

impl RustcDepInfo {
    /// Reads the makefile. As cargo does, it takes the files of the first rule; the others repeat them.
    pub fn parse(text: &str) -> Result<Self, DepInfoError> {
        let mut info = Self::default();
        let mut first = true;
        for (line, number) in text.lines().zip(1..) {
            let malformed = DepInfoError::Makefile { line: number };
            if let Some(rest) = line.strip_prefix("# env-dep:") {
                let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
                let name = unescape(name).ok_or(malformed)?;
                let value = match value {
                    Some(value) => Some(unescape(value).ok_or(DepInfoError::Makefile { line: number })?),
                    None => None,
                };
                info.environment.push((name, value));
            } else if let Some(rest) = line.strip_prefix("# checksum:") {
                let mut parts = rest.splitn(3, ' ');
                let checksum = (|| {
                    let checksum = parts.next()?.to_owned();
                    let size = parts.next()?.strip_prefix("file_len:")?.parse().ok()?;
                    Some((parts.next()?.into(), size, checksum))
                })();
                info.checksums.push(checksum.ok_or(malformed)?);
            } else if let Some((output, files)) = split_rule(line) {
                if !files.is_empty() {
                    // Spaces in what is written are not escaped, and there is one of it on a line.
                    info.outputs.push(output.into());
                }
                if std::mem::take(&mut first) {
                    info.files = words(files);
                }
            }
        }
        Ok(info)
    }
}

/// A rule's output and inputs. The colon that ends the output is followed by a space or by nothing; a Windows
/// drive's colon is followed by neither.
fn split_rule(line: &str) -> Option<(&str, &str)> {
    if line.starts_with('#') {
        return None;
    }
    line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")))
}

/// Splits at spaces that no backslash stands before. Nothing else is escaped by rustc.
fn words(text: &str) -> Vec<Utf8PathBuf> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&' ') => {
                characters.next();
                word.push(' ');
            }
            ' ' => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word).into())),
            other => word.push(other),
        }
    }
    words.extend((!word.is_empty()).then(|| word.into()));
    words
}

/// rustc writes a variable on one line: `\n`, `\r` and `\\` are escaped, nothing else.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::RootKind;
    use proptest::prelude::*;

    fn info() -> CargoDepInfo {
        let file = |base, path: &str, checksum| DepInfoFile { base, path: path.into(), checksum };
        CargoDepInfo {
            files: vec![
                file(PathBase::Package, "src/lib.rs", None),
                file(PathBase::Build, "debug/build/a-0/out/g.rs", Some((7, "blake3=00".into()))),
                file(PathBase::Build, "/home/a/w/with space.txt", None),
            ],
            environment: vec![("UNSET".into(), None), ("TOKEN".into(), Some("secret".into()))],
        }
    }

    #[test]
    fn the_binary_form_round_trips() {
        let bytes = info().encode();
        assert_eq!(&bytes[..11], [1, 0, 0, 0, 0xff, 1, 3, 0, 0, 0, 0]);
        assert_eq!(CargoDepInfo::decode(&bytes).unwrap(), info());
        for length in 0..bytes.len() {
            assert!(CargoDepInfo::decode(&bytes[..length]).is_err(), "{length}");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(CargoDepInfo::decode(&longer).is_err());
        let mut newer = bytes.clone();
        newer[5] = 2;
        assert_eq!(CargoDepInfo::decode(&newer), Err(DepInfoError::Binary { offset: 6 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let bytes: Vec<u8> = MARKER.into_iter().chain(bytes).collect();
            if let Ok(info) = CargoDepInfo::decode(&bytes) {
                prop_assert_eq!(info.encode(), bytes);
            }
        }
    }

    #[test]
    fn paths_are_hidden_and_values_dropped() {
        let here = Roots::new([(RootKind::Workspace, "/home/a/w".into())]);
        let there = Roots::new([(RootKind::Workspace, "/srv/w".into())]);
        let stored = info().hide(&here);
        let text = serde_json::to_string(&stored).unwrap();
        assert!(!text.contains("/home/a") && !text.contains("secret"), "{text}");
        let revealed = stored.reveal(&there, |name| Some(name.to_lowercase())).unwrap();
        assert_eq!(revealed.files[2].path, "/srv/w/with space.txt");
        assert_eq!(revealed.environment[1], ("TOKEN".into(), Some("token".into())));
        assert!(stored.reveal(&Roots::new([]), |_| None).is_err());
        let absolute: Vec<_> = info().absolute_files("/p".into(), "/b".into()).collect();
        assert_eq!(absolute, ["/p/src/lib.rs", "/b/debug/build/a-0/out/g.rs", "/home/a/w/with space.txt"]);
    }

    #[test]
    fn makefiles_of_rustc_are_read() {
        let text = "/t/debug/deps/plain-0.d: plain/src/lib.rs plain/src/../with\\ space.txt\n\n\
                    /t/debug/deps/libplain-0.rmeta: plain/src/lib.rs plain/src/../with\\ space.txt\n\n\
                    plain/src/lib.rs:\nplain/src/../with\\ space.txt:\n\n\
                    # env-dep:OPT_X\n# env-dep:MULTI=a\\nb\\\\c=d\n\
                    # checksum:blake3=00ff file_len:12 plain/src/with space.txt\n";
        let info = RustcDepInfo::parse(text).unwrap();
        assert_eq!(info.files, ["plain/src/lib.rs", "plain/src/../with space.txt"]);
        assert_eq!(info.outputs[..2], ["/t/debug/deps/plain-0.d", "/t/debug/deps/libplain-0.rmeta"]);
        assert_eq!(info.environment, [("OPT_X".into(), None), ("MULTI".into(), Some("a\nb\\c=d".into()))]);
        assert_eq!(info.checksums, [("plain/src/with space.txt".into(), 12, "blake3=00ff".into())]);
        assert_eq!(RustcDepInfo::parse("a: b\n# env-dep:X=\\q\n"), Err(DepInfoError::Makefile { line: 2 }));
        let windows = RustcDepInfo::parse("C:\\t\\a.d: C:\\w\\src\\lib.rs\n").unwrap();
        assert_eq!(windows.files, ["C:\\w\\src\\lib.rs"]);
    }
}
