//! What the administrator decides: flags over the policy file over the defaults, ready to be asked by the judge.

mod compile;
pub mod defaults;
mod file;
mod flags;
mod one_contact;
mod port_set;
mod rule;
mod sections;
mod values;
mod weights;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use psentry_records::{Ignore, Prefix, Proto};

pub use file::PolicyError;
pub use flags::PolicyFlags;
pub(crate) use one_contact::{Families, Identity};
pub(crate) use port_set::PortSet;
pub use rule::{NamedRule, Treatment};
pub use sections::{
    BlockPolicy, BrakePolicy, InsideAction, InsidePolicy, LevelPolicy, Odds, SlowPolicy, SweepPolicy,
};
pub use values::BlockDuration;
pub use weights::Weights;

pub(crate) use self::rule::Networks;
use crate::machine::MachineFacts;
use crate::memory::Contact;
use crate::rules::Rule;

/// IPv6 hosts choose the lower 64 bits of their address at will (RFC 4291, 2.5.4; RFC 8981): so they are counted,
/// and blocked, by the upper 64.
const IPV6_GROUP: u8 = 64;

/// The dials of the judge.
#[derive(Debug)]
pub struct Policy {
    /// What convicts, in order; the first that convicts decides. `[[rule]]`s come before.
    pub rules: Vec<Box<dyn Rule>>,
    /// What the administrator says of ports and networks.
    pub named: Vec<NamedRule>,
    /// What each class of evidence weighs.
    pub weights: Weights,
    /// How long a touch counts.
    pub window: Duration,
    /// The memory of slow scans.
    pub slow: SlowPolicy,
    /// How long blocks last, and whether there are any.
    pub block: BlockPolicy,
    /// From how many packets on a source has each level, and what that does.
    pub levels: LevelPolicy,
    /// When a prefix is blocked as a whole.
    pub sweep: SweepPolicy,
    /// What becomes of sources behind this machine.
    pub inside: InsidePolicy,
    /// When there are too many blocks, so that psentry only watches.
    pub brake: BrakePolicy,
    /// How long who logged in is only watched.
    pub vouch: Duration,
    /// Addresses that are never judged.
    pub ignore: Ignore,
    /// Of IPv6 networks with such an address in them, each address is judged by itself.
    pub ungrouped: Ignore,
    /// Which ports are one contact.
    pub(crate) families: Families,
    /// Networks in which this machine has an address, beside those that psentry-trap names.
    pub own: Ignore,
    /// This machine's name in the records; `None`: it has none.
    pub host: Option<String>,
    /// How many sources to remember.
    pub max_sources: usize,
    /// How many contacts of one source to remember; the rules need no more.
    pub max_contacts: usize,
    /// How many touches of one port convict; 0: none do.
    pub touches: u32,
    /// Ports that worms know.
    pub(crate) worms: PortSet,
    /// The files that this came from, to see when they change.
    pub files: Vec<PathBuf>,
}

/// How much of one source is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Retention<'a> {
    /// At most so many contacts.
    pub max_contacts: usize,
    /// How long a contact is kept.
    pub keep: Duration,
    /// How long it counts as fresh.
    pub window: Duration,
    /// How many touches of one port convict; 0: none do.
    pub touches: u32,
    /// Which ports are one contact.
    pub(crate) families: &'a Families,
}

impl Policy {
    /// The range of addresses that is counted, and blocked, as one. Narrower than usual where an ignored address
    /// would be hit, and near the machine, where hosts share a /64.
    #[must_use]
    pub fn scope(&self, addr: IpAddr, machine: &MachineFacts) -> Prefix {
        let IpAddr::V6(v6) = addr else { return Prefix::host(addr) };
        let group = Prefix::around(addr, IPV6_GROUP);
        let shared = || self.ignore.touches(group) || self.ungrouped.touches(group);
        if v6.is_unicast_link_local() || self.is_near(group, machine) || shared() {
            Prefix::host(addr)
        } else {
            group
        }
    }

    /// Whether somebody in that prefix is in a network of this machine, or in one behind it.
    pub(crate) fn is_near(&self, prefix: Prefix, machine: &MachineFacts) -> bool {
        machine.is_near(prefix) || self.own.touches(prefix)
    }

    /// Whether that scope is narrower than usual.
    pub(crate) fn is_ungrouped(&self, scope: Prefix) -> bool {
        !scope.is_ipv4() && scope.len() > IPV6_GROUP
    }

    /// Whether somebody in that prefix is never judged: by the list of the ignored, or by a rule.
    pub(crate) fn exempts(&self, prefix: Prefix) -> bool {
        self.ignore.touches(prefix) || self.named.iter().any(|rule| rule.exempts(prefix))
    }

    /// How many sources around that scope have their prefix blocked: as many times more as their network's threshold
    /// is higher.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // at most 256,000
    pub(crate) fn sources_of_sweep(&self, scope: Prefix) -> usize {
        let factor = self.threshold_of(self.networks_of(scope)).max(1.0);
        (self.sweep.sources as f64 * factor).ceil() as usize
    }

    /// How much of one source is remembered.
    #[must_use]
    pub fn retention(&self) -> Retention<'_> {
        let keep = if self.slow.ports > 0 { self.window.max(self.slow.window) } else { self.window };
        Retention {
            max_contacts: self.max_contacts,
            keep,
            window: self.window,
            touches: self.touches,
            families: &self.families,
        }
    }

    /// What a touched port is counted as.
    pub(crate) fn identity(&self, contact: &Contact) -> Identity {
        self.families.identity(contact.port(), contact.proto())
    }

    pub(crate) fn networks_of(&self, scope: Prefix) -> Networks {
        rule::networks_of(&self.named, scope)
    }

    pub(crate) fn threshold_of(&self, networks: Networks) -> f64 {
        rule::threshold(&self.named, networks)
    }

    pub(crate) fn treatment(&self, networks: Networks, port: Option<u16>, proto: Proto) -> Treatment {
        rule::treatment(&self.named, networks, port, proto)
    }
}

#[cfg(test)]
mod manual;
#[cfg(test)]
pub(crate) mod tests;
