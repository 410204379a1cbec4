//! What blocks are as elements, and the messages of one transaction that puts them in place. Decides how much goes into one;
//! builds messages, sends none.

use std::collections::{BTreeMap, HashMap};

use netlink_packet_netfilter::NetfilterMessage;
use psentry_records::{Prefix, Timestamp};

use super::elements;
use super::sets::{Key, SetId};
use crate::backend::{Block, Change};

/// How many elements go into one message of it: 200 bytes each stay below the 64 KiB of an attribute.
pub(super) const ELEMENTS: usize = 250;

/// How many bytes an element takes at most: 190 to add it, two bare ones where it replaces another, and where it is the
/// only one of its set, three messages around it.
pub(super) const BYTES: usize = 512;

/// What is added, by the sets that it goes into.
pub(super) type Parts<'a> = BTreeMap<SetId, Vec<(Key, &'a Block)>>;

/// What goes, whether it stands or not.
pub(super) type Old = BTreeMap<SetId, Vec<Key>>;

/// The elements that stand of scopes in other sets than those in which they are to stand.
pub(super) type Elsewhere = HashMap<Prefix, Vec<(SetId, Key)>>;

/// The elements that a block is, and their set.
pub(super) fn keys(scope: Prefix, block: &Block) -> (SetId, Vec<Key>) {
    let set = SetId::of(scope, block);
    if block.ports.is_empty() {
        return (set, vec![(scope, None)]);
    }
    let key = |port: &u16, transport: &u8| (scope, Some((*transport, *port)));
    let transports = block.transports();
    let keys =
        block.ports.iter().flat_map(|port| transports.iter().map(move |transport| key(port, transport)));
    (set, keys.collect())
}

/// All that these blocks are.
pub(super) fn parts<'a>(blocks: &[(Prefix, &'a Block)]) -> Parts<'a> {
    let mut parts = Parts::new();
    for (scope, block) in blocks {
        let (set, keys) = keys(*scope, block);
        parts.entry(set).or_default().extend(keys.into_iter().map(|key| (key, *block)));
    }
    parts
}

/// How many of the changes go into one transaction: of so many elements, with those that go, but one change at least.
pub(super) fn fitting(changes: &[Change], most: usize, elsewhere: &Elsewhere) -> usize {
    let mut elements = 0;
    let weight = |change: &Change| {
        let goes = elsewhere.get(&change.scope).map_or(0, Vec::len);
        let comes = |block: &Block| (block.ports.len() * block.transports().len()).max(1);
        change.block().map_or(0, |block| comes(block) + goes)
    };
    let fits = changes.iter().take_while(|change| {
        elements += weight(change);
        elements <= most
    });
    fits.count().max(1)
}

/// What adds blocks: alone it fails where one of them stands.
pub(super) fn added(parts: &Parts<'_>, now: Timestamp) -> Vec<NetfilterMessage> {
    let messages = move |(set, elements): (&SetId, &Vec<(Key, &Block)>)| {
        elements.chunks(ELEMENTS).map(|elements| elements::add(*set, elements, now)).collect::<Vec<_>>()
    };
    parts.iter().flat_map(messages).collect()
}

/// What puts blocks in the place of what stands, and takes out what is `old`: kernels before 6.12 ignore a new timeout for
/// an old element, so each is added, deleted and added again, in one transaction that nobody sees the middle of. What goes
/// comes first, so that whoever hears of it knows in the end what stands.
pub(super) fn anew(mut old: Old, parts: &Parts<'_>, now: Timestamp) -> Vec<NetfilterMessage> {
    for (set, elements) in parts {
        old.entry(*set).or_default().extend(elements.iter().map(|(key, _)| *key));
    }
    let out = |(set, keys): (&SetId, &Vec<Key>)| {
        let messages = keys.chunks(ELEMENTS);
        messages.flat_map(|keys| [elements::add_bare(*set, keys), elements::delete(*set, keys)]).collect()
    };
    let mut messages: Vec<NetfilterMessage> = old.iter().flat_map::<Vec<_>, _>(out).collect();
    messages.extend(added(parts, now));
    messages
}

#[cfg(test)]
mod tests {
    use super::super::elements::tests::bytes;
    use super::*;
    use crate::backend::Wish;

    #[test]
    fn a_transaction_is_bounded_by_its_elements_and_never_empty() {
        let change = |ports: u16| Change {
            scope: "192.0.2.7".parse().unwrap(),
            wish: Wish::Block(Block { ports: (1..=ports).collect(), ..Block::default() }),
        };
        let none = Elsewhere::new();
        assert_eq!(fitting(&[change(0), change(0), change(0)], 2, &none), 2);
        // TCP and UDP of each port.
        assert_eq!(fitting(&[change(2), change(1), change(1)], 7, &none), 2);
        assert_eq!(fitting(&[change(9)], 2, &none), 1);
        // And whatever goes.
        let scope = change(0).scope;
        let old = vec![(SetId::FIRST[0], (scope, None)); 3];
        assert_eq!(fitting(&[change(0), change(0), change(0)], 8, &[(scope, old)].into()), 2);
    }

    #[test]
    fn no_transaction_is_longer_than_its_elements_allow() {
        let long = |ports: u16| Block {
            rule: Some("x".repeat(200)),
            since: Some(Timestamp::MAX),
            until: Some(Timestamp::MAX),
            ports: (0..ports).collect(),
            ..Block::default()
        };
        let (whole, one, many) = (long(0), long(1), long(120));
        // Of one set, and each of a set of its own.
        let near: Vec<Prefix> = (0..500).map(|n| format!("2001:db8:{n}::/64").parse().unwrap()).collect();
        let far: Vec<Prefix> = (1..=128).map(|len| format!("2001:db8::/{len}").parse().unwrap()).collect();
        for (scopes, block) in [(&near, &whole), (&near, &one), (&near, &many), (&far, &whole), (&far, &one)]
        {
            let blocks: Vec<(Prefix, &Block)> = scopes.iter().map(|scope| (*scope, block)).collect();
            let mut old = Old::new();
            for scope in scopes.iter().filter(|_| !block.ports.is_empty()) {
                old.entry(SetId::all(*scope)[0]).or_default().push((*scope, None));
            }
            let messages = anew(old, &parts(&blocks), Timestamp::now());
            let header = 16;
            let length: usize = messages.into_iter().map(|message| header + bytes(message).len()).sum();
            let elements = block.ports.len() * block.transports().len() + 1;
            assert!(length <= scopes.len() * elements * BYTES, "{length} of {}", block.ports.len());
        }
    }
}
