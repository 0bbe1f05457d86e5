//! One build, tied together: resolve what the plan needs, restore the hits, collect what cargo built.
//!
//! The command line calls these in order, with the real cargo between restore and collect.

mod before;
mod changes;
mod collect;
mod gather;
mod ledger;
mod linking;
mod matching;
mod resolve;
mod restore;
mod stale;
pub mod trie;
mod unseen;

pub use collect::{CollectContext, CollectReport, Collector, KeptUnit};
pub use gather::NotKept;
pub use ledger::{Ledger, LedgerEntry, LedgerError, LedgerFile, UnitPlace};
pub use resolve::{InPlace, Left, Lookup, MissReason, Resolution, Restorable, UnitState, resolve};
pub use restore::{RestoreContext, RestoreError, RestoreReport, restore};
