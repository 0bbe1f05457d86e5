//! `nif`: NIFs are built once, published, and fetched by `nixcache.lock`. One file for each command; what several of
//! them need is here, in `records` (what was published under a name) and in `files` (libraries on this machine).
//!
//! `build` and `publish` need cargo. The others need neither cargo nor Rust nor Nix.

mod build;
mod checksums;
mod fetch;
mod files;
mod list;
mod lock;
mod manifests;
mod publish;
mod records;

use std::ffi::OsString;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Args, Subcommand, ValueEnum};
use nixcache_core::artifact::binary_facts::LibraryVersion;
use nixcache_core::nif::{
    InspectError, LockError, MemberError, ModuleName, NifCrate, NifNameError, NifNamespace, NifRelease, NifTarget,
    NifVariant, NifVersion, OutputError,
};
use nixcache_core::store::StoreError;

use crate::caches::CachesError;
use crate::exit;
use crate::report::Report;
use crate::settings::Settings;

/// What to do about NIFs.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum NifCommand {
    /// Build the NIFs of this workspace, and check that Erlang can load them
    Build(BuildArguments),
    /// Build the NIFs and publish them to every cache
    Publish(PublishArguments),
    /// Write into nixcache.lock what was published
    Lock(LockArguments),
    /// Put the NIFs of nixcache.lock where Erlang loads them from
    Fetch(FetchArguments),
    /// Write RustlerPrecompiled's checksum file
    Checksums(ChecksumArguments),
    /// List the NIFs of nixcache.lock
    List(ListArguments),
}

/// Which NIFs to build, and for what.
#[derive(Clone, Debug, Args)]
pub(crate) struct BuildArguments {
    /// The package to build [default: every member with a cdylib that depends on rustler]
    #[arg(short, long = "package", value_name = "CRATE")]
    packages: Vec<String>,
    /// Build for this target triple; several can be given [default: this machine's]
    #[arg(long = "target", value_name = "TRIPLE")]
    targets: Vec<NifTarget>,
    /// The oldest NIF version that must load it: 2.15 is OTP 22, 2.16 OTP 24, 2.17 OTP 26
    #[arg(long, value_name = "VERSION", default_value_t)]
    nif_version: NifVersion,
    /// The name of this variant, where there are several for a target
    #[arg(long, value_name = "NAME")]
    variant: Option<NifVariant>,
    /// Refuse a library that needs a newer glibc
    #[arg(long, value_name = "VERSION")]
    max_glibc: Option<LibraryVersion>,
    /// More arguments for cargo build, such as --features and --locked
    #[arg(last = true, value_name = "CARGO ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// What to publish, and as what.
#[derive(Clone, Debug, Args)]
pub(crate) struct PublishArguments {
    #[command(flatten)]
    build: BuildArguments,
    #[command(flatten)]
    naming: Naming,
    /// Write into nixcache.lock what was published
    #[arg(long)]
    lock: bool,
    #[command(flatten)]
    file: LockFile,
}

/// How published NIFs are named.
#[derive(Clone, Debug, Args)]
pub(crate) struct Naming {
    /// Whose NIFs these are, where several teams share a cache
    #[arg(long, value_name = "NAME", default_value_t, env = "NIXCACHE_NIF_NAMESPACE")]
    namespace: NifNamespace,
    /// Put the content of the sources into the version (0.1.0-s1a2b3c4d5e6f), for crates that keep their version
    #[arg(long)]
    source_version: bool,
}

/// Where the lock file is.
#[derive(Clone, Debug, Args)]
pub(crate) struct LockFile {
    /// The lock file
    #[arg(long, value_name = "FILE", default_value = nixcache_core::nif::LOCK_FILE)]
    lock_file: Utf8PathBuf,
}

/// What to lock.
#[derive(Clone, Debug, Args)]
pub(crate) struct LockArguments {
    /// CRATE or CRATE@VERSION [default: what is locked already, or the NIF crates in this directory]
    #[arg(value_name = "CRATE")]
    crates: Vec<CrateSpec>,
    /// Ask for this target too; several can be given [default: those that RustlerPrecompiled has, and the locked ones]
    #[arg(long = "target", value_name = "TRIPLE")]
    targets: Vec<NifTarget>,
    /// Ask for this variant too; several can be given
    #[arg(long = "variant", value_name = "NAME")]
    variants: Vec<NifVariant>,
    #[command(flatten)]
    naming: Naming,
    #[command(flatten)]
    file: LockFile,
}

/// A crate, and perhaps its version.
#[derive(Clone, Debug)]
struct CrateSpec {
    crate_name: NifCrate,
    release: Option<NifRelease>,
}

impl std::str::FromStr for CrateSpec {
    type Err = NifNameError;

    fn from_str(text: &str) -> Result<Self, NifNameError> {
        let (name, release) = text.split_once('@').map_or((text, None), |(name, release)| (name, Some(release)));
        Ok(Self { crate_name: NifCrate::of(name)?, release: release.map(str::parse).transpose()? })
    }
}

/// What to fetch, and where to put it.
#[derive(Clone, Debug, Args)]
pub(crate) struct FetchArguments {
    /// Only these crates
    #[arg(value_name = "CRATE")]
    crates: Vec<NifCrate>,
    /// Where the libraries go [default: priv/native; for --layout precompiled what
    /// RUSTLER_PRECOMPILED_GLOBAL_CACHE_PATH says]
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
    /// How the files are named
    #[arg(long, value_enum, default_value_t)]
    layout: Layout,
    /// Fail if nixcache.lock doesn't fit the sources, in place of writing it anew
    #[arg(long)]
    locked: bool,
    /// Take what is in the store, and in caches that are directories
    #[arg(long)]
    offline: bool,
    /// Fetch the files of every locked target into the store
    #[arg(long)]
    all_targets: bool,
    /// The target triple [default: this machine's]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<NifTarget>,
    /// The NIF version of the virtual machine; the newest one that it can load is taken [default: the oldest one]
    #[arg(long, value_name = "VERSION")]
    nif_version: Option<String>,
    /// The variant
    #[arg(long, value_name = "NAME")]
    variant: Option<NifVariant>,
    #[command(flatten)]
    file: LockFile,
}

/// How files are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// CRATE.so, as rustler has it from 0.37 on
    #[default]
    Rustler,
    /// libCRATE.so, as rustler had it before
    Legacy,
    /// Both names
    Both,
    /// Archives, for RustlerPrecompiled's global cache
    Precompiled,
}

/// For which module.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChecksumArguments {
    /// The Elixir module that uses RustlerPrecompiled, such as MyApp.Native
    #[arg(long, value_name = "MODULE")]
    module: ModuleName,
    /// Only this crate
    #[arg(long = "crate", value_name = "CRATE")]
    crate_name: Option<NifCrate>,
    /// The directory that the file goes to
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: Utf8PathBuf,
    #[command(flatten)]
    file: LockFile,
}

/// How to list.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArguments {
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: LockFile,
}

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
enum NifError {
    /// There is no NIF to build.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// What was built is no NIF that could be published.
    #[error("refuse {nif}")]
    Refused {
        /// Its name.
        nif: String,
        /// Why.
        #[source]
        source: InspectError,
    },
    /// The virtual machine would refuse it, whatever functions it needs.
    #[error("refuse {nif}: rustler is built with `{}`, and OTP before {} does not load that", .feature.feature(), .feature.otp())]
    Feature {
        /// Its name.
        nif: String,
        /// The NIF version that rustler says in the library.
        feature: NifVersion,
    },
    /// Another NIF has this name.
    #[error(
        "publish {nif} to {cache}: another library was published under this name, and what is published never changes"
    )]
    Taken {
        /// Its name.
        nif: String,
        /// The cache.
        cache: String,
    },
    /// The lock file can't be used.
    #[error("use {path}")]
    Lock {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        #[source]
        source: LockError,
    },
    /// The lock file doesn't fit.
    #[error("use {path}: {what}")]
    Stale {
        /// The file.
        path: Utf8PathBuf,
        /// What doesn't fit.
        what: String,
    },
    /// Something was not published, or is no longer there.
    #[error("find {what}")]
    Missing {
        /// What.
        what: String,
    },
    /// It isn't here, and nobody else may be asked.
    #[error("find {what} offline: neither the store nor a cache in a directory has it")]
    Offline {
        /// What.
        what: String,
    },
    /// A cache failed, or what it has is not what it should be.
    #[error("get {what}")]
    Cache {
        /// What was to be had.
        what: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file can't be read or written.
    #[error("use {path}")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What came is not what it should be.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A manifest says what can't be.
    #[error("read {path}: {what}")]
    Manifest {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The arguments don't fit together.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: &'static str,
    },
    /// The caches can't be used.
    #[error(transparent)]
    Caches(#[from] CachesError),
    /// Not everything could be published.
    #[error("publish {nif} to {cache}")]
    Publish {
        /// Its name.
        nif: String,
        /// The cache.
        cache: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Cargo could not be started.
    #[error("start {cargo}")]
    Cargo {
        /// The program.
        cargo: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Cargo failed, and has said why.
    #[error("cargo failed")]
    CargoFailed {
        /// How we end.
        code: ExitCode,
    },
    /// The build can't be planned, so nobody knows where its library is.
    #[error("find what cargo built")]
    Unplanned {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl NifError {
    fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::CargoFailed { code } => return *code,
            Self::Usage { .. } => exit::USAGE,
            Self::Cargo { .. } => exit::CARGO_MISSING,
            Self::Store(_) => exit::STORE,
            Self::Caches(_) | Self::Publish { .. } => exit::CACHES,
            _ => exit::NIF,
        })
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { source: InspectError::NoNifInit { .. }, .. } => {
                Some("if rustler's init! is in its sources, `cargo clean --release -p CRATE` lets cargo build it again")
            }
            Self::Feature { .. } => {
                Some("some package of the workspace turns this feature on: build with --nif-version")
            }
            Self::Taken { .. } => {
                Some("give the crate a new version, or put its sources into the version with --source-version")
            }
            Self::Stale { .. } => Some("`cargo nixcache nif lock` writes it anew, once the NIF is published"),
            Self::Missing { .. } => Some("publish it with `cargo nixcache nif publish`, then lock it"),
            Self::Caches(CachesError::NowhereToFetch) => {
                Some("--cache URL, NIXCACHE_CACHES, or `caches` in your own configuration file")
            }
            _ => None,
        }
    }
}

/// `cargo nixcache nif …`
pub(crate) fn run(settings: &Settings, command: NifCommand) -> ExitCode {
    let report = Report::new(false, false, None);
    let done = match command {
        NifCommand::Build(arguments) => build::run(settings, &arguments, &report),
        NifCommand::Publish(arguments) => publish::run(settings, &arguments, &report),
        NifCommand::Lock(arguments) => lock::run(settings, &arguments, &report),
        NifCommand::Fetch(arguments) => fetch::run(settings, &arguments, &report),
        NifCommand::Checksums(arguments) => checksums::run(&arguments, &report),
        NifCommand::List(arguments) => list::run(settings, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, NifError::CargoFailed { .. }) {
                report.error(&error, error.hint());
            }
            error.code()
        }
    }
}

/// Reads a lock file that must be there.
fn read_lock(path: &camino::Utf8Path) -> Result<nixcache_core::nif::NixcacheLock, NifError> {
    match optional_lock(path)? {
        Some(lock) => Ok(lock),
        None => Err(NifError::Stale { path: path.to_owned(), what: "there is no such file".to_owned() }),
    }
}

/// Reads a lock file, if there is one.
fn optional_lock(path: &camino::Utf8Path) -> Result<Option<nixcache_core::nif::NixcacheLock>, NifError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let lock = nixcache_core::nif::NixcacheLock::parse(&text);
            lock.map(Some).map_err(|source| NifError::Lock { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NifError::File { path: path.to_owned(), source }),
    }
}
