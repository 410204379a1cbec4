//! Which records are written while more come than the rate allows. Pure: the time is given to it.
//!
//! What was decided and done is always written. Of the contacts, those that tell most come first, and a flood of one kind
//! leaves the others what is theirs: the rate is shared out in equal parts among the first contacts of sources that a
//! handshake proved, the first contacts of all others, the verdicts that only watch who is not proven, and all the rest.
//! For whoever sends packets under forged addresses, each is the first of its source, and two of them are a verdict.

use std::time::Instant;

use psentry_records::{Action, MAX_LINE, Prefix, Record};

use crate::sources::Sources;

/// How many sources are known to be in the log, with and without a handshake: 3 MB.
const SOURCES: usize = 65_536;

/// For how many seconds a share that was not used adds up: an ordinary scan of a thousand ports is written whole.
const SAVED: u64 = 300;

/// What a record is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Written, whatever the rate.
    Always,
    /// A contact of this source; whether a handshake proved it.
    Contact(Prefix, bool),
    /// A verdict that blocks nobody, on a source that may be forged.
    Watch,
    /// What tells least.
    Rest,
}

/// The part of the rate that is for records of one kind: a token bucket.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Bytes that may be written now.
    left: f64,
    /// Bytes a second.
    rate: f64,
    /// The most that adds up.
    most: f64,
    at: Instant,
}

/// The admission to the log.
pub(crate) struct Admission {
    proven: Share,
    unproven: Share,
    watched: Share,
    rest: Share,
    sources: Sources<(Prefix, bool)>,
}

impl Admission {
    /// At so many bytes a second, from `now` on.
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        let share = Share::new(rate, now);
        let sources = Sources::new(SOURCES);
        Admission { proven: share, unproven: share, watched: share, rest: share, sources }
    }

    /// Whether this record, of so many bytes, is to be written.
    pub(crate) fn admits(&mut self, record: &Record, bytes: usize, now: Instant) -> bool {
        match rank(record) {
            Rank::Always => true,
            Rank::Contact(source, proven) => {
                if self.sources.knows((source, proven)) {
                    return self.rest.take(bytes, now);
                }
                let share = if proven { &mut self.proven } else { &mut self.unproven };
                let first = share.take(bytes, now);
                if first {
                    self.sources.remember((source, proven));
                }
                first
            }
            Rank::Watch => self.watched.take(bytes, now),
            Rank::Rest => self.rest.take(bytes, now),
        }
    }

    /// How many sources were forgotten because there was no room.
    pub(crate) fn evicted(&self) -> u64 {
        self.sources.evicted
    }
}

fn rank(record: &Record) -> Rank {
    match record {
        Record::Probe(probe) => match probe.common.src_ip {
            // Of IPv6 a customer has a /64 at least.
            Some(address) => {
                let bits = if address.is_ipv4() { 32 } else { 64 };
                Rank::Contact(Prefix::around(address, bits), probe.body.handshake)
            }
            None => Rank::Rest,
        },
        Record::Verdict(verdict)
            if verdict.body.action == Action::Watch && verdict.body.handshake == Some(false) =>
        {
            Rank::Watch
        }
        Record::Verdict(_) | Record::Outcome(_) | Record::Vouch(_) | Record::Stats(_) => Rank::Always,
        Record::Other(_) => Rank::Rest,
    }
}

impl Share {
    /// A quarter of the rate, with all that adds up.
    #[allow(clippy::cast_precision_loss)] // a rate is far below 2^52 bytes
    fn new(rate: u64, now: Instant) -> Self {
        let rate = rate as f64 / 4.0;
        // At least one record of any length.
        let most = (rate * SAVED as f64).max(MAX_LINE as f64);
        Share { left: most, rate, most, at: now }
    }

    #[allow(clippy::cast_precision_loss)]
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = self.rate.mul_add(passed, self.left).min(self.most);
        self.at = now;
        let bytes = bytes as f64;
        let admitted = bytes <= self.left;
        if admitted {
            self.left -= bytes;
        }
        admitted
    }
}
