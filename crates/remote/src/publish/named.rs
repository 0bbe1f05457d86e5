//! Files beside the store paths, under names that clients know which know nothing of Nix.

use std::time::Duration;

use bytes::Bytes;

use super::{Publisher, UPLOAD_LIMIT};
use crate::breaker::{Kind, Waiting};
use crate::cache::StoredFile;
use crate::error::CacheError;
use crate::remote::Remote;

/// How long a file may take in all: what was sent of it isn't told on the way.
const PATIENCE: Duration = Duration::from_secs(300);

impl Publisher {
    async fn store_file(&self, name: &str, bytes: Bytes, media_type: &'static str) -> Result<StoredFile, CacheError> {
        let _permit = self.uploads.acquire().await.expect("it is never closed");
        if self.guard.is_left_out() {
            return Err(CacheError::LeftOut);
        }
        let mut waiting = Waiting::new(Kind::Nar, PATIENCE.max(self.patience), UPLOAD_LIMIT);
        self.guard.call(&mut waiting, self.cache.store_file(name, bytes, media_type)).await
    }
}

impl Remote {
    /// Stores a file beside the store paths of every cache that is published to. What is there stays. Gives what came
    /// of it for each cache, as it is shown.
    pub fn store_file(
        &self,
        name: &str,
        bytes: &[u8],
        media_type: &'static str,
    ) -> Vec<(String, Result<StoredFile, CacheError>)> {
        let bytes = Bytes::copy_from_slice(bytes);
        let stored = self.shared().publishers.iter().map(|publisher| {
            let bytes = bytes.clone();
            async move { (publisher.guard.shown.clone(), publisher.store_file(name, bytes, media_type).await) }
        });
        self.handle().block_on(futures_util::future::join_all(stored))
    }
}
