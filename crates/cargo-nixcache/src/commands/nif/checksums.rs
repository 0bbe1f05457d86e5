//! `nif checksums`: the checksum file of RustlerPrecompiled from the lock, without a compilation that has to fail first.

use nixcache_core::nif::checksum_file;

use super::{ChecksumArguments, NifError, files, read_lock};
use crate::commands::print;
use crate::report::Report;

pub(super) fn run(arguments: &ChecksumArguments, report: &Report) -> Result<(), NifError> {
    let path = &arguments.file.lock_file;
    let lock = read_lock(path)?;
    let mut archives = Vec::new();
    for (crate_name, nif) in &lock.nifs {
        if arguments.crate_name.as_ref().is_none_or(|wanted| wanted == crate_name) {
            archives
                .extend(nif.files.iter().map(|(platform, file)| (nif.name(crate_name, platform), file.archive_hash)));
        }
    }
    if archives.is_empty() {
        return Err(NifError::Stale { path: path.clone(), what: "no such NIF is locked".to_owned() });
    }
    let text = checksum_file(archives.iter().map(|(name, hash)| (name, hash)));
    let file = arguments.out.join(arguments.module.checksum_file());
    files::replace(&file, text.as_bytes(), false)?;
    report.status("Written", &format!("{} archives", archives.len()));
    print(file.as_str());
    Ok(())
}
