//! Blocks as elements of our sets: which ones a transaction adds and deletes, how much goes into one transaction, and what the
//! elements that are there say. Pure: `apply.rs` asks and changes.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use psentry_nftables::{Element, NewElement, Transaction};
use psentry_records::{Prefix, Timestamp};

use super::super::set_elements::{self, Key};
use super::ruleset::TABLE;
use super::set_id::{SetId, encode_key};
use crate::block::{Block, Entry};
use crate::note;

/// How many bytes an element takes at most: 190 to add it, two bare ones where it replaces another, and where it is the
/// only one of its set, three messages around it.
pub(super) const BYTES: usize = 512;

/// The longest time that is asked for at once: a century. The kernel would take more, but not the year 9998.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

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
            let keys = set_elements::keys(*scope, block).into_iter();
            added.entry(SetId::of(*scope, block)).or_default().extend(keys.map(|key| (key, *block)));
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
pub(super) fn keys(blocks: impl IntoIterator<Item = (Prefix, impl Borrow<Block>)>) -> Keys {
    let mut keys = Keys::new();
    for (scope, block) in blocks {
        let block = block.borrow();
        keys.entry(SetId::of(scope, block)).or_default().extend(set_elements::keys(scope, block));
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

/// Adds elements, none of which may be there.
pub(super) fn add(added: &Added<'_>, now: Timestamp) -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    for (set, elements) in added {
        transaction.add_new(&set.name(), elements.iter().map(|added| new_element(*added, now)));
    }
    transaction
}

/// Deletes elements; it fails where one of them is not there.
pub(super) fn delete(keys: &Keys) -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    for (set, keys) in keys {
        transaction.delete(&set.name(), keys.iter().copied().map(encode_key));
    }
    transaction
}

/// Deletes elements, whether they are there or not: each is added first, which changes nothing where it is there.
pub(super) fn delete_if_there(keys: &Keys) -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    for (set, keys) in keys {
        let bare = |key: &Key| NewElement { key: encode_key(*key), ..NewElement::default() };
        transaction.add(&set.name(), keys.iter().map(bare));
        transaction.delete(&set.name(), keys.iter().copied().map(encode_key));
    }
    transaction
}

/// Adds elements in the place of what is there of them, and deletes what is `replaced`. Kernels before 6.12 ignore a new timeout
/// for an old element, so each is added, deleted and added again, in one transaction of which no packet sees the middle.
pub(super) fn replace(mut replaced: Keys, added: &Added<'_>, now: Timestamp) -> Transaction {
    for (set, elements) in added {
        replaced.entry(*set).or_default().extend(elements.iter().map(|(key, _)| *key));
    }
    let mut transaction = delete_if_there(&replaced);
    for (set, elements) in added {
        transaction.add(&set.name(), elements.iter().map(|added| new_element(*added, now)));
    }
    transaction
}

fn new_element((key, block): (Key, &Block), now: Timestamp) -> NewElement {
    let timeout = block.until.map(|until| until.since(now).min(LONGEST));
    NewElement { key: encode_key(key), timeout, comment: Some(note::write(block)) }
}

/// What an element of a set says alone; `None`: it is none of ours.
pub(super) fn entry(set: SetId, element: &Element<'_>, now: Timestamp) -> Option<(Key, Entry)> {
    let key = set.decode_key(element.key)?;
    let expires = element.left.map(|left| now.plus(left));
    let entry = set_elements::entry(key, expires, element.comment.as_deref(), now, LONGEST)?;
    // The set decides what the element does, whatever its note says.
    Some((key, Entry { unproven: set.unproven, ..entry }))
}

#[cfg(test)]
mod tests;
