//! How the work ends: with the input, when somebody asks to stop, or by deleting every trace.

use std::time::{Duration, Instant};

use psentry_records::{Prefix, Timestamp};

use super::Engine;
use super::backend_state::{BackendState, End, Ruleset};
use crate::backend::Op;
use crate::block::Block;
use crate::error::Error;
use crate::note::moment;

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
        self.settle();
        for state in &mut self.backends {
            state.backoff.take_all().into_iter().for_each(|scope| state.queue.push(scope));
        }
        self.settle();
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

    /// Stops: what nobody would end once this program is gone is deleted. It is still wanted, and put back by the next start.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        self.settle();
        for index in 0..self.backends.len() {
            for tried in 0..=LAST_TRIES {
                if tried > 0 {
                    self.wait(LAST_PAUSE);
                }
                if self.delete_what_ends(index) == 0 {
                    break;
                }
            }
        }
        let ends = |state: &&BackendState| !state.caps.expires;
        let left = self.backends.iter().filter(ends).flat_map(|state| state.actual.entries.values());
        finished(left.filter(|entry| entry.until.is_some()).count(), "deleted")
    }

    /// Has a backend that ends nothing by itself delete what has an end; how much of it is left.
    fn delete_what_ends(&mut self, index: usize) -> usize {
        let Some(state) = self.backends.get_mut(index).filter(|state| !state.caps.expires) else { return 0 };
        if state.broken.is_some() {
            return 0;
        }
        let timed = state.actual.entries.iter().filter(|(_, entry)| entry.until.is_some());
        let mut ops: Vec<Op> =
            timed.map(|(scope, entry)| Op::Delete { scope: *scope, was: Block::from(entry) }).collect();
        ops.extend(
            state.actual.unsure.iter().map(|scope| Op::Delete { scope: *scope, was: Block::default() }),
        );
        ops.sort_unstable_by_key(Op::scope);
        for op in &ops {
            let Some(state) = self.backends.get_mut(index) else { return 0 };
            let block = self.desired.get(op.scope()).cloned().unwrap_or_default();
            state.ending.insert(op.scope(), (block, End::Released(None)));
        }
        self.give_all(index, ops);
        let Some(state) = self.backends.get(index) else { return 0 };
        state.actual.entries.values().filter(|entry| entry.until.is_some()).count()
    }

    /// Gives a backend operations, in pieces, and waits for them; but not for a thread that hung before.
    fn give_all(&mut self, index: usize, ops: Vec<Op>) {
        let mut ops = ops.into_iter().peekable();
        let began = Instant::now();
        let mut last = began;
        loop {
            let Some(state) = self.backends.get(index) else { return };
            let (batch, patience) = (state.caps.batch, state.caps.patience);
            if let Some(lane) = state.free_lane().filter(|_| ops.peek().is_some()) {
                let some = ops.by_ref().take(batch).collect();
                self.give(index, lane, some);
                continue;
            }
            let works = |since: Instant| since >= began || since.elapsed() < patience;
            let mut busy = state.lanes.iter().filter_map(|lane| lane.job.as_ref());
            if last.elapsed() >= PATIENCE || !busy.any(|job| works(job.since)) {
                return;
            }
            self.wait(TICK);
            if self.take_events() {
                last = Instant::now();
            }
        }
    }

    /// Takes every trace away.
    pub(super) fn purge_all(&mut self) -> Result<(), Error> {
        self.settle();
        self.flush(None);
        self.settle();
        self.commit();
        let left: usize = self.backends.iter().map(|state| state.actual.scopes().count()).sum();
        finished(left, "deleted")
    }

    /// Works until nothing is under way any more.
    pub(super) fn settle(&mut self) {
        // A backend that hangs is not waited for.
        let works = |state: &BackendState| {
            !state.bypassed && (!state.is_settled() || state.sync.ruleset == Ruleset::Purge)
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
        let summary = self.outcomes.counters().summary();
        self.outcomes.finish();
        self.outcomes.report(&summary);
    }
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
