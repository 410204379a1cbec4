//! How the work ends: with the input, when somebody asks to stop, or by taking every trace away.

use std::thread;
use std::time::Duration;

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Timestamp};

use super::{Job, Worker};
use crate::backend::{Change, Entry, Wish};
use crate::error::Error;
use crate::note::moment;
use crate::report::body;
use crate::worker::schedule::{Plan, State};

/// How often a block that only we could end is released again when the program stops and it would not go.
const LAST_TRIES: u32 = 3;

/// The pause between those.
const LAST_PAUSE: Duration = Duration::from_millis(300);

impl Worker {
    /// Whether something is left that only this program does.
    pub(super) fn is_needed(&self) -> bool {
        !self.under_way.is_empty() || self.latest().is_some()
    }

    /// When the last thing that only this program does is to be done.
    fn latest(&self) -> Option<Timestamp> {
        let own_clock = !self.backend.ends_by_itself();
        let (now, longest) = (Timestamp::now(), self.backend.longest().unwrap_or_default());
        self.schedule
            .scopes()
            .into_iter()
            .filter_map(|scope| self.schedule.get(scope))
            .filter_map(|plan| match &plan.state {
                // From then on the kernel knows the end.
                State::Standing { renew: Some(_) } if !own_clock => {
                    plan.block.until.map(|until| now.plus(until.since(now).saturating_sub(longest)))
                }
                State::Standing { .. } | State::Failing { .. } => plan.block.until.filter(|_| own_clock),
                State::Leaving { retry, .. } => Some(*retry),
                State::LetIn => None,
            })
            .max()
    }

    /// The input has ended: what failed is tried once more, and then no longer, unless a block would outlive its
    /// end; who stays for that says so.
    pub(super) fn last_try(&mut self) {
        self.rest();
        let own_clock = !self.backend.ends_by_itself();
        let failed = |plan: &Plan| match plan.state {
            State::Standing { .. } | State::LetIn => false,
            State::Failing { .. } => true,
            State::Leaving { .. } => !(own_clock && plan.block.until.is_some()),
        };
        self.once_more(&self.scopes_with(failed));
        for scope in self.scopes_with(failed) {
            self.give_up(scope);
        }
        // What slipped in before the panic was seen.
        self.open_up();
        if let Some(latest) = self.latest() {
            let what = if own_clock { "when the last block ends on" } else { "to renew its blocks on" };
            self.reporter.tell(&format!(
                "the input has ended; staying until {}, {what} {}",
                moment(latest),
                self.backend.name()
            ));
        }
    }

    /// What failed is not tried any more. An older block that still stands is kept to its end; where nothing is known
    /// to stand, nothing is left standing.
    fn give_up(&mut self, scope: Prefix) {
        let Some(plan) = self.schedule.remove(scope) else { return };
        // Whom it must not block it has not failed to block.
        self.given_up += usize::from(!matches!(plan.state, State::Failing { refused: true, .. }));
        let State::Failing { stood, .. } = plan.state else { return };
        let now = Timestamp::now();
        if let Some(stood) = stood {
            self.schedule.stands(scope, stood, plan.common, now, self.backend.longest());
        } else if !self.backend.ends_by_itself() {
            // What failed has been told; a backend that remembers doubts keeps this one.
            let _ = self.backend.apply(&[Change { scope, wish: Wish::Release(plan.block) }], now);
        }
    }

    fn once_more(&mut self, scopes: &[Prefix]) {
        let jobs = scopes.iter().filter_map(|scope| self.again(*scope)).collect();
        self.see_through(jobs);
    }

    /// Releases what nobody would end once this program is gone.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        self.rest();
        self.parting = true;
        let own_clock = !self.backend.ends_by_itself();
        let ends = |plan: &Plan| {
            plan.block.until.is_some() || plan.stands().is_some_and(|stood| stood.until.is_some())
        };
        let ending = self.scopes_with(|plan| own_clock && !plan.is_let_in() && ends(plan));
        let jobs = ending.iter().filter_map(|scope| self.release(*scope, Job::End)).collect();
        self.see_through(jobs);
        let leaving = |plan: &Plan| matches!(plan.state, State::Leaving { .. });
        for _ in 0..LAST_TRIES {
            let left = self.scopes_with(leaving);
            if left.is_empty() {
                return self.result();
            }
            thread::sleep(LAST_PAUSE);
            self.once_more(&left);
        }
        match self.scopes_with(leaving).len() {
            0 => self.result(),
            left => Err(self.unfinished(left, "released")),
        }
    }

    /// Takes every trace away.
    pub(super) fn remove(mut self) -> Result<(), Error> {
        self.rest();
        let name = self.backend.name();
        // That is what is wanted, whether or not all of it goes.
        if let Some(memory) = &mut self.memory {
            memory.clear();
        }
        for Entry { scope, until, .. } in self.backend.remove()? {
            let common = self.schedule.get(scope).and_then(|plan| plan.common.clone());
            let outcome =
                OutcomeBody { until, ..body(Action::Block, scope, Some(name), OutcomeResult::Released) };
            self.reporter.outcome(common.as_ref(), outcome);
        }
        self.result()
    }

    pub(super) fn result(&self) -> Result<(), Error> {
        if self.given_up == 0 { Ok(()) } else { Err(self.unfinished(self.given_up, "applied or released")) }
    }

    fn unfinished(&self, count: usize, what: &str) -> Error {
        let blocks = if count == 1 { "block" } else { "blocks" };
        Error::Unfinished(format!(
            "{count} {blocks} could not be {what} on {}; the outcomes 'failed' say why",
            self.backend.name()
        ))
    }
}
