//! S3 for real: a cluster of three Garage nodes, one of which is killed while something is under way.

#![expect(clippy::unwrap_used, reason = "this file holds tests alone")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nixcache_core::nix::{Compression, NarInfo, NarUrl, NarWriter, SecretKey, Sha256, StorePath};
use nixcache_tests::{Balancer, Direction, Garage, Machine, Outcome, Workspace, binary_directory};

/// Where something breaks: within the second part of an upload, which has parts of 8 MiB.
const MIDDLE: u64 = 10 << 20;

/// Bytes that no compression makes smaller, the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// A workspace with a program and a library of 20 MB, which is sent in several parts.
fn app(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    workspace.package("ballast", "", "pub static BALLAST: &[u8] = include_bytes!(\"ballast.bin\");\n");
    fs::write(workspace.path("ballast/src/ballast.bin"), noise(20_000_000)).unwrap();
    workspace.package(
        "",
        "[dependencies]\nitoa = \"1\"\nballast = { path = \"ballast\" }\n[workspace]\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(ballast::BALLAST.len())) }\n",
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    workspace
}

/// A key, and where its secret half is.
struct Keys {
    directory: tempfile::TempDir,
    public: String,
}

impl Keys {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey::generate("garage-test-1".parse().unwrap(), &[7; 32]);
        fs::write(directory.path().join("secret"), key.to_file_text().as_str()).unwrap();
        Self { directory, public: key.public().to_string() }
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("secret")
    }
}

/// The workspace on a machine that has the key for the bucket.
fn with_key(workspace: &Workspace, garage: &Garage) -> Workspace {
    garage.variables().iter().fold(workspace.clone(), |workspace, (name, value)| workspace.with_env(name, value))
}

fn publishing(workspace: &Workspace, url: &str, keys: &Keys) -> Workspace {
    workspace.with_env("NIXCACHE_PUBLISH", url).with_env("NIXCACHE_SECRET_KEY_FILE", keys.secret())
}

fn fetching(workspace: &Workspace, url: &str, keys: &Keys) -> Workspace {
    workspace.with_env("NIXCACHE_CACHES", url).with_env("NIXCACHE_TRUSTED_KEYS", &keys.public)
}

fn bytes(outcome: &Outcome, what: &str) -> u64 {
    outcome.summary().json["bytes"][what].as_u64().unwrap()
}

/// Everything comes from the cache, on a machine that is new, and is right.
#[track_caller]
fn fetches_everything(garage: &Garage, url: &str, keys: &Keys) {
    let machine = Machine::new();
    let workspace = app(&machine);
    let warm = fetching(&with_key(&workspace, garage), url, keys).nixcache(&["build"]).restores_everything();
    assert!(bytes(&warm, "fetched") > 20_000_000, "{warm}");
    assert_eq!(workspace.run_output("debug/app"), "20000000\n");
    workspace.assert_nothing_to_do(&["build"]);
}

#[test]
fn a_node_dies_while_one_machine_publishes_and_another_one_while_the_next_fetches() {
    const NAME: &str = "a_node_dies_while_one_machine_publishes_and_another_one_while_the_next_fetches";
    let Some(garage) = Garage::start(NAME) else { return };
    let keys = Keys::new();
    let balancer = Balancer::new(garage.addresses());
    let url = garage.url(balancer.address());

    // The node that the client talks to: it must send again what was under way.
    let cluster = garage.clone();
    balancer.after(Direction::Up, MIDDLE, move || cluster.kill(0));
    let machine = Machine::new();
    let workspace = publishing(&with_key(&app(&machine), &garage), &url, &keys);
    let cold = workspace.build(&["build"]);
    assert!(balancer.is_done(), "so much was sent: {cold}");
    assert!(bytes(&cold, "published") > 20_000_000, "{cold}");
    // Whatever was given up then is sent now.
    workspace.nixcache(&["push"]).succeed();
    fetches_everything(&garage, &url, &keys);

    // The first node comes back, without what was written meanwhile; the next one dies while it is read from. The
    // store may be busy with that for longer than a build waits for a cache: then the rest is built, and right.
    garage.revive(0);
    garage.wait_until_whole();
    let rest = Balancer::new(garage.addresses().into_iter().rev().collect());
    let cluster = garage.clone();
    rest.after(Direction::Down, MIDDLE, move || cluster.kill(2));
    let machine = Machine::new();
    let workspace = app(&machine);
    let url = garage.url(rest.address());
    fetching(&with_key(&workspace, &garage), &url, &keys).build(&["build"]);
    assert!(rest.is_done());
    assert_eq!(workspace.run_output("debug/app"), "20000000\n");
    workspace.nixcache(&["verify"]).succeed();
}

/// `cargo nixcache serve` on a free port, which ends with the test.
struct Server {
    process: Child,
    address: SocketAddr,
    token: String,
}

impl Server {
    fn start(directory: &Path, garage: &Garage, node: usize, arguments: &[&str]) -> Self {
        let tokens = directory.join("tokens.toml");
        let serve = || {
            let mut command = Command::new(binary_directory().join("cargo-nixcache"));
            command.args(["nixcache", "serve"]).env_clear().env("HOME", directory).envs(garage.variables());
            command
        };
        let name = format!("node-{node}");
        let add = ["token", "add", &name, "--scope", "admin", "--tokens"];
        let made = serve().args(add).arg(&tokens).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let mut command = serve();
        command.args(["--listen", "127.0.0.1:0", "--data", &garage.url(garage.addresses()[node])]).args(arguments);
        let mut process = command.arg("--tokens").arg(&tokens).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.find(|line| line.contains("http://")).expect("the server says where it is");
        let address = said.split("http://").last().unwrap().parse().unwrap();
        std::thread::spawn(move || lines.count());
        Self { process, address, token }
    }

    /// Status and body of the answer to a request with the token.
    fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses early closes before it has read all.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("headers end");
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    fn json(&self, method: &str, path: &str) -> serde_json::Value {
        let (status, body) = self.send(method, path, b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen otherwise.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A store path and its NAR.
fn path(name: &str, contents: &[u8], references: &[&NarInfo]) -> (NarInfo, Vec<u8>) {
    let mut writer = NarWriter::new(Vec::new());
    writer.regular_bytes(false, contents).unwrap();
    let nar = writer.finish().unwrap();
    let narinfo = NarInfo {
        store_path: StorePath::by_key(Sha256::of(name.as_bytes()).as_bytes(), name.parse().unwrap()),
        url: NarUrl::by_convention(&Sha256::of(&nar), &Compression::None),
        compression: Compression::None,
        file_hash: None,
        file_size: None,
        nar_hash: Sha256::of(&nar),
        nar_size: nar.len() as u64,
        references: references.iter().map(|narinfo| narinfo.store_path.clone()).collect(),
        deriver: None,
        signatures: Vec::new(),
        content_address: None,
    };
    (narinfo, nar)
}

#[test]
fn two_servers_share_a_bucket() {
    let Some(garage) = Garage::start("two_servers_share_a_bucket") else { return };
    let keys = Keys::new();
    let directory = keys.directory.path();
    let keep = ["--keep-size", "0B", "--grace", "0s", "--request-time", "5s"];
    let servers = [0, 1].map(|node| Server::start(directory, &garage, node, &keep));
    let url = |server: &Server| format!("http://{}", server.address);

    // One machine publishes to one server, another one fetches from the other, with a node less.
    let machine = Machine::new();
    let to = format!("http://ci:{}@{}", servers[0].token, servers[0].address);
    let cold = publishing(&app(&machine), &to, &keys).build(&["build"]);
    assert!(bytes(&cold, "published") > 20_000_000, "{cold}");
    garage.kill(2);
    fetches_everything(&garage, &url(&servers[1]), &keys);

    // Names never change, whichever server is asked.
    let (leaf, leaf_nar) = path("leaf", b"leaf", &[]);
    let (kept, kept_nar) = path("kept", b"kept", &[&leaf]);
    for (server, narinfo, nar) in [(&servers[0], &leaf, &leaf_nar), (&servers[1], &kept, &kept_nar)] {
        assert_eq!(server.send("PUT", &format!("/{}", narinfo.url), nar).0, 201);
        let file = format!("/{}.narinfo", narinfo.store_path.hash());
        assert_eq!(server.send("PUT", &file, narinfo.to_string().as_bytes()).0, 201);
    }
    let (changed, changed_nar) = path("leaf", b"changed", &[]);
    for server in &servers {
        let taken = server.send("PUT", &format!("/{}", changed.url), &changed_nar).0;
        assert_eq!(taken / 100, 2);
        let file = format!("/{}.narinfo", leaf.store_path.hash());
        assert_eq!(server.send("PUT", &file, changed.to_string().as_bytes()).0, 409);
        assert_eq!(server.send("PUT", &format!("/{}", leaf.url), &changed_nar).0, 409);
        let (status, body) = server.send("GET", &file, b"");
        let there = NarInfo::parse(&body, nixcache_core::nix::Asked::Anything).unwrap();
        assert_eq!((status, there.nar_hash), (200, leaf.nar_hash));
    }

    // One collects garbage: what is pinned stays, with what it refers to.
    let pinned = kept.store_path.to_string();
    assert_eq!(servers[1].send("PUT", "/api/v1/pins/release", pinned.as_bytes()).0, 200);
    let would = servers[0].json("POST", "/api/v1/gc?dry-run");
    let report = servers[0].json("POST", "/api/v1/gc");
    assert_eq!(would["dropped_paths"], report["dropped_paths"]);
    assert_eq!(report["paths"].as_u64().unwrap() - report["dropped_paths"].as_u64().unwrap(), 2, "{report}");
    for server in &servers {
        for (narinfo, nar) in [(&leaf, &leaf_nar), (&kept, &kept_nar)] {
            assert_eq!(server.send("GET", &format!("/{}", narinfo.url), b""), (200, nar.clone()));
        }
        assert_eq!(server.send("GET", &format!("/{}", changed.url), b"").0, 404);
    }
    // What was dropped is a miss, and can come again.
    let machine = Machine::new();
    let again = fetching(&app(&machine), &url(&servers[1]), &keys).build(&["build"]);
    assert_eq!(again.units().restored, 0, "{again}");
}
