//! Somebody ends all blocks: what is wanted and does not stand yet, because it waits or failed, is given up, too.

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Timestamp};

use super::{Job, Worker};
use crate::backend::{Change, Wish};
use crate::inbox::Pending;
use crate::people::Report;
use crate::report::{body, lines, of_now};
use crate::worker::schedule::{Plan, State};

impl Worker {
    /// Gives up what does not stand, and gives a line for each block that was only wanted. What the ledger believes of it
    /// stays planned as let in, so that a new verdict counts alone.
    pub(super) fn take_back(&mut self) -> Vec<u8> {
        let mut taken = Vec::new();
        for (scope, pending) in self.inbox.take_back() {
            taken.extend(self.turn_away(scope, pending));
        }
        let failing = self.scopes_with(|plan| matches!(plan.state, State::Failing { .. }));
        for scope in failing.into_iter().filter(|scope| !self.is_under_way(*scope)).collect::<Vec<_>>() {
            taken.extend(self.try_no_more(scope));
        }
        self.commit();
        let mut text = lines(taken.into_iter().map(of_now), None);
        let made = self.under_way.values_mut().filter(|begun| begun.wish.block().is_some());
        let made = made.map(|begun| begun.regretted = true).count();
        if made > 0 {
            let name = self.backend.name();
            let why =
                format!("{name}: {made} being blocked at this moment, and let in as soon as that is over");
            text.extend(Report::without(name, why).line());
        }
        text
    }

    /// What was under way when everybody was let in is over.
    pub(super) fn regret(&mut self, scope: Prefix) -> Option<(Change, Job)> {
        let why = "everybody was let in while it was being blocked";
        match &self.schedule.get(scope)?.state {
            State::Standing { .. } => self.release(scope, |plan| Job::Spare(plan, why.to_owned())),
            State::Failing { .. } => {
                self.try_no_more(scope);
                self.commit();
                None
            }
            State::Leaving { .. } | State::LetIn => None,
        }
    }

    /// A block that waits for its turn; whoever asked for it is told.
    fn turn_away(&mut self, scope: Prefix, pending: Pending) -> Option<OutcomeBody> {
        let Pending { wish: Wish::Block(block), asks, already } = pending else { return None };
        let (until, why) = (block.until, "it was given up before its turn came");
        self.answer(scope, &asks, until, |_| OutcomeResult::Released, Some(why));
        // What stands, fails or was let in has its plan.
        if self.schedule.get(scope).is_some() {
            return None;
        }
        let common = asks.last().map(|ask| ask.common.clone());
        self.schedule.stands(scope, already.unwrap_or(block), common, Timestamp::now(), None);
        self.lets_in(scope);
        Some(self.not_made(scope, until, why.to_owned()))
    }

    /// A block that failed, or must not be made yet. An older one that stands meanwhile is left to whoever ends it.
    fn try_no_more(&mut self, scope: Prefix) -> Option<OutcomeBody> {
        let plan = self.schedule.get(scope)?.clone();
        let Plan { block, common, state: State::Failing { why, stood, .. } } = &plan else { return None };
        if let Some(stood) = stood.clone() {
            let longest = self.backend.longest();
            self.schedule.stands(scope, stood, common.clone(), Timestamp::now(), longest);
            return None;
        }
        self.tell_end(scope, &plan, OutcomeResult::Released);
        self.lets_in(scope);
        self.note(scope, None);
        Some(self.not_made(scope, block.until, why.clone()))
    }

    fn not_made(&self, scope: Prefix, until: Option<Timestamp>, why: String) -> OutcomeBody {
        let outcome = body(Action::Block, scope, Some(self.backend.name()), OutcomeResult::Released);
        OutcomeBody { until, error: Some(why), ..outcome }
    }
}
