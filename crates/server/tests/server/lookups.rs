//! Many paths in one request.

use serde_json::json;

use crate::fixture::{Item, Running};

fn body(items: &[&Item]) -> Vec<u8> {
    let hashes: Vec<String> = items.iter().map(|item| item.narinfo.store_path.hash().to_string()).collect();
    json!({ "hashes": hashes }).to_string().into_bytes()
}

fn items(count: usize) -> Vec<Item> {
    (0..count).map(|number| Item::new(&format!("thing-{number}"), &[number as u8], &[])).collect()
}

#[test]
fn a_whole_plan_is_resolved_in_one_request() {
    let server = Running::new();
    let items = items(10);
    items[..7].iter().for_each(|item| server.publish(item));
    let all: Vec<&Item> = items.iter().collect();
    let answer = server.send("POST", "/api/v1/narinfos", &body(&all)).json();
    assert_eq!(answer["version"], 1);
    assert_eq!(answer["narinfos"].as_object().unwrap().len(), 7);
    for item in &items[..7] {
        assert_eq!(answer["narinfos"][item.narinfo.store_path.hash().to_string()], item.narinfo.to_string());
    }
    let missing: Vec<String> = items[7..].iter().map(|item| item.narinfo.store_path.hash().to_string()).collect();
    assert_eq!(answer["missing"], json!(missing));
    assert_eq!(answer["left"], json!([]));
    let answer = server.send("POST", "/api/v1/missing", &body(&all)).json();
    assert_eq!(answer, json!({ "version": 1, "missing": missing }));
    assert_eq!(server.send("POST", "/api/v1/missing", &body(&[])).json()["missing"], json!([]));
}

#[test]
fn an_answer_is_bounded_and_says_what_to_ask_for_again() {
    let items = items(5);
    let room = items[0].narinfo.to_string().len() * 2 + 20;
    let server = Running::with(|options| options.limits.lookup_bytes = room);
    items.iter().for_each(|item| server.publish(item));
    let mut left: Vec<&Item> = items.iter().collect();
    let mut rounds = 0;
    while !left.is_empty() {
        let answer = server.send("POST", "/api/v1/narinfos", &body(&left)).json();
        left.retain(|item| {
            answer["left"].as_array().unwrap().contains(&json!(item.narinfo.store_path.hash().to_string()))
        });
        rounds += 1;
        assert!(rounds <= items.len(), "every answer brings something");
    }
    assert_eq!(rounds, 3);
}

#[test]
fn what_is_no_list_of_hashes_is_refused() {
    let server = Running::with(|options| options.limits.lookup_paths = 2);
    let three: Vec<Item> = items(3);
    let three = body(&three.iter().collect::<Vec<_>>());
    let long = format!("{{\"hashes\":[]{}}}", " ".repeat(10_000));
    for path in ["/api/v1/narinfos", "/api/v1/missing"] {
        for bad in [&b""[..], b"[]", b"{}", b"{\"hashes\":[\"../x\"]}", b"{\"hashes\":[1]}", &three] {
            assert_eq!(server.send("POST", path, bad).status, 400, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(server.send("POST", path, long.as_bytes()).status, 413);
        assert_eq!(server.get(path).status, 405);
    }
}

#[test]
fn the_counters_tell_what_happened() {
    let server = Running::new();
    let items = items(2);
    server.publish(&items[0]);
    server.get(&items[0].path());
    server.get(&items[1].path());
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    for line in [
        "nixcache_narinfo_hits_total 1",
        "nixcache_narinfo_misses_total 1",
        "nixcache_narinfos_stored_total 1",
        "nixcache_nars_stored_total 1",
        "nixcache_answers_total{class=\"4xx\"} 1",
        "nixcache_answers_total{class=\"2xx\"} 3",
    ] {
        assert!(answer.text().lines().any(|found| found == line), "{line} in\n{}", answer.text());
    }
}
