//! Programs that a build script may start: which file a command means, and what identifies it.
//!
//! No program is started to ask for its version. The content of the file that `PATH` leads to identifies it: a
//! compiler's driver changes with every release of the compiler. Compiler caches that stand in for a compiler
//! (`ccache` by a link named `cc`) are looked through.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

/// Programs that run the compiler that comes next.
const WRAPPERS: [&str; 8] = ["ccache", "sccache", "distcc", "icecc", "buildcache", "firebuild", "cachepot", "kache"];

/// The files behind a command such as `cc`, `/opt/bin/gcc -m64` or `ccache clang`: the program, and where that is
/// a compiler cache, the compiler. Empty if there is none.
pub(super) fn files_behind(command: &str, search_path: Option<&str>) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for word in command.split_whitespace() {
        let Some(file) = file_behind(word, search_path) else { break };
        let is_wrapper = is_wrapper(word) || is_wrapper(file.as_str());
        found.push(file);
        if !is_wrapper {
            break;
        }
    }
    found
}

/// The file behind one program's name or path, links followed. None if there is no such program.
pub fn file_behind(word: &str, search_path: Option<&str>) -> Option<Utf8PathBuf> {
    if word.contains(std::path::MAIN_SEPARATOR) || word.contains('/') {
        let path = Utf8Path::new(word);
        let file = real_file(path)?;
        // `/usr/lib/ccache/cc` is a link to a compiler cache, which goes on to the `cc` in `PATH`.
        let stands_in = is_wrapper(file.as_str()) && !is_wrapper(word);
        return if stands_in { file_behind(path.file_name()?, search_path) } else { Some(file) };
    }
    let directories = std::env::split_paths(search_path?).filter_map(|path| Utf8PathBuf::from_path_buf(path).ok());
    directories
        .filter(|directory| !directory.as_str().is_empty())
        .filter_map(|directory| real_file(&directory.join(word)))
        // A link named `cc` to a compiler cache: the cache goes on to the next `cc`, and so do we.
        .find(|file| is_wrapper(word) || !is_wrapper(file.as_str()))
}

fn real_file(path: &Utf8Path) -> Option<Utf8PathBuf> {
    let with_suffix = || Utf8PathBuf::from(format!("{path}{}", std::env::consts::EXE_SUFFIX));
    let file = path.canonicalize_utf8().or_else(|_| with_suffix().canonicalize_utf8()).ok()?;
    is_executable(&file).unwrap_or(false).then_some(file)
}

#[cfg(unix)]
fn is_executable(path: &Utf8Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = path.metadata()?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Utf8Path) -> io::Result<bool> {
    Ok(path.metadata()?.is_file())
}

fn is_wrapper(program: &str) -> bool {
    Utf8Path::new(program).file_stem().is_some_and(|stem| WRAPPERS.contains(&stem))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_and_compiler_caches_are_looked_through() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        for path in ["caches", "bin"] {
            std::fs::create_dir(root.join(path)).unwrap();
        }
        for program in ["bin/gcc-12", "bin/ccache", "bin/cachepot", "bin/kache"] {
            std::fs::write(root.join(program), program).unwrap();
            std::fs::set_permissions(root.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink("gcc-12", root.join("bin/cc")).unwrap();
        symlink("../bin/ccache", root.join("caches/cc")).unwrap();
        std::fs::write(root.join("caches/text"), "not executable").unwrap();
        let path = format!("/nowhere:{root}/caches:{root}/bin");
        let files = |command: &str| files_behind(command, Some(&path));
        assert_eq!(files("cc"), [root.join("bin/gcc-12")]);
        assert_eq!(files("cc -m64"), [root.join("bin/gcc-12")]);
        assert_eq!(files("ccache cc"), [root.join("bin/ccache"), root.join("bin/gcc-12")]);
        for cache in ["cachepot", "kache"] {
            assert_eq!(files(&format!("{cache} cc")), [root.join("bin").join(cache), root.join("bin/gcc-12")]);
        }
        assert_eq!(files(&format!("{root}/bin/cc")), [root.join("bin/gcc-12")]);
        assert_eq!(files(&format!("{root}/caches/cc")), [root.join("bin/gcc-12")]);
        assert!(files("text").is_empty() && files("clang").is_empty() && files("").is_empty());
    }
}
