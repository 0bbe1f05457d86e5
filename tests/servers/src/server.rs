//! A small HTTP server with one thread for each connection, which can misbehave as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// What it asks for, with the query.
    pub target: String,
    /// Its headers, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether it has this method and target.
    pub fn is(&self, method: &str, target: &str) -> bool {
        self.method == method && self.target == target
    }

    /// Whether it gets what ends like this.
    pub fn is_get(&self, suffix: &str) -> bool {
        self.method == "GET" && self.target.ends_with(suffix)
    }

    /// Whether it says who asks.
    pub fn has_credentials(&self) -> bool {
        self.headers.contains_key("authorization")
    }
}

/// What happens to the connection after the bytes were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request may come.
    KeepOpen,
    /// It ends.
    Close,
    /// Nothing more is sent, and nothing closed.
    Hang,
    /// One byte after the other, for ever.
    Trickle,
}

/// An answer, byte by byte.
#[derive(Clone, Debug)]
pub struct Reply {
    /// All of it, headers too.
    pub bytes: Vec<u8>,
    /// What comes after.
    pub then: Then,
}

impl Reply {
    /// These very bytes.
    pub fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { bytes: bytes.into(), then }
    }

    /// A whole answer.
    pub fn with(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len()).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        Self { bytes, then: Then::KeepOpen }
    }

    /// An answer without a body.
    pub fn status(status: u16) -> Self {
        Self::with(status, &[], b"")
    }

    /// Breaks off after `length` bytes of the whole answer.
    pub fn cut(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self.then = Then::Close;
        self
    }
}

/// Answers requests.
pub(crate) type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A connection.
pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// What the connections of a server share.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    hanging: Arc<Mutex<Vec<Box<dyn Stream>>>>,
    pub(crate) stopped: Arc<AtomicBool>,
}

/// A server, until it is dropped.
pub struct Server {
    /// Where it listens on loopback.
    pub port: u16,
    shared: Shared,
}

impl Server {
    /// A server that answers like this.
    pub fn new(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), shared: Shared::default() };
        let (shared, handler): (Shared, Handler) = (server.shared.clone(), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (handler, shared) = (Arc::clone(&handler), shared.clone());
                std::thread::spawn(move || {
                    // An error means that the client went away, which is its right.
                    let _ = serve(Box::new(stream), &handler, &shared);
                });
            }
        });
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it was asked, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How often this was asked for.
    pub fn count(&self, method: &str, suffix: &str) -> usize {
        self.requests().iter().filter(|request| request.method == method && request.target.ends_with(suffix)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Answers the requests of one connection.
pub(crate) fn serve(stream: Box<dyn Stream>, handler: &Handler, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream)? {
        shared.requests.lock().unwrap().push(request.clone());
        let mut reply = handler(&request);
        if request.method == "HEAD" {
            let head = reply.bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4);
            reply.bytes.truncate(head.unwrap_or(reply.bytes.len()));
        }
        stream.get_mut().write_all(&reply.bytes)?;
        stream.get_mut().flush()?;
        match reply.then {
            Then::KeepOpen => {}
            Then::Close => return Ok(()),
            Then::Hang => {
                shared.hanging.lock().unwrap().push(stream.into_inner());
                return Ok(());
            }
            Then::Trickle => {
                while !shared.stopped.load(Ordering::SeqCst) {
                    stream.get_mut().write_all(b"x")?;
                    stream.get_mut().flush()?;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
    Ok(())
}

/// Reads a request; `None` at the end of the connection.
pub(crate) fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        read_chunks(reader, &mut body)?;
    } else {
        body.resize(headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0), 0);
        reader.read_exact(&mut body)?;
    }
    Ok(Some(Request { method, target, headers, body }))
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.trim_end().split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| std::io::Error::other("the size of a chunk is none"))?;
        let begin = body.len();
        body.resize(begin + size, 0);
        reader.read_exact(&mut body[begin..])?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// The files of a cache in memory, which behaves.
#[derive(Clone, Default)]
pub struct Memory {
    /// The files, by path.
    pub files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Whether parts can be asked for.
    pub ranges: bool,
}

impl Memory {
    /// Puts a file there.
    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(format!("/{name}"), bytes.into());
    }

    /// The file, if it is there.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.files.lock().unwrap().get(&format!("/{name}")).cloned()
    }

    /// What a well-behaved server answers.
    pub fn answer(&self, request: &Request) -> Reply {
        let mut files = self.files.lock().unwrap();
        let there = files.get(&request.target);
        match (request.method.as_str(), there) {
            ("PUT", Some(_)) if request.headers.contains_key("if-none-match") => Reply::status(412),
            ("PUT", _) => {
                files.insert(request.target.clone(), request.body.clone());
                Reply::status(201)
            }
            (_, None) => Reply::status(404),
            (_, Some(body)) if !self.ranges => Reply::with(200, &[], body),
            (_, Some(body)) => {
                let tag = ("ETag", "\"1\"");
                let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
                match range.and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok()) {
                    Some(first) => {
                        let range = format!("bytes {first}-{}/{}", body.len() - 1, body.len());
                        Reply::with(206, &[tag, ("Content-Range", &range)], &body[first..])
                    }
                    None => Reply::with(200, &[tag, ("Accept-Ranges", "bytes")], body),
                }
            }
        }
    }

    /// Serves it.
    pub fn serve(&self) -> Server {
        let memory = self.clone();
        Server::new(move |request| memory.answer(request))
    }

    /// Serves, except where `fault` has another answer.
    pub fn serve_with(&self, fault: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
        let memory = self.clone();
        Server::new(move |request| fault(request).unwrap_or_else(|| memory.answer(request)))
    }
}
