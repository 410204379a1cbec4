//! The brakes: when sources of too many networks are to be blocked within a minute, that is no judgement of sources any
//! more, but somebody who plays with the judge, or a sensor gone wrong. Then psentry only watches for a while.
//!
//! What could be forged has a brake of its own, so that a flood of forged packets does not keep proven scanners from being
//! blocked. That of proven sources is off by default: whoever completes handshakes has to own the addresses, and how many
//! blocks there may be is said by `--max-blocks` of psentry-block.
//!
//! Both count networks, not sources: whoever has one network has all of its addresses, and can name them all in forged
//! packets; so one network counts once a minute, however many of its sources are convicted. And of one network no more than
//! [`MOST_OF_ONE`] sources a minute are blocked for what could be forged: each block takes room and time of psentry-block,
//! and its verdict and outcomes are always written to the log, however many come.
//!
//! psentry-block has a brake too (`tools/block/brake.rs`), as defence in depth: these know evidence and let the judge
//! give the reason in its verdict; that one also limits verdicts that no judge wrote.

use std::collections::BTreeMap;
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

/// How many sources of one network are blocked within a minute for what could be forged: as many as make a sweep. The
/// quarantine of psentry-trap shuts out the others as long as they go on.
const MOST_OF_ONE: u32 = 8;

/// One of the two brakes; moments in microseconds since 1970, as the state file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counter {
    /// Since when it counts.
    since: i64,
    /// In which networks sources were blocked since then, and how many in each.
    #[serde(default)]
    blocked: BTreeMap<u64, u32>,
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
    /// It is admitted then: so many other sources of its network were blocked before.
    Crowded(Timestamp),
    /// It is wider than the brake admits at any time.
    TooWide,
}

impl Admission {
    /// Until when it is turned down, if that has an end.
    #[must_use]
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Admission::Trips(until) | Admission::On(until) | Admission::Crowded(until) => Some(until),
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
    /// Whether it would turn down a block, without asking for one.
    pub fn is_on(&self, policy: &BrakePolicy, scope: Prefix, proven: bool, now: Timestamp) -> bool {
        let counter = if proven { &self.proven } else { &self.unproven };
        let ahead = counter.until > now.plus(policy.pause).micros();
        let on = now.micros() < counter.until && !ahead;
        let crowded = || {
            let count = network(scope).and_then(|network| counter.blocked.get(&network));
            !counter.is_over(now) && count.is_some_and(|&count| is_crowded(proven, count))
        };
        policy.most(proven) > 0 && (on || crowded())
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
        if counter.is_over(now) {
            counter.since = now.micros();
            counter.blocked.clear();
        }
        let networks = counter.blocked.len();
        let count = counter.blocked.entry(network).or_insert(0);
        if is_crowded(proven, *count) {
            return Admission::Crowded(moment(counter.since).plus(MINUTE));
        }
        if *count == 0 && networks >= most as usize {
            counter.until = now.plus(policy.pause).micros();
            counter.blocked.clear();
            return Admission::Trips(moment(counter.until));
        }
        *count = count.saturating_add(1);
        Admission::Admitted
    }
}

impl Counter {
    /// Whether the minute in which it counts is over.
    fn is_over(&self, now: Timestamp) -> bool {
        let since = Timestamp::from_micros(self.since).unwrap_or(now);
        self.since > now.micros() || now.since(since) >= MINUTE
    }
}

/// Whether so many sources of one network are as many as are blocked within a minute. Whoever proves his addresses has them,
/// and many of them are a sweep.
fn is_crowded(proven: bool, count: u32) -> bool {
    !proven && count >= MOST_OF_ONE
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
    fn a_network_counts_once_and_has_few_sources_a_minute_blocked() {
        let mut brake = Brake::default();
        let scope = |scope: String| scope.parse().unwrap();
        let mut admit = |text: String, secs| brake.admit(&POLICY, scope(text), false, at(secs));
        for n in 0..250 {
            let want = if n < MOST_OF_ONE { Admission::Admitted } else { Admission::Crowded(at(60)) };
            assert_eq!(admit(format!("192.0.2.{n}"), 0), want, "{n}");
            assert_eq!(admit(format!("2001:db8:7:{n:x}::/64"), 59), want, "{n}");
        }
        assert_eq!(admit("2001:db8:8::/64".to_owned(), 59), Admission::Admitted);
        let full = brake.clone();
        for (text, proven, secs, on) in [
            ("2001:db8:7:1::/64", false, 59, true),
            ("2001:db8:7:1::/64", false, 60, false),
            ("2001:db8:7:1::/64", true, 59, false),
            ("2001:db8:8:1::/64", false, 59, false),
        ] {
            assert_eq!(
                full.is_on(&POLICY, scope(text.to_owned()), proven, at(secs)),
                on,
                "{text} {proven} {secs}"
            );
        }
        let mut admit = |text: &str, secs| brake.admit(&POLICY, scope(text.to_owned()), false, at(secs));
        assert_eq!(admit("2001:db8:9::/64", 59), Admission::Trips(at(659)), "the fourth network");
        assert_eq!(admit("2001:db8:7:1::/64", 659), Admission::Admitted);
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
    fn a_state_that_counted_otherwise_is_read_and_begins_to_count() {
        let old = r#"{"proven":{"since":1,"blocks":9,"until":2},"unproven":{"since":3,"networks":[7,8],"until":4}}"#;
        let mut brake: Brake = serde_json::from_str(old).unwrap();
        assert_eq!((brake.unproven.until, brake.unproven.blocked.len()), (4, 0));
        brake.admit(&POLICY, host(1), false, at(0));
        let text = serde_json::to_string(&brake).unwrap();
        assert_eq!(serde_json::from_str::<Brake>(&text).unwrap(), brake, "{text}");
    }
}
