//! What others do to our table, as nftables tells it: every change, and after each transaction who made it. What of it
//! is a decision, and what is damage, is told apart here, without I/O.
//!
//! | what is gone | who took it | |
//! |---|---|---|
//! | elements, while others stay in their set | anybody | let in |
//! | one element, the last of its set, too | anybody | let in |
//! | elements, or the table | psentry-block, another process of it | let in, whatever went before |
//! | all of several elements of a set | others | damage |
//! | table, chain, rule, set | others | damage |
//! | nothing, but the table sleeps | others | damage |
//! | anything, and nobody told what | nobody knows | damage |
//!
//! Whoever names an element knows whom he lets in. Whoever takes the whole away (a reload of the firewall, nine times
//! out of ten) has not thought of those who stood in it. Nftables does not tell a flush of a set with one element from
//! the end of that element: there the administrator is given the benefit of the doubt.
//!
//! A rule that others put among ours is told once, and left where it is: in another chain none could let in whom ours drop,
//! but in ours one that accepts does.
//!
//! What psentry-block adds is a decision. What others add may stand in the place of ours with another end, and has to be
//! looked at. What we put into a set after several elements had gone from it says nothing about what stayed.

mod changes;

use std::collections::BTreeSet;

use netlink_packet_core::NetlinkHeader;
use psentry_linux::is_psentry_portid;
use psentry_records::Prefix;

use self::changes::{
    ELEMENTS_SET, NEW_ELEMENTS, NEW_GENERATION, PROCESS, SUBSYSTEM, Transaction, author, set, value,
};
use super::super::SOMEBODY;
use super::reading::scopes;
use super::sets::SetId;
use crate::backend::{Cleared, Noticed};

/// What was told since it was last asked.
#[derive(Default)]
pub(super) struct News {
    /// The transaction that is being told.
    open: Transaction,
    /// What is certain.
    noticed: Noticed,
    /// The process that last made our ruleset for us.
    maker: Option<u32>,
    /// Whether it has been told that others put rules among ours.
    told: bool,
    /// Several elements that went from a set at once: it depends on whether others stay in it.
    doubts: Vec<Doubt>,
}

/// Elements that went from a set at once.
pub(super) struct Doubt {
    pub(super) set: SetId,
    pub(super) scopes: Vec<Prefix>,
    pub(super) who: String,
    /// What we put into the set after that.
    pub(super) since: BTreeSet<Prefix>,
}

impl News {
    /// Takes in one message; `own` is the address from which we change the table ourselves.
    pub(super) fn hear(&mut self, own: u32, header: &NetlinkHeader, message: &[u8]) {
        if header.message_type >> 8 != SUBSYSTEM {
            return;
        }
        let kind = header.message_type & 0xff;
        if header.port_number == own {
            if kind == NEW_ELEMENTS {
                self.put(message);
            }
            return;
        }
        if kind == NEW_GENERATION {
            let transaction = std::mem::take(&mut self.open);
            let psentry = is_psentry_portid(header.port_number);
            let process = value(message, PROCESS).and_then(|value| value.first_chunk::<4>());
            let process = process.map(|bytes| u32::from_be_bytes(*bytes));
            let ruled = transaction.ruled && (self.maker.is_none() || process != self.maker);
            return self.close(Transaction { ruled, ..transaction }, psentry, &author(message, psentry));
        }
        self.open.hear(kind, message, is_psentry_portid(header.port_number));
    }

    /// Takes note of the process that made our ruleset for us.
    pub(super) fn made_by(&mut self, process: u32) {
        self.maker = Some(process);
    }

    /// We put elements into a set ourselves.
    fn put(&mut self, message: &[u8]) {
        if self.doubts.is_empty() && self.noticed.cleared.is_none() {
            return;
        }
        let Some(set) = value(message, ELEMENTS_SET).and_then(set) else { return };
        let scopes: Vec<Prefix> = scopes(set, message).collect();
        for doubt in self.doubts.iter_mut().filter(|doubt| doubt.set == set) {
            doubt.since.extend(&scopes);
        }
        if let Some(cleared) = &mut self.noticed.cleared {
            cleared.since.extend(&scopes);
        }
    }

    /// The kernel had no room for something: what is told next may be the rest of a transaction.
    pub(super) fn lost(&mut self) {
        self.open = Transaction { lost: true, damage: true, ..Transaction::default() };
        self.doubts.clear();
        self.noticed.damaged.get_or_insert_with(|| SOMEBODY.to_owned());
    }

    /// What it comes to; `stays` says whether elements stay in a set beside these.
    pub(super) fn take(&mut self, mut stays: impl FnMut(SetId, &BTreeSet<Prefix>) -> bool) -> Noticed {
        let mut noticed = std::mem::take(&mut self.noticed);
        for Doubt { set, scopes, who, since } in std::mem::take(&mut self.doubts) {
            if stays(set, &since) {
                noticed.let_in.extend(scopes.into_iter().map(|scope| (scope, who.clone())));
            } else {
                noticed.damaged = Some(who);
            }
        }
        noticed
    }

    fn close(&mut self, transaction: Transaction, psentry: bool, who: &str) {
        let Transaction { lost, table, damage, added, ruled, decided, mut elements } = transaction;
        let who = if lost { SOMEBODY } else { who };
        // What it took away to put it in place anew stands.
        elements.values_mut().for_each(|scopes| scopes.retain(|scope| !decided.contains_key(scope)));
        self.noticed.decided.extend(decided);
        if ruled && !std::mem::replace(&mut self.told, true) {
            self.noticed.told.push(format!(
                "{who} put a rule that lets packets pass into the table inet psentry: whom it lets pass before psentry's rules is not shut out; \
                 'nft list table inet psentry' shows it"
            ));
        }
        if table && psentry {
            self.doubts.clear();
            let cleared = Cleared { who: who.to_owned(), ..Cleared::default() };
            let told = std::mem::take(&mut self.noticed.told);
            self.noticed = Noticed { cleared: Some(cleared), told, ..Noticed::default() };
        } else if table || damage {
            self.noticed.damaged = Some(who.to_owned());
        } else {
            if added && !psentry {
                self.noticed.damaged = Some(who.to_owned());
            }
            for (set, scopes) in elements {
                if psentry || scopes.len() == 1 {
                    self.noticed.let_in.extend(scopes.into_iter().map(|scope| (scope, who.to_owned())));
                } else if !added {
                    let since = BTreeSet::new();
                    self.doubts.push(Doubt { set, scopes, who: who.to_owned(), since });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
