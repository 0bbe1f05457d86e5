//! Publishing to Cachix: its API as its own client speaks it, and what is sent for a path.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nixcache_core::nix::{KeyName, Sha256, Signature};
use nixcache_remote::{RemoteOptions, Secret};
use serde_json::{Value, json};

use crate::server::{Cachix, Reply, Request, Server};
use crate::support::{Sample, Watched, key, publish_options};

/// The API alone, without TLS. `fails` has another answer for some requests.
fn serve(cachix: &Cachix, fails: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let cachix = cachix.clone();
    Server::new(move |request| fails(request).unwrap_or_else(|| cachix.answer(request)))
}

fn to(server: &Server) -> RemoteOptions {
    let mut options = publish_options(&["cachix://mine"]);
    options.credentials.cachix = Some(Secret::new("token"));
    options.network.cachix_api = Some(format!("{}/api/v1", server.url()).parse().unwrap());
    options
}

fn signed() -> Cachix {
    Cachix::new("mine", "token").signed_by(key().public())
}

#[test]
fn a_path_is_published_as_the_client_of_cachix_does_it() {
    let cachix = signed();
    let server = serve(&cachix, |_| None);
    let leaf = Sample::new("leaf", 100);
    // More than one part.
    let large = Sample::new("large", 17 << 20).referring_to(&leaf);
    let report = Watched::new(to(&server)).publish(&[&leaf, &large]);
    assert_eq!((report.published, report.failed.len()), (2, 0), "{:?}", report.failed);
    assert_eq!(cachix.refused(), [""; 0]);
    let uploads = cachix.uploads();
    assert_eq!((uploads.len(), cachix.aborted()), (2, 0));
    for (sample, upload) in [&leaf, &large].into_iter().zip(&uploads) {
        let (described, file) = (&upload.described, &upload.file);
        let signature = described["cSig"].as_str().unwrap();
        let references: Vec<_> = sample.references.iter().map(|reference| reference.base_name()).collect();
        assert_eq!(
            *described,
            json!({
                "cStoreHash": sample.path.hash().to_string(),
                "cStoreSuffix": sample.path.name().as_str(),
                "cNarHash": format!("sha256:{}", Sha256::of(&sample.nar).to_nix32()),
                "cNarSize": sample.nar.len(),
                "cFileHash": Sha256::of(file).to_hex(),
                "cFileSize": file.len(),
                "cReferences": references,
                "cDeriver": "unknown-deriver",
                "cSig": signature,
            })
        );
        let name: KeyName = "test-1".parse().unwrap();
        let bytes = BASE64.decode(signature).unwrap().try_into().unwrap();
        let fingerprint = sample.narinfo(nixcache_core::nix::Compression::Zstd, file).fingerprint();
        assert!(key().public().verifies(fingerprint.as_bytes(), &Signature::new(name, bytes)));
    }
}

#[test]
fn without_a_key_cachix_signs() {
    let cachix = Cachix::new("mine", "token");
    let server = serve(&cachix, |_| None);
    let mut options = to(&server);
    options.secret_key = None;
    assert_eq!(Watched::new(options).publish(&[&Sample::new("sample", 1)]).published, 1);
    assert_eq!(cachix.uploads()[0].described["cSig"], Value::Null);
}

#[test]
fn what_cachix_has_is_not_sent() {
    let cachix = signed();
    let server = serve(&cachix, |_| None);
    let sample = Sample::new("sample", 1);
    assert_eq!(Watched::new(to(&server)).publish(&[&sample]).published, 1);
    let before = server.requests().len();
    let report = Watched::new(to(&server)).publish(&[&sample]);
    assert_eq!((report.published, report.already_there, report.failed.len()), (0, 1, 0));
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn an_upload_that_fails_is_given_up() {
    for fails in ["/bucket/", "/complete"] {
        let cachix = signed();
        let server = serve(&cachix, move |request| request.target.contains(fails).then(|| Reply::status(400)));
        let report = Watched::new(to(&server)).publish(&[&Sample::new("sample", 1)]);
        assert_eq!((report.published, report.failed.len()), (0, 1));
        assert_eq!((cachix.uploads().len(), cachix.aborted()), (0, 1), "{fails}");
    }
}

#[test]
fn a_wrong_token_is_told() {
    let server = serve(&signed(), |_| None);
    let mut options = to(&server);
    options.credentials.cachix = Some(Secret::new("other"));
    let watched = Watched::new(options);
    assert_eq!(watched.publish(&[&Sample::new("sample", 1)]).failed.len(), 1);
    assert!(watched.left_out()[0].contains("(401)"), "{:?}", watched.left_out());
}
