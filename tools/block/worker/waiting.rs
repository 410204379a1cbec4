//! Who is not blocked yet, because he is logged in, and who is not any more, because he is to be left alone from now on.

use std::time::Duration;

use psentry_records::{Action, Common, OutcomeResult, Prefix, Timestamp};

use super::{Job, Worker};
use crate::backend::{Block, Change, Wish};
use crate::inbox::Ask;
use crate::worker::schedule::{Plan, State};

/// How often it is looked whether whom never to block has changed.
const READING: Duration = Duration::from_secs(1);

impl Worker {
    /// What is to be done now: nothing, for who is logged in. He is shut out once that has ended.
    pub(super) fn not_yet(&mut self, change: Change, job: Job) -> Option<(Change, Job)> {
        let scope = change.scope;
        // Where it stands already nobody can be logged in; it is only told anew.
        let stands = !matches!(job, Job::Repair(_))
            && self.schedule.get(scope).is_some_and(|plan| plan.stands().is_some());
        let Wish::Block(block) = &change.wish else { return Some((change, job)) };
        if stands {
            return Some((change, job));
        }
        match self.guard.not_yet(scope) {
            Ok(None) => Some((change, job)),
            Ok(Some(why)) => {
                self.wait(scope, block.clone(), job, &why);
                None
            }
            Err(error) => {
                self.blocked(scope, block.clone(), job, Err(error), Timestamp::now());
                None
            }
        }
    }

    /// It is tried again in a second, and told once.
    fn wait(&mut self, scope: Prefix, block: Block, job: Job, why: &str) {
        let now = Timestamp::now();
        let (asks, common) = match job {
            Job::Asked(asks) => {
                let common = asks.last().map(|ask| ask.common.clone());
                (asks, common)
            }
            Job::Lapse(_) => return,
            Job::Repair(plan)
            | Job::Again(plan)
            | Job::End(plan)
            | Job::Refuse(plan, _)
            | Job::Spare(plan, _) => {
                if !matches!(plan.state, State::Failing { .. }) {
                    // It stood until others took it away.
                    self.schedule.remove(scope);
                }
                let common = plan.common.clone().unwrap_or_else(|| Common::at(now));
                let told = matches!(plan.state, State::Failing { refused: true, .. });
                let ask =
                    Ask { common, action: Action::Block, well: OutcomeResult::Applied, mark: self.opened };
                (if told { Vec::new() } else { vec![ask] }, plan.common)
            }
        };
        self.schedule.waits(scope, block, common, now, why);
        if !asks.is_empty() {
            self.reporter.say(&format!("refused: {why}"));
        }
        let result = |ask: &Ask| match ask.action {
            // Nothing stood, and nothing does.
            Action::Unblock => OutcomeResult::Already,
            Action::Block | Action::Watch => OutcomeResult::Refused,
        };
        self.answer(scope, &asks, None, result, Some(why));
    }

    /// Lets in whom the administrator has just said never to block.
    pub(super) fn spare(&mut self) {
        let mut known = self.allowed;
        let changed = self.guard.allowed_anew(&mut known);
        self.allowed = known;
        for sentence in self.guard.news() {
            self.reporter.tell(&sentence);
        }
        let Some(allowed) = changed else { return };
        self.rest();
        let leaving = |plan: &Plan| plan.is_let_in() || matches!(plan.state, State::Leaving { .. });
        let spared =
            self.scopes_with(|plan| !leaving(plan)).into_iter().filter(|scope| allowed.touches(*scope));
        let why = "--allow names it from now on";
        let spare = |scope| self.release(scope, |plan| Job::Spare(plan, why.to_owned()));
        let jobs = spared.filter_map(spare).collect();
        self.work(jobs);
    }

    /// When it is to be looked whether whom never to block has changed; `None`: it does not.
    pub(super) fn next_reading(&self) -> Option<Timestamp> {
        self.guard.may_change().then(|| Timestamp::now().plus(READING))
    }
}
