//! The time of the stream: it comes from the records and never goes back, except when the clock that they come from
//! was set. One record from a far future or past must not end vouchers, sweeps and the brake: a jump counts only when a
//! second record bears it out. Until then it counts for its own source alone, at its own time.
//!
//! Forwards a jump is what no sensor's silence explains, [`CLOCK_JUMP`]; up to that one record moves the stream, for after a
//! quiet night nobody waits for a second. Backwards it is any step that is longer than records are late, [`LATENESS`]: a
//! clock that was two days ahead and is set right would else have every source that it convicted left alone for two days.
//!
//! Two in a row of a sensor whose clock is wrong still move it, and two in a row of another move it back. To ask for more
//! would not end that, for a scan is many records; and after weeks of silence a quiet network would wait for them, with a
//! login that is long over.

use std::time::Duration;

use psentry_records::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::{CLOCK_JUMP, LATENESS};

/// The time of the stream, in microseconds since 1970 as the state file has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    now: Option<i64>,
    /// Where one record claimed that the stream jumped to, until a second one confirms it.
    claimed: Option<i64>,
    /// By how much it was set back last: what was dated by the clock before lies so much ahead.
    #[serde(default)]
    set_back: u64,
}

/// What the clock makes of a record's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The record's own time, however far off.
    pub at: Timestamp,
    /// The time of the stream with this record.
    pub now: Timestamp,
    /// Whether the stream jumped to `now`, backwards or forwards.
    pub jumped: bool,
    /// Whether the record is older than the stream.
    pub late: bool,
}

impl Tick {
    /// Whether the record is further from the stream than sensors fall silent: it counts for its own source alone.
    #[must_use]
    pub fn is_outlier(&self) -> bool {
        apart(self.at.micros(), self.now.micros())
    }

    /// The earlier of the two: a record that comes late was true at its own time, and one that runs ahead is not yet.
    #[must_use]
    pub fn earlier(&self) -> Timestamp {
        self.at.min(self.now)
    }
}

fn apart(one: i64, other: i64) -> bool {
    u128::from(one.abs_diff(other)) > CLOCK_JUMP.as_micros()
}

impl Clock {
    /// Where the stream is; `None` before the first record.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        Timestamp::from_micros(self.now?)
    }

    /// By how much the clock was set back last.
    #[must_use]
    pub fn set_back(&self) -> Duration {
        Duration::from_micros(self.set_back)
    }

    /// Takes the time of a record.
    pub fn tick(&mut self, at: Timestamp) -> Tick {
        let (micros, now) = (at.micros(), self.now.unwrap_or(at.micros()));
        let behind = micros < now && u128::from(now.abs_diff(micros)) > LATENESS.as_micros();
        if !behind && !apart(micros, now) {
            self.now = Some(now.max(micros));
            // A claim that nobody bore out was one wrong record.
            self.claimed = None;
            return self.tick_of(at, micros < now, false);
        }
        if self.claimed.is_some_and(|claimed| !apart(claimed, micros)) {
            if micros < now {
                self.set_back = now.abs_diff(micros);
            }
            (self.now, self.claimed) = (Some(micros), None);
            return self.tick_of(at, false, true);
        }
        self.claimed = Some(micros);
        self.tick_of(at, micros < now, false)
    }

    fn tick_of(&self, at: Timestamp, late: bool, jumped: bool) -> Tick {
        Tick { at, now: self.now().unwrap_or(at), jumped, late }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + days * 86_400).unwrap()
    }

    #[test]
    fn late_records_keep_their_time_and_the_stream_keeps_its_own() {
        let mut clock = Clock::default();
        clock.tick(at(10));
        assert_eq!(clock.tick(at(9)), Tick { at: at(9), now: at(10), jumped: false, late: true });
        assert_eq!(clock.tick(at(12)).now, at(12));
    }

    #[test]
    fn one_record_from_the_future_leaves_the_stream_where_it_is_and_two_move_it() {
        let mut clock = Clock::default();
        clock.tick(at(10));
        assert_eq!(clock.tick(at(1000)), Tick { at: at(1000), now: at(10), jumped: false, late: false });
        assert_eq!(clock.tick(at(11)).now, at(11));
        assert_eq!(clock.tick(at(1000)).now, at(11), "the first one was forgotten");
        assert_eq!(clock.tick(at(1001)), Tick { at: at(1001), now: at(1001), jumped: true, late: false });
        // And back again, when the clock was set right.
        assert_eq!(clock.tick(at(12)), Tick { at: at(12), now: at(1001), jumped: false, late: true });
        assert_eq!(clock.tick(at(12)), Tick { at: at(12), now: at(12), jumped: true, late: false });
    }

    #[test]
    fn a_step_back_of_any_size_is_seen_at_the_second_record() {
        let secs = |secs: u64| Timestamp::from_secs(1_700_000_000 + secs).unwrap();
        for step in [61, 3600, 2 * 86_400, 6 * 86_400] {
            let mut clock = Clock::default();
            clock.tick(secs(700_000));
            let first = clock.tick(secs(700_000 - step));
            assert_eq!((first.now, first.jumped, first.late), (secs(700_000), false, true), "{step}");
            let second = clock.tick(secs(700_001 - step));
            // 61 seconds and one more are what records may be late.
            let seen = step > 61;
            assert_eq!((second.jumped, second.late), (seen, !seen), "{step}");
            if seen {
                assert_eq!(
                    (second.now, clock.set_back()),
                    (secs(700_001 - step), Duration::from_secs(step - 1))
                );
            }
        }
    }

    #[test]
    fn records_that_are_late_one_by_one_set_nothing_back() {
        let secs = |secs: u64| Timestamp::from_secs(1_700_000_000 + secs).unwrap();
        let mut clock = Clock::default();
        // A sensor that writes a minute late beside one that writes at once, and now and then a record from long ago.
        for n in 0..100 {
            assert!(!clock.tick(secs(10_000 + n)).jumped);
            assert!(!clock.tick(secs(10_000 + n - 60)).jumped);
            assert!(!clock.tick(secs(n)).jumped);
        }
        assert_eq!(clock.now(), Some(secs(10_099)));
    }
}
