//! Replaces a file of the user by another text, so that at any moment one of the two is there, whole.

use std::io::{ErrorKind, Write as _};

use camino::{Utf8Path, Utf8PathBuf};

/// Writes `text` in place of the file at `path`, which need not be there. Its permissions stay, and a link to it stays
/// a link: people keep such files elsewhere.
pub(crate) fn replace(path: &Utf8Path, text: &str) -> std::io::Result<()> {
    let path = followed(path)?;
    let directory = directory_of(&path);
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    match std::fs::metadata(&path) {
        Ok(metadata) => file.as_file().set_permissions(metadata.permissions())?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// The directory that a file is in, as a path that can be opened.
pub(crate) fn directory_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|directory| !directory.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

/// Where links lead to. A link to what isn't there yet leads there all the same.
fn followed(path: &Utf8Path) -> std::io::Result<Utf8PathBuf> {
    /// As many as Linux follows.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match path.read_link_utf8() {
            Ok(target) => path = path.parent().unwrap_or(Utf8Path::new("")).join(target),
            // Not a link, or not there.
            Err(_) => return Ok(path),
        }
    }
    Err(std::io::Error::new(ErrorKind::InvalidInput, "there are too many links"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_and_permissions_stay() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(temporary.path()).unwrap();
        std::fs::create_dir(root.join("elsewhere")).unwrap();
        let (file, link) = (root.join("elsewhere/file"), root.join("link"));
        symlink("elsewhere/file", &link).unwrap();
        replace(&link, "one").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        replace(&link, "two").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(root.join("elsewhere")).unwrap().count(), 1, "nothing else is left");
        replace(&root.join("new/directory/file"), "three").unwrap();
    }

    #[test]
    fn links_that_lead_nowhere_are_an_error() {
        let temporary = tempfile::tempdir().unwrap();
        let link = Utf8Path::from_path(temporary.path()).unwrap().join("link");
        symlink("link", &link).unwrap();
        assert!(replace(&link, "text").is_err());
    }
}
