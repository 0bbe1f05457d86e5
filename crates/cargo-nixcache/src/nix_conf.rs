//! The user's `nix.conf`: a cache and its keys are added to what is there.
//!
//! A line is `name = word word …`; `#` begins a comment, and lines count in their order. `extra-NAME` adds to `NAME`.

use std::ops::Range;

use camino::Utf8PathBuf;
use nixcache_core::environment::Environment;

use crate::settings::Directories;

/// Where the user's file is: `NIX_USER_CONF_FILES`, the first of which counts most, or `nix/nix.conf` beside the other
/// configuration. Nix looks into `~/.config` on every platform.
pub(crate) fn user_file(environment: &Environment, directories: &Directories) -> Option<Utf8PathBuf> {
    let named =
        environment.get_str("NIX_USER_CONF_FILES").and_then(|files| files.split(':').find(|file| !file.is_empty()));
    named.map(Utf8PathBuf::from).or_else(|| {
        let xdg = environment.get_str("XDG_CONFIG_HOME").map(Utf8PathBuf::from).filter(|path| path.is_absolute());
        let home = || environment.get_str("HOME").map(|home| Utf8PathBuf::from(home).join(".config"));
        Some(xdg.or_else(home).or_else(|| directories.configuration.clone())?.join("nix/nix.conf"))
    })
}

/// `text` with `words` in the list `name`, as far as they are not there yet.
pub(crate) fn with_words(text: &str, name: &str, words: &[String]) -> String {
    let lines = lines(text, name);
    // What comes before the last plain line of this name counts no more.
    let first = lines.iter().rposition(|line| !line.adds).unwrap_or(0);
    let counting = lines.get(first..).unwrap_or_default();
    let there: Vec<&str> = counting.iter().flat_map(|line| text[line.words.clone()].split_whitespace()).collect();
    let lacking: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !there.iter().any(|there| same(there, word))).collect();
    if lacking.is_empty() {
        return text.to_owned();
    }
    let lacking = lacking.join(" ");
    match counting.last().filter(|line| line.adds) {
        Some(line) => {
            let (before, after) = text.split_at(line.words.end);
            let space = if before.ends_with([' ', '\t']) { "" } else { " " };
            let end = if after.starts_with('#') { " " } else { "" };
            format!("{before}{space}{lacking}{end}{after}")
        }
        None => {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            format!("{text}{end}extra-{name} = {lacking}\n")
        }
    }
}

/// URLs are the same with and without a slash at the end.
fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// A line of a list.
struct Line {
    /// Whether it adds to the list, in place of replacing it.
    adds: bool,
    /// Where its words are in the text: up to the last one.
    words: Range<usize>,
}

fn lines(text: &str, name: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split('#').next().unwrap_or_default();
        if let Some((key, _)) = code.split_once('=') {
            let (key, begins) = (key.trim(), start + code.find('=').map_or(0, |equals| equals + 1));
            let ends = (start + code.trim_end().len()).max(begins);
            let adds = key.strip_prefix("extra-") == Some(name);
            if adds || key == name {
                found.push(Line { adds, words: begins..ends });
            }
        }
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, words: &[&str]) -> String {
        with_words(text, "substituters", &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_word_is_added_where_it_counts_and_nothing_else_changes() {
        for (before, after) in [
            ("", "extra-substituters = x\n"),
            ("# mine", "# mine\nextra-substituters = x\n"),
            ("a = b\nextra-substituters = y\nc = d\n", "a = b\nextra-substituters = y x\nc = d\n"),
            ("extra-substituters = y # why\n", "extra-substituters = y x # why\n"),
            ("extra-substituters = y# why\n", "extra-substituters = y x # why\n"),
            ("extra-substituters =\n", "extra-substituters = x\n"),
            ("extra-substituters = y", "extra-substituters = y x"),
            ("substituters = y\n", "substituters = y\nextra-substituters = x\n"),
            // What a later line replaces doesn't count.
            (
                "extra-substituters = x\nsubstituters = y\n",
                "extra-substituters = x\nsubstituters = y\nextra-substituters = x\n",
            ),
            ("#extra-substituters = x\n", "#extra-substituters = x\nextra-substituters = x\n"),
            ("trusted-substituters = x\n", "trusted-substituters = x\nextra-substituters = x\n"),
        ] {
            assert_eq!(with(before, &["x"]), after);
            assert_eq!(with(after, &["x"]), after, "the second time nothing is left to do");
        }
        assert_eq!(with("substituters = a x/\n", &["x"]), "substituters = a x/\n");
        assert_eq!(with("substituters = x\n", &["x", "y"]), "substituters = x\nextra-substituters = y\n");
    }

    #[test]
    fn the_users_file_is_where_nix_looks() {
        let directories = Directories::default();
        let mut environment = Environment::default();
        assert_eq!(user_file(&environment, &directories), None);
        environment.set("HOME", "/home/me");
        assert_eq!(user_file(&environment, &directories).unwrap(), "/home/me/.config/nix/nix.conf");
        environment.set("XDG_CONFIG_HOME", "/x");
        assert_eq!(user_file(&environment, &directories).unwrap(), "/x/nix/nix.conf");
        environment.set("NIX_USER_CONF_FILES", "/a/nix.conf:/b/nix.conf");
        assert_eq!(user_file(&environment, &directories).unwrap(), "/a/nix.conf");
    }
}
