//! What git says of a repository: what a build script gets that asks it for the commit or the nearest tag.
//!
//! Asked of git itself, since where it keeps what has changed over time, and differs in work trees. Remotes and files
//! that git doesn't track are not part of it.

use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use crate::digest::{ContentDigest, KeyHasher};
use crate::environment::Environment;

/// The state of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryState {
    /// Commit, branch, the tags that lead to it, how far its history goes, and how tracked files differ from it.
    pub(crate) digest: ContentDigest,
    /// The files by which a change of all this is noticed.
    pub(crate) watched: Vec<Utf8PathBuf>,
}

impl RepositoryState {
    /// The state of the repository that a directory lies in. `None` if it lies in none, or git isn't there or refuses:
    /// a script gets no answer either.
    pub(crate) fn read(directory: &Utf8Path, environment: &Environment) -> Option<Self> {
        let git = Git { directory, environment };
        let places = git.ask(&["rev-parse", "--show-toplevel", "--absolute-git-dir", "--git-common-dir"])?;
        let mut places = places.lines().map(|line| directory.join(line));
        let (top, own, common) = (places.next()?, places.next()?, places.next()?);
        let branch = git.ask(&["symbolic-ref", "-q", "HEAD"]);
        let mut hasher = KeyHasher::new("repository/1");
        hasher.optional("commit", git.ask(&["rev-parse", "--verify", "-q", "HEAD"]));
        hasher.optional("branch", branch.as_deref());
        let tags = ["for-each-ref", "--merged=HEAD", "--format=%(objectname) %(refname)", "refs/tags"];
        hasher.optional("tags", git.ask(&tags));
        hasher.optional("shallow", std::fs::read(common.join("shallow")).ok());
        let edited = git.ask(&["status", "--porcelain", "--untracked-files=no"])?;
        let edits =
            (!edited.is_empty()).then(|| git.ask(&["diff", "--binary", "--no-ext-diff", "--no-textconv", "HEAD"]));
        hasher.field("edited", edited).optional("edits", edits.flatten());

        let tracked = git.ask(&["ls-files", "-z", "--full-name", ":/"])?;
        let tracked = tracked.split('\0').filter(|path| !path.is_empty()).map(|path| top.join(path));
        // Of a file that is gone, only the directory tells when it went.
        let tracked = tracked.map(|path| nearest_that_is_there(&path));
        // Where references are in tables, each change of one is a new list of these.
        let common_files = ["packed-refs", "reftable/tables.list", "shallow"].map(|file| common.join(file));
        // Not the index: who asks whether something was edited brings it up to date.
        let mut watched = vec![own.join("HEAD")];
        watched.extend(branch.map(|branch| common.join(branch.trim())));
        watched.extend(common_files);
        watched.extend(all_below(&common.join("refs/tags")));
        watched.extend(tracked);
        Some(Self { digest: hasher.digest(), watched })
    }
}

fn nearest_that_is_there(path: &Utf8Path) -> Utf8PathBuf {
    path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(path).to_owned()
}

/// A directory with all that is below it.
fn all_below(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(path.read_dir_utf8().into_iter().flatten().flatten().map(|entry| entry.into_path()));
        }
        found.push(path);
    }
    found
}

struct Git<'a> {
    directory: &'a Utf8Path,
    environment: &'a Environment,
}

impl Git<'_> {
    fn ask(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.directory).env_clear().envs(self.environment.iter());
        // Nobody who only asks writes to the index, waits for a person, or fetches.
        for (name, value) in [("GIT_OPTIONAL_LOCKS", "0"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_NO_LAZY_FETCH", "1")] {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn git(root: &Utf8Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main"]).args(arguments);
        assert!(command.current_dir(root).output().unwrap().status.success(), "{arguments:?}");
    }

    #[test]
    fn a_state_is_what_git_would_answer() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        let environment: Environment = std::env::vars_os().collect();
        let state = |root: &Utf8Path| RepositoryState::read(root, &environment).map(|state| state.digest);
        let package = root.join("a/package");
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("file"), "one").unwrap();
        assert_eq!(state(&package), None);
        git(&root, &["init", "-q"]);
        let unborn = state(&package).unwrap();
        git(&root, &["add", "."]);
        git(&root, &["commit", "-qm", "one"]);
        let one = state(&package).unwrap();
        assert_ne!(one, unborn);
        assert_eq!(state(&root), Some(one), "from any directory");

        // A clone has other times, and a file that nobody tracks.
        let elsewhere = tempfile::tempdir().unwrap();
        let clone = Utf8PathBuf::from_path_buf(elsewhere.path().canonicalize().unwrap()).unwrap().join("clone");
        git(&root, &["clone", "-q", root.as_str(), clone.as_str()]);
        fs::write(clone.join("untracked"), "").unwrap();
        assert_eq!(state(&clone.join("a/package")), Some(one));
        git(&clone, &["checkout", "-q", "-b", "other"]);
        assert_ne!(state(&clone), Some(one), "another branch");

        fs::write(package.join("file"), "two").unwrap();
        let edited = state(&root);
        assert_ne!(edited, Some(one), "edited");
        fs::write(package.join("file"), "twice").unwrap();
        assert_ne!(state(&root), edited, "edited again");
        fs::write(package.join("file"), "one").unwrap();
        assert_eq!(state(&root), Some(one));
        git(&root, &["tag", "v1"]);
        let tagged = state(&root).unwrap();
        assert_ne!(tagged, one);
        fs::write(package.join("file"), "two").unwrap();
        git(&root, &["commit", "-qam", "two"]);
        git(&root, &["tag", "v2"]);
        git(&root, &["checkout", "-q", "v1"]);
        let detached = state(&root).unwrap();
        assert_ne!(detached, tagged, "no branch");
        git(&root, &["tag", "-d", "v2"]);
        assert_eq!(state(&root), Some(detached), "a tag that does not lead here");
    }

    #[test]
    fn what_moves_a_state_is_watched() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(directory.path().canonicalize().unwrap()).unwrap();
        fs::write(root.join("file"), "one").unwrap();
        git(&root, &["init", "-q"]);
        git(&root, &["add", "."]);
        git(&root, &["commit", "-qm", "one"]);
        git(&root, &["tag", "v1"]);
        let watched = || RepositoryState::read(&root, &std::env::vars_os().collect()).unwrap().watched;
        for file in [".git/HEAD", ".git/refs/heads/main", ".git/refs/tags", ".git/refs/tags/v1", "file"] {
            assert!(watched().contains(&root.join(file)), "{file}: {:?}", watched());
        }
        fs::remove_file(root.join("file")).unwrap();
        assert!(watched().contains(&root), "where a file was");
    }
}
