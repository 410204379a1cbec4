//! Blocks into the sets and out of them, a transaction for what comes together.

use std::collections::{BTreeSet, HashMap, HashSet};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use nix::errno::Errno;
use psentry_kernel::{Error as Below, Request};
use psentry_records::{Prefix, Timestamp};

use super::ruleset::SetId;
use super::{LOOKUPS, Nft, elements, refused};
use crate::backend::{Block, Effect};
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
        let sets: BTreeSet<SetId> = blocks.iter().map(|(scope, _)| SetId::of(*scope)).collect();
        // Whoever changed the ruleset may have taken our rules away, and then no set drops anything.
        let generation = self.generation()?;
        if !sets.is_subset(&self.sets) || self.whole != Some(generation) {
            self.make(&sets)?;
        }
        let whole = self.whole.take();
        let parts: Vec<(SetId, Vec<(Prefix, &Block)>)> = sets
            .into_iter()
            .map(|set| (set, blocks.iter().filter(|(scope, _)| SetId::of(*scope) == set).copied().collect()))
            .collect();
        // Most of what is blocked was not blocked before: then this is a third of the work for the kernel. That it finds
        // something there after all costs 16 ms (measured), so that of a few it is asked first.
        let scopes = || blocks.iter().map(|(scope, _)| *scope).collect();
        let stand = blocks.len() <= LOOKUPS && !self.look_up(&scopes())?.is_empty();
        let add = |nft: &mut Nft| nft.commit("block", fresh(&parts, now), NLM_F_CREATE | NLM_F_EXCL);
        let done = match if stand { Ok(Err(Errno::EEXIST)) } else { add(self) }? {
            // A full set is told of before what stands in it.
            Err(Errno::EEXIST | Errno::ENFILE) => self.commit("block", anew(&parts, now), NLM_F_CREATE)?,
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
            let set = SetId::of(*scope);
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
            (Errno::ENFILE, [(scope, _), ..]) => {
                let set = SetId::of(*scope);
                Error::Full { what: format!("nft's set {}", set.name()), size: self.size(set) }
            }
            (errno, _) => refused("block", errno),
        })
    }

    /// Which of a few scopes are blocked.
    pub(super) fn look_up(&mut self, scopes: &HashSet<Prefix>) -> Result<HashSet<Prefix>, Error> {
        let doing = "look a block up";
        let mut standing = HashSet::new();
        for scope in scopes {
            let read = |_: &_, _: &[u8]| Ok(());
            match self.link.query_as(doing, &elements::find(SetId::of(*scope), &[*scope]), read)? {
                Ok(found) if !found.is_empty() => _ = standing.insert(*scope),
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(refused(doing, errno)),
            }
        }
        Ok(standing)
    }

    pub(super) fn release(&mut self, scope: Prefix) -> Result<Effect, Error> {
        match self.commit("unblock", vec![elements::delete(SetId::of(scope), &[scope])], 0)? {
            Ok(()) => {
                self.whole = self.whole.map(|generation| generation.wrapping_add(1));
                Ok(Effect::Done)
            }
            // No element, no set or no table: whatever it is, nobody is blocked.
            Err(Errno::ENOENT) => Ok(Effect::WasNotThere),
            Err(errno) => Err(refused("unblock", errno)),
        }
    }
}

/// What adds blocks, and fails if one of them stands.
fn fresh(parts: &[(SetId, Vec<(Prefix, &Block)>)], now: Timestamp) -> Vec<NetfilterMessage> {
    let messages = |(set, blocks): &(SetId, Vec<(Prefix, &Block)>)| {
        blocks.chunks(ELEMENTS).map(|blocks| elements::add(*set, blocks, now)).collect::<Vec<_>>()
    };
    parts.iter().flat_map(messages).collect()
}

/// What puts blocks in the place of what stands: kernels before 6.12 ignore a new timeout for an old element, so each
/// is added, deleted and added again, in one transaction that nobody sees the middle of.
fn anew(parts: &[(SetId, Vec<(Prefix, &Block)>)], now: Timestamp) -> Vec<NetfilterMessage> {
    let mut messages = Vec::new();
    for (set, blocks) in parts {
        for blocks in blocks.chunks(ELEMENTS) {
            let scopes: Vec<Prefix> = blocks.iter().map(|(scope, _)| *scope).collect();
            messages.push(elements::add_bare(*set, &scopes));
            messages.push(elements::delete(*set, &scopes));
            messages.push(elements::add(*set, blocks, now));
        }
    }
    messages
}
