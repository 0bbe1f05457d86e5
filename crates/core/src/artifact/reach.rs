//! What a program can reach that nobody tells of: files that a procedural macro reads, git,
//! and what a build script looks at to know what to build for.
//!
//! Told by what the linker left in it. The standard library's parts that read files are in a procedural macro only if
//! something calls them: its own backtraces open files by another way. What was stripped of its symbols still names what
//! it asks of the C library, so listing a directory is seen there too. Gather asks, for units of the workspace.

use std::collections::BTreeSet;
use std::fs::File;

use aho_corasick::AhoCorasick;
use camino::{Utf8Path, Utf8PathBuf};
use object::read::{NameOrOrdinal, Object as _, ObjectSymbol as _, ReadCache};

/// What a program can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// It can read files, list directories, or start programs that do.
    pub files: bool,
    /// It can ask git.
    pub git: bool,
}

/// Parts of the names, mangled in either way, of what reads files in the standard library: `std::fs::read`,
/// `read_to_string`, `read_dir`, and `OpenOptions::_open`, which `File::open` comes to.
const READING: [&str; 5] =
    ["3std2fs4read", "3std2fs14read_to_string", "3std2fs8read_dir", "11OpenOptions5_open", "11OpenOptions5__open"];

/// What is asked of the C library or the system by who lists a directory.
const LISTING: [&str; 6] = ["opendir", "fdopendir", "scandir", "nftw", "glob", "FindFirstFileExW"];

/// What is asked by who starts programs.
const STARTING: [&str; 5] = ["posix_spawn", "posix_spawnp", "execvp", "execve", "CreateProcessW"];

/// Words that programs ask git with, and names in libraries that do what git does. `git` itself is part of too many
/// words.
const OF_GIT: [&str; 17] = [
    "--abbrev",
    "--always",
    "--format=%",
    "--pretty=",
    "--tags",
    "rev-parse",
    "rev-list",
    "symbolic-ref",
    "show-ref",
    "for-each-ref",
    "--dirty",
    "--show-current",
    "abbrev-ref",
    "--porcelain",
    "git_repository_",
    "/gix-ref-",
    "/gix-object-",
];

/// Programs that a build script may ask what to build for, by a word that is in its own. A name that is part of another
/// stands for both.
const INTERPRETERS: [(&str, &[&str]); 7] = [
    ("python", &["python", "python3"]),
    ("ruby", &["ruby"]),
    ("php-config", &["php", "php-config"]),
    ("pg_config", &["pg_config"]),
    ("mysql_config", &["mysql_config"]),
    ("mariadb_config", &["mariadb_config"]),
    ("llvm-config", &["llvm-config"]),
];

/// Words of who compiles for the processor at hand, or looks at it.
const OF_PROCESSOR: [&str; 4] = ["-march=native", "-mcpu=native", "-mtune=native", "/proc/cpuinfo"];

/// What is in a build script's program that tells of more inputs.
#[derive(Debug, Default)]
pub struct ProgramWords {
    /// Whether it asks git.
    pub git: bool,
    /// Programs that it may ask what to build for.
    pub interpreters: BTreeSet<&'static str>,
    /// Whether it compiles for the processor at hand, or looks at it.
    pub processor: bool,
}

impl ProgramWords {
    /// Those of the programs of a script. In one that can't be read there may be all of them.
    pub fn of(programs: &[Utf8PathBuf]) -> Self {
        let words = INTERPRETERS.iter().map(|(word, _)| *word).chain(OF_PROCESSOR).chain(OF_GIT);
        let finder = AhoCorasick::new(words).expect("some dozen words are not too many");
        let all = 0..INTERPRETERS.len() + OF_PROCESSOR.len() + OF_GIT.len();
        let mut found = Self::default();
        for program in programs {
            let matches = File::open(program).map(|file| finder.stream_find_iter(file).collect::<Result<Vec<_>, _>>());
            let words: Vec<usize> = match matches {
                Ok(Ok(matches)) => matches.iter().map(|found| found.pattern().as_usize()).collect(),
                _ => all.clone().collect(),
            };
            for word in words {
                match INTERPRETERS.get(word) {
                    Some((_, names)) => found.interpreters.extend(names.iter()),
                    None if word < INTERPRETERS.len() + OF_PROCESSOR.len() => found.processor = true,
                    None => found.git = true,
                }
            }
        }
        found
    }
}

impl Reach {
    /// Of a procedural macro. What cannot be read can reach everything.
    pub fn of_proc_macro(library: &Utf8Path) -> Self {
        let Some((files, starts)) = calls(library) else { return Self { files: true, git: true } };
        // What a program reads that is started is read for the macro.
        let files = files || starts;
        Self { files, git: files && Self::asks_git(library) }
    }

    /// Whether a library asks git. What cannot be read does.
    fn asks_git(library: &Utf8Path) -> bool {
        let words = AhoCorasick::new(OF_GIT).expect("a dozen words are not too many");
        // An error is something that is found, too.
        File::open(library).map_or(true, |file| words.stream_find_iter(file).next().is_some())
    }
}

/// Whether a library reads files, and whether it starts programs.
fn calls(library: &Utf8Path) -> Option<(bool, bool)> {
    let file = File::open(library).ok()?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).ok()?;
    let (mut reads, mut starts) = (false, false);
    let mut import = |name: &str| {
        // Mach-O begins names with an underscore, and some of them end with a variant.
        let name = name.trim_start_matches('_').split(['@', '$']).next().unwrap_or_default();
        let name = name.trim_end_matches("64");
        reads |= LISTING.contains(&name);
        starts |= STARTING.contains(&name);
    };
    for symbol in object.dynamic_symbols().filter(|symbol| symbol.is_undefined()) {
        import(symbol.name().ok()?);
    }
    for imported in object.imports().ok()? {
        if let NameOrOrdinal::Name(name) = imported.ok()?.name() {
            import(std::str::from_utf8(name).ok()?);
        }
    }
    let reads_by = |name: &str| READING.iter().any(|part| name.contains(part));
    reads = reads || object.symbols().any(|symbol| symbol.name().is_ok_and(reads_by));
    Some((reads, starts))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn compiled(body: &str, arguments: &[&str]) -> Reach {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let (source, library) = (directory.join("lib.rs"), directory.join("libx.so"));
        std::fs::write(
            &source,
            format!(
                "use proc_macro::TokenStream;\n#[proc_macro]\npub fn x(_: TokenStream) -> TokenStream {{\n    \
                 let text = {{ {body} }};\n    text.parse().unwrap()\n}}\n"
            ),
        )
        .unwrap();
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "--crate-type=proc-macro", "--extern=proc_macro"]).args(arguments);
        let output = rustc.arg("-o").arg(&library).arg(&source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Reach::of_proc_macro(&library)
    }

    const NOTHING: &str = "env!(\"PATH\").len().to_string()";
    const READS: &str = "std::fs::read_to_string(std::env::var(\"X\").unwrap()).unwrap()";
    const OPENS: &str = "std::io::read_to_string(std::fs::File::open(std::path::Path::new(\"x\")).unwrap()).unwrap()";
    const LISTS: &str = "std::fs::read_dir(std::path::Path::new(\"x\")).unwrap().count().to_string()";
    const STARTS: &str = "let output = std::process::Command::new(\"x\").output().unwrap();\n    \
                          String::from_utf8(output.stdout).unwrap()";
    const ASKS: &str = "let output = std::process::Command::new(\"git\").arg(\"rev-parse\").output().unwrap();\n    \
                        String::from_utf8(output.stdout).unwrap()";

    #[test]
    fn a_macro_tells_by_its_symbols_what_it_can_reach() {
        let (nothing, files) = (Reach::default(), Reach { files: true, git: false });
        for optimized in [&["-Copt-level=0"][..], &["-Copt-level=3", "-Cstrip=debuginfo"]] {
            for (body, reach) in [
                (NOTHING, nothing),
                (READS, files),
                (OPENS, files),
                (LISTS, files),
                (STARTS, files),
                (ASKS, Reach { files: true, git: true }),
            ] {
                assert_eq!(compiled(body, optimized), reach, "{body} {optimized:?}");
            }
        }
    }

    #[test]
    fn without_symbols_it_still_names_what_it_asks_of_the_c_library() {
        for (body, reach) in [
            (NOTHING, Reach::default()),
            (LISTS, Reach { files: true, git: false }),
            (ASKS, Reach { files: true, git: true }),
        ] {
            assert_eq!(compiled(body, &["-Cstrip=symbols"]), reach, "{body}");
        }
    }

    #[test]
    fn what_a_program_holds_tells_what_it_may_ask() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("build-script");
        let words = |text: &str| {
            std::fs::write(&path, text).unwrap();
            ProgramWords::of(std::slice::from_ref(&path))
        };
        let nothing = words("cc make -O2 -march=x86-64-v2");
        assert!(nothing.interpreters.is_empty() && !nothing.processor && !nothing.git);
        assert_eq!(words("..python3..").interpreters, ["python", "python3"].into());
        for text in ["x-march=nativex", "open /proc/cpuinfo"] {
            assert!(words(text).processor, "{text}");
        }
        assert!(words("rev-parseHEAD").git);
        let unknown = ProgramWords::of(&["/nowhere".into()]);
        assert!(unknown.processor && unknown.git && unknown.interpreters.contains("pg_config"));
    }

    #[test]
    fn what_cannot_be_read_can_reach_everything() {
        let everything = Reach { files: true, git: true };
        assert_eq!(Reach::of_proc_macro(Utf8Path::new("/nowhere.so")), everything);
        assert_eq!(Reach::of_proc_macro(Utf8Path::new("Cargo.toml")), everything);
    }
}
