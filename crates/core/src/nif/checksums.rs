//! RustlerPrecompiled's checksum file: `checksum-Elixir.MyApp.Native.exs`.
//!
//! The file is evaluated as code by whoever compiles the package, so nothing goes into it but names that were checked
//! and digits.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::name::{NifName, shortened};
use crate::nix::Sha256;

/// Why a text is no name of an Elixir module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use {text:?} as the name of an Elixir module, such as MyApp.Native")]
pub struct ModuleNameError {
    text: String,
}

/// The name of an Elixir module, such as `MyApp.Native`. Read with and without the `Elixir.` that is before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleName(String);

impl ModuleName {
    /// The name of the module's checksum file.
    pub fn checksum_file(&self) -> String {
        format!("checksum-Elixir.{}.exs", self.0)
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModuleName {
    type Err = ModuleNameError;

    fn from_str(text: &str) -> Result<Self, ModuleNameError> {
        let name = text.strip_prefix("Elixir.").unwrap_or(text);
        let is_part = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_uppercase())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if text.len() > 200 || !name.split('.').all(is_part) {
            return Err(ModuleNameError { text: shortened(text) });
        }
        Ok(Self(name.to_owned()))
    }
}

/// The text of a checksum file: the archives and their hashes, sorted, as `mix rustler_precompiled.download` writes it.
pub fn checksum_file<'a>(archives: impl IntoIterator<Item = (&'a NifName, &'a Sha256)>) -> String {
    let archives: BTreeMap<String, &Sha256> =
        archives.into_iter().map(|(name, hash)| (name.archive_file(), hash)).collect();
    let lines: String =
        archives.iter().map(|(file, hash)| format!("  \"{file}\" => \"sha256:{}\",\n", hash.to_hex())).collect();
    format!("%{{\n{lines}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_their_checksum_files() {
        let module: ModuleName = "MyApp.Native2".parse().unwrap();
        assert_eq!(module, "Elixir.MyApp.Native2".parse().unwrap());
        assert_eq!(module.checksum_file(), "checksum-Elixir.MyApp.Native2.exs");
        for text in ["", "my_app", "MyApp.", "MyApp..X", "../MyApp", "MyApp.native", "Elixir.", "My\"App", "MyApp/X"] {
            assert!(text.parse::<ModuleName>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_file_is_a_sorted_map() {
        let names = ["x86_64-unknown-linux-gnu", "aarch64-apple-darwin"]
            .map(|target| NifName::parse_archive_file(&format!("libx-v0.1.0-nif-2.15-{target}.so.tar.gz")).unwrap());
        let hash = Sha256::of(b"");
        let text = checksum_file(names.iter().map(|name| (name, &hash)));
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            text,
            format!(
                "%{{\n  \"libx-v0.1.0-nif-2.15-aarch64-apple-darwin.so.tar.gz\" => \"sha256:{hex}\",\n  \
                 \"libx-v0.1.0-nif-2.15-x86_64-unknown-linux-gnu.so.tar.gz\" => \"sha256:{hex}\",\n}}\n"
            )
        );
        assert_eq!(checksum_file([]), "%{\n}\n");
    }
}
