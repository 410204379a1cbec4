//! What is to be done about a scope, and why: because it is due, because it failed, or because a verdict asks.

use std::collections::HashSet;

use psentry_records::{OutcomeResult, Prefix, Timestamp};

use super::Worker;
use crate::backend::{Block, Change, Wish};
use crate::inbox::{Ask, Found, Pending};
use crate::worker::schedule::{Plan, State};

/// Why something is done.
pub(super) enum Job {
    /// Verdicts ask for it.
    Asked(Vec<Ask>),
    /// It failed before, or the kernel has to be told again.
    Again(Plan),
    /// It is to go.
    End(Plan),
    /// What stood while a longer block failed is over.
    Lapse(Block),
    /// It stood, and others took it away.
    Repair(Plan),
    /// It must not be blocked any more; why.
    Refuse(Plan, String),
    /// It stood, and whom never to block has changed; why.
    Spare(Plan, String),
}

impl Worker {
    /// What is to be done about a scope for which something is due.
    pub(super) fn job(&mut self, scope: Prefix, now: Timestamp) -> Option<(Change, Job)> {
        let plan = self.schedule.get(scope)?.clone();
        let by_itself = self.backend.ends_by_itself() && !self.ahead;
        if plan.is_let_in() {
            self.schedule.remove(scope);
            return None;
        }
        if plan.is_over(now) && by_itself {
            self.schedule.remove(scope);
            self.tell_end(scope, &plan, OutcomeResult::Expired);
            return None;
        }
        let leaving = matches!(plan.state, State::Leaving { .. });
        if leaving {
            self.reporter.counters.retries.add();
        }
        if plan.is_over(now) || leaving {
            return self.release(scope, Job::End);
        }
        match plan.stands().filter(|stood| stood.is_over(now)).cloned() {
            Some(stood) if by_itself => {
                self.lapsed(scope, &stood);
                None
            }
            Some(stood) => Some((Change { scope, wish: Wish::Release(stood.clone()) }, Job::Lapse(stood))),
            None => {
                if matches!(plan.state, State::Failing { .. }) {
                    self.reporter.counters.retries.add();
                }
                self.again(scope)
            }
        }
    }

    /// What releases a scope that has a plan.
    pub(super) fn release(&self, scope: Prefix, job: impl FnOnce(Plan) -> Job) -> Option<(Change, Job)> {
        let plan = self.schedule.get(scope)?.clone();
        Some((Change { scope, wish: Wish::Release(plan.block.clone()) }, job(plan)))
    }

    /// Somebody let it in without a verdict. What the ledger believes of it takes no room any more.
    pub(super) fn lets_in(&mut self, scope: Prefix) {
        if let Some(plan) = self.schedule.get(scope) {
            self.inbox.tell_let_in(scope, plan.block.clone());
        }
        self.schedule.lets_in(scope);
    }

    /// What tries once more what failed, whether it was to block or to release. Whom to block is asked anew.
    pub(super) fn again(&mut self, scope: Prefix) -> Option<(Change, Job)> {
        let plan = self.schedule.get(scope)?.clone();
        if matches!(plan.state, State::Leaving { .. }) {
            return self.release(scope, Job::End);
        }
        match self.guard.refusal(scope) {
            Ok(None) => Some((Change { scope, wish: Wish::Block(plan.block.clone()) }, Job::Again(plan))),
            Ok(Some(why)) => self.release(scope, |plan| Job::Refuse(plan, why)),
            Err(error) => {
                self.schedule.fails(scope, plan.block, plan.common, Timestamp::now(), &error.to_string());
                None
            }
        }
    }

    /// What arrived, as changes. Of what should stand already the backend is asked whether it does: who was let in
    /// by hand is shut out only for as long as the new verdict says.
    pub(super) fn settle(&mut self, arrived: Vec<(Prefix, Pending)>) -> Vec<(Change, Job)> {
        let believed = |(scope, pending): &(Prefix, Pending)| {
            let stands = self.schedule.get(*scope).is_some_and(|plan| plan.stands().is_some());
            (pending.already.is_some() && stands).then_some(*scope)
        };
        let believed: HashSet<Prefix> = arrived.iter().filter_map(believed).collect();
        // Who cannot be asked is told anew what is to stand.
        let standing =
            if believed.is_empty() { Ok(HashSet::new()) } else { self.backend.standing(&believed) };
        // While somebody's damage waits for its repair, what is missing was not let in.
        let gone = |scope| {
            let missing = standing.as_ref().is_ok_and(|s| !s.contains(&scope));
            self.damage.is_none() && believed.contains(&scope) && missing
        };
        let away: HashSet<Prefix> = arrived
            .iter()
            .map(|(scope, _)| *scope)
            .filter(|scope| gone(*scope) || self.schedule.get(*scope).is_some_and(Plan::is_let_in))
            .collect();
        let mut jobs = Vec::with_capacity(arrived.len());
        for (scope, Pending { wish, asks, already }) in arrived {
            let wish = match (wish, already) {
                (Wish::Block(is), Some(was)) if away.contains(&scope) => {
                    self.schedule.remove(scope);
                    self.inbox.tell(Found { scope, was, is: is.clone() });
                    Wish::Block(is)
                }
                (Wish::Block(asked), Some(_)) => Wish::Block(match self.schedule.get(scope) {
                    Some(plan) if plan.block.covers(&asked) => plan.block.clone(),
                    Some(plan) => plan.block.joined(&asked),
                    // What another backend holds, or this one held before, says nothing about this one.
                    None => asked,
                }),
                (wish, _) => wish,
            };
            jobs.push((Change { scope, wish }, Job::Asked(asks)));
        }
        jobs
    }
}

/// A block that waited beyond its end is not made any more, and what stands of it goes.
pub(super) fn in_time(change: Change, job: Job, now: Timestamp) -> (Change, Job) {
    match change.wish {
        Wish::Block(block) if block.is_over(now) => {
            let job = if let Job::Again(plan) = job { Job::End(plan) } else { job };
            (Change { wish: Wish::Release(block), ..change }, job)
        }
        _ => (change, job),
    }
}
