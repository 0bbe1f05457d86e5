//! Which layout cargo will use, and which one a directory has.
//!
//! `-Z build-dir-new-layout` was measured with nightly 1.97 on the command line, as
//! `[unstable] build-dir-new-layout`, as `CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT`, and on 1.95 with
//! `RUSTC_BOOTSTRAP=1`. The default of later cargos was read in the 0.99 and 0.100 crates.

use std::fmt;
use std::fs;
use std::str::FromStr;

use camino::Utf8Path;

use super::LayoutKind;
use crate::environment::Environment;

/// A release channel, as cargo's version has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// No suffix.
    Stable,
    /// `-beta`, `-beta.3`.
    Beta,
    /// `-nightly`.
    Nightly,
    /// `-dev`: built from a checkout.
    Dev,
}

/// Cargo's release: `release:` of `cargo -vV`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CargoRelease {
    /// The major version: 1.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The patch version.
    pub patch: u32,
    /// The channel.
    pub channel: Channel,
}

/// Why a text is not a release of cargo.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a release of cargo such as 1.95.0 or 1.97.0-nightly")]
pub struct ReleaseError {
    text: String,
}

impl FromStr for CargoRelease {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let parse = || {
            let (version, suffix) = text.split_once('-').map_or((text, ""), |(version, suffix)| (version, suffix));
            let mut numbers = version.split('.').map(|number| number.parse().ok());
            let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
            let channel = match suffix.split('.').next()? {
                "" => Channel::Stable,
                "beta" => Channel::Beta,
                "nightly" => Channel::Nightly,
                "dev" => Channel::Dev,
                _ => return None,
            };
            numbers.next().is_none().then_some(Self { major, minor, patch, channel })
        };
        parse().ok_or_else(|| ReleaseError { text: text.to_owned() })
    }
}

impl fmt::Display for CargoRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.channel {
            Channel::Stable => "",
            Channel::Beta => "-beta",
            Channel::Nightly => "-nightly",
            Channel::Dev => "-dev",
        };
        write!(f, "{}.{}.{}{suffix}", self.major, self.minor, self.patch)
    }
}

/// What the user can set to choose the layout.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayoutSwitches<'a> {
    /// The values of `-Z` on cargo's command line.
    pub unstable_flags: &'a [String],
    /// `unstable.build-dir-new-layout` of the merged configuration: files, `--config` and
    /// `CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT`.
    pub configured: Option<bool>,
    /// `unstable.fine-grain-locking` of the merged configuration.
    pub configured_fine_grain_locking: Option<bool>,
}

/// What layout cargo will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutDecision {
    /// It is known.
    Known(LayoutKind),
    /// A cargo that we have not measured, or one whose default changed within a release. What it has put on
    /// disk decides; an empty directory is left to cargo alone.
    Guess(LayoutKind),
}

impl CargoRelease {
    /// Whether cargo obeys unstable switches: its channel, unless the environment changes it.
    pub fn allows_unstable(self, environment: &Environment) -> bool {
        // Cargo's own test suite sets this one, and it goes before RUSTC_BOOTSTRAP.
        if let Some(channel) = environment.get_str("__CARGO_TEST_CHANNEL_OVERRIDE_DO_NOT_USE_THIS") {
            return matches!(channel, "nightly" | "dev");
        }
        environment.get_str("RUSTC_BOOTSTRAP") == Some("1") || matches!(self.channel, Channel::Nightly | Channel::Dev)
    }

    /// The layout that this cargo will use for a directory that it has not yet written to.
    pub fn decide_layout(self, switches: LayoutSwitches<'_>, environment: &Environment) -> LayoutDecision {
        let default = self.default_layout(environment);
        if !self.allows_unstable(environment) {
            // The table `[unstable]` is ignored, and `-Z` is an error: cargo stops before it writes anything.
            return match default {
                LayoutDecision::Known(_) => LayoutDecision::Known(LayoutKind::Legacy),
                LayoutDecision::Guess(kind) => LayoutDecision::Guess(kind),
            };
        }
        let flag = |name: &str| switches.unstable_flags.iter().any(|flag| flag == name);
        // Fine-grained locking implies the layout, but only where cargo parses flags at all: with any `-Z`.
        let implied = flag("fine-grain-locking")
            || (!switches.unstable_flags.is_empty() && switches.configured_fine_grain_locking == Some(true));
        if flag("build-dir-new-layout") || implied {
            return LayoutDecision::Known(LayoutKind::PerUnit);
        }
        match (switches.configured, default) {
            (Some(true), _) => LayoutDecision::Known(LayoutKind::PerUnit),
            (Some(false), LayoutDecision::Known(_)) => LayoutDecision::Known(LayoutKind::Legacy),
            (Some(false), LayoutDecision::Guess(_)) => LayoutDecision::Guess(LayoutKind::Legacy),
            (None, default) => default,
        }
    }

    fn default_layout(self, environment: &Environment) -> LayoutDecision {
        // The last release whose source was read is 1.99.
        let read = self.major == 1 && self.minor <= 99;
        let unstable_channel = matches!(self.channel, Channel::Nightly | Channel::Dev);
        match (read, self.minor, unstable_channel) {
            (true, ..=98, _) | (true, _, false) => LayoutDecision::Known(LayoutKind::Legacy),
            _ if environment.get_str("__CARGO_TEMPORARY_BUILD_DIR_NEW_LAYOUT_OPT_OUT") == Some("1") => {
                LayoutDecision::Guess(LayoutKind::Legacy)
            }
            // The default became per-unit some day between two nightlies of 1.99.
            (true, _, true) | (false, _, _) => LayoutDecision::Guess(LayoutKind::PerUnit),
        }
    }
}

impl LayoutDecision {
    /// The layout to use for a directory in which `found` was seen. `None` means that nothing may be restored:
    /// a guess that the disk doesn't confirm.
    pub fn settle(self, found: OnDisk) -> Option<LayoutKind> {
        match (self, found.legacy, found.per_unit) {
            (Self::Known(kind), _, _) => Some(kind),
            (Self::Guess(_), true, false) => Some(LayoutKind::Legacy),
            (Self::Guess(_), false, true) => Some(LayoutKind::PerUnit),
            (Self::Guess(_), _, _) => None,
        }
    }
}

/// Which layouts a directory shows. Both, if its user changed from one to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnDisk {
    /// There is a `.fingerprint` directory.
    pub legacy: bool,
    /// There is a `build/<pkg>/<hash>/fingerprint`.
    pub per_unit: bool,
}

/// What is seen below a profile root. After cargo has run, the layout that it used is among them; if the one
/// that was decided upon is not, the decision was wrong.
pub fn on_disk(profile_root: &Utf8Path) -> OnDisk {
    let directories = |path: &std::path::Path| {
        fs::read_dir(path).into_iter().flatten().filter_map(|entry| entry.ok()).map(|entry| entry.path())
    };
    OnDisk {
        legacy: profile_root.join(".fingerprint").is_dir(),
        per_unit: directories(profile_root.join("build").as_std_path())
            .flat_map(|package| directories(&package).collect::<Vec<_>>())
            .any(|unit| unit.join("fingerprint").is_dir()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(release: &str, flags: &[&str], configured: Option<bool>, variables: &[(&str, &str)]) -> LayoutDecision {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let switches = LayoutSwitches { unstable_flags: &flags, configured, ..LayoutSwitches::default() };
        let environment = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        release.parse::<CargoRelease>().unwrap().decide_layout(switches, &environment)
    }

    #[test]
    fn releases_round_trip() {
        for text in ["1.95.0", "1.97.0-nightly", "1.98.1-beta"] {
            assert_eq!(text.parse::<CargoRelease>().unwrap().to_string(), text);
        }
        assert_eq!("1.98.0-beta.3".parse::<CargoRelease>().unwrap().channel, Channel::Beta);
        for text in ["", "1.95", "1.95.0.1", "cargo 1.95.0", "1.95.0-custom"] {
            assert!(text.parse::<CargoRelease>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_switches_choose_where_cargo_obeys_them() {
        use LayoutDecision::{Guess, Known};
        use LayoutKind::{Legacy, PerUnit};
        let bootstrap = [("RUSTC_BOOTSTRAP", "1")];
        assert_eq!(decide("1.95.0", &[], None, &[]), Known(Legacy));
        assert_eq!(decide("1.95.0", &[], Some(true), &[]), Known(Legacy));
        assert_eq!(decide("1.95.0", &[], Some(true), &bootstrap), Known(PerUnit));
        assert_eq!(decide("1.95.0", &["build-dir-new-layout"], None, &bootstrap), Known(PerUnit));
        assert_eq!(decide("1.97.0-nightly", &[], None, &[]), Known(Legacy));
        assert_eq!(decide("1.97.0-nightly", &["fine-grain-locking"], None, &[]), Known(PerUnit));
        assert_eq!(decide("1.97.0-nightly", &["build-dir-new-layout"], Some(false), &[]), Known(PerUnit));
        assert_eq!(decide("1.99.0-nightly", &[], None, &[]), Guess(PerUnit));
        assert_eq!(decide("1.99.0-nightly", &[], Some(false), &[]), Guess(Legacy));
        assert_eq!(decide("1.99.0-nightly", &[], Some(true), &[]), Known(PerUnit));
        assert_eq!(decide("1.99.0", &[], None, &[]), Known(Legacy));
        assert_eq!(decide("1.120.0", &[], None, &[]), Guess(PerUnit));
    }

    #[test]
    fn a_guess_needs_the_disk() {
        let seen = |legacy, per_unit| OnDisk { legacy, per_unit };
        let guess = LayoutDecision::Guess(LayoutKind::PerUnit);
        assert_eq!(guess.settle(seen(true, false)), Some(LayoutKind::Legacy));
        assert_eq!(guess.settle(seen(false, true)), Some(LayoutKind::PerUnit));
        assert_eq!(guess.settle(seen(true, true)), None);
        assert_eq!(guess.settle(seen(false, false)), None);
        assert_eq!(LayoutDecision::Known(LayoutKind::Legacy).settle(seen(false, true)), Some(LayoutKind::Legacy));
    }
}
