//! What the administrator decides: which rule, for how long, whom to leave alone. Every default stands here and
//! nowhere else; `--help` quotes it, and a test compares the manual page.

use std::time::Duration;

use psentry_records::Prefix;

use crate::{Flags, Ignore, JudgeError, Rule, Sequential, Trigger};

/// How long a touch counts. Longer catches slower scans and remembers more innocent slips.
pub(crate) const WINDOW: &str = "15m";

/// A proven scanner's block. Longer costs an innocent more, and the scanner hardly anything after the first hour.
pub(crate) const DURATION: &str = "1h";

/// The block of a source whose packets could be forged. What a forger can do to a third party lasts this long.
pub(crate) const UNPROVEN: &str = "1m";

/// How many sources are remembered. With one port each they take 30 MB, with the 32 ports that are remembered of one
/// source 110 MB.
pub(crate) const MAX_SOURCES: u32 = 100_000;

/// The largest `--trigger`; it bounds the memory of one source.
pub(crate) const LONGEST_TRIGGER: u32 = 100;

/// IPv6 hosts choose the lower 64 bits of their address at will (RFC 4291, 2.5.4; RFC 8981): so they are counted,
/// and blocked, by the upper 64.
const IPV6_GROUP: u8 = 64;

/// The dials of the judge.
#[derive(Debug)]
pub struct Policy {
    /// The rules, in order; the first that convicts decides.
    pub rules: Vec<Box<dyn Rule>>,
    /// How long a touch counts.
    pub window: Duration,
    /// How long a proven source is blocked.
    pub duration: Duration,
    /// How long an unproven one is; never longer than a proven one.
    pub unproven: Duration,
    /// Whether verdicts only say `watch`.
    pub observe: bool,
    /// Whom to leave alone.
    pub ignore: Ignore,
    /// How many sources to remember.
    pub max_sources: usize,
    /// How many contacts of one source to remember; the rules need no more.
    pub max_contacts: usize,
}

impl Policy {
    /// The policy that the flags describe.
    ///
    /// # Errors
    /// An ignore file that cannot be read, or a line in it that says nothing.
    pub fn from_flags(flags: &Flags) -> Result<Self, JudgeError> {
        let rule: Box<dyn Rule> = match flags.trigger {
            Some(ports) => Box::new(Trigger::new(ports)),
            None => Box::new(Sequential::default()),
        };
        Ok(Policy {
            max_contacts: flags.trigger.unwrap_or(0).max(32) as usize,
            rules: vec![rule],
            window: flags.window,
            duration: flags.duration,
            unproven: flags.unproven.min(flags.duration),
            observe: flags.observe,
            ignore: Ignore::read_all(&flags.ignore)?,
            max_sources: flags.max_sources as usize,
        })
    }

    /// The range of addresses that is counted, and blocked, as one. Narrower than usual where an ignored address
    /// would be hit.
    #[must_use]
    pub fn scope(&self, addr: std::net::IpAddr) -> Prefix {
        let group = Prefix::around(addr, if addr.is_ipv6() { IPV6_GROUP } else { 32 });
        if self.ignore.touches(group) { Prefix::host(addr) } else { group }
    }
}
