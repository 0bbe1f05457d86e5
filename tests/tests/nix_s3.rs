//! Nix itself against S3, and against our server over TLS: the Nix that is installed, and a recent one.

use std::fs;

use nixcache_core::nix::SecretKey;
use nixcache_tests::{CacheServer, Garage, Machine, Nix, skipped};

#[test]
fn nix_substitutes_from_a_bucket_with_a_node_down() {
    const NAME: &str = "nix_substitutes_from_a_bucket_with_a_node_down";
    let nixes: Vec<Nix> = Nix::all(NAME).into_iter().filter(Nix::can_read_s3).collect();
    if nixes.is_empty() {
        return skipped(NAME, "a Nix that was built with S3, which Debian's 2.8 is not");
    }
    let Some(garage) = Garage::start(NAME) else { return };
    let url = garage.url(garage.addresses()[0]);
    let machine = Machine::new();
    let key = SecretKey::generate("bucket-1".parse().unwrap(), &[3; 32]);
    let secret = machine.root().join("secret");
    fs::write(&secret, key.to_file_text().as_str()).unwrap();
    let workspace = machine.workspace("app");
    workspace.package(
        "",
        "[dependencies]\nitoa = \"1\"\n[workspace]\n",
        "fn main() { println!(\"{}\", itoa::Buffer::new().format(7)) }\n",
    );
    workspace.cargo(&["generate-lockfile"]).succeed();
    let variables = garage.variables();
    let publishing = variables.iter().fold(workspace, |workspace, (name, value)| workspace.with_env(name, value));
    let publishing = publishing.with_env("NIXCACHE_PUBLISH", &url).with_env("NIXCACHE_SECRET_KEY_FILE", &secret);
    let cold = publishing.build(&["build"]);
    assert!(cold.stderr.contains("Published"), "{cold}");
    garage.kill(2);
    for mut nix in nixes {
        nix.set(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let listed = nix.try_run("nix", &["path-info", "--store", &url, "--all"]);
        // Debian's 2.34 reads public buckets alone: it is built without what signs requests, and Garage has no such
        // buckets.
        if String::from_utf8_lossy(&listed.stderr).contains("does not support anonymous access") {
            skipped(NAME, "a Nix that was built with AWS's keys, which Debian's is not");
            continue;
        }
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let paths = String::from_utf8(listed.stdout).unwrap();
        let paths: Vec<&str> = paths.lines().collect();
        assert!(paths.iter().any(|path| path.contains("-cargo-itoa-")), "{paths:?}");
        for path in &paths {
            let stranger = SecretKey::generate("bucket-1".parse().unwrap(), &[4; 32]).public().to_string();
            assert!(!nix.substitute("refusing", path, &url, &stranger).status.success(), "a key that is not ours");
            let output = nix.substitute("store", path, &url, &key.public().to_string());
            assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let store = nix.path("store").into_string();
        let public = key.public().to_string();
        let verify = ["store", "verify", "--store", &store, "--recursive", "--sigs-needed", "1"];
        nix.run("nix", &[&verify[..], &["--option", "trusted-public-keys", &public], &paths].concat());
    }
}

#[test]
fn nix_copies_to_our_server_and_back_over_tls() {
    const NAME: &str = "nix_copies_to_our_server_and_back_over_tls";
    for mut nix in Nix::all(NAME) {
        fs::create_dir_all(nix.path("home")).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let [certificate, key, netrc] =
            ["certificate.pem", "key.pem", "netrc"].map(|name| nix.path(name).into_string());
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let signing = SecretKey::generate("served-1".parse().unwrap(), &[3; 32]);
        fs::write(nix.path("secret"), signing.to_file_text().as_str()).unwrap();
        let directory = nix.path("").into_std_path_buf();
        let token = CacheServer::token(&directory, "ci", "write");
        fs::write(&netrc, format!("machine localhost login anyone password {token}\n")).unwrap();
        let secret = nix.path("secret").into_string();
        let tls = ["--tls-certificate", &certificate, "--tls-key", &key, "--signing-key", &secret];
        let server = CacheServer::start(&directory, &tls);
        // The certificate is for a name.
        let url = server.url().replace("127.0.0.1", "localhost");
        assert!(url.starts_with("https://"), "{url}");

        // A tree with more than one window of HTTP/2.
        fs::create_dir_all(nix.path("tree")).unwrap();
        fs::write(
            nix.path("tree/large"),
            (0..6_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>(),
        )
        .unwrap();
        fs::write(nix.path("tree/small"), "small\n").unwrap();
        let [from, to, tree] = ["a", "b", "tree"].map(|name| nix.path(name).into_string());
        let path = nix.line("nix-store", &["--store", &from, "--add", &tree]);
        let copy = ["copy", "--netrc-file", &netrc, "--store", &from, "--to", &url, &path];
        assert!(!nix.try_run("nix", &copy).status.success(), "a certificate that nobody vouches for");
        nix.set([("NIX_SSL_CERT_FILE".to_owned(), certificate.clone())]);
        nix.run("nix", &copy);
        // It would remember its narinfos as it sent them, without the server's signature.
        nix.forget();
        let fetched = nix.substitute("b", &path, &url, &signing.public().to_string());
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        assert_eq!(fs::read(format!("{to}{path}/large")).unwrap(), fs::read(nix.path("tree/large")).unwrap());
        let public = signing.public().to_string();
        let third = nix.path("c").into_string();
        let trust = ["--option", "trusted-public-keys", &public];
        nix.run("nix", &[&["copy", "--store", &third, "--from", &url, &path][..], &trust].concat());
        let verify = ["store", "verify", "--store", &third, "--recursive", "--sigs-needed", "1", &path];
        nix.run("nix", &[&verify[..], &trust].concat());
    }
}
