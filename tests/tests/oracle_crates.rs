//! Plans of published crates equal cargo's own. Which ones, and which command lines: `data/oracle-crates.toml`.
//! Nothing is compiled, but the crates and all that they depend on are downloaded. `NIXCACHE_ORACLE=all` tries
//! everything, `NIXCACHE_ORACLE=none` nothing, `NIXCACHE_ORACLE=NAME` one crate.

use camino::Utf8Path;
use nixcache_tests::oracle::{Verdict, Workspace};
use nixcache_tests::{PublishedCrate, in_parallel};
use serde::Deserialize;

#[derive(Deserialize)]
struct Listed {
    usual: Vec<String>,
    all: Vec<String>,
    #[serde(rename = "crate")]
    crates: Vec<Listing>,
}

#[derive(Deserialize)]
struct Listing {
    name: String,
    version: String,
    #[serde(default)]
    always: bool,
    #[serde(default)]
    commands: Vec<String>,
}

#[test]
fn plans_of_published_crates_equal_cargos() {
    let listed: Listed = toml::from_str(include_str!("../data/oracle-crates.toml")).expect("the list is TOML");
    let wanted = std::env::var("NIXCACHE_ORACLE").unwrap_or_default();
    let crates: Vec<&Listing> = (listed.crates.iter())
        .filter(|listing| match wanted.as_str() {
            "" => listing.always,
            "all" => true,
            name => listing.name == name,
        })
        .collect();
    let more = if wanted.is_empty() { &[] as &[String] } else { &listed.all };
    let commands = |listing: &Listing| -> Vec<String> {
        listed.usual.iter().chain(&listing.commands).chain(more).cloned().collect()
    };
    let compared = in_parallel(&crates, |listing| compare(listing, &commands(listing)));
    let failures: Vec<&str> = compared.iter().flat_map(|compared| &compared.failures).map(String::as_str).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // Refused command lines prove nothing.
    let equal: usize = compared.iter().map(|compared| compared.equal).sum();
    let units: usize = compared.iter().map(|compared| compared.units).sum();
    assert!(equal >= crates.len() * (listed.usual.len() - 1), "{equal} plans of {units} units were compared");
}

/// What came out for one crate.
#[derive(Default)]
struct Compared {
    equal: usize,
    units: usize,
    failures: Vec<String>,
}

fn compare(listing: &Listing, commands: &[String]) -> Compared {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(temporary.path()).expect("a temporary directory is UTF-8");
    let directory = directory.canonicalize_utf8().expect("a temporary directory has a real path");
    PublishedCrate { name: listing.name.clone(), version: listing.version.clone() }.unpack(directory.as_std_path());
    let mut workspace = Workspace::new(&directory, &[]);
    let mut compared = Compared::default();
    for command in commands {
        let line: Vec<&str> = command.split_whitespace().collect();
        match workspace.compare(&line) {
            Verdict::Equal { units } => {
                compared.equal += 1;
                compared.units += units;
            }
            Verdict::BothRefuse(_) => {}
            verdict => {
                let failure = format!("{} {}: cargo {command}: {verdict:?}", listing.name, listing.version);
                compared.failures.push(failure);
            }
        }
    }
    compared
}
