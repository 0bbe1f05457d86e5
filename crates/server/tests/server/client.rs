//! A client that sends bytes and reads an answer to its end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// All values of a header.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let fits = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().filter(fits).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let values = self.headers(name);
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0]
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends a request and reads its answer.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n");
    if !body.is_empty() || method == "PUT" || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses early closes before it has read all.
    let _ = stream.write_all(body);
    read_answer(&mut stream, method == "HEAD").expect("the server answers")
}

/// Reads until the server closes; `None` if it closes without an answer.
pub(crate) fn read_answer(stream: &mut TcpStream, head_only: bool) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    // After an early refusal the connection may end with an error; what came before it counts.
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..length]);
    }
    if bytes.is_empty() {
        return None;
    }
    let mut end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("headers end");
    if bytes.starts_with(b"HTTP/1.1 100") {
        bytes.drain(..end + 4);
        end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("headers end");
    }
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> =
        lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.into(), value.into())).collect();
    let answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    let lengths = answer.headers("content-length");
    if let (&[length], false) = (lengths.as_slice(), head_only || answer.status == 304) {
        assert_eq!(answer.body.len().to_string(), length, "the body is as long as announced");
    }
    Some(answer)
}
