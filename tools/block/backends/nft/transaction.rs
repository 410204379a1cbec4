//! The messages of the transactions that put blocks into their sets and delete them, and how much goes into one transaction.
//! Pure: `apply.rs` sends them.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_netfilter::NetfilterMessage;
use psentry_records::{Prefix, Timestamp};

use super::encode;
use super::set_id::{self, Key, SetId};
use crate::block::{Block, Entry};

/// How many elements go into one message: 200 bytes each stay below the 64 KiB of an attribute.
const ELEMENTS: usize = 250;

/// How many bytes an element takes at most: 190 to add it, two bare ones where it replaces another, and where it is the
/// only one of its set, three messages around it.
pub(super) const BYTES: usize = 512;

/// A block that is put.
pub(super) struct Put<'a> {
    pub(super) scope: Prefix,
    pub(super) block: &'a Block,
    /// What is there already, as far as the engine knows.
    pub(super) was: Option<&'a Entry>,
}

/// Elements by their sets, each once.
pub(super) type Keys = BTreeMap<SetId, BTreeSet<Key>>;

/// Elements that are added, by their sets.
pub(super) type Added<'a> = BTreeMap<SetId, Vec<(Key, &'a Block)>>;

impl<'a> Put<'a> {
    pub(super) fn set(&self) -> SetId {
        SetId::of(self.scope, self.block)
    }

    /// How many elements it adds and replaces.
    pub(super) fn weight(&self) -> usize {
        weight(self.block) + self.was.map_or(0, |was| weight(&Block::from(was)))
    }

    /// The elements of several blocks.
    pub(super) fn added(puts: &[Put<'a>]) -> Added<'a> {
        let mut added = Added::new();
        for Put { scope, block, .. } in puts {
            let (set, keys) = set_id::elements(*scope, block);
            added.entry(set).or_default().extend(keys.into_iter().map(|key| (key, *block)));
        }
        added
    }

    /// The elements that are there already.
    pub(super) fn replaced(puts: &[Put<'a>]) -> Keys {
        let was = puts.iter().filter_map(|put| Some((put.scope, Block::from(put.was?))));
        keys(was)
    }
}

/// The elements of blocks.
pub(super) fn keys(blocks: impl IntoIterator<Item = (Prefix, impl std::borrow::Borrow<Block>)>) -> Keys {
    let mut keys = Keys::new();
    for (scope, block) in blocks {
        let (set, elements) = set_id::elements(scope, block.borrow());
        keys.entry(set).or_default().extend(elements);
    }
    keys
}

/// How many elements a block consists of.
pub(super) fn weight(block: &Block) -> usize {
    (block.ports.len() * block.transports().len()).max(1)
}

/// The items in parts that fit into one transaction of `most` elements, but one item at least each.
pub(super) fn batches<T>(items: &[T], most: usize, weight: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut batches, mut rest) = (Vec::new(), items);
    while !rest.is_empty() {
        let mut elements = 0;
        let fits = rest.iter().take_while(|item| {
            elements += weight(item);
            elements <= most
        });
        let (batch, after) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

/// Adds elements. With NLM_F_EXCL it fails where one of them is there.
pub(super) fn add(added: &Added<'_>, now: Timestamp) -> Vec<NetfilterMessage> {
    let messages = |(set, elements): (&SetId, &Vec<(Key, &Block)>)| -> Vec<_> {
        elements.chunks(ELEMENTS).map(|elements| encode::add(*set, elements, now)).collect()
    };
    added.iter().flat_map(messages).collect()
}

/// Deletes elements; it fails where one of them is not there.
pub(super) fn delete(keys: &Keys) -> Vec<NetfilterMessage> {
    chunks(keys, |set, keys| vec![encode::delete(set, keys)])
}

/// Deletes elements, whether they are there or not.
pub(super) fn delete_if_there(keys: &Keys) -> Vec<NetfilterMessage> {
    chunks(keys, |set, keys| vec![encode::add_bare(set, keys), encode::delete(set, keys)])
}

/// Adds elements in the place of what is there of them, and deletes what is `replaced`. Kernels before 6.12 ignore a new timeout
/// for an old element, so each is added, deleted and added again, in one transaction of which no packet sees the middle.
pub(super) fn replace(mut replaced: Keys, added: &Added<'_>, now: Timestamp) -> Vec<NetfilterMessage> {
    for (set, elements) in added {
        replaced.entry(*set).or_default().extend(elements.iter().map(|(key, _)| *key));
    }
    let mut messages = delete_if_there(&replaced);
    messages.extend(add(added, now));
    messages
}

fn chunks(keys: &Keys, messages: impl Fn(SetId, &[Key]) -> Vec<NetfilterMessage>) -> Vec<NetfilterMessage> {
    let of_set = |(set, keys): (&SetId, &BTreeSet<Key>)| -> Vec<_> {
        let keys: Vec<Key> = keys.iter().copied().collect();
        keys.chunks(ELEMENTS).flat_map(|keys| messages(*set, keys)).collect()
    };
    keys.iter().flat_map(of_set).collect()
}

#[cfg(test)]
mod tests {
    use super::super::encode::tests::bytes;
    use super::*;

    #[test]
    fn a_transaction_is_bounded_by_its_elements_and_never_empty() {
        let block = |ports: u16| Block { ports: (1..=ports).collect(), ..Block::default() };
        let scope: Prefix = "192.0.2.7".parse().unwrap();
        let fits = |blocks: &[(u16, Option<u16>)], most: usize| {
            let blocks: Vec<(Block, Option<Entry>)> = blocks
                .iter()
                .map(|(new, old)| (block(*new), old.map(|old| block(old).entry(scope))))
                .collect();
            let puts: Vec<Put<'_>> =
                blocks.iter().map(|(block, was)| Put { scope, block, was: was.as_ref() }).collect();
            batches(&puts, most, Put::weight).iter().map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!(fits(&[(0, None); 3], 2), [2, 1]);
        // TCP and UDP of each port.
        assert_eq!(fits(&[(2, None), (1, None), (1, None)], 7), [2, 1]);
        assert_eq!(fits(&[(9, None), (0, None)], 2), [1, 1]);
        // And what they replace.
        assert_eq!(fits(&[(0, Some(2)), (0, Some(1)), (0, None)], 8), [2, 1]);
        assert!(fits(&[], 8).is_empty());
    }

    #[test]
    fn an_element_that_is_replaced_by_itself_is_deleted_once() {
        let scope: Prefix = "192.0.2.7".parse().unwrap();
        let block = |ports: &[u16]| Block { ports: ports.to_vec(), ..Block::default() };
        let (old, new) = (block(&[22]).entry(scope), block(&[22, 53]));
        let puts = [Put { scope, block: &new, was: Some(&old) }];
        let [bare, deleted, added] = &replace(Put::replaced(&puts), &Put::added(&puts), Timestamp::now())[..]
        else {
            panic!("three messages: of one set, and once each")
        };
        let count = |message: &netlink_packet_netfilter::NetfilterMessage| {
            let set = SetId::all(scope)[1];
            super::super::decode::elements(set, &bytes(message.clone()), Timestamp::now()).count()
        };
        assert_eq!([bare, deleted, added].map(count), [4, 4, 4]);
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
            let was: Vec<Entry> = scopes
                .iter()
                .map(|scope| Block { ports: Vec::new(), ..block.clone() }.entry(*scope))
                .collect();
            let puts: Vec<Put<'_>> = scopes
                .iter()
                .zip(&was)
                .map(|(scope, was)| Put { scope: *scope, block, was: Some(was) })
                .collect();
            let messages = replace(Put::replaced(&puts), &Put::added(&puts), Timestamp::now());
            let header = 16;
            let length: usize = messages.into_iter().map(|message| header + bytes(message).len()).sum();
            let weight: usize = puts.iter().map(Put::weight).sum();
            assert!(length <= weight * BYTES, "{length} of {}", block.ports.len());
        }
    }
}
