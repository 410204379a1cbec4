//! Blocks into the sets and out of them, a transaction for what comes together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use nix::errno::Errno;
use psentry_kernel::Request;
use psentry_records::{Prefix, Timestamp};

use super::ruleset::{Key, SIZE, SetId};
use super::{Nft, elements, reading, refused};
use crate::backend::{Block, Change, Effect};
use crate::error::Error;

/// How many elements go into one message of it: 200 bytes each stay below the 64 KiB of an attribute.
const ELEMENTS: usize = 250;

impl Nft {
    /// One transaction. The outer error: no answer came; the inner one: the kernel changed nothing.
    pub(super) fn commit(
        &mut self,
        doing: &'static str,
        messages: Vec<NetfilterMessage>,
    ) -> Result<Result<(), Errno>, Error> {
        let mut requests = vec![Request { message: elements::begin(), flags: NLM_F_REQUEST, acked: false }];
        requests.extend(messages.into_iter().map(|message| Request {
            message,
            flags: NLM_F_CREATE,
            acked: true,
        }));
        requests.push(Request { message: elements::end(), flags: NLM_F_REQUEST, acked: false });
        // One refusal undoes the whole; the first one says why.
        let done = self.link.batch(doing, requests)?.into_iter().collect();
        // Our own change is told, too. Read at once, a thousand of them leave room for what others do. A watch that
        // broke is found broken again when it is asked what was told.
        let _ = self.hear();
        Ok(done)
    }

    /// Puts blocks in place, whatever stood there: kernels before 6.12 ignore a new timeout for an old element,
    /// so it is added, deleted and added again, in one transaction that nobody sees the middle of.
    fn put(&mut self, blocks: &[(Prefix, &Block)], now: Timestamp) -> Result<Result<(), Errno>, Error> {
        let mut elements: BTreeMap<SetId, Vec<(Key, &Block)>> = BTreeMap::new();
        for (scope, block) in blocks {
            let (set, keys) = keys(*scope, block);
            elements.entry(set).or_default().extend(keys.into_iter().map(|key| (key, *block)));
        }
        let sets: BTreeSet<SetId> = elements.keys().copied().collect();
        // Whoever changed the ruleset may have taken our rules away, and then no set drops anything.
        let generation = self.generation()?;
        if !sets.is_subset(&self.sets) || self.whole != Some(generation) {
            self.make(&sets)?;
        }
        let whole = self.whole.take();
        // Of whom only ports are to be shut, the whole is not.
        let mut messages = Vec::new();
        for (scope, _) in blocks.iter().filter(|(_, block)| !block.ports.is_empty()) {
            let (set, key) = (SetId::of(*scope), [(*scope, None)]);
            if self.sets.contains(&set) {
                messages.extend([elements::add_bare(set, &key), elements::delete(set, &key)]);
            }
        }
        // What goes comes first, so that whoever hears of it knows in the end what stands.
        let mut added = Vec::new();
        for (set, elements) in elements {
            for elements in elements.chunks(ELEMENTS) {
                let keys: Vec<Key> = elements.iter().map(|(key, _)| *key).collect();
                messages.extend([elements::add_bare(set, &keys), elements::delete(set, &keys)]);
                added.push(elements::add(set, elements, now));
            }
        }
        messages.append(&mut added);
        let done = self.commit("block", messages)?;
        // Our own change raises the generation by one; whoever else changed something raised it further.
        self.whole = whole.filter(|_| done.is_ok()).map(|generation| generation.wrapping_add(1));
        Ok(done)
    }

    /// As `put`; makes the ruleset anew if somebody flushed it.
    pub(super) fn put_surely(&mut self, blocks: &[(Prefix, &Block)], now: Timestamp) -> Result<(), Error> {
        let errno = match self.put(blocks, now)? {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT) => {
                self.sets.clear();
                match self.put(blocks, now)? {
                    Ok(()) => return Ok(()),
                    Err(errno) => errno,
                }
            }
            Err(errno) => errno,
        };
        Err(match (errno, blocks) {
            (Errno::ENFILE, [(scope, block), ..]) => {
                Error::Full { what: format!("nft's set {}", keys(*scope, block).0.name()), size: SIZE }
            }
            (errno, _) => refused("block", errno),
        })
    }

    /// Ends a block; `ports` are those of its elements that stand for single ports.
    pub(super) fn release(&mut self, scope: Prefix, ports: &[Key]) -> Result<Effect, Error> {
        let whole = self.take_out(SetId::of(scope), &[(scope, None)])?;
        let single = !ports.is_empty() && self.take_out(SetId::of_ports(scope), ports)?;
        Ok(if whole || single { Effect::Done } else { Effect::WasNotThere })
    }

    /// Whether they were there.
    fn take_out(&mut self, set: SetId, keys: &[Key]) -> Result<bool, Error> {
        match self.commit("unblock", vec![elements::delete(set, keys)])? {
            Ok(()) => {
                self.whole = self.whole.map(|generation| generation.wrapping_add(1));
                Ok(true)
            }
            // No element, no set or no table: whatever it is, nobody is blocked.
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(refused("unblock", errno)),
        }
    }

    /// The elements for single ports of these scopes, as they stand: one list of each set, however many scopes.
    pub(super) fn ports_of(&mut self, scopes: &HashSet<Prefix>) -> Result<HashMap<Prefix, Vec<Key>>, Error> {
        let doing = "list the blocks of table inet psentry";
        let mut found: HashMap<Prefix, Vec<Key>> = HashMap::new();
        let sets: BTreeSet<SetId> = scopes.iter().map(|scope| SetId::of_ports(*scope)).collect();
        for set in sets {
            let read = |_: &_, message: &[u8]| Ok(reading::keys(set, message).collect::<Vec<Key>>());
            let keys = match self.link.dump_as(doing, &elements::list(set), read)? {
                Ok(keys) => keys.into_iter().flatten(),
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(refused(doing, errno)),
            };
            for key in keys.filter(|(scope, _)| scopes.contains(scope)) {
                found.entry(key.0).or_default().push(key);
            }
        }
        Ok(found)
    }
}

/// The elements that a block is, and their set.
fn keys(scope: Prefix, block: &Block) -> (SetId, Vec<Key>) {
    if block.ports.is_empty() {
        return (SetId::of(scope), vec![(scope, None)]);
    }
    let key = |port: &u16, transport: &u8| (scope, Some((*transport, *port)));
    let transports = block.transports();
    let keys =
        block.ports.iter().flat_map(|port| transports.iter().map(move |transport| key(port, transport)));
    (SetId::of_ports(scope), keys.collect())
}

/// How many of the changes go into one transaction: of so many elements, but one change at least.
pub(super) fn fitting(changes: &[Change], most: usize) -> usize {
    let mut elements = 0;
    let weight = |change: &Change| {
        change.block().map_or(0, |block| (block.ports.len() * block.transports().len()).max(1))
    };
    let fits = changes.iter().take_while(|change| {
        elements += weight(change);
        elements <= most
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Wish;

    #[test]
    fn a_transaction_is_bounded_by_its_elements_and_never_empty() {
        let change = |ports: u16| Change {
            scope: "192.0.2.7".parse().unwrap(),
            wish: Wish::Block(Block { ports: (1..=ports).collect(), ..Block::default() }),
        };
        assert_eq!(fitting(&[change(0), change(0), change(0)], 2), 2);
        // TCP and UDP of each port.
        assert_eq!(fitting(&[change(2), change(1), change(1)], 6), 2);
        assert_eq!(fitting(&[change(9)], 2), 1);
    }
}
