//! Blocks: what is wanted of a scope, and what is there of it; which of two blocks shuts more, by their ports and whether they spare
//! what is established, and what they are together. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use psentry_records::{Prefix, Proto, Timestamp};

/// The transports that have ports, by their numbers (IANA).
pub(crate) const TCP: u8 = 6;
const UDP: u8 = 17;

/// How many ports are shut one by one: eight rules of iptables. Beyond that the source is shut out as a whole.
pub const MOST_PORTS: usize = 120;

/// How far apart two ends may be and be the same: the kernel's clock and ours are not the same, ipset is given whole seconds, and
/// notes have whole seconds.
pub(crate) const SLACK: Duration = Duration::from_secs(2);

/// A block: its end, and what is told about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// When it ends; `None`: when somebody unblocks it.
    pub until: Option<Timestamp>,
    /// The rule that decided, for people who list.
    pub rule: Option<String>,
    /// The address that convicted itself (`src_ip` of the verdict), for commands.
    pub addr: Option<IpAddr>,
    /// A port that was probed, for commands.
    pub port: Option<u16>,
    /// Its transport, and that of `ports`: where it is neither TCP nor UDP, both are blocked.
    pub proto: Option<Proto>,
    /// The ports that alone are blocked, in order, at most `MOST_PORTS`; empty: the source is blocked as a whole.
    pub ports: Vec<u16>,
    /// No handshake proves that the source is who it says: established connections are left alone, for anybody may have
    /// forged it.
    pub unproven: bool,
    /// The moment of the verdict, for people; `None`: not known, it was found.
    pub since: Option<Timestamp>,
    /// The sentence of the verdict, for people: printable and short (see [`psentry_stage::clean`]).
    pub reason: Option<String>,
    /// The 1st, 2nd, ... time that this source is convicted, for commands.
    pub offence: Option<u32>,
}

/// A block that is there, as far as its backend can tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who is blocked.
    pub scope: Prefix,
    /// When it ends; `None`: when somebody deletes it. Where the kernel and the note beside a block disagree, this is what the
    /// note says, and the entry is `damaged`.
    pub until: Option<Timestamp>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The moment of the verdict.
    pub since: Option<Timestamp>,
    /// The ports that alone are blocked, in order; empty: all of them.
    pub ports: Vec<u16>,
    /// Their transport; `None`: TCP and UDP.
    pub proto: Option<Proto>,
    /// It leaves established connections alone.
    pub unproven: bool,
    /// Something of it is missing, or something of it is there twice: it is put again.
    pub damaged: bool,
}

impl Block {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether it lasts at least as long as a block that ends at `other`.
    #[must_use]
    pub fn outlasts(&self, other: Option<Timestamp>) -> bool {
        self.until.is_none_or(|until| other.is_some_and(|other| until >= other))
    }

    /// How many seconds from `now`, rounded up; `None`: without end.
    #[must_use]
    pub fn seconds_left(&self, now: Timestamp) -> Option<u64> {
        self.until
            .map(|until| until.since(now).as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX))
    }

    /// The transports of the ports that are shut, by their numbers.
    #[must_use]
    pub fn transports(&self) -> &'static [u8] {
        match self.proto {
            Some(Proto::Tcp) => &[TCP],
            Some(Proto::Udp) => &[UDP],
            _ => &[TCP, UDP],
        }
    }

    /// Whether all that `other` shuts is shut, for at least as long.
    #[must_use]
    pub fn covers(&self, other: &Block) -> bool {
        self.outlasts(other.until) && self.shuts(other)
    }

    /// Whether all that `other` shuts is shut, however long.
    #[must_use]
    pub fn shuts(&self, other: &Block) -> bool {
        let ports = || {
            !other.ports.is_empty()
                && other.ports.iter().all(|port| self.ports.contains(port))
                && other.transports().iter().all(|transport| self.transports().contains(transport))
        };
        (self.ports.is_empty() || ports()) && (other.unproven || !self.unproven)
    }

    /// What shuts all that this one and `other` shut, until both are over.
    #[must_use]
    pub fn joined(&self, other: &Block) -> Block {
        let longer = if self.outlasts(other.until) { self } else { other };
        // What was proven once stays so to the end of both.
        let unproven = self.unproven && other.unproven;
        let mut joined = Block { ports: Vec::new(), unproven, ..longer.clone() };
        if !self.ports.is_empty() && !other.ports.is_empty() {
            joined.ports = probed(self.ports.iter().chain(&other.ports).copied());
        }
        if !joined.ports.is_empty() && self.transports() != other.transports() {
            joined.proto = None;
        }
        joined
    }

    /// The same, with its moments as another clock has them.
    #[must_use]
    pub fn with_moments(&self, moment: impl Fn(Timestamp) -> Timestamp) -> Block {
        Block { until: self.until.map(&moment), since: self.since.map(&moment), ..self.clone() }
    }

    /// What a backend that was told this lists of it.
    #[must_use]
    pub fn entry(&self, scope: Prefix) -> Entry {
        let Block { until, since, proto, unproven, .. } = *self;
        let (rule, ports) = (self.rule.clone(), self.ports.clone());
        Entry { scope, until, rule, since, ports, proto, unproven, damaged: false }
    }
}

impl Entry {
    /// A block of a whole scope until its end.
    #[must_use]
    pub fn new(scope: Prefix, until: Option<Timestamp>, rule: Option<String>) -> Self {
        let (since, ports, proto) = (None, Vec::new(), None);
        Entry { scope, until, rule, since, ports, proto, unproven: false, damaged: false }
    }

    /// The same, with its moments as another clock has them.
    #[must_use]
    pub fn with_moments(&self, moment: impl Fn(Timestamp) -> Timestamp) -> Entry {
        Entry { until: self.until.map(&moment), since: self.since.map(&moment), ..self.clone() }
    }

    /// Both as one.
    #[must_use]
    pub fn joined(&self, other: &Entry) -> Entry {
        let joined = Block::from(self).joined(&Block::from(other)).entry(self.scope);
        Entry { damaged: self.damaged || other.damaged, ..joined }
    }

    /// Whether it is over when `block` is, without anybody deleting it. Somebody may have put it there again with another end.
    #[must_use]
    pub fn ends_with(&self, block: &Block) -> bool {
        !self.damaged && alike(self.until, block.until)
    }

    /// Whether this is what a backend has that was given `block`: the same end, or one that is hardly later, the same
    /// ports, the same regard for established connections.
    #[must_use]
    pub fn is(&self, block: &Block) -> bool {
        let transports = |proto| Block { proto, ..Block::default() }.transports();
        self.ends_with(block)
            // What ends too early is not what was asked for.
            && self.until.zip(block.until).is_none_or(|(until, wanted)| until >= wanted)
            && self.unproven == block.unproven
            && self.ports == block.ports
            && (self.ports.is_empty() || transports(self.proto) == block.transports())
    }
}

impl From<&Entry> for Block {
    /// All that is known of a block from what is there.
    fn from(entry: &Entry) -> Self {
        let Entry { until, since, proto, unproven, .. } = *entry;
        let (rule, ports) = (entry.rule.clone(), entry.ports.clone());
        Block { until, rule, since, proto, ports, unproven, ..Block::default() }
    }
}

/// Whether two ends are the same, as far as clocks are.
#[must_use]
pub fn alike(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.since(b).max(b.since(a)) <= SLACK,
        (a, b) => a == b,
    }
}

/// The ports that alone are to be shut, of those that were probed: each once, or none if they are too many.
#[must_use]
pub fn probed(ports: impl Iterator<Item = u16>) -> Vec<u16> {
    let ports: BTreeSet<u16> = ports.collect();
    if ports.len() > MOST_PORTS { Vec::new() } else { ports.into_iter().collect() }
}

/// The transport with this number; `None`: it has no ports.
#[must_use]
pub fn transport(number: u8) -> Option<Proto> {
    Some(Proto::from_number(number)).filter(|proto| [Proto::Tcp, Proto::Udp].contains(proto))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(ports: &[u16], proto: Option<Proto>, seconds: u64) -> Block {
        Block { ports: ports.to_vec(), proto, until: Timestamp::from_secs(seconds), ..Block::default() }
    }

    #[test]
    fn a_block_covers_what_it_shuts_for_as_long_as_it_does() {
        let tcp = Some(Proto::Tcp);
        let ssh = block(&[22], tcp, 60);
        for (other, covers) in [
            (block(&[22], tcp, 60), true),
            (block(&[22], tcp, 61), false),
            (block(&[22, 23], tcp, 60), false),
            (block(&[22], Some(Proto::Udp), 60), false),
            (block(&[22], None, 60), false),
            (block(&[], tcp, 60), false),
        ] {
            assert_eq!(ssh.covers(&other), covers, "{other:?}");
            assert_eq!(
                block(&[], Some(Proto::Icmp), 60).covers(&other),
                other.until == ssh.until,
                "{other:?}"
            );
        }
        assert!(block(&[22, 53], None, 60).covers(&block(&[53], Some(Proto::Udp), 60)));
    }

    #[test]
    fn what_ends_with_a_block_needs_no_deletion() {
        let wanted = block(&[], None, 60);
        let there = |seconds| Entry::new("192.0.2.7".parse().unwrap(), Timestamp::from_secs(seconds), None);
        let endless = Entry { until: None, ..there(60) };
        let damaged = Entry { damaged: true, ..there(60) };
        for (entry, with) in
            [(there(60), true), (there(61), true), (there(100), false), (endless, false), (damaged, false)]
        {
            assert_eq!(entry.ends_with(&wanted), with, "{entry:?}");
        }
    }

    #[test]
    fn two_blocks_are_one_that_covers_both() {
        let (tcp, udp) = (Some(Proto::Tcp), Some(Proto::Udp));
        let ssh = block(&[22], tcp, 60);
        assert_eq!(ssh.joined(&block(&[21, 22], tcp, 30)), block(&[21, 22], tcp, 60));
        assert_eq!(ssh.joined(&block(&[53], udp, 90)), block(&[22, 53], None, 90));
        assert_eq!(ssh.joined(&block(&[], udp, 30)), block(&[], tcp, 60));
        let many = block(&(100..100 + MOST_PORTS as u16).collect::<Vec<_>>(), tcp, 60);
        assert_eq!(many.joined(&many).ports.len(), MOST_PORTS);
        assert!(many.joined(&ssh).ports.is_empty(), "too many to shut one by one");
    }

    #[test]
    fn what_spares_what_is_established_shuts_less() {
        let proven = block(&[], None, 60);
        let unproven = Block { unproven: true, ..proven.clone() };
        assert!(proven.covers(&unproven) && !unproven.covers(&proven) && unproven.covers(&unproven));
        let longer = Block { unproven: true, ..block(&[], None, 90) };
        // Never back while it lasts.
        assert_eq!(proven.joined(&longer), block(&[], None, 90));
        assert_eq!(unproven.joined(&longer), longer);
    }

    #[test]
    fn entries_of_one_scope_are_one() {
        let entry = |scope: &str, ports: &[u16], proto| Entry {
            ports: ports.to_vec(),
            proto,
            ..Entry::new(scope.parse().unwrap(), None, None)
        };
        let (tcp, udp) = (Some(Proto::Tcp), Some(Proto::Udp));
        let (one, other) = (entry("192.0.2.7", &[22], tcp), entry("192.0.2.7", &[53], udp));
        assert_eq!(one.joined(&other), entry("192.0.2.7", &[22, 53], None));
        let whole = entry("192.0.2.7", &[], None);
        assert_eq!(one.joined(&whole), entry("192.0.2.7", &[], tcp));
    }
}
