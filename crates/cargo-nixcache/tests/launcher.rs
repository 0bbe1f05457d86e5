//! The launcher as a build script calls it: with real C compilers, and with programs that are none.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::cargo::record::{PathRemap, RecorderSession};

/// The program, as cargo says it to the tests that it runs. With `env!` they would be tied to one checkout.
fn program() -> String {
    std::env::var("CARGO_BIN_EXE_cargo-nixcache").unwrap()
}

const PLACE: &str = "const char *place = \"<\" __FILE__ \">\";\n";

struct Script {
    _directory: tempfile::TempDir,
    base: Utf8PathBuf,
    package: Utf8PathBuf,
}

impl Script {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let package = base.join("cargo/registry/src/index/place-1.0.0");
        let script = Self { _directory: directory, base, package };
        for path in ["records", "launcher", "workspace"] {
            std::fs::create_dir_all(script.base.join(path)).unwrap();
        }
        for name in ["cachepot", "sccache"] {
            symlink(program(), script.base.join("launcher").join(name)).unwrap();
        }
        script.write("place.c", PLACE);
        script.session(None, &[]);
        script
    }

    fn session(&self, wrapper: Option<&Utf8Path>, not_remapped: &[&Utf8Path]) {
        let remap = |from: &str, to: &str| PathRemap { from: self.base.join(from), to: to.to_owned() };
        let remaps = [remap("cargo", "/nixcache/cargo"), remap("workspace", ".")];
        let wrapper = wrapper.map(Utf8Path::to_string);
        let mut session = RecorderSession::new(self.base.join("records"), remaps, wrapper);
        session.not_remapped = not_remapped.iter().map(|path| (*path).to_owned()).collect();
        session.write(&self.base.join("session.json")).unwrap();
    }

    fn write(&self, path: &str, text: &str) -> Utf8PathBuf {
        let path = self.package.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A program with a name, as a shell script.
    fn program(&self, name: &str, text: &str) -> Utf8PathBuf {
        let path = self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The launcher by a name, as a build script of the package starts it.
    fn launcher(&self, name: &str, words: &[&str]) -> Command {
        let mut command = self.plain(self.base.join("launcher").join(name).as_str(), words);
        command.env("NIXCACHE_RECORDER", self.base.join("session.json"));
        command
    }

    fn plain(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.package).env_remove("NIXCACHE_RECORDER");
        command.env("CARGO_MANIFEST_DIR", &self.package).env_remove("CARGO_CRATE_NAME");
        command
    }

    /// Compiles a file of the package by its absolute path, and gives the place that the object file holds.
    fn place(&self, compiler: &str, file: &str) -> String {
        let source = self.package.join(file);
        let object = self.package.join("out.o");
        let _ = std::fs::remove_file(&object);
        let output = run(self.launcher("cachepot", &[compiler, "-c", source.as_str(), "-o", object.as_str()]));
        assert!(output.status.success(), "{output:?}");
        let bytes = std::fs::read(object).unwrap();
        let begin = bytes.iter().position(|byte| *byte == b'<').unwrap();
        let end = begin + bytes[begin..].iter().position(|byte| *byte == b'>').unwrap();
        String::from_utf8(bytes[begin + 1..end].to_vec()).unwrap()
    }

    fn mapped(&self, file: &str) -> String {
        format!("/nixcache/{}", self.package.strip_prefix(&self.base).unwrap().join(file))
    }
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

#[test]
fn c_code_names_no_place_of_this_machine() {
    let script = Script::new();
    assert_eq!(script.place("cc", "place.c"), script.mapped("place.c"));
    script.write("deep/place.h", PLACE);
    script.write("header.c", "#include \"deep/place.h\"\n");
    assert_eq!(script.place("cc", "header.c"), script.mapped("deep/place.h"));
    // Debug information too, of the assembler as well.
    script.write("code.S", ".text\n.globl code\ncode: nop\n");
    for file in ["place.c", "code.S"] {
        let object = script.base.join("debug.o");
        let arguments = ["cc", "-g", "-c", file, "-o", object.as_str()];
        assert!(run(script.launcher("cachepot", &arguments)).status.success());
        let held = std::fs::read(&object).unwrap();
        let holds = |text: &str| held.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(script.base.as_str()), "{file}");
        assert!(run(script.plain("cc", &arguments[1..])).status.success());
        let held = std::fs::read(&object).unwrap();
        assert!(held.windows(script.base.as_str().len()).any(|window| window == script.base.as_str().as_bytes()));
    }
}

#[test]
fn the_callers_own_mapping_wins() {
    let script = Script::new();
    let compiler = script.program("gcc", &format!("exec cc \"$@\" -ffile-prefix-map={}=/mine", script.package));
    assert_eq!(script.place(compiler.as_str(), "place.c"), "/mine/place.c");
}

#[test]
fn a_file_that_includes_itself_by_name_is_compiled_all_the_same() {
    let script = Script::new();
    script.write("self.c", &format!("#ifndef ONCE\n#define ONCE\n#include __FILE__\n#else\n{PLACE}#endif\n"));
    assert_eq!(script.place("cc", "self.c"), script.package.join("self.c"));
}

#[test]
fn a_compiler_that_does_not_take_the_option_in_silence_never_sees_it() {
    let script = Script::new();
    for refusal in ["echo unknown option >&2; exit 1", "echo ignored >&2"] {
        let log = script.base.join("refusals");
        let _ = std::fs::remove_file(&log);
        let text = format!("case \"$*\" in *prefix-map*) echo x >> {log}; {refusal};; esac\nexec cc \"$@\"");
        let compiler = script.program("gcc", &text);
        std::fs::remove_dir_all(script.base.join("records")).unwrap();
        std::fs::create_dir(script.base.join("records")).unwrap();
        for _ in 0..2 {
            assert_eq!(script.place(compiler.as_str(), "place.c"), script.package.join("place.c"));
        }
        // It was asked once.
        assert_eq!(std::fs::read_to_string(log).unwrap(), "x\n");
    }
}

#[test]
fn packages_that_are_not_mapped_are_left_alone() {
    let script = Script::new();
    script.session(None, &[&script.package]);
    assert_eq!(script.place("cc", "place.c"), script.package.join("place.c"));
}

#[test]
fn what_the_caller_gets_is_the_compilers_own() {
    let script = Script::new();
    script.write("wrong.c", "int x = ;\n");
    script.write("doubtful.c", "int f(void) { int unused; return 0; }\n");
    let calls: [&[&str]; 8] = [
        &["cc", "-c", "wrong.c"],
        &["cc", "-Wall", "-c", "doubtful.c"],
        &["cc", "--version"],
        &["cc", "-dumpmachine"],
        &["cc", "-E", "place.c"],
        &["cc", "-c", "absent.c"],
        &["sh", "-c", "echo out; echo err >&2; exit 7"],
        &["printenv", "--null", "CARGO_MANIFEST_DIR"],
    ];
    for call in calls {
        let (ours, plain) = (run(script.launcher("cachepot", call)), run(script.plain(call[0], &call[1..])));
        assert_eq!(ours, plain, "{call:?}");
        // By its own name too, and without a session.
        let mut named = script.plain(&program(), call);
        named.env("NIXCACHE_RECORDER", script.base.join("session.json"));
        assert_eq!(run(named), plain, "{call:?}");
        let mut alone = script.launcher("cachepot", call);
        alone.env_remove("NIXCACHE_RECORDER");
        assert_eq!(run(alone), plain, "{call:?}");
    }
    let killed = run(script.launcher("cachepot", &["sh", "-c", "kill -TERM $$"]));
    assert_eq!(killed.status.signal(), Some(15));
    // A compiler looks at its own name.
    let name = script.program("gcc", "echo \"$0\"");
    let shown = run(script.launcher("cachepot", &[name.as_str(), "--version"]));
    assert_eq!(String::from_utf8(shown.stdout).unwrap().trim(), name);
}

#[test]
fn the_users_own_cache_runs_around_c_compilers_and_other_wrappers_do_not() {
    let script = Script::new();
    let log = script.base.join("log");
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    let text = format!("echo \"$@\" >> {log}\ncase \"$1\" in -*) exit 3;; esac\nexec \"$@\"");
    let cache = script.program("sccache", &text);
    script.session(Some(&cache), &[]);
    assert_eq!(script.place("cc", "place.c"), script.mapped("place.c"));
    assert!(logged().starts_with("cc -ffile-prefix-map="), "{}", logged());
    // What is meant for the cache reaches it.
    assert_eq!(run(script.launcher("sccache", &["--show-stats"])).status.code(), Some(3));
    assert!(logged().ends_with("--show-stats\n"));

    std::fs::remove_file(&log).unwrap();
    let wrapper = script.program("wrapper", &text);
    script.session(Some(&wrapper), &[]);
    assert_eq!(script.place("cc", "place.c"), script.mapped("place.c"));
    assert_eq!(logged(), "");
    assert!(run(script.launcher("cachepot", &["rustc", "--version"])).status.success());
    assert_eq!(logged(), "rustc --version\n");
}
