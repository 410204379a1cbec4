//! The brake: so many new blocks in a minute are no longer a judgement of sources, but somebody who plays with the
//! judge, or a sensor gone wrong. Then psentry only watches for a while. What could be forged has a brake of its own:
//! otherwise a flood of forged packets would keep proven scanners from being blocked.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::{Brakes, defaults};

/// The span over which blocks are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// One of the two brakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Half {
    since: i64,
    blocks: u32,
    until: i64,
}

/// Both brakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    proven: Half,
    unproven: Half,
}

/// What the brake makes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Braking {
    /// It may pass.
    Free,
    /// It trips the brake, which is on until then.
    Trips(Timestamp),
    /// The brake is on until then.
    On(Timestamp),
    /// It is wider than the brake lets pass at any time.
    Wide,
}

impl Brake {
    /// Whether it is on, without asking for a block.
    pub fn is_on(&self, policy: &Brakes, proven: bool, now: Timestamp) -> bool {
        let half = if proven { self.proven } else { self.unproven };
        let ahead = half.until > now.plus(policy.pause).micros();
        policy.blocks > 0 && now.micros() < half.until && !ahead
    }

    /// Asks for one more block. `now` is the stream's time: it goes back only when the clock was set back.
    pub fn press(&mut self, policy: &Brakes, scope: Prefix, proven: bool, now: Timestamp) -> Braking {
        let most = if scope.is_ipv4() { defaults::BRAKE_IPV4 } else { defaults::BRAKE_IPV6 };
        if scope.len() < most {
            return Braking::Wide;
        }
        if policy.blocks == 0 {
            return Braking::Free;
        }
        let half = if proven { &mut self.proven } else { &mut self.unproven };
        let moment = |micros| Timestamp::from_micros(micros).unwrap_or(now);
        // What lies further ahead than it can was noted before the clock was set back.
        if half.until > now.plus(policy.pause).micros() {
            half.until = 0;
        }
        if now.micros() < half.until {
            return Braking::On(moment(half.until));
        }
        if half.since > now.micros() || now.since(moment(half.since)) >= MINUTE {
            (half.since, half.blocks) = (now.micros(), 0);
        }
        if half.blocks >= policy.blocks {
            half.until = now.plus(policy.pause).micros();
            half.blocks = 0;
            return Braking::Trips(moment(half.until));
        }
        half.blocks += 1;
        Braking::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Brakes = Brakes { blocks: 3, pause: Duration::from_secs(600) };

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs).unwrap()
    }

    fn host() -> Prefix {
        "192.0.2.7".parse().unwrap()
    }

    #[test]
    fn one_block_too_many_trips_it_for_a_while() {
        let mut brake = Brake::default();
        let mut press = |secs, proven| brake.press(&POLICY, host(), proven, at(secs));
        assert_eq!([0, 1, 2].map(|secs| press(secs, false)), [Braking::Free; 3]);
        assert_eq!(press(3, false), Braking::Trips(at(603)));
        assert_eq!(press(602, false), Braking::On(at(603)));
        assert_eq!(press(4, true), Braking::Free, "forged packets do not brake what is proven");
        assert_eq!(press(603, false), Braking::Free);
    }

    #[test]
    fn slow_blocks_and_no_brake_pass_and_wide_ones_never_do() {
        let mut brake = Brake::default();
        assert!((0..100).all(|n| brake.press(&POLICY, host(), true, at(n * 30)) == Braking::Free));
        let none = Brakes { blocks: 0, ..POLICY };
        assert!((0..100).all(|_| brake.press(&none, host(), true, at(0)) == Braking::Free));
        for (scope, wide) in [("192.0.2.0/24", false), ("192.0.2.0/23", true), ("2001:db8::/47", true)] {
            let braking = brake.press(&none, scope.parse().unwrap(), true, at(0));
            assert_eq!(braking == Braking::Wide, wide, "{scope}");
        }
    }
}
