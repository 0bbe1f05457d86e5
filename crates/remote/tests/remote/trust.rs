//! What is believed, what is not, and where a credential may go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nixcache_core::nix::{Compression, ContentAddress, SecretKey, Sha256, StorePath};
use nixcache_remote::{FetchError, Netrc, Outcome, Pinned, RemoteEvent, Secret};

use crate::server::{Memory, Reply};
use crate::support::{Sample, Watched, failed, fetched, key, nar, options, publish_options};

fn fetch(memory: &Memory, path: &StorePath) -> (Outcome<Vec<u8>>, Vec<RemoteEvent>) {
    let server = memory.serve();
    let watched = Watched::of(&[&server.url()]);
    let outcome = watched.fetch_one(path);
    assert_eq!(server.count("GET", ".nar"), usize::from(matches!(outcome, Outcome::Fetched { .. })));
    (outcome, watched.events())
}

#[test]
fn only_signed_narinfos_are_used_and_no_other_nar_is_even_asked_for() {
    let sample = Sample::new("sample", 1000);
    let good = sample.narinfo(Compression::None, &sample.nar);
    let stranger = SecretKey::generate("stranger-1".parse().unwrap(), &[8; 32]);
    let impostor = SecretKey::generate("test-1".parse().unwrap(), &[9; 32]);
    let signed_by = |key: &SecretKey| {
        let mut narinfo = good.clone();
        narinfo.signatures.clear();
        narinfo.sign(key);
        narinfo
    };
    let mut unsigned = good.clone();
    unsigned.signatures.clear();
    let mut other_hash = good.clone();
    other_hash.nar_hash = Sha256::of(b"other");
    let mut other_size = good.clone();
    other_size.nar_size += 1;
    let mut other_references = good.clone();
    other_references.references.insert(Sample::new("other", 1).path);
    for (narinfo, tampering) in [
        (unsigned, false),
        (signed_by(&stranger), false),
        (signed_by(&impostor), true),
        (other_hash, true),
        (other_size, true),
        (other_references, true),
    ] {
        let memory = Memory::default();
        sample.put_plain(&memory);
        memory.put(&sample.narinfo_name(), narinfo.to_string());
        let (outcome, events) = fetch(&memory, &sample.path);
        assert!(failed(outcome).contains("trust the answer of"));
        assert!(
            matches!(&events[..], [RemoteEvent::NotTrusted { error, .. }] if error.is_tampering() == tampering),
            "{narinfo} {events:?}"
        );
    }
}

#[test]
fn what_is_no_narinfo_of_the_path_is_refused() {
    let (sample, other) = (Sample::new("sample", 1000), Sample::new("other", 1000));
    let good = sample.narinfo(Compression::None, &sample.nar).to_string();
    for text in [
        // Signed, but about something else.
        other.narinfo(Compression::None, &other.nar).to_string(),
        good.replace("-sample", "-simple"),
        good.trim_end().to_owned(),
        good.replace('\n', "\r\n"),
        "<html>sign in to the network</html>\n".to_owned(),
        String::new(),
    ] {
        let memory = Memory::default();
        sample.put_plain(&memory);
        memory.put(&sample.narinfo_name(), text.as_str());
        let (outcome, events) = fetch(&memory, &sample.path);
        assert!(failed(outcome).contains("read the answer of"));
        assert!(matches!(&events[..], [RemoteEvent::BadNarInfo { .. }]), "{text} {events:?}");
    }
}

#[test]
fn a_refused_answer_does_not_hide_a_good_one() {
    let sample = Sample::new("sample", 1000);
    let (good, bad) = (Memory::default(), Memory::default());
    let mut narinfo = sample.put_plain(&good);
    narinfo.signatures.clear();
    bad.put(&sample.narinfo_name(), narinfo.to_string());
    let (good, bad) = (good.serve(), bad.serve());
    let watched = Watched::of(&[&bad.url(), &good.url()]);
    let (nar, cache) = fetched(watched.fetch_one(&sample.path));
    assert!(nar == sample.nar && cache == good.url());
    assert_eq!(watched.events().len(), 1);
}

#[test]
fn a_path_by_content_needs_no_key_but_the_content() {
    let sample = Sample::new("sample", 1000);
    let hash = Sha256::of(&sample.nar);
    let path = StorePath::by_content(&hash, &Default::default(), false, "sample".parse().unwrap());
    let mut narinfo = sample.narinfo(Compression::None, &sample.nar);
    narinfo.store_path = path.clone();
    narinfo.signatures.clear();
    narinfo.content_address = Some(ContentAddress::RecursiveSha256(hash));
    let memory = Memory::default();
    memory.put(narinfo.url.as_str(), sample.nar.clone());
    memory.put(&format!("{}.narinfo", path.hash()), narinfo.to_string());
    assert!(fetched(fetch(&memory, &path).0).0 == sample.nar);

    // The address of a path by key proves nothing.
    let mut narinfo = sample.put_plain(&memory);
    narinfo.signatures.clear();
    narinfo.content_address = Some(ContentAddress::RecursiveSha256(hash));
    memory.put(&sample.narinfo_name(), narinfo.to_string());
    failed(fetch(&memory, &sample.path).0);
}

/// Looks for a path whose content is known in these caches, and says why it isn't there.
fn look_up_pinned(caches: &[&str], sample: &Sample) -> Option<FetchError> {
    let mut options = options(caches);
    options.pinned.insert(sample.path.clone(), Pinned { nar_hash: Sha256::of(&sample.nar), nar_size: None });
    options.network.attempts = 1;
    Watched::new(options).remote.look_up(std::slice::from_ref(&sample.path)).remove(0).err()
}

#[test]
fn another_content_than_the_known_one_is_told_from_a_cache_that_can_not_be_asked() {
    let sample = Sample::new("sample", 1000);
    let other = Sample { path: sample.path.clone(), ..Sample::new("other", 1000) };
    let (with, with_other, empty) = (Memory::default(), Memory::default(), Memory::default());
    sample.put_plain(&with);
    other.put_plain(&with_other);
    let (with, with_other, empty) = (with.serve(), with_other.serve(), empty.serve());
    let broken = Memory::default().serve_with(|_| Some(Reply::with(500, &[], b"")));
    let (with, with_other, empty, broken) = (&with.url(), &with_other.url(), &empty.url(), &broken.url());
    assert!(look_up_pinned(&[with_other, with], &sample).is_none());
    for caches in [&[with_other, empty][..], &[empty, with_other]] {
        let caches: Vec<&str> = caches.iter().map(|url| url.as_str()).collect();
        assert!(look_up_pinned(&caches, &sample).unwrap().is_other_content());
    }
    let dead = &"http://127.0.0.1:1".to_owned();
    for caches in [[with_other, broken], [broken, with_other], [with_other, dead], [dead, with_other]] {
        let error = look_up_pinned(&caches.map(String::as_str), &sample).unwrap();
        assert!(!error.is_other_content(), "{error:?}");
    }
}

/// Fetches a path that holds 50 MB of zeros: what came of it, the bytes that were read, and whether it was said.
fn fetch_zeros(sign: bool, known: Option<Pinned>, lie: u64) -> (Outcome<()>, u64, Vec<RemoteEvent>) {
    let sample = Sample::named_by_content("zeros", &vec![0; 50_000_000]);
    let file = zstd::encode_all(sample.nar.as_slice(), 1).unwrap();
    let mut narinfo = sample.narinfo(Compression::Zstd, &file);
    narinfo.signatures.clear();
    narinfo.nar_size += lie;
    narinfo.content_address = Some(ContentAddress::RecursiveSha256(narinfo.nar_hash));
    if sign {
        narinfo.sign(&key());
    }
    let memory = Memory::default();
    memory.put(narinfo.url.as_str(), file);
    memory.put(&sample.narinfo_name(), narinfo.to_string());
    let server = memory.serve();
    let mut options = options(&[&server.url()]);
    options.pinned.extend(known.map(|known| (sample.path.clone(), Pinned { nar_hash: narinfo.nar_hash, ..known })));
    let watched = Watched::new(options);
    let read = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&read);
    let mut fetching = watched.remote.fetching(move |_, nar| {
        let mut piece = vec![0; 1 << 16];
        while let length @ 1.. = nar.read(&mut piece)? {
            counting.fetch_add(length as u64, Ordering::Relaxed);
        }
        Ok(())
    });
    fetching.want(0, sample.path.clone());
    let outcome = fetching.next().unwrap().1;
    drop(fetching);
    (outcome, read.load(Ordering::Relaxed), watched.events())
}

#[test]
fn a_size_that_only_the_cache_knows_makes_no_bomb() {
    let (outcome, read, _) = fetch_zeros(false, None, 0);
    assert!(failed(outcome).contains("nobody knows its size") && read < 20_000_000, "{read}");
    let hash_alone = Pinned { nar_hash: Sha256::of(b""), nar_size: None };
    let (outcome, read, _) = fetch_zeros(false, Some(hash_alone), 0);
    assert!(failed(outcome).contains("nobody knows its size") && read < 20_000_000, "{read}");
    // Known from a signature, or from a lock file.
    assert!(matches!(fetch_zeros(true, None, 0).0, Outcome::Fetched { .. }));
    let with_size = Pinned { nar_size: Some(nar(&vec![0; 50_000_000]).len() as u64), ..hash_alone };
    assert!(matches!(fetch_zeros(false, Some(with_size), 0).0, Outcome::Fetched { .. }));
    let (outcome, read, events) = fetch_zeros(false, Some(with_size), 1 << 30);
    assert!(failed(outcome).contains("is known to have") && read == 0);
    assert!(matches!(&events[..], [RemoteEvent::NotTrusted { .. }]), "{events:?}");
}

#[test]
fn a_directory_can_not_be_left() {
    let sample = Sample::new("sample", 1000);
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(root.path().join("outside.nar"), &sample.nar).unwrap();
    let absolute = root.path().join("outside.nar");
    for url in ["../outside.nar", "nar/../../outside.nar", absolute.to_str().unwrap(), "file:///outside.nar"] {
        let mut narinfo = sample.narinfo(Compression::None, &sample.nar);
        // The URL isn't signed: whoever keeps the cache can change it.
        narinfo.url = url.parse().unwrap();
        std::fs::write(cache.join(sample.narinfo_name()), narinfo.to_string()).unwrap();
        let watched = Watched::of(&[&format!("file://{}", cache.to_str().unwrap())]);
        let error = failed(watched.fetch_one(&sample.path));
        assert!(error.contains("must not lead there"), "{url}: {error}");
    }
}

#[test]
fn credentials_stay_with_their_origin() {
    let sample = Sample::new("sample", 1000);
    let memory = Memory::default();
    sample.put_plain(&memory);
    // Another host as far as anyone can tell: another port.
    let elsewhere = memory.serve();
    let target = Arc::new(Mutex::new(elsewhere.url()));
    let own = memory.serve_with(move |request| {
        let location = format!("{}{}", target.lock().unwrap(), request.target);
        request.target.ends_with(".nar").then(|| Reply::with(302, &[("Location", &location)], b""))
    });
    for (url, netrc, token) in [
        (own.url().replace("http://", "http://user:sesame@"), "", None),
        (own.url(), "machine 127.0.0.1 login user password sesame", None),
        (own.url(), "", Some("sesame")),
    ] {
        let mut options = options(&[&url]);
        options.credentials.netrc = Netrc::parse(netrc);
        options.credentials.tokens.extend(token.map(|token| (url.parse().unwrap(), Secret::new(token))));
        let watched = Watched::new(options);
        assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);
    }
    assert!(own.requests().iter().all(|request| request.has_credentials()));
    assert_eq!(elsewhere.requests().len(), 3);
    assert!(elsewhere.requests().iter().all(|request| !request.has_credentials()));
    let sent = |index: usize| own.requests()[index].headers["authorization"].clone();
    assert_eq!(sent(0), "Basic dXNlcjpzZXNhbWU=");
    assert_eq!(own.requests().last().unwrap().headers["authorization"], "Bearer sesame");
}

#[test]
fn an_absolute_url_gets_no_credentials_of_another_origin() {
    let sample = Sample::new("sample", 1000);
    let memory = Memory::default();
    let elsewhere = memory.serve();
    let mut narinfo = sample.put_plain(&memory);
    narinfo.url = format!("{}/{}", elsewhere.url(), narinfo.url).parse().unwrap();
    memory.put(&sample.narinfo_name(), narinfo.to_string());
    let own = memory.serve();
    let watched = Watched::of(&[&own.url().replace("http://", "http://user:sesame@")]);
    assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar);
    assert_eq!(elsewhere.requests().len(), 1);
    assert!(!elsewhere.requests()[0].has_credentials());
    assert!(own.requests().iter().all(|request| request.has_credentials()));
}

#[test]
fn redirects_lead_to_http_only_and_not_in_circles() {
    for (location, reason) in
        [("file:///etc/passwd", "something else than http"), ("/circle", "too many"), ("", "too many")]
    {
        let server = Memory::default().serve_with(move |request| {
            let circle = request.target.ends_with(".narinfo") || request.target == "/circle";
            circle.then(|| Reply::with(302, &[("Location", location)], b""))
        });
        let error = failed(Watched::of(&[&server.url()]).fetch_one(&Sample::new("sample", 1).path));
        assert!(error.contains(reason), "{error}");
        assert!(server.requests().len() < 10);
    }
}

#[test]
fn no_message_holds_a_secret() {
    let server = Memory::default().serve_with(|request| {
        let asked = request.target.ends_with(".narinfo");
        asked.then(|| Reply::with(302, &[("Location", "/x?token=sesame")], b""))
    });
    let url = server.url().replace("http://", "http://user:sesame@");
    let dead = "http://user:sesame@127.0.0.1:1/";
    let watched = Watched::of(&[&url, dead]);
    let outcome = watched.fetch_one(&Sample::new("sample", 1).path);
    let told = format!("{outcome:?} {:?}", watched.events());
    assert!(!watched.left_out().is_empty());
    assert!(!told.contains("sesame") && !told.contains("dXNlcjpzZXNhbWU"), "{told}");
}

#[test]
fn what_is_published_is_signed_by_our_key() {
    let memory = Memory::default();
    let server = memory.serve();
    let sample = Sample::new("sample", 1000);
    let mut unsigned = publish_options(&[&server.url()]);
    unsigned.secret_key = None;
    Watched::new(unsigned).publish(&[&sample]);
    let other = Sample::new("other", 1000);
    Watched::new(publish_options(&[&server.url()])).publish(&[&other]);
    let narinfo = |sample: &Sample| String::from_utf8(memory.get(&sample.narinfo_name()).unwrap()).unwrap();
    assert!(!narinfo(&sample).contains("Sig: "));
    assert!(narinfo(&other).contains(&format!("Sig: {}:", key().name())));
}
