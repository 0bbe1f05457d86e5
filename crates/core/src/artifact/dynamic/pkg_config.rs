//! What pkg-config knows about a library: the `.pc` files that mention it.
//!
//! A build script that asks pkg-config takes versions and flags from these files, so they count besides the
//! library itself. Which of them it asked for is not known; those that bear the library's name, or that link it,
//! are taken.

use camino::{Utf8Path, Utf8PathBuf};

/// Files above this size are no `.pc` files.
const LARGEST: u64 = 1 << 20;

/// All `.pc` files of a host, read once.
#[derive(Debug, Default)]
pub(super) struct PackageConfigFiles {
    files: Vec<(String, String)>,
}

impl PackageConfigFiles {
    /// Reads the `.pc` files of the given directories, in pkg-config's order: the first of a name counts.
    pub(super) fn read(directories: &[Utf8PathBuf]) -> Self {
        let mut files: Vec<(String, String)> = Vec::new();
        for directory in directories {
            for entry in directory.read_dir_utf8().into_iter().flatten().flatten() {
                let name = entry.file_name();
                let is_new = name.ends_with(".pc") && !files.iter().any(|(known, _)| known == name);
                if is_new && let Some(text) = read(entry.path()) {
                    files.push((name.to_owned(), text));
                }
            }
        }
        files.sort();
        Self { files }
    }

    /// The names and texts of those that are about `library`, sorted.
    pub(super) fn about(&self, library: &str) -> impl Iterator<Item = (&str, &str)> {
        let names = [format!("{library}.pc"), format!("lib{library}.pc")];
        let flag = format!("-l{library}");
        self.files
            .iter()
            .filter(move |(name, text)| {
                names.contains(name) || text.split_whitespace().any(|word| word.trim_end_matches(',') == flag)
            })
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

fn read(path: &Utf8Path) -> Option<String> {
    (path.metadata().ok()?.len() <= LARGEST).then(|| std::fs::read_to_string(path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_name_and_by_what_they_link() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        for (name, text) in [
            ("zlib.pc", "Name: zlib\nLibs: -L${libdir} -lz\n"),
            ("zstd.pc", "Libs: -lzstd\n"),
            ("libz.pc", "Libs:\n"),
            ("z.txt", "-lz"),
        ] {
            std::fs::write(root.join(name), text).unwrap();
        }
        let files = PackageConfigFiles::read(&[root.to_owned(), "/nowhere".into()]);
        let about: Vec<_> = files.about("z").map(|(name, _)| name).collect();
        assert_eq!(about, ["libz.pc", "zlib.pc"]);
    }
}
