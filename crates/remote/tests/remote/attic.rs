//! Publishing to Attic: where the description of a path goes, what is sent twice, and what is refused.

use nixcache_core::environment::Environment;
use nixcache_remote::{Netrc, Proxies, RemoteOptions, Secret};

use crate::server::{Attic, Internet};
use crate::support::{Sample, Watched, chain, fetched, options, publish_options};

const URL: &str = "attic://attic.example.org/team";

fn internet(attic: &Attic) -> Internet {
    let attic = attic.clone();
    Internet::new(&["attic.example.org"], move |_, request| attic.answer(request))
}

/// The options of somebody in this network with this password.
fn with(mut options: RemoteOptions, internet: &Internet, password: &str) -> RemoteOptions {
    let mut environment = Environment::default();
    environment.set("https_proxy", internet.proxy());
    options.network.proxies = Proxies::from_environment(&environment);
    options.network.certificates = Some(internet.certificate().as_bytes().to_vec());
    if !password.is_empty() {
        options.credentials.netrc = Netrc::parse(&format!("machine attic.example.org login me password {password}"));
    }
    options
}

fn writer(internet: &Internet) -> Watched {
    Watched::new(with(publish_options(&[URL]), internet, "token"))
}

#[test]
fn what_has_many_references_is_described_in_the_body() {
    let attic = Attic::new("team", "token");
    let internet = internet(&attic);
    let leaves: Vec<Sample> = (0..150).map(|number| Sample::new(&format!("leaf-{number}"), 10)).collect();
    let top = leaves.iter().fold(Sample::new("top", 300_000), |top, leaf| top.referring_to(leaf));
    let all: Vec<&Sample> = leaves.iter().chain([&top]).collect();
    let report = writer(&internet).publish(&all);
    assert!(report.failed.is_empty(), "{}", chain(&report.failed[0].2));
    assert_eq!(attic.refused(), [""; 0]);
    assert_eq!((attic.paths(), attic.preambles(), attic.replaced()), (151, 1, 0));

    let mut options = with(options(&[URL]), &internet, "token-reader");
    options.trusted_keys = [attic.public_key()].into_iter().collect();
    let reader = Watched::new(options);
    assert!(fetched(reader.fetch_one(&top.path)).0 == top.nar);
    let found = reader.remote.look_up(std::slice::from_ref(&top.path)).remove(0).unwrap().unwrap();
    assert_eq!(found.narinfo.references.len(), 150);
}

#[test]
fn a_token_can_be_given_as_bearer() {
    let attic = Attic::new("team", "token");
    let internet = internet(&attic);
    let mut options = with(publish_options(&[URL]), &internet, "");
    options.credentials.tokens = vec![(URL.parse().unwrap(), Secret::new("token"))];
    assert_eq!(Watched::new(options).publish(&[&Sample::new("sample", 1)]).published, 1);
}

#[test]
fn the_same_content_under_another_name_is_taken() {
    let attic = Attic::new("team", "token");
    let internet = internet(&attic);
    let (one, other) = (Sample::with("one", b"same"), Sample::with("other", b"same"));
    assert_eq!(writer(&internet).publish(&[&one]).published, 1);
    let report = writer(&internet).publish(&[&other]);
    assert_eq!((report.published, report.failed.len()), (1, 0));
    assert_eq!((attic.paths(), attic.deduplicated()), (2, 1));
}

#[test]
fn what_another_sent_in_between_is_not_replaced() {
    let attic = Attic::new("team", "token");
    let sample = Sample::with("sample", b"ours");
    // The first question is answered before the other's path is there, the second one after it.
    let (answers, asked) = (attic.clone(), std::sync::atomic::AtomicUsize::new(0));
    let other = internet(&attic);
    let other_writer = std::sync::Mutex::new(Some(writer(&other)));
    let internet = Internet::new(&["attic.example.org"], move |_, request| {
        let question = request.target.ends_with("get-missing-paths");
        let reply = answers.answer(request);
        if question && asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            let writer = other_writer.lock().unwrap().take().unwrap();
            assert_eq!(writer.publish(&[&Sample::with("sample", b"theirs")]).published, 1);
        }
        reply
    });
    let report = writer(&internet).publish(&[&sample]);
    assert_eq!((report.published, report.already_there, report.failed.len()), (0, 1, 0));
    assert_eq!(attic.replaced(), 0);
}

#[test]
fn what_is_refused_is_told_and_the_cache_left_out() {
    for (cache, password, status) in [
        ("team", "", "(401)"),
        ("team", "wrong", "(401)"),
        ("team", "token-reader", "(403)"),
        ("other", "token", "404"),
    ] {
        let attic = Attic::new("team", "token");
        let internet = internet(&attic);
        let options = with(publish_options(&[&format!("attic://attic.example.org/{cache}")]), &internet, password);
        let watched = Watched::new(options);
        let report = watched.publish(&[&Sample::new("sample", 1)]);
        assert_eq!((report.published, report.failed.len()), (0, 1));
        let told = format!("{:?} {}", watched.left_out(), chain(&report.failed[0].2));
        assert!(told.contains(status), "{told}");
        assert!(!told.contains("wrong"), "{told}");
        assert_eq!(attic.paths(), 0);
    }
}

#[test]
fn what_is_too_large_for_the_server_is_left_out_alone() {
    let attic = Attic::new("team", "token").with_body_limit(100_000);
    let internet = internet(&attic);
    let large: Vec<Sample> = (0..6).map(|number| Sample::new(&format!("large-{number}"), 200_000)).collect();
    let small = Sample::new("small", 100);
    let watched = writer(&internet);
    let report = watched.publish(&large.iter().chain([&small]).collect::<Vec<_>>());
    assert_eq!((report.published, report.failed.len()), (1, 6));
    assert!(report.failed.iter().all(|(_, _, error)| chain(error).contains("413")));
    assert_eq!(watched.left_out(), [""; 0]);
}
