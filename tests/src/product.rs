//! Finds or builds the binary under test, once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

/// The directory that holds `cargo-nixcache`: as `NIXCACHE_TEST_BINARY` says, else it is built now.
pub fn binary_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os("NIXCACHE_TEST_BINARY") {
        Some(binary) => {
            let binary = Path::new(&binary);
            assert!(
                binary.ends_with("cargo-nixcache") && binary.is_file(),
                "{} is not cargo-nixcache",
                binary.display()
            );
            binary.parent().expect("a binary is in a directory").to_owned()
        }
        None => build(),
    })
}

/// In the profile that this crate itself was built in, and with the features that `cargo test --workspace` gives it:
/// after that, there is nothing to compile.
fn build() -> PathBuf {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut cargo = crate::own_cargo();
    // What cargo says to a test. Build scripts watch such variables, and what depends on them would be compiled again.
    let is_of_the_test = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.to_str().is_some_and(is_of_the_test)).for_each(|name| {
        cargo.env_remove(name);
    });
    let output = cargo
        .args(["test", "--no-run", "--workspace", "--test", "launcher", "--message-format=json", "--profile", profile])
        .current_dir(crate::repository())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo-nixcache doesn't build");
    let binary = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .find(|path| path.file_stem().is_some_and(|stem| stem == "cargo-nixcache"))
        .expect("cargo names the binary it built");
    binary.parent().expect("a binary is in a directory").to_owned()
}
