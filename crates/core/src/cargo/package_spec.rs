//! Package id specifications, as `-p` and profile overrides write them: `serde`, `serde@1.0.1`,
//! `https://github.com/rust-lang/crates.io-index#serde@1`.

/// A specification. It matches by name, and by version and source where it gives them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageSpec {
    kind: Option<String>,
    url: Option<String>,
    name: Option<String>,
    version: Option<String>,
}

impl PackageSpec {
    /// Reads a specification. Whatever the text is, it is one: a wrong one matches nothing.
    pub fn parse(text: &str) -> Self {
        if !text.contains("://") {
            let (name, version) = split_version(text);
            return Self { kind: None, url: None, name: Some(name.to_owned()), version };
        }
        let (url, fragment) = match text.split_once('#') {
            Some((url, fragment)) => (url, Some(fragment)),
            None => (text, None),
        };
        let (kind, url) = split_kind(url);
        let (name, version) = match fragment {
            Some(fragment) if fragment.starts_with(|c: char| c.is_ascii_digit()) => (None, Some(fragment.to_owned())),
            Some(fragment) => {
                let (name, version) = split_version(fragment);
                (Some(name.to_owned()), version)
            }
            None => (None, None),
        };
        let name = name.or_else(|| last_component(&url));
        Self { kind, url: Some(url), name, version }
    }

    /// Whether it matches the package with this name, version and package id.
    pub fn matches(&self, name: &str, version: &semver::Version, id: &str) -> bool {
        if self.name.as_deref().is_some_and(|wanted| wanted != name) {
            return false;
        }
        if self.version.as_deref().is_some_and(|wanted| !version_matches(wanted, version)) {
            return false;
        }
        let source = id.split('#').next().unwrap_or(id);
        let (kind, url) = split_kind(source);
        self.url.as_ref().is_none_or(|wanted| *wanted == url) && (self.kind.is_none() || self.kind == kind)
    }

    /// The name, if it gives one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether a text has the characters of a glob pattern.
    pub fn is_glob(text: &str) -> bool {
        text.contains(['*', '?', '[', ']'])
    }
}

fn split_kind(url: &str) -> (Option<String>, String) {
    let scheme = url.split("://").next().unwrap_or(url);
    let (kind, url) = match scheme.split_once('+') {
        Some((kind, _)) => (Some(kind.to_owned()), &url[kind.len() + 1..]),
        None => (None, url),
    };
    let url = url.split('?').next().unwrap_or(url);
    (kind, url.trim_end_matches('/').to_owned())
}

fn split_version(text: &str) -> (&str, Option<String>) {
    match text.split_once(['@', ':']) {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (text, None),
    }
}

fn last_component(url: &str) -> Option<String> {
    url.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// A partial version (`1`, `1.2`) matches every version that begins with it, pre-releases excepted; a full one
/// must be equal, build metadata apart if it gives none.
fn version_matches(wanted: &str, version: &semver::Version) -> bool {
    if let Ok(wanted) = semver::Version::parse(wanted) {
        return (wanted.major, wanted.minor, wanted.patch, &wanted.pre)
            == (version.major, version.minor, version.patch, &version.pre)
            && (wanted.build.is_empty() || wanted.build == version.build);
    }
    let mut parts = wanted.split('.');
    let mut part = |actual: u64| parts.next().is_none_or(|wanted| wanted.parse() == Ok(actual));
    version.pre.is_empty()
        && part(version.major)
        && part(version.minor)
        && part(version.patch)
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index#serde@1.2.3";

    #[test]
    fn specifications_match_as_cargo_matches_them() {
        let version = semver::Version::new(1, 2, 3);
        let matches = |text: &str, id: &str| PackageSpec::parse(text).matches("serde", &version, id);
        for text in [
            "serde",
            "serde@1",
            "serde@1.2",
            "serde:1.2.3",
            REGISTRY,
            "https://github.com/rust-lang/crates.io-index#serde",
            "https://github.com/rust-lang/crates.io-index#serde@1.2",
        ] {
            assert!(matches(text, REGISTRY), "{text}");
        }
        for text in
            ["serd", "serde@1.3", "serde@2", "serde@1.2.4", "git+https://github.com/rust-lang/crates.io-index#serde"]
        {
            assert!(!matches(text, REGISTRY), "{text}");
        }
        assert!(matches("file:///work/serde", "path+file:///work/serde#1.2.3"));
        assert!(matches("path+file:///work/serde#1.2.3", "path+file:///work/serde#1.2.3"));
        assert!(matches("path+file:///work/a#serde@1.2.3", "path+file:///work/a#serde@1.2.3"));
        assert!(!matches("path+file:///work/b#serde@1.2.3", "path+file:///work/a#serde@1.2.3"));
        assert!(matches(
            "https://example.org/serde?branch=main",
            "git+https://example.org/serde?branch=main#serde@1.2.3"
        ));
    }

    #[test]
    fn partial_versions_match_no_pre_release() {
        let version: semver::Version = "2.0.0-alpha.1".parse().expect("a version");
        assert!(!PackageSpec::parse("a@2").matches("a", &version, "path+file:///a#2.0.0-alpha.1"));
        assert!(PackageSpec::parse("a@2.0.0-alpha.1").matches("a", &version, "path+file:///a#2.0.0-alpha.1"));
    }
}
