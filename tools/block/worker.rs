//! One thread per backend: takes what waits, has the backend do it, says what came of it, and remembers what is
//! to be done later. A slow backend keeps only itself waiting.

mod answers;
mod ending;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use psentry_records::{OutcomeResult, Prefix, Timestamp};

use crate::backend::{Backend, Block, Change, Entry, Wish};
use crate::error::Error;
use crate::inbox::{Ask, Finish, Found, Inbox, Pending};
use crate::report::{Reporter, wake_main};
use crate::schedule::{Plan, Schedule, State};
use crate::surroundings::Guard;

/// A backend and its work.
pub(crate) struct Worker {
    backend: Box<dyn Backend>,
    inbox: Arc<Inbox>,
    reporter: Arc<Reporter>,
    schedule: Schedule,
    guard: Guard,
    /// When it last looked at the clock.
    last: Timestamp,
    /// What an earlier run left and must not stand any more, and why.
    unwanted: Vec<(Prefix, String)>,
    /// Blocks that were given up when the input ended.
    given_up: usize,
}

/// Why something is done.
enum Job {
    /// Verdicts ask for it.
    Asked(Vec<Ask>),
    /// It failed before, or the kernel has to be told again.
    Again(Plan),
    /// It is to go.
    End(Plan),
    /// What stood while a longer block failed is over.
    Lapse(Block),
    /// It must not be blocked any more; why.
    Refuse(Plan, String),
}

/// What an earlier run left.
#[derive(Default)]
pub(crate) struct Left {
    /// What stands.
    pub(crate) found: Vec<Entry>,
    /// Of which it is not known whether it stands.
    pub(crate) unsure: Vec<Entry>,
    /// What of it must not be blocked any more, and why.
    pub(crate) unwanted: Vec<(Prefix, String)>,
}

impl Worker {
    /// The work of `backend`, which has been prepared.
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        left: Left,
        inbox: Arc<Inbox>,
        reporter: Arc<Reporter>,
    ) -> Self {
        let mut schedule = Schedule::default();
        let now = Timestamp::now();
        for Entry { scope, until, rule, early } in left.found {
            let block = Block { until, rule, ..Block::default() };
            // What the kernel would end too early is renewed at once: nobody knows how much too early.
            let longest = if early { Some(Duration::ZERO) } else { None };
            schedule.stands(scope, block, None, now, longest);
        }
        for Entry { scope, until, rule, .. } in left.unsure {
            schedule.doubts(scope, Block { until, rule, ..Block::default() }, now);
        }
        let (guard, unwanted) = (Guard::default(), left.unwanted);
        Worker { backend, inbox, reporter, schedule, guard, last: now, unwanted, given_up: 0 }
    }

    /// Works until there is nothing more to do.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let _alarm = Alarm;
        let mut known = None;
        let unwanted = std::mem::take(&mut self.unwanted);
        let refuse = |(scope, why)| self.release(scope, |plan| Job::Refuse(plan, why));
        let jobs = unwanted.into_iter().filter_map(refuse).collect();
        self.work(jobs);
        loop {
            let (arrived, finish) = self.inbox.take(self.at_once(), self.schedule.next(), known);
            self.round(arrived);
            if finish != known {
                known = finish;
                match finish {
                    Some(Finish::Ended) => self.last_try(),
                    Some(Finish::Stop) => return self.stop(),
                    Some(Finish::Remove) => return self.remove(),
                    None => {}
                }
            }
            // Nothing arrives after the end, and what arrived before it is done.
            if known == Some(Finish::Ended) && !self.is_needed() {
                return self.result();
            }
        }
    }

    /// Does some of what is due and what arrived, ends first: however much arrives or fails, no end is late for it.
    fn round(&mut self, arrived: Vec<(Prefix, Pending)>) {
        let now = Timestamp::now();
        if now < self.last {
            self.schedule.set_back(now);
        }
        self.last = now;
        // What was just decided about a scope replaces what was planned for it.
        let decided: HashSet<Prefix> = arrived.iter().map(|(scope, _)| *scope).collect();
        self.due(&decided, true);
        let jobs = self.settle(arrived);
        self.work(jobs);
        self.due(&decided, false);
    }

    /// Does what is due, as much as the backend does at once: ends, or what is tried again.
    fn due(&mut self, decided: &HashSet<Prefix>, ends: bool) {
        let now = Timestamp::now();
        let chosen = |scope: &Prefix| {
            !decided.contains(scope) && self.schedule.get(*scope).is_some_and(|plan| plan.ends(now) == ends)
        };
        let due: Vec<Prefix> =
            self.schedule.due(now).into_iter().filter(chosen).take(self.at_once()).collect();
        let jobs = due.into_iter().filter_map(|scope| self.job(scope, now)).collect();
        self.work(jobs);
    }

    fn at_once(&self) -> usize {
        self.backend.at_once().max(1)
    }

    /// What is to be done about a scope for which something is due.
    fn job(&mut self, scope: Prefix, now: Timestamp) -> Option<(Change, Job)> {
        let plan = self.schedule.get(scope)?.clone();
        let by_itself = self.backend.ends_by_itself();
        if plan.is_over(now) && by_itself {
            self.schedule.remove(scope);
            self.tell_end(scope, &plan, OutcomeResult::Expired);
            return None;
        }
        if plan.is_over(now) || matches!(plan.state, State::Leaving { .. }) {
            return self.release(scope, Job::End);
        }
        match plan.stands().filter(|stood| stood.is_over(now)).cloned() {
            Some(stood) if by_itself => {
                self.lapsed(scope, &stood);
                None
            }
            Some(stood) => Some((Change { scope, wish: Wish::Release(stood.clone()) }, Job::Lapse(stood))),
            None => self.again(scope),
        }
    }

    /// What releases a scope that has a plan.
    fn release(&self, scope: Prefix, job: impl FnOnce(Plan) -> Job) -> Option<(Change, Job)> {
        let plan = self.schedule.get(scope)?.clone();
        Some((Change { scope, wish: Wish::Release(plan.block.clone()) }, job(plan)))
    }

    /// What tries once more what failed, whether it was to block or to release. Whom to block is asked anew.
    fn again(&mut self, scope: Prefix) -> Option<(Change, Job)> {
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
    fn settle(&mut self, arrived: Vec<(Prefix, Pending)>) -> Vec<(Change, Job)> {
        let believed = |(scope, pending): &(Prefix, Pending)| {
            let stands = self.schedule.get(*scope).is_some_and(|plan| plan.stands().is_some());
            (pending.already.is_some() && stands).then_some(*scope)
        };
        let believed: HashSet<Prefix> = arrived.iter().filter_map(believed).collect();
        // Who cannot be asked is told anew what is to stand.
        let standing =
            if believed.is_empty() { Ok(HashSet::new()) } else { self.backend.standing(&believed) };
        let gone = |scope| believed.contains(&scope) && standing.as_ref().is_ok_and(|s| !s.contains(&scope));
        let mut jobs = Vec::with_capacity(arrived.len());
        for (scope, Pending { wish, asks, already }) in arrived {
            let wish = match (wish, already) {
                (Wish::Block(is), Some(was)) if gone(scope) => {
                    self.schedule.remove(scope);
                    self.inbox.tell(Found { scope, was, is: is.clone() });
                    Wish::Block(is)
                }
                (Wish::Block(asked), Some(stands)) => Wish::Block(match self.schedule.get(scope) {
                    Some(plan) if plan.block.outlasts(asked.until) => plan.block.clone(),
                    Some(_) => asked,
                    // Another backend held it from an earlier run.
                    None => stands,
                }),
                (wish, _) => wish,
            };
            jobs.push((Change { scope, wish }, Job::Asked(asks)));
        }
        jobs
    }

    /// Has the backend do it, in pieces that it takes well, and says what came of each.
    fn work(&mut self, jobs: Vec<(Change, Job)>) {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let now = Timestamp::now();
            let (changes, reasons): (Vec<Change>, Vec<Job>) =
                jobs.by_ref().take(self.at_once()).map(|(change, job)| in_time(change, job, now)).unzip();
            let results = self.backend.apply(&changes, now);
            let now = Timestamp::now();
            for ((change, job), result) in changes.into_iter().zip(reasons).zip(results) {
                match change.wish {
                    Wish::Block(block) => self.blocked(change.scope, block, job, result, now),
                    Wish::Release(block) => self.released(change.scope, block, job, result, now),
                }
            }
        }
    }

    fn scopes_with(&self, which: impl Fn(&Plan) -> bool) -> Vec<Prefix> {
        let scopes = self.schedule.scopes().into_iter();
        scopes.filter(|scope| self.schedule.get(*scope).is_some_and(&which)).collect()
    }
}

/// A block that waited beyond its end is not made any more, and what stands of it goes.
fn in_time(change: Change, job: Job, now: Timestamp) -> (Change, Job) {
    match change.wish {
        Wish::Block(block) if block.is_over(now) => {
            let job = if let Job::Again(plan) = job { Job::End(plan) } else { job };
            (Change { wish: Wish::Release(block), ..change }, job)
        }
        _ => (change, job),
    }
}

/// Wakes the main loop when its thread dies, so that a backend is never silently gone.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            wake_main();
        }
    }
}

#[cfg(test)]
mod tests;
