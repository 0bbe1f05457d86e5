//! `key`: makes the key that signs what is published, and shows the one to give to others.

use std::io::Write as _;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use nixcache_core::nix::signature::KeyError;
use nixcache_core::nix::{KeyName, SecretKey};

use super::print;
use crate::caches::read_secret_key;
use crate::exit;
use crate::report::Report;
use crate::settings::Settings;

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
enum KeyFileError {
    /// There is one, and what it signed would not be trusted any more.
    #[error("write {path}: there is a key already")]
    Exists {
        /// The file.
        path: Utf8PathBuf,
    },
    /// It can't be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The system has no random numbers.
    #[error("make a key: the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The name can't be that of a key.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// Nobody says where keys are.
    #[error("find the secret key: give a file with --secret-key-file")]
    NoFile,
}

/// `cargo nixcache key generate NAME`
pub(crate) fn generate(settings: &Settings, name: KeyName) -> ExitCode {
    let made = settings.caches.secret_key_file.clone().or_else(|| settings.default_key_file.clone());
    let made = made.ok_or(KeyFileError::NoFile).and_then(|path| make(&path, name).map(|key| (path, key)));
    match made {
        Ok((path, key)) => {
            print(&key.public().to_string());
            let report = Report::new(false, false, None);
            report.status(
                "Written",
                &format!("{path}; others trust the line above with --trusted-key, or in `trusted-keys`"),
            );
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// `cargo nixcache key public`
pub(crate) fn public(settings: &Settings) -> ExitCode {
    match settings.caches.secret_key_file.as_deref().map(read_secret_key) {
        Some(Ok(key)) => {
            print(&key.public().to_string());
            ExitCode::SUCCESS
        }
        Some(Err(error)) => failed(&error),
        None => failed(&KeyFileError::NoFile),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    Report::new(false, false, None).error(error, None);
    ExitCode::from(exit::KEY)
}

/// Makes a key in a file that only its owner can read.
fn make(path: &Utf8Path, name: KeyName) -> Result<SecretKey, KeyFileError> {
    name.check_plain()?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyFileError::Random)?;
    let key = SecretKey::generate(name, &seed);
    let failed = |source| KeyFileError::Write { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists { path: path.to_owned() });
        }
        opened => opened.map_err(failed)?,
    };
    file.write_all(key.to_file_text().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(key)
}
