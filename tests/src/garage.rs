//! A cluster of three Garage nodes on loopback: a real distributed S3 store, where a node can be killed.
//!
//! The program is found in `NIXCACHE_TEST_GARAGE`, below `target/garage`, where `just garage` puts it, or in `PATH`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the cluster may take for a step. It takes seconds; this ends tests that would never end.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is asked whether a step is done.
const PAUSE: Duration = Duration::from_millis(100);

/// Nodes, each of which has every object.
const NODES: usize = 3;

/// What the nodes know each other by. They listen on loopback alone, and end with the test.
const SECRET: &str = "6a1f0c5d2f8e4b7a9c3d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b";

/// A running cluster, with the bucket `caches` and a key for it. Clones are the same cluster; its end is its nodes'.
#[derive(Clone, Debug)]
pub struct Garage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    directory: TempDir,
    nodes: Vec<Node>,
    key: Mutex<(String, String)>,
}

#[derive(Debug)]
struct Node {
    configuration: PathBuf,
    address: SocketAddr,
    process: Mutex<Option<Child>>,
}

impl Garage {
    /// A cluster that is ready, or `None` where there is no Garage; then the test is noted as skipped.
    pub fn start(test: &str) -> Option<Self> {
        let Some(program) = find() else {
            crate::skipped(test, "Garage: `just garage` builds it, or NIXCACHE_TEST_GARAGE names it");
            return None;
        };
        // A port that was free a moment ago can be taken by somebody else.
        let started = Self::try_start(&program).or_else(|_| Self::try_start(&program));
        Some(started.unwrap_or_else(|error| panic!("no cluster starts: {error}")))
    }

    fn try_start(program: &Path) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("nixcache-garage-").tempdir().unwrap();
        // All at once, so that no port is given twice.
        let free: Vec<TcpListener> =
            (0..NODES * 2).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let addresses: Vec<SocketAddr> = free.iter().map(|listener| listener.local_addr().unwrap()).collect();
        drop(free);
        let mut nodes = Vec::new();
        for (number, pair) in addresses.chunks(2).enumerate() {
            let configuration = directory.path().join(format!("node-{number}.toml"));
            let data = directory.path().join(format!("node-{number}"));
            fs::create_dir(&data).unwrap();
            fs::write(&configuration, node_configuration(&data, pair[0], pair[1])).unwrap();
            nodes.push(Node { configuration, address: pair[1], process: Mutex::new(None) });
        }
        let key = Mutex::new((String::new(), String::new()));
        let inner = Arc::new(Inner { program: program.to_owned(), directory, nodes, key });
        let cluster = Self { inner };
        cluster.set_up()?;
        Ok(cluster)
    }

    fn set_up(&self) -> Result<(), String> {
        (0..NODES).for_each(|node| self.revive(node));
        let mut names = Vec::new();
        for node in 0..NODES {
            // A node makes its key when it starts for the first time.
            self.wait(node, "a node answers", |cluster| cluster.run(node, &["status"]).is_ok())?;
            names.push(self.run(node, &["node", "id", "-q"])?);
        }
        for name in &names[1..] {
            // It may not listen yet.
            self.wait(0, "the nodes know each other", |cluster| cluster.run(0, &["node", "connect", name]).is_ok())?;
        }
        for name in &names {
            let id = name.split('@').next().unwrap_or_default();
            self.wait(0, "a node has a place", |cluster| {
                cluster.run(0, &["layout", "assign", "-z", id, "-c", "10G", id]).is_ok()
            })?;
        }
        self.run(0, &["layout", "apply", "--version", "1"])?;
        self.wait(0, "the cluster is whole", |cluster| cluster.is_whole(0))?;
        self.run(0, &["bucket", "create", "caches"])?;
        let made: serde_json::Value =
            serde_json::from_str(&self.run(0, &["json-api", "CreateKey", "{}"])?).map_err(|error| error.to_string())?;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let key = (text("accessKeyId"), text("secretAccessKey"));
        self.run(0, &["bucket", "allow", "--read", "--write", "--owner", "caches", "--key", &key.0])?;
        *self.inner.key.lock().unwrap() = key;
        Ok(())
    }

    /// Whether all nodes are there and have all that they should, as `node` sees it.
    fn is_whole(&self, node: usize) -> bool {
        let health = self.run(node, &["json-api", "GetClusterHealth"]);
        let health: Option<serde_json::Value> = health.ok().and_then(|text| serde_json::from_str(&text).ok());
        health.is_some_and(|health| health["status"] == "healthy" && health["storageNodesUp"] == NODES)
    }

    fn wait(&self, node: usize, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let began = Instant::now();
        while !done(self) {
            let ended = self.inner.nodes[node]
                .process
                .lock()
                .unwrap()
                .as_mut()
                .is_none_or(|process| process.try_wait().is_ok_and(|status| status.is_some()));
            if ended || began.elapsed() > PATIENCE {
                return Err(format!("{what}: {}", self.log(node)));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Runs Garage's own command line against a node.
    fn run(&self, node: usize, arguments: &[&str]) -> Result<String, String> {
        let output: Output = Command::new(&self.inner.program)
            .arg("-c")
            .arg(&self.inner.nodes[node].configuration)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    fn log_file(&self, node: usize) -> PathBuf {
        self.inner.directory.path().join(format!("node-{node}.log"))
    }

    /// The last lines that a node wrote.
    fn log(&self, node: usize) -> String {
        let text = fs::read_to_string(self.log_file(node)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The addresses at which the nodes speak S3.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.inner.nodes.iter().map(|node| node.address).collect()
    }

    /// The URL of the bucket as it is reached at `address`.
    pub fn url(&self, address: SocketAddr) -> String {
        format!("s3://caches?endpoint={address}&scheme=http&region=garage")
    }

    /// The variables that hold the key for the bucket.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let (id, secret) = self.inner.key.lock().unwrap().clone();
        [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]
    }

    /// Kills a node as a power failure does, and waits until it is gone.
    pub fn kill(&self, node: usize) {
        if let Some(mut process) = self.inner.nodes[node].process.lock().unwrap().take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts a node that is not running, with what it had on its disk.
    pub fn revive(&self, node: usize) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file(node)).unwrap();
        let child = Command::new(&self.inner.program)
            .arg("-c")
            .arg(&self.inner.nodes[node].configuration)
            .arg("server")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.inner.program.display()));
        *self.inner.nodes[node].process.lock().unwrap() = Some(child);
    }

    /// Waits until every node knows that all of them are there.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        for node in 0..NODES {
            self.wait(node, "the cluster is whole again", |cluster| cluster.is_whole(node)).unwrap();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for node in &self.nodes {
            if let Some(mut process) = node.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

fn node_configuration(data: &Path, rpc: SocketAddr, s3: SocketAddr) -> String {
    let data = data.display();
    format!(
        "metadata_dir = '{data}/meta'\n\
         data_dir = '{data}/data'\n\
         db_engine = 'lmdb'\n\
         replication_factor = {NODES}\n\
         rpc_bind_addr = '{rpc}'\n\
         rpc_public_addr = '{rpc}'\n\
         rpc_secret = '{SECRET}'\n\
         [s3_api]\n\
         s3_region = 'garage'\n\
         api_bind_addr = '{s3}'\n"
    )
}

fn find() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("NIXCACHE_TEST_GARAGE") {
        return Some(program.into());
    }
    let built = crate::repository().join("target/garage/bin/garage");
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = std::env::split_paths(&in_path).map(|directory| directory.join("garage"));
    std::iter::once(built).chain(elsewhere).find(|program| program.is_file())
}
