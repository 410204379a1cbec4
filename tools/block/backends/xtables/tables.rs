//! The filter tables of both families as they were last read. Reading them takes a process, some milliseconds, so they are
//! read again only when something may have changed: where nf_tables keeps them its generation says so, and its
//! notifications; the rules of the legacy variant are read at every poll. Our own changes are applied to what was read, and
//! what differs from that afterwards is somebody else's.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use psentry_linux::{Error as Below, FilterTable, Rules};
use psentry_nftables::IptablesMonitor;

use super::{FAMILIES, POLL};
use crate::backends::{failed, installed};
use crate::error::Error;

/// The programs that the filter tables need; those of IPv6 have the same names with "ip6".
pub(in super::super) const PROGRAMS: [&str; 2] = ["iptables", "iptables-restore"];

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
    monitor: Option<IptablesMonitor>,
    /// Somebody else changed a chain that concerns us, and that has not been reported.
    drifted: bool,
}

struct Family {
    /// Not there: the programs are not installed, or were not looked for yet.
    filter: Result<FilterTable, Error>,
    rules: Option<Rules>,
    /// The generation of which `rules` are; `None`: they have to be read again.
    read_at: Option<u32>,
}

impl Tables {
    /// The tables for a backend that `chains` concern; [`families`](Self::families) comes first.
    pub(super) fn new(backend: &'static str, chains: &'static [&'static str]) -> Self {
        let families = FAMILIES.map(|_| {
            let filter = Err(Error::Missing { backend, program: PROGRAMS[0].to_owned() });
            Family { filter, rules: None, read_at: None }
        });
        Tables { backend, chains, families, monitor: None, drifted: false }
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
                family.filter = find(backend, ipv4);
            }
        }
        self.of(true).filter.as_ref().map_err(Error::clone)?;
        if self.families.iter().flat_map(|family| &family.filter).any(|filter| !filter.is_nft()) {
            self.monitor = None;
        } else if self.monitor.is_none() {
            self.monitor = Some(IptablesMonitor::open().map_err(failed(backend))?);
        }
        if self.monitor.is_none() {
            self.families.iter_mut().for_each(|family| family.read_at = None);
        }
        // IPv4 first, so that nobody waits for two programs where another holds their lock.
        self.rules(true)?;
        let has_ipv6 = !self.rules(false).is_err_and(|error| error.is_unsupported());
        Ok(FAMILIES.into_iter().filter(|ipv4| *ipv4 || has_ipv6).collect())
    }

    /// How often [`changed`](Self::changed) has to be asked, if the kernel does not report every change.
    pub(super) fn poll_every(&self) -> Option<Duration> {
        let is_polled = self.monitor.is_none() && self.families.iter().any(|family| family.filter.is_ok());
        is_polled.then_some(POLL)
    }

    /// What is readable once something may have changed.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(AsFd::as_fd)
    }

    /// The rules of a family, read if they may have changed; where the kernel does not say so, if they are to be read again.
    pub(super) fn rules(&mut self, ipv4: bool) -> Result<&Rules, Error> {
        let generation = self.generation()?;
        let [v4, v6] = &mut self.families;
        let family = if ipv4 { v4 } else { v6 };
        let filter = family.filter.as_ref().map_err(Error::clone)?;
        if family.read_at != Some(generation) || family.rules.is_none() {
            let dormant = self.monitor.as_mut().map_or(Ok(false), |monitor| monitor.is_dormant(ipv4));
            let rules = filter.rules(dormant.map_err(failed(self.backend))?);
            let rules = rules.map_err(|error| explained(self.backend, filter, error))?;
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
        let backend = self.backend;
        let family = self.of(ipv4);
        let before = family.read_at;
        let filter = family.filter.as_ref().map_err(Error::clone)?;
        if let Err(error) = filter.change(commands) {
            let error = explained(backend, filter, error);
            family.read_at = None;
            return Err(error);
        }
        if let Some(rules) = &mut family.rules {
            rules.run(commands);
        }
        let after = self.generation().ok();
        // Where it is another one than the next, somebody else changed something at the same time.
        if self.monitor.is_some() && after.map(|after| after.wrapping_sub(1)) == before {
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
        if let Some(monitor) = &mut self.monitor {
            let touched = monitor.changed()?;
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
        let asked = self.monitor.as_mut().map(IptablesMonitor::generation);
        asked.unwrap_or(Ok(0)).map_err(failed(self.backend))
    }

    fn of(&mut self, ipv4: bool) -> &mut Family {
        let [v4, v6] = &mut self.families;
        if ipv4 { v4 } else { v6 }
    }
}

/// Whether iptables-restore objected to what it was given.
pub(super) fn is_objection(error: &Error) -> bool {
    matches!(error, Error::System(error) if error.is_objection())
}

/// The programs of one family.
fn find(backend: &'static str, ipv4: bool) -> Result<FilterTable, Error> {
    let names = if ipv4 { PROGRAMS } else { ["ip6tables", "ip6tables-restore"] };
    let [iptables, restore] = names.map(|name| installed(backend, name));
    Ok(FilterTable::open(iptables?, restore?)?)
}

/// An error of these programs, with what to do about it, where that is known.
fn explained(backend: &'static str, filter: &FilterTable, error: Below) -> Error {
    let Below::Program { stderr, .. } = &error else { return error.into() };
    match REMEDIES.iter().find(|(said, _)| stderr.contains(said)) {
        Some(("you must be root", _)) if filter.is_nft() => Error::NotPermitted { backend },
        Some((_, remedy)) => Error::Forbidden(format!("--backend {backend}: {remedy} ({stderr})")),
        None => error.into(),
    }
}
