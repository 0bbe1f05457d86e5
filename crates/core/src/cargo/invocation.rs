//! What a rustc command line says: its arguments, parsed as rustc parses them.
//!
//! Owns the syntax of rustc's options as far as cargo and users' flags need it. Refuses nothing: an option that
//! it does not know stays in the raw arguments and is skipped. The recorder and the readers of its records call
//! it. Source of the syntax: `rustc --help -v` of 1.95 and `rustc_session::config`.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// A dependency given by `--extern`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternCrate {
    /// The options before the colon: `priv`, `noprelude`, `nounused`, `force`.
    pub options: Vec<String>,
    /// The name under which the code knows it.
    pub name: String,
    /// The file, absent where rustc is to search for it (`--extern proc_macro`).
    pub path: Option<Utf8PathBuf>,
}

/// A directory given by `-L`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchPath {
    /// `dependency`, `crate`, `native`, `framework`, `all`; `all` where none is given.
    pub kind: String,
    /// The directory.
    pub path: Utf8PathBuf,
}

/// A native library given by `-l`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeLibrary {
    /// `static`, `dylib`, `framework`, `link-arg`, with its modifiers as they were given.
    pub kind: Option<String>,
    /// The name that the linker is asked for.
    pub name: String,
}

/// One rustc command line, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RustcInvocation {
    /// `--crate-name`.
    pub crate_name: Option<String>,
    /// `--crate-type`, in the order given.
    pub crate_types: Vec<String>,
    /// `--edition`.
    pub edition: Option<String>,
    /// `--test`.
    pub test: bool,
    /// `--emit`: the kinds, without the file names that may follow them.
    pub emit: Vec<String>,
    /// `--out-dir`.
    pub out_dir: Option<Utf8PathBuf>,
    /// `-o`.
    pub output: Option<Utf8PathBuf>,
    /// `-C metadata`.
    pub metadata: Option<String>,
    /// `-C extra-filename`, with its leading hyphen.
    pub extra_filename: Option<String>,
    /// `--target`.
    pub target: Option<String>,
    /// The unit's features, from `--cfg feature="…"` before `-C metadata`, in the order given.
    pub features: Vec<String>,
    /// The other `--cfg` values.
    pub cfgs: Vec<String>,
    /// `--check-cfg`.
    pub check_cfgs: Vec<String>,
    /// `-C opt-level`, `-O` as `3`.
    pub opt_level: Option<String>,
    /// `-C debuginfo`, `-g` as `2`.
    pub debuginfo: Option<String>,
    /// `-C codegen-units`.
    pub codegen_units: Option<String>,
    /// `-C panic`.
    pub panic: Option<String>,
    /// `-C lto`, `true` where no value is given.
    pub lto: Option<String>,
    /// `-C linker-plugin-lto`, `true` where no value is given.
    pub linker_plugin_lto: Option<String>,
    /// `-C embed-bitcode`.
    pub embed_bitcode: Option<String>,
    /// `-C strip`.
    pub strip: Option<String>,
    /// `-C split-debuginfo`.
    pub split_debuginfo: Option<String>,
    /// `-C debug-assertions`.
    pub debug_assertions: Option<String>,
    /// `-C overflow-checks`.
    pub overflow_checks: Option<String>,
    /// `-C rpath`.
    pub rpath: Option<String>,
    /// `-C target-cpu`.
    pub target_cpu: Option<String>,
    /// `-C incremental`.
    pub incremental: Option<Utf8PathBuf>,
    /// `-C linker`.
    pub linker: Option<String>,
    /// `-C link-arg` and `-C link-args`, in the order given.
    pub link_args: Vec<String>,
    /// `--extern`.
    pub externs: Vec<ExternCrate>,
    /// `-L`.
    pub search_paths: Vec<SearchPath>,
    /// `-l`.
    pub native_libraries: Vec<NativeLibrary>,
    /// `--cap-lints`.
    pub cap_lints: Option<String>,
    /// `--remap-path-prefix`, in the order given. The last one that matches wins.
    pub remap_path_prefixes: Vec<String>,
    /// `--sysroot`.
    pub sysroot: Option<Utf8PathBuf>,
    /// `-Z`, in the order given.
    pub unstable: Vec<String>,
    /// The source file; `-` for standard input.
    pub source: Option<Utf8PathBuf>,
    /// Whether rustc is only asked a question: `-vV`, `--print`, `--explain`, `--help`.
    pub asks_only: bool,
}

/// Long options that take a value, beside those that are parsed.
const OTHER_LONG_WITH_VALUE: [&str; 12] = [
    "--allow",
    "--warn",
    "--force-warn",
    "--deny",
    "--forbid",
    "--error-format",
    "--json",
    "--color",
    "--diagnostic-width",
    "--env-set",
    "--remap-path-scope",
    "--unpretty",
];

impl RustcInvocation {
    /// Parses the arguments after `rustc`. Response files are to be expanded before: see
    /// [`expand_response_files`].
    pub fn parse<T: AsRef<str>>(arguments: &[T]) -> Self {
        let mut invocation = Self::default();
        let mut arguments = arguments.iter().map(AsRef::as_ref);
        while let Some(argument) = arguments.next() {
            if let Some(long) = argument.strip_prefix("--") {
                match long.split_once('=') {
                    Some((name, value)) => invocation.long(name, value),
                    None if invocation.flag(long) => {}
                    None => {
                        if let Some(value) = value_of(argument, &mut arguments) {
                            invocation.long(long, value);
                        }
                    }
                }
            } else if argument == "-" || !argument.starts_with('-') {
                invocation.source = Some(argument.into());
            } else {
                invocation.short(argument, &mut arguments);
            }
        }
        invocation
    }

    /// Whether the command line has what cargo gives to every unit that it compiles, and to no probe.
    pub fn is_unit(&self) -> bool {
        !self.is_query() && self.metadata.is_some() && self.crate_name.is_some() && self.out_dir.is_some()
    }

    /// Whether nothing is compiled that could be kept: cargo's own probes and questions by users.
    pub fn is_query(&self) -> bool {
        self.asks_only
            || self.crate_name.as_deref() == Some("___")
            || self.source.as_deref().is_none_or(|source| source == Utf8Path::new("-"))
    }

    /// The files' common stem: crate name and extra file name.
    pub fn file_stem(&self) -> Option<String> {
        let name = self.crate_name.as_deref()?;
        Some(format!("{name}{}", self.extra_filename.as_deref().unwrap_or_default()))
    }

    /// A long option that takes no value. Returns false if it takes one.
    fn flag(&mut self, name: &str) -> bool {
        match name {
            "test" => self.test = true,
            "help" | "version" => self.asks_only = true,
            "verbose" => {}
            _ => return false,
        }
        true
    }

    fn long(&mut self, name: &str, value: &str) {
        match name {
            "crate-name" => self.crate_name = Some(value.to_owned()),
            "crate-type" => self.crate_types.extend(value.split(',').map(str::to_owned)),
            "edition" => self.edition = Some(value.to_owned()),
            "emit" => self.emit.extend(value.split(',').map(|kind| before(kind, '=').to_owned())),
            "out-dir" => self.out_dir = Some(value.into()),
            "target" => self.target = Some(value.to_owned()),
            "cfg" => self.cfg(value),
            "check-cfg" => self.check_cfgs.push(value.to_owned()),
            "codegen" => self.codegen(value),
            "extern" => self.externs.push(parse_extern(value)),
            "cap-lints" => self.cap_lints = Some(value.to_owned()),
            "remap-path-prefix" => self.remap_path_prefixes.push(value.to_owned()),
            "sysroot" => self.sysroot = Some(value.into()),
            "print" | "explain" => self.asks_only = true,
            _ => {}
        }
    }

    fn short<'a>(&mut self, argument: &'a str, rest: &mut impl Iterator<Item = &'a str>) {
        let Some(letter) = argument[1..].chars().next() else { return };
        match letter {
            'C' | 'L' | 'l' | 'o' | 'Z' | 'A' | 'W' | 'D' | 'F' => {
                let attached = &argument[2..];
                let value = if attached.is_empty() { rest.next() } else { Some(attached) };
                let Some(value) = value else { return };
                match letter {
                    'C' => self.codegen(value),
                    'L' => self.search_paths.push(parse_search_path(value)),
                    'l' => self.native_libraries.push(parse_native_library(value)),
                    'o' => self.output = Some(value.into()),
                    'Z' => self.unstable.push(value.to_owned()),
                    _ => {}
                }
            }
            // These take no value and may be bundled: `-vV`.
            _ => {
                for letter in argument[1..].chars() {
                    match letter {
                        'O' => self.opt_level = Some("3".to_owned()),
                        'g' => self.debuginfo = Some("2".to_owned()),
                        'V' | 'h' => self.asks_only = true,
                        _ => {}
                    }
                }
            }
        }
    }

    fn cfg(&mut self, value: &str) {
        let feature = value.strip_prefix("feature=\"").and_then(|feature| feature.strip_suffix('"'));
        match feature {
            // Cargo writes the unit's own features before `-C metadata`, and those of flags and build scripts after.
            Some(feature) if self.metadata.is_none() => self.features.push(feature.to_owned()),
            _ => self.cfgs.push(value.to_owned()),
        }
    }

    fn codegen(&mut self, option: &str) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        // rustc takes hyphens and underscores alike.
        let name = name.replace('_', "-");
        let or_true = |value: Option<String>| Some(value.unwrap_or_else(|| "true".to_owned()));
        match name.as_str() {
            "metadata" => self.metadata = value,
            "extra-filename" => self.extra_filename = value,
            "opt-level" => self.opt_level = value,
            "debuginfo" => self.debuginfo = value,
            "codegen-units" => self.codegen_units = value,
            "panic" => self.panic = value,
            "lto" => self.lto = or_true(value),
            "linker-plugin-lto" => self.linker_plugin_lto = or_true(value),
            "embed-bitcode" => self.embed_bitcode = or_true(value),
            "strip" => self.strip = value,
            "split-debuginfo" => self.split_debuginfo = value,
            "debug-assertions" => self.debug_assertions = or_true(value),
            "overflow-checks" => self.overflow_checks = or_true(value),
            "rpath" => self.rpath = or_true(value),
            "target-cpu" => self.target_cpu = value,
            "incremental" => self.incremental = value.map(Into::into),
            "linker" => self.linker = value,
            "link-arg" => self.link_args.extend(value),
            "link-args" => self.link_args.extend(value.iter().flat_map(|v| v.split_whitespace()).map(str::to_owned)),
            _ => {}
        }
    }
}

/// Replaces `@file` arguments by the lines of the file, as rustc does. An argument whose file cannot be read as
/// UTF-8 text stays as it is: rustc reports it.
pub fn expand_response_files(arguments: Vec<String>) -> Vec<String> {
    if !arguments.iter().any(|argument| argument.starts_with('@')) {
        return arguments;
    }
    let mut expanded = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument.strip_prefix('@').map(std::fs::read_to_string) {
            Some(Ok(text)) => expanded.extend(text.lines().map(str::to_owned)),
            _ => expanded.push(argument),
        }
    }
    expanded
}

fn value_of<'a>(option: &str, rest: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const PARSED: [&str; 15] = [
        "--crate-name",
        "--crate-type",
        "--edition",
        "--emit",
        "--out-dir",
        "--target",
        "--cfg",
        "--check-cfg",
        "--codegen",
        "--extern",
        "--cap-lints",
        "--remap-path-prefix",
        "--sysroot",
        "--print",
        "--explain",
    ];
    if PARSED.contains(&option) || OTHER_LONG_WITH_VALUE.contains(&option) { rest.next() } else { None }
}

fn before(text: &str, separator: char) -> &str {
    text.split(separator).next().unwrap_or(text)
}

fn parse_extern(value: &str) -> ExternCrate {
    let (name, path) = match value.split_once('=') {
        Some((name, path)) => (name, Some(Utf8PathBuf::from(path))),
        None => (value, None),
    };
    let (options, name) = name.split_once(':').unwrap_or(("", name));
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    ExternCrate { options, name: name.to_owned(), path }
}

fn parse_search_path(value: &str) -> SearchPath {
    const KINDS: [&str; 5] = ["dependency", "crate", "native", "framework", "all"];
    match value.split_once('=') {
        Some((kind, path)) if KINDS.contains(&kind) => SearchPath { kind: kind.to_owned(), path: path.into() },
        _ => SearchPath { kind: "all".to_owned(), path: value.into() },
    }
}

fn parse_native_library(value: &str) -> NativeLibrary {
    let (kind, name) = match value.split_once('=') {
        Some((kind, name)) => (Some(kind.to_owned()), name),
        None => (None, value),
    };
    NativeLibrary { kind, name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_cargo_is_read_in_full() {
        let invocation = RustcInvocation::parse(&[
            "--remap-path-prefix",
            "/w=.",
            "--crate-name",
            "foo_bar",
            "--edition=2021",
            "src/lib.rs",
            "--error-format=json",
            "--json=diagnostic-rendered-ansi",
            "--crate-type",
            "lib",
            "--crate-type=cdylib",
            "--emit=dep-info,metadata,link",
            "-C",
            "opt-level=3",
            "-Cembed-bitcode=no",
            "--cfg",
            "feature=\"std\"",
            "--cfg",
            "docsrs",
            "--check-cfg",
            "cfg(docsrs,test)",
            "-C",
            "metadata=0123456789abcdef",
            "-C",
            "extra-filename=-fedcba9876543210",
            "--out-dir",
            "/t/debug/deps",
            "-C",
            "incremental=/t/debug/incremental",
            "-L",
            "dependency=/t/debug/deps",
            "--extern",
            "priv,noprelude:libc=/t/debug/deps/liblibc-1.rlib",
            "--extern=proc_macro",
            "--cap-lints",
            "allow",
            "-l",
            "static:+whole-archive=z",
            "-L/usr/lib",
            "-C",
            "link-args=-a -b",
            "-C",
            "link_arg=-c d",
            "-A",
            "dead_code",
            "-C",
            "lto",
            "-Zfoo",
        ]);
        assert_eq!(invocation.crate_name.as_deref(), Some("foo_bar"));
        assert_eq!(invocation.crate_types, ["lib", "cdylib"]);
        assert_eq!(invocation.source.as_deref(), Some(Utf8Path::new("src/lib.rs")));
        assert_eq!(invocation.features, ["std"]);
        assert_eq!(invocation.cfgs, ["docsrs"]);
        assert_eq!(invocation.emit, ["dep-info", "metadata", "link"]);
        assert_eq!(invocation.file_stem().unwrap(), "foo_bar-fedcba9876543210");
        assert_eq!(invocation.externs[0].options, ["priv", "noprelude"]);
        assert_eq!(invocation.externs[1].path, None);
        assert_eq!(invocation.search_paths[1], SearchPath { kind: "all".into(), path: "/usr/lib".into() });
        assert_eq!(invocation.native_libraries[0].kind.as_deref(), Some("static:+whole-archive"));
        assert_eq!(invocation.link_args, ["-a", "-b", "-c d"]);
        assert_eq!(invocation.lto.as_deref(), Some("true"));
        assert_eq!(invocation.embed_bitcode.as_deref(), Some("no"));
        assert_eq!(invocation.unstable, ["foo"]);
        assert!(invocation.is_unit());
    }

    #[test]
    fn questions_are_told_from_work() {
        let query = |arguments: &[&str]| RustcInvocation::parse(arguments).is_query();
        assert!(query(&["-vV"]));
        assert!(query(&["-", "--crate-name", "___", "--print=file-names", "--crate-type", "lib"]));
        assert!(query(&["--print", "cfg", "x.rs"]));
        assert!(query(&["--version"]));
        assert!(query(&[]));
        // What build scripts try: work, but not a unit.
        let probe = ["--crate-name", "probe", "--crate-type=lib", "--out-dir", "/o", "--emit=llvm-ir", "p.rs"];
        assert!(!query(&probe));
        assert!(!RustcInvocation::parse(&probe).is_unit());
    }

    #[test]
    fn response_files_are_expanded() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("arguments");
        std::fs::write(&file, "--cfg\nfeature=\"a b\"\n").unwrap();
        let arguments = vec!["--test".into(), format!("@{}", file.display()), "@/nowhere".into()];
        assert_eq!(expand_response_files(arguments), ["--test", "--cfg", "feature=\"a b\"", "@/nowhere"]);
    }
}
