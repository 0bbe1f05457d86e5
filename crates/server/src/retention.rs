//! Decides what garbage collection drops: pure, from what there is. A store path goes only when nothing that stays
//! refers to it, so whatever stays has its whole closure. A NAR goes with the last narinfo that names it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::SystemTime;

use nixcache_core::nix::StorePathHash;

use crate::layout::NarFile;
use crate::options::Retention;
use crate::storage::FileFacts;

/// What is known of a store path.
#[derive(Clone, Debug)]
pub(crate) struct PathFacts {
    /// What it refers to, itself perhaps among it.
    pub(crate) references: Box<[StorePathHash]>,
    /// Its NAR, if it is in this cache.
    pub(crate) nar: Option<NarFile>,
    /// When it was used last, as far as is known.
    pub(crate) used: SystemTime,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) paths: HashMap<StorePathHash, PathFacts>,
    pub(crate) nars: HashMap<NarFile, FileFacts>,
    pub(crate) pins: HashSet<StorePathHash>,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The paths, in the order in which they go: those of one group don't refer to each other, and nothing in a later
    /// group refers to them.
    pub(crate) groups: Vec<Vec<StorePathHash>>,
    /// The NARs. They go after all paths.
    pub(crate) nars: HashSet<NarFile>,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
}

impl Plan {
    /// How many paths go.
    pub(crate) fn path_count(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }
}

/// What is known of a path while it is decided.
#[derive(Clone, Copy)]
struct Deciding {
    /// When it was used last, by itself or through what referred to it.
    used: SystemTime,
    /// Paths that stay, so far, and refer to it.
    referrers: u32,
    /// The first group that it can be in.
    group: u32,
}

/// Decides what goes.
pub(crate) fn plan(inventory: &Inventory, retention: &Retention, now: SystemTime) -> Plan {
    let young = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age < retention.grace) || time > now;
    let old =
        |time: SystemTime| retention.age.is_some_and(|limit| now.duration_since(time).is_ok_and(|age| age > limit));
    let mut deciding: HashMap<StorePathHash, Deciding> = HashMap::with_capacity(inventory.paths.len());
    let mut named: HashMap<NarFile, u32> = HashMap::with_capacity(inventory.nars.len());
    deciding.extend(inventory.paths.iter().map(|(hash, path)| {
        let beginning = Deciding { used: path.used, referrers: 0, group: 0 };
        (*hash, beginning)
    }));
    for (hash, path) in &inventory.paths {
        for reference in others(path, hash) {
            if let Some(own) = deciding.get_mut(reference) {
                own.referrers += 1;
            }
        }
        if let Some(nar) = path.nar {
            *named.entry(nar).or_default() += 1;
        }
    }

    let bytes_before = inventory.nars.values().map(|facts| facts.size).sum();
    let mut plan = Plan { bytes_before, ..Plan::default() };
    let mut bytes = bytes_before;
    // NARs that no narinfo names: uploads that were never completed, and what a collection that was ended left.
    for (nar, facts) in &inventory.nars {
        if !named.contains_key(nar) && !young(facts.modified) {
            bytes -= facts.size;
            plan.nars.insert(*nar);
        }
    }

    // The paths that nothing refers to, the one first that was not used for longest. Paths that refer to each other
    // in a circle never come here, and stay.
    let mut free = BinaryHeap::new();
    let may_go = |hash: &StorePathHash, used: SystemTime| !inventory.pins.contains(hash) && !young(used);
    for (hash, own) in &deciding {
        if own.referrers == 0 && may_go(hash, own.used) {
            free.push(Reverse((own.used, *hash)));
        }
    }
    while let Some(Reverse((last_used, hash))) = free.pop() {
        if !old(last_used) && retention.size.is_none_or(|limit| bytes <= limit) {
            break;
        }
        let group = deciding[&hash].group;
        let place = group as usize;
        if plan.groups.len() <= place {
            plan.groups.resize_with(place + 1, Vec::new);
        }
        plan.groups[place].push(hash);
        let path = &inventory.paths[&hash];
        if let Some(nar) = path.nar
            && let Some(count) = named.get_mut(&nar)
        {
            *count -= 1;
            if let Some(facts) = inventory.nars.get(&nar).filter(|facts| *count == 0 && !young(facts.modified)) {
                bytes -= facts.size;
                plan.nars.insert(nar);
            }
        }
        for reference in others(path, &hash) {
            let Some(own) = deciding.get_mut(reference) else { continue };
            own.referrers -= 1;
            own.group = own.group.max(group + 1);
            // Who uses a path uses what it refers to.
            own.used = own.used.max(last_used);
            if own.referrers == 0 && may_go(reference, own.used) {
                free.push(Reverse((own.used, *reference)));
            }
        }
    }
    plan.bytes_after = bytes;
    plan
}

/// What a path refers to besides itself.
fn others<'a>(path: &'a PathFacts, hash: &'a StorePathHash) -> impl Iterator<Item = &'a StorePathHash> {
    path.references.iter().filter(move |reference| *reference != hash)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nixcache_core::nix::Sha256;

    use super::*;
    use crate::layout::Packing;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 10_000
    }

    fn hash(number: u8) -> StorePathHash {
        StorePathHash::from_bytes([number; 20])
    }

    fn nar(name: impl ToString) -> NarFile {
        NarFile { hash: Sha256::of(name.to_string().as_bytes()), packing: Packing::Zstd }
    }

    /// A path with a NAR of 100 bytes of its own.
    fn add(inventory: &mut Inventory, number: u8, references: &[u8], days: u32) {
        let nar = nar(number);
        let used = now() - DAY * days;
        let references = references.iter().map(|number| hash(*number)).collect();
        inventory.nars.insert(nar, FileFacts { size: 100, modified: used });
        inventory.paths.insert(hash(number), PathFacts { references, nar: Some(nar), used });
    }

    fn numbers(plan: &Plan) -> Vec<u8> {
        plan.groups.iter().flatten().map(|hash| hash.as_bytes()[0]).collect()
    }

    fn limit(size: Option<u64>, days: Option<u32>) -> Retention {
        Retention { size, age: days.map(|days| DAY * days), grace: DAY }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_until_the_size_fits() {
        let mut inventory = Inventory::default();
        for number in 1..=5 {
            add(&mut inventory, number, &[], 10 + u32::from(number));
        }
        let plan = plan(&inventory, &limit(Some(250), None), now());
        assert_eq!(numbers(&plan), [5, 4, 3]);
        assert_eq!((plan.bytes_before, plan.bytes_after), (500, 200));
        assert_eq!(plan.nars, [3, 4, 5].map(nar).into());
    }

    #[test]
    fn what_something_refers_to_stays_however_old_it_is() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[1], 500);
        add(&mut inventory, 2, &[1, 2], 400);
        add(&mut inventory, 3, &[2], 2);
        add(&mut inventory, 4, &[], 300);
        let plan = plan(&inventory, &limit(None, Some(100)), now());
        assert_eq!(numbers(&plan), [4]);
    }

    #[test]
    fn referrers_go_before_what_they_refer_to() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[], 200);
        add(&mut inventory, 2, &[1], 300);
        add(&mut inventory, 3, &[1, 2], 250);
        let plan = plan(&inventory, &limit(None, Some(100)), now());
        assert_eq!(numbers(&plan), [3, 2, 1]);
        assert_eq!(plan.bytes_after, 0);
    }

    #[test]
    fn a_group_comes_after_all_that_refers_to_it() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[], 200);
        add(&mut inventory, 2, &[1], 300);
        add(&mut inventory, 3, &[2, 1], 250);
        add(&mut inventory, 4, &[1], 400);
        let mut groups = plan(&inventory, &limit(None, Some(100)), now()).groups;
        groups.iter_mut().for_each(|group| group.sort());
        assert_eq!(groups, [vec![hash(3), hash(4)], vec![hash(2)], vec![hash(1)]]);
    }

    #[test]
    fn pins_keep_their_closure() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[], 200);
        add(&mut inventory, 2, &[1], 300);
        add(&mut inventory, 3, &[2], 300);
        inventory.pins.insert(hash(2));
        let plan = plan(&inventory, &limit(Some(0), Some(1)), now());
        assert_eq!(numbers(&plan), [3]);
    }

    #[test]
    fn what_is_young_stays_and_so_do_its_references_and_nars() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[], 200);
        add(&mut inventory, 2, &[1], 0);
        // An upload whose narinfo is not there yet, and one that was never completed.
        inventory.nars.insert(nar("new"), FileFacts { size: 7, modified: now() });
        inventory.nars.insert(nar("abandoned"), FileFacts { size: 7, modified: now() - DAY * 2 });
        let plan = plan(&inventory, &limit(Some(0), Some(1)), now());
        assert_eq!(numbers(&plan), [0u8; 0]);
        assert_eq!(plan.nars, HashSet::from([nar("abandoned")]));
    }

    #[test]
    fn a_nar_stays_while_one_path_has_it() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[], 200);
        add(&mut inventory, 2, &[], 2);
        inventory.paths.get_mut(&hash(2)).unwrap().nar = Some(nar(1));
        inventory.nars.remove(&nar(2));
        let plan = plan(&inventory, &limit(None, Some(100)), now());
        assert_eq!(numbers(&plan), [1]);
        assert!(plan.nars.is_empty());
    }

    #[test]
    fn without_limits_and_in_circles_nothing_goes() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[2], 200);
        add(&mut inventory, 2, &[1], 200);
        add(&mut inventory, 3, &[9], 200);
        assert!(plan(&inventory, &limit(None, None), now()).groups.is_empty());
        assert_eq!(numbers(&plan(&inventory, &limit(Some(0), None), now())), [3]);
    }
}
