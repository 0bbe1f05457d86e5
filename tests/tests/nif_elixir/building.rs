//! `nif build`: built once, the same everywhere, and looked into.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nixcache_tests::{Compilers, Machine};

use crate::place::{built, checkout, clean, host, machine, nif, seeded};

/// The exit code for NIFs that are refused or can't be had.
const NIF: i32 = 79;

#[test]
fn two_checkouts_build_the_same_nif_once() {
    let machine = seeded(Machine::new());
    let first = checkout(&machine, "first");
    let outcome = nif(&first, &["build"]).succeed();
    assert!(outcome.compiled_crates().contains("demo_nif"), "{outcome}");
    assert!(outcome.stderr.contains("Checked demo_nif 0.1.0 nif-2.15-"), "{outcome}");
    assert_eq!(outcome.stdout.trim(), built(&first).to_str().unwrap());

    let another = seeded(machine.another());
    let second = checkout(&another, "deeper/down/second");
    let outcome = nif(&second, &["build"]).compilers(Compilers::Fail).succeed();
    assert!(outcome.compiled.is_empty(), "{outcome}");
    assert!(fs::read(built(&first)).unwrap() == fs::read(built(&second)).unwrap(), "the bytes differ");

    // What doesn't belong to the NIF.
    second.edit("native/demo_nif/README.md", "The NIF", "The old NIF");
    second.edit("native/tally_cli/src/main.rs", "Counts", "Numbers");
    clean(&second);
    nif(&second, &["build"]).compilers(Compilers::Fail).succeed();

    // What does.
    let misses = |what: &str, arguments: &[&str], variables: &[(&str, &str)]| {
        clean(&second);
        let mut call = nif(&second, arguments).compilers(Compilers::Fail);
        for (name, value) in variables {
            call = call.env(name, value);
        }
        let outcome = call.fail();
        assert!(!outcome.compiled.is_empty(), "{what}: {outcome}");
    };
    misses("NIF version", &["build", "--nif-version", "2.16"], &[]);
    misses("profile", &["build"], &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")]);
    misses("flags", &["build"], &[("RUSTFLAGS", "-Cforce-frame-pointers=yes")]);
    for (file, from, to) in [
        ("native/demo_nif/src/lib.rs", "one + other", "other + one"),
        ("native/tally/src/lib.rs", "or_default() += 1", "or_default() += 2"),
    ] {
        second.edit(file, from, to);
        misses(file, &["build"], &[]);
        second.edit(file, to, from);
    }
    clean(&second);
    nif(&second, &["build"]).compilers(Compilers::Fail).succeed();

    // The same build, without a word to rustler: another library.
    clean(&second);
    let words = ["build", "--release", "--lib", "--package", "demo_nif", "--features", "nif_version_2_15"];
    let plain = second.nixcache(&words).directory("native").env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    let outcome = plain.compilers(Compilers::Fail).fail();
    assert!(outcome.compiled.iter().all(|call| call.contains("demo_nif")), "{outcome}");
    assert!(!outcome.compiled.is_empty(), "{outcome}");
}

#[test]
fn another_dependency_in_the_lock_file_is_a_miss() {
    let machine = machine();
    let workspace = checkout(&machine, "app");
    // A crate from elsewhere, of which nothing but the lock file says which one is taken.
    let leaf = machine.workspace("leaf");
    leaf.write("Cargo.toml", "[package]\nname = \"leaf\"\nversion = \"1.0.0\"\nedition = \"2024\"\n");
    let dependency = format!("tally.workspace = true\nleaf = {{ git = \"file://{}\" }}\n", leaf.root().display());
    workspace.edit("native/demo_nif/Cargo.toml", "tally.workspace = true\n", &dependency);
    workspace.edit("native/demo_nif/src/lib.rs", "one + other", "one + other + leaf::leaf()");
    let locks = [0, 1].map(|number| {
        leaf.write("src/lib.rs", format!("pub fn leaf() -> i64 {{ {number} }}\n"));
        leaf.commit();
        let words = if number == 0 { &["metadata", "--format-version", "1"][..] } else { &["update", "-p", "leaf"] };
        workspace.cargo(words).directory("native").env("CARGO_NET_OFFLINE", "false").succeed();
        workspace.read("native/Cargo.lock")
    });
    let same = |text: &str| text.lines().filter(|line| !line.contains("leaf#")).collect::<Vec<_>>().join("\n");
    assert!(locks[0] != locks[1] && same(&locks[0]) == same(&locks[1]), "{}", locks[1]);

    let lock = |number: usize| {
        workspace.write("native/Cargo.lock", &locks[number]);
        let _ = fs::remove_dir_all(workspace.path("native/target"));
        nif(&workspace, &["build"])
    };
    lock(0).succeed();
    lock(0).compilers(Compilers::Fail).succeed();
    let before = fs::read(built(&workspace)).unwrap();
    let outcome = lock(1).compilers(Compilers::Fail).fail();
    assert!(outcome.compiled.iter().any(|call| call.contains("leaf")), "{outcome}");
    lock(1).succeed();
    assert!(fs::read(built(&workspace)).unwrap() != before, "another dependency, and the same library");
    lock(0).compilers(Compilers::Fail).succeed();
    assert!(fs::read(built(&workspace)).unwrap() == before);
}

#[test]
fn a_library_that_was_built_as_a_dependency_is_refused() {
    let workspace = checkout(&machine(), "app");
    workspace.edit(
        "native/tally_cli/Cargo.toml",
        "[dependencies]\n",
        "[dependencies]\ndemo_nif = { path = \"../demo_nif\" }\n",
    );
    // Cargo takes the library for the same one as the NIF, though rustler has left `nif_init` out.
    let strip = |call: nixcache_tests::Invocation| call.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    strip(workspace.nixcache(&["build", "--release", "--package", "tally_cli"]).directory("native")).succeed();
    let cache = workspace.machine().root().join("cache");
    for arguments in [&["build"][..], &["publish"]] {
        let call = nif(&workspace, arguments).env("NIXCACHE_PUBLISH", format!("file://{}", cache.display()));
        let outcome = call.fail();
        assert_eq!(outcome.status.code(), Some(NIF), "{outcome}");
        assert!(outcome.stderr.contains("it has no `nif_init`"), "{outcome}");
        assert!(outcome.stderr.contains("cargo clean"), "{outcome}");
    }
    assert!(!cache.join("nif").exists(), "what is refused is not published");
    // Done as the error says, it works.
    workspace.cargo(&["clean", "--release", "--package", "demo_nif"]).directory("native").succeed();
    nif(&workspace, &["build"]).succeed();
}

#[test]
fn a_library_that_erlang_could_not_load_is_refused() {
    let machine = machine();
    let workspace = machine.workspace("app");
    let manifest = "[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    let refused = |source: &str, arguments: &[&str], reason: &str| {
        workspace.package("", manifest, source);
        let all = ["nif", "build", "--package", "app"];
        let outcome = workspace.nixcache(&[&all, arguments].concat()).fail();
        assert_eq!(outcome.status.code(), Some(NIF), "{outcome}");
        assert!(outcome.stderr.contains(reason), "{outcome}");
    };
    refused("#[unsafe(no_mangle)]\npub extern \"C\" fn other() {}\n", &[], "it has no `nif_init`");
    let newer = "unsafe extern \"C\" { fn enif_make_new_atom_len() -> usize; }\n\
                 #[unsafe(no_mangle)]\npub extern \"C\" fn nif_init() -> usize { unsafe { enif_make_new_atom_len() } }\n";
    refused(newer, &["--nif-version", "2.16"], "it needs `enif_make_new_atom_len`, which came with 2.17 (OTP 26)");
    let good = newer.replace("new_atom_len", "atom_len");
    refused(&good, &["--max-glibc", "2.1"], "2.1 is the newest that was allowed");
    workspace.package("", manifest, newer);
    workspace.nixcache(&["nif", "build", "--package", "app", "--nif-version", "2.17"]).succeed();
    // A linker that makes libraries for another processor than cargo thinks: number 183 is aarch64's, 62 that of x86-64.
    let processor = if host().starts_with("aarch64") { "\\076" } else { "\\267" };
    let linker = format!(
        "#!/bin/sh\ncc \"$@\" || exit 1\nwhile [ $# -gt 0 ]; do\n\
         [ \"$1\" = -o ] && printf '{processor}' | dd of=\"$2\" bs=1 seek=18 conv=notrunc 2>/dev/null\nshift\ndone\n"
    );
    workspace.write("linker", linker);
    fs::set_permissions(workspace.path("linker"), PermissionsExt::from_mode(0o755)).unwrap();
    let option = format!("target.{}.linker='{}'", host(), workspace.path("linker").display());
    let arguments = ["--nif-version", "2.17", "--", "--config", &option];
    refused(&newer.replace("usize {", "usize  {"), &arguments, "it is Elf for ");
    // Nothing here depends on rustler, so nothing is taken for a NIF without a word.
    let outcome = workspace.nixcache(&["nif", "build"]).fail();
    assert!(outcome.stderr.contains("name one with -p"), "{outcome}");
}
