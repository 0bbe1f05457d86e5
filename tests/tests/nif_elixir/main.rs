//! NIFs from the sources to a running virtual machine: real cargo and rustler build them, the real server has them, and
//! the real Elixir loads and calls them, without cargo and rustc.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod building;
mod fetching;
mod hosted;
mod place;
mod publishing;
mod running;
