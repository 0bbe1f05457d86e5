//! `serve`: runs the binary cache server, and looks after its tokens and its garbage. The server itself is the crate
//! `nixcache-server`; here are its options, its signals and its lines on standard error.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use nixcache_core::nix::{PublicKey, SecretKey, TrustedKeys};
use nixcache_server::{
    Event, Limits, Location, Options, Owner, Retention, Scope, Server, Signing, Sink, TlsFiles, TokenFile, TokenName,
    UpstreamUrl, UpstreamUrlError, Upstreams,
};

use super::print;
use crate::exit;
use crate::report::{Report, bytes};
use crate::settings::{SettingsError, parse_size};

/// `cargo nixcache serve`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Serve {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    keeping: Keeping,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", env = "NIXCACHE_SERVE_LISTEN")]
    listen: SocketAddr,
    /// Speak TLS with the certificate in FILE (PEM, with its chain); a renewed one counts at once
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "NIXCACHE_SERVE_TLS_CERTIFICATE")]
    tls_certificate: Option<Utf8PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate", env = "NIXCACHE_SERVE_TLS_KEY")]
    tls_key: Option<Utf8PathBuf>,
    /// The file of tokens (see `serve token add`); without it nobody may upload
    #[arg(long, value_name = "FILE", env = "NIXCACHE_SERVE_TOKENS")]
    tokens: Option<Utf8PathBuf>,
    /// Reading needs a token too
    #[arg(long, requires = "tokens", env = "NIXCACHE_SERVE_PRIVATE")]
    private: bool,
    /// Clients ask caches with lower numbers first
    #[arg(long, value_name = "N", default_value_t = 30, env = "NIXCACHE_SERVE_PRIORITY")]
    priority: u32,
    /// Sign every narinfo that is uploaded with the secret key in FILE
    #[arg(long, value_name = "FILE", env = "NIXCACHE_SERVE_SIGNING_KEY")]
    signing_key: Option<Utf8PathBuf>,
    /// Take only narinfos signed by this public key (NAME:BASE64), or another one given so
    #[arg(long = "trusted-key", value_name = "KEY", value_delimiter = ' ', env = "NIXCACHE_SERVE_TRUSTED_KEYS")]
    trusted_keys: Vec<PublicKey>,
    /// Ask this cache for what isn't here, and keep what it gives; several are asked in this order
    #[arg(long = "upstream", value_name = "URL", value_delimiter = ' ', requires = "upstream_keys")]
    #[arg(env = "NIXCACHE_SERVE_UPSTREAMS", hide_env_values = true)]
    upstreams: Vec<String>,
    /// Take only what this public key (NAME:BASE64) has signed from the upstreams, or another one given so
    #[arg(long = "upstream-key", value_name = "KEY", value_delimiter = ' ', env = "NIXCACHE_SERVE_UPSTREAM_KEYS")]
    upstream_keys: Vec<PublicKey>,
    /// The largest NAR that is taken, decompressed
    #[arg(long, value_name = "SIZE", default_value = "16GiB", env = "NIXCACHE_SERVE_NAR_SIZE")]
    nar_size: String,
    /// How long a request without a NAR may take; garbage collection in a bucket waits for twice as long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    #[arg(env = "NIXCACHE_SERVE_REQUEST_TIME")]
    request_time: Duration,
    /// Connections at once; others wait
    #[arg(long, value_name = "N", default_value_t = 512, env = "NIXCACHE_SERVE_CONNECTIONS")]
    connections: usize,
    /// Collect garbage this often, such as 1d
    #[arg(long, value_name = "TIME", value_parser = parse_time, env = "NIXCACHE_SERVE_GC_EVERY")]
    gc_every: Option<Duration>,
    /// Write no line for each request
    #[arg(long, env = "NIXCACHE_SERVE_NO_ACCESS_LOG")]
    no_access_log: bool,
    #[command(subcommand)]
    command: Option<ServeCommand>,
}

/// Where the files are.
#[derive(Debug, Args)]
struct Place {
    /// Where the cache's files are: a directory, or s3://BUCKET?region=…&endpoint=… (keys from AWS_* variables)
    #[arg(long, value_name = "DIR or URL", required = true, env = "NIXCACHE_SERVE_DATA")]
    #[arg(hide_env_values = true)]
    data: Option<String>,
}

/// What garbage collection keeps.
#[derive(Debug, Args)]
struct Keeping {
    /// Garbage collection drops what was not used for longest until all NARs together fit this size
    #[arg(long, value_name = "SIZE", env = "NIXCACHE_SERVE_KEEP_SIZE")]
    keep_size: Option<String>,
    /// Garbage collection drops what was not used for this long, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_time, env = "NIXCACHE_SERVE_KEEP_TIME")]
    keep_time: Option<Duration>,
    /// Garbage collection leaves what is younger: uploads may be under way
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_time, env = "NIXCACHE_SERVE_GRACE")]
    grace: Duration,
}

impl Keeping {
    fn retention(&self) -> Result<Retention, SettingsError> {
        let size = self.keep_size.as_deref().map(parse_size).transpose()?;
        Ok(Retention { size, age: self.keep_time, grace: self.grace })
    }
}

#[derive(Debug, Subcommand)]
enum ServeCommand {
    /// Look after the tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Collect garbage of a cache that no server runs on (a running one does it with --gc-every, or when asked)
    Gc {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        keeping: Keeping,
        /// Only show what would be dropped
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and show it this one time
    Add {
        /// What it is called in the file and in logs
        name: TokenName,
        /// What it allows: read, write or admin; each holds the ones before it
        #[arg(long, default_value = "read")]
        scope: Scope,
        /// The file of tokens
        #[arg(long, value_name = "FILE", env = "NIXCACHE_SERVE_TOKENS")]
        tokens: Utf8PathBuf,
    },
    /// Make a token invalid
    Remove {
        /// What it is called
        name: TokenName,
        /// The file of tokens
        #[arg(long, value_name = "FILE", env = "NIXCACHE_SERVE_TOKENS")]
        tokens: Utf8PathBuf,
    },
    /// Show the names and scopes of all tokens
    List {
        /// The file of tokens
        #[arg(long, value_name = "FILE", env = "NIXCACHE_SERVE_TOKENS")]
        tokens: Utf8PathBuf,
    },
}

/// Why the server can't be started.
#[derive(Debug, thiserror::Error)]
enum ServeCommandError {
    #[error("use --data")]
    Location {
        #[source]
        source: nixcache_server::LocationError,
    },
    #[error("use --upstream, URL number {number}")]
    Upstream {
        number: usize,
        #[source]
        source: UpstreamUrlError,
    },
    #[error("use the size in the options")]
    Size {
        #[source]
        source: SettingsError,
    },
    #[error("read the signing key {path}")]
    KeyFile {
        path: Utf8PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("use the signing key {path}")]
    Key {
        path: Utf8PathBuf,
        #[source]
        source: nixcache_core::nix::signature::KeyError,
    },
    #[error("start the server")]
    Server {
        #[source]
        source: nixcache_server::ServeError,
    },
    #[error("{action}")]
    System {
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error("change the tokens")]
    Token {
        #[source]
        source: nixcache_server::TokenError,
    },
    #[error("there is no token {name}")]
    NoToken { name: TokenName },
    #[error("collect garbage")]
    Collect {
        #[source]
        source: nixcache_server::CollectError,
    },
}

/// Runs `serve` and its commands.
pub(crate) fn run(serve: &Serve) -> ExitCode {
    let done = match &serve.command {
        None => run_server(serve),
        Some(ServeCommand::Token(command)) => token(command),
        Some(ServeCommand::Gc { place, keeping, dry_run }) => gc(place, keeping, *dry_run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Report::new(false, false, None).error(&error, None);
            ExitCode::from(match error {
                ServeCommandError::Location { .. }
                | ServeCommandError::Upstream { .. }
                | ServeCommandError::Size { .. }
                | ServeCommandError::KeyFile { .. }
                | ServeCommandError::Key { .. }
                | ServeCommandError::NoToken { .. } => exit::USAGE,
                _ => exit::SERVE,
            })
        }
    }
}

fn run_server(serve: &Serve) -> Result<(), ServeCommandError> {
    let mut options = Options::new(location(&serve.place)?);
    options.tls = match (&serve.tls_certificate, &serve.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }),
        _ => None,
    };
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    options.tokens = serve.tokens.clone();
    options.private = serve.private;
    options.priority = serve.priority;
    options.signing = Signing {
        trusted_keys: serve.trusted_keys.iter().cloned().collect::<TrustedKeys>(),
        key: serve.signing_key.as_deref().map(read_key).transpose()?,
    };
    options.upstreams =
        Upstreams { urls: upstreams(&serve.upstreams)?, keys: serve.upstream_keys.iter().cloned().collect() };
    options.retention = serve.keeping.retention().map_err(|source| ServeCommandError::Size { source })?;
    options.collect_every = serve.gc_every;
    let nar_bytes = parse_size(&serve.nar_size).map_err(|source| ServeCommandError::Size { source })?;
    options.limits = Limits {
        nar_bytes,
        file_bytes: nar_bytes,
        connections: serve.connections,
        request_time: serve.request_time,
        ..Limits::default()
    };
    options.sink = sink(!serve.no_access_log);
    runtime()?.block_on(async {
        let server = new_server(options)?;
        server.check().await.map_err(|source| ServeCommandError::Server { source })?;
        let listener = tokio::net::TcpListener::bind(serve.listen).await;
        let listener = listener.map_err(|source| failed(format!("listen on {}", serve.listen), source))?;
        let address = listener.local_addr().map_err(|source| failed("ask for the address", source))?;
        let shutdown = shutdown()?;
        Report::new(false, false, None).status("Serving", &format!("{scheme}://{address}"));
        server.serve(listener, shutdown).await;
        Ok(())
    })
}

fn new_server(options: Options) -> Result<Server, ServeCommandError> {
    let settings: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("AWS_"))
        .collect();
    Server::new(options, &settings).map_err(|source| ServeCommandError::Server { source })
}

fn location(place: &Place) -> Result<Location, ServeCommandError> {
    let data = place.data.as_deref().expect("the option is required where this is asked");
    data.parse().map_err(|source| ServeCommandError::Location { source })
}

/// Reads the URLs here and not where the options are read, for that shows what it can't read, with a password that may be
/// in it.
fn upstreams(texts: &[String]) -> Result<Vec<UpstreamUrl>, ServeCommandError> {
    let read = |(number, text): (usize, &String)| {
        text.parse().map_err(|source| ServeCommandError::Upstream { number, source })
    };
    (1..).zip(texts).map(read).collect()
}

fn read_key(path: &Utf8Path) -> Result<SecretKey, ServeCommandError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ServeCommandError::KeyFile { path: path.to_owned(), source })?;
    SecretKey::parse(&text).map_err(|source| ServeCommandError::Key { path: path.to_owned(), source })
}

fn runtime() -> Result<tokio::runtime::Runtime, ServeCommandError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| failed("start the threads of the server", source))
}

fn failed(action: impl Into<String>, source: std::io::Error) -> ServeCommandError {
    ServeCommandError::System { action: action.into(), source }
}

/// Done when the server is told to stop: SIGTERM from a service manager, SIGINT from a terminal.
#[cfg(unix)]
fn shutdown() -> Result<impl Future<Output = ()>, ServeCommandError> {
    use tokio::signal::unix::{SignalKind, signal};
    let watch = |kind| signal(kind).map_err(|source| failed("watch for signals", source));
    let (mut terminate, mut interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn shutdown() -> Result<impl Future<Output = ()>, ServeCommandError> {
    Ok(async {
        // Without a handler the system ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Lines on standard error, one write each, so that they don't mix.
fn sink(access_log: bool) -> Sink {
    Sink::new(move |event| {
        let line = match event {
            Event::Request(_) if !access_log => return,
            Event::Request(request) => format!("{request}\n"),
            Event::Trouble(text) => format!("warning: {text}\n"),
            Event::Note(text) => format!("note: {text}\n"),
        };
        // Nobody reads a closed standard error.
        let _ = std::io::stderr().write_all(line.as_bytes());
    })
}

fn token(command: &TokenCommand) -> Result<(), ServeCommandError> {
    let wrong = |source| ServeCommandError::Token { source };
    match command {
        TokenCommand::Add { name, scope, tokens } => {
            let added = TokenFile::change(tokens, |file| file.add(name.clone(), *scope));
            let (token, owner) = added.map_err(wrong)?;
            tell_owner(owner, tokens);
            print(token.reveal());
            Report::new(false, false, None).status("Added", &format!("{name} ({scope}); the token is not shown again"));
        }
        TokenCommand::Remove { name, tokens } => {
            let removed = TokenFile::change(tokens, |file| Ok(file.remove(name)));
            let (was_there, owner) = removed.map_err(wrong)?;
            if !was_there {
                return Err(ServeCommandError::NoToken { name: name.clone() });
            }
            tell_owner(owner, tokens);
            Report::new(false, false, None).status("Removed", &name.to_string());
        }
        TokenCommand::List { tokens } => {
            for (name, scope) in TokenFile::read(tokens).map_err(wrong)?.iter() {
                print(&format!("{scope:<5}  {name}"));
            }
        }
    }
    Ok(())
}

/// Says so if a server of another user may not be able to read the file any more: then no token counts for it.
fn tell_owner(owner: Owner, tokens: &Utf8Path) {
    if owner == Owner::Changed {
        let warning = format!("{tokens} belongs to you now: see to it that the server's user can read it");
        Report::new(false, false, None).warning(&warning);
    }
}

fn gc(place: &Place, keeping: &Keeping, dry_run: bool) -> Result<(), ServeCommandError> {
    let mut options = Options::new(location(place)?);
    options.retention = keeping.retention().map_err(|source| ServeCommandError::Size { source })?;
    options.sink = sink(false);
    let report = runtime()?.block_on(async {
        let server = new_server(options)?;
        server.collect(dry_run).await.map_err(|source| ServeCommandError::Collect { source })
    })?;
    let word = if dry_run { "Would drop" } else { "Dropped" };
    let line = format!(
        "{} of {} paths and {} NARs: {} → {}",
        report.dropped_paths,
        report.paths,
        report.dropped_nars,
        bytes(report.bytes_before),
        bytes(report.bytes_after)
    );
    Report::new(false, false, None).status(word, &line);
    Ok(())
}

/// Reads `90s`, `30m`, `12h`, `30d`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: write a number and s, m, h or d");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = match text[digits.len()..].trim() {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        serve: Serve,
    }

    #[test]
    fn what_may_be_secret_in_options_is_never_shown() {
        use clap::{CommandFactory as _, Parser as _};
        let key = "cache-1:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=";
        let data = tempfile::tempdir().unwrap();
        let good = data.path().to_str().unwrap();
        for (data, upstream) in [
            ("s3://AK:sesame@bucket", "https://cache.example.org"),
            ("https://AK:sesame@bucket", "https://cache.example.org"),
            (good, "https://cache.example.org https://user:sesame@cache.example.org"),
            (good, "https://cache.example.org?token=sesame"),
        ] {
            let options = ["serve", "--data", data, "--upstream", upstream, "--upstream-key", key];
            let program = Program::try_parse_from(options).expect("what is wrong is said later");
            let error = run_server(&program.serve).unwrap_err();
            let text = nixcache_core::error_chain::chain(&error);
            assert!(text.contains("use --") && !text.contains("sesame"), "{text}");
        }
        let command = Program::command();
        for option in ["data", "upstreams"] {
            let option = command.get_arguments().find(|argument| argument.get_id() == option).unwrap();
            assert!(option.is_hide_env_values_set(), "{option}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse_time("30d"), Ok(Duration::from_secs(30 * 24 * 60 * 60)));
        assert_eq!(parse_time("12 h"), Ok(Duration::from_secs(12 * 60 * 60)));
        assert_eq!(parse_time("0s"), Ok(Duration::ZERO));
        for wrong in ["", "d", "30", "-1d", "1.5h", "3 weeks", "99999999999999999d"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
