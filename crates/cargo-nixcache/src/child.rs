//! The real cargo, run so that nobody notices that we are there: same terminal, same signals, same exit code.

use std::ffi::{OsStr, OsString};
use std::process::{Child, Command, ExitStatus};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::record::RECORDER_VARIABLE;
use nixcache_remote::CacheUrl;

/// Commands that hand `--config` on to what compiles.
const CARGOS_OWN: [&str; 14] =
    ["build", "b", "check", "c", "test", "t", "bench", "run", "r", "doc", "d", "rustc", "rustdoc", "clippy"];

/// Variables of ours that can hold a password, in the URL of a cache.
const CACHE_VARIABLES: [&str; 4] =
    ["NIXCACHE_CACHES", "NIXCACHE_PUBLISH", "NIXCACHE_SERVE_UPSTREAMS", "NIXCACHE_SERVE_DATA"];

/// Whether a list of caches holds a password, or may hold one: it can't be read.
fn may_hold_password(value: &OsStr) -> bool {
    let is_open = |word: &str| word.parse::<CacheUrl>().is_ok_and(|url| !url.has_login());
    value.to_str().is_none_or(|text| !text.split_whitespace().all(is_open))
}

/// How cargo is to be run.
pub(crate) struct CargoCall<'a> {
    /// The program.
    pub(crate) cargo: &'a Utf8Path,
    /// Its arguments, the user's own.
    pub(crate) arguments: &'a [OsString],
    /// What is said to it beside our own environment.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// The recorder and its session, if there is something to compile.
    pub(crate) recorder: Option<(&'a Utf8Path, Utf8PathBuf)>,
    /// The file that its output goes to, if nobody is to see it.
    pub(crate) output: Option<Utf8PathBuf>,
}

impl CargoCall<'_> {
    /// Starts cargo.
    pub(crate) fn start(&self) -> std::io::Result<Running> {
        let mut command = Command::new(self.cargo);
        command.envs(self.variables.iter().copied());
        // A build script can write its environment down, and what it writes is kept and published. What cargo starts
        // needs no caches, unless it calls us itself, for which those without a password are enough.
        for name in CACHE_VARIABLES {
            if std::env::var_os(name).is_some_and(|value| may_hold_password(&value)) {
                command.env_remove(name);
            }
        }
        if let Some(output) = &self.output {
            let output = std::fs::File::create(output)?;
            command.stdout(output.try_clone()?).stderr(output);
        }
        // Ours, if cargo runs inside a build that we recorded.
        command.env_remove(RECORDER_VARIABLE);
        let Some((program, session)) = &self.recorder else {
            command.args(self.arguments);
            return Running::start(&mut command);
        };
        command.env(RECORDER_VARIABLE, session.as_str());
        // As an option it reaches cargo alone, and not the tests and programs that cargo starts. It cannot be one
        // where the user's own variable would win over it, or where the command is not cargo's own.
        let (first, rest) = self.arguments.split_at(self.arguments.len().min(1));
        let is_own = first.iter().any(|first| first.to_str().is_some_and(|first| CARGOS_OWN.contains(&first)));
        if is_own && std::env::var_os("RUSTC_WRAPPER").is_none() {
            let wrapper = format!("build.rustc-wrapper={}", toml::Value::String(program.to_string()));
            command.args(first).arg("--config").arg(wrapper).args(rest);
        } else {
            command.args(self.arguments).env("RUSTC_WRAPPER", program.as_str());
        }
        Running::start(&mut command)
    }
}

/// A running cargo. Signals that ask us to end are left to it: we end when it has ended, and in the same way.
pub(crate) struct Running {
    child: Child,
    #[cfg(unix)]
    signals: signals::Forwarding,
}

impl Running {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            let signals = signals::Forwarding::prepare()?;
            let child = command.spawn()?;
            signals.to(child.id());
            Ok(Self { child, signals })
        }
        #[cfg(not(unix))]
        Ok(Self { child: command.spawn()? })
    }

    /// Waits until cargo has ended.
    pub(crate) fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Gives the signals back to the system.
    pub(crate) fn done(self) {
        #[cfg(unix)]
        self.signals.end();
    }
}

/// Ends this process as cargo ended.
pub(crate) fn end_as(status: ExitStatus) -> std::process::ExitCode {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt as _;
        if let Some(signal) = status.signal() {
            // Dies of it, unless the signal is one that nobody dies of.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }
    let code = status.code().and_then(|code| u8::try_from(code & 0xff).ok());
    std::process::ExitCode::from(code.unwrap_or(1))
}

#[cfg(unix)]
mod signals {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::{Handle, Signals};

    /// Signals on their way to cargo. The terminal sends an interrupt to both of us; what is sent to us alone
    /// is passed on. What whoever started us wants ignored is ignored by cargo too.
    pub(super) struct Forwarding {
        child: Arc<AtomicU32>,
        handle: Handle,
    }

    impl Forwarding {
        pub(super) fn prepare() -> std::io::Result<Self> {
            let ignored = ignored();
            let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP].into_iter().filter(|signal| {
                let bit = 1 << (signal - 1);
                ignored & bit == 0
            }))?;
            let handle = signals.handle();
            let child = Arc::new(AtomicU32::new(0));
            let receiver = Arc::clone(&child);
            std::thread::spawn(move || {
                for signal in signals.forever() {
                    let child = receiver.load(Ordering::Acquire);
                    let has_it_already = matches!(signal, SIGINT | SIGQUIT) && is_in_foreground();
                    if child != 0 && !has_it_already {
                        send(child, signal);
                    }
                }
            });
            Ok(Self { child, handle })
        }

        pub(super) fn to(&self, child: u32) {
            self.child.store(child, Ordering::Release);
        }

        pub(super) fn end(self) {
            self.handle.close();
        }
    }

    /// The signals that are ignored since before we were started, as a set of bits. They are known on Linux alone.
    fn ignored() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default()
    }

    /// Whether a terminal sends its interrupts to us, and with us to all that we have started.
    fn is_in_foreground() -> bool {
        let terminal = std::fs::File::open("/dev/tty");
        let foreground = terminal.ok().and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok());
        foreground == Some(rustix::process::getpgrp())
    }

    fn send(child: u32, signal: i32) {
        use rustix::process::{Pid, Signal, kill_process};
        let signal = match signal {
            SIGINT => Signal::INT,
            SIGQUIT => Signal::QUIT,
            SIGHUP => Signal::HUP,
            _ => Signal::TERM,
        };
        if let Some(child) = i32::try_from(child).ok().and_then(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill_process(child, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_caches_without_a_password_are_known() {
        let may = |text: &str| may_hold_password(OsStr::new(text));
        assert!(!may("") && !may("file:///srv/cache  cachix://team https://cache.example.org?priority=1"));
        assert!(may("https://user:sesame@cache.example.org") && may("file:///a https://sesame@b.example"));
        assert!(may("s3://b?endpoint=user:sesame@host") && may("sesame"), "what is no cache may be anything");
    }
}
