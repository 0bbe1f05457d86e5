//! The options of cargo's building commands, and of nextest: by name, with what they mean to the plan.

/// What an option means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Package,
    Exclude,
    Workspace,
    Library,
    AllBinaries,
    Binary,
    AllExamples,
    Example,
    AllTests,
    Test,
    AllBenches,
    Bench,
    AllTargets,
    Doctests,
    Features,
    AllFeatures,
    NoDefaultFeatures,
    Release,
    Debug,
    Profile,
    Target,
    TargetDirectory,
    ManifestPath,
    Config,
    Locked,
    Offline,
    Frozen,
    Unstable,
    Directory,
    Jobs,
    MessageFormat,
    NoRun,
    KeepGoing,
    Verbose,
    Quiet,
    Color,
    NoDependencies,
    DocumentPrivateItems,
    /// It has no effect on what is built.
    Nothing,
    /// The same, and it has a value.
    NothingWithValue,
}

/// What follows an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing.
    None,
    /// A value.
    Required,
}

impl Meaning {
    pub(super) fn value(self) -> Value {
        match self {
            Self::Package | Self::Exclude | Self::Binary | Self::Example | Self::Test | Self::Bench => Value::Required,
            Self::Features | Self::Profile | Self::Target | Self::TargetDirectory | Self::ManifestPath => {
                Value::Required
            }
            Self::Config | Self::Unstable | Self::Directory | Self::Jobs | Self::MessageFormat | Self::Color => {
                Value::Required
            }
            Self::NothingWithValue => Value::Required,
            _ => Value::None,
        }
    }
}

/// The option that all cargo commands know, or that the building ones share, by its name without dashes.
pub(super) fn shared(name: &str) -> Option<Meaning> {
    Some(match name {
        "p" | "package" => Meaning::Package,
        "workspace" | "all" => Meaning::Workspace,
        "exclude" => Meaning::Exclude,
        "lib" => Meaning::Library,
        "bins" => Meaning::AllBinaries,
        "bin" => Meaning::Binary,
        "examples" => Meaning::AllExamples,
        "example" => Meaning::Example,
        "tests" => Meaning::AllTests,
        "test" => Meaning::Test,
        "benches" => Meaning::AllBenches,
        "bench" => Meaning::Bench,
        "all-targets" => Meaning::AllTargets,
        "F" | "features" => Meaning::Features,
        "all-features" => Meaning::AllFeatures,
        "no-default-features" => Meaning::NoDefaultFeatures,
        "r" | "release" => Meaning::Release,
        "profile" => Meaning::Profile,
        "target" => Meaning::Target,
        "target-dir" => Meaning::TargetDirectory,
        "manifest-path" => Meaning::ManifestPath,
        "config" => Meaning::Config,
        "locked" => Meaning::Locked,
        "offline" => Meaning::Offline,
        "frozen" => Meaning::Frozen,
        "Z" => Meaning::Unstable,
        "C" => Meaning::Directory,
        "j" | "jobs" => Meaning::Jobs,
        "message-format" => Meaning::MessageFormat,
        "keep-going" => Meaning::KeepGoing,
        "v" | "verbose" => Meaning::Verbose,
        "q" | "quiet" => Meaning::Quiet,
        "color" => Meaning::Color,
        "ignore-rust-version" | "future-incompat-report" => Meaning::Nothing,
        _ => return None,
    })
}

/// `-Z` flags under which the same units are built.
const HARMLESS_UNSTABLE: &[&str] = &[
    "unstable-options",
    "build-dir-new-layout",
    "no-index-update",
    "gitoxide",
    "git",
    "section-timings",
    "fine-grain-locking",
    "build-analysis",
    "next-lockfile-bump",
    // The specification's content is in the plan.
    "json-target-spec",
];

/// The options of `cargo nextest run`, `list` and `archive` that are nextest's own, with whether they have a value.
/// What is not here is asked of [`shared`].
pub(super) fn nextest(name: &str) -> Option<Meaning> {
    Some(match name {
        "cargo-profile" => Meaning::Profile,
        "build-jobs" => Meaning::Jobs,
        "cargo-message-format" => Meaning::MessageFormat,
        "cargo-quiet" => Meaning::Quiet,
        "cargo-verbose" => Meaning::Verbose,
        "profile"
        | "P"
        | "config-file"
        | "tool-config-file"
        | "filter-expr"
        | "E"
        | "filterset"
        | "partition"
        | "run-ignored"
        | "platform-filter"
        | "test-threads"
        | "j"
        | "jobs"
        | "retries"
        | "flaky-result"
        | "max-fail"
        | "failure-output"
        | "success-output"
        | "status-level"
        | "final-status-level"
        | "show-progress"
        | "max-progress-running"
        | "message-format"
        | "T"
        | "message-format-version"
        | "archive-file"
        | "archive-format"
        | "zstd-level"
        | "list-type"
        | "user-config-file"
        | "no-tests"
        | "override-version-check"
        | "debugger"
        | "tracer"
        | "stress-count"
        | "stress-duration"
        | "rerun" => Meaning::NothingWithValue,
        "no-capture"
        | "nocapture"
        | "fail-fast"
        | "ff"
        | "no-fail-fast"
        | "nff"
        | "hide-progress-bar"
        | "no-output-indent"
        | "ignore-default-filter"
        | "no-run"
        | "no-input-handler"
        | "verbose"
        | "v"
        | "no-pager" => Meaning::Nothing,
        // These run what was built elsewhere.
        "binaries-metadata" | "cargo-metadata" | "archive" | "extract-to" | "target-dir-remap" => return None,
        _ => return shared(name),
    })
}

/// Whether the same units are built with this `-Z` flag as without.
pub(crate) fn is_harmless_unstable(name: &str) -> bool {
    HARMLESS_UNSTABLE.contains(&name)
}
