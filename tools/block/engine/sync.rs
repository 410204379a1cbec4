//! What is there: listed at the start, after somebody changed something, and for a question. The truth is the list; what
//! differs from what is wanted is put back or deleted, and reported once.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix};

use super::Engine;
use super::backend_state::{Broken, Repair};
use crate::backend::Listing;
use crate::block::{Block, Entry};
use crate::error::Error;
use crate::outcomes::common_of;
use crate::reconcile::{SLACK, reconcile, wanted_there};
use crate::worker::Task;

/// Who it is of whom nothing was told.
const SOMEBODY: &str = "somebody";
/// Up to how many blocks that are put back have an outcome each.
const NAMED: usize = 20;

impl Engine {
    /// Has a backend listed, where that is due and it is free.
    pub(super) fn sync_if_due(&mut self, index: usize) {
        if self.purge_if_wanted(index) {
            return;
        }
        self.settle_what_needs_nothing(index);
        let now = Instant::now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let idle = state.workers.iter().all(|worker| worker.busy.is_none());
        if !idle || state.sync.running.is_some() {
            return;
        }
        let aged =
            state.caps.list_every.zip(state.sync.last).is_some_and(|(every, last)| now >= last + every);
        let drifted = state.sync.drifted.is_some() && state.sync.rate.not_before(now).is_none();
        let due = match &state.broken {
            Some(broken) => now >= broken.retry,
            None => state.sync.wanted || drifted || aged || (!state.sync.done && state.queue.len() > 0),
        };
        if due {
            self.begin_sync(index);
        }
    }

    /// Has a backend listed now, which is free.
    pub(super) fn begin_sync(&mut self, index: usize) {
        let Some(state) = self.backends.get_mut(index) else { return };
        state.sync.wanted = false;
        state.sync.running = Some(Instant::now());
        state.sync.begun += 1;
        // For a question it is no matter whether a command is there that blocks.
        let ensure = self.ensures && !(self.once && state.caps.is_journaled());
        if let Some(worker) = state.workers.first_mut() {
            worker.give(Task::Sync { ensure });
        }
    }

    /// A backend was listed, or could not be.
    pub(super) fn synced(
        &mut self,
        index: usize,
        made: Result<bool, Error>,
        listing: Result<Listing, Error>,
    ) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let began = state.sync.running.take().unwrap_or_else(Instant::now);
        state.sync.ended += 1;
        state.sync.last = Some(Instant::now());
        let first = !state.sync.done;
        let who = state.sync.drifted.take();
        let made = match made {
            Ok(made) => made,
            Err(error) => return self.cannot_work(index, &error),
        };
        self.works(index);
        match listing {
            Ok(listing) => self.listed(index, listing, first, made, who, began),
            Err(error) => self.unread(index, &error, who),
        }
    }

    /// A backend cannot work at all. It fails alone, and is tried again.
    fn cannot_work(&mut self, index: usize, error: &Error) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let (name, why) = (state.caps.name, error.to_string());
        let news = state.broken.as_ref().is_none_or(|broken| broken.why != why);
        state.broken = Some(Broken::again(state.broken.as_ref(), why.clone()));
        if news && self.started {
            self.outcomes.report(&format!("{name} cannot work, and is tried again: {why}"));
        }
        if news && !self.started {
            self.errors.push((index, error.clone()));
        }
    }

    fn works(&mut self, index: usize) {
        let Some(state) = self.backends.get_mut(index) else { return };
        if state.broken.take().is_some() {
            let name = state.caps.name;
            // What it failed to do is done by what is planned from the list.
            state.sync.done = false;
            self.outcomes.report(&format!("{name} works again"));
        }
    }

    /// A thread of a backend is gone.
    pub(super) fn broke(&mut self, index: usize, lane: usize, why: &str) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let ops = state.given.get_mut(lane).map(std::mem::take).unwrap_or_default();
        state.sync.running = None;
        let never = Duration::from_secs(u32::MAX.into());
        state.broken = Some(Broken { why: why.to_owned(), retry: Instant::now() + never, wait: never });
        let name = state.caps.name;
        self.outcomes.report(&format!("{name}: {why}"));
        for op in ops {
            self.failed(index, &op, why);
            self.enqueue(index + 1, op.scope());
        }
    }

    /// What is there cannot be read. Each reason is told once.
    fn unread(&mut self, index: usize, error: &Error, who: Option<Option<String>>) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let (name, why) = (state.caps.name, error.to_string());
        state.sync.rate.unread(Instant::now());
        state.sync.drifted = Some(who.flatten());
        state.sync.done = true;
        if self.once && !self.started {
            // Whoever asked is told, and it is not tried again.
            state.sync.unread = Some(why);
            self.errors.push((index, error.clone()));
            return;
        }
        if state.sync.unread.as_ref() != Some(&why) {
            self.outcomes.report(&format!("{name}: what is blocked cannot be read: {why}"));
            let Some(state) = self.backends.get_mut(index) else { return };
            state.sync.unread = Some(why);
        }
    }

    fn listed(
        &mut self,
        index: usize,
        listing: Listing,
        first: bool,
        made: bool,
        who: Option<Option<String>>,
        began: Instant,
    ) {
        let now = self.clock.now();
        let entries: HashMap<Prefix, Entry> =
            listing.entries.into_iter().map(|entry| (entry.scope, self.entry_of_wall(entry))).collect();
        let Some(state) = self.backends.get_mut(index) else { return };
        state.sync.unread = None;
        state.sync.done = true;
        if listing.shadowed != state.shadowed {
            let new: Vec<&String> =
                listing.shadowed.iter().filter(|sentence| !state.shadowed.contains(sentence)).collect();
            let name = state.caps.name;
            new.iter().for_each(|sentence| self.outcomes.report(&format!("{name}: {sentence}")));
            state.shadowed = listing.shadowed;
        }
        if first && self.adopts {
            self.adopt(&entries);
        }
        let Some(state) = self.backends.get_mut(index) else { return };
        if !state.caps.lists {
            // What it has is known by the journal, and put in place when that is read.
            let scopes: Vec<Prefix> = state.actual.scopes().collect();
            scopes.into_iter().for_each(|scope| state.queue.push(scope));
            let wanted: Vec<Prefix> = self.desired.iter().map(|(scope, _)| scope).collect();
            wanted.into_iter().filter(|_| !self.once).for_each(|scope| state.queue.push(scope));
            return;
        }
        // What was there as it is wanted, and is not any more.
        let is_there = |entries: &HashMap<Prefix, Entry>, scope: Prefix, block: &Block| {
            entries.get(&scope).is_some_and(|entry| entry.is(block, SLACK))
        };
        let before = std::mem::take(&mut state.actual.entries);
        let lost: HashSet<Prefix> = before
            .keys()
            .copied()
            .filter(|scope| {
                let block = wanted_there(*scope, &self.desired, &state.caps, now);
                block.is_some_and(|block| {
                    is_there(&before, *scope, block) && !is_there(&entries, *scope, block)
                })
            })
            .collect();
        state.actual.entries = entries;
        if self.once {
            return;
        }
        let ops = reconcile(&self.desired, &state.actual, &state.caps, now);
        let again: Vec<Prefix> = ops
            .iter()
            .map(crate::backend::Op::scope)
            .filter(|scope| first || state.backoff.get(*scope).is_none())
            .collect();
        again.into_iter().for_each(|scope| state.queue.push(scope));
        let by_clock = state.sync.clock_was_set;
        // A list that was begun before the clock was set is followed by another one.
        state.sync.clock_was_set &= state.sync.wanted;
        if first || by_clock {
            return;
        }
        if lost.is_empty() && !made {
            state.sync.rate.looked(Instant::now());
            return;
        }
        let who = who.flatten().unwrap_or_else(|| SOMEBODY.to_owned());
        let waits = lost.clone();
        state.sync.repair = Some(Repair { who, began, made, scopes: lost, waits });
        self.repaired_if_done(index);
    }

    /// Without a journal what an earlier run left is wanted, unless its own note says that it is over.
    fn adopt(&mut self, entries: &HashMap<Prefix, Entry>) {
        for (scope, entry) in entries {
            let block = Block::from(entry);
            if block.is_over(self.clock.now()) {
                continue;
            }
            match self.guard.refusal(*scope) {
                Ok(None) => {
                    if self.desired.restore(*scope, block) {
                        self.note_wanted(*scope);
                        self.enqueue_everywhere(*scope);
                    }
                }
                Ok(Some(why)) => self.outcomes.complain(&format!("refused: {why}")),
                Err(error) => self.outcomes.complain(&error.to_string()),
            }
        }
    }

    /// Something about a scope was done: perhaps it was the last one that was to be put back.
    pub(super) fn put_back(&mut self, index: usize, scope: Prefix) {
        let Some(repair) = self.backends.get_mut(index).and_then(|state| state.sync.repair.as_mut()) else {
            return;
        };
        if repair.waits.remove(&scope) {
            self.repaired_if_done(index);
        }
    }

    fn repaired_if_done(&mut self, index: usize) {
        let Some(state) = self.backends.get_mut(index) else { return };
        let Some(repair) = state.sync.repair.take_if(|repair| repair.waits.is_empty()) else { return };
        let back: Vec<Prefix> =
            repair.scopes.iter().copied().filter(|scope| state.actual.entries.contains_key(scope)).collect();
        let what = match (back.len(), repair.made) {
            (0, _) => "the ruleset of psentry".to_owned(),
            (count, true) => format!("the ruleset of psentry and {}", blocks(count)),
            (count, false) => blocks(count),
        };
        let (name, who) = (state.caps.name, repair.who);
        let took = repair.began.elapsed().as_millis();
        state.repaired = Some((self.clock.wall(self.clock.now()), format!("{what}, which {who} deleted")));
        let fight = state.sync.rate.repaired(Instant::now());
        self.outcomes.counters().repairs.add();
        self.outcomes.report(&format!(
            "{name}: {who} deleted {what}; put back within {took} ms; to release somebody there is 'psentry-block unblock CIDR'"
        ));
        if let Some(wait) = fight {
            self.outcomes.report(&format!(
                "somebody deletes psentry's blocks on {name} again and again; from now on they are put back only every \
                 {} s, and less often, until a minute passes in peace: find out who it is",
                wait.as_secs()
            ));
        }
        for scope in back.iter().filter(|_| back.len() <= NAMED) {
            let Some(block) = self.desired.get(*scope).cloned() else { continue };
            let outcome = self.outcome(index, Action::Block, *scope, OutcomeResult::Applied, Some(&block));
            let why = format!(
                "put back, for {who} had deleted it; to release it there is 'psentry-block unblock {scope}'"
            );
            self.outcomes.outcome(&common_of(&block), OutcomeBody { reason: Some(why), ..outcome });
        }
    }

    fn entry_of_wall(&self, entry: Entry) -> Entry {
        let until = entry.until.map(|until| self.clock.of_wall(until));
        let since = entry.since.map(|since| self.clock.of_wall(since));
        Entry { until, since, ..entry }
    }
}

fn blocks(count: usize) -> String {
    format!("{count} block{}", if count == 1 { "" } else { "s" })
}
