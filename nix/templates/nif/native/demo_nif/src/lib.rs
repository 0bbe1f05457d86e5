//! The functions that Elixir calls.

#[rustler::nif]
fn add(left: i64, right: i64) -> i64 {
    left + right
}

rustler::init!("Elixir.DemoNif");
