//! The NIF: `Demo.Native` in Elixir.

/// How often each word is in a text, the most frequent first.
#[rustler::nif(schedule = "DirtyCpu")]
fn words(text: &str) -> Vec<(String, u64)> {
    tally::words(text)
}

/// The sum of two numbers.
#[rustler::nif]
fn add(one: i64, other: i64) -> i64 {
    one + other
}

rustler::init!("Elixir.Demo.Native");
