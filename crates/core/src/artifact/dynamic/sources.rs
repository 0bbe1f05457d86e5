//! The sources of a package as a whole: a digest that names what a checkout holds, for the keys of sets.
//!
//! It is no input of any unit: nothing is believed of it. So it may pass over what git ignores, which a build script
//! could read, and which would make the digest differ from one machine to the next.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use ignore::WalkBuilder;
use rayon::prelude::*;

use crate::digest::{ContentDigest, KeyHasher};

/// A package with more files has no digest: something else lies there than sources.
const MOST_FILES: usize = 1 << 17;

/// A package with more bytes has none either.
const MOST_BYTES: u64 = 1 << 30;

/// The digest of the names and the content of a package's files: those that git tracks or would track, without the
/// packages nested below it, and without `left_out` (target directories).
pub fn source_digest(root: &Utf8Path, left_out: &[&Utf8Path]) -> io::Result<ContentDigest> {
    let files = source_files(root, left_out)?;
    let digests: io::Result<Vec<ContentDigest>> = files.par_iter().map(|path| digest(path)).collect();
    let mut hasher = KeyHasher::new("package-sources/1");
    for (path, digest) in files.iter().zip(digests?) {
        let relative = path.strip_prefix(root).unwrap_or(path);
        hasher.field("path", relative.as_str()).field("content", digest.as_bytes());
    }
    Ok(hasher.digest())
}

fn source_files(root: &Utf8Path, left_out: &[&Utf8Path]) -> io::Result<Vec<Utf8PathBuf>> {
    let mut walk = WalkBuilder::new(root);
    // The ignore files of the checkout count, those of this user alone don't: they would be others elsewhere.
    walk.hidden(false).git_global(false).git_exclude(false).require_git(false).ignore(false);
    let (own, left_out) = (root.to_owned(), left_out.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
    walk.filter_entry(move |entry| {
        let Some(path) = Utf8Path::from_path(entry.path()) else { return true };
        path == own
            || !(path.file_name() == Some(".git")
                || path == own.join("target")
                || left_out.iter().any(|left_out| path == left_out)
                || path.join("Cargo.toml").exists())
    });
    let (mut files, mut bytes) = (Vec::new(), 0);
    for entry in walk.build() {
        let entry = entry.map_err(|error| error.into_io_error().unwrap_or_else(|| io::Error::other("cannot walk")))?;
        if entry.file_type().is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        bytes += entry.metadata().map_err(io::Error::other)?.len();
        let path = Utf8PathBuf::from_path_buf(entry.into_path());
        files.push(path.map_err(|path| io::Error::other(format!("{} is not UTF-8", path.display())))?);
        if files.len() > MOST_FILES || bytes > MOST_BYTES {
            return Err(io::Error::other(format!("{root} holds more than sources")));
        }
    }
    files.sort();
    Ok(files)
}

/// Of a link, where it leads: the file it leads to may lie anywhere.
fn digest(path: &Utf8Path) -> io::Result<ContentDigest> {
    let kind = path.symlink_metadata()?.file_type();
    if kind.is_symlink() {
        return Ok(ContentDigest::of(path.read_link_utf8()?.as_str().as_bytes()));
    }
    match kind.is_file() {
        true => Ok(ContentDigest::of(&std::fs::read(path)?)),
        false => Err(io::Error::other(format!("{path} is no ordinary file"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn checkout(parent: &Utf8Path, name: &str) -> Utf8PathBuf {
        let root = parent.join(name);
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("nested/src")).unwrap();
        fs::write(root.join("Cargo.toml"), "[package]").unwrap();
        fs::write(root.join(".gitignore"), "*.log\n").unwrap();
        fs::write(root.join("src/lib.rs"), "fn f() {}").unwrap();
        fs::write(root.join("nested/Cargo.toml"), "[package]").unwrap();
        root
    }

    #[test]
    fn equal_checkouts_have_one_digest_whatever_else_lies_there() {
        let directory = tempfile::tempdir().unwrap();
        let parent = Utf8Path::from_path(directory.path()).unwrap();
        let (a, b) = (checkout(parent, "a"), checkout(parent, "b"));
        let digest = |root: &Utf8Path| source_digest(root, &[&root.join("out")]).unwrap();
        for (file, text) in [
            ("run.log", "ignored"),
            ("target/debug/x", "built"),
            ("out/debug/x", "built"),
            ("nested/src/lib.rs", "another package"),
            (".git/HEAD", "x"),
        ] {
            let path = b.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            assert_eq!(digest(&a), digest(&b), "{file}");
        }
        for (file, text) in [("src/lib.rs", "fn g() {}"), (".sqlx/query.json", "{}"), ("README.md", "x")] {
            let before = digest(&b);
            let path = b.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            assert_ne!(digest(&b), before, "{file}");
        }
        assert!(source_digest(&parent.join("missing"), &[]).is_err());
    }
}
