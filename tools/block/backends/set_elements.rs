//! Blocks as elements of the kernel's sets, for nft and ipset: the elements that a block consists of, what each element that is
//! there says alone, and which blocks they are together. Pure.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::block::{Block, Entry, alike, transport};
use crate::note;

/// The key of an element: a prefix, and in a set of ports the number of the transport and the port.
pub(super) type Key = (Prefix, Option<(u8, u16)>);

/// The elements that a block consists of.
pub(super) fn keys(scope: Prefix, block: &Block) -> Vec<Key> {
    if block.ports.is_empty() {
        return vec![(scope, None)];
    }
    let transports = block.transports();
    let of_port = |port: &u16| {
        let port = *port;
        transports.iter().map(move |transport| (scope, Some((*transport, port))))
    };
    block.ports.iter().flat_map(of_port).collect()
}

/// What an element says alone, by its comment and the end that the kernel knows; `None`: it is of a transport that is none of
/// ours. `longest` is the longest time that the kernel can be told.
pub(super) fn entry(
    (scope, port): Key,
    expires: Option<Timestamp>,
    comment: Option<&str>,
    now: Timestamp,
    longest: Duration,
) -> Option<Entry> {
    let mut entry = note::reconcile(scope, expires, comment.and_then(note::read), now, longest);
    if let Some((number, port)) = port {
        entry.proto = Some(transport(number)?);
        entry.ports.push(port);
    }
    Some(entry)
}

/// The blocks that elements are, each with its set, one for each scope.
pub(super) fn blocks<S: PartialEq>(
    mut elements: Vec<(S, Entry)>,
    set_of: impl Fn(Prefix, &Block) -> S,
) -> Vec<Entry> {
    elements.sort_by_key(|(_, entry)| entry.scope);
    let scopes = elements.chunk_by(|(_, a), (_, b)| a.scope == b.scope);
    scopes.filter_map(|found| joined(found, &set_of)).collect()
}

/// What the elements of one scope are together. It is damaged unless they are just those that such a block consists of.
fn joined<S: PartialEq>(found: &[(S, Entry)], set_of: impl Fn(Prefix, &Block) -> S) -> Option<Entry> {
    let ((_, first), rest) = found.split_first()?;
    if rest.is_empty() && first.ports.is_empty() {
        return Some(first.clone());
    }
    let mut entry = rest.iter().fold(first.clone(), |joined, (_, entry)| joined.joined(entry));
    let block = Block::from(&entry);
    let set = set_of(entry.scope, &block);
    let is_part = |(other, part): &(S, Entry)| *other == set && alike(part.until, entry.until);
    entry.damaged |= keys(entry.scope, &block).len() != found.len() || !found.iter().all(is_part);
    Some(entry)
}
