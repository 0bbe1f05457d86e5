//! What the tests need: checkouts of the example, a server, and an Elixir that sees no Rust.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use nixcache_tests::{Invocation, Machine, Toolchain, Workspace, binary_directory, copy_tree, repository, skipped};

/// The archive that the example's NIF is published as.
pub(crate) fn archive_file(version: &str) -> String {
    format!("libdemo_nif-v{version}-nif-2.15-{}.so.tar.gz", host())
}

/// The target triple of this machine.
pub(crate) fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let output = Command::new("rustc").arg("-vV").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
    })
}

/// A machine whose store is shared by the tests of this process, so that rustler is built once for all of them.
pub(crate) fn machine() -> Machine {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        // Only this process uses it, and the next one empties it. It is in the target directory that this program is
        // in, three levels up; `env!` would tie it to one checkout.
        let program = std::env::current_exe().unwrap();
        let store = program.ancestors().nth(3).unwrap().join("tmp/nif-store");
        let _ = fs::remove_dir_all(&store);
        store
    });
    seeded(Machine::with_store(&Toolchain::current(), store))
}

/// A machine that has what the example's NIF depends upon.
pub(crate) fn seeded(machine: Machine) -> Machine {
    machine.seed(&repository().join("examples/elixir-nif/native"));
    machine
}

/// A checkout of the example.
pub(crate) fn checkout(machine: &Machine, name: &str) -> Workspace {
    let workspace = machine.workspace(name);
    let except = ["target", "_build", "priv"];
    copy_tree(&repository().join("examples/elixir-nif"), workspace.root(), &except);
    let package = machine.root().join("elixir");
    if !package.exists() {
        copy_tree(&repository().join("elixir"), &package, &["_build"]);
    }
    workspace.edit("mix.exs", "\"../../elixir\"", &format!("{:?}", package.to_str().unwrap()));
    workspace
}

/// `cargo nixcache nif …` where the NIF's Cargo workspace is.
pub(crate) fn nif(workspace: &Workspace, arguments: &[&str]) -> Invocation {
    workspace.nixcache(&[&["nif"], arguments].concat()).directory("native")
}

/// Where cargo has put the NIF.
pub(crate) fn built(workspace: &Workspace) -> PathBuf {
    workspace.path("native/target/release/libdemo_nif.so")
}

/// Removes cargo's target directory.
pub(crate) fn clean(workspace: &Workspace) {
    fs::remove_dir_all(workspace.path("native/target")).unwrap();
}

/// A key that signs: its file, and the public key.
pub(crate) fn make_key(directory: &Path) -> (PathBuf, String) {
    let file = directory.join("key");
    let mut command = Command::new(binary_directory().join("cargo-nixcache"));
    command.args(["nixcache", "--secret-key-file"]).arg(&file).args(["key", "generate", "test-1"]);
    let public_key = succeed_quietly(command.env_clear().env("HOME", directory).current_dir(directory));
    (file, public_key)
}

/// What a command says on standard output.
fn succeed_quietly(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A server on a free port, its tokens, and the key that signs what is published to it.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    child: Option<Child>,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) reader: String,
    pub(crate) public_key: String,
}

impl Server {
    /// A server that asks for tokens for everything.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self {
            directory,
            child: None,
            url: String::new(),
            token: String::new(),
            reader: String::new(),
            public_key: String::new(),
        };
        server.token = server.add_token("ci", "write");
        server.reader = server.add_token("people", "read");
        (_, server.public_key) = make_key(server.directory.path());
        server.start();
        server
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary_directory().join("cargo-nixcache"));
        command.arg("nixcache").args(arguments);
        command.env_clear().env("HOME", self.directory.path()).current_dir(self.directory.path());
        command
    }

    fn answer(&self, arguments: &[&str]) -> String {
        succeed_quietly(&mut self.command(arguments))
    }

    fn add_token(&self, name: &str, scope: &str) -> String {
        self.answer(&["serve", "token", "add", name, "--scope", scope, "--tokens", "tokens.toml"])
    }

    pub(crate) fn start(&mut self) {
        let listen = self.url.strip_prefix("http://").unwrap_or("127.0.0.1:0").to_owned();
        let arguments =
            ["serve", "--listen", &listen, "--data", "data", "--tokens", "tokens.toml", "--private", "--no-access-log"];
        let mut child = self.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().expect("the server says where it is").unwrap();
        self.url = first.split_whitespace().last().unwrap().to_owned();
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        self.child = Some(child);
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A file of users and passwords with this token.
    pub(crate) fn netrc(&self, token: &str) -> PathBuf {
        let path = self.path(&format!("netrc-{}", token.len()));
        fs::write(&path, format!("machine 127.0.0.1 login any password {token}\n")).unwrap();
        path
    }

    /// The workspace as one that publishes here.
    pub(crate) fn publishing(&self, workspace: &Workspace) -> Workspace {
        workspace
            .with_env("NIXCACHE_PUBLISH", &self.url)
            .with_env("NIXCACHE_SECRET_KEY_FILE", self.path("key"))
            .with_env("NETRC", self.netrc(&self.token))
    }

    /// Publishes a checkout's NIF with these arguments, and locks it.
    pub(crate) fn publish(&self, workspace: &Workspace, arguments: &[&str]) {
        let all = [&["publish", "--lock", "--lock-file", "../nixcache.lock"], arguments].concat();
        nif(&self.publishing(workspace), &all).succeed();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An Elixir whose PATH has no cargo and no rustc.
pub(crate) struct Elixir {
    directory: tempfile::TempDir,
}

impl Elixir {
    /// `None`, and the test is listed as skipped, where there is no Elixir.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if Command::new("elixir").arg("--version").output().is_err() {
            skipped(test, "elixir and erlang-dev");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("bin")).unwrap();
        for system in ["/usr/local/bin", "/usr/bin", "/bin"] {
            for entry in fs::read_dir(system).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let is_rust = name.to_str().is_none_or(|name| name.starts_with("cargo") || name.starts_with("rust"));
                if !is_rust {
                    // The first directory of a PATH wins.
                    let _ = symlink(entry.path(), directory.path().join("bin").join(name));
                }
            }
        }
        Some(Self { directory })
    }

    fn binaries(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// Puts `cargo-nixcache` into the PATH, or takes it away.
    pub(crate) fn with_program(&self, is_there: bool) {
        let link = self.binaries().join("cargo-nixcache");
        let _ = fs::remove_file(&link);
        if is_there {
            symlink(binary_directory().join("cargo-nixcache"), link).unwrap();
        }
    }

    /// A store that nobody has used.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// A command in a checkout, with nothing of Rust around.
    pub(crate) fn command(&self, directory: &Path, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binaries().join(program));
        command.args(arguments).current_dir(directory).env_clear().stdin(Stdio::null());
        command
            .env("PATH", self.binaries())
            .env("HOME", self.directory.path())
            .env("MIX_ENV", "test")
            .env("LANG", "C.UTF-8")
            .env("NIXCACHE_STORE", self.store());
        command
    }
}

/// What a command wrote, of whatever kind.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} failed:\n{}", text(&output));
    text(&output)
}

/// Runs a command that must fail.
#[track_caller]
pub(crate) fn fail(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded:\n{}", text(&output));
    text(&output)
}
