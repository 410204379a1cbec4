//! What came of a change: what is planned for the scope from now on, and what is told.

use psentry_records::{Action, Common, OutcomeBody, OutcomeResult, Prefix, Timestamp};

use super::{Job, Worker};
use crate::backend::{Block, Effect};
use crate::error::Error;
use crate::inbox::Ask;
use crate::report::body;
use crate::worker::schedule::{Plan, State};

impl Worker {
    /// A block was tried.
    pub(super) fn blocked(
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
            Job::Lapse(_) => (Vec::new(), None),
            Job::Repair(plan) => {
                let Some(why) = &why else {
                    let longest = self.backend.longest();
                    return self.schedule.stands(scope, block, plan.common, now, longest);
                };
                // It stood until others took it away: what fails now is told, and nothing stands meanwhile.
                self.schedule.remove(scope);
                self.schedule.fails(scope, block, plan.common.clone(), now, why);
                let common = plan.common.unwrap_or_else(|| Common::at(now));
                let ask =
                    Ask { common, action: Action::Block, well: OutcomeResult::Applied, mark: self.opened };
                return self.answer(scope, &[ask], until, |_| OutcomeResult::Failed, Some(why));
            }
            // Nobody asks, but what failed and now stands is told like what was asked for.
            Job::Again(plan) | Job::End(plan) | Job::Refuse(plan, _) | Job::Spare(plan, _) => {
                let failing = matches!(plan.state, State::Failing { .. });
                let common = plan.common.clone();
                let ask = common.clone().unwrap_or_else(|| Common::at(now));
                let ask = Ask {
                    common: ask,
                    action: Action::Block,
                    well: OutcomeResult::Applied,
                    mark: self.opened,
                };
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
            return;
        }
        // Only what has been confirmed before stands already.
        let plan = self.schedule.get(scope);
        let mut stood = plan.and_then(Plan::stands).is_some_and(|stood| stood.covers(&block));
        self.schedule.stands(scope, block, common, now, self.backend.longest());
        let well = |ask: &Ask| match ask.action {
            Action::Unblock => OutcomeResult::Released,
            Action::Block | Action::Watch => {
                let already = std::mem::replace(&mut stood, true) && ask.well == OutcomeResult::Already;
                if already { OutcomeResult::Already } else { OutcomeResult::Applied }
            }
        };
        self.answer(scope, &asks, until, well, None);
    }

    /// A release was tried.
    pub(super) fn released(
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
                let over = block.is_over(now);
                let well = |ask: &Ask| match (ask.action, effect) {
                    (Action::Unblock, Effect::WasNotThere) => OutcomeResult::Already,
                    (Action::Block, _) if over => OutcomeResult::Expired,
                    _ => OutcomeResult::Released,
                };
                self.answer(scope, &asks, block.until, well, None);
            }
            (Job::Asked(asks), Err(error)) => {
                // The verdict does not know when the block would end; the plan does.
                let block = self.schedule.get(scope).map_or(block, |plan| plan.block.clone());
                self.schedule.stays(scope, block, asks.last().map(|ask| ask.common.clone()), now);
                self.answer(scope, &asks, None, |_| OutcomeResult::Failed, Some(&error.to_string()));
            }
            (Job::Lapse(stood), Ok(_)) => self.lapsed(scope, &stood),
            (Job::Lapse(stood), Err(error)) => {
                let common = self.schedule.get(scope).and_then(|plan| plan.common.clone());
                self.not_released(scope, stood, common, now, &error);
            }
            (Job::Refuse(plan, why), Ok(_)) => {
                self.schedule.remove(scope);
                self.reporter.say(&format!("refused: {why}"));
                let outcome = OutcomeBody {
                    error: Some(why),
                    ..body(Action::Block, scope, Some(self.backend.name()), OutcomeResult::Refused)
                };
                self.reporter.outcome(plan.common.as_ref(), outcome);
            }
            (Job::Spare(plan, why), Ok(_)) => {
                // What the ledger believes of it is corrected by the next verdict.
                self.lets_in(scope);
                self.reporter.say(&format!("{}: {scope} is let in: {why}", self.backend.name()));
                self.tell_end_because(scope, &plan, OutcomeResult::Released, Some(why));
            }
            (Job::Again(plan) | Job::End(plan) | Job::Repair(plan), Ok(_)) => {
                self.schedule.remove(scope);
                let over = plan.is_over(now);
                self.tell_end(
                    scope,
                    &plan,
                    if over { OutcomeResult::Expired } else { OutcomeResult::Released },
                );
            }
            (
                Job::Again(plan)
                | Job::End(plan)
                | Job::Repair(plan)
                | Job::Refuse(plan, _)
                | Job::Spare(plan, _),
                Err(error),
            ) => {
                if matches!(plan.state, State::Leaving { .. }) {
                    self.schedule.stays(scope, block, plan.common, now);
                } else {
                    self.not_released(scope, block, plan.common, now, &error);
                }
            }
        }
    }

    /// A block would not go; it is tried again.
    fn not_released(
        &mut self,
        scope: Prefix,
        block: Block,
        common: Option<Common>,
        now: Timestamp,
        why: &Error,
    ) {
        let outcome = OutcomeBody {
            error: Some(why.to_string()),
            ..body(Action::Unblock, scope, Some(self.backend.name()), OutcomeResult::Failed)
        };
        self.reporter.outcome(common.as_ref(), outcome);
        self.schedule.stays(scope, block, common, now);
    }

    /// What stood while a longer block failed has ended; the longer one is tried on.
    pub(super) fn lapsed(&mut self, scope: Prefix, stood: &Block) {
        let common = self.schedule.get(scope).and_then(|plan| plan.common.clone());
        self.schedule.lapses(scope);
        let outcome = body(Action::Block, scope, Some(self.backend.name()), OutcomeResult::Expired);
        self.reporter.outcome(common.as_ref(), OutcomeBody { until: stood.until, ..outcome });
    }

    /// An outcome for each verdict that asked.
    pub(super) fn answer(
        &self,
        scope: Prefix,
        asks: &[Ask],
        until: Option<Timestamp>,
        mut result: impl FnMut(&Ask) -> OutcomeResult,
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
    pub(super) fn tell_end(&self, scope: Prefix, plan: &Plan, result: OutcomeResult) {
        let error = match &plan.state {
            State::Failing { why, stood: None, .. } => Some(format!("it never stood: {why}")),
            State::Failing { why, .. } => Some(format!("it was to last longer: {why}")),
            State::Standing { .. } | State::Leaving { .. } | State::LetIn => None,
        };
        self.tell_end_because(scope, plan, result, error);
    }

    /// That a block has ended, and why.
    pub(super) fn tell_end_because(
        &self,
        scope: Prefix,
        plan: &Plan,
        result: OutcomeResult,
        error: Option<String>,
    ) {
        let until = plan.block.until;
        let outcome =
            OutcomeBody { until, error, ..body(Action::Block, scope, Some(self.backend.name()), result) };
        self.reporter.outcome(plan.common.as_ref(), outcome);
    }
}
