//! What came of operations: what is there from now on, and the outcomes.

use std::time::Instant;

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Record};

use super::backend_state::{Ask, End, Given, Job, Work};
use super::{Engine, Reply};
use crate::backend::{Drift, Op};
use crate::block::Block;
use crate::error::Error;
use crate::journal::Entry as Noted;
use crate::outcomes::{body, common_of};
use crate::reconcile::{plan, wanted_there};
use crate::worker::Event;

impl Engine {
    /// Takes in what a worker tells.
    pub(super) fn take_event(&mut self, index: usize, lane: usize, event: Event) {
        if let Event::Drifted(drift) = event {
            return self.drifted(index, drift);
        }
        let lane = self.backends.get_mut(index).and_then(|state| state.lanes.get_mut(lane));
        match (event, lane.and_then(|lane| lane.job.take())) {
            (Event::Applied(results), Some(Job { work: Work::Apply(given), .. })) => {
                for (given, result) in given.into_iter().zip(results) {
                    self.applied(index, given, result);
                }
            }
            (Event::Synced { made, listing }, Some(Job { since, work: Work::List { repairs } })) => {
                self.synced(index, (since, repairs), made, listing);
            }
            (Event::Purged(result), _) => self.purged(index, result),
            (_, job) => self.broke(index, job),
        }
    }

    fn drifted(&mut self, index: usize, drift: Result<Drift, Error>) {
        let Some(state) = self.backends.get_mut(index).filter(|state| state.sync.listed.is_some()) else {
            return;
        };
        let drift = drift.unwrap_or_else(|error| {
            let name = state.caps.name;
            self.outcomes.complain(&format!("{name}: changes by others are not reported any more: {error}"));
            Drift::default()
        });
        state.sync.rate.disturbed(Instant::now());
        let before = state.sync.drifted.take().and_then(|before| before.who);
        state.sync.drifted = Some(Drift { who: before.or(drift.who) });
    }

    /// An operation is over.
    pub(super) fn applied(&mut self, index: usize, Given { op, asks }: Given, result: Result<(), Error>) {
        let scope = op.scope();
        let Some(state) = self.backends.get_mut(index) else { return };
        let is_journaled = state.caps.is_journaled();
        match (&op, result) {
            (Op::Put { block, .. }, Ok(())) => {
                state.actual.entries.insert(scope, block.entry(scope));
                state.actual.unsure.remove(&scope);
                if is_journaled {
                    let block = self.lasting(block);
                    self.note(Noted::Done(scope, block));
                }
                self.commit();
                self.blocked(index, scope, block, &asks, true);
            }
            (Op::Delete { .. }, Ok(())) => {
                if is_journaled {
                    self.note(Noted::Undone(scope));
                }
                self.commit();
                self.deleted(index, scope, &asks);
            }
            (_, Err(error)) => {
                if op.block().is_some() && is_journaled {
                    // A command that failed half-way may have blocked; one that was never run did nothing.
                    if !error.never_ran() {
                        state.actual.unsure.insert(scope);
                    } else if !state.actual.may_have(scope) {
                        self.note(Noted::Undone(scope));
                    }
                }
                self.not_done(index, &op, &asks, &error.to_string(), OutcomeResult::Failed);
            }
        }
        let Some(state) = self.backends.get_mut(index) else { return };
        // Whatever changed meanwhile is done next.
        let more = plan(scope, &self.desired, &state.actual, &state.caps, self.clock.now()).is_some();
        let (asked, failing) = (state.asks.contains_key(&scope), state.backoff.get(scope).is_some());
        if asked || if more { !failing } else { state.ending.contains_key(&scope) } {
            state.queue.push(scope);
        }
        if !more || failing {
            self.is_right(index, scope);
        }
        self.enqueue(index + 1, scope);
    }

    /// A block is there as it is wanted: it was `put`, or it was there.
    fn blocked(&mut self, index: usize, scope: Prefix, block: &Block, asks: &[Ask], put: bool) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let failed = state.backoff.remove(scope).is_some();
        let mut first = put;
        for ask in asks {
            let result = match ask.action {
                Action::Unblock => OutcomeResult::Released,
                Action::Block | Action::Watch if std::mem::take(&mut first) => OutcomeResult::Applied,
                _ if put && !ask.already => OutcomeResult::Applied,
                _ => OutcomeResult::Already,
            };
            self.answer(index, scope, ask, result, Some(block), None);
        }
        // Nobody asks, but what had failed is told like what was asked for.
        if asks.is_empty() && failed {
            self.tell_unasked(index, Action::Block, scope, OutcomeResult::Applied, block, None);
        }
    }

    /// A block is deleted, or ended by itself.
    pub(super) fn deleted(&mut self, index: usize, scope: Prefix, asks: &[Ask]) {
        let now = self.clock.now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let failure = state.backoff.remove(scope);
        let was_there = state.actual.forget(scope);
        let never =
            failure.filter(|_| !was_there).map(|failure| format!("it was never applied: {}", failure.why));
        let ending = state.ending.remove(&scope);
        let over = ending.as_ref().is_some_and(|(block, _)| block.is_over(now));
        for ask in asks {
            let block = ending.as_ref().map(|(block, _)| block).filter(|_| ask.action == Action::Block);
            match (ask.action, &ending) {
                (Action::Block, Some((_, End::Refused(why)))) => {
                    self.answer(index, scope, ask, OutcomeResult::Refused, None, Some(why.clone()));
                }
                (Action::Block, _) if over => {
                    self.answer(index, scope, ask, OutcomeResult::Expired, block, never.clone());
                }
                _ => self.answer(index, scope, ask, OutcomeResult::Released, block, never.clone()),
            }
        }
        let Some((block, end)) = ending.filter(|_| asks.is_empty()) else { return };
        let (result, until, why) = match end {
            End::Expired => (OutcomeResult::Expired, block.until, never),
            End::Released(why) => (OutcomeResult::Released, block.until, why.or(never)),
            End::Refused(why) => (OutcomeResult::Refused, None, Some(why)),
        };
        self.tell_unasked(index, Action::Block, scope, result, &Block { until, ..block }, why);
    }

    /// There is nothing to do about a scope.
    pub(super) fn settled(&mut self, index: usize, scope: Prefix) {
        let now = self.clock.now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let asks = state.asks.remove(&scope).unwrap_or_default();
        if let Some(block) = wanted_there(scope, &self.desired, &state.caps, now).cloned() {
            return self.blocked(index, scope, &block, &asks, false);
        }
        // What is not proven is wanted, but not from this one.
        let refused = self.desired.get(scope).filter(|block| !block.is_over(now)).map(|_| {
            let name = state.caps.name;
            format!("no handshake proves {scope}, and {name} cannot leave alone what is established")
        });
        if refused.is_none() && state.ending.contains_key(&scope) {
            return self.deleted(index, scope, &asks);
        }
        for ask in asks {
            let (result, why) = match (ask.action, &refused) {
                (Action::Unblock, _) => (OutcomeResult::Already, None),
                (_, Some(why)) => (OutcomeResult::Refused, Some(why.clone())),
                (_, None) => (OutcomeResult::Released, None),
            };
            self.answer(index, scope, &ask, result, None, why);
        }
    }

    /// Something could not be done, or, if it is `Refused`, must not be done yet: it is tried again in a second.
    pub(super) fn not_done(&mut self, index: usize, op: &Op, asks: &[Ask], why: &str, result: OutcomeResult) {
        let (scope, now, held) = (op.scope(), self.clock.now(), result == OutcomeResult::Refused);
        let Some(state) = self.backends.get_mut(index) else { return };
        let news = state.backoff.failed(scope, why, held, now);
        if held && (news || !asks.is_empty()) {
            self.outcomes.complain(&format!("refused: {why}"));
        }
        for ask in asks {
            // Whoever is to be unblocked is not blocked, nor is going to be.
            let result = if held && ask.action == Action::Unblock { OutcomeResult::Already } else { result };
            self.answer(index, scope, ask, result, op.block(), Some(why.to_owned()));
        }
        if news && asks.is_empty() {
            let (action, block) = match op {
                Op::Put { block, .. } => (Action::Block, block),
                Op::Delete { was, .. } => (Action::Unblock, was),
            };
            self.tell_unasked(index, action, scope, result, block, Some(why.to_owned()));
        }
    }

    /// The outcome for a verdict that asked.
    pub(super) fn answer(
        &mut self,
        index: usize,
        scope: Prefix,
        ask: &Ask,
        result: OutcomeResult,
        block: Option<&Block>,
        why: Option<String>,
    ) {
        let reason = ask.remark.clone();
        let outcome =
            OutcomeBody { error: why, reason, ..self.outcome(index, ask.action, scope, result, block) };
        let record = self.outcomes.outcome(&ask.common, outcome);
        send(ask.reply.as_ref(), &record);
    }

    /// An outcome for which no verdict asked.
    pub(super) fn tell_unasked(
        &mut self,
        index: usize,
        action: Action,
        scope: Prefix,
        result: OutcomeResult,
        block: &Block,
        why: Option<String>,
    ) {
        let outcome = self.outcome(index, action, scope, result, Some(block));
        self.outcomes.outcome(&common_of(block), OutcomeBody { error: why, ..outcome });
    }

    pub(super) fn outcome(
        &self,
        index: usize,
        action: Action,
        scope: Prefix,
        result: OutcomeResult,
        block: Option<&Block>,
    ) -> OutcomeBody {
        let until = block.and_then(|block| block.until).map(|until| self.clock.wall(until));
        let name = self.backends.get(index).map(|state| state.caps.name);
        OutcomeBody { until, ..body(action, scope, name, result) }
    }
}

/// A record as a line, for whoever waits for it.
pub(super) fn send(reply: Option<&Reply>, record: &Record) {
    let Some(reply) = reply else { return };
    let mut line = Vec::new();
    if record.encode(&mut line).is_ok() {
        reply.send(line);
    }
}
