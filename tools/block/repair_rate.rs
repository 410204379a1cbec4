//! How soon what others deleted is put back: at once, but a burst of changes only every tenth of a second, and whoever deletes it
//! again and again is reported and not fought. Pure: the moment is always given.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The pause between two looks. A reload of the firewall is a hundred changes within less.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause before what could not be looked at is looked at again.
const UNREAD: Duration = Duration::from_secs(1);

/// So many repairs within a minute are a fight.
const MOST: usize = 10;

/// The minute in which repairs are counted, and which has to be quiet until a fight is over.
const MINUTE: Duration = Duration::from_secs(60);

/// How long a repair waits in a fight; the wait doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// How long it waits at most.
const LONGEST_WAIT: Duration = MINUTE;

/// When to look, and to repair.
#[derive(Default)]
pub(crate) struct RepairRate {
    /// The latest repairs, at most `MOST` of them.
    repairs: VecDeque<Instant>,
    /// The wait between repairs while there is a fight.
    wait: Option<Duration>,
    /// Before that moment nothing is looked at.
    not_before: Option<Instant>,
    /// When somebody last changed something, or it was repaired.
    unquiet: Option<Instant>,
}

impl RepairRate {
    /// Somebody changed something.
    pub(crate) fn disturbed(&mut self, now: Instant) {
        if self.unquiet.is_some_and(|last| now.saturating_duration_since(last) >= MINUTE) {
            *self = RepairRate::default();
        }
        self.unquiet = Some(now);
    }

    /// When it may be looked at next; `None`: at once.
    pub(crate) fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|moment| *moment > now)
    }

    /// It was looked at, and nothing was missing.
    pub(crate) fn looked(&mut self, now: Instant) {
        let next = now + PAUSE;
        self.not_before = Some(self.not_before.map_or(next, |before| before.max(next)));
    }

    /// It could not be looked at.
    pub(crate) fn unread(&mut self, now: Instant) {
        self.not_before = Some(now + UNREAD);
    }

    /// Something was put back, or could not be. If that begins a fight, how long the next repair waits.
    pub(crate) fn repaired(&mut self, now: Instant) -> Option<Duration> {
        self.unquiet = Some(now);
        self.repairs.push_back(now);
        if self.repairs.len() > MOST {
            self.repairs.pop_front();
        }
        let lately =
            self.repairs.iter().filter(|then| now.saturating_duration_since(**then) < MINUTE).count();
        let before = self.wait;
        self.wait = match before {
            Some(wait) => Some((wait * 2).min(LONGEST_WAIT)),
            None => (lately >= MOST).then_some(FIRST_WAIT),
        };
        self.not_before = Some(now + self.wait.unwrap_or(PAUSE));
        self.wait.filter(|_| before.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who takes everything away right after each repair: the seconds at which it is repaired.
    fn fight(rate: &mut RepairRate, start: Instant, until: Duration) -> (Vec<Duration>, Vec<Duration>) {
        let (mut repairs, mut said) = (Vec::new(), Vec::new());
        let mut now = start;
        while now < start + until {
            rate.disturbed(now);
            now = rate.not_before(now).unwrap_or(now);
            repairs.push(now - start);
            if let Some(wait) = rate.repaired(now) {
                said.push(wait);
            }
            now += Duration::from_millis(50);
        }
        (repairs, said)
    }

    #[test]
    fn the_first_change_is_repaired_at_once_and_a_burst_every_tenth_of_a_second() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        rate.disturbed(start);
        assert_eq!(rate.not_before(start), None);
        assert_eq!(rate.repaired(start), None);
        rate.disturbed(start);
        assert_eq!(rate.not_before(start), Some(start + PAUSE));
        assert_eq!(rate.not_before(start + PAUSE), None);
        rate.looked(start + PAUSE);
        assert_eq!(rate.not_before(start + PAUSE), Some(start + 2 * PAUSE));
    }

    #[test]
    fn looks_that_find_nothing_are_no_fight() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        let mut now = start;
        for _ in 0..1000 {
            rate.disturbed(now);
            now = rate.not_before(now).unwrap_or(now);
            rate.looked(now);
        }
        assert_eq!(rate.not_before(now), Some(now + PAUSE));
    }

    #[test]
    fn a_fight_is_reported_once_and_slows_down_to_once_a_minute() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        let (repairs, said) = fight(&mut rate, start, Duration::from_secs(600));
        assert_eq!(said, [FIRST_WAIT]);
        assert!(repairs[MOST - 1] < Duration::from_secs(2), "{repairs:?}");
        let waits: Vec<u64> =
            repairs.windows(2).skip(MOST - 1).map(|two| (two[1] - two[0]).as_secs()).collect();
        assert_eq!(waits[..5], [10, 20, 40, 60, 60]);
        assert!(waits[5..].iter().all(|wait| *wait == 60));
    }

    #[test]
    fn after_a_quiet_minute_a_fight_is_over() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        let (repairs, _) = fight(&mut rate, start, Duration::from_secs(100));
        let last = start + *repairs.last().unwrap();
        let later = last + Duration::from_millis(50) + MINUTE;
        rate.disturbed(later);
        assert_eq!(rate.not_before(later), None);
        assert_eq!(rate.repaired(later), None);
    }

    #[test]
    fn ten_repairs_in_a_long_time_are_no_fight() {
        let (mut rate, start) = (RepairRate::default(), Instant::now());
        for n in 0..100 {
            let now = start + n * Duration::from_secs(7);
            rate.disturbed(now);
            assert_eq!((rate.not_before(now), rate.repaired(now)), (None, None));
        }
    }
}
