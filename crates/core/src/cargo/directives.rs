//! What a build script tells cargo on its standard output.
//!
//! Pure. `artifact` calls it for the dynamic inputs of a run, and for what its dependents get from it. It
//! follows `BuildOutput::parse` in `custom_build.rs` (cargo 1.95 to 1.99): lines that are not UTF-8 or begin
//! with neither `cargo:` nor `cargo::` are skipped; what would make cargo stop is an error here too.
//!
//! Two things are left out, as cargo has accepted the output when we see it: whether the package's minimum Rust
//! version allows `cargo::`, and whether it has targets that a `rustc-link-arg-*` is for.

/// A line of a build script's output that cargo obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directive {
    /// `rerun-if-changed`: a path, absolute or relative to the package root.
    RerunIfChanged(String),
    /// `rerun-if-env-changed`: the name of a variable.
    RerunIfEnvChanged(String),
    /// `rustc-link-lib`, and each `-l` of `rustc-flags`.
    LinkLib(String),
    /// `rustc-link-search`, and each `-L` of `rustc-flags`: `[kind=]path`.
    LinkSearch(String),
    /// `rustc-link-arg` and its relatives.
    LinkArg {
        /// For which targets.
        targets: LinkArgTargets,
        /// The argument.
        argument: String,
    },
    /// `rustc-cfg`
    Cfg(String),
    /// `rustc-check-cfg`
    CheckCfg(String),
    /// `rustc-env`: a variable for the compilation of the package.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// `metadata`, or an unknown key in the old syntax: `DEP_<LINKS>_<KEY>` for dependents.
    Metadata {
        /// The key as printed.
        key: String,
        /// The value.
        value: String,
    },
    /// `warning`
    Warning(String),
    /// `error`: cargo lets the build fail.
    Error(String),
}

/// The targets of a package that a linker argument is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkArgTargets {
    /// All that are linked.
    All,
    /// `cdylib`
    Cdylib,
    /// Binaries.
    Bins,
    /// One binary, by name.
    Bin(String),
    /// Integration tests.
    Tests,
    /// Benchmarks.
    Benches,
    /// Examples.
    Examples,
}

/// A line that cargo refuses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the build script's output: line {line} ({text:?}) {problem}")]
pub struct DirectiveError {
    line: usize,
    text: String,
    problem: &'static str,
}

/// The directives of an output, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    directives: Vec<Directive>,
}

/// The keys that the old syntax, `cargo:KEY=VALUE`, knows. Every other one is metadata there.
const OLD_KEYS: [&str; 17] = [
    "rustc-flags",
    "rustc-link-lib",
    "rustc-link-search",
    "rustc-link-arg-cdylib",
    "rustc-cdylib-link-arg",
    "rustc-link-arg-bins",
    "rustc-link-arg-bin",
    "rustc-link-arg-tests",
    "rustc-link-arg-benches",
    "rustc-link-arg-examples",
    "rustc-link-arg",
    "rustc-cfg",
    "rustc-check-cfg",
    "rustc-env",
    "warning",
    "rerun-if-changed",
    "rerun-if-env-changed",
];

impl Directives {
    /// Reads the output of a build script. Where it ran with another `OUT_DIR`, `moved` names the old and the
    /// new one: cargo replaces the one by the other in every value, anywhere in it.
    pub fn parse(output: &[u8], moved: Option<(&str, &str)>) -> Result<Self, DirectiveError> {
        let mut directives = Vec::new();
        for (line, number) in output.split(|byte| *byte == b'\n').zip(1..) {
            let Ok(text) = std::str::from_utf8(line) else { continue };
            let text = text.trim();
            parse_line(text, moved, &mut directives).map_err(|problem| DirectiveError {
                line: number,
                text: text.to_owned(),
                problem,
            })?;
        }
        Ok(Self { directives })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Directive> {
        self.directives.iter()
    }

    /// The paths of `rerun-if-changed`.
    pub fn rerun_if_changed(&self) -> impl Iterator<Item = &str> {
        self.iter().filter_map(|directive| match directive {
            Directive::RerunIfChanged(path) => Some(path.as_str()),
            _ => None,
        })
    }

    /// The names of `rerun-if-env-changed`.
    pub fn rerun_if_env_changed(&self) -> impl Iterator<Item = &str> {
        self.iter().filter_map(|directive| match directive {
            Directive::RerunIfEnvChanged(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether the script names what it depends upon. If not, it depends upon every file of its package.
    pub fn names_inputs(&self) -> bool {
        self.rerun_if_changed().next().is_some() || self.rerun_if_env_changed().next().is_some()
    }
}

/// Whether cargo obeys a line of a build script's output. What is no directive is read by nobody, and neither is a
/// warning by any program: cargo shows it.
pub fn is_obeyed(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("cargo:") && !["cargo:warning=", "cargo::warning="].iter().any(|prefix| line.starts_with(prefix))
}

fn parse_line(text: &str, moved: Option<(&str, &str)>, into: &mut Vec<Directive>) -> Result<(), &'static str> {
    let (key, value, new_syntax) = if let Some(rest) = text.strip_prefix("cargo::") {
        let (key, value) = rest.split_once('=').ok_or("has no `=`")?;
        (key, value, true)
    } else if let Some(rest) = text.strip_prefix("cargo:") {
        match rest.split_once('=') {
            Some((key, value)) if OLD_KEYS.contains(&key) => (key, value, false),
            _ => ("metadata", rest, false),
        }
    } else {
        return Ok(());
    };
    let value = match moved {
        Some((from, to)) => value.trim_end().replace(from, to),
        None => value.trim_end().to_owned(),
    };
    let link = |targets| Directive::LinkArg { targets, argument: value.clone() };
    into.push(match key {
        "rustc-flags" => return parse_flags(&value, into),
        "rustc-link-lib" => Directive::LinkLib(value),
        "rustc-link-search" => Directive::LinkSearch(value),
        "rustc-link-arg-cdylib" | "rustc-cdylib-link-arg" => link(LinkArgTargets::Cdylib),
        "rustc-link-arg-bins" => link(LinkArgTargets::Bins),
        "rustc-link-arg-bin" => {
            let (name, argument) = value.split_once('=').ok_or("is not of the form BIN=ARGUMENT")?;
            Directive::LinkArg { targets: LinkArgTargets::Bin(name.to_owned()), argument: argument.to_owned() }
        }
        "rustc-link-arg-tests" => link(LinkArgTargets::Tests),
        "rustc-link-arg-benches" => link(LinkArgTargets::Benches),
        "rustc-link-arg-examples" => link(LinkArgTargets::Examples),
        "rustc-link-arg" => link(LinkArgTargets::All),
        "rustc-cfg" => Directive::Cfg(value),
        "rustc-check-cfg" => Directive::CheckCfg(value),
        "rustc-env" => match value.split_once('=').ok_or("has no value for the variable")? {
            // With nightly features cargo warns and goes on without it, without them it stops.
            ("RUSTC_BOOTSTRAP", _) => return Ok(()),
            (name, value) => Directive::Env { name: name.to_owned(), value: value.to_owned() },
        },
        "error" => Directive::Error(value),
        "warning" => Directive::Warning(value),
        "rerun-if-changed" => Directive::RerunIfChanged(value),
        "rerun-if-env-changed" => Directive::RerunIfEnvChanged(value),
        "metadata" => {
            let (key, value) = value.split_once('=').ok_or("has no `=`")?;
            Directive::Metadata { key: key.to_owned(), value: value.trim_end().to_owned() }
        }
        _ if new_syntax => return Err("has an unknown key"),
        _ => unreachable!("keys of the old syntax are all in the list above"),
    });
    Ok(())
}

/// `rustc-flags`: `-l` and `-L` alone, with or without a space before the value.
fn parse_flags(flags: &str, into: &mut Vec<Directive>) -> Result<(), &'static str> {
    let mut words = flags.split_whitespace();
    while let Some(word) = words.next() {
        let kind: fn(String) -> Directive = match word.get(..2) {
            Some("-l") => Directive::LinkLib,
            Some("-L") => Directive::LinkSearch,
            _ => return Err("has a flag that is neither -l nor -L"),
        };
        let value = match &word[2..] {
            "" => words.next().ok_or("has a flag without a value")?,
            value => value,
        };
        into.push(kind(value.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(output: &str) -> Vec<Directive> {
        Directives::parse(output.as_bytes(), None).unwrap().directives
    }

    #[test]
    fn what_is_for_people_is_not_obeyed() {
        for line in ["cargo::rustc-cfg=x", "  cargo:root=/x", "cargo:warnings=2", "cargo:rerun-if-changed=a"] {
            assert!(is_obeyed(line), "{line}");
        }
        for line in ["running: \"cc\"", "", "cargo:warning=w", " cargo::warning=w", "CARGO:x=y"] {
            assert!(!is_obeyed(line), "{line}");
        }
    }

    #[test]
    fn both_syntaxes_are_read_in_order() {
        let metadata = |key: &str, value: &str| Directive::Metadata { key: key.into(), value: value.into() };
        let link = |targets, argument: &str| Directive::LinkArg { targets, argument: argument.into() };
        assert_eq!(
            parse(
                "hello\n  cargo::rerun-if-changed=build.rs  \r\ncargo:rerun-if-env-changed=CC\n\
                 cargo:root=/x=y\ncargo::metadata=include=/y \ncargo:error=not reserved\ncargo::error=no\n\
                 cargo:rustc-flags=-lz -L native=/lib -l ssl\ncargo::rustc-link-arg-bin=b=-s\n\
                 cargo:rustc-cdylib-link-arg=-Wl\ncargo:rustc-env=A=b=c\ncargo::warning=w\n\
                 cargo:rustc-cfg=feature=\"x\"\ncargo::rustc-env=RUSTC_BOOTSTRAP=1\nnot cargo:rustc-cfg=y\n"
            ),
            [
                Directive::RerunIfChanged("build.rs".into()),
                Directive::RerunIfEnvChanged("CC".into()),
                metadata("root", "/x=y"),
                metadata("include", "/y"),
                metadata("error", "not reserved"),
                Directive::Error("no".into()),
                Directive::LinkLib("z".into()),
                Directive::LinkSearch("native=/lib".into()),
                Directive::LinkLib("ssl".into()),
                link(LinkArgTargets::Bin("b".into()), "-s"),
                link(LinkArgTargets::Cdylib, "-Wl"),
                Directive::Env { name: "A".into(), value: "b=c".into() },
                Directive::Warning("w".into()),
                Directive::Cfg("feature=\"x\"".into()),
            ]
        );
    }

    #[test]
    fn a_moved_out_directory_is_replaced_everywhere() {
        let output = b"cargo:rustc-link-search=native=/old/out/lib\ncargo:include=/old/out:/old/out2\n\xff\n";
        let directives = Directives::parse(output, Some(("/old/out", "/new"))).unwrap();
        assert_eq!(
            directives.directives,
            [
                Directive::LinkSearch("native=/new/lib".into()),
                Directive::Metadata { key: "include".into(), value: "/new:/new2".into() },
            ]
        );
        assert!(!directives.names_inputs());
    }

    #[test]
    fn what_cargo_refuses_is_an_error() {
        for line in [
            "cargo::nothing",
            "cargo::unknown=1",
            "cargo:nothing",
            "cargo::metadata=x",
            "cargo:rustc-flags=-O",
            "cargo:rustc-flags=-l",
            "cargo:rustc-env=A",
            "cargo:rustc-link-arg-bin=x",
        ] {
            assert!(Directives::parse(line.as_bytes(), None).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_output_is_read_or_refused(output: Vec<u8>, key in "[a-z-]{0,20}", value: String) {
            let _ = Directives::parse(&output, None);
            let _ = Directives::parse(format!("cargo:{key}={value}").as_bytes(), None);
            let _ = Directives::parse(format!("cargo::{key}={value}").as_bytes(), Some(("a", "b")));
        }
    }
}
