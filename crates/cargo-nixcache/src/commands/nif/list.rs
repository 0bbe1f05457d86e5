//! `nif list`: what the lock names, and whether it is on this machine.

use serde_json::json;

use super::{ListArguments, NifError, files, read_lock};
use crate::commands::{open_store, print};
use crate::report::bytes;
use crate::settings::Settings;

pub(super) fn run(settings: &Settings, arguments: &ListArguments) -> Result<(), NifError> {
    let lock = read_lock(&arguments.file.lock_file)?;
    let store = open_store(settings)?;
    let lease = store.lease()?;
    for (crate_name, nif) in &lock.nifs {
        for (platform, file) in &nif.files {
            let name = nif.name(crate_name, platform);
            let here = files::kept(&lease, &file.output, &file.library_hash)?.is_some();
            if arguments.json {
                let line = json!({
                    "crate": crate_name, "version": nif.release, "namespace": nif.namespace,
                    "nif_version": platform.nif_version, "target": platform.target, "variant": platform.variant,
                    "path": file.output.path.to_string(), "library_hash": format!("sha256:{}", file.library_hash.to_hex()),
                    "bytes": file.library_size, "archive": name.archive_file(),
                    "archive_hash": format!("sha256:{}", file.archive_hash.to_hex()), "in_store": here,
                });
                print(&line.to_string());
            } else {
                let place = if here { "in the store" } else { "not here" };
                print(&format!("{:>10}  {place:<12}  {name}", bytes(file.library_size)));
            }
        }
    }
    Ok(())
}
