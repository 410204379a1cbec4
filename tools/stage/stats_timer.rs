//! When the next `stats` record of a stage is due: once a minute, by the monotonic clock, so that a change of the time of
//! day neither holds it up nor repeats it. It reads no clock itself.

use std::time::{Duration, Instant};

/// How far apart `stats` records are; psentry-records(5) says so.
const EVERY: Duration = Duration::from_secs(60);

/// The timer of the `stats` records.
#[derive(Clone, Copy, Debug)]
pub struct StatsTimer {
    next: Instant,
}

impl StatsTimer {
    /// The first record is due a minute after `now`.
    #[must_use]
    pub fn start(now: Instant) -> Self {
        StatsTimer { next: now + EVERY }
    }

    /// When the next one is due: a loop that waits for anything else waits no longer than until then.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Whether one is due. If so, the next one is due a minute after `now`: a stage that was held up writes one, not all
    /// that it missed.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + EVERY;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_each_minute_and_none_is_made_up_for() {
        let start = Instant::now();
        let mut timer = StatsTimer::start(start);
        let due = [0, 59, 60, 61, 119, 120, 600, 601, 659, 660]
            .map(|second| timer.is_due(start + Duration::from_secs(second)));
        assert_eq!(due, [false, false, true, false, false, true, true, false, false, true]);
        assert_eq!(timer.next(), start + Duration::from_secs(720));
    }
}
