//! A connection that ends when the other side has taken what was sent.
//!
//! To close a connection on which something came that nobody read makes the system take back what is still on its way:
//! an answer would be cut off at its end, because its client had just said that it takes more of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long the other side has to end the connection, too.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Lingering {
    /// There until it is dropped.
    stream: Option<TcpStream>,
    /// The server waits for those who have it.
    ending: watch::Receiver<()>,
}

impl Lingering {
    pub(crate) fn new(stream: TcpStream, ending: watch::Receiver<()>) -> Self {
        Self { stream: Some(stream), ending }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(self.get_mut().stream.as_mut().expect("it is there until it is dropped"))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        // Where nothing runs any more, it is closed at once.
        if let (Some(stream), Ok(runtime)) = (self.stream.take(), Handle::try_current()) {
            runtime.spawn(linger(stream, self.ending.clone()));
        }
    }
}

/// Says that nothing more is sent, and reads what comes until the other side says the same.
async fn linger(mut stream: TcpStream, _ending: watch::Receiver<()>) {
    let end = async {
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever doesn't end it in time, or has gone, has no more use for it.
    let _ = tokio::time::timeout(PATIENCE, end).await;
}

impl AsyncRead for Lingering {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
