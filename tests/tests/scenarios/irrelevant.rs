//! What must not matter: each of these leaves a build a complete hit.

use nixcache_tests::{Machine, Workspace};

type Change = fn(&Workspace) -> Workspace;

const NO_INPUTS: &[(&str, Change)] = &[
    ("nothing", Workspace::clone),
    ("an unrelated variable", |workspace| workspace.with_env("UNRELATED", "1")),
    ("continuous integration", |workspace| workspace.with_env("CI", "true")),
    ("colours", |workspace| workspace.with_env("CARGO_TERM_COLOR", "always")),
    ("a terminal", |workspace| workspace.with_env("TERM", "dumb").with_env("COLUMNS", "40")),
    ("the number of jobs", |workspace| workspace.with_env("CARGO_BUILD_JOBS", "1")),
    ("verbosity", |workspace| workspace.with_env("CARGO_TERM_VERBOSE", "true")),
    ("a log", |workspace| workspace.with_env("CARGO_LOG", "off").with_env("RUST_LOG", "off")),
    ("backtraces", |workspace| workspace.with_env("RUST_BACKTRACE", "1")),
    ("another locale", |workspace| workspace.with_env("LANG", "C")),
    ("another time zone", |workspace| workspace.with_env("TZ", "Asia/Tokyo")),
    ("the target directory", |workspace| workspace.with_target(workspace.path("elsewhere/deep"))),
    ("the checkout", |workspace| workspace.checkout("another/place/app")),
    ("a file that nothing reads", |workspace| {
        workspace.write("notes.txt", "new").write("part/notes.txt", "new");
        workspace.clone()
    }),
    ("an alias in the configuration", |workspace| {
        workspace.write(".cargo/config.toml", "[alias]\nb2 = \"build\"\n");
        workspace.clone()
    }),
    ("the settings of the network", |workspace| {
        workspace.write(".cargo/config.toml", "[net]\nretry = 5\n[http]\ntimeout = 5\n");
        workspace.clone()
    }),
    ("a variable that nothing reads, in the configuration", |workspace| {
        workspace.write(".cargo/config.toml", "[env]\nUNREAD = \"1\"\n");
        workspace.clone()
    }),
    ("a git repository", |workspace| {
        workspace.write(".gitignore", "target\n");
        workspace.commit();
        workspace.clone()
    }),
    ("new times", |workspace| {
        let text = workspace.read("src/main.rs");
        workspace.write("src/main.rs", text);
        workspace.clone()
    }),
    ("a profile that is not used", |workspace| {
        workspace.write("Cargo.toml", workspace.read("Cargo.toml") + "[profile.bench]\nopt-level = 1\n");
        workspace.clone()
    }),
];

#[test]
fn what_reaches_no_unit_is_no_input() {
    let mut wrong = Vec::new();
    for (name, change) in NO_INPUTS {
        let machine = Machine::new();
        let workspace = machine.workspace("first/app");
        workspace.package("part", "", "pub fn part() -> u32 { 1 }\n");
        workspace.package(
            "",
            "[dependencies]\npart = { path = \"part\" }\nitoa = \"1\"\n[workspace]\n",
            "fn main() { println!(\"{}\", itoa::Buffer::new().format(part::part())) }\n",
        );
        workspace.build(&["build"]);
        let changed = change(&workspace);
        let hit = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| changed.hit(&["build"])));
        if hit.is_err() {
            wrong.push(*name);
        }
    }
    assert!(wrong.is_empty(), "these must not matter, and do: {wrong:?}");
}

#[test]
fn arguments_about_the_output_are_no_inputs() {
    let machine = Machine::new();
    let workspace = machine.workspace("app");
    workspace.package("", "[dependencies]\nitoa = \"1\"\n[workspace]\n", "fn main() {}\n");
    workspace.build(&["build"]);
    let same: &[&[&str]] = &[
        &["-v"],
        &["-q"],
        &["-j1"],
        &["--keep-going"],
        &["--message-format=short"],
        &["--message-format=json"],
        &["--color=never"],
        &["--locked"],
        &["--offline"],
        &["--frozen"],
        &["--bins"],
        &["--profile", "dev"],
        &["--timings"],
    ];
    for arguments in same {
        workspace.remove_target();
        workspace.nixcache(&[&["build"], *arguments].concat()).restores_everything();
    }
    workspace.remove_target();
    workspace.nixcache(&["b"]).restores_everything();
}
