//! The brakes: when sources of too many networks are to be blocked within a minute, that is no judgement of sources any
//! more, but somebody who plays with the judge, or a sensor gone wrong. Then psentry only watches for a while.
//!
//! What could be forged has a brake of its own, so that a flood of forged packets does not keep proven scanners from being
//! blocked. That of proven sources is off by default: whoever completes handshakes has to own the addresses, and how many
//! blocks there may be is said by `--max-blocks` of psentry-block.
//!
//! Both count networks, not sources: whoever has one network has all of its addresses, and can name them all in forged
//! packets; so one network counts once a minute, however many of its sources are convicted.
//!
//! psentry-block has a brake too (`block/run/brake.rs`), as defence in depth: these know evidence and let the judge
//! give the reason in its verdict; that one also limits verdicts that no judge wrote.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::BrakePolicy;

/// The span over which networks are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// The length of the networks that are counted, of IPv4 and of IPv6: what is announced on the Internet is no smaller. No
/// wider prefix is ever blocked.
const NETWORK: (u8, u8) = (24, 48);

/// One of the two brakes; moments in microseconds since 1970, as the state file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    /// Since when it counts.
    since: i64,
    /// The networks in which sources were blocked since then.
    #[serde(default)]
    networks: BTreeSet<u64>,
    /// Until when it is on.
    until: i64,
}

/// The brakes of proven and of unproven sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// The network around a scope as a number, of IPv4 above all those of IPv6; `None`: the scope is wider than that.
fn network(scope: Prefix) -> Option<u64> {
    let len = if scope.is_ipv4() { NETWORK.0 } else { NETWORK.1 };
    let first = match scope.addr() {
        IpAddr::V4(addr) => 1 << NETWORK.1 | u64::from(addr.to_bits() >> (32 - len)),
        IpAddr::V6(addr) => u64::try_from(addr.to_bits() >> (128 - u32::from(len))).unwrap_or(0),
    };
    (scope.len() >= len).then_some(first)
}

impl Brake {
    /// Whether it is on, without asking for a block.
    pub fn is_on(&self, policy: &BrakePolicy, proven: bool, now: Timestamp) -> bool {
        let counter = if proven { &self.proven } else { &self.unproven };
        let ahead = counter.until > now.plus(policy.pause).micros();
        policy.most(proven) > 0 && now.micros() < counter.until && !ahead
    }

    /// Asks for one more block. `now` is the stream's time: it goes back only when the clock was set back.
    pub fn admit(&mut self, policy: &BrakePolicy, scope: Prefix, proven: bool, now: Timestamp) -> Admission {
        let Some(network) = network(scope) else { return Admission::TooWide };
        let most = policy.most(proven);
        if most == 0 {
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
            counter.since = now.micros();
            counter.networks.clear();
        }
        if counter.networks.contains(&network) {
            return Admission::Admitted;
        }
        if counter.networks.len() >= most as usize {
            counter.until = now.plus(policy.pause).micros();
            counter.networks.clear();
            return Admission::Trips(moment(counter.until));
        }
        counter.networks.insert(network);
        Admission::Admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BrakePolicy = BrakePolicy { unproven: 3, proven: 0, pause: Duration::from_secs(600) };

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs).unwrap()
    }

    /// An address of the n-th network.
    fn host(n: u64) -> Prefix {
        format!("10.0.{n}.7").parse().unwrap()
    }

    #[test]
    fn one_network_too_many_trips_it_for_a_while() {
        let mut brake = Brake::default();
        let mut admit = |secs, net, proven| brake.admit(&POLICY, host(net), proven, at(secs));
        assert_eq!([0, 1, 2].map(|n| admit(n, n, false)), [Admission::Admitted; 3]);
        assert_eq!(admit(3, 3, false), Admission::Trips(at(603)));
        assert_eq!(admit(602, 1, false), Admission::On(at(603)));
        assert_eq!(admit(4, 3, true), Admission::Admitted, "forged packets do not brake what is proven");
        assert_eq!(admit(603, 3, false), Admission::Admitted);
    }

    #[test]
    fn a_network_counts_once_however_many_sources_it_has() {
        let mut brake = Brake::default();
        let mut admit = |scope: String| brake.admit(&POLICY, scope.parse().unwrap(), false, at(0));
        assert!((0..254).all(|n| admit(format!("192.0.2.{n}")) == Admission::Admitted));
        assert!((0..310).all(|n| admit(format!("2001:db8:7:{n:x}::/64")) == Admission::Admitted));
        assert_eq!(admit("2001:db8:8::/64".to_owned()), Admission::Admitted);
        assert_eq!(admit("2001:db8:9::/64".to_owned()), Admission::Trips(at(600)), "the fourth network");
    }

    #[test]
    fn the_brake_of_proven_sources_is_off_unless_it_is_asked_for() {
        let mut brake = Brake::default();
        assert!((0..1000).all(|n| {
            let scope = Prefix::host(std::net::Ipv4Addr::from(n << 8).into());
            brake.admit(&POLICY, scope, true, at(0)) == Admission::Admitted
        }));
        let policy = BrakePolicy { proven: 1, unproven: 0, ..POLICY };
        assert_eq!(brake.admit(&policy, host(1), true, at(0)), Admission::Admitted);
        assert_eq!(brake.admit(&policy, host(2), true, at(0)), Admission::Trips(at(600)));
        assert_eq!(brake.admit(&policy, host(2), false, at(0)), Admission::Admitted);
    }

    #[test]
    fn slow_blocks_pass_and_wide_ones_never_do() {
        let mut brake = Brake::default();
        assert!((0..100).all(|n| brake.admit(&POLICY, host(n), false, at(n * 30)) == Admission::Admitted));
        for (scope, wide) in [("192.0.2.0/24", false), ("192.0.2.0/23", true), ("2001:db8::/47", true)] {
            let admission = brake.admit(&POLICY, scope.parse().unwrap(), true, at(0));
            assert_eq!(admission == Admission::TooWide, wide, "{scope}");
        }
    }

    #[test]
    fn a_state_that_counted_blocks_is_read_and_begins_to_count_networks() {
        let old =
            r#"{"proven":{"since":1,"blocks":9,"until":2},"unproven":{"since":3,"blocks":300,"until":4}}"#;
        let brake: Brake = serde_json::from_str(old).unwrap();
        assert_eq!((brake.unproven.until, brake.unproven.networks.len()), (4, 0));
    }
}
