//! Blocks into the sets and out of them, a transaction for what comes together.

use std::collections::BTreeSet;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use nix::errno::Errno;
use psentry_kernel::Request;
use psentry_records::{Prefix, Timestamp};

use super::ruleset::{SIZE, SetId};
use super::{Nft, elements, refused};
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
            for blocks in blocks.chunks(ELEMENTS) {
                let scopes: Vec<Prefix> = blocks.iter().map(|(scope, _)| *scope).collect();
                messages.push(elements::add_bare(set, &scopes));
                messages.push(elements::delete(set, &scopes));
                messages.push(elements::add(set, blocks, now));
            }
        }
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
            (Errno::ENFILE, [(scope, _), ..]) => {
                Error::Full { what: format!("nft's set {}", SetId::of(*scope).name()), size: SIZE }
            }
            (errno, _) => refused("block", errno),
        })
    }

    pub(super) fn release(&mut self, scope: Prefix) -> Result<Effect, Error> {
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
