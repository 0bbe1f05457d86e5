//! The way from a task to a thread: pieces of a file, a few at a time, and what ended them.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use crate::error::CacheError;
use crate::set::{Guard, Pieces};

/// Pieces that may wait for the thread.
const WAITING: usize = 8;

/// What goes over.
pub(super) enum Message {
    Piece(Bytes),
    /// All of them went over. Without this the way was broken off.
    End,
    Failed(CacheError),
}

/// Reads the pieces on a thread that may block.
pub(super) struct PieceReader {
    messages: mpsc::Receiver<Message>,
    piece: Bytes,
    ended: bool,
}

impl PieceReader {
    pub(super) fn new() -> (mpsc::Sender<Message>, Self) {
        let (sender, messages) = mpsc::channel(WAITING);
        (sender, Self { messages, piece: Bytes::new(), ended: false })
    }
}

impl BufRead for PieceReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            match self.messages.blocking_recv() {
                Some(Message::Piece(piece)) => self.piece = piece,
                Some(Message::End) => self.ended = true,
                Some(Message::Failed(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other(CacheError::LeftOut)),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        self.piece.advance(amount);
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Sends the pieces to a reader, at most `limit` bytes, until they end or the reader has gone.
pub(super) async fn feed(mut pieces: Pieces, guard: &Guard, sender: mpsc::Sender<Message>, limit: u64) {
    let mut left = limit;
    loop {
        let message = match pieces.next(guard).await {
            Ok(Some(piece)) if piece.len() as u64 <= left => {
                left -= piece.len() as u64;
                Message::Piece(piece)
            }
            Ok(Some(_)) => Message::Failed(CacheError::TooLarge { address: guard.shown.clone(), limit }),
            Ok(None) => Message::End,
            Err(error) => Message::Failed(error),
        };
        let last = !matches!(message, Message::Piece(_));
        if sender.send(message).await.is_err() || last {
            return;
        }
    }
}
