//! Blocks into the sets and out of them, a transaction for what comes together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use nix::errno::Errno;
use psentry_kernel::{Error as Below, Request};
use psentry_records::{Prefix, Timestamp};

use super::ruleset::{Key, SetId};
use super::{LOOKUPS, Nft, elements, reading, refused};
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
        flags: u16,
    ) -> Result<Result<(), Errno>, Error> {
        let mut requests = vec![Request { message: elements::begin(), flags: NLM_F_REQUEST, acked: false }];
        requests.extend(messages.into_iter().map(|message| Request { message, flags, acked: true }));
        requests.push(Request { message: elements::end(), flags: NLM_F_REQUEST, acked: false });
        // One refusal undoes the whole; the first one says why.
        let done = self.link.batch(doing, requests)?.into_iter().collect();
        // Our own change is told, too. Read at once, a thousand of them leave room for what others do. A watch that
        // broke is found broken again when it is asked what was told.
        let _ = self.hear_on();
        Ok(done)
    }

    /// Puts blocks in place, whatever stood there.
    fn put(&mut self, blocks: &[(Prefix, &Block)], now: Timestamp) -> Result<Result<(), Errno>, Error> {
        let mut elements = Parts::new();
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
        let opened = blocks.iter().filter(|(_, block)| !block.ports.is_empty());
        let opened = opened.map(|(scope, _)| (SetId::of(*scope), (*scope, None)));
        let opened: Vec<(SetId, Key)> = opened.filter(|(set, _)| self.sets.contains(set)).collect();
        // Most of what is blocked was not blocked before: then this is a third of the work for the kernel. That it finds
        // something there after all costs 16 ms (measured), so that of a few it is asked first.
        let keys = elements.iter().flat_map(|(set, parts)| parts.iter().map(|(key, _)| (*set, *key)));
        let keys: Vec<(SetId, Key)> = keys.chain(opened.iter().copied()).collect();
        let stand = keys.len() <= LOOKUPS && self.any_stands(&keys)?;
        let new = NLM_F_CREATE | NLM_F_EXCL;
        let add = |nft: &mut Nft| nft.commit("block", fresh(&opened, &elements, now), new);
        let done = match if stand { Ok(Err(Errno::EEXIST)) } else { add(self) }? {
            // A full set is told of before what stands in it.
            Err(Errno::EEXIST | Errno::ENFILE) => {
                self.commit("block", anew(&opened, &elements, now), NLM_F_CREATE)?
            }
            done => done,
        };
        // Our own change raises the generation by one; whoever else changed something raised it further.
        self.whole = whole.filter(|_| done.is_ok()).map(|generation| generation.wrapping_add(1));
        Ok(done)
    }

    /// Puts blocks in place, together, and says of each how it went. If the kernel objects to one of them, each is tried
    /// alone; anything else is wrong with all.
    pub(super) fn put_together(
        &mut self,
        blocks: &[(Prefix, &Block)],
        now: Timestamp,
    ) -> Vec<Result<(), Error>> {
        let together = if blocks.is_empty() { Ok(()) } else { self.put_surely(blocks, now) };
        match together {
            Err(Error::System(Below::Refused { .. }) | Error::Full { .. }) if blocks.len() > 1 => {}
            result => return vec![result; blocks.len()],
        }
        // In a full set there is no room for the next one either: of a thousand, one tells so.
        let mut full: HashMap<SetId, Error> = HashMap::new();
        let mut put = |(scope, block): &(Prefix, &Block)| {
            let (set, _) = keys(*scope, block);
            if let Some(error) = full.get(&set) {
                return Err(error.clone());
            }
            self.put_surely(&[(*scope, *block)], now).inspect_err(|error| {
                if matches!(error, Error::Full { .. }) {
                    full.insert(set, error.clone());
                }
            })
        };
        blocks.iter().map(&mut put).collect()
    }

    /// As `put`; makes the ruleset anew if somebody flushed it.
    fn put_surely(&mut self, blocks: &[(Prefix, &Block)], now: Timestamp) -> Result<(), Error> {
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
                let (set, _) = keys(*scope, block);
                Error::Full { what: format!("nft's set {}", set.name()), size: self.size(set) }
            }
            (errno, _) => refused("block", errno),
        })
    }

    /// Which of a few scopes are blocked, as a whole or at a port.
    pub(super) fn look_up(&mut self, scopes: &HashSet<Prefix>) -> Result<HashSet<Prefix>, Error> {
        let mut standing: HashSet<Prefix> = self.ports_of(scopes)?.into_keys().collect();
        for scope in scopes {
            if self.stands(SetId::of(*scope), (*scope, None))? {
                standing.insert(*scope);
            }
        }
        Ok(standing)
    }

    fn any_stands(&mut self, keys: &[(SetId, Key)]) -> Result<bool, Error> {
        for (set, key) in keys {
            if self.stands(*set, *key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn stands(&mut self, set: SetId, key: Key) -> Result<bool, Error> {
        let doing = "look a block up";
        match self.link.query_as(doing, &elements::find(set, &[key]), |_: &_, _: &[u8]| Ok(()))? {
            Ok(found) => Ok(!found.is_empty()),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    /// Ends a block; `ports` are those of its elements that stand for single ports.
    pub(super) fn release(&mut self, scope: Prefix, ports: &[Key]) -> Result<Effect, Error> {
        let whole = self.take_out(SetId::of(scope), &[(scope, None)])?;
        let single = !ports.is_empty() && self.take_out(SetId::of_ports(scope), ports)?;
        Ok(if whole || single { Effect::Done } else { Effect::WasNotThere })
    }

    /// Whether they were there.
    fn take_out(&mut self, set: SetId, keys: &[Key]) -> Result<bool, Error> {
        match self.commit("unblock", vec![elements::delete(set, keys)], 0)? {
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
        // With its ports the whole is counted, which goes.
        change.block().map_or(0, |block| block.ports.len() * block.transports().len() + 1)
    };
    let fits = changes.iter().take_while(|change| {
        elements += weight(change);
        elements <= most
    });
    fits.count().max(1)
}

/// What is added, by the sets that it goes into.
type Parts<'a> = BTreeMap<SetId, Vec<(Key, &'a Block)>>;

/// What adds blocks, and fails if one of them stands, or the whole of what is `opened` does.
fn fresh(opened: &[(SetId, Key)], parts: &Parts<'_>, now: Timestamp) -> Vec<NetfilterMessage> {
    let mut messages = opening(opened);
    messages.extend(added(parts, now));
    messages
}

/// What puts blocks in the place of what stands: kernels before 6.12 ignore a new timeout for an old element, so each
/// is added, deleted and added again, in one transaction that nobody sees the middle of. What goes comes first, so that
/// whoever hears of it knows in the end what stands.
fn anew(opened: &[(SetId, Key)], parts: &Parts<'_>, now: Timestamp) -> Vec<NetfilterMessage> {
    let mut messages = opening(opened);
    for (set, elements) in parts {
        for elements in elements.chunks(ELEMENTS) {
            let keys: Vec<Key> = elements.iter().map(|(key, _)| *key).collect();
            messages.extend([elements::add_bare(*set, &keys), elements::delete(*set, &keys)]);
        }
    }
    messages.extend(added(parts, now));
    messages
}

/// What takes elements out, whether they stand or not.
fn opening(opened: &[(SetId, Key)]) -> Vec<NetfilterMessage> {
    let out =
        |(set, key): &(SetId, Key)| [elements::add_bare(*set, &[*key]), elements::delete(*set, &[*key])];
    opened.iter().flat_map(out).collect()
}

fn added(parts: &Parts<'_>, now: Timestamp) -> impl Iterator<Item = NetfilterMessage> {
    let messages = move |(set, elements): (&SetId, &Vec<(Key, &Block)>)| {
        elements.chunks(ELEMENTS).map(|elements| elements::add(*set, elements, now)).collect::<Vec<_>>()
    };
    parts.iter().flat_map(messages)
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
        // TCP and UDP of each port, and the whole.
        assert_eq!(fitting(&[change(2), change(1), change(1)], 8), 2);
        assert_eq!(fitting(&[change(9)], 2), 1);
    }
}
