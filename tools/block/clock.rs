//! The clock of the engine: it goes on by the clock that nobody sets and that counts on while the machine sleeps
//! (CLOCK_BOOTTIME), so that a step of the wall clock moves no end of a block. At a start it is the wall clock, but no earlier than
//! the newest entry of the journal: a machine without a clock of its own begins in 1970, and what was blocked before goes on.
//!
//! The wall clock is for people, for records, and for backends, which keep ends as it has them. [`Clock::look`] sees that it was
//! set, or that the machine slept, during which kernels do not count: then backends are to be listed, and what is not as it
//! should be is put again.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use psentry_records::Timestamp;

/// How far the clocks may get apart and not have been set: more than what keeps the wall clock right moves it.
const STEP: Duration = Duration::from_secs(1);

/// What the clocks of the system say at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Timestamp,
    /// Since the start of the machine, with the time that it slept, and without.
    boot: Duration,
    awake: Duration,
}

/// The clock.
#[derive(Debug)]
pub(crate) struct Clock {
    /// What it said when it was started, and when that was.
    base: Timestamp,
    started: Reading,
    last: Reading,
    /// By how many microseconds the wall clock is ahead.
    ahead: i64,
    slept: Duration,
}

impl Reading {
    fn now() -> Self {
        // Linux has both since 2.6.39 (clock_gettime(2)).
        let since_boot = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
        let (boot, awake) = (since_boot(ClockId::CLOCK_BOOTTIME), since_boot(ClockId::CLOCK_MONOTONIC));
        Reading { wall: Timestamp::now(), boot, awake }
    }
}

impl Clock {
    /// A clock that begins no earlier than `newest`, an entry of the journal.
    pub(crate) fn start(newest: Option<Timestamp>) -> Self {
        Self::started_at(Reading::now(), newest)
    }

    fn started_at(started: Reading, newest: Option<Timestamp>) -> Self {
        let base = newest.map_or(started.wall, |newest| newest.max(started.wall));
        let ahead = started.wall.micros().saturating_sub(base.micros());
        let slept = started.boot.saturating_sub(started.awake);
        Clock { base, started, last: started, ahead, slept }
    }

    /// What it says at the last look.
    pub(crate) fn now(&self) -> Timestamp {
        self.at(self.last)
    }

    fn at(&self, reading: Reading) -> Timestamp {
        self.base.plus(reading.boot.saturating_sub(self.started.boot))
    }

    /// Reads the clocks; whether the wall clock was set, or the machine slept, since the last look.
    pub(crate) fn look(&mut self) -> bool {
        self.look_at(Reading::now())
    }

    fn look_at(&mut self, reading: Reading) -> bool {
        self.last = reading;
        let ahead = reading.wall.micros().saturating_sub(self.at(reading).micros());
        let slept = reading.boot.saturating_sub(reading.awake);
        let step = Duration::from_micros(ahead.abs_diff(self.ahead)).max(slept.saturating_sub(self.slept));
        if step <= STEP {
            return false;
        }
        (self.ahead, self.slept) = (ahead, slept);
        true
    }

    /// A moment of this clock as the wall clock has it.
    pub(crate) fn wall(&self, moment: Timestamp) -> Timestamp {
        shifted(moment, self.ahead)
    }

    /// A moment of the wall clock as this clock has it.
    pub(crate) fn of_wall(&self, moment: Timestamp) -> Timestamp {
        shifted(moment, self.ahead.saturating_neg())
    }

    /// A moment of the past, by the wall clock as it was then; one that it has not reached yet was of a wall clock that was right.
    pub(crate) fn of_past(&self, moment: Timestamp) -> Timestamp {
        if moment > self.wall(self.now()) { moment } else { self.of_wall(moment) }
    }

    /// A moment as it is written into the journal: by the wall clock, unless that is behind.
    pub(crate) fn lasting(&self, moment: Timestamp) -> Timestamp {
        shifted(moment, self.ahead.max(0))
    }
}

fn shifted(moment: Timestamp, micros: i64) -> Timestamp {
    let span = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { moment.minus(span) } else { moment.plus(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn reading(wall: u64, boot: u64, awake: u64) -> Reading {
        Reading { wall: Timestamp::from_secs(wall).unwrap(), boot: secs(boot), awake: secs(awake) }
    }

    /// A panic of months ago, on a machine that begins in 1970.
    #[test]
    fn what_the_wall_clock_has_not_reached_was_by_one_that_was_right() {
        let at = |seconds| Timestamp::from_secs(seconds).unwrap();
        let clock = Clock::started_at(reading(100, 100, 100), Some(at(1_700_000_000)));
        assert_eq!(clock.of_past(at(1_690_000_000)), at(1_690_000_000));
        assert_eq!(clock.of_past(at(90)), at(1_699_999_990));
        let clock = Clock::started_at(reading(1_700_000_000, 100, 100), None);
        assert_eq!(clock.of_past(at(1_690_000_000)), at(1_690_000_000));
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_nothing() {
        let mut clock = Clock::started_at(reading(1000, 5, 5), None);
        assert!(!clock.look_at(reading(1010, 15, 15)));
        let end = clock.now().plus(secs(60));
        // Set to another year, and back by an hour.
        for wall in [100_000, 96_410] {
            assert!(clock.look_at(reading(wall, 25, 25)));
            assert!(!clock.look_at(reading(wall, 25, 25)));
            assert_eq!(end.since(clock.now()), secs(50));
            assert_eq!(clock.wall(clock.now()), Timestamp::from_secs(wall).unwrap());
            assert_eq!(clock.of_wall(clock.wall(end)), end);
        }
    }

    #[test]
    fn without_a_clock_of_its_own_the_machine_goes_on_where_it_was() {
        let newest = Timestamp::from_secs(1_700_000_000).unwrap();
        let mut clock = Clock::started_at(reading(60, 5, 5), Some(newest));
        assert_eq!(clock.now(), newest);
        let end = newest.plus(secs(3600));
        // In 1970 as before for people, but not in the journal.
        assert_eq!(clock.wall(end), Timestamp::from_secs(3660).unwrap());
        assert_eq!(clock.lasting(end), end);
        // The time is set: half an hour later than the journal knew.
        assert!(clock.look_at(reading(1_700_001_800, 15, 15)));
        assert_eq!(end.since(clock.now()), secs(3590));
        assert_eq!(clock.lasting(end).since(newest), secs(3590 + 1800));
    }

    #[test]
    fn sleep_counts_and_is_seen() {
        let mut clock = Clock::started_at(reading(1000, 5, 5), None);
        assert!(clock.look_at(reading(1600, 605, 105)));
        assert_eq!(clock.now(), Timestamp::from_secs(1600).unwrap());
        assert!(!clock.look_at(reading(1601, 606, 106)));
    }
}
