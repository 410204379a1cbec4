//! A panic, as the worker sees it: while it holds nothing is blocked, not even what waits already, and what still stands
//! is let in.

use psentry_records::{OutcomeResult, Prefix};

use super::{Job, Worker};
use crate::backend::Change;
use crate::panic::Panic;
use crate::worker::schedule::{Plan, State};

impl Worker {
    /// Where to look whether a panic holds.
    pub(crate) fn heed(&mut self, panic: Panic) {
        self.panic = panic;
    }

    /// What may be done of these: while a panic holds, nothing that blocks.
    pub(super) fn hold_off(&mut self, jobs: Vec<(Change, Job)>) -> Vec<(Change, Job)> {
        if jobs.iter().all(|(change, _)| change.block().is_none()) {
            return jobs;
        }
        let Some(order) = self.panic.holds() else { return jobs };
        self.inbox.tell_opened();
        let why = order.sentence();
        let mut rest = Vec::with_capacity(jobs.len());
        for (change, job) in jobs {
            match job {
                job if change.block().is_none() => rest.push((change, job)),
                Job::Asked(asks) => {
                    self.answer(change.scope, &asks, None, |_| OutcomeResult::Refused, Some(&why));
                }
                // What it stood for is let in with all the rest.
                _ => {}
            }
        }
        rest
    }

    /// While a panic holds, lets in whatever is planned: what was being done when it was declared, too.
    pub(super) fn open_up(&mut self) {
        let stays = |plan: &Plan| !matches!(plan.state, State::Leaving { .. } | State::LetIn);
        if self.panic.holds().is_none() {
            return;
        }
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
        self.reporter.tell(&format!(
            "{name}: a panic holds: {} of {} blocks let in, and nobody is blocked until 'psentry-block resume'",
            scopes.len() - left.min(scopes.len()),
            scopes.len(),
        ));
    }
}
