//! The brake: in at most so many networks a minute are new blocks made that no handshake proves, so that whoever forges
//! packets shuts out no more than that. A network is a /24 of IPv4 or a /48 of IPv6, which one customer may have: however
//! many addresses are forged in it, it counts once. Proven blocks are never held up. A pure decision: the moment is always
//! given.

use std::collections::{HashSet, VecDeque};
use std::str::FromStr;
use std::time::{Duration, Instant};

use psentry_records::Prefix;
use serde::{Deserialize, Serialize};

/// Over how long blocks are counted, and how long nobody must have been turned down until the brake lets go.
const MINUTE: Duration = Duration::from_secs(60);

/// The highest rate that can be set: each network is remembered for a minute.
const MOST: usize = 1_000_000;

/// In how many networks a minute new blocks are let through: `--brake N/min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(usize);

/// That a rate is not written as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a number of networks a minute from 1 to {MOST}, such as 600/min")]
pub struct NoRate(String);

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let number = text.strip_suffix("/min").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let number = number.and_then(|digits| digits.parse().ok()).filter(|n| (1..=MOST).contains(n));
        number.map(Rate).ok_or_else(|| NoRate(text.chars().take(40).collect()))
    }
}

/// What of a minute counts.
pub(crate) struct Brake {
    most: usize,
    /// The networks that count, at most so many, and when the first block of each was let through.
    made: VecDeque<(Instant, Prefix)>,
    networks: HashSet<Prefix>,
    /// How many were turned down since it took hold, and when the last one was.
    down: Option<(u64, Instant)>,
}

/// That the brake holds, for people who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// In how many networks a minute it lets new blocks through.
    pub(crate) per_minute: usize,
    /// How many were turned down since it took hold.
    refused: u64,
}

impl Holding {
    /// As a sentence.
    pub(crate) fn sentence(self) -> String {
        let Holding { per_minute, refused } = self;
        let blocks = if refused == 1 { "block was" } else { "blocks were" };
        format!("the brake holds: {refused} unproven {blocks} turned down, with --brake {per_minute}/min")
    }
}

/// That a new block is turned down; why, and whether it is the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TurnedDown {
    pub(crate) why: String,
    pub(crate) first: bool,
}

impl Brake {
    /// At most so many in any minute.
    pub(crate) fn new(Rate(most): Rate) -> Self {
        Brake { most, made: VecDeque::new(), networks: HashSet::new(), down: None }
    }

    /// Whether a new block in this network is let through at the moment `now`; it counts nothing.
    fn lets_through(&mut self, network: Prefix, now: Instant) -> bool {
        while let Some(&(made, over)) = self.made.front()
            && now.saturating_duration_since(made) >= MINUTE
        {
            self.made.pop_front();
            self.networks.remove(&over);
        }
        self.networks.contains(&network) || self.made.len() < self.most
    }

    /// Turns down a new block at the moment `now`, or its network counts from now on.
    pub(crate) fn hold(&mut self, scope: Prefix, now: Instant) -> Option<TurnedDown> {
        let network = network(scope);
        if self.lets_through(network, now) {
            if self.networks.insert(network) {
                self.made.push_back((now, network));
            }
            return None;
        }
        let count = self.down.map_or(0, |(count, _)| count);
        self.down = Some((count.saturating_add(1), now));
        let why = format!(
            "no handshake proves it, and {network} would be one network more within a minute than --brake {}/min allows",
            self.most
        );
        Some(TurnedDown { why, first: count == 0 })
    }

    /// Whether one more would be turned down at the moment `now`; it counts nothing.
    pub(crate) fn would_hold(&mut self, scope: Prefix, now: Instant) -> bool {
        !self.lets_through(network(scope), now)
    }

    /// When it is to be looked whether the brake has let go; `None`: it holds nobody.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        let (_, last) = self.down?;
        Some(MINUTE.saturating_sub(now.saturating_duration_since(last)))
    }

    /// How many were turned down, once nobody was for a minute; tells it once.
    pub(crate) fn let_go(&mut self, now: Instant) -> Option<u64> {
        let (count, _) = self.down.filter(|_| self.patience(now).is_some_and(|left| left.is_zero()))?;
        self.down = None;
        Some(count)
    }

    /// Whether somebody was turned down within the last minute.
    pub(crate) fn holding(&self, now: Instant) -> Option<Holding> {
        let (refused, _) = self.down.filter(|_| self.patience(now).is_some_and(|left| !left.is_zero()))?;
        Some(Holding { per_minute: self.most, refused })
    }

    /// How many were turned down so far, where it still holds at the end.
    pub(crate) fn holds(&self) -> Option<u64> {
        self.down.map(|(count, _)| count)
    }
}

/// As what it counts.
fn network(scope: Prefix) -> Prefix {
    let len = if scope.is_ipv4() { 24 } else { 48 };
    Prefix::around(scope.addr(), len.min(scope.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_a_number_a_minute() {
        assert_eq!("600/min".parse(), Ok(Rate(600)));
        for text in ["", "600", "0/min", "-1/min", "+1/min", "/min", "600/h", "1000001/min", "1.5/min"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("such as 600/min"), "{text}: {error}");
        }
    }

    #[test]
    fn it_tells_once_that_it_holds_and_once_that_it_has_let_go() {
        let (mut brake, start) = (Brake::new(Rate(2)), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let scopes = ["192.0.2.7", "2001:db8::/64", "198.51.100.7", "2001:db8:1::/64"];
        let [a, b, c, d] = scopes.map(|scope| scope.parse().unwrap());
        assert_eq!((brake.hold(a, at(0)), brake.hold(b, at(1))), (None, None));
        assert_eq!((brake.patience(at(1)), brake.let_go(at(1))), (None, None));
        let first = |held: Option<TurnedDown>| held.is_some_and(|held| held.first);
        assert_eq!(brake.holding(at(1)), None);
        assert!(first(brake.hold(c, at(2))) && !first(brake.hold(d, at(3))));
        // Whoever forges a whole network presses it once.
        for near in ["192.0.2.0/24", "192.0.2.255", "2001:db8:0:ffff::/64", "2001:db8::/48"] {
            assert_eq!(brake.hold(near.parse().unwrap(), at(3)), None, "{near}");
        }
        assert!(!first(brake.hold("192.0.0.0/16".parse().unwrap(), at(3))), "it is none of its networks");
        assert_eq!(brake.holding(at(62)), Some(Holding { per_minute: 2, refused: 3 }));
        // Nobody has to be told that it let go for it to be so.
        assert_eq!(brake.holding(at(63)), None);
        // One more is let through, but the storm is not over.
        assert_eq!(brake.hold(c, at(60)), None);
        assert_eq!((brake.patience(at(60)), brake.let_go(at(60))), (Some(Duration::from_secs(3)), None));
        assert_eq!((brake.let_go(at(63)), brake.let_go(at(64))), (Some(3), None));
        assert_eq!(brake.holds(), None);
    }

    proptest! {
        #[test]
        fn in_no_minute_are_more_let_through_and_none_is_turned_down_without_need(
            most in 1usize..20, steps in prop::collection::vec((0u64..30_000, 0u8..40), 1..200)
        ) {
            let (mut brake, start) = (Brake::new(Rate(most)), Instant::now());
            let (mut now, mut made, mut down, mut told) = (start, Vec::new(), 0, 0);
            for (step, network) in steps {
                let scope = format!("198.18.{network}.7").parse().unwrap();
                now += Duration::from_millis(step);
                told += brake.let_go(now).unwrap_or(0);
                let recent = made.iter().filter(|(when, _)| now - *when < MINUTE);
                let counts = recent.clone().any(|(_, other)| *other == network);
                let recent = recent.count();
                let would = brake.would_hold(scope, now);
                let held = brake.hold(scope, now).is_some();
                prop_assert_eq!(would, held);
                prop_assert_eq!(held, recent >= most && !counts);
                if held { down += 1 } else if !counts { made.push((now, network)) }
            }
            prop_assert_eq!(down, told + brake.holds().unwrap_or(0));
        }
    }
}
