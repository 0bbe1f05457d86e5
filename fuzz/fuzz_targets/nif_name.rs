//! See `nif_name` in `tests/readers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nixcache_test_readers::nif_name(data));
