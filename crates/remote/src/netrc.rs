//! netrc files: which user and password for which host. The format is curl's, as Nix reads it.
//!
//! `macdef` and what follows it up to an empty line is passed over. A `default` entry is passed over too: a password
//! for "any host" would be sent to whatever host a URL names.

use crate::secret::Secret;

/// The users and passwords of a netrc file.
#[derive(Clone, Debug, Default)]
pub struct Netrc {
    entries: Vec<Entry>,
}

/// One `machine`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    machine: String,
    pub(crate) login: String,
    pub(crate) password: Secret,
}

impl Netrc {
    /// Reads the text of a file. What is not understood is passed over, as curl does it.
    pub fn parse(text: &str) -> Self {
        let mut entries = Vec::new();
        let mut open: Option<Entry> = None;
        let mut in_default = false;
        let mut words = Words { rest: text };
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => {
                    entries.extend(open.take());
                    in_default = false;
                    let Some(machine) = words.next() else { break };
                    open = Some(Entry {
                        machine: machine.to_ascii_lowercase(),
                        login: String::new(),
                        password: Secret::new(""),
                    });
                }
                "default" => {
                    entries.extend(open.take());
                    in_default = true;
                }
                "macdef" => words.skip_macro(),
                "login" | "password" | "account" => {
                    let Some(value) = words.next() else { break };
                    let Some(entry) = open.as_mut().filter(|_| !in_default) else { continue };
                    match word.as_str() {
                        "login" => entry.login = value,
                        "password" => entry.password = Secret::new(value),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        entries.extend(open);
        Self { entries }
    }

    /// The first entry for `host`.
    pub(crate) fn find(&self, host: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.machine.eq_ignore_ascii_case(host))
    }
}

/// Words between white space; in double quotes with backslashes for what is special; `#` begins a comment at the
/// beginning of a word.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn next(&mut self) -> Option<String> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                break;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            self.rest = rest;
            return (!word.is_empty()).then(|| word.to_owned());
        };
        let mut word = String::new();
        let mut characters = quoted.char_indices();
        self.rest = "";
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &quoted[index + 1..];
                    break;
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => word.push('\n'),
                    Some((_, 'r')) => word.push('\r'),
                    Some((_, 't')) => word.push('\t'),
                    Some((_, other)) => word.push(other),
                    None => break,
                },
                other => word.push(other),
            }
        }
        Some(word)
    }

    fn skip_macro(&mut self) {
        self.rest = match self.rest.find("\n\n") {
            Some(end) => &self.rest[end..],
            None => "",
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(netrc: &Netrc, host: &str) -> Option<(String, String)> {
        netrc.find(host).map(|entry| (entry.login.clone(), entry.password.expose().to_owned()))
    }

    #[test]
    fn machines_are_found_by_host() {
        let netrc = Netrc::parse(
            "# mine\nmachine a.example login me password secret\nmachine B.example\n  login you\n  password \"with space\\\"\"\n\
             macdef init\nmachine c.example login x password y\n\nmachine d.example password token account 7\ndefault login any password any\n",
        );
        assert_eq!(found(&netrc, "a.example"), Some(("me".into(), "secret".into())));
        assert_eq!(found(&netrc, "b.EXAMPLE"), Some(("you".into(), "with space\"".into())));
        assert_eq!(found(&netrc, "c.example"), None, "part of a macro");
        assert_eq!(found(&netrc, "d.example"), Some((String::new(), "token".into())));
        assert_eq!(found(&netrc, "e.example"), None, "the default is for nobody");
        assert!(!format!("{netrc:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            Netrc::parse(&text);
        }

        #[test]
        fn broken_entries_do_not_make_it_panic(words in proptest::collection::vec("machine|login|password|macdef|default|\"|\\\\|#|\n|é", 0..20)) {
            Netrc::parse(&words.join(" "));
        }
    }
}
