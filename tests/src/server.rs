//! `cargo nixcache serve` as people run it, on a free port of this machine.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::binary_directory;

/// A server that runs. It ends with the test.
#[derive(Debug)]
pub struct CacheServer {
    process: Child,
    url: String,
    log: Option<JoinHandle<Vec<String>>>,
}

impl CacheServer {
    /// `cargo nixcache serve …`, with its home in `directory`.
    pub fn command(directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary_directory().join("cargo-nixcache"));
        command.args(["nixcache", "serve"]).args(arguments);
        command.env_clear().env("HOME", directory.join("home")).current_dir(directory);
        command
    }

    /// A token that is new, for servers that are started in `directory`.
    pub fn token(directory: &Path, name: &str, scope: &str) -> String {
        let mut command = Self::command(directory, &["token", "add", name, "--scope", scope, "--tokens"]);
        let output = command.arg(directory.join("tokens.toml")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A server with the tokens of `directory`, and what is in its `data`.
    pub fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = Self::command(directory, &["--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(directory.join("data")).arg("--tokens").arg(directory.join("tokens.toml"));
        let mut process = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let first = lines.next().expect("the server says where it is").unwrap();
        let url = first.split_whitespace().last().unwrap().to_owned();
        assert!(url.starts_with("http://127.0.0.1:") || url.starts_with("https://127.0.0.1:"), "{first}");
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Self { process, url, log: Some(log) }
    }

    /// Where it is: `http://127.0.0.1:…`, or `https`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same with a user and a password.
    pub fn url_with(&self, password: &str) -> String {
        self.url.replace("http://", &format!("http://ci:{password}@"))
    }

    /// Tells it to stop as a service manager does, and gives what it logged.
    pub fn stop(mut self) -> Vec<String> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success(), "SIGTERM is no failure");
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for CacheServer {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen otherwise.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
