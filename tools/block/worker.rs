//! One thread per backend: takes what waits, has the backend do it, says what came of it, and remembers what is
//! to be done later. A slow backend keeps only itself waiting.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use psentry_records::{Action, Common, OutcomeBody, OutcomeResult, Prefix, Timestamp};

use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::inbox::{Ask, Finish, Inbox, Pending};
use crate::note::moment;
use crate::report::{Reporter, body, wake_main};
use crate::schedule::{Plan, Schedule, State};

/// How often a block that only we could end is released again when the program stops and it would not go.
const LAST_TRIES: u32 = 3;

/// The pause between those.
const LAST_PAUSE: Duration = Duration::from_millis(300);

/// A backend and its work.
pub(crate) struct Worker {
    backend: Box<dyn Backend>,
    inbox: Arc<Inbox>,
    reporter: Arc<Reporter>,
    schedule: Schedule,
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
}

impl Worker {
    /// The work of `backend`, which has been prepared and found `found`.
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        found: Vec<Entry>,
        inbox: Arc<Inbox>,
        reporter: Arc<Reporter>,
    ) -> Self {
        let mut schedule = Schedule::default();
        let now = Timestamp::now();
        for Entry { scope, until, rule, early } in found {
            let block = Block { until, rule, ..Block::default() };
            // What the kernel would end too early is renewed at once: nobody knows how much too early.
            let longest = if early { Some(Duration::ZERO) } else { None };
            schedule.stands(scope, block, None, now, longest);
        }
        Worker { backend, inbox, reporter, schedule, given_up: 0 }
    }

    /// Works until there is nothing more to do.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let _alarm = Alarm;
        let mut known = None;
        loop {
            let (arrived, finish) = self.inbox.take(self.schedule.next(), known);
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

    /// Does what arrived and what is due.
    fn round(&mut self, arrived: Vec<(Prefix, Pending)>) {
        let now = Timestamp::now();
        let mut jobs = Vec::new();
        // What was just decided about a scope replaces what was planned for it.
        let decided: HashSet<Prefix> = arrived.iter().map(|(scope, _)| *scope).collect();
        let due: Vec<Prefix> =
            self.schedule.due(now).into_iter().filter(|scope| !decided.contains(scope)).collect();
        for (scope, pending) in arrived {
            jobs.push((Change { scope, wish: pending.wish }, Job::Asked(pending.asks)));
        }
        for scope in due {
            jobs.extend(self.job(scope, now));
        }
        self.work(jobs);
    }

    /// What is to be done about a scope for which something is due.
    fn job(&mut self, scope: Prefix, now: Timestamp) -> Option<(Change, Job)> {
        let plan = self.schedule.get(scope)?.clone();
        let leaving = matches!(plan.state, State::Leaving { .. });
        if plan.is_over(now) && self.backend.ends_by_itself() {
            self.schedule.remove(scope);
            self.tell_end(scope, &plan, OutcomeResult::Expired);
            return None;
        }
        if plan.is_over(now) || leaving {
            return Some((Change { scope, wish: Wish::Release(plan.block.clone()) }, Job::End(plan)));
        }
        Some((Change { scope, wish: Wish::Block(plan.block.clone()) }, Job::Again(plan)))
    }

    /// Has the backend do it, in pieces that it takes well, and says what came of each.
    fn work(&mut self, jobs: Vec<(Change, Job)>) {
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let (changes, reasons): (Vec<Change>, Vec<Job>) =
                jobs.by_ref().take(self.backend.at_once().max(1)).unzip();
            let results = self.backend.apply(&changes, Timestamp::now());
            let now = Timestamp::now();
            for ((change, job), result) in changes.into_iter().zip(reasons).zip(results) {
                match change.wish {
                    Wish::Block(block) => self.blocked(change.scope, block, job, result, now),
                    Wish::Release(block) => self.released(change.scope, block, job, result, now),
                }
            }
        }
    }

    fn blocked(
        &mut self,
        scope: Prefix,
        block: Block,
        job: Job,
        result: Result<Effect, Error>,
        now: Timestamp,
    ) {
        let until = block.until;
        let why = result.err().map(|error| error.to_string());
        let (asks, common) = match job {
            Job::Asked(asks) => {
                let common = asks.last().map(|ask| ask.common.clone());
                (asks, common)
            }
            // Nobody asks, but what failed and now stands is told like what was asked for.
            Job::Again(plan) | Job::End(plan) => {
                let failing = matches!(plan.state, State::Failing { .. });
                let common = plan.common.clone();
                let ask = common.clone().unwrap_or_else(|| Common::at(now));
                let ask = Ask { common: ask, action: Action::Block, well: OutcomeResult::Applied };
                match &why {
                    None if failing => (vec![ask], common),
                    None => (Vec::new(), common),
                    Some(why) => {
                        if self.schedule.fails(scope, block, common, now, why) {
                            self.answer(scope, &[ask], until, |_| OutcomeResult::Failed, Some(why));
                        }
                        return;
                    }
                }
            }
        };
        if let Some(why) = why {
            self.schedule.fails(scope, block, common, now, &why);
            self.answer(scope, &asks, until, |_| OutcomeResult::Failed, Some(&why));
        } else {
            self.schedule.stands(scope, block, common, now, self.backend.longest());
            let well = |ask: &Ask| match ask.action {
                Action::Unblock => OutcomeResult::Released,
                Action::Block | Action::Watch => ask.well,
            };
            self.answer(scope, &asks, until, well, None);
        }
    }

    fn released(
        &mut self,
        scope: Prefix,
        block: Block,
        job: Job,
        result: Result<Effect, Error>,
        now: Timestamp,
    ) {
        match (job, result) {
            (Job::Asked(asks), Ok(effect)) => {
                self.schedule.remove(scope);
                let well = |ask: &Ask| match (ask.action, effect) {
                    (Action::Unblock, Effect::WasNotThere) => OutcomeResult::Already,
                    _ => OutcomeResult::Released,
                };
                self.answer(scope, &asks, None, well, None);
            }
            (Job::Asked(asks), Err(error)) => {
                // The verdict does not know when the block would end; the plan does.
                let block = self.schedule.get(scope).map_or(block, |plan| plan.block.clone());
                self.schedule.stays(scope, block, asks.last().map(|ask| ask.common.clone()), now);
                self.answer(scope, &asks, None, |_| OutcomeResult::Failed, Some(&error.to_string()));
            }
            (Job::Again(plan) | Job::End(plan), Ok(_)) => {
                self.schedule.remove(scope);
                let over = plan.is_over(now);
                self.tell_end(
                    scope,
                    &plan,
                    if over { OutcomeResult::Expired } else { OutcomeResult::Released },
                );
            }
            (Job::Again(plan) | Job::End(plan), Err(error)) => {
                self.schedule.stays(scope, block, plan.common.clone(), now);
                if !matches!(plan.state, State::Leaving { .. }) {
                    let outcome = OutcomeBody {
                        error: Some(error.to_string()),
                        ..body(Action::Unblock, scope, Some(self.backend.name()), OutcomeResult::Failed)
                    };
                    self.reporter.outcome(plan.common.as_ref(), outcome);
                }
            }
        }
    }

    /// An outcome for each verdict that asked.
    fn answer(
        &self,
        scope: Prefix,
        asks: &[Ask],
        until: Option<Timestamp>,
        result: impl Fn(&Ask) -> OutcomeResult,
        why: Option<&str>,
    ) {
        for ask in asks {
            let outcome = OutcomeBody {
                until,
                error: why.map(str::to_owned),
                ..body(ask.action, scope, Some(self.backend.name()), result(ask))
            };
            self.reporter.outcome(Some(&ask.common), outcome);
        }
    }

    /// That a block has ended, and if it never stood, why.
    fn tell_end(&self, scope: Prefix, plan: &Plan, result: OutcomeResult) {
        let error = match &plan.state {
            State::Failing { why, .. } => Some(format!("it never stood: {why}")),
            State::Standing { .. } | State::Leaving { .. } => None,
        };
        let until = plan.block.until;
        let outcome =
            OutcomeBody { until, error, ..body(Action::Block, scope, Some(self.backend.name()), result) };
        self.reporter.outcome(plan.common.as_ref(), outcome);
    }

    /// Whether something is left that only this program does.
    fn is_needed(&self) -> bool {
        self.latest().is_some()
    }

    /// When the last thing that only this program does is to be done.
    fn latest(&self) -> Option<Timestamp> {
        let own_clock = !self.backend.ends_by_itself();
        self.schedule
            .scopes()
            .into_iter()
            .filter_map(|scope| self.schedule.get(scope))
            .filter_map(|plan| match &plan.state {
                State::Standing { renew: Some(_) } => plan.block.until,
                State::Standing { renew: None } | State::Failing { .. } => {
                    plan.block.until.filter(|_| own_clock)
                }
                State::Leaving { retry, .. } => Some(*retry),
            })
            .max()
    }

    /// The input has ended: what failed is tried once more, and then no longer, unless a block would outlive its
    /// end; who stays for that says so.
    fn last_try(&mut self) {
        let own_clock = !self.backend.ends_by_itself();
        let failed = |plan: &Plan| match plan.state {
            State::Standing { .. } => false,
            State::Failing { .. } => true,
            State::Leaving { .. } => !(own_clock && plan.block.until.is_some()),
        };
        self.again(&self.scopes_with(failed));
        for scope in self.scopes_with(failed) {
            self.schedule.remove(scope);
            self.given_up += 1;
        }
        if let Some(latest) = self.latest() {
            self.reporter.tell(&format!(
                "the input has ended; staying until {}, when the last block of {} ends",
                moment(latest),
                self.backend.name()
            ));
        }
    }

    /// Tries once more what failed, whether it was to block or to release.
    fn again(&mut self, scopes: &[Prefix]) {
        let job = |scope: &Prefix| {
            let plan = self.schedule.get(*scope)?.clone();
            let leaving = matches!(plan.state, State::Leaving { .. });
            let block = plan.block.clone();
            let wish = if leaving { Wish::Release(block) } else { Wish::Block(block) };
            let job = if leaving { Job::End(plan) } else { Job::Again(plan) };
            Some((Change { scope: *scope, wish }, job))
        };
        let jobs = scopes.iter().filter_map(job).collect();
        self.work(jobs);
    }

    /// Releases what nobody would end once this program is gone.
    fn stop(mut self) -> Result<(), Error> {
        let own_clock = !self.backend.ends_by_itself();
        let ending = self.scopes_with(|plan| own_clock && plan.block.until.is_some());
        let release = |scope: &Prefix| {
            let plan = self.schedule.get(*scope)?.clone();
            Some((Change { scope: *scope, wish: Wish::Release(plan.block.clone()) }, Job::End(plan)))
        };
        let jobs = ending.iter().filter_map(release).collect();
        self.work(jobs);
        let leaving = |plan: &Plan| matches!(plan.state, State::Leaving { .. });
        for _ in 0..LAST_TRIES {
            let left = self.scopes_with(leaving);
            if left.is_empty() {
                return self.result();
            }
            thread::sleep(LAST_PAUSE);
            self.again(&left);
        }
        match self.scopes_with(leaving).len() {
            0 => self.result(),
            left => Err(self.unfinished(left, "released")),
        }
    }

    /// Takes every trace away.
    fn remove(mut self) -> Result<(), Error> {
        let name = self.backend.name();
        for Entry { scope, until, .. } in self.backend.remove()? {
            let common = self.schedule.get(scope).and_then(|plan| plan.common.clone());
            let outcome =
                OutcomeBody { until, ..body(Action::Block, scope, Some(name), OutcomeResult::Released) };
            self.reporter.outcome(common.as_ref(), outcome);
        }
        self.result()
    }

    fn scopes_with(&self, which: impl Fn(&Plan) -> bool) -> Vec<Prefix> {
        let scopes = self.schedule.scopes().into_iter();
        scopes.filter(|scope| self.schedule.get(*scope).is_some_and(&which)).collect()
    }

    fn result(&self) -> Result<(), Error> {
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

/// Wakes the main loop when its thread dies, so that a backend is never silently gone.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            wake_main();
        }
    }
}
