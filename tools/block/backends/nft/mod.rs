//! Blocks as elements of nftables' sets: one table `inet psentry`, changed over netlink, without a process per
//! address. The kernel ends them.

mod elements;
mod ground;
mod hearing;
mod layout;
mod notice;
mod putting;
mod reading;
mod rules;
mod ruleset;
mod sets;
mod transaction;

use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use psentry_linux::{Error as Below, NetlinkMonitor, NetlinkSocket, Program};
use psentry_records::{Prefix, Timestamp};

use self::notice::News;
use self::ruleset::TABLE;
use self::sets::SetId;
use self::transaction::{BYTES, fitting};
use super::installed;
use crate::backend::{Backend, Block, Change, Effect, Entry, Noticed, Wish};
use crate::error::Error;
use crate::reach::Reach;

const NAME: &str = "nft";

/// How many elements go into one transaction, as far as they find room: each transaction costs the kernel milliseconds,
/// however little is in it.
const BATCH: usize = 4000;

/// Up to how many scopes are looked up one by one, instead of reading the whole list.
const LOOKUPS: usize = 64;

/// The backend.
pub struct Nft {
    link: NetlinkSocket,
    reach: Reach,
    /// Whether nft takes comments of tables, as far as is known.
    comments: bool,
    nft: Option<Program>,
    /// The sets that were seen; the kernel says when one is gone.
    sets: BTreeSet<SetId>,
    /// The generation of the ruleset in which all of these had their rules.
    whole: Option<u32>,
    /// What the kernel tells of changes, once there is something to lose.
    watch: Option<NetlinkMonitor>,
    /// Why it tells of nothing, until that is told.
    unheard: Option<Error>,
    news: News,
}

impl Nft {
    /// A connection to nftables; makes nothing yet.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open(reach: Reach) -> Result<Self, Error> {
        Ok(Nft {
            link: NetlinkSocket::open(NETLINK_NETFILTER)?,
            reach,
            comments: true,
            nft: None,
            sets: BTreeSet::new(),
            whole: None,
            watch: None,
            unheard: None,
            news: News::default(),
        })
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
        // Before the list, so that nothing goes unnoticed between the two.
        self.unheard = self.listen().err();
        self.list()
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let mut effects = Vec::with_capacity(changes.len());
        let most = (self.link.send_capacity() / BYTES).clamp(1, BATCH);
        // Nothing is left of a scope but what it is to stand in.
        let elsewhere = match self.elsewhere(changes) {
            Ok(elsewhere) => elsewhere,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut rest = changes;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(fitting(rest, most, &elsewhere).min(rest.len()));
            rest = after;
            let blocks: Vec<(Prefix, &Block)> =
                batch.iter().filter_map(|change| Some((change.scope, change.block()?))).collect();
            let mut put = self.put_together(&blocks, &elsewhere).into_iter();
            for Change { scope, wish } in batch {
                effects.push(match wish {
                    Wish::Release(_) => self.release(elsewhere.get(scope).map_or(&[], Vec::as_slice)),
                    Wish::Block(_) => put.next().unwrap_or(Ok(())).map(|()| Effect::Done),
                });
            }
        }
        effects
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for set in self.find_sets()?.unwrap_or_default() {
            entries.extend(self.entries(set)?);
        }
        Ok(Entry::gather(entries))
    }

    fn standing(&mut self, scopes: &HashSet<Prefix>) -> Result<HashSet<Prefix>, Error> {
        if scopes.len() > LOOKUPS {
            let entries = self.list()?.into_iter();
            return Ok(entries.map(|entry| entry.scope).filter(|scope| scopes.contains(scope)).collect());
        }
        self.look_up(scopes)
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(NetlinkMonitor::as_fd)
    }

    fn noticed(&mut self) -> Result<Noticed, Error> {
        self.told()
    }

    fn mend(&mut self, blocks: &[(Prefix, &Block)]) -> Result<bool, Error> {
        self.restore(blocks)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let doing = "delete table inet psentry";
        let entries = self.list()?;
        let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
        let delete = elements::inet(NfTablesMessage::DeleteTable(TableMessage { attributes }));
        self.sets.clear();
        match self.commit(doing, vec![delete], 0)? {
            Ok(()) | Err(Errno::ENOENT) => Ok(entries),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn at_once(&self) -> usize {
        BATCH
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
