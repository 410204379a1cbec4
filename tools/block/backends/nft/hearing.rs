//! The watch over our table: what the kernel tells of it is heard, and what others took away of it is made again.

use std::collections::BTreeSet;

use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_kernel::watch::{NFTABLES, Watch};
use psentry_records::Prefix;

use super::Nft;
use super::ruleset::SetId;
use crate::backend::Noticed;
use crate::error::Error;

impl Nft {
    /// From now on the kernel tells of every change.
    pub(super) fn listen(&mut self) -> Result<(), Error> {
        self.watch = Some(Watch::open(NETLINK_NETFILTER, &[NFTABLES])?);
        Ok(())
    }

    /// Reads some of what waits.
    pub(super) fn hear(&mut self) -> Result<(), Error> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let (own, news) = (self.link.port(), &mut self.news);
        let heard = watch.hear(|header, message| news.hear(own, header, message))?;
        // The kernel tells of a loss first, then what came before it; what comes after it follows when all is read.
        self.deaf |= heard.lost;
        if self.deaf {
            news.lost();
        }
        self.deaf &= heard.more;
        Ok(())
    }

    /// What others did since it was last asked.
    pub(super) fn told(&mut self) -> Result<Noticed, Error> {
        if let Err(error) = self.hear() {
            self.watch = None;
            self.news.lost();
            return Err(error);
        }
        let mut news = std::mem::take(&mut self.news);
        let noticed = news.take(|set| self.holds(set));
        // A transaction may have been told half.
        self.news = news;
        if noticed.edited.is_some() {
            self.sets.clear();
        }
        Ok(noticed)
    }

    /// Whether elements stand in a set. What cannot be read holds nothing.
    fn holds(&mut self, set: SetId) -> bool {
        self.entries(set).is_ok_and(|entries| !entries.is_empty())
    }

    /// Makes table, chain, sets and rules for these scopes again; whether something of it was missing. Where all of it
    /// was taken away on purpose, and nobody is to be shut out, nothing is made.
    pub(super) fn restore(&mut self, scopes: &[Prefix]) -> Result<bool, Error> {
        if scopes.is_empty() && self.sets.is_empty() {
            return Ok(false);
        }
        let sets: BTreeSet<SetId> =
            scopes.iter().map(|scope| SetId::of(*scope)).chain(SetId::FIRST).collect();
        self.make(&sets)
    }
}
