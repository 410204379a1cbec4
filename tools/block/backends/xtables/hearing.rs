//! What others do to the rules of iptables, where nf_tables keeps them: the kernel tells of every change, and after each
//! transaction which process made it. Reads what it tells, asks nothing.
//!
//! Whoever takes one rule out of our chain, and does nothing else, knows whom he lets in. Whoever takes several, or the
//! chain, or the rule that leads to it, has emptied or reloaded a firewall; so may have who puts a rule into it.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NetlinkHeader;
use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_linux::netlink_monitor::{NFNLGRP_NFTABLES, NetlinkMonitor};

use super::ours::{Ours, process};
use crate::backends::SOMEBODY;
use crate::backends::attributes::{attribute, text};
use crate::error::Error;

// Numbers of messages and attributes, from linux/netfilter/nf_tables.h.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_GENERATION: u16 = 15;
const ITS_TABLE: u16 = 1;
const TABLE_NAME: u16 = 1;
const RULE_CHAIN: u16 = 2;
const CHAIN_NAME: u16 = 3;
const PROCESS_NAME: u16 = 3;

/// The families ip and ip6, as a message begins with them.
const FAMILIES: [u8; 2] = [2, 10];

/// The family and the version, before the attributes of a message.
const BEFORE: usize = 4;

/// How often it is read on until all is read.
const READINGS: usize = 64;

/// The chains that concern us.
#[derive(Clone, Copy)]
pub(super) struct Chains<'a> {
    /// Those with our blocks.
    pub(super) ours: &'a [&'a str],
    /// Those that lead to them.
    pub(super) builtin: &'a [&'a str],
}

/// A subscription, and what was heard so far.
pub(super) struct Ear {
    watch: NetlinkMonitor,
    ours: Ours,
    heard: Heard,
}

/// What was heard since it was last asked.
#[derive(Default)]
struct Heard {
    /// The transaction that is being told.
    open: Transaction,
    told: Told,
}

#[derive(Default)]
struct Transaction {
    /// How many rules went from our chain.
    gone: usize,
    /// Whether anything else happened that concerns us.
    more: bool,
    /// Some of it was not told: whoever made it need not be who did the damage.
    lost: bool,
}

/// What others did; each with who did it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// They took a single rule out of our chain.
    pub(super) edited: Option<String>,
    /// Anything else.
    pub(super) damaged: Option<String>,
}

impl Ear {
    /// From now on the kernel tells.
    pub(super) fn open() -> Result<Self, Error> {
        let watch = NetlinkMonitor::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])?;
        Ok(Ear { watch, ours: Ours::new()?, heard: Heard::default() })
    }

    /// What others did to these chains.
    pub(super) fn hear(&mut self, chains: Chains<'_>) -> Result<Told, Error> {
        for _ in 0..READINGS {
            let (ours, heard) = (&mut self.ours, &mut self.heard);
            let read = self.watch.receive(|header, message| heard.hear(chains, ours, header, message))?;
            if read.lost {
                self.ours.lose();
                heard.open = Transaction { more: true, lost: true, ..Transaction::default() };
                heard.told.damaged.get_or_insert_with(|| SOMEBODY.to_owned());
            }
            if !read.more {
                break;
            }
        }
        Ok(std::mem::take(&mut self.heard.told))
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl Heard {
    fn hear(&mut self, chains: Chains<'_>, ours: &mut Ours, header: &NetlinkHeader, message: &[u8]) {
        if header.message_type >> 8 != SUBSYSTEM {
            return;
        }
        let kind = header.message_type & 0xff;
        let Some(body) = message.get(BEFORE..) else { return };
        if kind == NEW_GENERATION {
            let transaction = std::mem::take(&mut self.open);
            let name = attribute(body, PROCESS_NAME).map_or(&b""[..], text);
            if !ours.made(body, name) {
                self.close(&transaction, process(body), name);
            }
            return;
        }
        let named = |kind: u16| attribute(body, kind).map(text);
        let family = message.first().is_some_and(|family| FAMILIES.contains(family));
        if !family || named(ITS_TABLE) != Some(b"filter") {
            return;
        }
        let among = |names: &[&str], chain: Option<&[u8]>| {
            chain.is_some_and(|chain| names.iter().any(|name| name.as_bytes() == chain))
        };
        let concerns = |chain: Option<&[u8]>| among(chains.ours, chain) || among(chains.builtin, chain);
        match kind {
            NEW_TABLE | DELETE_TABLE => self.open.more |= named(TABLE_NAME).is_some(),
            DELETE_CHAIN => self.open.more |= concerns(named(CHAIN_NAME)),
            DELETE_RULE if among(chains.ours, named(RULE_CHAIN)) => self.open.gone += 1,
            NEW_RULE | DELETE_RULE => self.open.more |= concerns(named(RULE_CHAIN)),
            _ => {}
        }
    }

    fn close(&mut self, transaction: &Transaction, process: Option<u32>, name: &[u8]) {
        let who = || {
            // Whoever runs a program chooses its name.
            let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
            let name: String = name.iter().map(printable).collect();
            let process = process.filter(|_| !transaction.lost);
            process.map_or_else(|| SOMEBODY.to_owned(), |process| format!("'{name}' (process {process})"))
        };
        match transaction {
            Transaction { gone: 0, more: false, .. } => {}
            Transaction { gone: 1, more: false, .. } => self.told.edited = Some(who()),
            _ => self.told.damaged = Some(who()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::attributes::put;

    /// A kind of message, its table, and the names of its attributes.
    type Message<'a> = (u16, &'a str, &'a [(u16, &'a str)]);

    /// What is told of messages that this process sent.
    fn told(messages: &[Message<'_>], process: u32) -> Told {
        let mut heard = Heard::default();
        let mut ours = Ours::of(true);
        ours.have([42]);
        let mut hear = |kind: u16, message: &[u8]| {
            let mut header = NetlinkHeader::default();
            header.message_type = SUBSYSTEM << 8 | kind;
            let chains = Chains { ours: &["PSENTRY"], builtin: &["INPUT", "FORWARD"] };
            heard.hear(chains, &mut ours, &header, message);
        };
        for (kind, table, names) in messages {
            let mut message = vec![FAMILIES[1], 0, 0, 0];
            put(&mut message, ITS_TABLE, format!("{table}\0").as_bytes());
            for (attribute, name) in *names {
                put(&mut message, *attribute, format!("{name}\0").as_bytes());
            }
            hear(*kind, &message);
        }
        let mut end = vec![0; 4];
        put(&mut end, super::super::ours::PROCESS, &process.to_be_bytes());
        put(&mut end, PROCESS_NAME, b"iptables\0");
        hear(NEW_GENERATION, &end);
        heard.told
    }

    #[test]
    fn one_rule_is_a_decision_and_the_rest_is_damage() {
        let who = || Some("'iptables' (process 7)".to_owned());
        let ours = (DELETE_RULE, "filter", &[(RULE_CHAIN, "PSENTRY")][..]);
        let jump = (DELETE_RULE, "filter", &[(RULE_CHAIN, "INPUT")][..]);
        let chain = (DELETE_CHAIN, "filter", &[(CHAIN_NAME, "PSENTRY")][..]);
        let added = (NEW_RULE, "filter", &[(RULE_CHAIN, "PSENTRY")][..]);
        assert_eq!(told(&[ours], 7), Told { edited: who(), damaged: None });
        let forward = (DELETE_RULE, "filter", &[(RULE_CHAIN, "FORWARD")][..]);
        let table = (DELETE_TABLE, "filter", &[][..]);
        for damage in [&[ours, ours][..], &[jump], &[forward], &[chain], &[ours, added], &[table]] {
            assert_eq!(told(damage, 7), Told { edited: None, damaged: who() }, "{damage:?}");
            assert_eq!(told(damage, 42), Told::default(), "our own: {damage:?}");
        }
        for strange in [
            (DELETE_RULE, "nat", &[(RULE_CHAIN, "INPUT")][..]),
            (DELETE_RULE, "filter", &[(RULE_CHAIN, "OUTPUT")]),
            (DELETE_CHAIN, "filter", &[(CHAIN_NAME, "DOCKER")]),
        ] {
            assert_eq!(told(&[strange], 7), Told::default(), "{strange:?}");
        }
    }
}
