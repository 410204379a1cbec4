//! Blocks as elements of our sets: which ones a transaction adds and deletes, how much goes into one transaction, and what the
//! elements that are there say. Pure: `apply.rs` asks and changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use psentry_nftables::{Element, NewElement, Transaction};
use psentry_records::{Prefix, Timestamp};

use super::ruleset_text::TABLE;
use super::set_id::{self, Key, SetId, encode_key};
use crate::block::{Block, Entry};
use crate::note;
use crate::ports::transport;

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
    let (scope, port) = key;
    let expires = element.left.map(|left| now.plus(left));
    let noted = element.comment.as_deref().and_then(note::read);
    // The set decides what the element does, whatever its note says.
    let entry = note::reconcile(scope, expires, noted, now, LONGEST);
    let mut entry = Entry { unproven: set.unproven, ..entry };
    if let Some((number, port)) = port {
        // An element of another transport is none of ours.
        entry.proto = Some(transport(number)?);
        entry.ports.push(port);
    }
    Some((key, entry))
}

/// The blocks that elements are, one for each scope.
pub(super) fn blocks(mut elements: Vec<(SetId, Entry)>) -> Vec<Entry> {
    elements.sort_by_key(|(_, entry)| entry.scope);
    elements.chunk_by(|(_, a), (_, b)| a.scope == b.scope).filter_map(joined).collect()
}

/// What the elements of one scope are together. It is damaged unless they are just those that such a block consists of.
fn joined(found: &[(SetId, Entry)]) -> Option<Entry> {
    let ((_, first), rest) = found.split_first()?;
    if rest.is_empty() && first.ports.is_empty() {
        return Some(first.clone());
    }
    let mut entry = rest.iter().fold(first.clone(), |joined, (_, entry)| joined.joined(entry));
    let (set, keys) = set_id::elements(entry.scope, &Block::from(&entry));
    let is_part = |(other, part): &(SetId, Entry)| *other == set && part.until == entry.until;
    entry.damaged |= keys.len() != found.len() || !found.iter().all(is_part);
    Some(entry)
}

#[cfg(test)]
mod tests;
