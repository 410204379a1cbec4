//! When something is to be done: what is due, when to look again, and what a clock that was set means for it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use super::Worker;

/// How far the clock may get ahead of what has passed and not have been set: more than what keeps it right moves it.
const LEAP: Duration = Duration::from_secs(1);

impl Worker {
    /// Clocks are set, and machines sleep.
    pub(super) fn look_at_the_clock(&mut self) {
        let (now, ticks) = (Timestamp::now(), Instant::now());
        if now < self.last {
            self.schedule.set_back(now);
        }
        self.behind |= ticks.saturating_duration_since(self.ticks) > now.since(self.last) + LEAP;
        self.ahead |= now.since(self.last) > ticks.saturating_duration_since(self.ticks) + LEAP;
        (self.last, self.ticks) = (now, ticks);
    }

    /// Does what is due, as much as the backend does at once: ends, or what is tried again.
    pub(super) fn due(&mut self, decided: &HashSet<Prefix>, ends: bool) {
        let now = Timestamp::now();
        let chosen = |scope: &Prefix| {
            let left_alone = decided.contains(scope) || self.is_under_way(*scope);
            !left_alone && self.schedule.get(*scope).is_some_and(|plan| plan.ends(now) == ends)
        };
        // What ends by itself takes no room.
        let most = self.room().max(usize::from(ends && self.backend.ends_by_itself()));
        let due: Vec<Prefix> = self.schedule.due(now).into_iter().filter(chosen).take(most).collect();
        let jobs = due.into_iter().filter_map(|scope| self.job(scope, now)).collect();
        self.work(jobs);
    }

    /// When something is to be done next, if nothing comes.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let moments = [self.next_due(), self.next_look(), self.next_reading(), self.next_glance()];
        moments.into_iter().flatten().min()
    }

    /// When something is due that can be done then: where all room is taken, what is under way is waited for.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let (room, by_itself) = (self.room() > 0, self.backend.ends_by_itself());
        let ends = |due, scope| self.schedule.get(scope).is_some_and(|plan| plan.ends(due));
        let possible = |(due, scope): &(Timestamp, Prefix)| {
            !self.is_under_way(*scope) && (room || (by_itself && ends(*due, *scope)))
        };
        self.schedule.agenda().find(possible).map(|(due, _)| due)
    }

    /// How much may be taken of what arrived. However much arrives, what failed before has its turn, too.
    pub(super) fn room_for_news(&mut self) -> usize {
        let due = self.next_due().is_some_and(|due| due <= Timestamp::now());
        self.due_first = due && !self.due_first;
        self.room().saturating_sub(usize::from(self.due_first))
    }
}
