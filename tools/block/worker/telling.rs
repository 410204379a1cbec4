//! What people ask of a backend: what is wanted of it, what of that stands, read from where it stands at that moment,
//! what fails, and what was last put back.

use std::collections::{BTreeMap, HashSet};

use psentry_records::{Prefix, Timestamp};

use super::Worker;
use crate::control::Answer;
use crate::inbox::Tell;
use crate::people::Report;
use crate::report::{lines, listed};
use crate::run::room::Held;
use crate::worker::schedule::{Plan, State};

impl Worker {
    /// Answers whoever asked since it last looked.
    pub(super) fn tell(&mut self) {
        for (what, answers) in self.inbox.questions() {
            let lines = match what {
                Tell::Status(held) => self.report(held).line(),
                Tell::Why(scope) => self.blocks_around(scope),
                Tell::TakeBack => self.take_back(),
                Tell::LetIn => self.let_all_whom_it_blocks_in(),
            };
            // Whoever asked may have left.
            let _ = answers.send(Answer::Lines(Some(self.backend.name().to_owned()), lines));
        }
    }

    pub(super) fn report(&mut self, held: Held) -> Report {
        let now = Timestamp::now();
        // What must not be done yet is not missing; what only waits for its turn is.
        let waits = |plan: &Plan| matches!(plan.state, State::Failing { refused: true, .. });
        let waiting: HashSet<Prefix> = self.scopes_with(waits).into_iter().collect();
        let planned = self.scopes_with(|plan| is_wanted(plan, now) && !waits(plan));
        let (mut queued, leaving) = self.inbox.scopes(now);
        queued.extend(self.being_made().map(|(scope, _)| scope));
        queued.retain(|scope| !waiting.contains(scope));
        let mut wanted: HashSet<Prefix> = planned.into_iter().collect();
        wanted.retain(|scope| !leaving.contains(scope));
        wanted.extend(&queued);
        let standing = self.backend.standing(&wanted);
        let unread = standing.as_ref().err().map(|error| (now, error.to_string()));
        let latest = unread.or_else(|| self.schedule.latest_failure().cloned());
        let (error_at, error) = latest.unzip();
        let (repaired, repair) = self.repaired.clone().unzip();
        let report = Report {
            backend: self.backend.name().to_owned(),
            since: None,
            wanted: Some(wanted.len()),
            standing: standing.ok().map(|standing| standing.len()),
            queued: queued.len(),
            failing: self.schedule.failing(),
            waiting: waiting.len(),
            error,
            error_at,
            repair,
            repaired,
            memory: self.memory.as_ref().and_then(crate::memory::Memory::trouble),
            unwritten: self.reporter.unwritten(),
            panic: self.panic.holds(),
            brake: held.brake,
            full: held.full,
        };
        if !report.is_whole() {
            self.short = now;
            return report;
        }
        Report { since: Some(self.short), ..report }
    }

    /// Takes note of the time if something that is wanted does not stand.
    pub(super) fn look_whether_short(&mut self, before: bool) {
        if before || self.is_short() {
            self.short = Timestamp::now();
        }
    }

    /// Whether something that is wanted does not stand, as far as is known without asking where it stands.
    pub(super) fn is_short(&self) -> bool {
        let working = self.being_made().next().is_some() || self.inbox.len() > 0;
        working || self.damage.is_some() || self.schedule.failing() > 0
    }

    /// The blocks that are to overlap `scope`, as lines.
    fn blocks_around(&self, scope: Prefix) -> Vec<u8> {
        let now = Timestamp::now();
        let planned: Vec<(Prefix, &Plan)> = if scope.is_host() {
            self.schedule.around(scope.addr()).collect()
        } else {
            let overlapping = self.schedule.scopes().into_iter().filter(|other| scope.overlaps(*other));
            overlapping.filter_map(|other| Some((other, self.schedule.get(other)?))).collect()
        };
        let planned = planned.into_iter().filter(|(_, plan)| is_wanted(plan, now)).map(|(scope, plan)| {
            let why = match &plan.state {
                State::Failing { why, .. } => Some(why.clone()),
                State::Standing { .. } | State::Leaving { .. } | State::LetIn => None,
            };
            (scope, (plan.block.clone(), why))
        });
        let waits = self.inbox.around(scope).into_iter();
        let waits = waits.map(|(scope, block)| (scope, (block, Some("it waits for its turn".to_owned()))));
        let made = self.being_made().filter(|(other, _)| scope.overlaps(*other));
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
