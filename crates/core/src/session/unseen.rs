//! What a unit depends upon that nobody says: variables and programs that a build script forgets to name, git, files that macros
//! read, sources that were edited where cargo takes them for immutable, and secrets. What only the linker reads is in
//! `linking`.
//!
//! Called by gather. What is found here becomes an input, or a reason not to keep the unit.

use std::collections::BTreeSet;
use std::fs;

use aho_corasick::AhoCorasick;
use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::dynamic::{DynamicInput, InputValue};
use crate::artifact::reach::Reach;

use super::gather::NotKept;

/// Refuses sources of a registry or repository that somebody has edited since cargo unpacked them: the key
/// names the sources that were published.
pub(super) fn refuse_edited_sources(package_root: &Utf8Path, files: &[Utf8PathBuf]) -> Result<(), NotKept> {
    // Cargo writes this mark last; in a repository it lies at the root of the checkout.
    let mark =
        package_root.ancestors().take(8).map(|directory| directory.join(".cargo-ok")).find(|mark| mark.is_file());
    let unpacked = mark.and_then(|mark| fs::metadata(mark).ok()?.modified().ok());
    let Some(unpacked) = unpacked else {
        return Err(NotKept::Unstable { what: format!("{package_root} has no mark of having been unpacked whole") });
    };
    let edited = files.iter().filter(|file| file.starts_with(package_root)).find(|file| {
        fs::metadata(file).and_then(|metadata| metadata.modified()).is_ok_and(|modified| modified > unpacked)
    });
    match edited {
        Some(file) => Err(NotKept::Unstable { what: format!("{file} is newer than its package") }),
        None => Ok(()),
    }
}

/// The variables that a build script's source reads by name.
pub(super) fn variables_in_source(texts: &[String]) -> BTreeSet<String> {
    let is_name = |text: &&str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let calls = ["var(", "var_os(", "env!("];
    texts.iter().flat_map(|text| first_arguments(text, &calls)).filter(is_name).map(str::to_owned).collect()
}

/// The programs that a build script's source starts by name, but for git and those of the toolchain, which count
/// otherwise.
pub(super) fn programs_in_source(texts: &[String]) -> BTreeSet<String> {
    const COUNTED: [&str; 5] = ["git", "cargo", "rustc", "rustdoc", "rustfmt"];
    let is_counted = |text: &&str| COUNTED.contains(text) || text.contains(char::is_whitespace);
    let programs = texts.iter().flat_map(|text| first_arguments(text, &["Command::new("]));
    programs.filter(|text| !is_counted(text)).map(str::to_owned).collect()
}

/// Tools that scripts everywhere start, and whose versions don't show in what comes of it; or whose answers are inputs
/// of their own.
pub(super) fn is_common_tool(program: &str) -> bool {
    const COMMON: [&str; 28] = [
        "ar",
        "awk",
        "bash",
        "cat",
        "cmake",
        "cmd",
        "cp",
        "find",
        "install_name_tool",
        "ln",
        "ls",
        "m4",
        "make",
        "mkdir",
        "mv",
        "ninja",
        "nmake",
        "patch",
        "perl",
        "pkg-config",
        "pkgconf",
        "ranlib",
        "rm",
        "sed",
        "sh",
        "tar",
        "uname",
        "xcrun",
    ];
    COMMON.contains(&program)
}

/// What is in a build script's program that tells of more inputs.
#[derive(Debug, Default)]
pub(super) struct ProgramWords {
    /// Programs that it may ask what to build for.
    pub(super) interpreters: BTreeSet<&'static str>,
    /// Whether it compiles for the processor at hand, or looks at it.
    pub(super) processor: bool,
}

impl ProgramWords {
    /// Those of the programs of a script. In one that can't be read there may be all of them.
    pub(super) fn of(programs: &[Utf8PathBuf]) -> Self {
        /// A name that is part of another stands for both.
        const INTERPRETERS: [(&str, &[&str]); 7] = [
            ("python", &["python", "python3"]),
            ("ruby", &["ruby"]),
            ("php-config", &["php", "php-config"]),
            ("pg_config", &["pg_config"]),
            ("mysql_config", &["mysql_config"]),
            ("mariadb_config", &["mariadb_config"]),
            ("llvm-config", &["llvm-config"]),
        ];
        const OF_PROCESSOR: [&str; 4] = ["-march=native", "-mcpu=native", "-mtune=native", "/proc/cpuinfo"];
        let words = INTERPRETERS.iter().map(|(word, _)| *word).chain(OF_PROCESSOR);
        let finder = AhoCorasick::new(words).expect("a dozen words are not too many");
        let mut found = Self::default();
        for program in programs {
            let matches =
                fs::File::open(program).map(|file| finder.stream_find_iter(file).collect::<Result<Vec<_>, _>>());
            let patterns: Vec<usize> = match matches {
                Ok(Ok(matches)) => matches.iter().map(|found| found.pattern().as_usize()).collect(),
                _ => (0..INTERPRETERS.len() + OF_PROCESSOR.len()).collect(),
            };
            for pattern in patterns {
                match INTERPRETERS.get(pattern) {
                    Some((_, names)) => found.interpreters.extend(names.iter()),
                    None => found.processor = true,
                }
            }
        }
        found
    }
}

/// What calls are given first, where that is a text.
fn first_arguments<'t>(text: &'t str, calls: &[&str]) -> Vec<&'t str> {
    let ends = calls.iter().flat_map(|call| text.match_indices(call).map(|(at, found)| at + found.len()));
    let arguments = ends.filter_map(|end| text[end..].trim_start().strip_prefix('"')?.split('"').next());
    arguments.filter(|argument| !argument.is_empty()).collect()
}

/// Whether a build script asks git: by what it names, by its source, and by what is in the program.
pub(super) fn asks_git(texts: &[String], names: &[String], programs: &[Utf8PathBuf]) -> bool {
    let is_gits = |name: &String| Utf8Path::new(name).components().any(|part| part.as_str() == ".git");
    names.iter().any(is_gits)
        || texts.iter().any(|text| text.contains("\"git\"") || text.contains(".git/"))
        || programs.iter().any(|program| Reach::asks_git(program))
}

/// The name of a variable that is set and whose value nobody wants in a store.
pub(super) fn secret<'a>(input: &'a DynamicInput, value: &InputValue) -> Option<&'a str> {
    const WORDS: [&str; 8] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATE", "API_KEY", "APIKEY"];
    match input {
        DynamicInput::Variable { name } if *value != InputValue::Absent => {
            let upper = name.to_ascii_uppercase();
            WORDS.iter().any(|word| upper.contains(word)).then_some(name)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_holds_tells_what_it_may_ask() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("build-script");
        let words = |text: &str| {
            fs::write(&path, text).unwrap();
            ProgramWords::of(std::slice::from_ref(&path))
        };
        let nothing = words("cc make -O2 -march=x86-64-v2");
        assert!(nothing.interpreters.is_empty() && !nothing.processor);
        assert_eq!(words("..python3..").interpreters, ["python", "python3"].into());
        for text in ["x-march=nativex", "open /proc/cpuinfo"] {
            assert!(words(text).processor, "{text}");
        }
        let unknown = ProgramWords::of(&["/nowhere".into()]);
        assert!(unknown.processor && unknown.interpreters.contains("pg_config"));
    }
}
