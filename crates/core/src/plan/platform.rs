//! The platforms that a build compiles for, and which platform-specific dependencies each of them has.

use std::str::FromStr;

use cargo_platform::{Cfg, Platform};

use super::PlanError;
use crate::cargo::arguments::CargoCommand;
use crate::cargo::config::{BuildConfiguration, RequestedTarget};
use crate::cargo::toolchain::Toolchain;
use crate::unit::CompilePlatform;

/// Cargo's `CompileKind`: the host, or a place in [`Platforms::targets`], which is sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Host,
    Target(u8),
}

impl Kind {
    fn index(self) -> usize {
        match self {
            Self::Host => 0,
            Self::Target(index) => usize::from(index) + 1,
        }
    }
}

/// The platforms of a build, with the flags and linker that the configuration gives each.
pub(super) struct Platforms {
    /// What the user asked for: the host alone, or targets.
    pub(super) requested: Vec<Kind>,
    /// The host as a target: what units of a build without `--target` are first planned for.
    pub(super) explicit_host: Kind,
    targets: Vec<RequestedTarget>,
    settings: Vec<Settings>,
}

/// What the configuration says about one platform.
struct Settings {
    rustflags: Vec<String>,
    rustdocflags: Vec<String>,
    linker: Option<String>,
    links_overrides: Vec<String>,
    /// By interned platform of [`super::workspace::Workspace::platforms`].
    activated: Vec<bool>,
    apple: bool,
}

impl Platforms {
    pub(super) fn new(
        command: &CargoCommand,
        config: &BuildConfiguration,
        toolchain: &Toolchain,
        platforms: &[&Platform],
    ) -> Result<Self, PlanError> {
        let requested = config.requested_targets(command, &toolchain.host);
        let host = RequestedTarget::triple(&toolchain.host);
        let mut targets: Vec<RequestedTarget> = requested.clone();
        targets.push(host.clone());
        targets.sort();
        targets.dedup();
        let kind = |target: &RequestedTarget| {
            let index = targets.binary_search(target).expect("every requested target was collected above");
            u8::try_from(index).map(Kind::Target).map_err(|_| PlanError::TooManyTargets)
        };
        let explicit_host = kind(&host)?;
        let requested = match requested.as_slice() {
            [] => vec![Kind::Host],
            requested => {
                let mut kinds = requested.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
                kinds.sort_unstable();
                kinds.dedup();
                kinds
            }
        };
        let for_host_alone = requested == [Kind::Host];
        let kinds = std::iter::once(None).chain(targets.iter().map(Some));
        let mut settings = Vec::new();
        for target in kinds {
            let name = target.map_or(toolchain.host.as_str(), |target| target.name.as_str());
            let is_host = target.is_none() || (for_host_alone && name == toolchain.host);
            // The host as a target is only a way of counting when there is no `--target`.
            let text = if is_host { toolchain.host_cfg() } else { toolchain.target_cfg(name) };
            // An unneeded host target has no `cfg`s of its own.
            let text = match text {
                Some(text) => text,
                None if target == Some(&host) => toolchain.host_cfg().unwrap_or_default(),
                None => return Err(PlanError::MissingCfg(name.to_owned())),
            };
            let cfgs: Vec<Cfg> = text.lines().filter_map(|line| Cfg::from_str(line).ok()).collect();
            let flags = config.flags(name, &cfgs, is_host && !for_host_alone);
            settings.push(Settings {
                rustflags: flags.rustflags,
                rustdocflags: flags.rustdocflags,
                linker: config.linker(name, &cfgs),
                links_overrides: config.links_overrides(name),
                activated: platforms.iter().map(|platform| platform.matches(name, &cfgs)).collect(),
                apple: name.contains("-apple-"),
            });
        }
        Ok(Self { requested, explicit_host, targets, settings })
    }

    /// Whether a dependency of this platform (`None`: of all) applies.
    pub(super) fn activates(&self, kind: Kind, platform: Option<usize>) -> bool {
        platform.is_none_or(|platform| self.settings[kind.index()].activated[platform])
    }

    pub(super) fn rustflags(&self, kind: Kind) -> &[String] {
        &self.settings[kind.index()].rustflags
    }

    pub(super) fn rustdocflags(&self, kind: Kind) -> &[String] {
        &self.settings[kind.index()].rustdocflags
    }

    pub(super) fn linker(&self, kind: Kind) -> Option<&str> {
        self.settings[kind.index()].linker.as_deref()
    }

    /// Whether the configuration replaces the build script of the package with this `links` key.
    pub(super) fn overrides_links(&self, kind: Kind, links: &str) -> bool {
        self.settings[kind.index()].links_overrides.iter().any(|name| name == links)
    }

    pub(super) fn is_apple(&self, kind: Kind) -> bool {
        self.settings[kind.index()].apple
    }

    pub(super) fn compile_platform(&self, kind: Kind) -> CompilePlatform {
        match kind {
            Kind::Host => CompilePlatform::Host,
            Kind::Target(index) => {
                let target = &self.targets[usize::from(index)];
                CompilePlatform::Target { name: target.name.clone(), specification: target.specification.clone() }
            }
        }
    }
}
