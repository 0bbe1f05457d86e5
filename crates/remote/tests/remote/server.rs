//! A small HTTP server with one thread for each connection, which can misbehave as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn is(&self, method: &str, target: &str) -> bool {
        self.method == method && self.target == target
    }

    pub(crate) fn is_get(&self, suffix: &str) -> bool {
        self.method == "GET" && self.target.ends_with(suffix)
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.headers.contains_key("authorization")
    }
}

/// What happens to the connection after the bytes were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    KeepOpen,
    Close,
    /// Nothing more is sent, and nothing closed.
    Hang,
    /// One byte after the other, for ever.
    Trickle,
}

/// An answer, byte by byte.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

impl Reply {
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { bytes: bytes.into(), then }
    }

    pub(crate) fn with(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len()).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        Self { bytes, then: Then::KeepOpen }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::with(status, &[], b"")
    }

    /// Breaks off after `length` bytes of the whole answer.
    pub(crate) fn cut(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self.then = Then::Close;
        self
    }
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A server, until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    hanging: Arc<Mutex<Vec<TcpStream>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn new(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            requests: Arc::default(),
            hanging: Arc::default(),
            stopped: Arc::default(),
        };
        let (requests, hanging) = (Arc::clone(&server.requests), Arc::clone(&server.hanging));
        let stopped = Arc::clone(&server.stopped);
        let handler: Handler = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                let (hanging, stopped) = (Arc::clone(&hanging), Arc::clone(&stopped));
                std::thread::spawn(move || {
                    // An error means that the client went away, which is its right.
                    let _ = serve(stream, &handler, &requests, &hanging, &stopped);
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How often this was asked for.
    pub(crate) fn count(&self, method: &str, suffix: &str) -> usize {
        self.requests().iter().filter(|request| request.method == method && request.target.ends_with(suffix)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(
    mut stream: TcpStream,
    handler: &Handler,
    requests: &Mutex<Vec<Request>>,
    hanging: &Mutex<Vec<TcpStream>>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        requests.lock().unwrap().push(request.clone());
        let mut reply = handler(&request);
        if request.method == "HEAD" {
            let head = reply.bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4);
            reply.bytes.truncate(head.unwrap_or(reply.bytes.len()));
        }
        stream.write_all(&reply.bytes)?;
        match reply.then {
            Then::KeepOpen => {}
            Then::Close => return Ok(()),
            Then::Hang => {
                hanging.lock().unwrap().push(stream);
                return Ok(());
            }
            Then::Trickle => {
                while !stopped.load(Ordering::SeqCst) {
                    stream.write_all(b"x")?;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
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
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, target, headers, body }))
}

/// The files of a cache in memory, which behaves.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Whether parts can be asked for.
    pub(crate) ranges: bool,
}

impl Memory {
    pub(crate) fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(format!("/{name}"), bytes.into());
    }

    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.files.lock().unwrap().get(&format!("/{name}")).cloned()
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
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

    pub(crate) fn serve(&self) -> Server {
        let memory = self.clone();
        Server::new(move |request| memory.answer(request))
    }

    /// Serves, except where `fault` has another answer.
    pub(crate) fn serve_with(&self, fault: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
        let memory = self.clone();
        Server::new(move |request| fault(request).unwrap_or_else(|| memory.answer(request)))
    }
}
