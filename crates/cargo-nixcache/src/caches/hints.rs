//! What sets say: which records may be worth fetching. Nothing is believed of it.
//!
//! A set lists, for each unit, the records that lead from its unit key to its artifact on the machine that published
//! it. Names are fetched at once; the artifact behind them when their values here lead to it. So a set that was made
//! with other variables or libraries costs names, not artifacts.

use std::collections::{BTreeMap, BTreeSet};

use nixcache_core::digest::Key;
use nixcache_core::exchange::SetManifest;
use nixcache_core::session::trie::{Node, next_key};
use nixcache_core::session::{Lookup as _, Resolution, UnitState};
use nixcache_core::store::StoreError;
use nixcache_core::unit::{CompileMode, UnitGraph, UnitIndex, UnitInputs};

use crate::lookup::StoreLookup;

/// The way to an artifact that a set names.
struct Chain {
    unit: UnitIndex,
    records: Vec<Key>,
    /// The record that comes next: all before it are names that lead on.
    at: usize,
}

/// The hints of a build, followed as far as what is at hand allows.
pub(super) struct Hints {
    /// How many more ways are followed for units with these inputs, and one of the units. A set can't make us fetch
    /// more than the plan has use for.
    room: BTreeMap<Key, (UnitIndex, usize)>,
    chains: Vec<Chain>,
    /// The chains that wait for a record.
    waiting: BTreeMap<Key, Vec<usize>>,
}

/// A record that is worth fetching, and the unit that it belongs to.
pub(super) type Wish = (UnitIndex, Key);

impl Hints {
    /// Hints for the units that `resolution` leaves, but for those in `left_out`.
    pub(super) fn new(
        graph: &UnitGraph,
        inputs: &[UnitInputs],
        resolution: &Resolution,
        left_out: &BTreeSet<UnitIndex>,
    ) -> Self {
        let mut room = BTreeMap::new();
        for (index, state) in resolution.iter() {
            let open = matches!(state, UnitState::Left(_)) && graph.unit(index).mode != CompileMode::Doc;
            if open && !left_out.contains(&index) {
                room.entry(inputs[index.0 as usize].key).or_insert((index, 0)).1 += 1;
            }
        }
        Self { room, chains: Vec::new(), waiting: BTreeMap::new() }
    }

    /// Whether something in this set may be wanted.
    pub(super) fn concern(&self, units: &[UnitIndex], inputs: &[UnitInputs]) -> bool {
        units.iter().any(|unit| self.room.contains_key(&inputs[unit.0 as usize].key))
    }

    /// Takes a set in. Gives all records that may be wanted because of it, and those that are wanted now.
    pub(super) fn take(
        &mut self,
        set: &SetManifest,
        lookup: &StoreLookup<'_>,
    ) -> Result<(Vec<Wish>, Vec<Wish>), StoreError> {
        let (mut possible, mut now) = (Vec::new(), Vec::new());
        for unit in &set.units {
            let Some((index, left)) = self.room.get_mut(&unit.inputs).filter(|(_, left)| *left > 0) else { continue };
            *left -= 1;
            let chain = Chain { unit: *index, records: unit.records.clone(), at: 0 };
            possible.extend(chain.records.iter().map(|key| (chain.unit, *key)));
            let names = &chain.records[..chain.records.len() - 1];
            now.extend(names.iter().map(|key| (chain.unit, *key)));
            self.chains.push(chain);
            now.extend(self.advance(self.chains.len() - 1, lookup)?);
        }
        Ok((possible, now))
    }

    /// A record was asked for, and is there or isn't. Gives the records that are wanted now.
    pub(super) fn settled(&mut self, key: Key, lookup: &StoreLookup<'_>) -> Result<Vec<Wish>, StoreError> {
        let mut now = Vec::new();
        for chain in self.waiting.remove(&key).unwrap_or_default() {
            now.extend(self.advance(chain, lookup)?);
        }
        Ok(now)
    }

    /// Follows a chain as far as its names are at hand. Gives the artifact, if it is reached.
    fn advance(&mut self, index: usize, lookup: &StoreLookup<'_>) -> Result<Option<Wish>, StoreError> {
        let chain = &mut self.chains[index];
        loop {
            let key = chain.records[chain.at];
            let Some(next) = chain.records.get(chain.at + 1) else { return Ok(Some((chain.unit, key))) };
            match lookup.node(key)? {
                None => {
                    self.waiting.entry(key).or_default().push(index);
                    return Ok(None);
                }
                Some(Node::Names(names)) => {
                    let value = |name| lookup.value(chain.unit, &name).map(|value| (name, value));
                    let values: Option<Vec<_>> = names.into_iter().map(value).collect();
                    // With other values here, something else is wanted, which resolve will say.
                    if values.map(|values| next_key(key, &values)) != Some(*next) {
                        return Ok(None);
                    }
                    chain.at += 1;
                }
                Some(Node::Artifact(_)) => return Ok(None),
            }
        }
    }
}
