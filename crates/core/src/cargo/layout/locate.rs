//! From paths on a rustc command line back to the unit they belong to.

use camino::{Utf8Path, Utf8PathBuf};

use super::{BuildLayout, CargoHash, LayoutKind};

/// A place below a build directory: which layout, and what in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The layout, with platform and profile.
    pub layout: BuildLayout,
    /// What lies there.
    pub place: RustcPlace,
}

/// What the output directory of a rustc invocation says about the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RustcPlace {
    /// A directory of the unit's own: `build/<pkg>-<hash>`, `build/<pkg>/<hash>/out`.
    Unit {
        /// The package's name.
        package: String,
        /// The cargo hash.
        hash: CargoHash,
    },
    /// A shared directory (`deps`, `examples`), and the hash that `-C extra-filename` has.
    Hashed {
        /// The cargo hash.
        hash: CargoHash,
    },
    /// A shared directory and no hash: a dylib or cdylib of a path package, or an executable on Windows. Only
    /// the fingerprint tells which unit it is.
    Unhashed,
}

impl Location {
    /// Which unit a rustc invocation belongs to. `None` if the directory is none of cargo's, or contradicts
    /// the extra file name.
    pub fn of_rustc(
        build_directory: &Utf8Path,
        target_directory: &Utf8Path,
        out_directory: &Utf8Path,
        extra_filename: Option<&str>,
    ) -> Option<Self> {
        let extra = match extra_filename {
            None | Some("") => None,
            Some(text) => Some(text.strip_prefix('-')?.parse::<CargoHash>().ok()?),
        };
        let components = components(build_directory, out_directory);
        let (parts, kind, place) = readings(&components).find_map(|(parts, rest)| {
            let (kind, place) = match rest {
                ["deps" | "examples"] => {
                    (LayoutKind::Legacy, extra.map_or(RustcPlace::Unhashed, |hash| RustcPlace::Hashed { hash }))
                }
                ["build", directory] => {
                    let (package, hash) = CargoHash::split_suffix(directory)?;
                    (LayoutKind::Legacy, RustcPlace::Unit { package: package.to_owned(), hash })
                }
                ["build", package, hash, "out"] => {
                    (LayoutKind::PerUnit, RustcPlace::Unit { package: (*package).to_owned(), hash: hash.parse().ok()? })
                }
                _ => return None,
            };
            Some((parts, kind, place))
        })?;
        if let (RustcPlace::Unit { hash, .. }, Some(extra)) = (&place, extra)
            && *hash != extra
        {
            return None;
        }
        Some(Self { layout: parts.layout(kind, build_directory, target_directory), place })
    }

    /// Which run of a build script an `OUT_DIR` belongs to: its layout, package name and hash.
    pub fn of_out_directory(
        build_directory: &Utf8Path,
        target_directory: &Utf8Path,
        out_directory: &Utf8Path,
    ) -> Option<(BuildLayout, String, CargoHash)> {
        let components = components(build_directory, out_directory);
        readings(&components).find_map(|(parts, rest)| {
            let (kind, package, hash) = match rest {
                ["build", directory, "out"] => {
                    let (package, hash) = CargoHash::split_suffix(directory)?;
                    (LayoutKind::Legacy, package, hash)
                }
                ["build", package, hash, "out"] => (LayoutKind::PerUnit, *package, hash.parse().ok()?),
                _ => return None,
            };
            Some((parts.layout(kind, build_directory, target_directory), package.to_owned(), hash))
        })
    }
}

/// What stands before the shape: the profile, and the platform if there is one.
struct Parts<'a> {
    platform: Option<&'a str>,
    profile: &'a str,
}

impl Parts<'_> {
    fn layout(&self, kind: LayoutKind, build_directory: &Utf8Path, target_directory: &Utf8Path) -> BuildLayout {
        BuildLayout::of_directories(
            kind,
            Utf8PathBuf::from(build_directory),
            Utf8PathBuf::from(target_directory),
            self.platform.map(str::to_owned),
            self.profile.to_owned(),
        )
    }
}

/// The components of a path below the build directory.
fn components<'a>(build_directory: &Utf8Path, path: &'a Utf8Path) -> Vec<&'a str> {
    path.strip_prefix(build_directory).map(|rest| rest.iter().collect()).unwrap_or_default()
}

/// The two ways to read them: `<profile>/…` and `<triple>/<profile>/…`. The callers match what follows in
/// full, so at most one of them fits.
fn readings<'a, 'b>(components: &'b [&'a str]) -> impl Iterator<Item = (Parts<'a>, &'b [&'a str])> {
    let hosted = components.split_first().map(|(profile, rest)| (Parts { platform: None, profile }, rest));
    let targeted = match components {
        [platform, profile, rest @ ..] => Some((Parts { platform: Some(platform), profile }, rest)),
        _ => None,
    };
    hosted.into_iter().chain(targeted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "1b0ebca5d5ae1ed9";

    fn rustc(out: &str, extra: Option<&str>) -> Option<(LayoutKind, Option<String>, String, RustcPlace)> {
        let found = Location::of_rustc("/w/b".into(), "/w/t".into(), out.into(), extra)?;
        let layout = found.layout;
        Some((layout.kind(), layout.platform().map(str::to_owned), layout.profile().to_owned(), found.place))
    }

    #[test]
    fn rustc_output_directories() {
        let hash: CargoHash = HASH.parse().unwrap();
        let unit = || RustcPlace::Unit { package: "a-b".into(), hash };
        let legacy = |place| Some((LayoutKind::Legacy, None, "debug".to_owned(), place));
        let extra = format!("-{HASH}");
        assert_eq!(rustc("/w/b/debug/deps", Some(&extra)), legacy(RustcPlace::Hashed { hash }));
        assert_eq!(rustc("/w/b/debug/examples", Some(&extra)), legacy(RustcPlace::Hashed { hash }));
        assert_eq!(rustc("/w/b/debug/deps", None), legacy(RustcPlace::Unhashed));
        assert_eq!(rustc(&format!("/w/b/debug/build/a-b-{HASH}"), Some(&extra)), legacy(unit()));
        assert_eq!(
            rustc(&format!("/w/b/x86_64-unknown-linux-musl/tiny/build/a-b/{HASH}/out"), None),
            Some((LayoutKind::PerUnit, Some("x86_64-unknown-linux-musl".into()), "tiny".into(), unit()))
        );
        assert_eq!(
            rustc("/w/b/deps/deps", None),
            Some((LayoutKind::Legacy, None, "deps".into(), RustcPlace::Unhashed))
        );
        for (out, extra) in [
            ("/elsewhere/debug/deps", None),
            ("/w/b/debug/other", None),
            ("/w/b/debug/deps", Some("-short")),
            ("/w/b/debug/build/a-b-1b0ebca5d5ae1ed8", Some(extra.as_str())),
            ("/w/b", None),
        ] {
            assert_eq!(rustc(out, extra), None, "{out}");
        }
    }

    #[test]
    fn out_directories() {
        let found = |path: &str| {
            let (layout, package, hash) = Location::of_out_directory("/w/b".into(), "/w/t".into(), path.into())?;
            Some((layout.kind(), package, hash.to_string()))
        };
        assert_eq!(
            found(&format!("/w/b/debug/build/a-b-{HASH}/out")),
            Some((LayoutKind::Legacy, "a-b".into(), HASH.into()))
        );
        assert_eq!(
            found(&format!("/w/b/wasm32-wasip1/debug/build/a-b/{HASH}/out")),
            Some((LayoutKind::PerUnit, "a-b".into(), HASH.into()))
        );
        assert_eq!(found(&format!("/w/b/debug/build/a-b/{HASH}/run")), None);
        assert_eq!(found(&format!("/w/b/debug/build/a-b-{HASH}/out/sub")), None);
    }
}
