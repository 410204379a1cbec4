//! A panic, as the worker sees it: while it holds nothing is blocked, not even what waits already, and what still stands
//! is let in. Should it be over before the worker has seen it, all that stood or waited before it is let in nevertheless.

use psentry_records::{OutcomeResult, Prefix};

use super::{Job, Worker};
use crate::backend::Change;
use crate::panic::{Mark, Order, Panic};
use crate::worker::schedule::{Plan, State};

impl Worker {
    /// Where to look whether a panic holds, and the last one before it was read what an earlier run left.
    pub(crate) fn heed(&mut self, panic: Panic, opened: Mark) {
        self.opened = opened;
        self.panic = panic;
    }

    /// What may be done of these: while a panic holds, nothing that blocks.
    pub(super) fn hold_off(&mut self, jobs: Vec<(Change, Job)>) -> Vec<(Change, Job)> {
        if jobs.iter().all(|(change, _)| change.block().is_none()) {
            return jobs;
        }
        let (order, mark) = (self.panic.holds(), self.panic.mark());
        let passed = mark.is_after(self.opened);
        let is_late = |job: &Job| match job {
            Job::Asked(asks) => asks.last().is_some_and(|ask| mark.is_after(ask.mark)),
            _ => passed,
        };
        if order.is_none() && !jobs.iter().any(|(_, job)| is_late(job)) {
            return jobs;
        }
        self.inbox.tell_opened();
        let over = || "a panic was declared while it waited, and is over".to_owned();
        let why = order.as_ref().map_or_else(over, Order::sentence);
        let mut rest = Vec::with_capacity(jobs.len());
        for (change, job) in jobs {
            match job {
                job if change.block().is_none() || (order.is_none() && !is_late(&job)) => {
                    rest.push((change, job));
                }
                Job::Asked(asks) => {
                    self.answer(change.scope, &asks, None, |_| OutcomeResult::Refused, Some(&why));
                }
                // What it stood for is let in with all the rest.
                _ => {}
            }
        }
        rest
    }

    /// While a panic holds, or since one was seen last, lets in whatever is planned: what was being done when it was
    /// declared, too.
    pub(super) fn open_up(&mut self) {
        let stays = |plan: &Plan| !matches!(plan.state, State::Leaving { .. } | State::LetIn);
        let (holds, mark) = (self.panic.holds().is_some(), self.panic.mark());
        if !holds && !mark.is_after(self.opened) {
            return;
        }
        self.opened = mark;
        self.rest();
        let scopes: Vec<Prefix> = self.scopes_with(stays);
        if scopes.is_empty() {
            return;
        }
        self.inbox.tell_opened();
        self.damage = None;
        let jobs = scopes.iter().filter_map(|scope| self.release(*scope, Job::End)).collect();
        self.see_through(jobs);
        let left = self.scopes_with(|plan| matches!(plan.state, State::Leaving { .. })).len();
        let name = self.backend.name();
        let (what, then) = if holds {
            ("a panic holds", ", and nobody is blocked until 'psentry-block resume'")
        } else {
            ("there was a panic", "")
        };
        let gone = scopes.len() - left.min(scopes.len());
        self.reporter.tell(&format!("{name}: {what}: {gone} of {} blocks let in{then}", scopes.len()));
    }
}
