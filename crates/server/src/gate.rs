//! Keeps uploads of narinfos and the dropping of files apart. Between the moment when a narinfo's NAR and references
//! were found and the moment when it is visible, nothing of them may be dropped.
//!
//! Within a server a lock does it. For servers that share a bucket there is a file, the barrier, as well: while it is
//! there no narinfo is taken. Who puts it there waits until every upload that did not see it has ended.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::Refusal;
use crate::layout;
use crate::storage::{Storage, StorageError};

/// How long a barrier holds, beyond what is waited for uploads: should its server die, they go on after this.
pub(crate) const BARRIER_TIME: Duration = Duration::from_secs(60 * 60);

/// Keeps uploads and the dropping of files apart.
#[derive(Debug, Default)]
pub(crate) struct Gate(RwLock<()>);

impl Gate {
    /// Waits until a narinfo may be written. While the result lives, nothing is dropped.
    pub(crate) async fn enter(&self, storage: &Storage) -> Result<RwLockReadGuard<'_, ()>, Refusal> {
        let guard = self.0.read().await;
        if storage.is_shared() && barrier_holds(storage).await? {
            return Err(Refusal::Collecting);
        }
        Ok(guard)
    }

    /// Waits until no narinfo is being written. While the result lives, none is. `upload_time` is the longest time
    /// that one can take. Gives nothing if another server is at it.
    pub(crate) async fn close(
        &self,
        storage: &Storage,
        upload_time: Duration,
    ) -> Result<Option<Closed<'_>>, StorageError> {
        let mut barrier = None;
        if storage.is_shared() {
            let text = barrier_text(SystemTime::now(), upload_time);
            if !storage.put_new(&layout::barrier(), text.clone()).await? {
                if barrier_holds(storage).await? {
                    return Ok(None);
                }
                storage.put(&layout::barrier(), text.clone()).await?;
            }
            // What was written just before the limit can still be on its way to the bucket.
            tokio::time::sleep(upload_time.saturating_mul(2)).await;
            // Of several servers that began at the same moment the last one's barrier is there: it goes on alone.
            if !is_there(storage, &text).await? {
                return Ok(None);
            }
            barrier = Some(text);
        }
        Ok(Some(Closed { _guard: self.0.write().await, barrier }))
    }

    /// Takes the barrier away.
    pub(crate) async fn open(&self, storage: &Storage, closed: Closed<'_>) -> Result<(), StorageError> {
        match &closed.barrier {
            Some(text) if is_there(storage, text).await? => storage.delete(&layout::barrier()).await,
            _ => Ok(()),
        }
    }
}

/// While it lives, this server takes no narinfos; no other one does until [`Gate::open`].
#[derive(Debug)]
pub(crate) struct Closed<'a> {
    _guard: RwLockWriteGuard<'a, ()>,
    barrier: Option<Bytes>,
}

/// Until when it holds, and a number that no other barrier has. Before files are dropped, uploads are waited for: twice
/// their time, and once more for those of this server. The barrier must outlive that, too.
fn barrier_text(now: SystemTime, upload_time: Duration) -> Bytes {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let until = now.saturating_add(upload_time.saturating_mul(3)).saturating_add(BARRIER_TIME).as_secs();
    let mut number = [0; 16];
    // Without random bytes two barriers of the same second look alike, and that is all.
    let _ = getrandom::fill(&mut number);
    Bytes::from(format!("{until} {:032x}\n", u128::from_le_bytes(number)))
}

async fn is_there(storage: &Storage, barrier: &Bytes) -> Result<bool, StorageError> {
    Ok(storage.read(&layout::barrier(), 1024).await?.is_some_and(|(text, _)| text == *barrier))
}

async fn barrier_holds(storage: &Storage) -> Result<bool, StorageError> {
    let Some((text, _)) = storage.read(&layout::barrier(), 1024).await? else { return Ok(false) };
    let until = std::str::from_utf8(&text).ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    // A barrier that can't be read is one: better late than wrong.
    let Some(until) = until.map(Duration::from_secs) else { return Ok(true) };
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_holds_until_files_were_dropped_however_long_uploads_may_take() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for minutes in [0, 1, 15, 20, 60, 600] {
            let upload_time = Duration::from_secs(60 * minutes);
            let text = barrier_text(now, upload_time);
            let until = std::str::from_utf8(&text).unwrap().split_whitespace().next().unwrap().parse().unwrap();
            // Uploads of all servers, those of this one, and the dropping.
            let done = now + upload_time * 2 + upload_time + BARRIER_TIME / 2;
            assert!(SystemTime::UNIX_EPOCH + Duration::from_secs(until) > done, "{minutes}");
        }
        barrier_text(now, Duration::MAX);
    }
}
