//! The watch over our table: what the kernel tells of it is heard, and what others took away of it is made again.

use std::collections::BTreeSet;

use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_linux::netlink_monitor::{NFNLGRP_NFTABLES, NetlinkMonitor};
use psentry_records::Prefix;

use super::Nft;
use super::sets::SetId;
use crate::backend::{Block, Noticed};
use crate::error::Error;

/// How often it is read on until all is read: often enough for whatever found room.
const READINGS: usize = 64;

impl Nft {
    /// From now on the kernel tells of every change.
    pub(super) fn listen(&mut self) -> Result<(), Error> {
        self.watch = Some(NetlinkMonitor::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])?);
        Ok(())
    }

    /// Reads some of what waits; whether more does.
    pub(super) fn hear(&mut self) -> Result<bool, Error> {
        let Some(watch) = &mut self.watch else { return Ok(false) };
        let (own, news) = (self.link.portid(), &mut self.news);
        let heard = watch.receive(|header, message| news.hear(own, header, message))?;
        if heard.lost {
            news.lost();
        }
        Ok(heard.more)
    }

    /// Reads what waits, as far as it does not come faster than it is read; whether more does.
    pub(super) fn hear_on(&mut self) -> Result<bool, Error> {
        for _ in 0..READINGS {
            if !self.hear()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What others did since it was last asked.
    pub(super) fn told(&mut self) -> Result<Noticed, Error> {
        if let Some(error) = self.unheard.take() {
            return Err(error);
        }
        let more = self.hear_on().inspect_err(|_| {
            self.watch = None;
            self.news.lost();
        })?;
        let mut news = std::mem::take(&mut self.news);
        // What we put into a set ourselves is known when all has been read.
        let noticed = news.take(|set, since| !more && self.holds(set, since));
        // A transaction may have been told half.
        self.news = news;
        if noticed.cleared.is_some() {
            self.sets.clear();
        }
        Ok(noticed)
    }

    /// Whether elements stand in a set beside these. What cannot be read holds nothing.
    fn holds(&mut self, set: SetId, beside: &BTreeSet<Prefix>) -> bool {
        self.entries(set).is_ok_and(|entries| entries.iter().any(|entry| !beside.contains(&entry.scope)))
    }

    /// Makes table, chain, sets and rules for these blocks again; whether something of it was missing. Where all of it
    /// was taken away on purpose, and nobody is to be shut out, nothing is made.
    pub(super) fn restore(&mut self, blocks: &[(Prefix, &Block)]) -> Result<bool, Error> {
        if blocks.is_empty() && self.sets.is_empty() {
            return Ok(false);
        }
        let sets = blocks.iter().map(|(scope, block)| SetId::of(*scope, block));
        let sets: BTreeSet<SetId> = sets.chain(SetId::FIRST).collect();
        self.make(&sets)
    }
}
