//! A server in a scratch directory, and store paths to put there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nix::{Compression, NarInfo, NarWriter, SecretKey, Sha256, StorePath};
use nixcache_server::{Event, Location, Options, Scope, Server, Sink, TokenFile};

use crate::client::{Answer, request};

/// A running server. Its end is the server's.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) directory: Arc<tempfile::TempDir>,
    pub(crate) token: String,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Where a test's files are.
pub(crate) fn root(directory: &tempfile::TempDir) -> &Utf8Path {
    Utf8Path::from_path(directory.path()).unwrap()
}

/// The options of a server in `directory`, with a token for everything.
pub(crate) fn options(directory: &tempfile::TempDir) -> (Options, String) {
    let tokens = root(directory).join("tokens.toml");
    let mut file = TokenFile::default();
    let token = file.add("all".parse().unwrap(), Scope::Admin).unwrap();
    file.write(&tokens).unwrap();
    let mut options = Options::new(Location::Directory(root(directory).join("data")));
    options.tokens = Some(tokens);
    (options, token.reveal().to_owned())
}

impl Running {
    /// A server with the default options.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A server with changed options.
    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::in_directory(Arc::new(tempfile::tempdir().unwrap()), change)
    }

    /// A server in a directory that may hold a cache already.
    pub(crate) fn in_directory(directory: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Options)) -> Self {
        Self::start(directory, &[], change)
    }

    /// A server with settings of buckets.
    pub(crate) fn start(
        directory: Arc<tempfile::TempDir>,
        settings: &[(String, String)],
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2);
        Self::on(&mut runtime, directory, settings, change)
    }

    /// A server with no more than so many threads for what blocks, where tokio has 512.
    pub(crate) fn with_threads(threads: usize, change: impl FnOnce(&mut Options)) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).max_blocking_threads(threads);
        Self::on(&mut runtime, Arc::new(tempfile::tempdir().unwrap()), &[], change)
    }

    fn on(
        runtime: &mut tokio::runtime::Builder,
        directory: Arc<tempfile::TempDir>,
        settings: &[(String, String)],
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let (mut options, token) = options(&directory);
        let events = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&events);
        options.sink = Sink::new(move |event| received.lock().unwrap().push(event.clone()));
        change(&mut options);
        let server = Server::new(options, settings).unwrap();
        let runtime = runtime.enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(server.serve(listener, async {
                let _ = stopped.await;
            }));
            // What hangs is a test that fails, and not one that never ends.
            runtime.shutdown_timeout(std::time::Duration::from_secs(20));
        });
        Self { address, directory, token, events, stop: Some(stop), thread: Some(thread) }
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits until it has ended, and gives its directory back.
    pub(crate) fn join(mut self) -> Arc<tempfile::TempDir> {
        self.stop();
        self.thread.take().unwrap().join().unwrap();
        Arc::clone(&self.directory)
    }

    /// Where the cache's files are.
    pub(crate) fn data(&self) -> Utf8PathBuf {
        root(&self.directory).join("data")
    }

    /// All files of the cache by their paths in it, sorted, without the lock.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = files_below(&self.data());
        files.retain(|file| file != "nixcache/lock");
        files
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], &[])
    }

    pub(crate) fn get_with(&self, path: &str, header: &str, value: &str) -> Answer {
        request(self.address, "GET", path, &[(header, value)], &[])
    }

    /// A request with the token for everything.
    pub(crate) fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        request(self.address, method, path, &[("Authorization", &authorization)], body)
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.send("PUT", path, body)
    }

    /// Uploads a store path as `nix copy` does.
    pub(crate) fn publish(&self, item: &Item) {
        let answer = self.put(&format!("/{}", item.narinfo.url), &item.file);
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        let answer = self.put(&item.path(), item.narinfo.to_string().as_bytes());
        assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text());
    }
}

/// All files below a directory by their paths in it, sorted.
pub(crate) fn files_below(root: &Utf8Path) -> Vec<String> {
    fn walk(directory: &Utf8Path, root: &Utf8Path, files: &mut Vec<String>) {
        for entry in directory.read_dir_utf8().unwrap() {
            let path = entry.unwrap().path().to_owned();
            if path.is_dir() {
                walk(&path, root, files);
            } else {
                files.push(path.strip_prefix(root).unwrap().to_string());
            }
        }
    }
    let mut files = Vec::new();
    walk(root, root, &mut files);
    files.sort();
    files
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A store path that is ready to be uploaded.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) narinfo: NarInfo,
    pub(crate) nar: Vec<u8>,
    pub(crate) file: Vec<u8>,
}

impl Item {
    /// A path by key whose NAR is one file, packed with zstd.
    pub(crate) fn new(name: &str, contents: &[u8], references: &[&Item]) -> Self {
        let nar = nar(contents);
        let file = zstd::encode_all(&nar[..], 3).unwrap();
        Self::packed(name, nar, file, Compression::Zstd, references)
    }

    pub(crate) fn packed(
        name: &str,
        nar: Vec<u8>,
        file: Vec<u8>,
        compression: Compression,
        references: &[&Item],
    ) -> Self {
        let store_path = StorePath::by_key(Sha256::of(name.as_bytes()).as_bytes(), name.parse().unwrap());
        let file_hash = Sha256::of(&file);
        let narinfo = NarInfo {
            store_path,
            url: nixcache_core::nix::NarUrl::by_convention(&file_hash, &compression),
            compression,
            file_hash: Some(file_hash),
            file_size: Some(file.len() as u64),
            nar_hash: Sha256::of(&nar),
            nar_size: nar.len() as u64,
            references: references.iter().map(|item| item.narinfo.store_path.clone()).collect(),
            deriver: None,
            signatures: Vec::new(),
            content_address: None,
        };
        Self { narinfo, nar, file }
    }

    /// Where its narinfo is.
    pub(crate) fn path(&self) -> String {
        format!("/{}.narinfo", self.narinfo.store_path.hash())
    }

    /// Where its NAR is.
    pub(crate) fn nar_path(&self) -> String {
        format!("/{}", self.narinfo.url)
    }
}

/// The archive of one file.
pub(crate) fn nar(contents: &[u8]) -> Vec<u8> {
    let mut writer = NarWriter::new(Vec::new());
    writer.regular_bytes(false, contents).unwrap();
    writer.finish().unwrap()
}

/// The key of the documented vectors.
pub(crate) fn key() -> SecretKey {
    let seed: Vec<u8> = (0..32).collect();
    SecretKey::generate("nixcache-test-1".parse().unwrap(), &seed.try_into().unwrap())
}

/// Bytes that no compression makes smaller, the same in each run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}
