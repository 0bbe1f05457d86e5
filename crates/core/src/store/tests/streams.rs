//! Blobs that come in and go out as streams.

use std::io::{self, Read};

use super::*;
use crate::store::{Lease, StagedBlobs, StreamError};

fn blob_of(content: &[u8], executable: bool) -> BlobRef {
    BlobRef { digest: ContentDigest::of(content), size: content.len() as u64, executable }
}

/// Gives its bytes and then breaks off.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            read => Ok(read),
        }
    }
}

fn insert(lease: &Lease, blob: &BlobRef, content: &mut dyn Read) -> Result<(), StreamError> {
    let mut staged = StagedBlobs::default();
    lease.stage_stream(&mut staged, blob, content)?;
    Ok(lease.keep_staged(staged)?)
}

#[test]
fn a_stream_becomes_a_blob_and_comes_out_again() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let content = vec![7; 700_001];
    for executable in [false, true] {
        let blob = blob_of(&content, executable);
        insert(&lease, &blob, &mut content.as_slice()).unwrap();
        // Once more: it is read, compared, and nothing is written.
        insert(&lease, &blob, &mut content.as_slice()).unwrap();
        let mut read = Vec::new();
        lease.open_blob(&blob).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content);
    }
}

#[test]
fn a_stream_of_other_content_is_refused_and_leaves_nothing() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    let blob = blob_of(b"what was promised", false);
    for other in [&b"what was promises"[..], b"what was promised, and more", b"what was", b""] {
        let error = insert(&lease, &blob, &mut &*other).unwrap_err();
        assert!(matches!(error, StreamError::OtherContent { .. }), "{error}");
    }
    let error = insert(&lease, &blob, &mut Broken(b"what was")).unwrap_err();
    assert!(matches!(error, StreamError::Read { .. }), "{error}");
    assert!(!lease.has_blob(&blob).unwrap());
    assert!(matches!(lease.open_blob(&blob), Err(StoreError::MissingBlob { .. })));
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    // Also where the store has the blob: who lies about one file is not believed about the others.
    insert(&lease, &blob, &mut &b"what was promised"[..]).unwrap();
    let error = insert(&lease, &blob, &mut &b"what was promises"[..]).unwrap_err();
    assert!(matches!(error, StreamError::OtherContent { .. }), "{error}");
}

#[test]
fn what_is_not_kept_leaves_nothing() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let lease = store.lease().unwrap();
    let (blob, other) = (blob_of(b"content", false), blob_of(b"other content", true));
    let temporary = || fs::read_dir(store.root().join("tmp")).unwrap().count();
    let mut staged = StagedBlobs::default();
    // The same content twice is written once.
    for _ in 0..2 {
        lease.stage_stream(&mut staged, &blob, &mut &b"content"[..]).unwrap();
    }
    lease.stage_stream(&mut staged, &other, &mut &b"other content"[..]).unwrap();
    assert!(!lease.has_blob(&blob).unwrap());
    assert_eq!(temporary(), 2);
    drop(staged);
    assert!(!lease.has_blob(&blob).unwrap() && !lease.has_blob(&other).unwrap());
    assert_eq!(temporary(), 0);
    // Another may keep the same blob meanwhile: it stays.
    let mut staged = StagedBlobs::default();
    lease.stage_stream(&mut staged, &blob, &mut &b"content"[..]).unwrap();
    insert(&lease, &blob, &mut &b"content"[..]).unwrap();
    lease.keep_staged(staged).unwrap();
    assert!(lease.has_blob(&blob).unwrap());
    assert_eq!(temporary(), 0);
}
