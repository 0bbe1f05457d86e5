//! The command line: our options and commands. What follows a cargo command is cargo's and is not parsed here.

use std::ffi::OsString;

use camino::Utf8PathBuf;
use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use nixcache_core::nix::{KeyName, PublicKey, Sha256, StorePath};

/// The program as cargo runs it: `cargo-nixcache nixcache …`.
#[derive(Debug, Parser)]
#[command(name = "cargo", bin_name = "cargo", styles = STYLES)]
pub(crate) enum Cargo {
    /// Build with cargo; fetch what was built before instead of compiling it again
    Nixcache(Nixcache),
}

const STYLES: clap::builder::Styles = clap::builder::Styles::styled()
    .header(clap::builder::styling::AnsiColor::Green.on_default().bold())
    .usage(clap::builder::styling::AnsiColor::Green.on_default().bold())
    .literal(clap::builder::styling::AnsiColor::Cyan.on_default().bold())
    .placeholder(clap::builder::styling::AnsiColor::Cyan.on_default());

/// `cargo nixcache [OPTIONS] <cargo command> [cargo's own arguments]`
#[derive(Debug, Args)]
#[command(
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    allow_external_subcommands = true,
    override_usage = "cargo nixcache [OPTIONS] <cargo command> [cargo's own arguments]\n       cargo nixcache [OPTIONS] <COMMAND>",
    after_help = "Every other command (build, check, test, clippy, run, doc, bench, rustc, nextest …) is cargo's: \
                  what is cached is put in place first, then cargo runs with the same arguments."
)]
pub(crate) struct Nixcache {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command. Each has a variable, and a key in the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// The local store [default: the platform's cache directory]
    #[arg(long, value_name = "DIR", env = "NIXCACHE_STORE")]
    pub(crate) store: Option<Utf8PathBuf>,
    /// The size that the local store may grow to, such as 20GiB; 0 for no limit
    #[arg(long, value_name = "SIZE", env = "NIXCACHE_STORE_SIZE")]
    pub(crate) store_size: Option<String>,
    /// A cache to fetch from; several, in order, by several options, or as words in the variable
    #[arg(long, value_name = "URL", env = "NIXCACHE_CACHES", hide_env_values = true)]
    pub(crate) cache: Vec<String>,
    /// A cache to publish to; several likewise
    #[arg(long, value_name = "URL", env = "NIXCACHE_PUBLISH", hide_env_values = true)]
    pub(crate) publish: Vec<String>,
    /// A key whose signatures count, as NAME:BASE64; several likewise
    #[arg(long, value_name = "KEY", env = "NIXCACHE_TRUSTED_KEYS")]
    pub(crate) trusted_key: Vec<String>,
    /// The key that signs what is published
    #[arg(long, value_name = "FILE", env = "NIXCACHE_SECRET_KEY_FILE")]
    pub(crate) secret_key_file: Option<Utf8PathBuf>,
    /// How many seconds a build waits for its caches beyond what fetching saves, or `unlimited`
    #[arg(long, value_name = "SECONDS", env = "NIXCACHE_PATIENCE")]
    pub(crate) patience: Option<String>,
    /// Fetch nothing
    #[arg(long, env = "NIXCACHE_NO_FETCH", value_parser = FalseyValueParser::new())]
    pub(crate) no_fetch: bool,
    /// Publish nothing
    #[arg(long, env = "NIXCACHE_NO_PUBLISH", value_parser = FalseyValueParser::new())]
    pub(crate) no_publish: bool,
    /// Use no cache that is not a directory
    #[arg(long, env = "NIXCACHE_OFFLINE", value_parser = FalseyValueParser::new())]
    pub(crate) offline: bool,
    /// Write what happened to FILE, as JSON
    #[arg(long, value_name = "FILE", env = "NIXCACHE_SUMMARY")]
    pub(crate) summary: Option<Utf8PathBuf>,
    /// Plan and resolve, show, stop
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The options above as they are written. After a command they are cargo's, which doesn't know them.
pub(crate) const OWN_OPTIONS: [&str; 12] = [
    "--store",
    "--store-size",
    "--cache",
    "--publish",
    "--trusted-key",
    "--secret-key-file",
    "--patience",
    "--no-fetch",
    "--no-publish",
    "--summary",
    "--dry-run",
    "--json",
];

/// Our own commands; anything else is cargo's.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and keep what does not belong to the workspace, and nothing else
    Deps {
        /// Cargo's command (build, check or clippy) and arguments [default: build]
        #[arg(value_name = "CARGO ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Show the units of a build, their keys, and whether they are in the store
    Plan {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Cargo's command and arguments [default: build]
        #[arg(value_name = "CARGO ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Say why the units of a crate are not in the store: the inputs that differ, by name
    Why {
        /// The name of the crate
        #[arg(value_name = "CRATE")]
        package: String,
        /// Cargo's command and arguments [default: build]
        #[arg(value_name = "CARGO ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Drop what was not used for longest until the store fits its size
    Gc {
        /// Drop everything that is not pinned
        #[arg(long)]
        all: bool,
    },
    /// Check every file of the store against its name
    Verify {
        /// Drop what is damaged
        #[arg(long)]
        repair: bool,
    },
    /// List what the store holds
    List {
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
        /// Only what has this text in its name
        filter: Option<String>,
    },
    /// Count what the store holds
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Publish what the store holds for a build
    Push {
        /// Publish the units in this directory, as a derivation with `collectHook` leaves them, in place of a build's
        #[arg(long, value_name = "DIR")]
        from: Option<Utf8PathBuf>,
        /// Cargo's command and arguments [default: build]
        #[arg(value_name = "CARGO ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Fetch what the caches hold for a build, and build nothing
    Pull {
        /// Cargo's command and arguments [default: build]
        #[arg(value_name = "CARGO ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Make the key that signs what is published, or show the one to give to others
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Trust and use a cache: show its keys, ask, and write your own configuration file
    Use(Box<UseArguments>),
    /// What Nix derivations and the flake helper need
    Nix {
        #[command(subcommand)]
        command: NixCommand,
    },
    /// Pack the target directory as crane's derivations expect it
    Export {
        /// The form
        #[arg(long, value_enum)]
        format: ArchiveFormat,
        /// The directory that gets `target.tar.zst`
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: Utf8PathBuf,
        /// What was imported before: only what differs from it is packed, and the archive goes on from there
        #[arg(long, value_name = "PATH")]
        previous: Option<Utf8PathBuf>,
        /// The target directory [default: cargo's]
        #[arg(long, value_name = "DIR")]
        target_dir: Option<Utf8PathBuf>,
    },
    /// Unpack what a derivation of crane's left into the target directory
    Import {
        /// The form
        #[arg(long, value_enum)]
        format: ArchiveFormat,
        /// The derivation's output, or the archive in it
        #[arg(value_name = "PATH")]
        from: Utf8PathBuf,
        /// The target directory [default: cargo's]
        #[arg(long, value_name = "DIR")]
        target_dir: Option<Utf8PathBuf>,
    },
    /// Show the settings, and where each came from
    Config {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that everything is there that caching needs, and say what is not
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: CompletionShell,
    },
    /// Print the manual page
    Man,
    /// Build NIFs for Elixir and Erlang, publish them, and fetch them without Rust
    Nif {
        #[command(subcommand)]
        command: Box<crate::commands::nif::NifCommand>,
    },
    /// Serve a binary cache to Nix and to cargo nixcache, from a directory or a bucket
    Serve(Box<crate::commands::serve::Serve>),
    /// A command of cargo
    #[command(external_subcommand)]
    Cargo(Vec<OsString>),
}

impl Command {
    /// Whether `--dry-run` means something: commands that only show do the same with it.
    pub(crate) fn has_dry_run(&self) -> bool {
        match self {
            Self::Cargo(_)
            | Self::Deps { .. }
            | Self::Plan { .. }
            | Self::Why { .. }
            | Self::Gc { .. }
            | Self::Use(_)
            | Self::Verify { repair: false }
            | Self::List { .. }
            | Self::Stats { .. }
            | Self::Key { command: KeyCommand::Public }
            | Self::Config { .. }
            | Self::Doctor
            | Self::Completions { .. }
            | Self::Man => true,
            Self::Verify { repair: true }
            | Self::Push { .. }
            | Self::Pull { .. }
            | Self::Key { .. }
            | Self::Nix { .. }
            | Self::Export { .. }
            | Self::Import { .. }
            | Self::Nif { .. }
            | Self::Serve(_) => false,
        }
    }

    /// The command and arguments that cargo would be given.
    pub(crate) fn cargo_arguments(&self) -> Option<&[OsString]> {
        match self {
            Self::Cargo(arguments)
            | Self::Deps { arguments }
            | Self::Push { arguments, .. }
            | Self::Pull { arguments }
            | Self::Plan { arguments, .. }
            | Self::Why { arguments, .. }
            | Self::Nix { command: NixCommand::Lock { arguments, .. } } => Some(arguments),
            _ => None,
        }
    }
}

/// A cache to use, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct UseArguments {
    /// The cache: file:///dir, http(s)://host, s3://bucket, cachix://name, attic://host/cache
    pub(crate) url: String,
    /// A key to trust, as NAME:BASE64; needed where the cache doesn't say which key is its own
    #[arg(long, value_name = "KEY")]
    pub(crate) trusted_key: Vec<PublicKey>,
    /// Publish there too
    #[arg(long)]
    pub(crate) publish: bool,
    /// Let Nix use it too: write the user's nix.conf
    #[arg(long)]
    pub(crate) nix: bool,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What to do for Nix.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum NixCommand {
    /// Write which units derivations may take from caches, by content
    Lock {
        /// The file
        #[arg(long, value_name = "FILE", default_value = "nixcache.lock")]
        file: Utf8PathBuf,
        /// The name that it gets in the file [default: the command and arguments]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Cargo's command and arguments [default: build]
        #[arg(value_name = "CARGO ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Fetch one store path whose content is known
    Fetch {
        /// The path under which it was published
        path: StorePath,
        /// The hash of its NAR
        #[arg(long, value_name = "HASH")]
        nar_hash: Sha256,
        /// Where it goes
        #[arg(long, value_name = "PATH")]
        out: Utf8PathBuf,
        /// Caches to fetch from, before those of the settings
        #[arg(long, value_name = "URL")]
        from: Vec<String>,
    },
    /// Take units into the store that are unpacked in directories
    Import {
        /// The directories, or directories of them
        paths: Vec<Utf8PathBuf>,
        /// A file that names more of them, one a line
        #[arg(long, value_name = "FILE")]
        list: Option<Utf8PathBuf>,
    },
    /// Write the skeleton of a workspace: what decides how its dependencies are compiled, without its sources
    Skeleton {
        /// The directory, which is made
        #[arg(long, value_name = "DIR")]
        out: Utf8PathBuf,
        /// The root of the workspace [default: where the nearest manifest is]
        #[arg(long, value_name = "DIR")]
        root: Option<Utf8PathBuf>,
    },
    /// Unpack all units of the store into a directory
    Export {
        /// The directory
        #[arg(long, value_name = "DIR")]
        out: Utf8PathBuf,
        /// A file that names directories of units that are not wanted, one a line
        #[arg(long, value_name = "FILE")]
        without: Option<Utf8PathBuf>,
    },
}

/// The forms of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// `target.tar.zst`, with a link to the one before it
    Crane,
}

/// What to do about keys.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key in a file that only you can read, and print what others need to trust it
    Generate {
        /// Its name, such as cache.example.org-1
        name: KeyName,
    },
    /// Print what others need to trust the key
    Public,
}

/// The shells whose completion of `cargo` can be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    /// bash
    Bash,
    /// fish
    Fish,
    /// zsh
    Zsh,
}
