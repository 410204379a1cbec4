//! Which processes changed rules for us. The kernel tells of processes by the numbers that they have outside of every
//! container (pid_namespaces(7)); who runs in one does not know these, and goes by the names of his programs, and by how
//! often they were run. The backends iptables and ipset change the same chains: what one of them runs in this process is
//! ours to the other, too.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::unistd::gettid;
use psentry_linux::NetlinkSocket;

use crate::backends::attributes::attribute;
use crate::error::Error;

/// The number of a process among the attributes of a generation, from linux/netfilter/nf_tables.h.
pub(super) const PROCESS: u16 = 2;

/// The family and the version, before the attributes of a message.
const BEFORE: usize = 4;

/// How many processes of ours are remembered. None is told of later than the next that are run.
const MOST: usize = 64;

/// What the programs that change rules are called, as far as the kernel keeps names.
const NAMES: [&[u8]; 2] = [b"iptables-restor", b"ip6tables-resto"];

/// What was run here last, and how often something was run in all.
pub(super) struct Runs {
    count: usize,
    last: VecDeque<u32>,
}

static RUNS: Mutex<Runs> = Mutex::new(Runs { count: 0, last: VecDeque::new() });

/// Begins a run. Until it is dropped, whoever hears of a change that nobody is known for waits.
pub(super) fn begin() -> MutexGuard<'static, Runs> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runs {
    /// This process changed rules.
    pub(super) fn add(&mut self, process: u32) {
        self.count = self.count.wrapping_add(1);
        self.last.push_back(process);
        if self.last.len() > MOST {
            self.last.pop_front();
        }
    }
}

/// Processes of ours that the kernel has not told of, or has.
pub(super) struct Ours {
    /// Whether their numbers are those that the kernel tells.
    numbered: bool,
    processes: VecDeque<u32>,
    /// How many of the runs are known.
    seen: usize,
}

impl Ours {
    /// None so far; asks the kernel which number it has for this process.
    pub(super) fn new() -> Result<Self, Error> {
        let seen = begin().count;
        let mut link = NetlinkSocket::open(NETLINK_NETFILTER)?;
        let question = NetfilterMessage::new(
            NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
            NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() }),
        );
        let read = |_: &_, message: &[u8]| Ok(message.get(BEFORE..).and_then(process));
        let told = link.query_with("tell the generation of the ruleset", &question, read)?;
        let us = told.unwrap_or_default().into_iter().flatten().next();
        let numbered = us.is_some_and(|us| i64::from(us) == i64::from(gettid().as_raw()));
        Ok(Ours { seen, ..Self::of(numbered) })
    }

    /// None so far, and whether their numbers mean something.
    pub(super) fn of(numbered: bool) -> Self {
        Ours { numbered, processes: VecDeque::new(), seen: 0 }
    }

    /// These have changed rules.
    pub(super) fn have(&mut self, processes: impl IntoIterator<Item = u32>) {
        self.processes.extend(processes);
        let over = self.processes.len().saturating_sub(MOST);
        self.processes.drain(..over);
    }

    /// Learns what was run meanwhile, once it has ended.
    fn catch_up(&mut self) {
        let runs = begin();
        let new = runs.count.wrapping_sub(self.seen).min(runs.last.len());
        let new: Vec<u32> = runs.last.iter().rev().take(new).rev().copied().collect();
        self.seen = runs.count;
        drop(runs);
        self.have(new);
    }

    /// Some of what was told is lost.
    pub(super) fn lose(&mut self) {
        self.catch_up();
        if !self.numbered {
            self.processes.clear();
        }
    }

    /// Whether a transaction was made by one of them, which is told by its body and the name of whoever made it.
    pub(super) fn made(&mut self, body: &[u8], name: &[u8]) -> bool {
        self.is_known(body, name) || {
            self.catch_up();
            self.is_known(body, name)
        }
    }

    fn is_known(&mut self, body: &[u8], name: &[u8]) -> bool {
        if self.numbered {
            return process(body).is_some_and(|process| self.processes.contains(&process));
        }
        NAMES.contains(&name) && self.processes.pop_front().is_some()
    }
}

/// Which process a message about a generation names.
pub(super) fn process(body: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*attribute(body, PROCESS)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::attributes::put;

    fn by(process: u32) -> Vec<u8> {
        let mut body = Vec::new();
        put(&mut body, PROCESS, &process.to_be_bytes());
        body
    }

    #[test]
    fn by_number_each_is_known_for_long_and_nobody_else_by_his_name() {
        let mut ours = Ours::of(true);
        ours.have(0..=MOST as u32);
        assert!(!ours.made(&by(0), NAMES[0]), "that was long ago");
        for _ in 0..2 {
            assert!(ours.made(&by(1), b"whatever"));
        }
        assert!(!ours.made(&by(999), NAMES[0]));
    }

    #[test]
    fn in_a_container_one_of_the_name_is_ours_for_each_that_was_run() {
        let mut ours = Ours::of(false);
        ours.have([7, 8]);
        assert!(!ours.made(&by(7), b"iptables"));
        assert!(ours.made(&by(4711), NAMES[0]) && ours.made(&by(4712), NAMES[1]));
        assert!(!ours.made(&by(4713), NAMES[0]));
        ours.have([9]);
        ours.lose();
        assert!(!ours.made(&by(4714), NAMES[0]));
    }
}
