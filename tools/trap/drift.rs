//! What others do to the table, as nftables notifies of it: which of it makes the rules other than they were loaded, and
//! how soon they are loaded again. Without I/O: the messages and the time are given. Sets that the rules fill themselves,
//! such as the quarantine, are the administrator's to change by hand.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLA_HEADER_SIZE, NetlinkHeader, NlasIterator};

use crate::ruleset::TABLE;

/// NFNL_SUBSYS_NFTABLES (linux/netfilter/nfnetlink.h), the upper byte of a message's type.
const SUBSYSTEM: u16 = 10;

/// The lower byte: NFT_MSG_NEWTABLE to NFT_MSG_NEWGEN (linux/netfilter/nf_tables.h).
const NEW_TABLE: u16 = 0;
const DELETED_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETED_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETED_RULE: u16 = 8;
const NEW_ELEMENTS: u16 = 12;
const DELETED_ELEMENTS: u16 = 14;
/// The end of a transaction, with who made it.
const NEW_GENERATION: u16 = 15;

/// The table's name is the first attribute of each of these, NFTA_TABLE_NAME and its like.
const TABLE_NAME: u16 = 1;
/// NFTA_SET_ELEM_LIST_SET.
const SET_NAME: u16 = 2;
/// NFTA_GEN_PROC_PID and NFTA_GEN_PROC_NAME.
const PROCESS: u16 = 2;
const PROCESS_NAME: u16 = 3;

/// The header of nfnetlink, which begins with the family, and the family `inet`.
const HEADER: usize = 4;
const INET: u8 = 1;

/// Who did it, where the kernel does not say.
pub(crate) const SOMEBODY: &str = "somebody";

/// What others did to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// This process deleted it, with everything in it.
    Deleted(String),
    /// This process changed its rules, its chains, its flags, or what the rules were loaded with.
    Changed(String),
    /// The kernel had no room for its notifications: anybody may have done anything.
    Unknown,
}

/// What was read of the notifications.
pub(crate) struct DriftReader {
    /// The sets that are filled from flags and from the host's facts.
    filled: BTreeSet<&'static str>,
    /// What the transaction that is being read did so far: changed the rules, deleted the table.
    changed: bool,
    deleted: bool,
    /// How many further transactions are our own.
    own: u32,
    drift: Option<Drift>,
}

impl DriftReader {
    /// Elements of the sets `filled` belong to the rules.
    pub(crate) fn new(filled: BTreeSet<&'static str>) -> Self {
        DriftReader { filled, changed: false, deleted: false, own: 0, drift: None }
    }

    /// Of the transactions that come next and change the rules, so many are our own. The kernel notifies of one after the
    /// other, and before nft(8) ends; which of them are ours makes no difference, since one more is somebody else's.
    pub(crate) fn expect_own(&mut self, transactions: u32) {
        self.own = transactions;
    }

    /// Takes one message.
    pub(crate) fn read(&mut self, header: &NetlinkHeader, message: &[u8]) {
        if header.message_type >> 8 != SUBSYSTEM {
            return;
        }
        let kind = header.message_type & 0xff;
        if kind == NEW_GENERATION {
            return self.end_transaction(message);
        }
        if message.first() != Some(&INET) || text(message, TABLE_NAME) != TABLE {
            return;
        }
        match kind {
            NEW_TABLE | DELETED_TABLE => (self.changed, self.deleted) = (true, kind == DELETED_TABLE),
            NEW_CHAIN | DELETED_CHAIN | NEW_RULE | DELETED_RULE => self.changed = true,
            NEW_ELEMENTS | DELETED_ELEMENTS => self.changed |= self.filled.contains(text(message, SET_NAME)),
            // Sets and counters: while the rules use them they cannot be deleted.
            _ => {}
        }
    }

    fn end_transaction(&mut self, message: &[u8]) {
        let (changed, deleted) = (std::mem::take(&mut self.changed), std::mem::take(&mut self.deleted));
        if !changed {
            return;
        }
        if let Some(left) = self.own.checked_sub(1) {
            self.own = left;
            return;
        }
        let author = author(message);
        self.drift = Some(if deleted { Drift::Deleted(author) } else { Drift::Changed(author) });
    }

    /// The kernel dropped notifications.
    pub(crate) fn lost(&mut self) {
        (self.changed, self.deleted, self.own) = (false, false, 0);
        self.drift.get_or_insert(Drift::Unknown);
    }

    /// Whether others did something since [`take`](Self::take) was called last.
    pub(crate) fn is_pending(&self) -> bool {
        self.drift.is_some()
    }

    /// What others did last.
    pub(crate) fn take(&mut self) -> Option<Drift> {
        self.drift.take()
    }
}

/// Who made a transaction, in words.
fn author(message: &[u8]) -> String {
    match attribute(message, PROCESS).and_then(|value| value.first_chunk().copied()) {
        Some(process) => {
            format!("'{}' (process {})", text(message, PROCESS_NAME), u32::from_be_bytes(process))
        }
        None => SOMEBODY.to_owned(),
    }
}

/// An attribute that is text, without the zero that ends it; empty if it is not there.
fn text(message: &[u8], wanted: u16) -> &str {
    let value = attribute(message, wanted).unwrap_or_default();
    str::from_utf8(value.strip_suffix(b"\0").unwrap_or(value)).unwrap_or_default()
}

/// The first attribute of a kind.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut attributes = NlasIterator::new(message.get(HEADER..)?).map_while(Result::ok);
    let attribute = attributes.find(|attribute| attribute.kind() == wanted)?;
    let length = usize::from(attribute.length());
    // The buffer goes on with what comes after the attribute.
    attribute.into_inner().get(NLA_HEADER_SIZE..length)
}

/// So many repairs within a minute are made as soon as they are needed.
const MOST: usize = 5;

/// The time in which they are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// How soon after a change: several often come together, as with a reload of the firewall.
const SETTLE: Duration = Duration::from_millis(100);

/// When the rules were loaded again lately.
#[derive(Default)]
pub(crate) struct RepairPace(VecDeque<Instant>);

impl RepairPace {
    /// How long a further one waits. Who changes the rules again and again is not fought.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

    /// When to repair what was changed at `now`.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        match self.0.back() {
            Some(last) if self.is_contested(now) => (now + SETTLE).max(*last + Self::PATIENCE),
            _ => now + SETTLE,
        }
    }

    /// Whether somebody changes the rules again and again.
    pub(crate) fn is_contested(&self, now: Instant) -> bool {
        let lately = self.0.iter().filter(|then| now.saturating_duration_since(**then) < MINUTE);
        lately.count() >= MOST
    }

    /// They were loaded again.
    pub(crate) fn repaired(&mut self, now: Instant) {
        self.0.push_back(now);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "drift/tests.rs"]
mod tests;
