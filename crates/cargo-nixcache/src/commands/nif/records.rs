//! What was published under a name, as the caches tell it.

use std::sync::Arc;

use nixcache_core::nif::{NifName, NifNamespace, NifRecord, read_record};
use nixcache_remote::{Outcome, Remote};

use super::NifError;

/// Asks the caches for the records of `names`, all at once, and gives those that there are, in the same order.
///
/// # Errors
///
/// A record that may be there and can't be had, or that nobody trusted has signed, is an error: to take it for missing
/// would be wrong.
pub(super) fn ask(
    remote: &Remote,
    namespace: &NifNamespace,
    names: &[NifName],
) -> Result<Vec<Option<NifRecord>>, NifError> {
    let shared: Arc<Vec<NifName>> = Arc::new(names.to_vec());
    let mut fetching = remote.fetching({
        let (names, namespace) = (Arc::clone(&shared), namespace.clone());
        move |path, nar| read_record(&namespace, &names[path.tag as usize], nar).map_err(Into::into)
    });
    for (tag, name) in names.iter().enumerate() {
        fetching.want(tag as u64, name.record_path(namespace));
    }
    let mut records: Vec<Option<NifRecord>> = names.iter().map(|_| None).collect();
    let mut failed = None;
    while let Some((tag, outcome)) = fetching.next() {
        match outcome {
            Outcome::Fetched { value, .. } => records[tag as usize] = Some(value),
            Outcome::Missing => {}
            Outcome::Failed(error) => {
                let what = format!("the record of {}", names[tag as usize]);
                failed.get_or_insert(NifError::Cache { what, source: error.into() });
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(records),
    }
}
