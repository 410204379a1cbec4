//! Backends are listed: at the start, after somebody changed something, and for a question. The truth is the list; what differs from
//! what is wanted is put right by `repair.rs`.

use std::collections::HashMap;
use std::time::Instant;

use psentry_records::Prefix;

use super::Engine;
use super::backend_state::{Broken, Ruleset, Work};
use super::repair::{Repair, UNREAD};
use super::start::Purpose;
use crate::backend::{Drift, Listing};
use crate::block::Entry;
use crate::error::Error;
use crate::reconcile::reconcile;
use crate::worker::Task;

impl Engine {
    /// Has a backend listed, or all that it keeps deleted, where that is due and it is idle.
    pub(super) fn sync_if_due(&mut self, index: usize) {
        let now = Instant::now();
        let Some(state) = self.backends.get_mut(index).filter(|state| state.is_idle()) else { return };
        if state.sync.ruleset == Ruleset::Purge {
            self.begin_purge(index);
        } else if state.list_is_due(now) {
            let may_repair = state.sync.rate.not_before(now).is_none();
            self.begin_sync(index, may_repair);
        }
    }

    /// Has a backend listed now, which is idle; `repairs`: what differs is put right.
    pub(super) fn begin_sync(&mut self, index: usize, repairs: bool) {
        let Some(state) = self.backends.get_mut(index) else { return };
        (state.sync.wanted, state.sync.listed_last) = (false, true);
        let ensure = match self.purpose {
            Purpose::Serve => repairs && state.sync.ruleset != Ruleset::Purged,
            // For a question it is no matter whether a command is there that blocks.
            Purpose::Block => !state.caps.journaled,
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
        state.sync.listed = Some(began);
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
                self.listed(index, listing, repairs, repair);
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

    fn listed(&mut self, index: usize, listing: Listing, repairs: bool, repair: Repair) {
        let entries = listing.entries.iter();
        let entries = entries.map(|entry| entry.with_moments(|moment| self.clock.of_wall(moment)));
        let entries: HashMap<Prefix, Entry> = entries.map(|entry| (entry.scope, entry)).collect();
        let is_once = self.is_once();
        let Some(state) = self.backends.get_mut(index) else { return };
        state.sync.unread = None;
        let first = !std::mem::replace(&mut state.sync.was_read, true);
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
        if first && self.adopts {
            self.adopt(index);
        }
        if is_once {
            return;
        }
        let Some(state) = self.backends.get_mut(index) else { return };
        if first {
            let due = reconcile(&self.desired, &state.actual, &state.caps, self.clock.now());
            due.into_iter().for_each(|scope| state.queue.push(scope));
        } else {
            self.put_right(index, &before, repairs, repair);
        }
    }
}
