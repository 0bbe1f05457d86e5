//! What a unit depends upon that nobody says: variables that a build script forgets to name, sources that were edited
//! where cargo takes them for immutable, and secrets. What only the linker reads is in `linking`.
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

/// The variables that a build script's source reads by name, in its root file and beside it in `build/`.
pub(super) fn variables_in_source(source: &Utf8Path) -> BTreeSet<String> {
    let mut files = vec![source.to_owned()];
    if let Some(beside) = source.parent().map(|parent| parent.join("build")) {
        files.extend(beside.read_dir_utf8().into_iter().flatten().flatten().map(|entry| entry.into_path()));
    }
    let mut names = BTreeSet::new();
    for text in
        files.iter().filter(|file| file.extension() == Some("rs")).filter_map(|file| fs::read_to_string(file).ok())
    {
        for call in ["var(", "var_os(", "env!("] {
            for (at, _) in text.match_indices(call) {
                let argument = text[at + call.len()..].trim_start();
                let Some(name) = argument.strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
                if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                    names.insert(name.to_owned());
                }
            }
        }
    }
    names
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
