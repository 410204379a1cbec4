//! The filter tables of both families as they were last read. Reading them takes a process, some milliseconds, so they are
//! read again only when something may have changed: where nf_tables keeps them its generation says so, and its
//! notifications; the rules of the legacy variant are read at every poll. Our own changes are applied to what was read, and
//! what differs from that afterwards is somebody else's.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_linux::netlink_monitor::{NFNLGRP_NFTABLES, NetlinkMonitor};
use psentry_linux::{Error as Below, NetlinkSocket, Program};
use psentry_nftables::{Family as TableFamily, Notification, Object, is_dormant};

use super::rules::Rules;
use super::{FAMILIES, POLL, unless_absent};
use crate::backends::{failed, installed};
use crate::error::Error;

/// The programs that the filter tables need; those of IPv6 have the same names with "ip6".
pub(in super::super) const PROGRAMS: [&str; 2] = ["iptables", "iptables-restore"];

/// The name of the tables, where nf_tables keeps them.
const TABLE: &str = "filter";

/// How many seconds the legacy variant waits for its lock.
const WAIT: &str = "20";

/// How often it is tried again when somebody else changed the rules meanwhile.
const TRIES: usize = 5;

/// Both tables.
pub(super) struct Tables {
    backend: &'static str,
    /// The chains that concern the backend.
    chains: &'static [&'static str],
    families: [Family; 2],
    /// To ask for the generation; `None`: both families are of the legacy variant.
    link: Option<NetlinkSocket>,
    monitor: Option<NetlinkMonitor>,
    /// The netlink port ids by which we made changes whose notifications have not been read.
    own_ports: Vec<u32>,
    /// Somebody else changed a chain that concerns us, and that has not been reported.
    drifted: bool,
}

struct Family {
    /// Not there: the programs are not installed, or were not looked for yet.
    filter: Result<Filter, Error>,
    rules: Option<Rules>,
    /// The generation of which `rules` are, 0 in the legacy variant; `None`: they have to be read again.
    read_at: Option<u32>,
}

impl Family {
    fn is_nft(&self) -> bool {
        self.filter.as_ref().is_ok_and(|filter| filter.is_nft)
    }
}

impl Tables {
    /// The tables for a backend that `chains` concern; [`find_programs`](Self::find_programs) comes first.
    pub(super) fn new(backend: &'static str, chains: &'static [&'static str]) -> Self {
        let families = FAMILIES.map(|_| {
            let filter = Err(Error::Missing { backend, program: PROGRAMS[0].to_owned() });
            Family { filter, rules: None, read_at: None }
        });
        Tables { backend, chains, families, link: None, monitor: None, own_ports: Vec::new(), drifted: false }
    }

    /// Looks for the programs that were not found yet: somebody may have installed them.
    ///
    /// # Errors
    /// When iptables is not installed; without ip6tables there is no IPv6.
    pub(super) fn find_programs(&mut self) -> Result<(), Error> {
        for (ipv4, family) in FAMILIES.into_iter().zip(&mut self.families) {
            if family.filter.is_err() {
                family.filter = Filter::find(self.backend, ipv4);
            }
        }
        if self.link.is_none() && self.families.iter().any(Family::is_nft) {
            self.link = Some(NetlinkSocket::open(NETLINK_NETFILTER)?);
        }
        self.family(true).filter.as_ref().map(drop).map_err(Error::clone)
    }

    /// How often [`changed`](Self::changed) has to be asked, if the kernel does not report every change.
    pub(super) fn poll_every(&self) -> Option<Duration> {
        let all_nft = self.families.iter().all(|family| family.filter.is_err() || family.is_nft());
        (!all_nft).then_some(POLL)
    }

    /// From now on the kernel reports changes, where it can.
    pub(super) fn subscribe(&mut self) -> Result<(), Error> {
        if self.link.is_some() && self.monitor.is_none() {
            let opened = NetlinkMonitor::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES]);
            self.monitor = Some(opened.map_err(failed(self.backend))?);
        }
        Ok(())
    }

    /// What is readable once something may have changed.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(AsFd::as_fd)
    }

    /// The rules of a family, read if they may have changed, or of the legacy variant if they were not read at all.
    pub(super) fn rules(&mut self, ipv4: bool) -> Result<&Rules, Error> {
        let generation = self.generation_of(ipv4)?;
        let [v4, v6] = &mut self.families;
        let family = if ipv4 { v4 } else { v6 };
        let filter = family.filter.as_ref().map_err(Error::clone)?;
        if family.read_at != Some(generation) || family.rules.is_none() {
            let dormant = match &mut self.link {
                Some(link) if filter.is_nft => is_dormant(link, table_family(ipv4), TABLE),
                _ => Ok(false),
            };
            let rules = filter.rules(dormant.map_err(failed(self.backend))?)?;
            let same = |old: &Rules| self.chains.iter().all(|chain| old.agrees(&rules, chain));
            self.drifted |= !family.rules.as_ref().is_none_or(same);
            (family.rules, family.read_at) = (Some(rules), Some(generation));
        }
        Ok(family.rules.get_or_insert_default())
    }

    /// Whether nobody else has changed the rules of a family since they were read, as far as is known.
    pub(super) fn is_current(&mut self, ipv4: bool) -> Result<bool, Error> {
        let generation = self.generation_of(ipv4)?;
        Ok(!self.drifted && self.family(ipv4).read_at == Some(generation))
    }

    /// Of the legacy variant the rules are to be read again.
    pub(super) fn expire_polled(&mut self) {
        for family in self.families.iter_mut().filter(|family| !family.is_nft()) {
            family.read_at = None;
        }
    }

    /// Makes changes to what [`rules`](Self::rules) returned, all or none.
    pub(super) fn change(&mut self, ipv4: bool, commands: &[String]) -> Result<(), Error> {
        if commands.is_empty() {
            return Ok(());
        }
        let subscribed = self.monitor.is_some();
        let family = self.family(ipv4);
        // Should it fail, the rules are read again.
        let before = family.read_at.take();
        let filter = family.filter.as_ref().map_err(Error::clone)?;
        let (pid, raised) = (filter.change(commands)?, u32::from(filter.is_nft));
        if let Some(rules) = &mut family.rules {
            rules.run(commands);
        }
        if subscribed && raised > 0 {
            self.own_ports.push(pid);
        }
        // Another generation than the next one: somebody else changed something at the same time.
        let after = self.generation_of(ipv4).ok();
        if after == before.map(|before| before.wrapping_add(raised)) {
            self.family(ipv4).read_at = after;
            // It did not touch the other family, which is of the same generation.
            for family in self.families.iter_mut().filter(|family| raised > 0 && family.read_at == before) {
                family.read_at = after;
            }
        }
        Ok(())
    }

    /// Deletes rules, all that `commands` says of those that are there, although others may change them at the same time.
    pub(super) fn delete(
        &mut self,
        ipv4: bool,
        commands: impl Fn(&Rules) -> Vec<String>,
    ) -> Result<(), Error> {
        self.expire_polled();
        retried(|| {
            let commands = commands(self.rules(ipv4)?);
            self.change(ipv4, &commands)
        })
    }

    /// Whether somebody else has changed a chain that concerns us since this was last asked.
    pub(super) fn changed(&mut self) -> Result<bool, Error> {
        self.expire_polled();
        // Asked before the notifications are read: what others changed up to it is among them, or will wake us again.
        let generation = self.link.as_mut().map(psentry_nftables::generation).transpose();
        let generation = generation.map_err(failed(self.backend))?;
        let touched = self.read_monitor()?;
        for family in self.families.iter_mut().filter(|family| family.is_nft()) {
            family.read_at = family.read_at.and(generation).filter(|_| !touched);
        }
        for ipv4 in FAMILIES {
            let read = self.rules(ipv4).map(drop);
            unless_absent(ipv4, read, ())?;
        }
        Ok(std::mem::take(&mut self.drifted))
    }

    /// Reads all notifications; whether somebody else may have changed a filter table.
    fn read_monitor(&mut self) -> Result<bool, Error> {
        let Some(monitor) = &mut self.monitor else { return Ok(true) };
        let mut touched = false;
        let lost = monitor.receive_all(|header, message| {
            let concerns = Notification::read(header, message).is_some_and(|change| concerns(&change));
            touched |= concerns && !self.own_ports.contains(&header.port_number);
        })?;
        self.own_ports.clear();
        Ok(touched || lost)
    }

    fn generation_of(&mut self, ipv4: bool) -> Result<u32, Error> {
        let is_nft = self.family(ipv4).is_nft();
        match &mut self.link {
            Some(link) if is_nft => psentry_nftables::generation(link).map_err(failed(self.backend)),
            _ => Ok(0),
        }
    }

    fn family(&mut self, ipv4: bool) -> &mut Family {
        let [v4, v6] = &mut self.families;
        if ipv4 { v4 } else { v6 }
    }
}

/// Tries something that reads the rules and changes them, and tries it again as long as iptables-restore objects: somebody else may
/// have changed meanwhile what was read. A change that fails has the rules read again.
pub(super) fn retried<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = 1..TRIES;
    loop {
        match attempt() {
            Err(error) if is_objection(&error) && tries.next().is_some() => {}
            result => return result,
        }
    }
}

/// Whether iptables-restore objected to what it was given, and not to its lock or its rights. Where nf_tables keeps the rules, a rule
/// or chain that is gone by then is exit status 4, as is a lock of the legacy variant.
pub(super) fn is_objection(error: &Error) -> bool {
    match error {
        Error::System(Below::Program { code: Some(1 | 2), .. }) => true,
        Error::System(Below::Program { code: Some(4), stderr, .. }) => !stderr.contains("lock"),
        _ => false,
    }
}

fn table_family(ipv4: bool) -> TableFamily {
    if ipv4 { TableFamily::Ipv4 } else { TableFamily::Ipv6 }
}

/// Whether a notification is of a change of a table, chain or rule of iptables or ip6tables.
fn concerns(notification: &Notification<'_>) -> bool {
    matches!(
        notification,
        Notification::Changed {
            family: Some(TableFamily::Ipv4 | TableFamily::Ipv6),
            table: TABLE,
            object: Object::Table { .. } | Object::Chain | Object::Rule,
        }
    )
}

/// The filter table of one family.
struct Filter {
    backend: &'static str,
    iptables: Program,
    restore: Program,
    /// nf_tables keeps the rules, and reports changes; the legacy variant does not.
    is_nft: bool,
}

impl Filter {
    /// Finds the programs, and asks which variant they are.
    fn find(backend: &'static str, ipv4: bool) -> Result<Self, Error> {
        let [iptables, restore] = if ipv4 { PROGRAMS } else { ["ip6tables", "ip6tables-restore"] }
            .map(|name| installed(backend, name));
        let (iptables, restore) = (iptables?, restore?);
        let version = iptables.run_checked(&["-V"], b"")?;
        let is_nft = String::from_utf8_lossy(&version).contains("nf_tables");
        Ok(Filter { backend, iptables, restore, is_nft })
    }

    /// The rules that are there.
    fn rules(&self, dormant: bool) -> Result<Rules, Error> {
        let listed =
            self.iptables.run_checked(&["-w", WAIT, "-S"], b"").map_err(|error| self.explain(error))?;
        Ok(Rules::read(&String::from_utf8_lossy(&listed), dormant))
    }

    /// Makes changes, in the words of iptables-restore: all, or none. Returns the process id of the program, which is also
    /// the port id of the netlink socket by which it makes them.
    fn change(&self, commands: &[String]) -> Result<u32, Error> {
        let script = format!("*filter\n{}\nCOMMIT\n", commands.join("\n"));
        let changed = self.restore.run_checked_with_pid(&["-w", WAIT, "--noflush"], script.as_bytes());
        changed.map(|(_, pid)| pid).map_err(|error| self.explain(error))
    }

    /// What to do about a failure, where that is known.
    fn explain(&self, error: Below) -> Error {
        let Below::Program { stderr, .. } = &error else { return error.into() };
        let backend = self.backend;
        let remedy = if stderr.contains("xtables.lock") {
            "the legacy iptables cannot open its lock; let the user of the service write /run/xtables.lock, or choose \
             iptables-nft with update-alternatives"
        } else if stderr.contains("open socket to ipset") {
            "a rule matches a set, for which iptables needs a raw socket; give the service CAP_NET_RAW and \
             RestrictAddressFamilies=AF_INET"
        } else if stderr.contains("CHAIN_ADD failed (Operation not supported)") {
            "a builtin chain of the table filter has no hook, or not its own, so that no packet comes to it; flush and delete it \
             with nft, and it is made anew"
        } else if stderr.contains("you must be root") && !self.is_nft {
            "the legacy iptables needs CAP_NET_ADMIN and CAP_NET_RAW, or root"
        } else if stderr.contains("you must be root") {
            return Error::NotPermitted { backend };
        } else {
            return error.into();
        };
        Error::Forbidden(format!("--backend {backend}: {remedy} ({stderr})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_of_the_filter_tables_concern_us() {
        let concern =
            |family, table, object| concerns(&Notification::Changed { family: Some(family), table, object });
        assert!(concern(TableFamily::Ipv4, "filter", Object::Rule));
        assert!(concern(TableFamily::Ipv6, "filter", Object::Table { deleted: true }));
        assert!(!concern(TableFamily::Ipv4, "filter", Object::Elements("a")));
        assert!(!concern(TableFamily::Inet, "filter", Object::Rule), "a table of nft's own");
        assert!(!concern(TableFamily::Ipv4, "nat", Object::Rule));
        assert!(!concerns(&Notification::End { author: None }));
    }
}
