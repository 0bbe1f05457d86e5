//! Placeholders in text: how a path in a generated file, a build script's output or a dep-info file travels.
//!
//! Owns where a path begins and ends in text. Refuses text in which a placeholder would not stand for exactly
//! what was there: `/home/a/work` is not the beginning of `/home/a/workshop`, and not the end of
//! `/mnt/home/a/work`.

use camino::Utf8Path;
use memchr::memmem;

use super::super::{RootKind, Roots};

/// What every placeholder begins with. See [`RootKind::placeholder`].
pub const PLACEHOLDER_START: &str = "@nixcache{";

/// Why text cannot be hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HideError {
    /// Revealing it would change what was there before.
    #[error("the text holds a placeholder of its own")]
    HoldsPlaceholder,
    /// Another path ends in a root.
    #[error("a longer path ends in the {0:?} directory")]
    Ambiguous(RootKind),
    /// The root's own name has characters that text may write in several ways.
    #[error("the {0:?} directory has characters in its name that may be escaped")]
    Escapable(RootKind),
}

/// Replaces every root in `text` by its placeholder, the most specific first.
pub fn hide_in_text(text: &str, roots: &Roots) -> Result<String, HideError> {
    let mut hidden = String::with_capacity(text.len());
    let mut done = 0;
    let mut checked_for_placeholder = false;
    let mut position = 0;
    let finders: Vec<_> =
        roots.iter().filter(|(_, path)| path.file_name().is_some()).map(|(kind, path)| (kind, path.as_str())).collect();
    // The next occurrence of each root, found anew only once it has been passed.
    let find = |from: usize, path: &str| {
        memmem::find(&text.as_bytes()[from..], path.as_bytes()).map_or(usize::MAX, |found| from + found)
    };
    let mut next: Vec<usize> = finders.iter().map(|(_, path)| find(0, path)).collect();
    loop {
        for (next, (_, path)) in next.iter_mut().zip(&finders) {
            if *next < position {
                *next = find(position, path);
            }
        }
        let Some(first) = next.iter().copied().min().filter(|first| *first != usize::MAX) else { break };
        // Of the roots that begin here, the longest that is a whole path. They are sorted by length.
        let here = next.iter().zip(&finders).filter(|(next, _)| **next == first).map(|(_, finder)| *finder);
        let Some((kind, path)) = here.clone().find(|(_, path)| ends_there(&text[first + path.len()..])) else {
            position = first + 1;
            continue;
        };
        if !checked_for_placeholder {
            if text.contains(PLACEHOLDER_START) {
                return Err(HideError::HoldsPlaceholder);
            }
            checked_for_placeholder = true;
        }
        if !begins_there(&text[..first]) {
            return Err(HideError::Ambiguous(kind));
        }
        if !is_plain(path) {
            return Err(HideError::Escapable(kind));
        }
        hidden.push_str(&text[done..first]);
        hidden.push_str(kind.placeholder());
        done = first + path.len();
        position = done;
    }
    hidden.push_str(&text[done..]);
    Ok(hidden)
}

/// Replaces every placeholder by this machine's directory. `None` if there is a placeholder for which this build
/// has no directory, or one whose name would have to be escaped.
pub fn reveal_in_text(text: &str, roots: &Roots) -> Option<String> {
    let mut revealed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(PLACEHOLDER_START) {
        let placeholder = &rest[start..];
        let kind = RootKind::ALL.into_iter().find(|kind| placeholder.starts_with(kind.placeholder()))?;
        let root = roots.get(kind).filter(|root| is_plain(root.as_str()))?;
        revealed.push_str(&rest[..start]);
        revealed.push_str(root.as_str());
        rest = &placeholder[kind.placeholder().len()..];
    }
    revealed.push_str(rest);
    Some(revealed)
}

/// The path, and then every other way in which files are known to write it.
pub(super) fn forms(path: &Utf8Path) -> Vec<String> {
    let path = path.as_str();
    let mut forms = vec![path.to_owned()];
    if path.contains('\\') {
        // Strings in source code and JSON; and what tools that want slashes make of it.
        forms.push(path.replace('\\', "\\\\"));
        forms.push(path.replace('\\', "/"));
    }
    if path.contains(' ') {
        // Make, shells, and URLs.
        forms.push(path.replace(' ', "\\ "));
        forms.push(path.replace(' ', "%20"));
    }
    forms
}

/// Whether every text writes the path in the same way, whatever its syntax.
fn is_plain(path: &str) -> bool {
    path.chars().all(|character| matches!(character, 'a'..='z' | 'A'..='Z' | '0'..='9' | '/' | '.' | '_' | '-' | '+'))
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '+' | '~' | '%' | '@' | '#') || !character.is_ascii()
}

/// Whether a path that comes before this text is at its end, or continues with a separator.
fn ends_there(after: &str) -> bool {
    let mut characters = after.chars();
    match characters.next() {
        None => true,
        // The end of a sentence, rather than of a file name.
        Some('.') => characters.next().is_none_or(|next| !is_name(next) && next != '.' && next != '/'),
        Some(character) => !is_name(character),
    }
}

/// Whether a path may begin after this text. What comes directly before it may be an option (`-L`, `-Wl,-rpath,`)
/// or a name (`DIR=`), or the scheme of a URL, but not the beginning of another path.
fn begins_there(before: &str) -> bool {
    let start = before
        .char_indices()
        .rev()
        .take_while(|(_, character)| is_name(*character) || matches!(character, '.' | '/' | '\\' | '}' | '$'))
        .last()
        .map_or(before.len(), |(position, _)| position);
    let token = &before[start..];
    let is_url = token == "//" && before[..start].ends_with("file:");
    is_url || !token.contains(['/', '\\', '}', '$', '.', '~'])
}
