//! What came of operations: what is there from now on, and the outcomes.

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Record};

use super::backend_state::{Ask, End};
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
        let Some(state) = self.backends.get_mut(index) else { return };
        if !matches!(event, Event::Drifted(_))
            && let Some(worker) = state.workers.get_mut(lane)
        {
            worker.busy = None;
        }
        match event {
            Event::Applied(results) => {
                let ops = state.given.get_mut(lane).map(std::mem::take).unwrap_or_default();
                for (op, result) in ops.iter().zip(results) {
                    self.applied(index, op, result);
                }
            }
            Event::Synced { made, listing } => self.synced(index, made, listing),
            Event::Purged(result) => self.purged(index, result),
            Event::Drifted(drift) => self.drifted(index, drift),
            Event::Broke => {
                let why = "its thread broke; this is a bug of psentry".to_owned();
                self.broke(index, lane, &why);
            }
        }
    }

    fn drifted(&mut self, index: usize, drift: Result<Drift, Error>) {
        let Some(state) = self.backends.get_mut(index) else { return };
        if !state.sync.done {
            return;
        }
        let who = match drift {
            Ok(Drift { who }) => who,
            Err(error) => {
                let name = state.caps.name;
                self.outcomes
                    .complain(&format!("{name}: changes by others are not reported any more: {error}"));
                None
            }
        };
        state.sync.rate.disturbed(std::time::Instant::now());
        match &mut state.sync.drifted {
            Some(known) => *known = known.take().or(who),
            none => *none = Some(who),
        }
    }

    /// An operation is over.
    fn applied(&mut self, index: usize, op: &Op, result: Result<(), Error>) {
        let scope = op.scope();
        let Some(state) = self.backends.get_mut(index) else { return };
        let is_journaled = state.caps.is_journaled();
        match (op, result) {
            (Op::Put { block, .. }, Ok(())) => {
                state.actual.entries.insert(scope, block.entry(scope));
                state.actual.unsure.remove(&scope);
                if is_journaled {
                    let block = self.lasting(block);
                    self.note(Noted::Done(scope, block));
                }
                self.commit();
                self.put(index, scope, block);
            }
            (Op::Delete { .. }, Ok(())) => {
                if is_journaled {
                    self.note(Noted::Undone(scope));
                }
                self.commit();
                self.deleted(index, scope);
            }
            (Op::Put { .. }, Err(error)) => {
                // A command that failed half-way may have blocked; one that was never run did nothing.
                if !state.caps.lists && !error.never_ran() {
                    state.actual.unsure.insert(scope);
                } else if is_journaled && !state.actual.may_have(scope) {
                    self.note(Noted::Undone(scope));
                }
                self.failed(index, op, &error.to_string());
            }
            (Op::Delete { .. }, Err(error)) => self.failed(index, op, &error.to_string()),
        }
        self.is_right(index, scope);
        let Some(state) = self.backends.get_mut(index) else { return };
        // Whatever changed meanwhile is done next.
        let more = plan(scope, &self.desired, &state.actual, &state.caps, self.clock.now());
        let (asked, failing) = (state.asks.contains_key(&scope), state.backoff.get(scope).is_some());
        let is_due = if more.is_some() { !failing } else { state.ending.contains_key(&scope) };
        if asked || is_due {
            state.queue.push(scope);
        }
        self.enqueue(index + 1, scope);
    }

    /// A block is confirmed.
    fn put(&mut self, index: usize, scope: Prefix, block: &Block) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let failed = state.backoff.remove(scope).is_some();
        let asks = state.take_asks(scope);
        let (mut blocked, common) = (false, common_of(block));
        for ask in &asks {
            let result = match ask.action {
                Action::Unblock => OutcomeResult::Released,
                Action::Block | Action::Watch => {
                    let already = std::mem::replace(&mut blocked, true) && ask.already;
                    if already { OutcomeResult::Already } else { OutcomeResult::Applied }
                }
            };
            self.answer(index, scope, ask, result, Some(block), None);
        }
        // Nobody asks, but what had failed is told like what was asked for.
        if asks.is_empty() && failed {
            let outcome = self.outcome(index, Action::Block, scope, OutcomeResult::Applied, Some(block));
            self.outcomes.outcome(&common, outcome);
        }
    }

    /// A block is deleted, or ended by itself.
    pub(super) fn deleted(&mut self, index: usize, scope: Prefix) {
        let now = self.clock.now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let failure = state.backoff.remove(scope);
        let was_there = state.actual.forget(scope);
        let never =
            failure.filter(|_| !was_there).map(|failure| format!("it was never applied: {}", failure.why));
        let asks = state.take_asks(scope);
        let ending = state.ending.remove(&scope);
        let over = ending.as_ref().is_some_and(|(block, _)| block.is_over(now));
        let asked = asks.iter().any(|ask| ask.action == Action::Unblock);
        for ask in &asks {
            let result = match ask.action {
                Action::Block if over => OutcomeResult::Expired,
                _ => OutcomeResult::Released,
            };
            let block = ending.as_ref().map(|(block, _)| block).filter(|_| ask.action == Action::Block);
            self.answer(index, scope, ask, result, block, never.clone());
        }
        let Some((block, end)) = ending.filter(|_| !asked) else { return };
        let (result, why) = match end {
            End::Expired => (OutcomeResult::Expired, never),
            End::Released(why) => (OutcomeResult::Released, why.or(never)),
            End::Refused(why) => (OutcomeResult::Refused, Some(why)),
        };
        if asks.is_empty() {
            let outcome = self.outcome(index, Action::Block, scope, result, Some(&block));
            self.outcomes.outcome(&common_of(&block), OutcomeBody { error: why, ..outcome });
        }
    }

    /// There is nothing to do about a scope.
    pub(super) fn settled(&mut self, index: usize, scope: Prefix) {
        let now = self.clock.now();
        let Some(state) = self.backends.get(index) else { return };
        if let Some(block) = wanted_there(scope, &self.desired, &state.caps, now).cloned() {
            let failed = self.backends.get_mut(index).and_then(|state| state.backoff.remove(scope)).is_some();
            let asks = self.take_asks(index, scope);
            for ask in &asks {
                let result = match ask.action {
                    Action::Unblock => OutcomeResult::Released,
                    Action::Block | Action::Watch => OutcomeResult::Already,
                };
                self.answer(index, scope, ask, result, Some(&block), None);
            }
            if failed && asks.is_empty() {
                let outcome = self.outcome(index, Action::Block, scope, OutcomeResult::Applied, Some(&block));
                self.outcomes.outcome(&common_of(&block), outcome);
            }
            return;
        }
        // What is not proven is wanted, but not from this one.
        let refused = self.desired.get(scope).filter(|block| !block.is_over(now)).map(|_| {
            let name = state.caps.name;
            format!("no handshake proves {scope}, and {name} cannot leave alone what is established")
        });
        if refused.is_none() && state.ending.contains_key(&scope) {
            return self.deleted(index, scope);
        }
        for ask in self.take_asks(index, scope) {
            let result = match (ask.action, &refused) {
                (Action::Unblock, _) => OutcomeResult::Already,
                (_, Some(_)) => OutcomeResult::Refused,
                (_, None) => OutcomeResult::Released,
            };
            let why = refused.clone().filter(|_| result == OutcomeResult::Refused);
            self.answer(index, scope, &ask, result, None, why);
        }
    }

    fn take_asks(&mut self, index: usize, scope: Prefix) -> Vec<Ask> {
        self.backends.get_mut(index).map(|state| state.take_asks(scope)).unwrap_or_default()
    }

    /// Something could not be done; it is tried again.
    pub(super) fn failed(&mut self, index: usize, op: &Op, why: &str) {
        self.not_done(index, op, why, OutcomeResult::Failed);
    }

    /// A block must not be made yet; it is tried again in a second.
    pub(super) fn held(&mut self, index: usize, op: &Op, why: &str) {
        self.not_done(index, op, why, OutcomeResult::Refused);
    }

    fn not_done(&mut self, index: usize, op: &Op, why: &str, result: OutcomeResult) {
        let (scope, now, held) = (op.scope(), self.clock.now(), result == OutcomeResult::Refused);
        let Some(state) = self.backends.get_mut(index) else { return };
        let news = state.backoff.failed(scope, why, held, now);
        let asks = state.take_asks(scope);
        if held && (news || !asks.is_empty()) {
            self.outcomes.complain(&format!("refused: {why}"));
        }
        for ask in &asks {
            // Whoever is to be unblocked is not blocked, nor is going to be.
            let result = if held && ask.action == Action::Unblock { OutcomeResult::Already } else { result };
            self.answer(index, scope, ask, result, op.block(), Some(why.to_owned()));
        }
        if news && asks.is_empty() {
            let (action, block) = match op {
                Op::Put { block, .. } => (Action::Block, block),
                Op::Delete { was, .. } => (Action::Unblock, was),
            };
            let outcome = self.outcome(index, action, scope, result, Some(block));
            self.outcomes.outcome(&common_of(block), OutcomeBody { error: Some(why.to_owned()), ..outcome });
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
