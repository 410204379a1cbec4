//! A command that ends all blocks has this backend end its own: only it knows how to, where a command of the
//! administrator's made them.

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Timestamp};

use super::{Job, Worker};
use crate::report::{body, lines, of_now};
use crate::worker::schedule::{Plan, State};

impl Worker {
    /// Lets in all whom it blocks, and gives an outcome for each as a line. What the ledger believes of them stays planned as
    /// let in, so that a new verdict counts alone.
    pub(super) fn let_all_whom_it_blocks_in(&mut self) -> Vec<u8> {
        self.rest();
        let blocks = |plan: &Plan| !plan.is_let_in();
        let plans: Vec<(Prefix, Plan)> = self
            .scopes_with(blocks)
            .into_iter()
            .filter_map(|scope| Some((scope, self.schedule.get(scope)?.clone())))
            .collect();
        let jobs = plans.iter().filter_map(|(scope, _)| self.release(*scope, Job::End)).collect();
        self.see_through(jobs);
        let now = Timestamp::now();
        let mut outcomes = Vec::with_capacity(plans.len());
        for (scope, Plan { block, common, .. }) in plans {
            let until = block.until;
            let stays = self.schedule.get(scope).map(|plan| &plan.state);
            let (result, error) = match stays {
                Some(State::Leaving { .. }) => {
                    let why = "it would not go, and is tried again; the outcomes of psentry-block say why";
                    (OutcomeResult::Failed, Some(why.to_owned()))
                }
                _ => (OutcomeResult::Released, None),
            };
            if stays.is_none() && !block.is_over(now) {
                self.schedule.stands(scope, block, common, now, None);
                self.lets_in(scope);
            }
            let outcome = body(Action::Block, scope, Some(self.backend.name()), result);
            outcomes.push(OutcomeBody { until, error, ..outcome });
        }
        lines(outcomes.into_iter().map(of_now), None)
    }
}
