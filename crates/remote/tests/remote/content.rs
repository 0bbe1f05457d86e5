//! NARs that are not what was signed, and bombs.

use std::io::Write as _;

use nixcache_core::nix::Compression;
use nixcache_remote::{Outcome, RemoteEvent};

use crate::server::Memory;
use crate::support::{Sample, Watched, failed, fetched};

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Fetches a path whose file in the cache is `file`.
fn fetch(sample: &Sample, compression: Compression, file: &[u8]) -> (Outcome<Vec<u8>>, Vec<RemoteEvent>) {
    let memory = Memory::default();
    sample.put(&memory, compression, file);
    let server = memory.serve();
    let watched = Watched::of(&[&server.url()]);
    (watched.fetch_one(&sample.path), watched.events())
}

#[test]
fn a_nar_in_several_frames_is_one_nar() {
    let sample = Sample::new("sample", 100_000);
    let (first, rest) = sample.nar.split_at(5000);
    let file = [zstd(first), zstd(rest)].concat();
    assert!(fetched(fetch(&sample, Compression::Zstd, &file).0).0 == sample.nar);
}

#[test]
fn the_bytes_that_came_are_counted() {
    let sample = Sample::with("sample", &[0; 500_000]);
    for (compression, file) in [(Compression::None, sample.nar.clone()), (Compression::Zstd, zstd(&sample.nar))] {
        let (outcome, _) = fetch(&sample, compression, &file);
        assert!(matches!(outcome, Outcome::Fetched { bytes, .. } if bytes == file.len() as u64));
    }
}

#[test]
fn another_nar_is_refused_loudly() {
    let sample = Sample::new("sample", 100_000);
    let mut changed = sample.nar.clone();
    changed[70_000] ^= 1;
    let longer = [&sample.nar[..], b"more"].concat();
    let bomb = [&sample.nar[..], &vec![0; 1 << 26]].concat();
    for (nar, reason) in [(&changed, "hash"), (&longer, "more than"), (&bomb, "more than")] {
        for compression in [Compression::None, Compression::Zstd] {
            let file = if compression == Compression::None { nar.clone() } else { zstd(nar) };
            let (outcome, events) = fetch(&sample, compression, &file);
            let error = failed(outcome);
            assert!(error.contains(reason), "{error}");
            let [RemoteEvent::BadNar { error, .. }] = &events[..] else { panic!("{events:?}") };
            // With a plain file the excess is seen by its length alone, before anything could be believed.
            assert!(error.is_tampering() || error.to_string().contains("from the cache"), "{error}");
        }
    }
}

#[test]
fn a_nar_that_ends_early_is_refused() {
    let sample = Sample::new("sample", 100_000);
    let compressed = zstd(&sample.nar);
    let cut = &compressed[..compressed.len() / 2];
    let half = &sample.nar[..sample.nar.len() / 2];
    let error = failed(fetch(&sample, Compression::None, half).0);
    assert!(error.contains(&format!("{} of {} bytes", half.len(), sample.nar.len())), "{error}");
    assert!(failed(fetch(&sample, Compression::Zstd, &zstd(half)).0).contains("bytes came"));
    assert!(failed(fetch(&sample, Compression::Zstd, cut).0).contains("decompress"));
    assert!(failed(fetch(&sample, Compression::Zstd, b"").0).contains("decompress"));
    assert!(failed(fetch(&sample, Compression::Zstd, &sample.nar).0).contains("decompress"));
    let trailing = [&compressed[..], b"trailing"].concat();
    assert!(failed(fetch(&sample, Compression::Zstd, &trailing).0).contains("decompress"));
}

#[test]
fn frames_without_content_have_an_end() {
    let sample = Sample::new("sample", 1000);
    // A skippable frame of 4 KiB, again and again: it brings nothing, and could go on for ever.
    let frame = [&0x184D_2A50_u32.to_le_bytes()[..], &4096_u32.to_le_bytes(), &[0; 4096]].concat();
    let file = frame.repeat(1000);
    let error = failed(fetch(&sample, Compression::Zstd, &file).0);
    assert!(error.contains("more than"), "{error}");
}

#[test]
fn a_frame_that_needs_too_much_memory_is_refused() {
    let sample = Sample::with("sample", &[0; 1000]);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&sample.nar).unwrap();
    let error = failed(fetch(&sample, Compression::Zstd, &encoder.finish().unwrap()).0);
    assert!(error.contains("memory"), "{error}");
}

#[test]
fn a_compression_that_is_not_read_is_a_miss_that_is_told() {
    let sample = Sample::new("sample", 1000);
    let (outcome, events) = fetch(&sample, Compression::Xz, b"xz");
    assert!(matches!(outcome, Outcome::Missing));
    assert!(matches!(&events[..], [RemoteEvent::UnsupportedCompression { compression: Compression::Xz, .. }]));
}

#[test]
fn a_narinfo_without_its_nar_is_told() {
    let sample = Sample::new("sample", 1000);
    let memory = Memory::default();
    memory.put(&sample.narinfo_name(), sample.narinfo(Compression::None, &sample.nar).to_string());
    let server = memory.serve();
    let watched = Watched::of(&[&server.url()]);
    assert!(failed(watched.fetch_one(&sample.path)).contains("although its narinfo is"));
    assert_eq!(watched.events().len(), 1);
}

#[test]
fn what_the_reader_says_is_told_unless_the_nar_is_to_blame() {
    let sample = Sample::new("sample", 100_000);
    let mut changed = sample.nar.clone();
    changed[90_000] ^= 1;
    for (nar, reason) in [(&sample.nar, "unpack the NAR"), (&changed, "hash")] {
        let memory = Memory::default();
        sample.put(&memory, Compression::None, nar);
        let server = memory.serve();
        let watched = Watched::of(&[&server.url()]);
        let mut fetching = watched.remote.fetching::<()>(|fetched, nar| {
            assert_eq!(fetched.tag, 7);
            nar.read_exact(&mut [0; 100])?;
            Err("no room on the disk".into())
        });
        fetching.want(7, sample.path.clone());
        let (tag, outcome) = fetching.next().unwrap();
        assert_eq!(tag, 7);
        let error = failed(outcome);
        assert!(error.contains(reason), "{error}");
        assert!(fetching.next().is_none());
    }
}

#[test]
fn a_signed_nar_that_is_of_no_use_does_not_hide_a_good_one() {
    let good = Sample::new("sample", 1000);
    let bad = Sample { path: good.path.clone(), ..Sample::new("other", 2000) };
    let servers = [&bad, &good].map(|sample| {
        let memory = Memory::default();
        sample.put_plain(&memory);
        memory.serve()
    });
    let watched = Watched::of(&[&servers[0].url(), &servers[1].url()]);
    let nar_size = good.nar.len() as u64;
    let mut fetching = watched.remote.fetching(move |fetched, _| {
        if fetched.narinfo.nar_size == nar_size { Ok(()) } else { Err("it is the record of another key".into()) }
    });
    fetching.want(0, good.path.clone());
    let Some((_, Outcome::Fetched { cache, .. })) = fetching.next() else { panic!("the second has it") };
    assert_eq!(cache, servers[1].url());
    let events = watched.events();
    assert!(
        matches!(&events[..], [RemoteEvent::NotUnpacked { cache, .. }] if *cache == servers[0].url()),
        "{events:?}"
    );
}

#[test]
fn what_the_reader_leaves_over_is_checked() {
    let sample = Sample::new("sample", 1_000_000);
    let mut changed = sample.nar.clone();
    changed[900_000] ^= 1;
    for (nar, good) in [(&sample.nar, true), (&changed, false)] {
        let memory = Memory::default();
        sample.put(&memory, Compression::None, nar);
        let server = memory.serve();
        let watched = Watched::of(&[&server.url()]);
        let mut fetching = watched.remote.fetching(|_, nar| {
            nar.read_exact(&mut [0; 100])?;
            Ok("seen")
        });
        fetching.want(0, sample.path.clone());
        let outcome = fetching.next().unwrap().1;
        assert_eq!(matches!(outcome, Outcome::Fetched { value: "seen", .. }), good);
    }
}

#[test]
fn a_reader_that_panics_does_not_hold_the_others() {
    let (bad, good) = (Sample::new("bad", 1000), Sample::new("good", 1000));
    let memory = Memory::default();
    bad.put_plain(&memory);
    good.put_plain(&memory);
    let server = memory.serve();
    let watched = Watched::of(&[&server.url()]);
    let mut fetching = watched.remote.fetching(|fetched, nar| {
        assert!(fetched.narinfo.store_path.name().as_str() == "good", "on purpose");
        Ok(std::io::copy(nar, &mut std::io::sink())?)
    });
    fetching.want(0, bad.path);
    fetching.want(1, good.path);
    let mut outcomes: Vec<_> = std::iter::from_fn(|| fetching.next()).collect();
    outcomes.sort_by_key(|(tag, _)| *tag);
    assert!(failed(outcomes.remove(0).1).contains("interrupted"));
    assert!(matches!(outcomes.remove(0).1, Outcome::Fetched { .. }));
}
