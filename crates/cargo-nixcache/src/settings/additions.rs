//! Additions to the user's configuration file. What is there stays as it was written: comments, order, form.

use nixcache_core::nix::PublicKey;
use nixcache_remote::CacheUrl;
use toml_edit::{Array, DocumentMut, Item, Value};

/// What is to be in the file.
#[derive(Clone, Debug)]
pub(crate) struct Additions {
    /// A cache to fetch from.
    pub(crate) cache: CacheUrl,
    /// Whether it is published to as well.
    pub(crate) publish: bool,
    /// Keys to trust.
    pub(crate) keys: Vec<PublicKey>,
}

/// Why the file can't be added to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdditionError {
    /// It is not TOML.
    #[error("read the configuration file")]
    Syntax {
        /// What is wrong with it.
        #[source]
        source: toml_edit::TomlError,
    },
    /// A list in it is something else.
    #[error("add to `{key}`: it is not a list of texts")]
    NoList {
        /// Its key.
        key: &'static str,
    },
}

impl Additions {
    /// The text of the file with the additions, as far as they are not there yet.
    pub(crate) fn add_to(&self, text: &str) -> Result<String, AdditionError> {
        let mut document: DocumentMut = text.parse().map_err(|source| AdditionError::Syntax { source })?;
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let url = self.cache.to_string();
        let same_cache = |there: &str| there.parse::<CacheUrl>().is_ok_and(|there| there.is_same_place(&self.cache));
        add(&mut document, "caches", &url, same_cache)?;
        if self.publish {
            add(&mut document, "publish", &url, same_cache)?;
        }
        for key in &keys {
            add(&mut document, "trusted-keys", key, |there| there.trim() == key)?;
        }
        Ok(document.to_string())
    }
}

/// Adds `text` to a list, in place of what is the same thing in other words.
fn add(
    document: &mut DocumentMut,
    key: &'static str,
    text: &str,
    is_same: impl Fn(&str) -> bool,
) -> Result<(), AdditionError> {
    let item = document.entry(key).or_insert_with(|| Item::Value(Value::Array(Array::new())));
    let list = item.as_array_mut().ok_or(AdditionError::NoList { key })?;
    let found = list.iter().position(|value| value.as_str().is_some_and(&is_same));
    match found {
        Some(index) if list.get(index).and_then(Value::as_str) == Some(text) => {}
        Some(index) => {
            // `replace` keeps what is around the value.
            list.replace(index, text);
        }
        None => push(list, text),
    }
    Ok(())
}

/// Adds to the end, on a line of its own if the last one is on one.
fn push(list: &mut Array, text: &str) {
    let Some(last) = list.iter().last() else { return list.push(text) };
    let before = last.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let indent = before.rsplit_once('\n').map(|(_, indent)| indent.to_owned());
    let mut value = Value::from(text);
    if list.trailing_comma() {
        let end = list.trailing().as_str().unwrap_or_default().to_owned();
        // A comment after the last comma belongs to what is before it.
        let (comment, last_line) = end.rsplit_once('\n').unwrap_or(("", &end));
        if let Some(indent) = indent {
            value.decor_mut().set_prefix(format!("{}\n{indent}", comment.trim_end()));
            list.set_trailing(format!("\n{last_line}"));
        } else if end.contains('\n') {
            value.decor_mut().set_prefix(format!("{comment}\n"));
            list.set_trailing(last_line);
        } else {
            value.decor_mut().set_prefix(" ");
        }
    } else {
        value.decor_mut().set_prefix(indent.map_or_else(|| " ".to_owned(), |indent| format!("\n{indent}")));
        // What is between the last value and the bracket moves behind the new one, if it is nothing but space.
        if let Some(last) = list.iter_mut().last() {
            let suffix = last.decor().suffix().and_then(|suffix| suffix.as_str()).unwrap_or_default().to_owned();
            if suffix.trim().is_empty() {
                last.decor_mut().set_suffix("");
                value.decor_mut().set_suffix(suffix);
            }
        }
    }
    list.push_formatted(value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "nixcache-test-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

    fn additions(cache: &str) -> Additions {
        Additions { cache: cache.parse().unwrap(), publish: false, keys: vec![KEY.parse().unwrap()] }
    }

    fn added(before: &str) -> String {
        let additions = additions("https://cache.example.org");
        let after = additions.add_to(before).unwrap();
        assert_eq!(additions.add_to(&after).unwrap(), after, "the second time nothing is left to do");
        after
    }

    #[test]
    fn an_empty_file_gets_both_lists() {
        assert_eq!(added(""), format!("caches = [\"https://cache.example.org\"]\ntrusted-keys = [\"{KEY}\"]\n"));
    }

    #[test]
    fn what_is_there_stays_as_it_was_written() {
        let before = "# my caches\n\ncaches = [ 'file:///a' ] # near\nstore-size='1GiB'\n\n[members] # ours\nremap-paths = false\n";
        let after = format!(
            "# my caches\n\ncaches = [ 'file:///a', \"https://cache.example.org\" ] # near\nstore-size='1GiB'\n\
             trusted-keys = [\"{KEY}\"]\n\n[members] # ours\nremap-paths = false\n"
        );
        assert_eq!(added(before), after);
    }

    #[test]
    fn lists_with_a_line_for_each_stay_such() {
        let keys = format!("trusted-keys = ['{KEY}']\n");
        for (before, after) in [
            ("  'file:///a',\n", "  'file:///a',\n  \"https://cache.example.org\",\n"),
            ("  'file:///a'\n", "  'file:///a',\n  \"https://cache.example.org\"\n"),
            ("  'file:///a', # near\n", "  'file:///a', # near\n  \"https://cache.example.org\",\n"),
            (
                "  # near\n  'file:///a',\n  # the end\n",
                "  # near\n  'file:///a',\n  # the end\n  \"https://cache.example.org\",\n",
            ),
        ] {
            assert_eq!(added(&format!("caches = [\n{before}]\n{keys}")), format!("caches = [\n{after}]\n{keys}"));
        }
    }

    #[test]
    fn the_same_cache_with_another_priority_is_put_in_its_place() {
        let text = format!("caches = ['https://cache.example.org/', 'file:///a']\ntrusted-keys = ['{KEY}']\n");
        let changed = additions("https://cache.example.org?priority=1").add_to(&text).unwrap();
        assert!(changed.starts_with("caches = [\"https://cache.example.org?priority=1\", 'file:///a']"), "{changed}");
    }

    #[test]
    fn what_is_no_list_is_left_alone() {
        assert!(matches!(
            additions("file:///a").add_to("caches = 'file:///a'"),
            Err(AdditionError::NoList { key: "caches" })
        ));
        assert!(matches!(additions("file:///a").add_to("caches = ["), Err(AdditionError::Syntax { .. })));
    }

    proptest! {
        /// A file that can be read stays one that can be read, with all that it said.
        #[test]
        fn no_text_makes_it_panic(words in proptest::collection::vec(
            "caches|publish|trusted-keys|members|store|=|\\[|\\]|\\[members\\]|,|'file:///a'|\"x\"|1|\\{|\\}|#|\n|\n|é|\\.|\\\\", 0..24,
        )) {
            let text = words.join(" ");
            if let Ok(after) = additions("https://cache.example.org").add_to(&text) {
                let (before, after): (toml::Table, toml::Table) = (text.parse().unwrap(), after.parse().unwrap());
                prop_assert!(before.keys().all(|key| after.contains_key(key)));
                prop_assert!(after["caches"].as_array().is_some_and(|list| !list.is_empty()));
            }
        }

        #[test]
        fn whatever_the_form_it_is_read_back(
            before in "( |\n|#c\n){0,3}", between in "( |\n|\n  |#c\n){0,3}", after in "( |\n|#c\n){0,3}",
            comma: bool, count in 0usize..3,
        ) {
            let urls: Vec<String> = (0..count).map(|number| format!("'file:///{number}'")).collect();
            let comma = if comma && count > 0 { "," } else { "" };
            let text = format!("caches = [{before}{}{between}{comma}{after}]", urls.join(&format!("{after},{between}")));
            let text = additions("https://cache.example.org").add_to(&text).unwrap();
            let table: toml::Table = text.parse().unwrap();
            let caches: Vec<_> = table["caches"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
            prop_assert_eq!(caches.len(), count + 1);
            prop_assert_eq!(*caches.last().unwrap(), "https://cache.example.org");
        }
    }
}
