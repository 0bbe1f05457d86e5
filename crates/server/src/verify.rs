//! Checks signatures, on threads for what blocks: a narinfo can hold many, and whoever uploads it chooses how many. The
//! threads that serve everybody have something else to do.

use std::sync::Arc;

use nixcache_core::nix::{NarInfo, TrustedKeys, Unverified, Verified};
use tokio::sync::Semaphore;

/// The keys that narinfos must be signed by, and turns for checking it.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Arc<TrustedKeys>,
    /// As many as there are processors: more at once would only be slower.
    turns: Arc<Semaphore>,
}

impl Verifier {
    pub(crate) fn new(keys: TrustedKeys) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { keys: Arc::new(keys), turns: Arc::new(Semaphore::new(processors)) }
    }

    pub(crate) fn keys(&self) -> &TrustedKeys {
        &self.keys
    }

    /// Believes `narinfo` if one of its signatures is of a trusted key.
    pub(crate) async fn verify(&self, narinfo: NarInfo) -> Result<Verified<NarInfo>, Unverified> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed");
        let keys = Arc::clone(&self.keys);
        let verified = tokio::task::spawn_blocking(move || {
            let verified = keys.verify(narinfo);
            drop(turn);
            verified
        });
        verified.await.expect("to compare signatures doesn't panic, and nobody ends it")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use nixcache_core::nix::{Asked, SecretKey};

    use super::*;

    #[test]
    fn the_thread_that_asks_goes_on_meanwhile() {
        let key = SecretKey::generate("cache-1".parse().unwrap(), &[7; 32]);
        let text = "StorePath: /nix/store/vjjjypqlg1pgfwnjjbzxr8nd5x41laka-x\nURL: nar/x.nar\nCompression: none\n\
                    NarHash: sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw\nNarSize: 120\n";
        let mut narinfo = NarInfo::parse(text.as_bytes(), Asked::Anything).unwrap();
        let verifier = Verifier::new([key.public()].into_iter().collect());
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            assert!(verifier.verify(narinfo.clone()).await.is_err());
            narinfo.sign(&key);
            // The only thread for what blocks has something else to do, so nothing but this one could check it.
            let (go_on, waiting) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || waiting.recv());
            let mut verifying = Box::pin(verifier.verify(narinfo));
            assert!(verifying.as_mut().now_or_never().is_none());
            go_on.send(()).unwrap();
            busy.await.unwrap().unwrap();
            assert!(verifying.await.is_ok());
        });
    }
}
