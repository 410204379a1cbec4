//! What backends are given to do. They are listed at the start, after somebody changed something, and for a question: the truth is
//! the list. For each scope that is enqueued they get whatever makes what is there what is wanted; in their order, each once the
//! one before has confirmed it or failed, or has taken longer than its patience.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use psentry_records::{OutcomeResult, Prefix};

use super::Engine;
use super::backend_state::{Broken, Given, Job, Ruleset, Work};
use super::repair::{Repair, UNREAD};
use super::start::Purpose;
use crate::backend::{Drift, Listing, Op};
use crate::block::{Block, Entry};
use crate::error::Error;
use crate::journal::Entry as Noted;
use crate::reconcile::{plan, reconcile};
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
                        self.is_right(index, scope);
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
        let is_journaled = self.backends.get(index).is_some_and(|state| state.caps.is_journaled());
        for op in ops.iter().filter(|_| is_journaled) {
            self.note(Noted::Unsure(op.scope(), self.lasting(op.about())));
        }
        self.commit();
        let task = Task::Apply(ops.iter().map(|op| self.op_by_wall(op)).collect());
        let Some(state) = self.backends.get_mut(index) else { return };
        if state.sync.ruleset == Ruleset::Purged && ops.iter().any(|op| op.block().is_some()) {
            state.sync.ruleset = Ruleset::MadeAnew;
        }
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

impl Engine {
    /// Has a backend listed, or all that it keeps deleted, where that is due and it is idle.
    pub(super) fn sync_if_due(&mut self, index: usize) {
        let now = Instant::now();
        let Some(state) = self.backends.get_mut(index).filter(|state| state.is_idle()) else { return };
        if state.sync.ruleset == Ruleset::Purge {
            self.begin_purge(index);
        } else if state.next_list(now).is_some_and(|moment| moment <= now) {
            let may_repair = state.sync.rate.not_before(now).is_none();
            self.begin_sync(index, may_repair);
        }
    }

    /// Has a backend listed now, which is idle; `repairs`: what differs is put right.
    pub(super) fn begin_sync(&mut self, index: usize, repairs: bool) {
        let Some(state) = self.backends.get_mut(index) else { return };
        state.sync.wanted = false;
        let ensure = match self.purpose {
            Purpose::Serve => repairs && state.sync.ruleset != Ruleset::Purged,
            // For a question it is no matter whether a command is there that blocks.
            Purpose::Block => !state.caps.is_journaled(),
            Purpose::Release | Purpose::Read => false,
        };
        if let Some(lane) = state.lanes.first_mut() {
            lane.give(Task::Sync { ensure }, Work::List { repairs });
        }
    }

    /// A backend was listed, which began at the moment `began`, or could not be.
    pub(super) fn synced(
        &mut self,
        index: usize,
        (began, repairs): (Instant, bool),
        made: Result<bool, Error>,
        listing: Result<Listing, Error>,
    ) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                // It fails alone, and is tried again.
                state.broken = Some(Broken::again(state.broken.as_ref(), &error));
                return;
            }
        };
        let again = made && repairs && state.sync.ruleset == Ruleset::MadeAnew;
        if again {
            state.sync.ruleset = Ruleset::Kept;
        }
        let first = state.sync.listed.replace(began).is_none();
        let drift = state.sync.drifted.take();
        if let Some(broken) = state.broken.take() {
            // What failed for that reason waits no longer.
            state.backoff.take_all().into_iter().for_each(|scope| state.queue.push(scope));
            if broken.reported {
                self.outcomes.report(&format!("{} works again", state.caps.name));
            }
        }
        match listing {
            Ok(listing) => {
                let repair = Repair::new(drift, began, made && !again);
                self.listed(index, listing, first, repairs, repair);
            }
            Err(error) => self.unread(index, error, drift),
        }
    }

    /// Reports which backends cannot work, each reason once.
    pub(super) fn report_broken(&mut self) {
        for state in &mut self.backends {
            let name = state.caps.name;
            if let Some(broken) = state.broken.as_mut().filter(|broken| !broken.reported) {
                broken.reported = true;
                let error = &broken.error;
                self.outcomes.report(&format!("{name} cannot work, and is tried again: {error}"));
            }
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

    /// What is there cannot be read. Each reason is told once.
    fn unread(&mut self, index: usize, error: Error, drift: Option<Drift>) {
        let Some(state) = self.backends.get_mut(index) else { return };
        state.sync.rate.looked(Instant::now(), UNREAD);
        state.sync.drifted = Some(drift.unwrap_or_default());
        let before = state.sync.unread.replace(error.clone());
        let news = before.is_none_or(|before| before.to_string() != error.to_string());
        // Whoever asks one question is told in the answer.
        if news && self.purpose == Purpose::Serve {
            let name = state.caps.name;
            self.outcomes.report(&format!("{name}: what is blocked cannot be read: {error}"));
        }
    }

    fn listed(&mut self, index: usize, listing: Listing, first: bool, repairs: bool, repair: Repair) {
        let entries = listing.entries.iter();
        let entries = entries.map(|entry| entry.with_moments(|moment| self.clock.of_wall(moment)));
        let entries: HashMap<Prefix, Entry> = entries.map(|entry| (entry.scope, entry)).collect();
        let is_once = self.is_once();
        let Some(state) = self.backends.get_mut(index) else { return };
        state.sync.unread = None;
        for sentence in listing.shadowed.iter().filter(|sentence| !state.shadowed.contains(sentence)) {
            self.outcomes.report(&format!("{}: {sentence}", state.caps.name));
        }
        state.shadowed = listing.shadowed;
        if !state.caps.lists {
            // What it has is known by the journal, and put in place when that is read.
            let scopes = state.actual.scopes();
            let wanted = self.desired.iter().map(|(scope, _)| scope).filter(|_| !is_once);
            let scopes: Vec<Prefix> = scopes.chain(wanted).collect();
            scopes.into_iter().for_each(|scope| state.queue.push(scope));
            return;
        }
        let before = std::mem::replace(&mut state.actual.entries, entries);
        if is_once {
            return;
        }
        if first {
            let ops = reconcile(&self.desired, &state.actual, &state.caps, self.clock.now());
            ops.iter().for_each(|op| state.queue.push(op.scope()));
        } else {
            self.put_right(index, &before, repairs, repair);
        }
    }

    /// Without a journal what an earlier run left is wanted, unless its own note says that it is over.
    pub(super) fn adopt(&mut self) {
        let there = self.backends.iter().flat_map(|state| state.actual.entries.values());
        let there: Vec<(Prefix, Block)> = there.map(|entry| (entry.scope, Block::from(entry))).collect();
        self.restore(there);
        let wanted: Vec<Prefix> = self.desired.iter().map(|(scope, _)| scope).collect();
        for scope in wanted {
            self.note_wanted(scope);
            self.enqueue_everywhere(scope);
        }
    }
}
