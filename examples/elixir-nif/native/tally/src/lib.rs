//! Counts words.

use std::collections::BTreeMap;

/// How often each word is in a text, the most frequent first, then by the alphabet.
pub fn words(text: &str) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
    let mut words: Vec<(String, u64)> = counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect();
    words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    words
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_most_frequent_word_comes_first() {
        assert_eq!(super::words("b a b"), [("b".to_owned(), 2), ("a".to_owned(), 1)]);
    }
}
