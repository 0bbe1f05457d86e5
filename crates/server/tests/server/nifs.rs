//! NIFs, as RustlerPrecompiled asks for them.

use nixcache_core::nif::{NifName, write_archive};
use nixcache_core::nix::Sha256;
use nixcache_server::{Scope, TokenFile};

use crate::client::request;
use crate::fixture::{Running, root};

const FILE: &str = "libdemo_nif-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz";

fn archive(file: &str, library: &[u8]) -> Vec<u8> {
    write_archive(&NifName::parse_archive_file(file).unwrap(), library)
}

fn path(file: &str) -> String {
    format!("/nif/main/{file}")
}

#[test]
fn an_archive_is_given_as_it_came() {
    let server = Running::new();
    let bytes = archive(FILE, b"library");
    assert_eq!(server.put(&path(FILE), &bytes).status, 201);
    let answer = server.get(&path(FILE));
    assert_eq!((answer.status, &answer.body), (200, &bytes));
    assert_eq!(answer.header("content-length"), bytes.len().to_string());
    assert_eq!(answer.header("content-type"), "application/gzip");
    let head = request(server.address, "HEAD", &path(FILE), &[], &[]);
    assert_eq!((head.status, head.header("content-length")), (200, answer.header("content-length")));
    // Whatever a client asks for, it gets the whole.
    let part = server.get_with(&path(FILE), "Range", "bytes=0-3");
    assert_eq!((part.status, &part.body), (200, &bytes));
    assert_eq!(server.get_with(&path(FILE), "If-None-Match", answer.header("etag")).status, 304);
}

#[test]
fn a_name_keeps_its_bytes() {
    let server = Running::new();
    let bytes = archive(FILE, b"library");
    assert_eq!(server.put(&path(FILE), &bytes).status, 201);
    assert_eq!(server.put(&path(FILE), &bytes).status, 200);
    let refused = server.put(&path(FILE), &archive(FILE, b"other"));
    assert_eq!(refused.status, 409);
    assert_eq!(refused.text(), "there is another file of this name, and files never change\n");
    assert_eq!(server.get(&path(FILE)).body, bytes);
    // Another namespace is another name.
    assert_eq!(server.put(&format!("/nif/team-b/{FILE}"), &archive(FILE, b"other")).status, 201);
    assert_eq!(server.get(&path(FILE)).body, bytes);
}

#[test]
fn what_is_no_archive_of_this_name_is_refused() {
    let server = Running::new();
    let other = FILE.replace("0.1.0", "0.1.1");
    let bytes = archive(FILE, b"library");
    for (file, body) in
        [(FILE, b"no archive".to_vec()), (FILE, bytes[..bytes.len() - 1].to_vec()), (&*other, bytes.clone())]
    {
        assert_eq!(server.put(&path(file), &body).status, 422, "{file}");
    }
    for name in ["/nif/main/x.tar.gz", "/nif/.hidden/x", "/nif/main/manifest.json", &format!("/nif/a%2Fb/{FILE}")] {
        assert_eq!(server.put(name, &bytes).status, 400, "{name}");
    }
    for name in [&path(FILE), "/nif/main/..%2F..%2Ftokens.toml", "/nif/main/lock", "/nif/../tokens.toml", "/nif/main/"]
    {
        let answer = server.get(name);
        assert_eq!((answer.status, answer.text()), (404, "there is no such file\n"), "{name}");
    }
    assert!(server.files().iter().all(|file| !file.starts_with("nif/")), "{:?}", server.files());
}

#[test]
fn uploads_need_a_token_for_writing_and_a_private_server_one_for_reading() {
    let bytes = archive(FILE, b"library");
    let directory = tempfile::tempdir().unwrap();
    let tokens = root(&directory).join("readers.toml");
    let mut file = TokenFile::default();
    let reader = file.add("reader".parse().unwrap(), Scope::Read).unwrap().reveal().to_owned();
    file.write(&tokens).unwrap();
    let server = Running::with(|options| {
        options.private = true;
        options.tokens = Some(tokens);
    });
    let bearer = format!("Bearer {reader}");
    let with = |method: &str| request(server.address, method, &path(FILE), &[("Authorization", &bearer)], &bytes);
    assert_eq!(request(server.address, "PUT", &path(FILE), &[], &bytes).status, 401);
    assert_eq!(with("PUT").status, 403);
    assert_eq!(with("GET").status, 404);
    let anonymous = server.get(&path(FILE));
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.body.len() < 100, "it ends up in a compile error");
}

#[test]
fn the_manifest_and_the_checksums_name_what_is_there() {
    let server = Running::new();
    let windows = "demo_nif-v0.1.0-nif-2.15-x86_64-pc-windows-msvc.dll.tar.gz";
    let later = FILE.replace("0.1.0", "0.2.0");
    for file in [FILE, windows, &later] {
        assert_eq!(server.put(&path(file), &archive(file, file.as_bytes())).status, 201);
    }
    let hex = |file: &str| format!("sha256:{}", Sha256::of(&archive(file, file.as_bytes())).to_hex());
    let manifest = server.get("/nif/main/manifest.json").json();
    assert_eq!(manifest["schema"], 1);
    assert_eq!(manifest["files"].as_array().unwrap().len(), 3);
    let first = &manifest["files"][0];
    assert_eq!((&first["crate"], &first["nif_version"]), (&"demo_nif".into(), &"2.15".into()));
    assert!(manifest["files"].as_array().unwrap().iter().any(|entry| entry["sha256"] == hex(FILE).as_str()));
    // Also after the records were lost.
    std::fs::remove_dir_all(server.data().join("nixcache/nif")).unwrap();
    let checksums = server.get("/nif/main/checksums.exs?module=Elixir.Demo.Native&version=0.1.0");
    let expected = format!("%{{\n  \"{windows}\" => \"{}\",\n  \"{FILE}\" => \"{}\",\n}}\n", hex(windows), hex(FILE));
    assert_eq!(checksums.text(), expected);
    assert!(checksums.header("content-disposition").contains("checksum-Elixir.Demo.Native.exs"));
    assert_eq!(server.get("/nif/main/checksums.exs?module=D&crate=other").text(), "%{\n}\n");
    for bad in ["", "?module=demo", "?module=D%22%7D", "?module=D&x=1", "?module=D&version=x"] {
        assert_eq!(server.get(&format!("/nif/main/checksums.exs{bad}")).status, 400, "{bad}");
    }
    assert_eq!(server.get("/nif/nobody/manifest.json").json()["files"].as_array().unwrap().len(), 0);
}

#[test]
fn garbage_collection_leaves_nifs_alone() {
    let server = Running::with(|options| {
        options.retention.grace = std::time::Duration::ZERO;
        options.retention.size = Some(0);
    });
    assert_eq!(server.put(&path(FILE), &archive(FILE, b"library")).status, 201);
    assert_eq!(server.send("POST", "/api/v1/gc", &[]).status, 200);
    assert_eq!(server.get(&path(FILE)).status, 200);
}
