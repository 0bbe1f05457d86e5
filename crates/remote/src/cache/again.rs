//! A second request for what stands still: behind one address there can be several machines, and the one that was asked
//! first can wait for another that has died. What is waited for is the first of both that goes on.
//!
//! Of a cache that is slow throughout this makes more requests, so their number is bounded.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{self, BoxStream};
use tokio::time::sleep;

use crate::error::CacheError;

/// Second requests in one build, of one cache.
const MOST: u32 = 64;

/// Second requests for the rest of one file.
const MOST_OF_ONE: u32 = 2;

/// What is asked again, and when.
#[derive(Clone)]
pub(super) struct Again {
    after: Duration,
    left: Arc<AtomicU32>,
}

/// A file that is being read.
pub(super) struct Opened {
    /// What the server calls this state of the file.
    pub(super) tag: Option<String>,
    pub(super) pieces: BoxStream<'static, Result<Bytes, CacheError>>,
}

/// Opens a file from an offset on, in the state with this tag.
pub(super) type Open =
    Arc<dyn Fn(u64, Option<String>) -> BoxFuture<'static, Result<Option<Opened>, CacheError>> + Send + Sync>;

impl Again {
    /// A second request after so long.
    pub(super) fn new(after: Duration) -> Self {
        Self { after, left: Arc::new(AtomicU32::new(MOST)) }
    }

    /// Waits until it is time for a second request; for ever, if there were too many.
    async fn is_due(&self) {
        sleep(self.after).await;
        let take = |left: u32| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Opens a file. What stands still is asked for again, and goes on where it stood.
    pub(super) async fn open(
        &self,
        open: Open,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, CacheError>>>, CacheError> {
        let Some(opened) = self.either(|| open(0, None)).await? else { return Ok(None) };
        let reading = Reading { again: self.clone(), open, opened, offset: 0, left: MOST_OF_ONE };
        Ok(Some(stream::unfold(reading, Reading::next).boxed()))
    }

    /// Makes a request, and another one if the first takes long. The first that goes well counts.
    async fn either<T, F: Future<Output = Result<T, CacheError>>>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<T, CacheError> {
        let mut first = Box::pin(request());
        tokio::select! {
            biased;
            result = &mut first => return result,
            () = self.is_due() => {}
        }
        match select(first, Box::pin(request())).await {
            Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
            Either::Left((result, _)) | Either::Right((result, _)) => result,
        }
    }
}

struct Reading {
    again: Again,
    open: Open,
    opened: Opened,
    offset: u64,
    left: u32,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<Bytes, CacheError>, Self)> {
        // Without a tag it could be another file by now.
        while self.left > 0 && self.opened.tag.is_some() {
            tokio::select! {
                biased;
                piece = self.opened.pieces.next() => return self.came(piece),
                () = self.again.is_due() => {}
            }
            self.left -= 1;
            let again = (self.open)(self.offset, self.opened.tag.clone());
            tokio::select! {
                biased;
                piece = self.opened.pieces.next() => return self.came(piece),
                // If the second one fails, the first one may still go on.
                opened = again => if let Ok(Some(opened)) = opened { self.opened = opened },
            }
        }
        let piece = self.opened.pieces.next().await;
        self.came(piece)
    }

    fn came(mut self, piece: Option<Result<Bytes, CacheError>>) -> Option<(Result<Bytes, CacheError>, Self)> {
        let piece = piece?;
        self.offset += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Some((piece, self))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const FILE: &[u8] = b"what is read in pieces";

    /// A server: how many bytes each request gets before it stands still; `None` if it gets no answer.
    fn server(answers: Vec<Option<usize>>, tag: Option<&str>) -> (Open, Arc<Mutex<Vec<u64>>>) {
        let (asked, tag) = (Arc::<Mutex<Vec<u64>>>::default(), tag.map(str::to_owned));
        let asking = Arc::clone(&asked);
        let open = move |offset: u64, if_match: Option<String>| {
            let mut asked = asking.lock().unwrap();
            let answer = answers.get(asked.len()).copied().unwrap_or(Some(usize::MAX));
            asked.push(offset);
            assert!(if_match.is_none() || if_match == tag);
            let tag = tag.clone();
            let opened = async move {
                let Some(length) = answer else { return std::future::pending().await };
                let rest = &FILE[offset as usize..];
                let given = Bytes::from_static(&rest[..length.min(rest.len())]);
                let stands_still = given.len() < rest.len();
                let pieces = stream::iter([Ok(given)]);
                let pieces = if stands_still { pieces.chain(stream::pending()).boxed() } else { pieces.boxed() };
                Ok(Some(Opened { tag, pieces }))
            };
            Box::pin(opened) as BoxFuture<'static, _>
        };
        (Arc::new(open), asked)
    }

    async fn read(open: Open) -> Vec<u8> {
        let again = Again::new(Duration::from_secs(1));
        let pieces = again.open(open).await.unwrap().unwrap();
        pieces.map(Result::unwrap).collect::<Vec<_>>().await.concat()
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_not_asked_for_again() {
        let (open, asked) = server(vec![], Some("a"));
        assert_eq!(read(open).await, FILE);
        assert_eq!(*asked.lock().unwrap(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_gets_no_answer_and_what_stands_still_goes_on_elsewhere() {
        let (open, asked) = server(vec![None, Some(5), None, Some(4)], Some("a"));
        let mut pieces = Again::new(Duration::from_secs(1)).open(open).await.unwrap().unwrap();
        let first = pieces.next().await.unwrap().unwrap();
        assert_eq!(first, FILE[..5]);
        // The third request gets no answer either, and the number of requests is bounded.
        let rest = tokio::time::timeout(Duration::from_secs(60), pieces.next()).await;
        assert!(rest.is_err());
        assert_eq!(*asked.lock().unwrap(), [0, 0, 5]);

        let (open, asked) = server(vec![Some(5), Some(4)], Some("a"));
        assert_eq!(read(open).await, FILE);
        assert_eq!(*asked.lock().unwrap(), [0, 5, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_tag_nothing_goes_on_in_what_may_be_another_file() {
        let (open, asked) = server(vec![Some(5)], None);
        assert!(tokio::time::timeout(Duration::from_secs(60), read(open)).await.is_err());
        assert_eq!(*asked.lock().unwrap(), [0]);
    }
}
