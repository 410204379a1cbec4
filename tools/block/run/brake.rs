//! The brake: at most so many new blocks a minute, whoever asks for them, as a last line of defence against a judge
//! gone mad. A pure decision: the moment is always given.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Over how long blocks are counted, and how long nobody must have been turned down until the brake lets go.
const MINUTE: Duration = Duration::from_secs(60);

/// The most that can be asked for: each is remembered for a minute.
const MOST: usize = 1_000_000;

/// How many new blocks a minute are let through: `--brake N/min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(usize);

/// That a rate is not written as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a number of blocks a minute from 1 to {MOST}, such as 600/min")]
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
    /// When the newest blocks were let through, at most so many.
    made: VecDeque<Instant>,
    /// How many were turned down since it took hold, and when the last one was.
    down: Option<(u64, Instant)>,
}

/// That the brake holds, for people who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// How many new blocks a minute it lets through.
    per_minute: usize,
    /// How many were turned down since it took hold.
    refused: u64,
}

impl Holding {
    /// As a sentence.
    pub(crate) fn sentence(self) -> String {
        let Holding { per_minute, refused } = self;
        let blocks = if refused == 1 { "block was" } else { "blocks were" };
        format!("the brake holds: {refused} new {blocks} turned down, with --brake {per_minute}/min")
    }
}

/// What becomes of a new block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is let through.
    No,
    /// It is turned down; why, and whether it is the first one.
    Yes { why: String, first: bool },
}

impl Brake {
    /// At most so many in any minute.
    pub(crate) fn new(Rate(most): Rate) -> Self {
        Brake { most, made: VecDeque::new(), down: None }
    }

    /// Whether a new block is turned down at the moment `now`; if not, it counts from now on.
    pub(crate) fn hold(&mut self, now: Instant) -> Held {
        while self.made.front().is_some_and(|made| now.saturating_duration_since(*made) >= MINUTE) {
            self.made.pop_front();
        }
        if self.made.len() < self.most {
            self.made.push_back(now);
            return Held::No;
        }
        let count = self.down.map_or(0, |(count, _)| count);
        self.down = Some((count.saturating_add(1), now));
        let why =
            format!("it would be one new block more within a minute than --brake {}/min allows", self.most);
        Held::Yes { why, first: count == 0 }
    }

    /// Whether one more would be turned down at the moment `now`; it counts nothing.
    pub(crate) fn would_hold(&self, now: Instant) -> bool {
        let recent = |made: &Instant| now.saturating_duration_since(*made) < MINUTE;
        self.made.len() >= self.most && self.made.front().is_some_and(recent)
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
        assert_eq!((brake.hold(at(0)), brake.hold(at(1))), (Held::No, Held::No));
        assert_eq!((brake.patience(at(1)), brake.let_go(at(1))), (None, None));
        let first = |held| matches!(held, Held::Yes { first: true, .. });
        assert_eq!(brake.holding(at(1)), None);
        assert!(first(brake.hold(at(2))) && !first(brake.hold(at(3))));
        assert_eq!(brake.holding(at(62)), Some(Holding { per_minute: 2, refused: 2 }));
        // Nobody has to be told that it let go for it to be so.
        assert_eq!(brake.holding(at(63)), None);
        // One more is let through, but the storm is not over.
        assert_eq!(brake.hold(at(60)), Held::No);
        assert_eq!((brake.patience(at(60)), brake.let_go(at(60))), (Some(Duration::from_secs(3)), None));
        assert_eq!((brake.let_go(at(63)), brake.let_go(at(64))), (Some(2), None));
        assert_eq!(brake.holds(), None);
    }

    proptest! {
        #[test]
        fn in_no_minute_are_more_let_through_and_none_is_turned_down_without_need(
            most in 1usize..20, steps in prop::collection::vec(0u64..30_000, 1..200)
        ) {
            let (mut brake, start) = (Brake::new(Rate(most)), Instant::now());
            let (mut now, mut made, mut down, mut told) = (start, Vec::new(), 0, 0);
            for step in steps {
                now += Duration::from_millis(step);
                told += brake.let_go(now).unwrap_or(0);
                let recent = made.iter().filter(|when| now - **when < MINUTE).count();
                let would = brake.would_hold(now);
                let held = brake.hold(now) != Held::No;
                prop_assert_eq!(would, held);
                prop_assert_eq!(held, recent >= most);
                if held { down += 1 } else { made.push(now) }
            }
            prop_assert_eq!(down, told + brake.holds().unwrap_or(0));
        }
    }
}
