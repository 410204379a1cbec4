//! What is there: listed at the start, after somebody changed something, and for a question. The truth is the list; what
//! differs from what is wanted is put right (`repair.rs`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use psentry_records::Prefix;

use super::Engine;
use super::backend_state::Broken;
use super::repair::Repair;
use crate::backend::Listing;
use crate::block::{Block, Entry};
use crate::error::Error;
use crate::reconcile::reconcile;
use crate::worker::Task;

impl Engine {
    /// Has a backend listed, where that is due and it is free.
    pub(super) fn sync_if_due(&mut self, index: usize) {
        if self.purge_if_wanted(index) {
            return;
        }
        let now = Instant::now();
        let Some(state) = self.backends.get_mut(index) else { return };
        let idle = state.workers.iter().all(|worker| worker.busy.is_none());
        if !idle || state.sync.running.is_some() {
            return;
        }
        let aged =
            state.caps.list_every.zip(state.sync.last).is_some_and(|(every, last)| now >= last + every);
        let may_repair = state.sync.rate.not_before(now).is_none();
        let drifted = state.sync.drifted.is_some() && may_repair;
        let due = match &state.broken {
            Some(broken) => now >= broken.retry,
            None => state.sync.wanted || drifted || aged,
        };
        if due {
            self.begin_sync(index, may_repair);
        }
    }

    /// Has a backend listed now, which is free; `repairs`: what differs is put right.
    pub(super) fn begin_sync(&mut self, index: usize, repairs: bool) {
        let Some(state) = self.backends.get_mut(index) else { return };
        state.sync.wanted = false;
        state.sync.repairs = repairs;
        state.sync.running = Some(Instant::now());
        state.sync.begun += 1;
        // For a question it is no matter whether a command is there that blocks.
        let ensure =
            self.ensures && repairs && !state.sync.purged && !(self.once && state.caps.is_journaled());
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
            Ok(made) => made && !(state.sync.repairs && std::mem::take(&mut state.sync.made_anew)),
            Err(error) => {
                state.sync.drifted = who;
                return self.cannot_work(index, &error);
            }
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
        let before = std::mem::replace(&mut state.actual.entries, entries);
        if first && !self.once {
            let ops = reconcile(&self.desired, &state.actual, &state.caps, self.clock.now());
            ops.iter().for_each(|op| state.queue.push(op.scope()));
        } else if !self.once {
            self.put_right(index, &before, who, Repair::new(began, made));
        }
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

    fn entry_of_wall(&self, entry: Entry) -> Entry {
        let until = entry.until.map(|until| self.clock.of_wall(until));
        let since = entry.since.map(|since| self.clock.of_wall(since));
        Entry { until, since, ..entry }
    }
}
