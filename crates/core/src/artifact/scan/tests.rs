use std::process::Command;

use proptest::prelude::*;

use super::*;

fn roots() -> Roots {
    Roots::new([
        (RootKind::Workspace, "/home/a/work".into()),
        (RootKind::BuildDirectory, "/home/a/work/target".into()),
        (RootKind::TargetDirectory, "/home/a/work/target".into()),
        (RootKind::CargoHome, "/home/a/.cargo".into()),
    ])
}

fn elsewhere() -> Roots {
    Roots::new([
        (RootKind::Workspace, "/srv/b".into()),
        (RootKind::BuildDirectory, "/tmp/t".into()),
        (RootKind::TargetDirectory, "/tmp/t2".into()),
        (RootKind::CargoHome, "/c".into()),
    ])
}

fn scan(name: &str, bytes: &[u8]) -> FileReferences {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().join(name)).unwrap();
    std::fs::write(&path, bytes).unwrap();
    Scanner::new(&roots()).scan_file(&path).unwrap()
}

fn set(kinds: impl IntoIterator<Item = RootKind>) -> BTreeSet<RootKind> {
    kinds.into_iter().collect()
}

#[test]
#[cfg(unix)]
fn what_a_directory_is_called_behind_links_binds() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
    std::fs::create_dir_all(root.join("work/real")).unwrap();
    // One lies in another root, the other is not there yet.
    for (target, link) in [("real", "work/target"), ("home", "link")] {
        std::os::unix::fs::symlink(target, root.join(link)).unwrap();
    }
    std::fs::create_dir(root.join("home")).unwrap();
    let roots = Roots::new([
        (RootKind::Workspace, root.join("work")),
        (RootKind::BuildDirectory, root.join("work/target")),
        (RootKind::CargoHome, root.join("link/a/.cargo")),
    ]);
    let scanner = Scanner::new(&roots.following_links());
    let path = root.join("file");
    for (text, references) in [
        (format!("{root}/link/a/.cargo/x"), FileReferences::Text(set([RootKind::CargoHome]))),
        (format!("{root}/work/target/x"), FileReferences::Text(set([RootKind::BuildDirectory, RootKind::Workspace]))),
        (format!("{root}/home/a/.cargo/x"), FileReferences::Bound(set([RootKind::CargoHome]))),
        (format!("{root}/work/real/x"), FileReferences::Bound(set([RootKind::BuildDirectory, RootKind::Workspace]))),
        (format!("\0{root}/home/a/.cargo/x"), FileReferences::Bound(set([RootKind::CargoHome]))),
        (format!("{root}/home/b"), FileReferences::None),
    ] {
        std::fs::write(&path, &text).unwrap();
        assert_eq!(scanner.scan_file(&path).unwrap(), references, "{text}");
    }
}

#[test]
#[cfg(unix)]
fn the_end_of_another_root_is_no_name_behind_links() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
    std::fs::create_dir_all(root.join("a")).unwrap();
    std::os::unix::fs::symlink("a", root.join("link")).unwrap();
    // As if `/tmp/x/a` were a link in place of what is called `/home/tmp/x/a` here.
    let longer = Utf8PathBuf::from(format!("/home{root}/a"));
    let roots = Roots::new([(RootKind::Workspace, root.join("link")), (RootKind::CargoHome, longer.clone())]);
    let scanner = Scanner::new(&roots.following_links());
    let examine = |text: &str| scanner.examine_text(text);
    assert_eq!(examine(&format!("{longer}/x")), FileReferences::Text(set([RootKind::CargoHome])));
    assert_eq!(examine(&format!("{root}/a/x")), FileReferences::Bound(set([RootKind::Workspace])));
    let both = set([RootKind::CargoHome, RootKind::Workspace]);
    assert_eq!(examine(&format!("{longer}/x {root}/a/x")), FileReferences::Bound(both));
}

#[test]
fn paths_in_text_travel() {
    let text = "-L/home/a/work/target/debug/build/x/out -I/home/a/.cargo/registry DIR=\"/home/a/work\"\n/home/a/work.";
    let hidden = hide_in_text(text, &roots()).unwrap();
    assert_eq!(
        hidden,
        "-L@nixcache{build-dir}@/debug/build/x/out -I@nixcache{cargo-home}@/registry DIR=\"@nixcache{workspace}@\"\n\
         @nixcache{workspace}@."
    );
    assert_eq!(reveal_in_text(&hidden, &roots()).unwrap(), text);
    assert_eq!(
        reveal_in_text(&hidden, &elsewhere()).unwrap(),
        "-L/tmp/t/debug/build/x/out -I/c/registry DIR=\"/srv/b\"\n/srv/b."
    );
    assert_eq!(
        scan("x", text.as_bytes()),
        FileReferences::Text(set([
            RootKind::Workspace,
            RootKind::BuildDirectory,
            RootKind::TargetDirectory,
            RootKind::CargoHome
        ]))
    );
}

#[test]
fn the_beginning_of_another_path_is_no_reference() {
    for text in ["/home/a/workshop", "/home/a/work-2/x", "/home/a/work.bak", "/home/a/.cargonaut", "nothing"] {
        assert_eq!(hide_in_text(text, &roots()).unwrap(), text);
        assert_eq!(scan("x", text.as_bytes()), FileReferences::None, "{text}");
    }
}

#[test]
fn text_that_cannot_be_restored_exactly_binds() {
    for text in ["/mnt/home/a/work/x", "../home/a/work", "@nixcache{workspace}@ /home/a/work", "${R}/home/a/work"] {
        assert!(hide_in_text(text, &roots()).is_err(), "{text}");
        assert_eq!(scan("x", text.as_bytes()).bound_to(), set([RootKind::Workspace]), "{text}");
    }
    // Without a path in it there is nothing to hide, and it is never revealed.
    assert_eq!(scan("x", b"@nixcache{workspace}@"), FileReferences::None);
    assert_eq!(scan("x", b"file:///home/a/work/x"), FileReferences::Text(set([RootKind::Workspace])));
    let spaces = Roots::new([(RootKind::Workspace, "/home/a b/work".into())]);
    assert!(matches!(hide_in_text("cd '/home/a b/work'", &spaces), Err(HideError::Escapable(_))));
    assert_eq!(reveal_in_text("cd @nixcache{workspace}@", &spaces), None);
    assert_eq!(reveal_in_text("cd @nixcache{moon}@", &spaces), None);
    assert_eq!(reveal_in_text("cd @nixcache{cargo-home}@", &spaces), None);
    assert_eq!(
        Scanner::new(&spaces).examine_text("cd /home/a\\ b/work"),
        FileReferences::Bound(set([RootKind::Workspace]))
    );
}

#[test]
fn binary_content_binds_wherever_the_chunks_are_cut() {
    for before in [0, 7, CHUNK - 20, CHUNK - 5, CHUNK, 3 * CHUNK - 12] {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(b"/home/a/workshop");
        bytes.resize(bytes.len() + 100, 0);
        // In binary files nothing separates one text from the next, so the beginning of a path counts.
        assert_eq!(scan("x", &bytes), FileReferences::Bound(set([RootKind::Workspace])), "{before}");
    }
    let scanner_roots = roots();
    let scanner = Scanner::new(&scanner_roots);
    for piece in 1..40 {
        let mut raw = scanner.raw();
        b"....../home/a/work......".chunks(piece).for_each(|chunk| raw.feed(chunk));
        assert!(raw.met(), "{piece}");
        let mut raw = scanner.raw();
        b"....../home/b/work......".chunks(piece).for_each(|chunk| raw.feed(chunk));
        assert!(!raw.met(), "{piece}");
    }
}

/// Compiles a crate below a directory of its own, and gives back the scanner for that directory and the outputs.
fn compile(source: &str, arguments: &[&str]) -> (tempfile::TempDir, Scanner, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
    std::fs::write(root.join("lib.rs"), source).unwrap();
    let output = root.join("output");
    let status = Command::new("rustc")
        .args(["--edition=2021", "--crate-name=sample", "-o", output.as_str(), root.join("lib.rs").as_str()])
        .args(arguments)
        .env("ROOT", root.as_str())
        .status()
        .unwrap();
    assert!(status.success());
    let scanner = Scanner::new(&Roots::new([(RootKind::Workspace, root)]));
    (directory, scanner, output)
}

const BAKED: &str = "#[inline(never)] pub fn f() { println!(\"{}\", env!(\"ROOT\")); }";

#[test]
fn debug_sections_are_harmless_and_code_is_not() {
    let workspace = set([RootKind::Workspace]);
    // An addition that may overflow would hold the place of its panic, in code.
    let plain = "pub fn f(x: u32) -> u32 { x ^ 1 }\npub fn main() {}";
    let object = ["--crate-type=lib", "--emit=obj", "-g"];
    let (_directory, scanner, output) = compile(plain, &object);
    assert_eq!(scanner.scan_file(&output).unwrap(), FileReferences::DebugOnly(workspace.clone()));
    let (_directory, scanner, output) = compile(plain, &["--crate-type=bin", "-g"]);
    assert_eq!(scanner.scan_file(&output).unwrap(), FileReferences::DebugOnly(workspace.clone()));
    let (_directory, scanner, output) = compile(BAKED, &object);
    assert_eq!(scanner.scan_file(&output).unwrap(), FileReferences::Bound(workspace.clone()));
    // An rlib holds the working directory in its metadata unless it is remapped.
    let (_directory, scanner, output) = compile(plain, &["--crate-type=rlib", "-g"]);
    assert_eq!(scanner.scan_file(&output).unwrap(), FileReferences::Bound(workspace));
}

#[test]
fn a_path_in_bitcode_binds() {
    let arguments = ["--crate-type=rlib", "--emit=obj", "-Clinker-plugin-lto", "-O", "-Ccodegen-units=1"];
    let (_directory, scanner, output) = compile(BAKED, &arguments);
    let bytes = std::fs::read(&output).unwrap();
    assert!(bytes.starts_with(bitcode::MAGIC));
    assert_eq!(scanner.scan_file(&output).unwrap(), FileReferences::Bound(set([RootKind::Workspace])));
    let (_directory, scanner, output) = compile("pub fn f() { println!(\"x\") }", &arguments);
    let references = scanner.scan_file(&output).unwrap();
    assert!(references == FileReferences::Bound(set([RootKind::Workspace])) || references == FileReferences::None);
}

#[test]
fn a_path_that_the_optimiser_cut_binds_units_that_took_a_place() {
    let source = "#[inline(never)] pub fn is(x: &str) -> bool { x == concat!(env!(\"ROOT\"), \"/data/x\") }\n\
                  fn main() { println!(\"{}\", is(&std::env::args().next().unwrap())); }";
    let (directory, _, output) = compile(source, &["--crate-type=bin", "-O"]);
    let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
    // Another root that begins alike, as those below one home do, was not named.
    let roots = Roots::new([(RootKind::Workspace, root.clone()), (RootKind::CargoHome, root.with_extension("other"))]);
    let named = named_roots(&roots, [root.join("crate").as_str(), "1.0"]);
    assert_eq!(named, set([RootKind::Workspace]));
    // A file that a build script generated names it too, whatever else is in it.
    let generated = [b"\xff static HERE: &str = \"", root.as_str().as_bytes(), b"/data/x\";"].concat();
    assert_eq!(named_roots(&roots, [generated]), named);
    let wary = Scanner::wary(&roots, &named);
    assert_eq!(wary.scan_file(&output).unwrap(), FileReferences::Bound(set([RootKind::Workspace])));
    // Text is not cut, nor is debug information the worse for it.
    assert_eq!(wary.examine_text(&format!("{}elsewhere", &root.as_str()[..8])), FileReferences::None);
}

#[test]
fn c_debug_information_in_an_archive_is_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
    std::fs::write(root.join("x.c"), "int f(int x) { return x + 1; }").unwrap();
    let scanner = Scanner::new(&Roots::new([(RootKind::CargoHome, root.clone())]));
    let archive = |flags: &[&str], source: &str| {
        std::fs::write(root.join("x.c"), source).unwrap();
        let _absent = std::fs::remove_file(root.join("x.a"));
        let compiled = Command::new("cc")
            .args(["-c", root.join("x.c").as_str(), "-o", root.join("x.o").as_str()])
            .args(flags)
            .current_dir(&root)
            .status();
        assert!(compiled.unwrap().success());
        let archived = Command::new("ar").args(["crs", root.join("x.a").as_str(), root.join("x.o").as_str()]).status();
        assert!(archived.unwrap().success());
        scanner.scan_file(&root.join("x.a")).unwrap()
    };
    let cargo_home = set([RootKind::CargoHome]);
    let source = "int f(int x) { return x + 1; }";
    assert_eq!(archive(&["-g"], source), FileReferences::DebugOnly(cargo_home.clone()));
    assert_eq!(archive(&["-g", "-gz"], source), FileReferences::None);
    assert_eq!(archive(&[], source), FileReferences::None);
    let baked = "const char *f(void) { return __FILE__; }";
    assert_eq!(archive(&["-g"], baked), FileReferences::Bound(cargo_home));
}

fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/home/a/work".to_owned()),
        Just("/home/a/work/target".to_owned()),
        Just("/home/a/.cargo".to_owned()),
        Just("/home/a/".to_owned()),
        Just("@nixcache{".to_owned()),
        Just("@nixcache{workspace}@".to_owned()),
        Just("file://".to_owned()),
        "[a-z/ .:\"\\\\=-]{0,4}",
        "\\PC{0,3}",
    ]
}

proptest! {
    #[test]
    fn what_is_hidden_is_revealed_unchanged(fragments in proptest::collection::vec(fragment(), 0..12)) {
        let text = fragments.concat();
        if let Ok(hidden) = hide_in_text(&text, &roots())
            && hidden != text
        {
            prop_assert_eq!(reveal_in_text(&hidden, &roots()).unwrap(), text);
            // Hiding is the same wherever it is done: what another machine has after revealing hides to the same.
            let there = reveal_in_text(&hidden, &elsewhere()).unwrap();
            prop_assert_eq!(there.find("@nixcache{"), None);
        }
    }

    #[test]
    fn hostile_objects_do_no_harm(
        which in 0..3_usize,
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..24),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = hostile_sample(which).clone();
        for (place, value) in edits {
            // Most of what is interesting is in the headers.
            let place = if value & 1 == 0 { place.index(bytes.len().min(256)) } else { place.index(bytes.len()) };
            bytes[place] = value;
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _any_answer = scan("x", &bytes);
    }
}

/// An object, an executable and an archive, each with a path in it.
fn hostile_sample(which: usize) -> &'static Vec<u8> {
    static SAMPLES: std::sync::OnceLock<[Vec<u8>; 3]> = std::sync::OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        let kinds: [&[&str]; 3] =
            [&["--crate-type=lib", "--emit=obj", "-g"], &["--crate-type=cdylib"], &["--crate-type=rlib", "-g"]];
        kinds.map(|arguments| {
            let (_directory, _, output) = compile("pub fn f(x: u32) -> u32 { x ^ 1 }", arguments);
            let mut bytes = std::fs::read(output).unwrap();
            // The standard library's code is of no interest, only slow.
            bytes.truncate(1 << 18);
            bytes.extend_from_slice(b"/home/a/work");
            bytes
        })
    });
    &samples[which]
}
