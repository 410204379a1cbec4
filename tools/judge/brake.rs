//! The brake: so many new blocks in a minute are no longer a judgement of sources, but somebody who plays with the
//! judge, or a sensor gone wrong. Then psentry only watches for a while. What could be forged has a brake of its own:
//! otherwise a flood of forged packets would keep proven scanners from being blocked.
//!
//! psentry-block has a brake too (`block/run/brake.rs`), as defence in depth: this one knows evidence and lets the judge
//! give the reason in its verdict; that one also limits verdicts that no judge wrote.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::{BrakePolicy, defaults};

/// The span over which blocks are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// One of the two brakes, in microseconds since 1970 as the state file has them: since when it counts, how many blocks,
/// and until when it is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    since: i64,
    blocks: u32,
    until: i64,
}

/// The brakes of proven and of unproven sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    proven: Counter,
    unproven: Counter,
}

/// What the brake makes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is admitted, and counted.
    Admitted,
    /// It trips the brake, which is on until then.
    Trips(Timestamp),
    /// The brake is on until then.
    On(Timestamp),
    /// It is wider than the brake admits at any time.
    TooWide,
}

impl Admission {
    /// Until when the brake is on, if it is.
    #[must_use]
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Admission::Trips(until) | Admission::On(until) => Some(until),
            Admission::Admitted | Admission::TooWide => None,
        }
    }
}

impl Brake {
    /// Whether it is on, without asking for a block.
    pub fn is_on(&self, policy: &BrakePolicy, proven: bool, now: Timestamp) -> bool {
        let counter = if proven { self.proven } else { self.unproven };
        let ahead = counter.until > now.plus(policy.pause).micros();
        policy.blocks > 0 && now.micros() < counter.until && !ahead
    }

    /// Asks for one more block. `now` is the stream's time: it goes back only when the clock was set back.
    pub fn admit(&mut self, policy: &BrakePolicy, scope: Prefix, proven: bool, now: Timestamp) -> Admission {
        let most = if scope.is_ipv4() { defaults::BRAKE_IPV4 } else { defaults::BRAKE_IPV6 };
        if scope.len() < most {
            return Admission::TooWide;
        }
        if policy.blocks == 0 {
            return Admission::Admitted;
        }
        let counter = if proven { &mut self.proven } else { &mut self.unproven };
        let moment = |micros| Timestamp::from_micros(micros).unwrap_or(now);
        // What is further ahead than a pause can be was written before the clock was set back.
        if counter.until > now.plus(policy.pause).micros() {
            counter.until = 0;
        }
        if now.micros() < counter.until {
            return Admission::On(moment(counter.until));
        }
        if counter.since > now.micros() || now.since(moment(counter.since)) >= MINUTE {
            (counter.since, counter.blocks) = (now.micros(), 0);
        }
        if counter.blocks >= policy.blocks {
            counter.until = now.plus(policy.pause).micros();
            counter.blocks = 0;
            return Admission::Trips(moment(counter.until));
        }
        counter.blocks += 1;
        Admission::Admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BrakePolicy = BrakePolicy { blocks: 3, pause: Duration::from_secs(600) };

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs).unwrap()
    }

    fn host() -> Prefix {
        "192.0.2.7".parse().unwrap()
    }

    #[test]
    fn one_block_too_many_trips_it_for_a_while() {
        let mut brake = Brake::default();
        let mut admit = |secs, proven| brake.admit(&POLICY, host(), proven, at(secs));
        assert_eq!([0, 1, 2].map(|secs| admit(secs, false)), [Admission::Admitted; 3]);
        assert_eq!(admit(3, false), Admission::Trips(at(603)));
        assert_eq!(admit(602, false), Admission::On(at(603)));
        assert_eq!(admit(4, true), Admission::Admitted, "forged packets do not brake what is proven");
        assert_eq!(admit(603, false), Admission::Admitted);
    }

    #[test]
    fn slow_blocks_and_no_brake_pass_and_wide_ones_never_do() {
        let mut brake = Brake::default();
        assert!((0..100).all(|n| brake.admit(&POLICY, host(), true, at(n * 30)) == Admission::Admitted));
        let none = BrakePolicy { blocks: 0, ..POLICY };
        assert!((0..100).all(|_| brake.admit(&none, host(), true, at(0)) == Admission::Admitted));
        for (scope, wide) in [("192.0.2.0/24", false), ("192.0.2.0/23", true), ("2001:db8::/47", true)] {
            let admission = brake.admit(&none, scope.parse().unwrap(), true, at(0));
            assert_eq!(admission == Admission::TooWide, wide, "{scope}");
        }
    }
}
