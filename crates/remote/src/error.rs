//! What goes wrong between us and a cache, and how much it says of the cache.

use std::time::Duration;

use nixcache_core::nix::cache_info::CacheInfoError;
use nixcache_core::nix::{NarUrl, StoreDirectory};

/// Why a cache could not be asked, read or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file of a directory, or the file that is being published, could not be read or written.
    #[error("use the file {path}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// There is no connection to the server.
    #[error("connect to {address}")]
    Connect {
        /// The address, without anything secret.
        address: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("exchange data with {address}")]
    Broken {
        /// The address, without anything secret.
        address: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The body ended before its announced length, and could not be resumed.
    #[error("read {address}: {received} of {expected} bytes came")]
    Cut {
        /// The address, without anything secret.
        address: String,
        /// The bytes that came.
        received: u64,
        /// The bytes that were announced.
        expected: u64,
    },
    /// Nothing came for too long.
    #[error("wait longer: nothing useful came for {} ms", after.as_millis())]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
    /// The server wants a credential, or another one (401).
    #[error("read {address}: the server asks for a user and password or a token (401)")]
    Unauthorized {
        /// The address, without anything secret.
        address: String,
    },
    /// The server refuses (403).
    #[error("use {address}: the server does not allow it (403)")]
    Forbidden {
        /// The address, without anything secret.
        address: String,
    },
    /// The server wants to be left alone for longer than a build can wait.
    #[error("use {address}: the server asks to be left alone (status {status})")]
    Busy {
        /// The address, without anything secret.
        address: String,
        /// The status.
        status: u16,
    },
    /// The server answers something else than what was asked for.
    #[error("use {address}: the server answers with status {status}")]
    Status {
        /// The address, without anything secret.
        address: String,
        /// The status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("follow the redirect of {address}: {reason}")]
    Redirect {
        /// The address, without anything secret.
        address: String,
        /// Why it isn't followed.
        reason: &'static str,
    },
    /// A body in an encoding that we didn't ask for.
    #[error("read {address}: it comes in the encoding {encoding}, which was not asked for")]
    Encoding {
        /// The address, without anything secret.
        address: String,
        /// The encoding.
        encoding: String,
    },
    /// More came than can be right.
    #[error("read {address}: it has more than {limit} bytes")]
    TooLarge {
        /// The address, without anything secret.
        address: String,
        /// The most that is read.
        limit: u64,
    },
    /// A narinfo names a NAR that is not in its cache.
    #[error("read the NAR at {url}: the narinfo of this kind of cache must not lead there")]
    Outside {
        /// Where it leads.
        url: NarUrl,
    },
    /// A request to a bucket failed.
    #[error("use the object {key}")]
    Bucket {
        /// The object.
        key: String,
        /// What went wrong.
        #[source]
        source: BucketError,
    },
    /// A server answers with something else than its API says.
    #[error("read the answer of {address}")]
    Answer {
        /// The cache.
        address: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A part was taken, but its tag, which completes the upload, wasn't given.
    #[error("upload to {address}: a part came without its ETag")]
    Tag {
        /// The cache.
        address: String,
    },
    /// What the cache says of itself can't be read.
    #[error("read what the cache says of itself")]
    Info {
        /// What is wrong with it.
        #[source]
        source: CacheInfoError,
    },
    /// The cache is for another store directory.
    #[error("use the cache: its paths lie in {directory}")]
    StoreDirectory {
        /// The directory.
        directory: StoreDirectory,
    },
    /// The cache was left out earlier in this build.
    #[error("use the cache: it is left out for the rest of this build")]
    LeftOut,
}

/// Characters of a server's text that are shown.
const SHOWN: usize = 500;

/// What went wrong with a bucket, in one line: what its server says is a stranger's text, so it is cut off, and holds
/// nothing that a terminal obeys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct BucketError {
    text: String,
}

impl From<object_store::Error> for BucketError {
    fn from(error: object_store::Error) -> Self {
        // Its text holds those of all its causes already.
        Self { text: one_line(&error.to_string()) }
    }
}

/// The beginning of a text, in one line of visible characters.
fn one_line(text: &str) -> String {
    // Also what changes the direction of the text, or isn't seen at all.
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let words = text.split(|c: char| c.is_whitespace() || unseen(c)).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What an error says of the cache that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It will not go better with the next request.
    Hopeless,
    /// Too many of these, one after the other, are enough.
    Suspicious,
    /// Nothing: it is about this one thing alone.
    Innocent,
}

impl CacheError {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Connect { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Busy { .. }
            | Self::Info { .. }
            | Self::StoreDirectory { .. } => Verdict::Hopeless,
            // Too large for a server is one path, not all of them.
            Self::Status { status: 413, .. } | Self::Outside { .. } | Self::LeftOut => Verdict::Innocent,
            Self::File { .. }
            | Self::Broken { .. }
            | Self::Cut { .. }
            | Self::TimedOut { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::Encoding { .. }
            | Self::TooLarge { .. }
            | Self::Answer { .. }
            | Self::Tag { .. }
            | Self::Bucket { .. } => Verdict::Suspicious,
        }
    }

    /// What its user can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized { .. } => Some("give a token or a netrc entry for this host"),
            Self::Forbidden { .. } => Some("the token or password given for this host may lack the right to do this"),
            Self::Connect { .. } | Self::TimedOut { .. } => Some("is the address right, and the network up?"),
            Self::StoreDirectory { .. } => Some("only caches for /nix/store can be used"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_is_one_short_line() {
        assert_eq!(one_line("a\r\n\u{1b}[31mred\u{202e}\u{9b}b\0 \u{2028} c"), "a [31mred b c");
        assert_eq!(one_line(&"ä".repeat(1000)), format!("{}…", "ä".repeat(SHOWN)));
        assert_eq!(one_line(&"a\n".repeat(100)).len(), 199);
    }
}
