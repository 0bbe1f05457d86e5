//! What a NIF is called: the parts of its name, and the names of its files.
//!
//! A name comes from command lines, lock files and URLs and goes into paths, URLs and Elixir code, so every part is
//! checked at the door and holds nothing but letters, digits and `-._+`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Key, KeyHasher};
use crate::nix::{StorePath, StorePathName};

/// The longest part of a name, in bytes: four of them and the rest still fit into the name of a store path.
const LONGEST: usize = 46;

/// Why a text is no part of a NIF's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NifNameError {
    /// A crate, version, target, variant or namespace with other characters, or a long one.
    #[error("use {text:?} as the {part} of a NIF: it must be {allowed}, and at most {LONGEST} bytes long")]
    Part {
        /// The text.
        text: String,
        /// Which part it was to be.
        part: &'static str,
        /// What it may hold.
        allowed: &'static str,
    },
    /// A NIF version that is none, or one that is not known.
    #[error("use {text:?} as a NIF version: known are {}", NifVersion::ALL.map(|version| version.to_string()).join(", "))]
    NifVersion {
        /// The text.
        text: String,
    },
    /// A version that is not one of semantic versioning.
    #[error("use {text:?} as the version of a NIF: it must be one that Elixir takes, such as 1.2.3 or 1.2.3-rc.1")]
    Version {
        /// The text.
        text: String,
    },
    /// A file name of another form.
    #[error(
        "read the file name {text:?}: it is not [lib]<crate>-v<version>-nif-<nif version>-<target>.<so|dll>.tar.gz"
    )]
    File {
        /// The text.
        text: String,
    },
}

/// As much of a text from outside as an error message can bear.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

macro_rules! part_type {
    ($(#[$doc:meta])* $name:ident, $part:literal, $allowed:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NifNameError;

            fn from_str(text: &str) -> Result<Self, NifNameError> {
                let check: fn(&str) -> bool = $check;
                if text.is_empty() || text.len() > LONGEST || !check(text) {
                    return Err(NifNameError::Part { text: shortened(text), part: $part, allowed: $allowed });
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NifNameError;

            fn try_from(text: String) -> Result<Self, NifNameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(part: $name) -> Self {
                part.0
            }
        }
    };
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Begins and ends with a letter or digit, so that it is never `..`, and never runs together with what is beside it.
fn is_dashed(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let bytes = text.as_bytes();
    edge(bytes.first().copied()) && edge(bytes.last().copied()) && text.bytes().all(inner) && !text.contains("--")
}

part_type! {
    /// The name of a NIF's library: that of its crate as rustc has it, with `_` for `-`.
    NifCrate, "crate", "made of letters, digits and `_`", is_word
}
part_type! {
    /// A target triple, such as `x86_64-unknown-linux-gnu`.
    NifTarget, "target", "a target triple", |text| is_dashed(text) && text.contains('-')
}
part_type! {
    /// A variant: another build for the same target, such as one for newer processors.
    NifVariant, "variant", "made of letters, digits and `_`", is_word
}
part_type! {
    /// Whose NIFs these are, where several teams share a cache.
    NifNamespace, "namespace", "made of letters, digits, `_`, `-` and `.`", is_dashed
}

impl Default for NifNamespace {
    /// `main`
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl NifCrate {
    /// The crate of a package or library target: dashes become underscores, as rustc does it.
    pub fn of(name: &str) -> Result<Self, NifNameError> {
        name.replace('-', "_").parse()
    }
}

impl NifTarget {
    /// Whether libraries of this target are DLLs.
    pub fn is_windows(&self) -> bool {
        self.0.contains("windows")
    }
}

/// The version of a NIF: that of its package. Elixir reads it as a version too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NifRelease(semver::Version);

impl NifRelease {
    /// This version with the content of the sources in it, for crates whose version does not change with every
    /// change: `0.1.0` becomes `0.1.0-s1a2b3c4d5e6f`. The letter keeps it a valid pre-release, whatever the digits.
    pub fn of_source(&self, source: &[u8; 32]) -> Self {
        let mut version = self.0.clone();
        let digits: String = source[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let pre = if version.pre.is_empty() { format!("s{digits}") } else { format!("{}.s{digits}", version.pre) };
        version.pre = semver::Prerelease::new(&pre).expect("letters, digits and dots make a pre-release");
        Self(version)
    }

    /// Whether the content of the sources is in it.
    pub fn has_source(&self) -> bool {
        self.0.pre.rsplit('.').next().is_some_and(is_source)
    }

    /// Whether `manifest` can be the version that a package has whose NIF has this one: the same, or the same with
    /// the content of the sources in it.
    pub fn is_of(&self, manifest: &Self) -> bool {
        let (own, base) = (&self.0, &manifest.0);
        let bare = (own.major, own.minor, own.patch) == (base.major, base.minor, base.patch);
        let pre = match own.pre.strip_prefix(base.pre.as_str()) {
            Some("") => true,
            Some(rest) => is_source(rest.strip_prefix('.').unwrap_or(rest)),
            None => false,
        };
        bare && pre && own.build == base.build
    }
}

/// `s` and twelve hexadecimal digits.
fn is_source(pre: &str) -> bool {
    pre.strip_prefix('s').is_some_and(|rest| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl fmt::Display for NifRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NifRelease {
    type Err = NifNameError;

    fn from_str(text: &str) -> Result<Self, NifNameError> {
        let bad = || NifNameError::Version { text: shortened(text) };
        let version: semver::Version = text.parse().map_err(|_| bad())?;
        // `--` sets a variant apart in file names.
        if text.len() > LONGEST || text.contains("--") { Err(bad()) } else { Ok(Self(version)) }
    }
}

impl TryFrom<String> for NifRelease {
    type Error = NifNameError;

    fn try_from(text: String) -> Result<Self, NifNameError> {
        text.parse()
    }
}

impl From<NifRelease> for String {
    fn from(release: NifRelease) -> Self {
        release.to_string()
    }
}

impl PartialOrd for NifRelease {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NifRelease {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// A version of Erlang's interface for NIFs. A library for one is loaded by every later one of the same major number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NifVersion(u8);

impl NifVersion {
    /// Those that are known: of OTP 21, 22, 24, 26 and 29.
    pub const ALL: [Self; 5] = [Self(14), Self(15), Self(16), Self(17), Self(18)];

    /// The minor number; the major one is 2.
    pub fn minor(self) -> u8 {
        self.0
    }

    /// The features by which crates choose it: `nif_version_2_15`.
    pub fn feature(self) -> String {
        format!("nif_version_2_{}", self.0)
    }

    /// The first release of OTP that has it.
    pub fn otp(self) -> u8 {
        match self.0 {
            0..=14 => 21,
            15 => 22,
            16 => 24,
            17 => 26,
            _ => 29,
        }
    }
}

impl Default for NifVersion {
    /// 2.15, as RustlerPrecompiled has it: OTP 22 and all later ones load it.
    fn default() -> Self {
        Self(15)
    }
}

impl fmt::Display for NifVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2.{}", self.0)
    }
}

impl FromStr for NifVersion {
    type Err = NifNameError;

    fn from_str(text: &str) -> Result<Self, NifNameError> {
        let known = Self::ALL.into_iter().find(|version| version.to_string() == text);
        known.ok_or_else(|| NifNameError::NifVersion { text: shortened(text) })
    }
}

impl TryFrom<String> for NifVersion {
    type Error = NifNameError;

    fn try_from(text: String) -> Result<Self, NifNameError> {
        text.parse()
    }
}

impl From<NifVersion> for String {
    fn from(version: NifVersion) -> Self {
        version.to_string()
    }
}

/// For what a NIF was built: what tells the files of one release apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NifPlatform {
    /// The NIF version.
    pub nif_version: NifVersion,
    /// The target triple.
    pub target: NifTarget,
    /// The variant, if there are several for this target.
    pub variant: Option<NifVariant>,
}

impl fmt::Display for NifPlatform {
    /// `nif-2.15-x86_64-unknown-linux-gnu`, with `--<variant>` after it if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nif-{}-{}", self.nif_version, self.target)?;
        self.variant.iter().try_for_each(|variant| write!(f, "--{variant}"))
    }
}

/// The whole name of a NIF. What is published under one never changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NifName {
    /// The crate.
    pub crate_name: NifCrate,
    /// The version.
    pub release: NifRelease,
    /// For what it was built.
    pub platform: NifPlatform,
}

impl fmt::Display for NifName {
    /// `demo_nif 0.1.0 nif-2.15-x86_64-unknown-linux-gnu`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.crate_name, self.release, self.platform)
    }
}

impl NifName {
    /// The name of the library as RustlerPrecompiled unpacks it:
    /// `libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so`. On macOS it ends with `.so` too.
    pub fn library_file(&self) -> String {
        let (prefix, ending) = if self.platform.target.is_windows() { ("", "dll") } else { ("lib", "so") };
        format!("{prefix}{}-v{}-{}.{ending}", self.crate_name, self.release, self.platform)
    }

    /// The name of the archive as RustlerPrecompiled downloads it.
    pub fn archive_file(&self) -> String {
        format!("{}.tar.gz", self.library_file())
    }

    /// Reads the name of an archive.
    pub fn parse_archive_file(text: &str) -> Result<Self, NifNameError> {
        let bad = || NifNameError::File { text: shortened(text) };
        let stem = text.strip_suffix(".tar.gz").ok_or_else(bad)?;
        let (stem, windows) = match stem.strip_suffix(".so") {
            Some(stem) => (stem.strip_prefix("lib").ok_or_else(bad)?, false),
            None => (stem.strip_suffix(".dll").ok_or_else(bad)?, true),
        };
        let (crate_name, rest) = stem.split_once("-v").ok_or_else(bad)?;
        // A version can hold `-nif-` (a pre-release of that name), a target cannot.
        let (release, rest) = rest.rsplit_once("-nif-").ok_or_else(bad)?;
        let (nif_version, rest) = rest.split_once('-').ok_or_else(bad)?;
        let (target, variant) = match rest.split_once("--") {
            Some((target, variant)) => (target, Some(variant.parse()?)),
            None => (rest, None),
        };
        let platform = NifPlatform { nif_version: nif_version.parse()?, target: target.parse()?, variant };
        let name = Self { crate_name: crate_name.parse()?, release: release.parse()?, platform };
        if name.platform.target.is_windows() == windows && name.archive_file() == text { Ok(name) } else { Err(bad()) }
    }

    /// The library's names below `priv/native`: what rustler looks for from 0.37 on, and what it looked for before.
    pub fn native_files(&self) -> NativeFiles {
        let ending = if self.platform.target.is_windows() { "dll" } else { "so" };
        let plain = format!("{}.{ending}", self.crate_name);
        let legacy = if self.platform.target.is_windows() { plain.clone() } else { format!("lib{plain}") };
        NativeFiles { plain, legacy }
    }

    /// The store path of the record that says what was published under this name: it follows from the name alone.
    pub fn record_path(&self, namespace: &NifNamespace) -> StorePath {
        StorePath::by_key(self.key(namespace).as_bytes(), self.store_name("nif-record"))
    }

    /// A name for a store path of this NIF.
    pub(super) fn store_name(&self, kind: &str) -> StorePathName {
        let name = format!("{kind}-{}-{}-{}", self.crate_name, self.release, self.platform);
        name.parse().expect("the parts are short, and hold only what store paths may hold")
    }

    fn key(&self, namespace: &NifNamespace) -> Key {
        let NifPlatform { nif_version, target, variant } = &self.platform;
        let mut hasher = KeyHasher::new("nif-name/1");
        hasher.field("namespace", namespace.as_str()).field("crate", self.crate_name.as_str());
        hasher.field("version", self.release.to_string()).field("nif version", nif_version.to_string());
        hasher.field("target", target.as_str()).optional("variant", variant.as_ref().map(NifVariant::as_str));
        hasher.key()
    }
}

/// Names below `priv/native`. On Windows they are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeFiles {
    /// `demo_nif.so`
    pub plain: String,
    /// `libdemo_nif.so`
    pub legacy: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> NifName {
        NifName::parse_archive_file(text).unwrap()
    }

    #[test]
    fn files_are_named_as_rustler_precompiled_names_them() {
        for file in [
            "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libdemo_nif-v0.1.0-nif-2.16-aarch64-apple-darwin.so.tar.gz",
            "demo_nif-v1.2.3-rc.1-nif-2.15-x86_64-pc-windows-msvc.dll.tar.gz",
            "libdemo_nif-v0.1.0-s1a2b3c4d5e6f-nif-2.15-x86_64-unknown-linux-musl--avx2.so.tar.gz",
            "liblibv-v0.1.0-nif-2.14-arm-unknown-linux-gnueabihf.so.tar.gz",
        ] {
            assert_eq!(name(file).archive_file(), file);
        }
        let windows = name("demo_nif-v1.2.3-rc.1-nif-2.15-x86_64-pc-windows-msvc.dll.tar.gz");
        assert_eq!(windows.native_files().legacy, "demo_nif.dll");
        let linux = name("libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz");
        assert_eq!(
            (linux.native_files().plain, linux.native_files().legacy),
            ("demo_nif.so".into(), "libdemo_nif.so".into())
        );
        assert_eq!(linux.to_string(), "demo_nif 0.1.0 nif-2.15-x86_64-unknown-linux-gnu");
    }

    #[test]
    fn other_names_are_refused() {
        for file in [
            "",
            "..",
            "libx.so.tar.gz",
            "x-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libx-v0.1.0-nif-2.15-x86_64-pc-windows-msvc.so.tar.gz",
            "libx-v0.1.0-nif-2.15-../../../etc.so.tar.gz",
            "libx-v0.1-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libx-v0.1.0-nif-2.99-x86_64-unknown-linux-gnu.so.tar.gz",
            "libx-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz\"}",
            "lib#{}-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libx-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu--.so.tar.gz",
            "libx-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu--a-b.so.tar.gz",
        ] {
            assert!(NifName::parse_archive_file(file).is_err(), "{file}");
        }
    }

    #[test]
    fn a_version_can_hold_its_source() {
        let release = |text: &str| text.parse::<NifRelease>().unwrap();
        let sourced = release("0.1.0").of_source(&[0x1a; 32]);
        assert_eq!(sourced.to_string(), "0.1.0-s1a1a1a1a1a1a");
        assert_eq!(release("0.1.0-rc.1").of_source(&[0; 32]).to_string(), "0.1.0-rc.1.s000000000000");
        assert!(sourced.is_of(&release("0.1.0")) && release("0.1.0").is_of(&release("0.1.0")));
        assert!(sourced.has_source() && !release("0.1.0").has_source() && !release("0.1.0-stable").has_source());
        assert!(release("0.1.0-rc.1.s000000000000").is_of(&release("0.1.0-rc.1")));
        for other in ["0.1.1", "0.2.0", "0.1.0-rc.1", "0.1.0+b"] {
            assert!(!sourced.is_of(&release(other)), "{other}");
        }
        assert!(!release("0.1.0-rc.1").is_of(&release("0.1.0")));
    }

    #[test]
    fn records_differ_by_every_part() {
        let base = name("libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz");
        let mut paths = std::collections::BTreeSet::new();
        for file in [
            "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libdemo_nig-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libdemo_nif-v0.1.1-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz",
            "libdemo_nif-v0.1.0-nif-2.16-x86_64-unknown-linux-gnu.so.tar.gz",
            "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-musl.so.tar.gz",
            "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu--avx2.so.tar.gz",
        ] {
            paths.insert(name(file).record_path(&NifNamespace::default()).hash().to_string());
        }
        paths.insert(base.record_path(&"other".parse().unwrap()).hash().to_string());
        assert_eq!(paths.len(), 7);
        let path = base.record_path(&NifNamespace::default());
        assert_eq!(path.name().as_str(), "nif-record-demo_nif-0.1.0-nif-2.15-x86_64-unknown-linux-gnu");
    }

    proptest! {
        #[test]
        fn names_round_trip(
            crate_name in "[a-z][a-z0-9_]{0,20}",
            version in "[0-9]{1,3}\\.[0-9]\\.[1-9]",
            variant in proptest::option::of("[a-z][a-z0-9_]{0,8}"),
            target in 0_usize..3,
        ) {
            let version = version.trim_start_matches('0');
            let version = if version.starts_with('.') { format!("0{version}") } else { version.to_owned() };
            let target = ["x86_64-unknown-linux-gnu", "aarch64-apple-darwin", "x86_64-pc-windows-gnu"][target];
            let platform = NifPlatform {
                nif_version: NifVersion::default(),
                target: target.parse().unwrap(),
                variant: variant.map(|variant| variant.parse().unwrap()),
            };
            let name = NifName { crate_name: crate_name.parse().unwrap(), release: version.parse().unwrap(), platform };
            prop_assert_eq!(NifName::parse_archive_file(&name.archive_file()).unwrap(), name);
        }
    }
}
