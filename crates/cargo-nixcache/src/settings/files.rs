//! The configuration files: which there are, and what they hold.
//!
//! Three can say something, the first before the second before the third:
//!
//! ```text
//! <workspace root>/nixcache.toml
//! <workspace root>/Cargo.toml                [workspace.metadata.nixcache]
//! <user's configuration>/cargo-nixcache/config.toml
//! ```
//!
//! The first two come with a workspace, whoever wrote it. What must not be decided by a stranger (keys to trust, where
//! credentials go) may be read of a [`ConfigurationFile`] only if its [`Author`] is the user.

use std::io::ErrorKind;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nix::PublicKey;
use serde::Deserialize;

use super::SettingsError;

/// Who wrote a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// Whoever wrote the workspace.
    Workspace,
    /// The user.
    User,
}

/// A place where configuration can be.
#[derive(Clone, Debug)]
pub(crate) struct ConfigurationFile {
    /// The file.
    pub(crate) path: Utf8PathBuf,
    /// The table in it, where the file is for other things too.
    pub(crate) table: Option<&'static str>,
    /// Who wrote it.
    pub(crate) author: Author,
    /// Whether there is anything.
    pub(crate) present: bool,
    /// What it says.
    pub(super) content: Content,
}

impl ConfigurationFile {
    /// How people name it.
    pub(crate) fn name(&self) -> String {
        match self.table {
            Some(table) => format!("{} [{table}]", self.path),
            None => self.path.to_string(),
        }
    }

    /// The keys that it names. What is no key is passed over.
    pub(crate) fn trusted_keys(&self) -> impl Iterator<Item = PublicKey> {
        self.content.trusted_keys.iter().flatten().filter_map(|key| key.parse().ok())
    }

    /// A path that the file names: relative ones begin where the file is.
    pub(super) fn resolve(&self, path: &Utf8Path) -> Utf8PathBuf {
        self.path.parent().unwrap_or(Utf8Path::new("")).join(path)
    }
}

/// What a configuration file may hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Content {
    /// The local store's directory.
    pub(super) store: Option<Utf8PathBuf>,
    /// The size that it may grow to.
    pub(super) store_size: Option<String>,
    /// Where a summary is written.
    pub(super) summary: Option<Utf8PathBuf>,
    /// Caches to fetch from, in order.
    pub(super) caches: Option<Vec<String>>,
    /// Caches to publish to.
    pub(super) publish: Option<Vec<String>>,
    /// The keys whose signatures count.
    pub(super) trusted_keys: Option<Vec<String>>,
    /// The key that signs what is published.
    pub(super) secret_key_file: Option<Utf8PathBuf>,
    /// Users and passwords by host.
    pub(super) netrc_file: Option<Utf8PathBuf>,
    /// How long a build waits for its caches.
    pub(super) patience: Option<String>,
    /// Whether nothing is fetched.
    pub(super) no_fetch: Option<bool>,
    /// Whether nothing is published.
    pub(super) no_publish: Option<bool>,
    /// Whether only caches that are directories are used.
    pub(super) offline: Option<bool>,
    /// How members are treated.
    pub(super) members: MembersTable,
}

/// `[members]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct MembersTable {
    /// Whether paths of members are remapped when they are compiled.
    pub(super) remap_paths: Option<bool>,
}

const METADATA_TABLE: &str = "workspace.metadata.nixcache";

/// Reads the configuration files for the workspace of `manifest` (none: outside of any) and for the user, the one that
/// counts most first.
pub(crate) fn read_files(
    manifest: Option<&Utf8Path>,
    user: Option<Utf8PathBuf>,
) -> Result<Vec<ConfigurationFile>, SettingsError> {
    let mut files = Vec::new();
    if let Some(root) = manifest.and_then(workspace_root) {
        files.push(read_file(root.join("nixcache.toml"), Author::Workspace)?);
        files.push(read_metadata(root.join("Cargo.toml"))?);
    }
    if let Some(path) = user {
        files.push(read_file(path, Author::User)?);
    }
    Ok(files)
}

fn read_file(path: Utf8PathBuf, author: Author) -> Result<ConfigurationFile, SettingsError> {
    let (present, content) = match std::fs::read_to_string(&path) {
        Ok(text) => (true, toml::from_str(&text).map_err(|error| broken(&path, error))?),
        Err(error) if error.kind() == ErrorKind::NotFound => (false, Content::default()),
        Err(error) => return Err(broken(&path, error)),
    };
    Ok(ConfigurationFile { path, table: None, author, present, content })
}

/// A manifest that cannot be read is cargo's to complain of.
fn read_metadata(path: Utf8PathBuf) -> Result<ConfigurationFile, SettingsError> {
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    // Most manifests say nothing of us, and are not parsed for it.
    let manifest: Option<toml::Table> = text.contains("nixcache").then(|| text.parse().ok()).flatten();
    let table = manifest.as_ref().and_then(|manifest| manifest.get("workspace")?.get("metadata")?.get("nixcache"));
    let content = table.map(|table| Content::deserialize(table.clone())).transpose();
    let content = content.map_err(|error| broken(&path, error))?;
    let (table, author, present) = (Some(METADATA_TABLE), Author::Workspace, content.is_some());
    Ok(ConfigurationFile { path, table, author, present, content: content.unwrap_or_default() })
}

fn broken(path: &Utf8Path, source: impl std::error::Error + Send + Sync + 'static) -> SettingsError {
    SettingsError::File { path: path.to_owned(), source: Box::new(source) }
}

/// The manifest that a cargo started in `directory` would read.
pub(crate) fn nearest_manifest(directory: &Utf8Path) -> Option<Utf8PathBuf> {
    directory.ancestors().map(|directory| directory.join("Cargo.toml")).find(|manifest| manifest.is_file())
}

/// The root of the workspace that a package's manifest belongs to, by cargo's rules (`find_workspace_root` of cargo
/// 0.96): the manifest itself, the one it names, or the nearest above that does not exclude it.
fn workspace_root(manifest: &Utf8Path) -> Option<Utf8PathBuf> {
    let directory = manifest.parent()?;
    let own = workspace_keys(manifest).unwrap_or_default();
    if own.workspace.is_some() {
        return Some(directory.to_owned());
    }
    if let Some(named) = own.package.and_then(|package| package.workspace) {
        return Some(directory.join(named));
    }
    for root in directory.ancestors().skip(1) {
        let Some(workspace) = workspace_keys(&root.join("Cargo.toml")).and_then(|keys| keys.workspace) else {
            continue;
        };
        let lists = |paths: &[Utf8PathBuf]| paths.iter().any(|path| directory.starts_with(root.join(path)));
        if lists(&workspace.exclude) && !lists(&workspace.members) {
            break;
        }
        return Some(root.to_owned());
    }
    Some(directory.to_owned())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WorkspaceKeys {
    package: Option<PackageTable>,
    workspace: Option<WorkspaceTable>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PackageTable {
    workspace: Option<Utf8PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WorkspaceTable {
    members: Vec<Utf8PathBuf>,
    exclude: Vec<Utf8PathBuf>,
}

fn workspace_keys(manifest: &Utf8Path) -> Option<WorkspaceKeys> {
    let text = std::fs::read_to_string(manifest).ok()?;
    if !text.contains("workspace") {
        return Some(WorkspaceKeys::default());
    }
    toml::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_workspace_is_found_as_cargo_finds_it() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(temporary.path()).unwrap();
        let package = "[package]\nname = \"p\"\n";
        for (path, text) in [
            ("Cargo.toml", "[workspace]\nmembers = [\"a\", \"out/kept\"]\nexclude = [\"out\"]\n"),
            ("a/Cargo.toml", &format!("{package}version.workspace = true\n")),
            ("out/b/Cargo.toml", package),
            ("out/kept/Cargo.toml", package),
            ("out/named/Cargo.toml", &format!("{package}workspace = \"../..\"\n")),
            ("a/own/Cargo.toml", &format!("{package}[workspace]\n")),
        ] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        let found = |path: &str| workspace_root(&root.join(path).join("Cargo.toml")).unwrap();
        assert_eq!(found(""), root);
        assert_eq!(found("a"), root);
        assert_eq!(found("out/b"), root.join("out/b"));
        assert_eq!(found("out/kept"), root);
        assert_eq!(found("out/named").canonicalize_utf8().unwrap(), root.canonicalize_utf8().unwrap());
        assert_eq!(found("a/own"), root.join("a/own"));
    }

    proptest::proptest! {
        /// A workspace's file is a stranger's.
        #[test]
        fn no_file_of_a_workspace_makes_it_panic(words in proptest::collection::vec(
            "caches|publish|trusted-keys|members.remap-paths|netrc-file|=|=|\\[|\\]|\\['file:///a'\\]|,|true|\"x:y\"|'\\.\\./x'|#|\n|\n|é",
            0..16,
        )) {
            if let Ok(content) = toml::from_str::<Content>(&words.join(" ")) {
                let path = Utf8PathBuf::from("/work/nixcache.toml");
                let file = ConfigurationFile { path, table: None, author: Author::Workspace, present: true, content };
                let options = crate::arguments::Options::default();
                let directory = Utf8Path::new("/here");
                let given = super::super::GivenOptions { options: &options, from_variables: &[], directory };
                let directories = super::super::Directories { cache: Some("/cache".into()), configuration: None };
                if let Ok(settings) = super::super::Settings::settle(given, vec![file], &directories) {
                    let caches = settings.caches;
                    proptest::prop_assert!(caches.fetch.is_empty() && caches.publish.is_empty());
                    proptest::prop_assert!(caches.trusted_keys.is_empty() && caches.netrc_file.is_none());
                }
            }
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_the_file() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(temporary.path()).unwrap();
        std::fs::write(root.join("Cargo.toml"), "[workspace.metadata.nixcache]\nstroe = 'x'\n").unwrap();
        let error = read_files(Some(&root.join("Cargo.toml")), None).unwrap_err();
        assert!(error.to_string().contains(root.join("Cargo.toml").as_str()), "{error}");
        std::fs::write(root.join("Cargo.toml"), "[workspace]\n").unwrap();
        std::fs::write(root.join("nixcache.toml"), "stroe = 'x'\n").unwrap();
        let error = read_files(Some(&root.join("Cargo.toml")), None).unwrap_err();
        assert!(error.to_string().contains(root.join("nixcache.toml").as_str()), "{error}");
    }
}
