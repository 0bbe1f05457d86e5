//! A random walk through the states of a workspace: whatever was built before, the program is that of now.
//!
//! One program prints everything that it was made from, so what it must print follows from the state alone. Each step
//! changes some of that, goes to one of two checkouts with homes of their own, which share a store or only a cache, and
//! builds there, into an empty target directory or into what earlier steps left. A state that was built from nothing before must be restored completely.
//!
//! `WALK_STEPS` sets how long the walk is, `PROPTEST_RNG_SEED` which one it is.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::caches::Cache;
use nixcache_tests::{LocalRegistry, Machine, Outcome, Workspace, set_modified};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// What can be changed. Each has the values 0, 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knob {
    /// A line of a library.
    Source,
    /// A file outside the package that a library includes.
    Included,
    /// A file that a build script names, and generates code from.
    Watched,
    /// A file of a package whose build script names nothing.
    Unnamed,
    /// C code of a build script.
    Native,
    /// What a procedural macro expands to.
    Macro,
    /// A file that a procedural macro reads, and its user declares.
    Template,
    /// The version of a library.
    Version,
    /// The version of a published dependency, in the lock file.
    Dependency,
    /// A variable in the `[env]` table of cargo's configuration.
    Table,
    /// A variable that a build script names. Unset, or two values, as are those below.
    ScriptVariable,
    /// A variable that a library reads.
    Variable,
    /// A `--cfg` in `RUSTFLAGS`.
    Flag,
    /// Which profile: dev, dev without assertions, release.
    Profile,
    /// Which features: those of the program; one more; those that a whole workspace agrees on.
    Selection,
}

const KNOBS: [Knob; 15] = [
    Knob::Source,
    Knob::Included,
    Knob::Watched,
    Knob::Unnamed,
    Knob::Native,
    Knob::Macro,
    Knob::Template,
    Knob::Version,
    Knob::Dependency,
    Knob::Table,
    Knob::ScriptVariable,
    Knob::Variable,
    Knob::Flag,
    Knob::Profile,
    Knob::Selection,
];

/// The value of each knob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State([u8; KNOBS.len()]);

impl State {
    fn get(&self, knob: Knob) -> u8 {
        self.0[knob as usize]
    }

    /// What the program prints.
    fn printed(&self) -> String {
        let mut text = String::new();
        for knob in KNOBS {
            let value = self.get(knob);
            let shown = match knob {
                Knob::Variable | Knob::ScriptVariable | Knob::Flag if value == 0 => "none".to_owned(),
                Knob::Profile => ["true 0", "false 0", "false 3"][usize::from(value)].to_owned(),
                Knob::Selection => ["none", "extra", "other"][usize::from(value)].to_owned(),
                _ => value.to_string(),
            };
            writeln!(text, "{knob:?} {shown}").unwrap();
        }
        text
    }

    fn arguments(&self) -> Vec<&'static str> {
        let selection: &[&str] = match self.get(Knob::Selection) {
            0 => &["-p", "app"],
            1 => &["-p", "app", "--features", "extra"],
            _ => &["--workspace"],
        };
        let profile: &[&str] = if self.get(Knob::Profile) == 2 { &["--release"] } else { &[] };
        [selection, profile].concat()
    }

    fn program(&self) -> &'static str {
        if self.get(Knob::Profile) == 2 { "release/app" } else { "debug/app" }
    }
}

/// What is done before a build, in the same target directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    EmptyTarget,
    Check,
    Tests,
    PlainCargo,
}

#[derive(Clone, Debug)]
struct Step {
    /// Goes back to what was built in an earlier step, before the changes.
    back: Option<Index>,
    changes: Vec<(usize, u8)>,
    checkout: usize,
    /// Files that change keep their modification times.
    keep_times: bool,
    before: Before,
}

fn step() -> impl Strategy<Value = Step> {
    let before = prop_oneof![
        6 => Just(Before::EmptyTarget),
        4 => Just(Before::Nothing),
        1 => Just(Before::Check),
        1 => Just(Before::Tests),
        1 => Just(Before::PlainCargo),
    ];
    let changes = proptest::collection::vec((0..KNOBS.len(), 0..3u8), 0..3);
    let back = proptest::option::weighted(0.4, any::<Index>());
    (back, changes, 0..2usize, proptest::bool::weighted(0.3), before)
        .prop_map(|(back, changes, checkout, keep_times, before)| Step { back, changes, checkout, keep_times, before })
}

/// A checkout, and what was last written to it.
struct Checkout {
    workspace: Workspace,
    written: State,
    /// A file changed and kept its time since the target directory was empty. Plain cargo can't see such a change.
    is_tricked: bool,
    /// Plain cargo built here since then. What it built from such files can't be told.
    is_mixed: bool,
}

impl Checkout {
    fn new(workspace: Workspace, registry: &LocalRegistry) -> Self {
        let checkout = Self { workspace, written: State::default(), is_tricked: false, is_mixed: false };
        checkout.write_code(registry);
        for knob in KNOBS {
            checkout.write(knob, 0);
        }
        checkout.workspace.cargo(&["generate-lockfile"]).succeed();
        checkout.write(Knob::Dependency, 0);
        checkout
    }

    /// What never changes.
    fn write_code(&self, registry: &LocalRegistry) {
        let workspace = &self.workspace;
        workspace.write("registry.toml", registry.configuration());
        workspace.package("expand", "[lib]\nproc-macro = true\n", "");
        workspace.package("unnamed", "", "include!(concat!(env!(\"OUT_DIR\"), \"/code.rs\"));\n");
        workspace.write(
            "unnamed/build.rs",
            "fn main() {\n    let text = std::fs::read_to_string(\"notes.txt\").unwrap();\n    \
             let file = std::env::var(\"OUT_DIR\").unwrap() + \"/code.rs\";\n    \
             std::fs::write(file, format!(\"pub const NOTES: &str = {text:?};\")).unwrap();\n}\n",
        );
        workspace.package(
            "native",
            "links = \"walk\"\n",
            "unsafe extern \"C\" { safe fn walk_native() -> i32; }\npub fn native() -> i32 { walk_native() }\n",
        );
        workspace.write(
            "native/build.rs",
            "use std::process::Command;\nfn main() {\n    let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
             println!(\"cargo::rerun-if-changed=native.c\");\n    \
             let run = |command: &mut Command| assert!(command.status().unwrap().success());\n    \
             run(Command::new(\"cc\").args([\"-c\", \"native.c\", \"-o\"]).arg(format!(\"{out}/native.o\")));\n    \
             run(Command::new(\"ar\").args([\"crsD\"]).arg(format!(\"{out}/libwalk.a\"))\n        \
             .arg(format!(\"{out}/native.o\")));\n    \
             println!(\"cargo::rustc-link-search=native={out}\");\n    \
             println!(\"cargo::rustc-link-lib=static=walk\");\n}\n",
        );
        workspace.write(
            "part/build.rs",
            "fn main() {\n    println!(\"cargo::rerun-if-changed=../texts/watched.txt\");\n    \
             println!(\"cargo::rerun-if-env-changed=WALK_SCRIPT\");\n    \
             let variable = |name: &str| std::env::var(name).unwrap_or(\"none\".into());\n    \
             println!(\"cargo::rustc-env=BAKED={}\", variable(\"WALK_SCRIPT\"));\n    \
             println!(\"cargo::rustc-env=LEVEL={}\", variable(\"OPT_LEVEL\"));\n    \
             let text = std::fs::read_to_string(\"../texts/watched.txt\").unwrap();\n    \
             let code = format!(\"pub const WATCHED: &str = {text:?};\");\n    \
             std::fs::write(variable(\"OUT_DIR\") + \"/code.rs\", code).unwrap();\n}\n",
        );
        workspace.package("other", "[dependencies]\npart = { path = \"../part\", features = [\"other\"] }\n", "");
        let mut main = String::from("fn main() {\n");
        for knob in KNOBS {
            let value = match knob {
                Knob::Source => "part::SOURCE",
                Knob::Included => "part::INCLUDED",
                Knob::Watched => "part::WATCHED",
                Knob::Unnamed => "unnamed::NOTES",
                Knob::Native => "native::native()",
                Knob::Macro => "expand::word!()",
                Knob::Template => "expand::template!()",
                Knob::Version => "part::VERSION",
                Knob::Dependency => "published::VALUE",
                Knob::Table => "env!(\"WALK_TABLE\")",
                Knob::ScriptVariable => "part::BAKED",
                Knob::Variable => "part::VARIABLE",
                Knob::Flag => "part::FLAG",
                Knob::Profile => "format!(\"{} {}\", part::ASSERTIONS, part::LEVEL)",
                Knob::Selection => "part::SELECTION",
            };
            writeln!(main, "    println!(\"{knob:?} {{}}\", {value});").unwrap();
        }
        workspace.package(
            "",
            "[features]\nextra = [\"part/extra\"]\n\
             [dependencies]\npart = { path = \"part\" }\nunnamed = { path = \"unnamed\" }\n\
             native = { path = \"native\" }\nexpand = { path = \"expand\" }\n\
             published = { version = \"1\", registry = \"local\" }\n\
             [package.metadata.nixcache]\ninputs = [\"texts/template.txt\"]\n\
             [workspace]\nmembers = [\"other\"]\n",
            &(main + "}\n"),
        );
    }

    /// Writes the file of a knob, if it has one.
    fn write(&self, knob: Knob, value: u8) {
        let workspace = &self.workspace;
        match knob {
            Knob::Source => {
                workspace.write(
                    "part/src/lib.rs",
                    format!(
                        "pub const SOURCE: &str = \"{value}\";\n\
                         pub const INCLUDED: &str = include_str!(\"../../texts/included.txt\");\n\
                         include!(concat!(env!(\"OUT_DIR\"), \"/code.rs\"));\n\
                         pub const BAKED: &str = env!(\"BAKED\");\npub const LEVEL: &str = env!(\"LEVEL\");\n\
                         pub const VERSION: &str = env!(\"CARGO_PKG_VERSION_PATCH\");\n\
                         pub const VARIABLE: &str = match option_env!(\"WALK_VARIABLE\") {{\n    \
                         Some(value) => value,\n    None => \"none\",\n}};\n\
                         pub const FLAG: &str =\n    if cfg!(walk = \"1\") {{ \"1\" }} else if cfg!(walk = \"2\") \
                         {{ \"2\" }} else {{ \"none\" }};\n\
                         pub const ASSERTIONS: bool = cfg!(debug_assertions);\n\
                         pub const SELECTION: &str = if cfg!(feature = \"other\") {{ \"other\" }}\n    \
                         else if cfg!(feature = \"extra\") {{ \"extra\" }} else {{ \"none\" }};\n"
                    ),
                );
            }
            Knob::Included => drop(workspace.write("texts/included.txt", value.to_string())),
            Knob::Watched => drop(workspace.write("texts/watched.txt", value.to_string())),
            Knob::Template => drop(workspace.write("texts/template.txt", value.to_string())),
            Knob::Unnamed => drop(workspace.write("unnamed/notes.txt", value.to_string())),
            Knob::Native => {
                workspace.write("native/native.c", format!("int walk_native(void) {{ return {value}; }}\n"));
            }
            Knob::Macro => {
                workspace.write(
                    "expand/src/lib.rs",
                    format!(
                        "use proc_macro::{{Literal, TokenStream, TokenTree}};\n\
                         fn literal(text: &str) -> TokenStream {{ TokenTree::from(Literal::string(text)).into() }}\n\
                         #[proc_macro]\npub fn word(_: TokenStream) -> TokenStream {{ literal(\"{value}\") }}\n\
                         #[proc_macro]\npub fn template(_: TokenStream) -> TokenStream {{\n    \
                         let root = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n    \
                         literal(&std::fs::read_to_string(format!(\"{{root}}/texts/template.txt\")).unwrap())\n}}\n"
                    ),
                );
            }
            Knob::Version => {
                workspace.write(
                    "part/Cargo.toml",
                    format!(
                        "[package]\nname = \"part\"\nversion = \"0.1.{value}\"\nedition = \"2024\"\n\
                         [features]\nextra = []\nother = []\n"
                    ),
                );
            }
            Knob::Table => {
                let registry = workspace.read("registry.toml");
                workspace.write(".cargo/config.toml", format!("{registry}[env]\nWALK_TABLE = \"{value}\"\n"));
            }
            // Nothing is there to be changed before the first lock file is made.
            Knob::Dependency if workspace.path("Cargo.lock").exists() => {
                let version = format!("1.0.{value}");
                workspace.cargo(&["update", "-p", "published", "--precise", &version]).succeed();
            }
            Knob::Dependency | Knob::ScriptVariable | Knob::Variable | Knob::Flag | Knob::Profile | Knob::Selection => {
            }
        }
    }

    /// The files that are written where a knob changes.
    fn file(knob: Knob) -> Option<&'static str> {
        match knob {
            Knob::Source => Some("part/src/lib.rs"),
            Knob::Included => Some("texts/included.txt"),
            Knob::Watched => Some("texts/watched.txt"),
            Knob::Template => Some("texts/template.txt"),
            Knob::Unnamed => Some("unnamed/notes.txt"),
            Knob::Native => Some("native/native.c"),
            Knob::Macro => Some("expand/src/lib.rs"),
            _ => None,
        }
    }

    fn change_to(&mut self, state: State, keep_times: bool) {
        for knob in KNOBS {
            let value = state.get(knob);
            if self.written.get(knob) == value {
                continue;
            }
            let file = Self::file(knob).filter(|_| keep_times).map(|file| self.workspace.path(file));
            let time = file.as_ref().map(|file| file.metadata().unwrap().modified().unwrap());
            self.write(knob, value);
            if let (Some(file), Some(time)) = (file, time) {
                set_modified(&file, time);
                self.is_tricked = true;
            }
        }
        self.written = state;
    }

    fn workspace(&self, state: State) -> Workspace {
        let mut workspace = self.workspace.clone();
        for (knob, name) in [(Knob::ScriptVariable, "WALK_SCRIPT"), (Knob::Variable, "WALK_VARIABLE")] {
            if state.get(knob) > 0 {
                workspace = workspace.with_env(name, state.get(knob).to_string());
            }
        }
        if state.get(Knob::Flag) > 0 {
            workspace = workspace.with_env("RUSTFLAGS", format!("--cfg=walk=\"{}\"", state.get(Knob::Flag)));
        }
        if state.get(Knob::Profile) == 1 {
            workspace = workspace.with_env("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "false");
        }
        workspace
    }

    /// Makes the state, builds it, and gives what came of it. `is_known` says that it was built from nothing before.
    fn step(&mut self, step: &Step, state: State, is_known: bool) -> (Outcome, String) {
        let before = match step.before {
            // Cargo takes the time of a file for its content: what it makes of these is its own.
            Before::PlainCargo if self.is_tricked || step.keep_times => Before::Nothing,
            before => before,
        };
        self.change_to(state, step.keep_times && !self.is_mixed);
        let workspace = self.workspace(state);
        let with = |command: &'static str| [&[command], state.arguments().as_slice()].concat();
        match before {
            Before::Nothing => {}
            Before::EmptyTarget => {
                workspace.remove_target();
                (self.is_tricked, self.is_mixed) = (false, false);
            }
            Before::Check => drop(workspace.nixcache(&with("check")).succeed()),
            Before::Tests => drop(workspace.nixcache(&[with("test"), vec!["--no-run"]].concat()).succeed()),
            Before::PlainCargo => {
                workspace.cargo(&with("build")).succeed();
                self.is_mixed = true;
            }
        }
        let build = workspace.nixcache(&with("build"));
        let outcome = if is_known && before == Before::EmptyTarget {
            let outcome = build.restores_everything();
            workspace.assert_nothing_to_do(&with("build"));
            outcome
        } else {
            build.succeed()
        };
        let printed = workspace.run_output(state.program());
        (outcome, printed)
    }
}

/// Walks in two checkouts, one on each machine, whose builds are given `shared`.
fn walk(machines: [Machine; 2], shared: impl Fn(&Workspace) -> Workspace) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let steps: usize = number("WALK_STEPS").and_then(|steps| usize::try_from(steps).ok()).unwrap_or(30);
    let config = Config {
        cases: 1,
        failure_persistence: None,
        // One walk takes a minute. The steps that led to a failure are shown; their seed repeats it.
        max_shrink_iters: 0,
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(1)),
        ..Config::default()
    };
    let registry = LocalRegistry::new(&machines[0]);
    for value in 0..3 {
        let source = format!("pub const VALUE: u8 = {value};\n");
        registry.publish("published", &format!("1.0.{value}"), &source);
    }
    let checkouts = machines.map(|machine| Checkout::new(shared(&machine.workspace("app")), &registry));
    let checkouts = RefCell::new(checkouts);
    let result = TestRunner::new(config).run(&proptest::collection::vec(step(), steps), |walk| {
        let (mut state, mut past, mut known) = (State::default(), vec![State::default()], BTreeSet::new());
        let mut restored = 0;
        for (number, step) in walk.iter().enumerate() {
            if let Some(back) = step.back {
                state = *back.get(&past);
            }
            for (knob, value) in &step.changes {
                state.0[*knob] = *value;
            }
            let is_known = known.contains(&state);
            let (outcome, printed) = checkouts.borrow_mut()[step.checkout].step(step, state, is_known);
            let way = &walk[..=number];
            prop_assert_eq!(printed, state.printed(), "step {}: {:#?}\n{}", number, way, outcome);
            if step.before == Before::EmptyTarget {
                restored += usize::from(is_known);
                known.insert(state);
            }
            past.push(state);
        }
        // A walk that never comes back to where it was shows nothing.
        prop_assert!(restored * 10 >= steps, "{} of {} steps were restored as a whole", restored, steps);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn whatever_was_built_before_the_program_is_that_of_now() {
    let machine = Machine::new();
    walk([machine.clone(), machine.another()], Workspace::clone);
}

#[test]
fn whatever_is_in_a_cache_the_program_is_that_of_now() {
    let cache = Cache::new();
    walk([Machine::new(), Machine::new()], |workspace| cache.fetching(&cache.publishing(workspace), &cache.public_key));
}
