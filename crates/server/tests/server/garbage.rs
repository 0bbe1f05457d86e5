//! What garbage collection drops and keeps, while uploads go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nixcache_core::nix::{Asked, NarInfo};
use serde_json::json;

use crate::fixture::{Item, Running};

fn eager() -> Running {
    Running::with(|options| {
        options.retention.grace = Duration::ZERO;
        options.retention.size = Some(0);
    })
}

#[test]
fn only_what_is_pinned_and_what_it_refers_to_stays() {
    let server = eager();
    let leaf = Item::new("leaf", b"leaf", &[]);
    let kept = Item::new("kept", b"kept", &[&leaf]);
    let dropped = Item::new("dropped", b"dropped", &[&leaf, &kept]);
    for item in [&leaf, &kept, &dropped] {
        server.publish(item);
        let listing = item.path().replace(".narinfo", ".ls");
        server.put(&listing, br#"{"version":1,"root":{"type":"regular"}}"#);
    }
    assert_eq!(server.put("/api/v1/pins/release", kept.narinfo.store_path.to_string().as_bytes()).status, 200);
    let pins = server.send("GET", "/api/v1/pins", b"").json();
    assert_eq!(pins, json!({ "version": 1, "pins": { "release": kept.narinfo.store_path.base_name() } }));
    let files = server.files();
    let would = server.send("POST", "/api/v1/gc?dry-run", b"").json();
    assert_eq!(
        (&would["dropped_paths"], &would["dropped_nars"], &would["dry_run"]),
        (&json!(1), &json!(1), &json!(true))
    );
    assert_eq!(server.files(), files);
    let report = server.send("POST", "/api/v1/gc", b"").json();
    assert_eq!((&report["paths"], &report["dropped_paths"]), (&json!(3), &json!(1)));
    assert_eq!(report["bytes_after"], leaf.file.len() + kept.file.len());
    for (item, status) in [(&leaf, 200), (&kept, 200), (&dropped, 404)] {
        for path in [item.path(), item.path().replace(".narinfo", ".ls"), item.nar_path()] {
            assert_eq!(server.get(&path).status, status, "{path}");
        }
    }
    assert_eq!(server.send("DELETE", "/api/v1/pins/release", b"").status, 200);
    server.send("POST", "/api/v1/gc", b"");
    assert!(server.files().is_empty(), "{:?}", server.files());
    // What was dropped can come again.
    server.publish(&leaf);
}

#[test]
fn what_a_killed_server_left_goes() {
    let server = eager();
    let [narinfo, nar] = ["vjjjypqlg1pgfwnjjbzxr8nd5x41laka.narinfo#1", "nar/x.nar.zst#1"];
    for file in [narinfo, nar] {
        std::fs::write(server.data().join(file), "half").unwrap();
        let file = std::fs::File::options().write(true).open(server.data().join(file)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60)).unwrap();
    }
    assert_eq!(server.send("POST", "/api/v1/gc", b"").status, 200);
    assert!(server.files().is_empty(), "{:?}", server.files());
}

#[test]
fn by_default_what_is_new_stays() {
    let server = Running::with(|options| options.retention.size = Some(0));
    let item = Item::new("thing", b"x", &[]);
    server.publish(&item);
    assert_eq!(server.send("POST", "/api/v1/gc", b"").json()["dropped_paths"], 0);
    assert_eq!(server.get(&item.path()).status, 200);
}

#[test]
fn pins_are_of_paths_that_are_here() {
    let server = Running::new();
    let item = Item::new("thing", b"x", &[]);
    let path = item.narinfo.store_path.to_string();
    assert_eq!(server.put("/api/v1/pins/x", path.as_bytes()).status, 404);
    assert_eq!(server.put("/api/v1/pins/x", b"nonsense").status, 400);
    server.publish(&item);
    assert_eq!(server.put("/api/v1/pins/..x", path.as_bytes()).status, 404);
    assert_eq!(server.put("/api/v1/pins/x", path.as_bytes()).status, 200);
    assert_eq!(server.send("POST", "/api/v1/gc?all", b"").status, 400);
}

/// Chains are uploaded, leaves first, while garbage is collected again and again with nothing kept. Whatever the two
/// do to each other, no path is left whose references or NAR are gone.
#[test]
fn uploads_and_collections_at_once_leave_only_whole_closures() {
    let server = eager();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..3)
            .map(|thread| {
                let server = &server;
                scope.spawn(move || {
                    for round in 0..15 {
                        let mut chain: Vec<Item> = Vec::new();
                        for level in 0..4 {
                            let name = format!("thing-{thread}-{round}-{level}");
                            let references: Vec<&Item> = chain.iter().collect();
                            let item = Item::new(&name, name.as_bytes(), &references);
                            server.put(&item.nar_path(), &item.file);
                            let answer = server.put(&item.path(), item.narinfo.to_string().as_bytes());
                            // A reference or the NAR may have been dropped meanwhile; then this can't be taken.
                            assert!(matches!(answer.status, 201 | 422), "{} {}", answer.status, answer.text());
                            chain.push(item);
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let answer = server.send("POST", "/api/v1/gc", b"");
                assert_eq!(answer.status, 200, "{:?}", server.events.lock().unwrap());
                check_closures(&server);
            }
        });
        let uploaded: Vec<_> = uploads.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        uploaded.into_iter().for_each(|joined| joined.unwrap());
    });
    check_closures(&server);
}

/// References come before what refers to them, and go after it. So what is seen in this order is never incomplete,
/// unless a collection dropped something wrongly.
fn check_closures(server: &Running) {
    let referring: Vec<String> = server.files().into_iter().filter(|file| file.ends_with(".narinfo")).collect();
    for file in referring {
        let Ok(text) = std::fs::read(server.data().join(&file)) else { continue };
        let narinfo = NarInfo::parse(&text, Asked::Anything).unwrap();
        let needed = narinfo.references.iter().map(|path| format!("{}.narinfo", path.hash()));
        let needed = needed.chain([narinfo.url.to_string()]);
        let missing: Vec<String> = needed.filter(|needed| !server.data().join(needed).is_file()).collect();
        // If it is still there after its reference was found missing, nobody is going to drop it.
        let still_there = server.data().join(&file).is_file();
        assert!(missing.is_empty() || !still_there, "{file} without {missing:?}");
    }
}
