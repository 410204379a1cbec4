//! Blocks: what is wanted of a scope, and what is there of it. Pure. Which of two blocks blocks more is in `ports.rs`.

use std::net::IpAddr;
use std::time::Duration;

use psentry_records::{Prefix, Proto, Timestamp};

/// The transports that have ports, by their numbers (IANA).
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

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
    /// The ports that alone are blocked, in order, at most `ports::MOST_PORTS`; empty: the source is blocked as a whole.
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
        match (self.until, other) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(until), Some(other)) => until >= other,
        }
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

    /// Whether this is what a backend has that was given `block`: the same end, or one that is later by `slack` at most, the same
    /// ports, the same regard for established connections.
    #[must_use]
    pub fn is(&self, block: &Block, slack: Duration) -> bool {
        let transports = |proto| Block { proto, ..Block::default() }.transports();
        !self.damaged
            && alike(self.until, block.until, slack)
            // What ends too early is not what was asked for.
            && self.until.zip(block.until).is_none_or(|(until, wanted)| until >= wanted)
            && self.unproven == block.unproven
            && self.ports == block.ports
            && (self.ports.is_empty() || transports(self.proto) == block.transports())
    }
}

impl From<&Entry> for Block {
    /// All that can be told of a block by what is there.
    fn from(entry: &Entry) -> Self {
        let Entry { until, since, proto, unproven, .. } = *entry;
        let (rule, ports) = (entry.rule.clone(), entry.ports.clone());
        Block { until, rule, since, proto, ports, unproven, ..Block::default() }
    }
}

/// Whether two ends are no further apart than `slack`.
#[must_use]
pub fn alike(a: Option<Timestamp>, b: Option<Timestamp>, slack: Duration) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.since(b).max(b.since(a)) <= slack,
        (a, b) => a == b,
    }
}
