//! What the administrator decides: flags over the policy file over the defaults, ready to be asked by the judge.

mod assemble;
pub mod defaults;
mod file;
mod rule;
mod values;
mod weights;

use std::path::PathBuf;
use std::time::Duration;

use psentry_records::{Ignore, Prefix, Proto};

pub use file::PolicyError;
pub use rule::{NamedRule, Treatment};
pub use values::Length;
pub use weights::{Odds, Weights};

use self::rule::Networks;
use crate::Rule;
use crate::memory::Room;

/// The largest trigger; it bounds the memory of one source.
pub(crate) const LONGEST_TRIGGER: u32 = 100;

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
    /// What evidence weighs.
    pub weights: Weights,
    /// How long a touch counts.
    pub window: Duration,
    /// The memory of slow scans.
    pub slow: Slow,
    /// How long blocks last.
    pub block: Blocks,
    /// What levels mean.
    pub levels: Levels,
    /// When a prefix is blocked as a whole.
    pub sweep: Sweeps,
    /// When psentry stops blocking.
    pub brake: Brakes,
    /// How long who logged in is only watched.
    pub vouch: Duration,
    /// Whether verdicts only say `watch`.
    pub observe: bool,
    /// Whom to leave alone.
    pub ignore: Ignore,
    /// Of these, and of their neighbours, each address is judged by itself.
    pub apart: Ignore,
    /// How many sources to remember.
    pub max_sources: usize,
    /// How many contacts of one source to remember; the rules need no more.
    pub max_contacts: usize,
    /// The files that this came from, to see when they change.
    pub files: Vec<PathBuf>,
}

/// The memory of slow scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// How long it reaches back.
    pub window: Duration,
    /// How many different ports convict; 0: it is off.
    pub ports: u32,
}

/// How long blocks last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocks {
    /// The first offence of a proven source.
    pub duration: Length,
    /// What could be forged; never longer than a proven one.
    pub unproven: Duration,
    /// Each further offence is blocked so many times as long.
    pub growth: f64,
    /// But no longer than this.
    pub longest: Length,
    /// After so long without one, an offence is forgiven.
    pub forgive: Duration,
    /// By how much of itself a duration is varied.
    pub jitter: f64,
}

/// What levels mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// From how many packets on.
    pub packets: [u32; 5],
    /// From which level on a climbing source is told of; 0: never.
    pub watch: u8,
    /// From which level on a convicted source is blocked; 0: at once.
    pub block: u8,
}

/// When a prefix is blocked as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweeps {
    /// How many convicted sources that behave alike; 0: never.
    pub sources: usize,
    /// The length of the IPv4 prefix.
    pub ipv4: u8,
    /// The lengths of the IPv6 prefixes, longest first.
    pub ipv6: Vec<u8>,
    /// How long.
    pub duration: Duration,
    /// How many at a time.
    pub most: usize,
}

/// When psentry stops blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brakes {
    /// More new blocks than this in a minute; 0: never.
    pub blocks: u32,
    /// For how long.
    pub pause: Duration,
}

impl Policy {
    /// The range of addresses that is counted, and blocked, as one. Narrower than usual where an ignored address
    /// would be hit.
    #[must_use]
    pub fn scope(&self, addr: std::net::IpAddr) -> Prefix {
        if addr.is_ipv4() {
            return Prefix::host(addr);
        }
        let group = Prefix::around(addr, IPV6_GROUP);
        if self.ignore.touches(group) || self.apart.touches(group) { Prefix::host(addr) } else { group }
    }

    /// Whether that scope is narrower than usual.
    pub(crate) fn is_apart(&self, scope: Prefix) -> bool {
        !scope.is_ipv4() && scope.len() > IPV6_GROUP
    }

    /// Whether somebody in that prefix is never judged: by the list of the ignored, or by a rule.
    pub(crate) fn spares(&self, prefix: Prefix) -> bool {
        self.ignore.touches(prefix) || self.named.iter().any(|rule| rule.spares(prefix))
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
    pub fn room(&self) -> Room {
        let keep = if self.slow.ports > 0 { self.window.max(self.slow.window) } else { self.window };
        Room { most: self.max_contacts, keep, window: self.window }
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
pub(crate) mod tests;
