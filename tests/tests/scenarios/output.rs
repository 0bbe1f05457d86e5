//! What people and programs read: cargo's output stays cargo's, and our commands say what they did.

use nixcache_tests::Machine;

use crate::small::app;

#[test]
fn a_warm_build_says_one_quiet_line_of_its_own() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.build(&["build"]);
    workspace.remove_target();
    let warm = workspace.nixcache(&["build"]).restores_everything();
    assert_eq!(warm.stdout, "", "{warm}");
    let ours: Vec<_> = warm.stderr.lines().filter(|line| !line.trim_start().starts_with("Finished")).collect();
    assert_eq!(ours.len(), 1, "{warm}");
    assert!(ours[0].trim_start().starts_with("Restored 3 of 3 units"), "{warm}");
    let fresh = workspace.nixcache(&["build"]).succeed();
    assert!(!fresh.stderr.contains("Restored"), "there is nothing to say\n{fresh}");
    let quiet = workspace.nixcache(&["build", "--quiet"]).succeed();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""), "{quiet}");
}

#[test]
fn messages_for_programs_stay_clean_and_complete() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let command = ["build", "--message-format=json"];
    let plain = workspace.cargo(&command).succeed();
    let cold = workspace.build(&command);
    workspace.remove_target();
    let warm = workspace.nixcache(&command).restores_everything();
    for outcome in [&cold, &warm] {
        assert_eq!(outcome.messages().count(), outcome.stdout.lines().count(), "not only JSON\n{outcome}");
    }
    let artifacts = |outcome: &nixcache_tests::Outcome| {
        let mut artifacts: Vec<_> = outcome
            .messages()
            .filter(|message| message["reason"] == "compiler-artifact")
            .map(|message| (message["package_id"].to_string(), message["filenames"].to_string()))
            .collect();
        artifacts.sort();
        artifacts
    };
    assert_eq!(artifacts(&cold), artifacts(&plain));
    assert_eq!(artifacts(&warm), artifacts(&plain));
}

#[test]
fn errors_and_exit_codes_are_those_of_cargo() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.cargo(&["generate-lockfile"]).succeed();
    let same: &[&[&str]] = &[
        &["build", "--no-such-flag"],
        &["build", "-p", "no-such-package"],
        &["build", "--features", "no-such-feature"],
        &["build", "--bin", "no-such-binary"],
        &["build", "--profile", "no-such-profile"],
        &["no-such-command"],
    ];
    for arguments in same {
        let (plain, ours) = (workspace.cargo(arguments).fail(), workspace.nixcache(arguments).fail());
        assert_eq!(ours.status.code(), plain.status.code(), "{ours}");
        let first = plain.stderr.lines().next().unwrap_or_default();
        assert!(ours.stderr.contains(first), "{ours}\nplain cargo says\n{plain}");
    }
    workspace.edit("src/main.rs", "println!", "printn!");
    let (plain, ours) = (workspace.cargo(&["build"]).fail(), workspace.nixcache(&["build"]).fail());
    assert_eq!(ours.status.code(), plain.status.code());
    assert!(ours.stderr.contains("cannot find macro `printn`"), "{ours}");
}

#[test]
fn a_dry_run_shows_and_changes_nothing() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.build(&["build"]);
    workspace.remove_target();
    let outcome = workspace.nixcache(&["--dry-run", "build"]).succeed();
    assert!(!workspace.target().join("debug/deps").exists(), "{outcome}");
    assert_eq!(outcome.compiled, [""; 0], "{outcome}");
}

#[test]
fn a_dry_run_of_what_cannot_be_planned_or_shown_is_refused() {
    let machine = Machine::new();
    let workspace = app(&machine);
    for arguments in [&["fmt"][..], &["build", "--no-such-option"], &["no-such-command"]] {
        let refused = workspace.nixcache(&[&["--dry-run"], arguments].concat()).fail();
        assert_eq!(refused.status.code(), Some(73), "{refused}");
    }
    for arguments in [&["verify", "--repair"][..], &["key", "generate", "team-1"], &["push"], &["nix", "lock"]] {
        let refused = workspace.nixcache(&[&["--dry-run"], arguments].concat()).fail();
        assert_eq!(refused.status.code(), Some(2), "{refused}");
    }
    assert!(!workspace.path("nixcache.lock").exists());
    assert!(!machine.root().join("home/.config/cargo-nixcache/secret-key").exists());
}

#[test]
fn where_there_is_no_plan_cargo_says_why() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.write("Cargo.lock", "this is no lock file\n");
    let plain = workspace.cargo(&["metadata", "--format-version=1"]).fail();
    let first = plain.stderr.lines().next().unwrap();
    for arguments in [&["plan"][..], &["why", "itoa"], &["--dry-run", "build"]] {
        let refused = workspace.nixcache(arguments).fail();
        assert_eq!(refused.status.code(), Some(73), "{refused}");
        assert!(refused.stderr.contains(first), "{refused}\nplain cargo says\n{plain}");
    }
}

#[test]
fn an_option_of_ours_behind_the_command_is_explained() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let refused = workspace.nixcache(&["pull", "--cache", "file:///nowhere"]).fail();
    assert!(refused.stderr.contains("go before its command"), "{refused}");
}

#[test]
fn the_plan_is_data() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let cold = workspace.nixcache(&["plan", "--json"]).succeed();
    let json: serde_json::Value = serde_json::from_str(&cold.stdout).unwrap_or_else(|error| panic!("{error}\n{cold}"));
    assert!(json.is_object() || json.is_array());
    assert_eq!(cold.compiled, [""; 0], "{cold}");
    let text = workspace.nixcache(&["plan"]).succeed();
    assert!(text.stdout.contains("itoa"), "{text}");
}

#[test]
fn why_names_the_input_that_differed() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.edit("src/main.rs", "println!", "let _ = option_env!(\"FLAVOUR\"); println!");
    workspace.build(&["build"]);
    let outcome = workspace.with_env("FLAVOUR", "sweet").nixcache(&["why", "app"]).run();
    assert!(outcome.stdout.contains("FLAVOUR"), "{outcome}");
    assert!(!outcome.stdout.contains("sweet"), "values can be secrets\n{outcome}");
    workspace.edit("part/src/lib.rs", "1", "2");
    let outcome = workspace.nixcache(&["why", "part"]).run();
    assert!(outcome.stdout.contains("file part/src/lib.rs differs"), "{outcome}");
    // Of what depends on it, that is the reason.
    let outcome = workspace.nixcache(&["why", "app"]).run();
    assert!(outcome.stdout.contains("file part/src/lib.rs differs"), "{outcome}");
    assert_eq!(workspace.nixcache(&["why", "nobody"]).fail().stdout, "");
}

#[test]
fn dependencies_alone_can_be_built_and_kept() {
    let machine = Machine::new();
    let workspace = app(&machine);
    let shown = workspace.nixcache(&["--dry-run", "deps"]).succeed();
    assert!(shown.stdout.contains("itoa") && !shown.stdout.contains("part"), "{shown}");
    let outcome = workspace.nixcache(&["deps"]).succeed();
    assert_eq!(outcome.compiled_crates().into_iter().collect::<Vec<_>>(), ["itoa"], "{outcome}");
    let summary = &outcome.summary().json;
    let expected = (Some(1), &serde_json::json!(["build"]));
    assert_eq!((summary["units"]["planned"].as_u64(), &summary["command"]), expected, "{outcome}");
    for command in ["test", "doc", "fmt"] {
        let refused = workspace.nixcache(&["deps", command]).fail();
        assert!(refused.status.code() == Some(2) && refused.stderr.contains(command), "{refused}");
    }
    let outcome = workspace.build(&["build"]);
    assert!(!outcome.compiled_crates().contains("itoa"), "{outcome}");
}

#[test]
fn the_directory_and_the_toolchain_of_cargo_s_own_flags_are_honoured() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.build(&["build"]);
    workspace.remove_target();
    let manifest = workspace.path("Cargo.toml");
    let outcome = workspace
        .nixcache(&["build", "--manifest-path", manifest.to_str().unwrap()])
        .directory("..")
        .restores_everything();
    assert_eq!(workspace.run_output("debug/app"), "1\n", "{outcome}");
    let elsewhere = machine.root().join("elsewhere");
    let outcome = workspace.nixcache(&["build", "--target-dir", elsewhere.to_str().unwrap()]).restores_everything();
    assert!(elsewhere.join("debug/app").is_file(), "{outcome}");
}

#[test]
fn arguments_for_clippy_are_inputs() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.edit("part/src/lib.rs", "{ 1 }", "{ return 1 }");
    let cold = workspace.build(&["clippy"]);
    assert!(cold.stderr.contains("needless_return"), "{cold}");
    let warm = workspace.hit(&["clippy"]);
    assert!(warm.stderr.contains("needless_return"), "its warnings are shown again\n{warm}");
    workspace.remove_target();
    let denied = workspace.nixcache(&["clippy", "--", "-D", "warnings"]).fail();
    assert!(denied.stderr.contains("could not compile `part`"), "{denied}");
    let allowed = ["clippy", "--", "-A", "clippy::needless_return"];
    let outcome = workspace.build(&allowed);
    assert!(!outcome.stderr.contains("needless_return"), "{outcome}");
    workspace.remove_target();
    workspace.nixcache(&allowed).restores_everything();
    workspace.hit(&["clippy"]);
}

#[test]
fn the_configuration_of_clippy_is_an_input() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.write("clippy.toml", "too-many-arguments-threshold = 7\n");
    let arguments = ", b: u32, c: u32, d: u32, e: u32";
    workspace.edit(
        "part/src/lib.rs",
        "pub fn part()",
        &format!("pub fn many(a: u32{arguments}) {{ let _ = (a, b, c, d, e); }}\npub fn part()"),
    );
    let cold = workspace.build(&["clippy"]);
    assert!(!cold.stderr.contains("too_many_arguments"), "{cold}");
    workspace.hit(&["clippy"]);
    workspace.write("clippy.toml", "too-many-arguments-threshold = 3\n");
    let outcome = workspace.build(&["clippy"]);
    assert!(outcome.stderr.contains("too_many_arguments"), "{outcome}");
    workspace.hit(&["clippy"]);
}
