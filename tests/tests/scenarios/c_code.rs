//! C code that names its own place: in packages from elsewhere, in members, with other compilers and wrappers.

use nixcache_tests::{Machine, Toolchain, Workspace, contains_bytes};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const BUILD: &str = "fn main() {
    let directory = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();
    println!(\"cargo::rerun-if-changed=c\");
    cc::Build::new().file(format!(\"{directory}/c/place.c\")).compile(\"place\");
}
";

const LIBRARY: &str = "unsafe extern \"C\" { safe fn place() -> *const std::ffi::c_char; }
pub fn of_c() -> String { unsafe { std::ffi::CStr::from_ptr(place()) }.to_str().unwrap().to_owned() }
";

/// A program that prints what `__FILE__` is in a git dependency's C code. The `cc` crate is vendored, so that
/// nobody asks a registry.
fn app(machine: &Machine) -> Workspace {
    let repository = machine.workspace("repositories/place");
    repository.package("", "[build-dependencies]\ncc = \"1\"\n", LIBRARY);
    repository.edit("Cargo.toml", "name = \"app\"", "name = \"place\"");
    repository.write("build.rs", BUILD).write("c/place.c", "const char *place(void) { return __FILE__; }\n");
    repository.commit();
    let workspace = machine.workspace("app");
    let main = "fn main() { println!(\"{}\", place::of_c()) }\n";
    workspace.package("", "[build-dependencies]\ncc = \"1\"\n[workspace]\n", main);
    workspace.cargo(&["vendor", "--quiet"]).succeed();
    workspace.write(
        ".cargo/config.toml",
        "[net]\noffline = false\n\
         [source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n",
    );
    let url = format!("file://{}", repository.root().display());
    workspace.package("", &format!("[dependencies]\nplace = {{ git = \"{url}\" }}\n[workspace]\n"), main);
    workspace
}

/// The app on another machine. One of the vendored directories has the name that checkouts leave out.
fn app_on(machine: &Machine, workspace: &Workspace) -> Workspace {
    let elsewhere = workspace.checkout_on(machine, "deep/down/app");
    nixcache_tests::copy_tree(&workspace.path("vendor"), &elsewhere.path("vendor"), &[]);
    elsewhere
}

/// A compiler of our own, with a name that is a compiler's: it fails once `broken` says so, and logs its calls.
struct Compiler {
    program: PathBuf,
    log: PathBuf,
    broken: PathBuf,
}

impl Compiler {
    fn new(machine: &Machine, name: &str, before: &str) -> Self {
        let directory = machine.root().join("compiler");
        std::fs::create_dir_all(&directory).unwrap();
        let compiler =
            Self { program: directory.join(name), log: directory.join("log"), broken: directory.join("broken") };
        let (log, broken) = (compiler.log.display(), compiler.broken.display());
        let text = format!("#!/bin/sh\necho \"$@\" >> {log}\n[ -e {broken} ] && exit 86\n{before}\n");
        std::fs::write(&compiler.program, text).unwrap();
        std::fs::set_permissions(&compiler.program, std::fs::Permissions::from_mode(0o755)).unwrap();
        compiler
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn breaks(&self) {
        std::fs::write(&self.broken, "").unwrap();
        std::fs::remove_file(&self.log).unwrap();
    }
}

#[test]
fn c_code_of_a_dependency_is_a_hit_on_another_machine_in_another_place() {
    let machine = Machine::new();
    let compiler = Compiler::new(&machine, "gcc", "exec gcc \"$@\"");
    let workspace = app(&machine).with_env("CC", &compiler.program);
    let cold = workspace.build(&["build"]);
    assert_eq!(cold.units().bound, 0, "{cold}");
    let place = workspace.run_output("debug/app");
    assert!(place.starts_with("/nixcache/cargo/git/checkouts/place-"), "{place}");
    assert!(compiler.calls().contains("-ffile-prefix-map="), "{}", compiler.calls());
    // Nothing but the launcher's directory tells that it was there.
    let launcher = machine.store().join("machine/launcher");
    assert_eq!(contains_bytes(&workspace.target().join("debug/deps"), launcher.to_str().unwrap()), None);

    compiler.breaks();
    let other = Machine::with_store(&Toolchain::current(), machine.store());
    let elsewhere = app_on(&other, &workspace);
    let elsewhere = elsewhere.with_target(other.root().join("target")).with_env("CC", &compiler.program);
    elsewhere.hit(&["build"]);
    assert_eq!((compiler.calls().as_str(), elsewhere.run_output("debug/app")), ("", place));
    let program = |workspace: &Workspace| std::fs::read(workspace.target().join("debug/app")).unwrap();
    assert!(program(&workspace) == program(&elsewhere));
}

#[test]
fn two_machines_compile_c_code_to_the_same_bytes() {
    let machine = Machine::new();
    let workspace = app(&machine);
    workspace.build(&["build"]);
    let other = Machine::new();
    let elsewhere = app_on(&other, &workspace);
    assert!(elsewhere.build(&["build"]).units().built > 0);
    let archive = |workspace: &Workspace| {
        let files = nixcache_tests::walk(&workspace.target());
        std::fs::read(files.iter().find(|file| file.ends_with("libplace.a")).unwrap()).unwrap()
    };
    assert!(archive(&workspace) == archive(&elsewhere));
    let program = |workspace: &Workspace| std::fs::read(workspace.target().join("debug/app")).unwrap();
    assert!(program(&workspace) == program(&elsewhere));
}

#[test]
fn c_code_under_the_users_own_cache_is_a_hit_too() {
    let machine = Machine::new();
    let cache = Compiler::new(&machine, "sccache", "exec \"$@\"");
    let workspace = app(&machine).with_env("RUSTC_WRAPPER", &cache.program);
    assert_eq!(workspace.build(&["build"]).units().bound, 0);
    let calls = cache.calls();
    assert!(calls.lines().any(|call| call.contains("-ffile-prefix-map=") && call.contains("place.c")), "{calls}");
    assert!(calls.lines().any(|call| call.contains("--crate-name place")), "{calls}");
    let other = Machine::with_store(&Toolchain::current(), machine.store());
    let elsewhere = app_on(&other, &workspace).with_env("RUSTC_WRAPPER", &cache.program);
    elsewhere.remove_target();
    elsewhere.nixcache(&["build"]).restores_everything();
}

#[test]
fn a_compiler_that_refuses_the_option_works_and_binds_the_unit() {
    let machine = Machine::new();
    let refusal = "case \"$*\" in *prefix-map*) echo unknown >&2; exit 1;; esac\nexec gcc \"$@\"";
    let compiler = Compiler::new(&machine, "gcc", refusal);
    let workspace = app(&machine).with_env("CC", &compiler.program);
    let cold = workspace.build(&["build"]);
    assert!(cold.units().bound > 0, "{cold}");
    let home = machine.cargo_home();
    assert!(workspace.run_output("debug/app").starts_with(home.to_str().unwrap()));
    workspace.hit(&["build"]);
    let other = Machine::with_store(&Toolchain::current(), machine.store());
    let elsewhere = app_on(&other, &workspace).with_env("CC", &compiler.program);
    let outcome = elsewhere.build(&["build"]);
    assert!(outcome.built_packages().contains("place 0.1.0"), "{outcome}");
    assert!(elsewhere.run_output("debug/app").starts_with(other.cargo_home().to_str().unwrap()));
}

/// A member with C code, named by its absolute path.
fn member(machine: &Machine) -> Workspace {
    let workspace = machine.workspace("app");
    let main = format!("{LIBRARY}fn main() {{ println!(\"{{}}\", of_c()) }}\n");
    workspace.package("", "[build-dependencies]\ncc = \"1\"\n[workspace]\n", &main);
    workspace.write("build.rs", BUILD).write("c/place.c", "const char *place(void) { return __FILE__; }\n");
    workspace
}

#[test]
fn c_code_of_a_member_is_treated_as_its_rust_code() {
    let machine = Machine::new();
    let workspace = member(&machine);
    assert_eq!(workspace.build(&["build"]).units().bound, 0);
    assert_eq!(workspace.run_output("debug/app"), "./c/place.c\n");
    workspace.checkout("deep/down/app").hit(&["build"]);

    let plain = Machine::new();
    let workspace = member(&plain);
    workspace.write("nixcache.toml", "[members]\nremap-paths = false\n");
    assert!(workspace.build(&["build"]).units().bound > 0);
    assert_eq!(workspace.run_output("debug/app").trim(), workspace.path("c/place.c").to_str().unwrap());
}

#[test]
fn what_a_script_says_to_people_binds_nothing() {
    let machine = Machine::new();
    let workspace = member(&machine).with_env("CC_ENABLE_DEBUG_OUTPUT", "1");
    workspace.edit(
        "build.rs",
        "    cc::Build",
        "    println!(\"called by {} in x{directory}y\", std::env::var(\"RUSTC_WRAPPER\").unwrap());\n    \
         println!(\"cargo::warning=here: x{directory}y\");\n    cc::Build",
    );
    let cold = workspace.build(&["build"]);
    assert_eq!(cold.units().bound, 0, "{cold}");
    let other = Machine::with_store(&Toolchain::current(), machine.store());
    workspace.checkout_on(&other, "deep/down/app").with_env("CC_ENABLE_DEBUG_OUTPUT", "1").hit(&["build"]);
}

#[test]
fn a_script_that_writes_down_how_it_calls_the_compiler_is_a_hit_with_another_store() {
    let machine = Machine::new();
    let workspace = member(&machine);
    workspace.edit(
        "build.rs",
        "    cc::Build",
        "    let out = std::env::var(\"OUT_DIR\").unwrap();\n    \
         std::fs::write(format!(\"{out}/config.log\"), cc::Build::new().get_compiler().cc_env().as_encoded_bytes())\
         .unwrap();\n    cc::Build",
    );
    assert_eq!(workspace.build(&["build"]).units().bound, 0);
    let log = |workspace: &Workspace| {
        let files = nixcache_tests::walk(&workspace.target());
        std::fs::read_to_string(files.iter().find(|file| file.ends_with("config.log")).unwrap()).unwrap()
    };
    assert!(log(&workspace).starts_with(machine.store().to_str().unwrap()), "{}", log(&workspace));
    // Another place of the same store, as on another machine.
    let other = Machine::new();
    std::fs::remove_dir_all(other.store()).ok();
    nixcache_tests::copy_tree(machine.store(), other.store(), &["machine"]);
    let elsewhere = workspace.checkout_on(&other, "deep/down/app");
    elsewhere.hit(&["build"]);
    assert!(log(&elsewhere).starts_with(other.store().to_str().unwrap()), "{}", log(&elsewhere));
}
