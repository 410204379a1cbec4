//! How the work ends: with the input, when somebody asks to stop, or by deleting every trace.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use super::Engine;
use super::backend_state::{BackendState, End, Ruleset};
use crate::error::Error;
use crate::journal::Journal;
use crate::note::moment;
use crate::reconcile::Actual;

/// How often a block that only we could end is deleted again when the program stops and it would not go.
const LAST_TRIES: u32 = 3;
/// The pause between those.
const LAST_PAUSE: Duration = Duration::from_millis(300);
/// How long a backend that does nothing any more is waited for at the end, and how often it is looked.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);

impl Engine {
    /// The input has ended: what failed is tried once more, and then no longer.
    ///
    /// # Errors
    /// That something was given up.
    pub(super) fn last_try(&mut self) -> Result<(), Error> {
        self.settle(None);
        self.retry_all();
        self.settle(None);
        let given_up = self.give_up();
        if let Some(latest) = self.needed_until() {
            let own = self.backends.iter().filter(|state| !state.caps.expires);
            let names: Vec<&str> = own.map(|state| state.caps.name).collect();
            self.outcomes.report(&format!(
                "the input has ended; staying until {}, when the last block ends on {}",
                moment(self.clock.wall(latest)),
                names.join(", ")
            ));
        }
        finished(given_up, "applied or deleted")
    }

    /// What failed is not tried any more, unless a block would outlive its end. Where nothing is known to be there, nothing is left.
    /// How many blocks were not made or not deleted.
    fn give_up(&mut self) -> usize {
        let mut given_up = 0;
        for state in &mut self.backends {
            let outlives = |scope: Prefix| {
                let ends = state.actual.entries.get(&scope).is_some_and(|entry| entry.until.is_some());
                !state.caps.expires && ends && self.desired.get(scope).is_none()
            };
            let failed = state.backoff.iter().map(|(scope, failure)| (scope, failure.held));
            let failed: Vec<(Prefix, bool)> = failed.filter(|(scope, _)| !outlives(*scope)).collect();
            for (scope, held) in failed {
                state.backoff.remove(scope);
                // Whom it must not block it has not failed to block.
                given_up += usize::from(!held);
            }
        }
        given_up
    }

    /// When the last block ends that only this program ends.
    fn needed_until(&self) -> Option<Timestamp> {
        let own = self.backends.iter().filter(|state| !state.caps.expires);
        let ends = own.flat_map(|state| state.actual.entries.values().filter_map(|entry| entry.until));
        ends.max()
    }

    /// Whether something is left that only this program does.
    pub(super) fn is_needed(&self) -> bool {
        !self.is_settled() || self.needed_until().is_some()
    }

    /// Stops: what nobody would end once this program is gone is deleted. It is still wanted, and put back by the next start: that
    /// it is released is not in the journal.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        self.settle(None);
        // What is not answered by now is refused, and what the kernel ends goes on.
        self.questions.clear();
        self.backends.retain(|state| !state.caps.expires);
        self.journal.iter().for_each(Journal::keep_long);
        let began = Instant::now();
        let all = self.backends.iter().map(|state| &state.actual);
        let all = all.flat_map(|actual| ending(actual).chain(actual.unsure.iter().copied()));
        for scope in all.collect::<BTreeSet<Prefix>>() {
            if let Some(block) = self.desired.release(scope) {
                self.end(scope, &block, &End::Released(None));
            }
            self.enqueue_everywhere(scope);
        }
        let mut left = self.settle_ends(began);
        for _ in 0..LAST_TRIES {
            if left == 0 {
                break;
            }
            self.wait(LAST_PAUSE);
            self.retry_all();
            left = self.settle_ends(began);
        }
        finished(left, "deleted")
    }

    /// Works until nothing is under way any more; how many blocks with an end are left.
    fn settle_ends(&mut self, began: Instant) -> usize {
        self.settle(Some(began));
        self.backends.iter().map(|state| ending(&state.actual).count()).sum()
    }

    /// All that failed is tried again now.
    fn retry_all(&mut self) {
        for state in &mut self.backends {
            state.backoff.take_all().into_iter().for_each(|scope| state.queue.push(scope));
        }
    }

    /// Takes every trace away.
    pub(super) fn purge_all(&mut self) -> Result<(), Error> {
        self.settle(None);
        self.flush(None);
        self.settle(None);
        self.commit();
        let left: usize = self.backends.iter().map(|state| state.actual.scopes().count()).sum();
        finished(left, "deleted")
    }

    /// Works until nothing is under way any more. A backend that hangs is not waited for, unless it took what it has since the
    /// moment `began`.
    pub(super) fn settle(&mut self, began: Option<Instant>) {
        let is_new =
            |state: &BackendState| began.is_some_and(|began| state.jobs().any(|job| job.since >= began));
        let works = |state: &BackendState| {
            (!state.bypassed || is_new(state))
                && (!state.is_settled() || state.sync.ruleset == Ruleset::Purge)
        };
        let mut last = Instant::now();
        self.step();
        while self.backends.iter().any(works) && last.elapsed() < PATIENCE {
            self.wait(self.idle_for().min(TICK));
            if self.take_events() {
                last = Instant::now();
            }
            self.step();
        }
    }

    /// Writes what is left to be written.
    pub(super) fn finish(&mut self) {
        self.commit();
        self.journal = None;
        let summary = self.outcomes.counters.summary();
        self.outcomes.finish();
        self.outcomes.report(&summary);
    }
}

/// The scopes of what is there and has an end.
fn ending(actual: &Actual) -> impl Iterator<Item = Prefix> {
    actual.entries.values().filter(|entry| entry.until.is_some()).map(|entry| entry.scope)
}

fn finished(left: usize, what: &str) -> Result<(), Error> {
    let blocks = if left == 1 { "block" } else { "blocks" };
    match left {
        0 => Ok(()),
        _ => Err(Error::Unfinished(format!(
            "{left} {blocks} could not be {what}; the outcomes 'failed' say why"
        ))),
    }
}
