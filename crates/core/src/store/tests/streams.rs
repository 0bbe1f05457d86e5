//! Blobs that come in and go out as streams.

use std::io::{self, Read};

use super::*;
use crate::store::StreamError;

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

#[test]
fn a_stream_becomes_a_blob_and_comes_out_again() {
    let scratch = Scratch::new();
    let lease = scratch.store().lease().unwrap();
    let content = vec![7; 700_001];
    for executable in [false, true] {
        let blob = blob_of(&content, executable);
        lease.insert_stream(&blob, &mut content.as_slice()).unwrap();
        // Once more: it is read, compared, and nothing is written.
        lease.insert_stream(&blob, &mut content.as_slice()).unwrap();
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
        let error = lease.insert_stream(&blob, &mut &*other).unwrap_err();
        assert!(matches!(error, StreamError::OtherContent { .. }), "{error}");
    }
    let error = lease.insert_stream(&blob, &mut Broken(b"what was")).unwrap_err();
    assert!(matches!(error, StreamError::Read { .. }), "{error}");
    assert!(!lease.has_blob(&blob).unwrap());
    assert!(matches!(lease.open_blob(&blob), Err(StoreError::MissingBlob { .. })));
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    // Also where the store has the blob: who lies about one file is not believed about the others.
    lease.insert_stream(&blob, &mut &b"what was promised"[..]).unwrap();
    let error = lease.insert_stream(&blob, &mut &b"what was promises"[..]).unwrap_err();
    assert!(matches!(error, StreamError::OtherContent { .. }), "{error}");
}
