//! Plans of made-up workspaces equal cargo's own. `ORACLE_CASES` sets how many are tried, `PROPTEST_RNG_SEED` which.

use std::fmt::Write as _;

use camino::Utf8Path;
use nixcache_tests::generated::{command, variables, workspace};
use nixcache_tests::oracle::{Verdict, Workspace};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

#[test]
fn plans_of_generated_workspaces_equal_cargos() {
    let cases = std::env::var("ORACLE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    // The same workspaces in each run, unless a seed asks for others: a change of ours is what should turn this red.
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 150,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let (equal, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let place = proptest::option::weighted(0.4, 0..8usize);
    let strategy = (workspace(), proptest::collection::vec(command(), 4), variables(), place);
    let result = TestRunner::new(config).run(&strategy, |(generated, commands, variables, place)| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory is UTF-8");
        let path = path.canonicalize_utf8().expect("a temporary directory has a real path");
        generated.write(&path).expect("write the workspace");
        let variables: Vec<_> = variables.into_iter().chain([("CARGO_NET_OFFLINE", "true")]).collect();
        let at = place.map_or(path.clone(), |place| path.join(generated.package_directory(place)));
        let mut workspace = Workspace::new(&at, &variables);
        for command in &commands {
            let line: Vec<&str> = command.iter().map(String::as_str).collect();
            match workspace.compare(&line) {
                Verdict::Equal { .. } => equal.set(equal.get() + 1),
                Verdict::BothRefuse(_) => refused.set(refused.get() + 1),
                Verdict::PassedThrough(reason) => prop_assert!(false, "passed through: {}: {reason}", line.join(" ")),
                Verdict::Different(report) => {
                    prop_assert!(false, "{}\n{report}\n{}", line.join(" "), manifests(&path));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // A generator whose workspaces cargo refuses proves nothing. The share differs from seed to seed (about a third).
    let (equal, refused) = (equal.get(), refused.get());
    assert!(equal > refused, "{equal} command lines were planned, {refused} refused");
}

fn manifests(directory: &Utf8Path) -> String {
    let mut text = String::new();
    let mut paths = vec![directory.join("Cargo.toml"), directory.join(".cargo/config.toml")];
    paths.extend((0..8).map(|package| directory.join(format!("p{package}/Cargo.toml"))));
    for path in paths {
        if let Ok(manifest) = std::fs::read_to_string(&path) {
            let _ = writeln!(text, "--- {path}\n{manifest}");
        }
    }
    text
}
