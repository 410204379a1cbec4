//! What people ask of a backend: what is wanted of it, what of that stands, read from where it stands at that moment,
//! what fails, and what was last put back.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use psentry_records::{Prefix, Timestamp};

use super::Worker;
use crate::control::Answer;
use crate::inbox::Tell;
use crate::people::Report;
use crate::report::{lines, listed};
use crate::run::brake::Holding;
use crate::worker::schedule::{Plan, State};

impl Worker {
    /// Answers whoever asked since it last looked.
    pub(super) fn tell(&mut self) {
        for (what, answers) in self.inbox.questions() {
            let lines = match what {
                Tell::Status(brake) => self.report(brake).line(),
                Tell::Why(addr) => self.blocks_around(addr),
                Tell::TakeBack => self.take_back(),
            };
            // Whoever asked may have left.
            let _ = answers.send(Answer::Lines(Some(self.backend.name().to_owned()), lines));
        }
    }

    fn report(&mut self, brake: Option<Holding>) -> Report {
        let now = Timestamp::now();
        // What must not be done yet is not missing.
        let waits = |plan: &Plan| matches!(plan.state, State::Failing { refused: true, .. });
        let wanted = self.scopes_with(|plan| is_wanted(plan, now) && !waits(plan));
        let wanted: HashSet<Prefix> =
            wanted.into_iter().chain(self.being_made().map(|(scope, _)| scope)).collect();
        let fails =
            |plan: &Plan| matches!(plan.state, State::Failing { refused: false, .. } | State::Leaving { .. });
        let failing = self.scopes_with(fails).len();
        let standing = self.backend.standing(&wanted);
        let unread = standing.as_ref().err().map(|error| (now, error.to_string()));
        let latest = unread.or_else(|| self.schedule.latest_failure().cloned());
        let (error_at, error) = latest.unzip();
        let (repaired, repair) = self.repaired.clone().unzip();
        Report {
            backend: self.backend.name().to_owned(),
            since: Some(self.began),
            wanted: Some(wanted.len()),
            standing: standing.ok().map(|standing| standing.len()),
            failing,
            waiting: self.scopes_with(waits).len(),
            error,
            error_at,
            repair,
            repaired,
            panic: self.panic.holds(),
            brake,
        }
    }

    /// The blocks that are to hold `addr`, as lines.
    fn blocks_around(&self, addr: IpAddr) -> Vec<u8> {
        let now = Timestamp::now();
        let planned = self.schedule.around(addr).filter(|(_, plan)| is_wanted(plan, now));
        let planned = planned.map(|(scope, plan)| {
            let why = match &plan.state {
                State::Failing { why, .. } => Some(why.clone()),
                State::Standing { .. } | State::Leaving { .. } | State::LetIn => None,
            };
            (scope, (plan.block.clone(), why))
        });
        let waits = self.inbox.around(addr).into_iter();
        let waits = waits.map(|(scope, block)| (scope, (block, Some("it waits for its turn".to_owned()))));
        let made = self.being_made().filter(|(scope, _)| scope.contains(addr));
        let made =
            made.map(|(scope, block)| (scope, (block.clone(), Some("it is being blocked".to_owned()))));
        // What stands or failed says more than that more of it is to come.
        let blocks: BTreeMap<Prefix, _> = waits.chain(made).chain(planned).collect();
        let name = self.backend.name();
        lines(blocks.into_iter().map(|(scope, (block, why))| listed(scope, name, &block, why)), None)
    }
}

fn is_wanted(plan: &Plan, now: Timestamp) -> bool {
    !plan.is_over(now) && !matches!(plan.state, State::Leaving { .. } | State::LetIn)
}
