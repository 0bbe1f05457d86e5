//! Decides what garbage collection drops: pure, from what there is. A store path goes only when nothing that stays
//! refers to it, so whatever stays has its whole closure. A NAR goes with the last narinfo that names it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::time::SystemTime;

use nixcache_core::nix::StorePathHash;

use crate::options::Retention;
use crate::storage::FileFacts;

/// What is known of a store path.
#[derive(Clone, Debug)]
pub(crate) struct PathFacts {
    /// What it refers to, itself perhaps among it.
    pub(crate) references: Vec<StorePathHash>,
    /// The file of its NAR, from the cache's root, if it is in this cache.
    pub(crate) nar: Option<String>,
    /// When it was used last, as far as is known.
    pub(crate) used: SystemTime,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) paths: HashMap<StorePathHash, PathFacts>,
    pub(crate) nars: HashMap<String, FileFacts>,
    pub(crate) pins: HashSet<StorePathHash>,
}

/// What goes, and in which order: no path before one that refers to it, and no NAR before its paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) paths: Vec<StorePathHash>,
    pub(crate) nars: BTreeSet<String>,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
}

/// Decides what goes.
pub(crate) fn plan(inventory: &Inventory, retention: &Retention, now: SystemTime) -> Plan {
    let young = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age < retention.grace) || time > now;
    let old =
        |time: SystemTime| retention.age.is_some_and(|limit| now.duration_since(time).is_ok_and(|age| age > limit));
    let mut used: HashMap<StorePathHash, SystemTime> = HashMap::with_capacity(inventory.paths.len());
    let mut referrers: HashMap<StorePathHash, usize> = HashMap::with_capacity(inventory.paths.len());
    let mut named: HashMap<&str, usize> = HashMap::new();
    for (hash, path) in &inventory.paths {
        used.insert(*hash, path.used);
        for reference in unlike(path, hash) {
            *referrers.entry(reference).or_default() += 1;
        }
        if let Some(nar) = &path.nar {
            *named.entry(nar).or_default() += 1;
        }
    }

    let bytes_before = inventory.nars.values().map(|facts| facts.size).sum();
    let mut plan = Plan { bytes_before, ..Plan::default() };
    let mut bytes = bytes_before;
    // NARs that no narinfo names: uploads that were never completed, and what a collection that was ended left.
    for (nar, facts) in &inventory.nars {
        if !named.contains_key(nar.as_str()) && !young(facts.modified) {
            bytes -= facts.size;
            plan.nars.insert(nar.clone());
        }
    }

    // The paths that nothing refers to, the one first that was not used for longest. Paths that refer to each other
    // in a circle never come here, and stay.
    let mut free = BinaryHeap::new();
    let may_go = |hash: &StorePathHash, used: SystemTime| !inventory.pins.contains(hash) && !young(used);
    for (hash, path) in &inventory.paths {
        if !referrers.contains_key(hash) && may_go(hash, path.used) {
            free.push(Reverse((path.used, *hash)));
        }
    }
    while let Some(Reverse((last_used, hash))) = free.pop() {
        if !old(last_used) && retention.size.is_none_or(|limit| bytes <= limit) {
            break;
        }
        plan.paths.push(hash);
        let path = &inventory.paths[&hash];
        if let Some(nar) = path.nar.as_deref()
            && let Some(count) = named.get_mut(nar)
        {
            *count -= 1;
            if let Some(facts) = inventory.nars.get(nar).filter(|facts| *count == 0 && !young(facts.modified)) {
                bytes -= facts.size;
                plan.nars.insert(nar.to_owned());
            }
        }
        for reference in unlike(path, &hash) {
            let Some(count) = referrers.get_mut(&reference) else { continue };
            *count -= 1;
            let (count, Some(own)) = (*count, used.get_mut(&reference)) else { continue };
            // Who uses a path uses what it refers to.
            *own = (*own).max(last_used);
            if count == 0 && may_go(&reference, *own) {
                free.push(Reverse((*own, reference)));
            }
        }
    }
    plan.bytes_after = bytes;
    plan
}

/// What a path refers to besides itself, each once.
fn unlike(path: &PathFacts, hash: &StorePathHash) -> BTreeSet<StorePathHash> {
    path.references.iter().filter(|reference| *reference != hash).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 10_000
    }

    fn hash(number: u8) -> StorePathHash {
        StorePathHash::from_bytes([number; 20])
    }

    /// A path with a NAR of 100 bytes of its own.
    fn add(inventory: &mut Inventory, number: u8, references: &[u8], days: u32) {
        let nar = format!("nar/{number}");
        let used = now() - DAY * days;
        let references = references.iter().map(|number| hash(*number)).collect();
        inventory.nars.insert(nar.clone(), FileFacts { size: 100, modified: used });
        inventory.paths.insert(hash(number), PathFacts { references, nar: Some(nar), used });
    }

    fn numbers(plan: &Plan) -> Vec<u8> {
        plan.paths.iter().map(|hash| hash.as_bytes()[0]).collect()
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
        assert_eq!(plan.nars, ["nar/3", "nar/4", "nar/5"].map(String::from).into());
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
        inventory.nars.insert("nar/new".into(), FileFacts { size: 7, modified: now() });
        inventory.nars.insert("nar/abandoned".into(), FileFacts { size: 7, modified: now() - DAY * 2 });
        let plan = plan(&inventory, &limit(Some(0), Some(1)), now());
        assert_eq!(numbers(&plan), [0u8; 0]);
        assert_eq!(plan.nars, BTreeSet::from(["nar/abandoned".to_owned()]));
    }

    #[test]
    fn a_nar_stays_while_one_path_has_it() {
        let mut inventory = Inventory::default();
        add(&mut inventory, 1, &[], 200);
        add(&mut inventory, 2, &[], 2);
        inventory.paths.get_mut(&hash(2)).unwrap().nar = Some("nar/1".into());
        inventory.nars.remove("nar/2");
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
        assert!(plan(&inventory, &limit(None, None), now()).paths.is_empty());
        assert_eq!(numbers(&plan(&inventory, &limit(Some(0), None), now())), [3]);
    }
}
