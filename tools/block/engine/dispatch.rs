//! What backends are given to do. For each scope that is enqueued they get whatever makes what is there what is wanted; in their
//! order, each once the one before has confirmed it or failed, or has taken longer than its patience: so a command before a
//! firewall has run before the source is shut out, as PortSentry's `KILL_RUN_CMD_FIRST` has it.

use std::time::Instant;

use psentry_records::{OutcomeResult, Prefix};

use super::Engine;
use super::backend_state::{Given, Ruleset, Work};
use crate::backend::Op;
use crate::block::Block;
use crate::error::Error;
use crate::journal::JournalEntry;
use crate::reconcile::plan;
use crate::worker::Task;

/// Why a block must not be made, as a sentence.
pub(super) enum Refused {
    Never(String),
    /// It is tried again: somebody is logged in there.
    NotYet(String),
}

impl Engine {
    /// Something may have to be done about a scope on a backend, and then on those after it.
    pub(super) fn enqueue(&mut self, backend: usize, scope: Prefix) {
        for state in self.backends.iter_mut().skip(backend) {
            state.queue.push(scope);
            if !state.bypassed {
                break;
            }
        }
    }

    /// The same on all backends at once.
    pub(super) fn enqueue_everywhere(&mut self, scope: Prefix) {
        self.backends.iter_mut().for_each(|state| state.queue.push(scope));
    }

    /// Gives every backend that is free what it is to do.
    pub(super) fn dispatch(&mut self) {
        for index in 0..self.backends.len() {
            self.sync_if_due(index);
            self.dispatch_to(index);
        }
    }

    fn dispatch_to(&mut self, index: usize) {
        loop {
            let Some(state) = self.backends.get(index) else { return };
            if state.queue.len() == 0 || (!state.is_ready() && state.broken.is_none()) {
                return;
            }
            let (Some(lane), most) = (state.free_lane(), state.caps.batch) else { return };
            let mut ops = Vec::new();
            while ops.len() < most
                && let Some(scope) = self.backends.get_mut(index).and_then(|state| state.queue.pop())
            {
                match self.next_op(index, scope) {
                    Some(op) => ops.push(op),
                    None => {
                        self.done_with(index, scope);
                        self.enqueue(index + 1, scope);
                    }
                }
            }
            if ops.is_empty() {
                return;
            }
            self.give(index, lane, ops);
        }
    }

    fn give(&mut self, index: usize, lane: usize, ops: Vec<Op>) {
        let ops: Vec<Op> = ops.into_iter().map(|op| self.with_all_known(op)).collect();
        // What is confirmed is in the journal by then, and what a command may have done is before it is run.
        let journaled = self.backends.get(index).is_some_and(|state| state.caps.journaled);
        for op in ops.iter().filter(|_| journaled) {
            self.record(JournalEntry::Unsure(op.scope(), self.lasting(op.about())));
        }
        self.commit();
        let task = Task::Apply(ops.iter().map(|op| self.op_by_wall(op)).collect());
        let Some(state) = self.backends.get_mut(index) else { return };
        if state.sync.ruleset == Ruleset::Purged && ops.iter().any(|op| op.block().is_some()) {
            state.sync.ruleset = Ruleset::MadeAnew;
        }
        state.sync.listed_last = false;
        let asks = &mut state.asks;
        let given =
            ops.into_iter().map(|op| Given { asks: asks.remove(&op.scope()).unwrap_or_default(), op });
        let given = given.collect();
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.give(task, Work::Apply(given));
        }
    }

    /// What is to be done about a scope on a backend, if anything can be.
    fn next_op(&mut self, index: usize, scope: Prefix) -> Option<Op> {
        let state = self.backends.get(index)?;
        if state.is_in_flight(scope) {
            // It is planned again when that is over.
            return None;
        }
        let op = plan(scope, &self.desired, &state.actual, &state.caps, self.clock.now());
        let Some(op) = op else {
            self.settled(index, scope);
            return None;
        };
        let new = matches!(&op, Op::Put { was: None, .. });
        let refusal = match &state.broken {
            Some(broken) => Err(broken.error.clone()),
            None if new => self.refusal(scope),
            None => Ok(None),
        };
        let (why, result) = match refusal {
            Ok(None) => return Some(op),
            Ok(Some(Refused::Never(why))) => {
                self.refuse(scope, &why);
                return None;
            }
            Ok(Some(Refused::NotYet(why))) => (why, OutcomeResult::Refused),
            Err(error) => (error.to_string(), OutcomeResult::Failed),
        };
        let asks = self.backends.get_mut(index).and_then(|state| state.asks.remove(&scope));
        self.not_done(index, &op, asks.unwrap_or_default(), &why, result);
        None
    }

    /// Why a block must not be made now: whom to block is asked anew each time, for the machine may have got that address
    /// meanwhile, or somebody may have logged in from there.
    pub(super) fn refusal(&mut self, scope: Prefix) -> Result<Option<Refused>, Error> {
        if let Some(why) = self.guard.refusal(scope)? {
            return Ok(Some(Refused::Never(why)));
        }
        Ok(self.guard.not_yet(scope)?.map(Refused::NotYet))
    }

    /// Tries again what failed, where it is time.
    pub(super) fn retry(&mut self) {
        let now = self.clock.now();
        for state in &mut self.backends {
            for scope in state.backoff.take_due(now) {
                if !state.backoff.get(scope).is_some_and(|failure| failure.held) {
                    self.outcomes.counters.retries += 1;
                }
                state.queue.push(scope);
            }
        }
    }

    /// A backend that takes too long holds up none after it.
    pub(super) fn bypass_late_backends(&mut self) {
        let now = Instant::now();
        for index in 0..self.backends.len() {
            let Some(state) = self.backends.get_mut(index) else { return };
            let late = state
                .busy_since()
                .is_some_and(|since| now.saturating_duration_since(since) >= state.caps.patience);
            if late && !state.bypassed {
                state.bypassed = true;
                let scopes: Vec<Prefix> =
                    state.in_flight().map(Op::scope).chain(state.queue.iter()).collect();
                scopes.into_iter().for_each(|scope| self.enqueue(index + 1, scope));
            } else if !late {
                state.bypassed = false;
            }
        }
    }

    fn op_by_wall(&self, op: &Op) -> Op {
        match op {
            Op::Put { scope, block, was } => Op::Put {
                scope: *scope,
                block: self.by_wall(block),
                was: was.as_ref().map(|entry| entry.with_moments(|moment| self.clock.wall(moment))),
            },
            Op::Delete { scope, was } => Op::Delete { scope: *scope, was: self.by_wall(was) },
        }
    }

    /// A deletion with all that is known of what was wanted: a command is told for whom it was.
    fn with_all_known(&self, op: Op) -> Op {
        let Op::Delete { scope, was } = op else { return op };
        let mut ending = self.backends.iter().filter_map(|state| state.ending.get(&scope));
        let known = ending.next().map_or_else(|| was.clone(), |(block, _)| block.clone());
        Op::Delete { scope, was: Block { ports: was.ports, unproven: was.unproven, ..known } }
    }
}
