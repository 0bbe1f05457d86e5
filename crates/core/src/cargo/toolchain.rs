//! The compiler and the cargo of a build: where they are, what they are, what they say about the platforms.
//!
//! Asking costs 30 to 50 ms for every process, so a [`Toolchain`] can be kept: it is serialisable, and
//! [`ToolchainIdentity`] says for which files and questions it holds.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use cargo_platform::Cfg;
use serde::{Deserialize, Serialize};

use super::arguments::CargoCommand;
use super::config::BuildConfiguration;
use crate::environment::Environment;

/// Why there is no toolchain.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// A program is nowhere.
    #[error("find {0}")]
    NotFound(String),
    /// A program could not be started.
    #[error("start {program}")]
    Spawn {
        /// The program.
        program: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program refused.
    #[error("{program} {arguments} exited with {status}")]
    Refused {
        /// The program.
        program: Utf8PathBuf,
        /// Its arguments.
        arguments: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A program said something that we do not understand.
    #[error("understand what {program} says of {what}")]
    Unexpected {
        /// The program.
        program: Utf8PathBuf,
        /// About what.
        what: &'static str,
    },
    /// A file cannot be looked at.
    #[error("look at {path}")]
    Metadata {
        /// The file.
        path: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What a kept [`Toolchain`] holds for: the programs by path, size and time, and the flags it was asked with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolchainIdentity {
    /// The compiler.
    pub rustc: FileIdentity,
    /// Cargo.
    pub cargo: FileIdentity,
    /// Everything that the answers depend on: the targets and the flags of the configuration.
    pub questions: Vec<String>,
}

/// A file, as far as a look at it tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// How long it is.
    pub size: u64,
    /// When it was written: nanoseconds since 1970.
    pub modified: i128,
}

/// A compiler and a cargo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// The compiler itself, no proxy.
    pub rustc: Utf8PathBuf,
    /// `rustc -vV`
    pub verbose_version: String,
    /// The host triple.
    pub host: String,
    /// The release: `1.95.0`, `1.97.0-nightly`.
    pub release: String,
    /// The commit, where rustc knows it.
    pub commit_hash: Option<String>,
    /// `rustc --print sysroot`
    pub sysroot: Utf8PathBuf,
    /// Cargo itself, no proxy.
    pub cargo: Utf8PathBuf,
    /// `cargo -vV`
    pub cargo_version: String,
    /// What `rustc --print cfg` says, by short target name; the host of the build has the empty name.
    cfgs: BTreeMap<String, String>,
}

/// A release channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Stable.
    Stable,
    /// Beta.
    Beta,
    /// Nightly.
    Nightly,
    /// Built from source.
    Dev,
}

/// The programs of a toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The compiler.
    pub rustc: Utf8PathBuf,
    /// Cargo.
    pub cargo: Utf8PathBuf,
}

impl Programs {
    /// Finds the programs that a cargo started in this environment uses, past the proxies of rustup: a proxy costs
    /// time, and it looks the same whichever toolchain it stands for. Below `cargo nixcache` no process is started
    /// for this; elsewhere a proxy is asked once.
    ///
    /// # Errors
    ///
    /// When there is no compiler or no cargo.
    pub fn find(environment: &Environment, config: &BuildConfiguration) -> Result<Self, ToolchainError> {
        let find = |name: &str| search(environment, name).ok_or_else(|| ToolchainError::NotFound(name.to_owned()));
        let rustc = match &config.rustc {
            Some(rustc) if rustc.is_absolute() => rustc.clone(),
            Some(rustc) => find(rustc.as_str())?,
            None => find("rustc")?,
        };
        let cargo = match environment.get_str("CARGO").map(Utf8PathBuf::from) {
            Some(cargo) if cargo.is_absolute() => cargo,
            _ => find("cargo")?,
        };
        let rustup = search(environment, "rustup").and_then(|rustup| std::fs::metadata(rustup).ok());
        // Proxies are links to rustup, or copies of it: cargo tells them by their length, too.
        let is_proxy = |path: &Utf8Path| {
            let length = std::fs::metadata(path).map(|metadata| metadata.len()).ok();
            length.is_some() && length == rustup.as_ref().map(std::fs::Metadata::len)
        };
        let (rustc_is_proxy, cargo_is_proxy) = (is_proxy(&rustc), is_proxy(&cargo));
        if !rustc_is_proxy && !cargo_is_proxy {
            return Ok(Self { rustc, cargo });
        }
        let toolchain = match rustup_toolchain(environment) {
            Some(toolchain) => toolchain,
            None => {
                let proxy = if rustc_is_proxy { rustc.clone() } else { find("rustc")? };
                let sysroot = run(&proxy, &["--print=sysroot".to_owned()], config.current_dir(), environment)?;
                Utf8PathBuf::from(sysroot.trim_end())
            }
        };
        let direct = |name: &str, is_proxy: bool, proxy: Utf8PathBuf| {
            let path = toolchain.join("bin").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
            if is_proxy && path.is_file() { path } else { proxy }
        };
        Ok(Self { rustc: direct("rustc", rustc_is_proxy, rustc), cargo: direct("cargo", cargo_is_proxy, cargo) })
    }
}

impl Toolchain {
    /// What a kept toolchain must have been asked to serve this build.
    ///
    /// # Errors
    ///
    /// When a program cannot be looked at.
    pub fn identity(
        programs: &Programs,
        environment: &Environment,
        config: &BuildConfiguration,
        command: &CargoCommand,
    ) -> Result<ToolchainIdentity, ToolchainError> {
        // What decides the flags is in the configuration's own words; without a host triple yet, the tables of all
        // platforms count.
        let mut questions = config.toolchain_questions(command);
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUSTC_BOOTSTRAP"] {
            let value = environment.get(name).map(|value| value.to_string_lossy());
            questions.push(format!("{name}={value:?}"));
        }
        Ok(ToolchainIdentity {
            rustc: FileIdentity::of(&programs.rustc)?,
            cargo: FileIdentity::of(&programs.cargo)?,
            questions,
        })
    }

    /// Asks the compiler and cargo.
    ///
    /// # Errors
    ///
    /// When one of them does not answer.
    pub fn discover(
        programs: &Programs,
        environment: &Environment,
        config: &BuildConfiguration,
        command: &CargoCommand,
    ) -> Result<Self, ToolchainError> {
        let current_dir = config.current_dir();
        let ask = |program: &Utf8Path, arguments: &[String]| run(program, arguments, current_dir, environment);
        let verbose_version = ask(&programs.rustc, &["-vV".to_owned()])?;
        let unexpected = |what| ToolchainError::Unexpected { program: programs.rustc.clone(), what };
        let host = field(&verbose_version, "host").ok_or_else(|| unexpected("host"))?.to_owned();
        let release = field(&verbose_version, "release").ok_or_else(|| unexpected("release"))?.to_owned();
        let commit_hash = field(&verbose_version, "commit-hash").filter(|hash| *hash != "unknown").map(str::to_owned);
        let requested = config.requested_targets(command, &host);
        let mut cfgs = BTreeMap::new();
        let mut sysroot = None;
        let kinds = std::iter::once(None).chain(requested.iter().map(Some));
        for target in kinds {
            let name = target.map_or(host.as_str(), |target| target.name.as_str());
            let is_bare_host = target.is_none() && !requested.is_empty();
            let ask_with = |flags: &[String]| {
                let mut arguments = flags.to_vec();
                if let Some(target) = target {
                    arguments.extend(["--target".to_owned(), target.argument.clone()]);
                    if target.specification.is_some() {
                        arguments.push("-Zunstable-options".to_owned());
                    }
                }
                arguments.extend(["--print=sysroot", "--print=cfg"].map(str::to_owned));
                ask(&programs.rustc, &arguments)
            };
            let flags = config.flags(name, &[], is_bare_host).rustflags;
            let mut answer = ask_with(&flags)?;
            // The flags can depend on the `cfg`s, and these on the flags; as cargo does, ask twice at most.
            let of_cfgs = config.flags(name, &parse_cfgs(&answer), is_bare_host).rustflags;
            if of_cfgs != flags {
                answer = ask_with(&of_cfgs)?;
            }
            let (first, rest) = answer.split_once('\n').ok_or_else(|| unexpected("cfg"))?;
            if target.is_none() {
                sysroot = Some(Utf8PathBuf::from(first.trim_end()));
            }
            cfgs.insert(target.map_or(String::new(), |target| target.name.clone()), rest.to_owned());
        }
        let sysroot = sysroot.ok_or_else(|| unexpected("sysroot"))?;
        let cargo_version = ask(&programs.cargo, &["-vV".to_owned()])?;
        Ok(Self {
            rustc: programs.rustc.clone(),
            verbose_version,
            host,
            release,
            commit_hash,
            sysroot,
            cargo: programs.cargo.clone(),
            cargo_version,
            cfgs,
        })
    }

    /// The channel of the compiler.
    pub fn channel(&self) -> Channel {
        match self.release.split_once('-').map(|(_, channel)| channel) {
            None => Channel::Stable,
            Some(channel) if channel.starts_with("beta") => Channel::Beta,
            Some(channel) if channel.starts_with("nightly") => Channel::Nightly,
            Some(_) => Channel::Dev,
        }
    }

    /// Cargo's release: `1.95.0`.
    pub fn cargo_release(&self) -> Option<&str> {
        field(&self.cargo_version, "release")
    }

    /// What rustc says about the host, one `cfg` a line.
    pub fn host_cfg(&self) -> Option<&str> {
        self.cfgs.get("").map(String::as_str)
    }

    /// What rustc says about a target, by short name.
    pub fn target_cfg(&self, name: &str) -> Option<&str> {
        self.cfgs.get(name).map(String::as_str)
    }
}

impl FileIdentity {
    /// Looks at a file, through symbolic links.
    ///
    /// # Errors
    ///
    /// When it cannot be looked at.
    pub fn of(path: &Utf8Path) -> Result<Self, ToolchainError> {
        let wrong = |source| ToolchainError::Metadata { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(wrong)?;
        let modified = metadata.modified().map_err(wrong)?;
        let modified = match modified.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
            Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
        };
        Ok(Self { path: path.to_owned(), size: metadata.len(), modified })
    }
}

fn parse_cfgs(answer: &str) -> Vec<Cfg> {
    answer.lines().skip(1).filter_map(|line| Cfg::from_str(line).ok()).collect()
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The directory of the toolchain that rustup has chosen, as its proxies tell the programs that they start.
fn rustup_toolchain(environment: &Environment) -> Option<Utf8PathBuf> {
    let name = environment.get_str("RUSTUP_TOOLCHAIN")?;
    let path = Utf8PathBuf::from(name);
    if path.is_absolute() {
        return Some(path);
    }
    let home = match environment.get_str("RUSTUP_HOME") {
        Some(home) => Utf8PathBuf::from(home),
        None => Utf8PathBuf::from(environment.get_str("HOME")?).join(".rustup"),
    };
    Some(home.join("toolchains").join(name)).filter(|path| path.is_dir())
}

fn search(environment: &Environment, name: &str) -> Option<Utf8PathBuf> {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(environment.get("PATH")?)
        .filter_map(|directory| Utf8PathBuf::from_path_buf(directory).ok())
        .map(|directory| directory.join(&name))
        .find(|path| path.is_file())
}

fn run(
    program: &Utf8Path,
    arguments: &[String],
    current_dir: &Utf8Path,
    environment: &Environment,
) -> Result<String, ToolchainError> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(current_dir)
        .env_clear()
        .envs(environment.iter())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|source| ToolchainError::Spawn { program: program.to_owned(), source })?;
    if !output.status.success() {
        let arguments = arguments.join(" ");
        return Err(ToolchainError::Refused { program: program.to_owned(), arguments, status: output.status });
    }
    String::from_utf8(output.stdout)
        .map_err(|_| ToolchainError::Unexpected { program: program.to_owned(), what: "anything" })
}
