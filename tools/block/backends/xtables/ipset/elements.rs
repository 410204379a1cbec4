//! Blocks as elements of sets: which elements a block is, and which block the elements are that stand. Knows words and
//! times, and asks nobody.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use super::message::{Kept, Key};
use crate::backend::{Block, Entry};
use crate::note;
use crate::ports::transport;

/// The longest timeout of ipset, in seconds.
pub(super) const LONGEST: u64 = 2_147_483;

/// The set of a family for whole scopes, or for single ports; of what is proven, or not.
pub(super) fn set(ipv4: bool, ports: bool, unproven: bool) -> &'static str {
    match (ipv4, ports, unproven) {
        (true, false, false) => "psentry4",
        (true, true, false) => "psentry4_ports",
        (true, false, true) => "psentry4_unproven",
        (true, true, true) => "psentry4_unproven_ports",
        (false, false, false) => "psentry6",
        (false, true, false) => "psentry6_ports",
        (false, false, true) => "psentry6_unproven",
        (false, true, true) => "psentry6_unproven_ports",
    }
}

/// All sets of a family.
pub(super) fn sets(ipv4: bool) -> [&'static str; 4] {
    [(false, false), (true, false), (false, true), (true, true)]
        .map(|(ports, unproven)| set(ipv4, ports, unproven))
}

/// Whether a set is one for single ports.
pub(super) fn is_of_ports(set: &str) -> bool {
    set.ends_with("_ports")
}

/// Whether a set is one of what is not proven.
pub(super) fn is_unproven(set: &str) -> bool {
    set.contains("_unproven")
}

/// The elements that a block is, and their set.
pub(super) fn keys(scope: Prefix, block: &Block) -> (&'static str, Vec<Key>) {
    if block.ports.is_empty() {
        return (set(scope.is_ipv4(), false, block.unproven), vec![Key { scope, port: None }]);
    }
    let of = |transport: &u8| {
        block.ports.iter().map(|port| Key { scope, port: Some((*transport, *port)) }).collect()
    };
    let keys = block.transports().iter().flat_map(|t| -> Vec<Key> { of(t) }).collect();
    (set(scope.is_ipv4(), true, block.unproven), keys)
}

/// How many seconds ipset is told. To it 0 means: for ever.
pub(super) fn seconds(block: &Block, now: Timestamp) -> u32 {
    let told = block.seconds_left(now).map_or(0, |left| left.clamp(1, LONGEST));
    u32::try_from(told).unwrap_or(u32::MAX)
}

/// When an element ends: by the kernel, and by its note.
pub(super) type Times = (Option<Timestamp>, Option<Timestamp>);

/// What stands in a set: what it means, and when it ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Element {
    pub(super) key: Key,
    pub(super) entry: Entry,
    pub(super) times: Times,
}

/// What an element of a set means; `None`: it is of a transport that is none of ours.
pub(super) fn element(set: &str, kept: Kept, now: Timestamp) -> Option<Element> {
    let Kept { key, seconds, comment } = kept;
    let kernel = (seconds > 0).then(|| now.plus(Duration::from_secs(seconds.into())));
    let noted = comment.and_then(|text| note::read(&text));
    let times = (kernel, noted.as_ref().and_then(|noted| noted.until));
    let mut entry = note::reconcile(key.scope, kernel, noted);
    // The set decides what it does, whatever its note says.
    entry.unproven = is_unproven(set);
    if let Some((number, port)) = key.port {
        entry.proto = Some(transport(number)?);
        entry.ports.push(port);
    }
    Some(Element { key, entry, times })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(scope: Prefix, block: &Block, now: Timestamp) -> Vec<Element> {
        let (seconds, comment) = (seconds(block, now), Some(note::write(block)));
        let kept = |key| Kept { key, seconds, comment: comment.clone() };
        let (set, keys) = keys(scope, block);
        keys.into_iter().filter_map(|key| element(set, kept(key), now)).collect()
    }

    #[test]
    fn what_is_added_is_read_back() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        for (scope, seconds) in
            [("192.0.2.0/24", Some(600)), ("2001:db8::/64", None), ("192.0.2.7", Some(9_000_000))]
        {
            let scope: Prefix = scope.parse().unwrap();
            let until = seconds.map(|seconds| now.plus(Duration::from_secs(seconds)));
            let block = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
            let early = seconds.is_some_and(|seconds| seconds > LONGEST);
            let kernel = seconds.map(|seconds| now.plus(Duration::from_secs(seconds.min(LONGEST))));
            let entry = Entry { early, ..Entry::new(scope, until, Some("fan".to_owned())) };
            let want = Element { key: Key { scope, port: None }, entry, times: (kernel, until) };
            assert_eq!(read_back(scope, &block, now), [want]);
        }
        let by_hand =
            Kept { key: Key { scope: "192.0.2.7".parse().unwrap(), port: None }, seconds: 60, comment: None };
        assert_eq!(
            element("psentry4", by_hand, now).unwrap().entry.until,
            Some(now.plus(Duration::from_secs(60)))
        );
    }

    #[test]
    fn single_ports_are_read_back() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let block = Block { ports: vec![22, 53], unproven: true, ..Block::default() };
        let scope: Prefix = "192.0.2.0/24".parse().unwrap();
        let (set, keys) = keys(scope, &block);
        assert_eq!((set, keys.len()), ("psentry4_unproven_ports", 4));
        let found = Entry::gather(read_back(scope, &block, now).into_iter().map(|element| element.entry));
        assert_eq!(found.iter().map(Block::from).collect::<Vec<_>>(), [block]);
        let strange = Kept { key: Key { scope, port: Some((132, 22)) }, seconds: 0, comment: None };
        assert_eq!(element(set, strange, now), None);
    }
}
