//! The scenarios: what must be a hit and what must be a miss, with the real binary and real cargo.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "these are tests")]

mod c_code;
mod caches;
mod caches_sets;
mod commands;
mod count;
mod declared;
mod done;
mod edit_loop;
mod files;
mod from_scratch;
mod generated;
mod hosted;
mod interruption;
mod irrelevant;
mod linking;
mod links;
mod lock_file;
mod machine;
mod macros;
mod manifests;
mod mixing;
mod output;
mod profiles;
mod races;
mod random_walk;
mod repository;
mod selections;
mod small;
mod sources;
mod storage;
mod targets;
mod times;
mod together;
mod toolchains;
mod use_cache;
mod variables;
