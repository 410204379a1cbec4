//! What came of operations: what is there from now on, and the outcomes.

use std::time::{Duration, Instant};

use psentry_records::{Action, Common, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use super::backend_state::{Ask, Broken, End, Given, Job, Work};
use super::{Engine, Reply};
use crate::backend::{Drift, Op};
use crate::block::Block;
use crate::error::Error;
use crate::journal::JournalEntry;
use crate::reconcile::{differs, wanted_there};
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

    /// A thread of a backend is gone, with what it was given.
    pub(super) fn broke(&mut self, index: usize, job: Option<Job>) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let never = Duration::from_secs(u32::MAX.into());
        let error = Error::Unfinished("its thread broke; this is a bug of psentry".to_owned());
        self.outcomes.report(&format!("{}: {error}", state.caps.name));
        let retry = Instant::now() + never;
        state.broken = Some(Broken { error: error.clone(), retry, wait: never, reported: true });
        let Some(Job { work: Work::Apply(given), .. }) = job else { return };
        given.into_iter().for_each(|given| self.applied(index, given, Err(error.clone())));
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
        let journaled = state.caps.journaled;
        match (&op, result) {
            (Op::Put { block, .. }, Ok(())) => {
                state.actual.entries.insert(scope, block.entry(scope));
                state.actual.unsure.remove(&scope);
                if journaled {
                    let block = self.lasting(block);
                    self.record(JournalEntry::Done(scope, block));
                }
                self.commit();
                self.blocked(index, scope, block, asks, true);
            }
            (Op::Delete { .. }, Ok(())) => {
                if journaled {
                    self.record(JournalEntry::Undone(scope));
                }
                self.commit();
                self.deleted_for(index, scope, asks);
            }
            (_, Err(error)) => {
                if op.block().is_some() && journaled {
                    // A command that failed half-way may have blocked; one that was never run did nothing.
                    if !error.never_ran() {
                        state.actual.unsure.insert(scope);
                    } else if !state.actual.may_have(scope) {
                        self.record(JournalEntry::Undone(scope));
                    }
                }
                self.not_done(index, &op, asks, &error.to_string(), OutcomeResult::Failed);
            }
        }
        let Some(state) = self.backends.get_mut(index) else { return };
        // Whatever changed meanwhile is done next.
        let more = differs(scope, &self.desired, &state.actual, &state.caps, self.clock.now());
        let (asked, failing) = (state.asks.contains_key(&scope), state.backoff.get(scope).is_some());
        if asked || if more { !failing } else { state.ending.contains_key(&scope) } {
            state.queue.push(scope);
        }
        if !more || failing {
            self.done_with(index, scope);
        }
        self.enqueue(index + 1, scope);
    }

    /// There is nothing more to do about a scope, or it failed: perhaps it was the last one that was to be put right.
    pub(super) fn done_with(&mut self, index: usize, scope: Prefix) {
        let Some(state) = self.backends.get_mut(index).filter(|state| !state.is_in_flight(scope)) else {
            return;
        };
        state.restoring.remove(&scope);
        if let Some(repair) = &mut state.sync.repair
            && repair.remove_waiting(scope)
        {
            self.repaired_if_done(index);
        }
    }

    /// A block is there as it is wanted: it was `put`, or it was there.
    fn blocked(&mut self, index: usize, scope: Prefix, block: &Block, mut asks: Vec<Ask>, put: bool) {
        let Some(state) = self.backends.get_mut(index) else { return };
        // Nobody asks, but what had failed is told like what was asked for.
        let unasked = state.backoff.remove(scope).is_some() && asks.is_empty();
        asks.extend(unasked.then(|| Ask::unasked(Action::Block, block)));
        let mut first = put || unasked;
        for ask in asks {
            let result = match ask.action {
                Action::Unblock => OutcomeResult::Released,
                Action::Block | Action::Watch if std::mem::take(&mut first) => OutcomeResult::Applied,
                _ if put && !ask.already => OutcomeResult::Applied,
                _ => OutcomeResult::Already,
            };
            self.answer(index, scope, &ask, result, block.until, None);
        }
    }

    /// A deletion is done, and these verdicts got it. Where others came meanwhile, what ends may be a newer block: all of them are
    /// answered together by whatever is done next.
    fn deleted_for(&mut self, index: usize, scope: Prefix, asks: Vec<Ask>) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let Some(newer) = state.asks.get_mut(&scope) else { return self.deleted(index, scope, asks) };
        newer.splice(..0, asks);
        state.backoff.remove(scope);
        state.actual.forget(scope);
    }

    /// A block is deleted, or ended by itself.
    pub(super) fn deleted(&mut self, index: usize, scope: Prefix, mut asks: Vec<Ask>) {
        let now = self.clock.now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let failure = state.backoff.remove(scope);
        let was_there = state.actual.forget(scope);
        let never =
            failure.filter(|_| !was_there).map(|failure| format!("it was never applied: {}", failure.why));
        let ending = state.ending.remove(&scope);
        if let Some((block, _)) = ending.as_ref().filter(|_| asks.is_empty()) {
            asks.push(Ask::unasked(Action::Block, block));
        }
        let (result, until, why) = match ending {
            Some((_, End::Refused(why))) => (OutcomeResult::Refused, None, Some(why)),
            Some((block, _)) if block.is_over(now) => (OutcomeResult::Expired, block.until, never.clone()),
            Some((block, End::Released(why))) => {
                (OutcomeResult::Released, block.until, why.or(never.clone()))
            }
            None => (OutcomeResult::Released, None, never.clone()),
        };
        for ask in asks {
            if ask.action == Action::Block {
                self.answer(index, scope, &ask, result, until, why.clone());
            } else {
                self.answer(index, scope, &ask, OutcomeResult::Released, None, never.clone());
            }
        }
    }

    /// There is nothing to do about a scope.
    pub(super) fn settled(&mut self, index: usize, scope: Prefix) {
        let now = self.clock.now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let asks = state.asks.remove(&scope).unwrap_or_default();
        if let Some(block) = wanted_there(scope, &self.desired, &state.caps, now).cloned() {
            return self.blocked(index, scope, &block, asks, false);
        }
        // What is not proven is wanted, but not from this one.
        let refused = self.desired.get(scope).filter(|block| !block.is_over(now)).map(|_| {
            let name = state.caps.name;
            format!("no handshake proves {scope}, and {name} cannot leave alone what is established")
        });
        if refused.is_none() && state.ending.contains_key(&scope) {
            return self.deleted(index, scope, asks);
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
    pub(super) fn not_done(
        &mut self,
        index: usize,
        op: &Op,
        mut asks: Vec<Ask>,
        why: &str,
        result: OutcomeResult,
    ) {
        let (scope, now, held) = (op.scope(), self.clock.now(), result == OutcomeResult::Refused);
        let Some(state) = self.backends.get_mut(index) else { return };
        let news = state.backoff.failed(scope, why, held, now);
        if held && (news || !asks.is_empty()) {
            self.outcomes.complain(&format!("refused: {why}"));
        }
        let mut until = op.block().and_then(|block| block.until);
        if news && asks.is_empty() {
            let action = if op.block().is_some() { Action::Block } else { Action::Unblock };
            asks.push(Ask::unasked(action, op.about()));
            until = op.about().until;
        }
        for ask in asks {
            // Whoever is to be unblocked is not blocked, nor is going to be.
            let result = if held && ask.action == Action::Unblock { OutcomeResult::Already } else { result };
            self.answer(index, scope, &ask, result, until, Some(why.to_owned()));
        }
    }

    /// The outcome for a verdict that asked.
    pub(super) fn answer(
        &mut self,
        index: usize,
        scope: Prefix,
        ask: &Ask,
        result: OutcomeResult,
        until: Option<Timestamp>,
        error: Option<String>,
    ) {
        let until = until.map(|until| self.clock.wall(until));
        let name = self.backends.get(index).map(|state| state.caps.name);
        let outcome = OutcomeBody::new(ask.action, scope, name, result);
        let outcome = OutcomeBody { until, error, reason: ask.remark.clone(), ..outcome };
        self.tell(&ask.common, outcome, ask.reply.as_ref());
    }

    /// Writes an outcome, which is also sent to the client that waits for it.
    pub(super) fn tell(&mut self, common: &Common, outcome: OutcomeBody, reply: Option<&Reply>) {
        let block = self.desired.get(outcome.scope);
        let record = self.outcomes.explained(common, outcome, block);
        send(reply, &record);
    }
}

/// A record as a line, for the client that waits for it.
pub(super) fn send(reply: Option<&Reply>, record: &Record) {
    let Some(reply) = reply else { return };
    let mut line = Vec::new();
    if record.encode(&mut line).is_ok() {
        reply.send(line);
    }
}
