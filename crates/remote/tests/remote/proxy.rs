//! Proxies, as the common variables name them.

use nixcache_core::environment::Environment;
use nixcache_remote::Proxies;

use crate::server::{Memory, Server};
use crate::support::{Sample, Watched, fetched, options};

/// A proxy in front of `memory`, which plays all servers of the world.
fn proxy(memory: &Memory) -> Server {
    let memory = memory.clone();
    Server::new(move |request| {
        let mut inner = request.clone();
        if let Some(rest) = request.target.strip_prefix("http://") {
            inner.target = rest[rest.find('/').unwrap()..].to_owned();
        }
        memory.answer(&inner)
    })
}

fn environment(variables: &[(&str, &str)]) -> Proxies {
    let mut environment = Environment::default();
    variables.iter().for_each(|(name, value)| environment.set(name, value));
    Proxies::from_environment(&environment)
}

#[test]
fn a_proxy_is_asked_in_place_of_the_cache() {
    let (memory, sample) = (Memory::default(), Sample::new("sample", 1000));
    sample.put_plain(&memory);
    let proxy = proxy(&memory);
    for variable in ["http_proxy", "all_proxy", "ALL_PROXY"] {
        // A host that is nowhere: only the proxy can know it.
        let mut options = options(&["http://user:sesame@cache.invalid/"]);
        options.network.proxies = environment(&[(variable, &proxy.url().replace("http://", "http://me:open@"))]);
        let watched = Watched::new(options);
        assert!(fetched(watched.fetch_one(&sample.path)).0 == sample.nar, "{variable}");
    }
    for request in proxy.requests() {
        assert!(request.target.starts_with("http://cache.invalid/"), "{}", request.target);
        assert_eq!(request.headers["authorization"], "Basic dXNlcjpzZXNhbWU=");
        assert_eq!(request.headers["proxy-authorization"], "Basic bWU6b3Blbg==");
    }
}

#[test]
fn some_hosts_need_no_proxy() {
    let (memory, sample) = (Memory::default(), Sample::new("sample", 1000));
    sample.put_plain(&memory);
    let (server, proxy) = (memory.serve(), proxy(&memory));
    for variables in [
        &[("http_proxy", proxy.url()), ("no_proxy", "localhost,127.0.0.1".to_owned())][..],
        // A web server's child can have this from a request.
        &[("HTTP_PROXY", proxy.url())],
        &[("https_proxy", proxy.url())],
        &[("http_proxy", String::new())],
    ] {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut options = options(&[&server.url()]);
        options.network.proxies = environment(&variables);
        assert!(fetched(Watched::new(options).fetch_one(&sample.path)).0 == sample.nar);
    }
    assert!(proxy.requests().is_empty());
}

#[test]
fn the_url_of_a_proxy_is_not_told() {
    let mut options = options(&["http://cache.invalid/"]);
    options.network.proxies = environment(&[("http_proxy", "http://me:sesame@[")]);
    assert!(!format!("{:?}", options.network).contains("sesame"));
    let error = nixcache_remote::Remote::new(options, |_| ()).err().unwrap();
    assert!(!format!("{error:?}").contains("sesame"), "{error:?}");
}
