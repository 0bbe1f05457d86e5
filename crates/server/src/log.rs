//! What the server has to say while it runs: a line for each request, and troubles. Where it goes is the caller's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A request that was answered. `Display` gives the line of the access log.
///
/// Queries and headers are left out: they can hold secrets. What a token is called is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// The method.
    pub method: String,
    /// The path as it came, percent-encoded.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// The length of the answer's body, if it was known when it began.
    pub bytes: Option<u64>,
    /// The time until the answer began.
    pub time: Duration,
    /// The name of the token that was shown, if it was valid.
    pub token: Option<String>,
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.method, self.path, self.status)?;
        match self.bytes {
            Some(bytes) => write!(f, "{bytes}")?,
            None => write!(f, "-")?,
        }
        write!(f, " {:.1}ms {}", self.time.as_secs_f64() * 1000.0, self.token.as_deref().unwrap_or("-"))
    }
}

/// A path as it can be written into a log. Clients need not encode what isn't ASCII, and some of that tells terminals what
/// to do or turns a line around.
pub(crate) fn printable(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => text.push(byte.into()),
            _ => {
                // A string takes everything.
                let _ = fmt::Write::write_fmt(&mut text, format_args!("%{byte:02X}"));
            }
        }
    }
    text
}

/// Something to tell those who run the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request was answered.
    Request(RequestLine),
    /// Something went wrong that the client was told nothing of, or nothing precise.
    Trouble(String),
    /// Something was done that nobody asked for at that moment.
    Note(String),
}

/// Where events go. They can come from several threads at once.
#[derive(Clone)]
pub struct Sink(Arc<dyn Fn(&Event) + Send + Sync>);

impl Sink {
    /// Hands every event to `receive`, which must be quick.
    pub fn new(receive: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    pub(crate) fn send(&self, event: &Event) {
        (self.0)(event);
    }

    pub(crate) fn trouble(&self, what: &str, error: &dyn std::error::Error) {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        self.send(&Event::Trouble(text));
    }
}

impl Default for Sink {
    /// Drops every event.
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}
