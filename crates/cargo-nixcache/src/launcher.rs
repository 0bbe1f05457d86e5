//! The launcher: a second name of this binary, in the machine's part of the store. Cargo runs the recorder by it.
//!
//! The `cc` crate puts `RUSTC_WRAPPER` in front of C compilers too, if the wrapper has the name of a compiler cache
//! that it knows. So the recorder takes such a name, and [`crate::c_compiler`] sees the calls. Where the user has a
//! cache of their own by one of these names, the launcher takes that name: whoever looks at the name decides as
//! without us.
//!
//! ```text
//! <store>/machine/launcher/<digest of this binary's path>/cachepot     symbolic link to this binary
//! ```
//!
//! The directory is named after the binary, so that two versions that share a store do not change each other's
//! link while cargo runs.

use std::ffi::OsStr;
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::digest::ContentDigest;

/// The caches that the `cc` crate knows (1.2.67; `kache` is the newest of them).
const CACHES: [&str; 4] = ["sccache", "cachepot", "buildcache", "kache"];

/// The name where the user has none: of those that mean nothing to anybody else, `cc` has known it the longest
/// (`buildcache` came with 1.1.19).
#[cfg(unix)]
const OWN_NAME: &str = "cachepot";

/// Whether a program has the name of a cache for which C compilers are run too.
pub(crate) fn is_cache(program: &OsStr) -> bool {
    Path::new(program).file_stem().and_then(OsStr::to_str).is_some_and(|stem| CACHES.contains(&stem))
}

/// Where the launcher of this binary is, beside the store in `store`. `None` if the binary's path is not known.
pub(crate) fn directory(store: &Utf8Path) -> Option<Utf8PathBuf> {
    let own = own_path()?;
    let store = camino::absolute_utf8(store).ok()?;
    let digest = ContentDigest::of(own.as_str().as_bytes()).to_string();
    Some(store.join("machine/launcher").join(&digest[..16]))
}

/// The program that cargo is to run as `RUSTC_WRAPPER`, in place of the user's own: the launcher, or this binary
/// where there can be none. `None` if neither is known.
pub(crate) fn recorder(store: &Utf8Path, wrapper: Option<&Utf8Path>) -> Option<Utf8PathBuf> {
    let own = own_path()?;
    Some(place(store, &own, wrapper).unwrap_or(own))
}

/// Whether a wrapper is this binary under some name: cargo in a build script is told of it, and `cargo nixcache`
/// there must not call itself without end.
pub(crate) fn is_own(wrapper: &Utf8Path) -> bool {
    own_path().is_some_and(|own| {
        let (own, wrapper) = (own.canonicalize_utf8(), wrapper.canonicalize_utf8());
        own.is_ok_and(|own| wrapper.is_ok_and(|wrapper| own == wrapper))
    })
}

fn own_path() -> Option<Utf8PathBuf> {
    std::env::current_exe().ok().and_then(|own| Utf8PathBuf::from_path_buf(own).ok())
}

/// Links it, unless it is there.
#[cfg(unix)]
fn place(store: &Utf8Path, own: &Utf8Path, wrapper: Option<&Utf8Path>) -> Option<Utf8PathBuf> {
    let name = wrapper.filter(|wrapper| is_cache(wrapper.as_os_str())).and_then(Utf8Path::file_stem);
    let directory = directory(store)?;
    // `configure` scripts and make files get it as a word of `CC`, without quotes.
    let is_word = |character: char| character.is_ascii_alphanumeric() || "/._+-".contains(character);
    if !directory.as_str().chars().all(is_word) {
        return None;
    }
    let link = directory.join(name.unwrap_or(OWN_NAME));
    if link.read_link_utf8().is_ok_and(|target| target == own) {
        return Some(link);
    }
    std::fs::create_dir_all(&directory).ok()?;
    let temporary = directory.join(format!(".{}", std::process::id()));
    std::os::unix::fs::symlink(own, &temporary).ok()?;
    std::fs::rename(&temporary, &link).ok().map(|()| link)
}

/// Symbolic links need a privilege on Windows, and the compilers there know no such option.
#[cfg(not(unix))]
fn place(_store: &Utf8Path, _own: &Utf8Path, _wrapper: Option<&Utf8Path>) -> Option<Utf8PathBuf> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_users_cache_where_cc_knows_it() {
        let temporary = tempfile::tempdir().unwrap();
        let store = Utf8Path::from_path(temporary.path()).unwrap();
        let name = |wrapper: Option<&str>| {
            let recorder = recorder(store, wrapper.map(Utf8Path::new)).unwrap();
            assert_eq!(recorder.canonicalize_utf8().unwrap(), own_path().unwrap().canonicalize_utf8().unwrap());
            assert_eq!(recorder.parent(), directory(store).as_deref());
            recorder.file_name().unwrap().to_owned()
        };
        assert_eq!(name(None), "cachepot");
        assert_eq!(name(Some("/usr/bin/sccache")), "sccache");
        assert_eq!(name(Some("kache")), "kache");
        assert_eq!(name(Some("/opt/my-wrapper")), "cachepot");
        assert_eq!(name(None), "cachepot");
        assert!(is_own(&recorder(store, None).unwrap()) && !is_own(store.join("other").as_path()));
    }

    #[test]
    fn a_store_whose_path_is_no_word_has_no_launcher() {
        let temporary = tempfile::tempdir().unwrap();
        let store = Utf8Path::from_path(temporary.path()).unwrap().join("a store");
        assert_eq!(recorder(&store, None), own_path());
        assert!(!store.exists());
    }
}
