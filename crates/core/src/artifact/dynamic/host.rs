//! What the host has: its glibc, and where its linkers search.
//!
//! Read from files alone: no program is started. On systems without glibc there is none, and every floor is too
//! high.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};

use super::super::binary_facts::{BinaryFacts, LibraryVersion, newest_defined};

/// The facts of one host that dynamic inputs are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The version of the glibc that rustc runs with.
    pub glibc: Option<LibraryVersion>,
    /// Where its dynamic linker searches, in order.
    pub loader_directories: Vec<Utf8PathBuf>,
    /// Where its compilers' linker searches, in order.
    pub link_directories: Vec<Utf8PathBuf>,
    /// Its processor, as the system describes it; asked for when somebody wants to know.
    pub processor: OnceLock<String>,
}

impl HostFacts {
    /// Finds the facts of this host. Rustc's dynamic linker leads to the C library where that is in no usual place, as
    /// on NixOS. Our own is no witness: we may have been built with another one.
    pub fn discover(rustc: Option<&Utf8Path>) -> Self {
        let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
        let link_directories: Vec<Utf8PathBuf> = [
            format!("/usr/local/lib/{multiarch}"),
            format!("/lib/{multiarch}"),
            format!("/usr/lib/{multiarch}"),
            "/usr/local/lib64".to_owned(),
            "/lib64".to_owned(),
            "/usr/lib64".to_owned(),
            "/usr/local/lib".to_owned(),
            "/lib".to_owned(),
            "/usr/lib".to_owned(),
        ]
        .map(Utf8PathBuf::from)
        .into();
        let mut loader_directories = Vec::new();
        let interpreter =
            rustc.and_then(|path| BinaryFacts::read(path).ok().flatten()).and_then(|facts| facts.interpreter);
        loader_directories.extend(interpreter.as_deref().into_iter().flat_map(directories_of));
        read_loader_configuration(Utf8Path::new("/etc/ld.so.conf"), &mut loader_directories, 0);
        loader_directories.extend(link_directories.iter().cloned());
        let mut seen = BTreeSet::new();
        loader_directories.retain(|directory| seen.insert(directory.clone()));
        let glibc = newest_in(&loader_directories, "libc.so.6", "GLIBC_");
        Self { glibc, loader_directories, link_directories, processor: OnceLock::new() }
    }

    /// The version of the glibc that programs run with which name this dynamic linker: the two belong together.
    pub fn glibc_of(&self, interpreter: &Utf8Path) -> Option<LibraryVersion> {
        let directories: Vec<_> = directories_of(interpreter).chain(self.link_directories.iter().cloned()).collect();
        newest_in(&directories, "libc.so.6", "GLIBC_")
    }

    /// The newest version `<prefix>x.y` that the library which the dynamic linker finds defines.
    pub fn newest(&self, library: &str, prefix: &str) -> Option<LibraryVersion> {
        newest_in(&self.loader_directories, library, prefix)
    }
}

/// Where a dynamic linker lies. It is often reached through a link from another directory.
fn directories_of(interpreter: &Utf8Path) -> impl Iterator<Item = Utf8PathBuf> {
    let real = interpreter.canonicalize_utf8().ok();
    let real = real.as_deref().and_then(Utf8Path::parent).map(Utf8Path::to_owned);
    interpreter.parent().map(Utf8Path::to_owned).into_iter().chain(real)
}

fn newest_in(directories: &[Utf8PathBuf], library: &str, prefix: &str) -> Option<LibraryVersion> {
    let found = directories.iter().map(|directory| directory.join(library)).find(|path| path.exists());
    newest_defined(&found?, prefix)
}

/// What compilers look at that are told to compile for `native`.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default();
    let relevant = ["vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part", "CPU implementer"];
    first
        .lines()
        .filter(|line| relevant.contains(&line.split(':').next().unwrap_or_default().trim()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads `ld.so.conf`: directories, and `include` with patterns of the form `directory/*.conf`.
fn read_loader_configuration(path: &Utf8Path, directories: &mut Vec<Utf8PathBuf>, depth: usize) {
    const DEEPEST: usize = 4;
    let Ok(text) = std::fs::read_to_string(path) else { return };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include") {
            Some(pattern) if pattern.starts_with(char::is_whitespace) && depth < DEEPEST => {
                let pattern = Utf8Path::new(pattern.trim());
                let Some(directory) = pattern.parent() else { continue };
                let directory = if directory.is_absolute() {
                    directory.to_owned()
                } else {
                    path.parent().unwrap_or(path).join(directory)
                };
                let suffix = pattern.file_name().and_then(|name| name.strip_prefix('*'));
                let mut files: Vec<_> = directory
                    .read_dir_utf8()
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.into_path())
                    .filter(|file| match suffix {
                        Some(suffix) => file.as_str().ends_with(suffix),
                        None => file.file_name() == pattern.file_name(),
                    })
                    .collect();
                files.sort();
                files.iter().for_each(|file| read_loader_configuration(file, directories, depth + 1));
            }
            _ if line.starts_with('/') => directories.push(line.into()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn this_host_has_a_glibc_and_finds_it() {
        let facts = HostFacts::discover(Some(Utf8Path::new("/proc/self/exe")));
        let own = BinaryFacts::read(Utf8Path::new("/proc/self/exe")).unwrap().unwrap();
        assert_eq!(facts.glibc_of(&own.interpreter.unwrap()), facts.glibc);
        assert!(facts.glibc.unwrap() >= "2.17".parse().unwrap());
        assert!(facts.loader_directories.iter().any(|directory| directory.join("libc.so.6").exists()));
    }

    #[test]
    fn the_loaders_configuration_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        std::fs::create_dir(root.join("ld.so.conf.d")).unwrap();
        std::fs::write(root.join("ld.so.conf"), "include ld.so.conf.d/*.conf\n# /no\n/last # why\n").unwrap();
        std::fs::write(root.join("ld.so.conf.d/b.conf"), "/second\n").unwrap();
        std::fs::write(root.join("ld.so.conf.d/a.conf"), "/first\ninclude /nowhere/x\n").unwrap();
        std::fs::write(root.join("ld.so.conf.d/c.old"), "/never\n").unwrap();
        let mut directories = Vec::new();
        read_loader_configuration(&root.join("ld.so.conf"), &mut directories, 0);
        assert_eq!(directories, ["/first", "/second", "/last"]);
    }
}
