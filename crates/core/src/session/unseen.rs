//! What a unit depends upon that nobody says: variables and programs that a build script forgets to name, git, files that macros
//! read, sources that were edited where cargo takes them for immutable, and secrets. What only the linker reads is in
//! `linking`.
//!
//! Called by gather. What is found here becomes an input, or a reason not to keep the unit.

use std::collections::BTreeSet;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use crate::artifact::dynamic::{DynamicInput, InputValue};

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

/// What calls are given first, where that is a text.
fn first_arguments<'t>(text: &'t str, calls: &[&str]) -> Vec<&'t str> {
    let ends = calls.iter().flat_map(|call| text.match_indices(call).map(|(at, found)| at + found.len()));
    let arguments = ends.filter_map(|end| text[end..].trim_start().strip_prefix('"')?.split('"').next());
    arguments.filter(|argument| !argument.is_empty()).collect()
}

/// Whether a build script asks git: by what it names, and by its source. What is in the program tells as well.
pub(super) fn asks_git(texts: &[String], names: &[String]) -> bool {
    let is_gits = |name: &String| Utf8Path::new(name).components().any(|part| part.as_str() == ".git");
    names.iter().any(is_gits) || texts.iter().any(|text| text.contains("\"git\"") || text.contains(".git/"))
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
