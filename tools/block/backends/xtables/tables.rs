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
use super::{FAMILIES, POLL};
use crate::backends::{failed, installed};
use crate::error::Error;

/// The programs that the filter tables need; those of IPv6 have the same names with "ip6".
pub(in super::super) const PROGRAMS: [&str; 2] = ["iptables", "iptables-restore"];

/// The name of the tables, where nf_tables keeps them.
const TABLE: &str = "filter";

/// How many seconds the legacy variant waits for its lock.
const WAIT: &str = "20";

/// How often a change is tried when somebody else changes the rules meanwhile.
const TRIES: usize = 4;

/// What somebody else may have put wrong, by what the programs say of it, and what to do about it.
const REMEDIES: [(&str, &str); 4] = [
    (
        "xtables.lock",
        "the legacy iptables cannot open its lock; let the user of the service write /run/xtables.lock, or choose iptables-nft with \
         update-alternatives",
    ),
    (
        "open socket to ipset",
        "a rule matches a set, for which iptables needs a raw socket; give the service CAP_NET_RAW and \
         RestrictAddressFamilies=AF_INET",
    ),
    (
        "CHAIN_ADD failed (Operation not supported)",
        "a builtin chain of the table filter has no hook, or not its own, so that no packet comes to it; flush and delete it with \
         nft, and it is made anew",
    ),
    ("you must be root", "the legacy iptables needs CAP_NET_ADMIN and CAP_NET_RAW, or root"),
];

/// Both tables.
pub(super) struct Tables {
    backend: &'static str,
    /// The chains that concern the backend.
    chains: &'static [&'static str],
    /// That of IPv4, and that of IPv6.
    families: [Family; 2],
    /// `None`: a family is of the legacy variant, so that both are polled, or no program was found yet.
    watch: Option<Watch>,
    /// Somebody else changed a chain that concerns us, and that has not been reported.
    drifted: bool,
}

struct Family {
    /// Not there: the programs are not installed, or were not looked for yet.
    filter: Result<Filter, Error>,
    rules: Option<Rules>,
    /// The generation of which `rules` are; `None`: they have to be read again.
    read_at: Option<u32>,
}

/// What nf_tables is asked for.
struct Watch {
    link: NetlinkSocket,
    monitor: NetlinkMonitor,
}

impl Tables {
    /// The tables for a backend that `chains` concern; [`families`](Self::families) comes first.
    pub(super) fn new(backend: &'static str, chains: &'static [&'static str]) -> Self {
        let families = FAMILIES.map(|_| {
            let filter = Err(Error::Missing { backend, program: PROGRAMS[0].to_owned() });
            Family { filter, rules: None, read_at: None }
        });
        Tables { backend, chains, families, watch: None, drifted: false }
    }

    /// The families that this machine has, IPv4 first. Programs that were not found yet are looked for, since somebody may have
    /// installed them; from now on the kernel reports changes where it can, and where it cannot the rules are read again.
    ///
    /// On a machine without IPv6 there is nothing to be made or found for it, which is no error until somebody of IPv6 is to be
    /// blocked. Whether it has IPv6 is known by whether ip6tables works: /proc/net and sockets may be hidden from a service.
    ///
    /// # Errors
    /// When iptables is not installed.
    pub(super) fn families(&mut self) -> Result<Vec<bool>, Error> {
        let backend = self.backend;
        for (ipv4, family) in FAMILIES.into_iter().zip(&mut self.families) {
            if family.filter.is_err() {
                family.filter = Filter::find(backend, ipv4);
            }
        }
        self.of(true).filter.as_ref().map_err(Error::clone)?;
        if self.families.iter().flat_map(|family| &family.filter).any(|filter| !filter.is_nft) {
            self.watch = None;
        } else if self.watch.is_none() {
            let link = NetlinkSocket::open(NETLINK_NETFILTER)?;
            let monitor = NetlinkMonitor::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES]);
            self.watch = Some(Watch { link, monitor: monitor.map_err(failed(backend))? });
        }
        if self.watch.is_none() {
            self.families.iter_mut().for_each(|family| family.read_at = None);
        }
        let has_ipv6 = !self.rules(false).is_err_and(|error| error.is_unsupported());
        Ok(FAMILIES.into_iter().filter(|ipv4| *ipv4 || has_ipv6).collect())
    }

    /// How often [`changed`](Self::changed) has to be asked, if the kernel does not report every change.
    pub(super) fn poll_every(&self) -> Option<Duration> {
        let is_polled = self.watch.is_none() && self.families.iter().any(|family| family.filter.is_ok());
        is_polled.then_some(POLL)
    }

    /// What is readable once something may have changed.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.monitor.as_fd())
    }

    /// The rules of a family, read if they may have changed; where the kernel does not say so, if they are to be read again.
    pub(super) fn rules(&mut self, ipv4: bool) -> Result<&Rules, Error> {
        let generation = self.generation()?;
        let [v4, v6] = &mut self.families;
        let family = if ipv4 { v4 } else { v6 };
        let filter = family.filter.as_ref().map_err(Error::clone)?;
        if family.read_at != Some(generation) || family.rules.is_none() {
            let dormant =
                self.watch.as_mut().map(|watch| is_dormant(&mut watch.link, table_family(ipv4), TABLE));
            let dormant = dormant.transpose().map_err(failed(self.backend))?.unwrap_or(false);
            let rules = filter.rules(dormant)?;
            let same = |old: &Rules| self.chains.iter().all(|chain| old.agrees(&rules, chain));
            self.drifted |= !family.rules.as_ref().is_none_or(same);
            (family.rules, family.read_at) = (Some(rules), Some(generation));
        }
        Ok(family.rules.get_or_insert_default())
    }

    /// Makes the changes that `commands` says of the rules of a family, all or none, and once more for what is there by then where
    /// somebody else changed it meanwhile; whether there were any.
    pub(super) fn change(
        &mut self,
        ipv4: bool,
        commands: impl Fn(&Rules) -> Vec<String>,
    ) -> Result<bool, Error> {
        let mut tries = 1..TRIES;
        loop {
            let commands = commands(self.rules(ipv4)?);
            match self.run(ipv4, &commands) {
                Err(error) if is_objection(&error) && tries.next().is_some() => {}
                result => return result.map(|()| !commands.is_empty()),
            }
        }
    }

    fn run(&mut self, ipv4: bool, commands: &[String]) -> Result<(), Error> {
        if commands.is_empty() {
            return Ok(());
        }
        let family = self.of(ipv4);
        let before = family.read_at;
        if let Err(error) = family.filter.as_ref().map_err(Error::clone)?.change(commands) {
            family.read_at = None;
            return Err(error);
        }
        if let Some(rules) = &mut family.rules {
            rules.run(commands);
        }
        let after = self.generation().ok();
        // Where it is another one than the next, somebody else changed something at the same time.
        if self.watch.is_some() && after.map(|after| after.wrapping_sub(1)) == before {
            // The other family was not touched.
            for family in self.families.iter_mut().filter(|family| family.read_at == before) {
                family.read_at = after;
            }
        }
        Ok(())
    }

    /// Whether somebody else has changed a chain that concerns us since this was last asked.
    pub(super) fn changed(&mut self) -> Result<bool, Error> {
        // Asked before the notifications are read: what others changed up to it is among them, or will wake us again.
        let generation = self.generation()?;
        if let Some(watch) = &mut self.watch {
            let touched = watch.read()?;
            for Family { read_at, .. } in &mut self.families {
                *read_at = read_at.filter(|at| !touched || *at == generation).and(Some(generation));
            }
        }
        for ipv4 in self.families()? {
            self.rules(ipv4)?;
        }
        Ok(std::mem::take(&mut self.drifted))
    }

    /// The generation of the rules; always the same where the kernel has none.
    fn generation(&mut self) -> Result<u32, Error> {
        let asked = self.watch.as_mut().map(|watch| psentry_nftables::generation(&mut watch.link));
        asked.unwrap_or(Ok(0)).map_err(failed(self.backend))
    }

    fn of(&mut self, ipv4: bool) -> &mut Family {
        let [v4, v6] = &mut self.families;
        if ipv4 { v4 } else { v6 }
    }
}

impl Watch {
    /// Reads all notifications; whether somebody may have changed a filter table.
    fn read(&mut self) -> Result<bool, Error> {
        let mut touched = false;
        let lost = self.monitor.receive_all(|header, message| {
            touched |= Notification::read(header, message).is_some_and(|change| concerns(&change));
        })?;
        Ok(touched || lost)
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

    /// Makes changes, in the words of iptables-restore: all, or none.
    fn change(&self, commands: &[String]) -> Result<(), Error> {
        let script = format!("*filter\n{}\nCOMMIT\n", commands.join("\n"));
        let changed = self.restore.run_checked(&["-w", WAIT, "--noflush"], script.as_bytes());
        changed.map(drop).map_err(|error| self.explain(error))
    }

    /// What to do about a failure, where that is known.
    fn explain(&self, error: Below) -> Error {
        let Below::Program { stderr, .. } = &error else { return error.into() };
        let backend = self.backend;
        match REMEDIES.iter().find(|(said, _)| stderr.contains(said)) {
            Some(("you must be root", _)) if self.is_nft => Error::NotPermitted { backend },
            Some((_, remedy)) => Error::Forbidden(format!("--backend {backend}: {remedy} ({stderr})")),
            None => error.into(),
        }
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
