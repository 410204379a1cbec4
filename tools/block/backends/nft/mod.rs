//! Blocks as elements of nftables' sets: one table `inet psentry`, changed over netlink, without a process per
//! address. The kernel ends them.

mod elements;
mod ground;
mod rules;
mod ruleset;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use psentry_kernel::{Error as Below, Link, Program, Request};
use psentry_records::{Prefix, Timestamp};

use self::ruleset::{SIZE, SetId, TABLE};
use super::installed;
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;

const NAME: &str = "nft";

/// How many blocks go into one transaction. Three elements of at most 200 bytes each stay below the 64 KiB of an
/// attribute, and the acknowledgements below what a socket holds.
const BATCH: usize = 100;

/// Up to how many scopes are looked up one by one, instead of reading the whole list.
const LOOKUPS: usize = 64;

/// The backend.
pub struct Nft {
    link: Link,
    nft: Option<Program>,
    /// The sets that were seen; the kernel says when one is gone.
    sets: BTreeSet<SetId>,
    /// The generation of the ruleset in which all of these had their rules.
    whole: Option<u32>,
}

impl Nft {
    /// A connection to nftables; makes nothing yet.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open() -> Result<Self, Error> {
        Ok(Nft { link: Link::open(NETLINK_NETFILTER)?, nft: None, sets: BTreeSet::new(), whole: None })
    }

    /// One transaction. The outer error: no answer came; the inner one: the kernel changed nothing.
    fn commit(
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
        Ok(self.link.batch(doing, requests)?.into_iter().collect())
    }

    /// Puts blocks in place, whatever stood there: kernels before 6.12 ignore a new timeout for an old element,
    /// so it is added, deleted and added again, in one transaction that nobody sees the middle of.
    fn put(&mut self, blocks: &[(Prefix, &Block)], now: Timestamp) -> Result<Result<(), Errno>, Error> {
        let sets: BTreeSet<SetId> = blocks.iter().map(|(scope, _)| SetId::of(*scope)).collect();
        // Whoever changed the ruleset may have taken our rules away, and then no set drops anything.
        let generation = self.generation()?;
        if !sets.is_subset(&self.sets) || self.whole != Some(generation) {
            self.make(&sets)?;
        }
        let whole = self.whole.take();
        let mut messages = Vec::new();
        for set in sets {
            let blocks: Vec<_> =
                blocks.iter().filter(|(scope, _)| SetId::of(*scope) == set).copied().collect();
            let scopes: Vec<Prefix> = blocks.iter().map(|(scope, _)| *scope).collect();
            messages.push(elements::add_bare(set, &scopes));
            messages.push(elements::delete(set, &scopes));
            messages.push(elements::add(set, &blocks, now));
        }
        let done = self.commit("block", messages)?;
        // Our own change raises the generation by one; whoever else changed something raised it further.
        self.whole = whole.filter(|_| done.is_ok()).map(|generation| generation.wrapping_add(1));
        Ok(done)
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
                Error::Full { what: format!("nft's set {}", SetId::of(*scope).name()), size: SIZE }
            }
            (errno, _) => refused("block", errno),
        })
    }

    fn release(&mut self, scope: Prefix) -> Result<Effect, Error> {
        match self.commit("unblock", vec![elements::delete(SetId::of(scope), &[scope])])? {
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

impl Backend for Nft {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        // First the question that only the privileged may ask, so that its answer is about the right, not
        // about nft.
        self.find_sets()?;
        if self.nft.is_none() {
            self.nft = Some(installed(NAME, "nft")?);
        }
        self.make(&SetId::FIRST.into_iter().collect())?;
        self.list()
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let mut effects = Vec::with_capacity(changes.len());
        for batch in changes.chunks(BATCH) {
            let blocks: Vec<(Prefix, &Block)> =
                batch.iter().filter_map(|change| Some((change.scope, change.block()?))).collect();
            let together = if blocks.is_empty() { Ok(()) } else { self.put_surely(&blocks, now) };
            for change in batch {
                effects.push(match &change.wish {
                    Wish::Release(_) => self.release(change.scope),
                    Wish::Block(_) if together.is_ok() => Ok(Effect::Done),
                    // Together they failed; alone, each has its own result.
                    Wish::Block(block) => match &together {
                        // The kernel objects to one of them; anything else is wrong with all.
                        Err(error @ (Error::System(Below::Refused { .. }) | Error::Full { .. }))
                            if blocks.len() == 1 =>
                        {
                            Err(error.clone())
                        }
                        Err(Error::System(Below::Refused { .. }) | Error::Full { .. }) | Ok(()) => {
                            self.put_surely(&[(change.scope, block)], now).map(|()| Effect::Done)
                        }
                        Err(error) => Err(error.clone()),
                    },
                });
            }
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let doing = "list the blocks of table inet psentry";
        let mut entries = Vec::new();
        for set in self.find_sets()?.unwrap_or_default() {
            let now = Timestamp::now();
            let read = |_: &_, message: &[u8]| Ok(elements::entries(set, message, now));
            match self.link.dump_as(doing, &elements::list(set), read)? {
                Ok(found) => entries.extend(found.into_iter().flatten()),
                // Flushed between the two questions.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(refused(doing, errno)),
            }
        }
        Ok(entries)
    }

    fn standing(&mut self, scopes: &HashSet<Prefix>) -> Result<HashSet<Prefix>, Error> {
        if scopes.len() > LOOKUPS {
            let entries = self.list()?.into_iter();
            return Ok(entries.map(|entry| entry.scope).filter(|scope| scopes.contains(scope)).collect());
        }
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

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let doing = "delete table inet psentry";
        let entries = self.list()?;
        let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
        let delete = elements::inet(NfTablesMessage::DeleteTable(TableMessage { attributes }));
        self.sets.clear();
        match self.commit(doing, vec![delete])? {
            Ok(()) | Err(Errno::ENOENT) => Ok(entries),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn longest(&self) -> Option<Duration> {
        Some(elements::LONGEST)
    }
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM => Error::NotPermitted { backend: NAME },
        errno => Below::Refused { doing, errno }.into(),
    }
}
