//! Blocks as elements of sets: which elements a block is, and which block the elements are that stand. Knows words and
//! times, and asks nobody.

use std::collections::{BTreeMap, btree_map};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use super::message::{Kept, Key};
use crate::block::{Block, Entry, alike};
use crate::note;
use crate::ports::transport;

/// The longest timeout of ipset, in seconds.
const LONGEST: u64 = 2_147_483;

/// How far apart the ends of the elements of one block may be.
const SLACK: Duration = Duration::from_secs(2);

/// All sets of a family: for whole scopes and for single ports, of what is proven; and of what is not.
pub(super) fn sets(ipv4: bool) -> [&'static str; 4] {
    if ipv4 {
        ["psentry4", "psentry4_ports", "psentry4_unproven", "psentry4_unproven_ports"]
    } else {
        ["psentry6", "psentry6_ports", "psentry6_unproven", "psentry6_unproven_ports"]
    }
}

/// The set of a family for whole scopes, or for single ports; of what is proven, or not.
pub(super) fn set(ipv4: bool, ports: bool, unproven: bool) -> &'static str {
    let [whole, some, unproven_whole, unproven_some] = sets(ipv4);
    match (ports, unproven) {
        (false, false) => whole,
        (true, false) => some,
        (false, true) => unproven_whole,
        (true, true) => unproven_some,
    }
}

/// Whether a set is one for single ports.
pub(super) fn is_of_ports(set: &str) -> bool {
    set.ends_with("_ports")
}

/// Whether a set is one of what is not proven.
pub(super) fn is_unproven(set: &str) -> bool {
    set.contains("_unproven")
}

/// The set that a block is in.
pub(super) fn set_of(scope: Prefix, block: &Block) -> &'static str {
    set(scope.is_ipv4(), !block.ports.is_empty(), block.unproven)
}

/// The elements that a block is in its set.
pub(super) fn keys(scope: Prefix, block: &Block) -> Vec<Key> {
    if block.ports.is_empty() {
        return vec![Key { scope, port: None }];
    }
    let of =
        |transport: u8| block.ports.iter().map(move |port| Key { scope, port: Some((transport, *port)) });
    block.transports().iter().copied().flat_map(of).collect()
}

/// The seconds that ipset is given. To it 0 means: for ever; so what ends right now gets one.
pub(super) fn seconds(block: &Block, now: Timestamp) -> u32 {
    let left = block.seconds_left(now).map_or(0, |left| left.clamp(1, LONGEST));
    u32::try_from(left).unwrap_or(u32::MAX)
}

/// What an element of a set means; of a transport that is none of ours, no port.
pub(super) fn entry(set: &str, kept: Kept, now: Timestamp) -> Entry {
    let Kept { key, seconds, comment, exception } = kept;
    let kernel = (seconds > 0).then(|| now.plus(Duration::from_secs(seconds.into())));
    let noted = comment.and_then(|text| note::read(&text));
    let mut entry = note::reconcile(key.scope, kernel, noted, now, Duration::from_secs(LONGEST));
    // The set decides what it does, whatever its note says.
    entry.unproven = is_unproven(set);
    entry.damaged |= exception;
    if let Some((number, port)) = key.port {
        entry.proto = transport(number);
        entry.ports.push(port);
    }
    entry
}

/// The entries of each scope as one. It is damaged if it is not made of exactly the elements that a block like it has.
pub(super) fn gather(elements: Vec<Entry>) -> Vec<Entry> {
    let mut scopes: BTreeMap<Prefix, (Entry, usize)> = BTreeMap::new();
    for element in elements {
        match scopes.entry(element.scope) {
            btree_map::Entry::Vacant(vacant) => _ = vacant.insert((element, 1)),
            btree_map::Entry::Occupied(mut occupied) => {
                let (entry, count) = occupied.get_mut();
                let damaged = !alike(entry.until, element.until, SLACK);
                *entry = entry.joined(&element);
                entry.damaged |= damaged;
                *count += 1;
            }
        }
    }
    let whole = |(mut entry, count): (Entry, usize)| {
        entry.damaged |= keys(entry.scope, &Block::from(&entry)).len() != count;
        entry
    };
    scopes.into_values().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T15:04:05Z".parse().unwrap()
    }

    fn elements(scope: Prefix, block: &Block) -> Vec<Entry> {
        let (seconds, comment) = (seconds(block, now()), Some(note::write(block)));
        let kept = |key| Kept { key, seconds, comment: comment.clone(), exception: false };
        keys(scope, block).into_iter().map(|key| entry(set_of(scope, block), kept(key), now())).collect()
    }

    #[test]
    fn what_is_added_is_read_back() {
        for (scope, seconds) in
            [("192.0.2.0/24", Some(600)), ("2001:db8::/64", None), ("192.0.2.7", Some(9_000_000))]
        {
            let scope: Prefix = scope.parse().unwrap();
            let until = seconds.map(|seconds| now().plus(Duration::from_secs(seconds)));
            let whole = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
            let ports = Block { ports: vec![22, 53], unproven: true, ..whole.clone() };
            assert_eq!(elements(scope, &ports).len(), 4);
            for block in [whole, ports] {
                assert_eq!(gather(elements(scope, &block)), [block.entry(scope)]);
            }
        }
        let key = Key { scope: "192.0.2.7".parse().unwrap(), port: None };
        let manual = Kept { key, seconds: 60, comment: None, exception: false };
        let until = Some(now().plus(Duration::from_secs(60)));
        assert_eq!(entry("psentry4", manual.clone(), now()), Entry::new(key.scope, until, None));
        assert!(entry("psentry4", Kept { exception: true, ..manual }, now()).damaged);
    }

    #[test]
    fn what_is_half_there_or_there_twice_is_damaged() {
        let scope: Prefix = "192.0.2.0/24".parse().unwrap();
        let until = Some(now().plus(Duration::from_secs(600)));
        let ports = Block { ports: vec![22, 53], until, ..Block::default() };
        let damaged = |elements: Vec<Entry>| gather(elements)[0].damaged;
        let all = elements(scope, &ports);
        assert!(!damaged(all.clone()) && damaged(all[1..].to_vec()));
        let longer = Block { until: None, ..ports.clone() };
        assert!(damaged([&all[1..], &elements(scope, &longer)[..1]].concat()));
        let whole = Block { ports: Vec::new(), ..ports };
        let unproven = Block { unproven: true, ..whole.clone() };
        assert!(damaged([elements(scope, &whole), all].concat()));
        assert!(damaged([elements(scope, &whole), elements(scope, &unproven)].concat()));
    }
}
