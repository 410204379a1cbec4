//! Blocks into the sets and out of them, a transaction for what comes together. What such a transaction says is decided in
//! `transaction.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use nix::errno::Errno;
use psentry_linux::{Error as Below, Request};
use psentry_records::{Prefix, Timestamp};

use super::sets::{Key, SetId};
use super::transaction::{ELEMENTS, Elsewhere, Old, Parts, added, anew, keys, parts};
use super::{LOOKUPS, Nft, elements, reading, refused};
use crate::backend::{Block, Change, Effect};
use crate::error::Error;

impl Nft {
    /// One transaction. The outer error: no answer came; the inner one: the kernel changed nothing.
    pub(super) fn commit(
        &mut self,
        doing: &'static str,
        messages: Vec<NetfilterMessage>,
        flags: u16,
    ) -> Result<Result<(), Errno>, Error> {
        let mut requests = vec![Request { message: elements::begin(), flags: NLM_F_REQUEST, acked: false }];
        // Whatever is refused is told of, asked for or not; that it went well is told once. Of thousands of answers the
        // kernel keeps some hundreds.
        let last = messages.len();
        let numbered = messages.into_iter().zip(1..);
        requests.extend(numbered.map(|(message, n)| Request { message, flags, acked: n == last }));
        requests.push(Request { message: elements::end(), flags: NLM_F_REQUEST, acked: false });
        // One refusal undoes the whole; the first one says why.
        let done = self.link.batch(doing, requests)?.into_iter().collect();
        // Our own change is told, too. Read at once, a thousand of them leave room for what others do. A watch that
        // broke is found broken again when it is asked what was told.
        let _ = self.hear_on();
        Ok(done)
    }

    /// Puts blocks in place, whatever stood there.
    fn put(
        &mut self,
        blocks: &[(Prefix, &Block)],
        elsewhere: &Elsewhere,
    ) -> Result<Result<(), Errno>, Error> {
        let parts = parts(blocks);
        let sets: BTreeSet<SetId> = parts.keys().copied().collect();
        // Whoever changed the ruleset may have taken our rules away, and then no set drops anything.
        let generation = self.generation()?;
        if !sets.is_subset(&self.sets) || self.whole != Some(generation) {
            self.make(&sets)?;
        }
        let whole = self.whole.take();
        // In one step with what comes: of whom only ports are to be shut, the whole is not, and what is proven now stands on
        // without a gap.
        let mut old = Old::new();
        for (set, key) in blocks.iter().filter_map(|(scope, _)| elsewhere.get(scope)).flatten() {
            if self.sets.contains(set) {
                old.entry(*set).or_default().push(*key);
            }
        }
        // Most of what is blocked was not blocked before: then this is a third of the work for the kernel. That it finds
        // something there after all costs 16 ms (measured), so that of a few it is asked first.
        let few = parts.values().map(Vec::len).sum::<usize>() <= LOOKUPS;
        let stand = !old.is_empty() || few && self.any_stands(&parts)?;
        let new = NLM_F_CREATE | NLM_F_EXCL;
        // The kernel counts from when it is told, and what was made before that took its time.
        let add = |nft: &mut Nft| nft.commit("block", added(&parts, Timestamp::now()), new);
        let done = match if stand { Ok(Err(Errno::EEXIST)) } else { add(self) }? {
            // A full set is told of before what stands in it.
            Err(Errno::EEXIST | Errno::ENFILE) => {
                self.commit("block", anew(old, &parts, Timestamp::now()), NLM_F_CREATE)?
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
        elsewhere: &Elsewhere,
    ) -> Vec<Result<(), Error>> {
        let together = if blocks.is_empty() { Ok(()) } else { self.put_surely(blocks, elsewhere) };
        match together {
            Err(Error::System(Below::Refused { .. }) | Error::Full { .. }) if blocks.len() > 1 => {}
            result => return vec![result; blocks.len()],
        }
        // In a full set there is no room for the next one either: of a thousand, one tells so. What stands in it takes none.
        let mut full: HashMap<SetId, Error> = HashMap::new();
        let mut put = |(scope, block): &(Prefix, &Block)| {
            let alone = [(*scope, *block)];
            let (set, _) = keys(*scope, block);
            if let Some(error) = full.get(&set)
                && !self.any_stands(&parts(&alone))?
            {
                return Err(error.clone());
            }
            self.put_surely(&alone, elsewhere).inspect_err(|error| {
                if matches!(error, Error::Full { .. }) {
                    full.insert(set, error.clone());
                }
            })
        };
        blocks.iter().map(&mut put).collect()
    }

    /// As `put`; makes the ruleset anew if somebody flushed it.
    fn put_surely(&mut self, blocks: &[(Prefix, &Block)], elsewhere: &Elsewhere) -> Result<(), Error> {
        let errno = match self.put(blocks, elsewhere)? {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT) => {
                self.sets.clear();
                match self.put(blocks, elsewhere)? {
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
        let places = scopes.iter().flat_map(|scope| SetId::all(*scope).map(|set| (set, *scope)));
        Ok(self.elements_of(places)?.into_keys().collect())
    }

    /// What stands of the scopes of changes beside what is to stand; of whom is to be let in, all that stands.
    pub(super) fn elsewhere(&mut self, changes: &[Change]) -> Result<Elsewhere, Error> {
        let mut places = Vec::new();
        for change in changes {
            let wanted = change.block().map(|block| SetId::of(change.scope, block));
            let sets = SetId::all(change.scope).into_iter().filter(|set| Some(*set) != wanted);
            // Where there was no such set a moment ago, there is nothing to look for behind a block.
            let may_be = |set: &SetId| wanted.is_none() || self.whole.is_none() || self.sets.contains(set);
            places.extend(sets.filter(may_be).map(|set| (set, change.scope)));
        }
        self.elements_of(places)
    }

    /// The elements that stand in these sets of these scopes. A few scopes are asked for one by one, where each has one
    /// element; else it is one list of the set.
    fn elements_of(&mut self, places: impl IntoIterator<Item = (SetId, Prefix)>) -> Result<Elsewhere, Error> {
        let mut sets: BTreeMap<SetId, HashSet<Prefix>> = BTreeMap::new();
        for (set, scope) in places {
            sets.entry(set).or_default().insert(scope);
        }
        let mut found = Elsewhere::new();
        for (set, scopes) in sets {
            let keys: Vec<Key> = if set.ports || scopes.len() > LOOKUPS {
                let read = |message: &[u8]| reading::keys(set, message).collect::<Vec<Key>>();
                self.all_of(set, read, |key| *key)?
            } else {
                let alone = scopes.iter().map(|scope| (*scope, None));
                let stands = alone.map(|key| Ok(self.stands(set, key)?.then_some(key)));
                stands.collect::<Result<Vec<Option<Key>>, Error>>()?.into_iter().flatten().collect()
            };
            for key in keys.into_iter().filter(|(scope, _)| scopes.contains(scope)) {
                found.entry(key.0).or_default().push((set, key));
            }
        }
        Ok(found)
    }

    fn any_stands(&mut self, parts: &Parts<'_>) -> Result<bool, Error> {
        for (set, elements) in parts {
            for (key, _) in elements {
                if self.stands(*set, *key)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn stands(&mut self, set: SetId, key: Key) -> Result<bool, Error> {
        let doing = "look a block up";
        match self.link.query_with(doing, &elements::find(set, &[key]), |_: &_, _: &[u8]| Ok(()))? {
            Ok(found) => Ok(!found.is_empty()),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    /// Ends a block, which is these elements.
    pub(super) fn release(&mut self, elements: &[(SetId, Key)]) -> Result<Effect, Error> {
        let mut sets: BTreeMap<SetId, Vec<Key>> = BTreeMap::new();
        elements.iter().for_each(|(set, key)| sets.entry(*set).or_default().push(*key));
        let mut any = false;
        for (set, keys) in sets {
            any |= self.take_out(set, &keys)?;
        }
        Ok(if any { Effect::Done } else { Effect::WasNotThere })
    }

    /// Whether any of them was there.
    fn take_out(&mut self, set: SetId, keys: &[Key]) -> Result<bool, Error> {
        let mut any = false;
        for keys in keys.chunks(ELEMENTS) {
            match self.commit("unblock", vec![elements::delete(set, keys)], 0)? {
                Ok(()) => {
                    self.whole = self.whole.map(|generation| generation.wrapping_add(1));
                    any = true;
                }
                // One that has ended meanwhile keeps the others in.
                Err(Errno::ENOENT) if keys.len() > 1 => {
                    for key in keys {
                        any |= self.take_out(set, &[*key])?;
                    }
                }
                // No element, no set or no table: whatever it is, nobody is blocked.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(refused("unblock", errno)),
            }
        }
        Ok(any)
    }
}
